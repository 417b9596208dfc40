//! Events of a transcript, and the one encoding of each.
//!
//! Invariant: the first byte says how many follow, so that encodings joined end to end come apart in one way only;
//! what is decoded encodes to the same bytes. Does not know which event may follow which.

use serde::{Deserialize, Serialize};

use crate::bytes::ContentRoot;

/// Most bytes of an encoded event: an output.
pub const EVENT_BYTES_MAX: usize = 41;

/// One thing that was asked or said. The atoms of answers are single: how they were grouped on the way is not in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// Something is asked. Everything up to its usage answers it.
    Request {
        /// BLAKE3 of the request as the provider was given it.
        request_hash: ContentRoot,
    },
    /// A token of a choice.
    Token {
        /// Which of the answers that were asked for.
        choice: u32,
        /// In the model's vocabulary.
        id: u32,
    },
    /// A Unicode scalar value of a choice's text, where token ids are not known.
    Text {
        /// Which of the answers that were asked for.
        choice: u32,
        /// As it was sent, not normalised.
        scalar: char,
    },
    /// A choice says no more.
    Finish {
        /// Which of the answers that were asked for.
        choice: u32,
        /// Why.
        reason: FinishReason,
    },
    /// A row of work whose output is not a choice: an embedding, a label, a step of training.
    Output {
        /// Number of the row, growing within a request.
        row: u64,
        /// BLAKE3 of the row's output.
        output_hash: ContentRoot,
    },
    /// The request is answered; so much was counted for it.
    Usage {
        /// Units of what was asked.
        asked: u64,
        /// Units of what was answered.
        answered: u64,
    },
}

/// Why a choice says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FinishReason {
    /// The model ended, or a stop sequence came.
    Stop = 1,
    /// As many units as were asked for.
    Length = 2,
    /// The model called a tool.
    ToolCalls = 3,
    /// What follows was withheld.
    ContentFilter = 4,
    /// The buyer or his client wanted no more.
    Cancelled = 5,
    /// The runtime failed.
    Failed = 6,
}

impl FinishReason {
    const ALL: [Self; 6] =
        [Self::Stop, Self::Length, Self::ToolCalls, Self::ContentFilter, Self::Cancelled, Self::Failed];
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// No event begins with this byte.
    #[error("no event begins with {kind:#04x}")]
    Kind {
        /// The byte.
        kind: u8,
    },
    /// Not the number of a reason.
    #[error("{number} is no reason to finish")]
    Reason {
        /// The number.
        number: u8,
    },
    /// Not a Unicode scalar value.
    #[error("{number:#x} is no Unicode scalar value")]
    Scalar {
        /// The number.
        number: u32,
    },
    /// The bytes end within an event.
    #[error("the bytes end {missing} bytes before the event does")]
    Truncated {
        /// So many are missing; at least so many, where not even the kind is there.
        missing: usize,
    },
}

const REQUEST: u8 = 1;
const TOKEN: u8 = 2;
const TEXT: u8 = 3;
const FINISH: u8 = 4;
const OUTPUT: u8 = 5;
const USAGE: u8 = 6;

/// Bytes of an encoded event of this kind, the kind's byte among them.
fn length(kind: u8) -> Result<usize, EventError> {
    match kind {
        REQUEST => Ok(33),
        TOKEN | TEXT => Ok(9),
        FINISH => Ok(6),
        OUTPUT => Ok(EVENT_BYTES_MAX),
        USAGE => Ok(17),
        _ => Err(EventError::Kind { kind }),
    }
}

/// An encoded event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded {
    bytes: [u8; EVENT_BYTES_MAX],
    length: usize,
}

impl Encoded {
    fn of(kind: u8) -> Self {
        let mut bytes = [0; EVENT_BYTES_MAX];
        bytes[0] = kind;
        Self { bytes, length: 1 }
    }

    fn with(mut self, more: &[u8]) -> Self {
        self.bytes[self.length..self.length + more.len()].copy_from_slice(more);
        self.length += more.len();
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Event {
    pub(super) fn encode(&self) -> Encoded {
        match *self {
            Self::Request { request_hash } => Encoded::of(REQUEST).with(&request_hash.0),
            Self::Token { choice, id } => {
                Encoded::of(TOKEN).with(&choice.to_be_bytes()).with(&id.to_be_bytes())
            }
            Self::Text { choice, scalar } => {
                Encoded::of(TEXT).with(&choice.to_be_bytes()).with(&u32::from(scalar).to_be_bytes())
            }
            Self::Finish { choice, reason } => {
                Encoded::of(FINISH).with(&choice.to_be_bytes()).with(&[reason as u8])
            }
            Self::Output { row, output_hash } => {
                Encoded::of(OUTPUT).with(&row.to_be_bytes()).with(&output_hash.0)
            }
            Self::Usage { asked, answered } => {
                Encoded::of(USAGE).with(&asked.to_be_bytes()).with(&answered.to_be_bytes())
            }
        }
    }

    /// The event's bytes, at most [`EVENT_BYTES_MAX`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().as_bytes().to_vec()
    }

    /// Reads exactly one event of exactly its length.
    fn decode(bytes: &[u8]) -> Result<Self, EventError> {
        let (kind, body) = bytes.split_first().ok_or(EventError::Truncated { missing: 1 })?;
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&body[at..at + 4]);
            u32::from_be_bytes(word)
        };
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let hash = |at: usize| {
            let mut hash = [0; 32];
            hash.copy_from_slice(&body[at..at + 32]);
            ContentRoot(hash)
        };
        Ok(match *kind {
            REQUEST => Self::Request { request_hash: hash(0) },
            TOKEN => Self::Token { choice: word(0), id: word(4) },
            TEXT => {
                let number = word(4);
                let scalar = char::from_u32(number).ok_or(EventError::Scalar { number })?;
                Self::Text { choice: word(0), scalar }
            }
            FINISH => {
                let number = body[4];
                let reason = FinishReason::ALL.into_iter().find(|reason| *reason as u8 == number);
                Self::Finish { choice: word(0), reason: reason.ok_or(EventError::Reason { number })? }
            }
            OUTPUT => Self::Output { row: long(0), output_hash: hash(8) },
            USAGE => Self::Usage { asked: long(0), answered: long(8) },
            kind => return Err(EventError::Kind { kind }),
        })
    }
}

/// Takes joined events apart, in whatever pieces they come. Keeps at most one unfinished event.
#[derive(Clone, Debug)]
pub struct Decoder {
    begun: Encoded,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// At the beginning of an event.
    pub fn new() -> Self {
        Self { begun: Encoded { bytes: [0; EVENT_BYTES_MAX], length: 0 } }
    }

    /// Takes bytes from the front of `piece` up to the end of the next event; `None` where all were taken and none
    /// ended. After an error the decoder is of no more use.
    pub fn next(&mut self, piece: &mut &[u8]) -> Result<Option<Event>, EventError> {
        while let Some((&byte, rest)) = piece.split_first() {
            let kind = if self.begun.length == 0 { byte } else { self.begun.bytes[0] };
            let length = length(kind)?;
            self.begun = self.begun.with(&[byte]);
            *piece = rest;
            if self.begun.length == length {
                let event = Event::decode(self.begun.as_bytes())?;
                *self = Self::new();
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Whether the bytes ended where an event did.
    pub fn finish(self) -> Result<(), EventError> {
        match self.begun.length {
            0 => Ok(()),
            begun => Err(EventError::Truncated { missing: length(self.begun.bytes[0])? - begun }),
        }
    }
}
