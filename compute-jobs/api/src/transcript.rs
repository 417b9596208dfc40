//! Transcripts: hash chains over what was asked and answered in a shard (docs/formats/transcript.md).
//!
//! The provider computes heads from what it sends, the buyer from what arrived, each by himself; a voucher and a
//! usage receipt name one. Invariant: the head follows from the events alone, not from the pieces in which they
//! travelled, because the atoms are single token ids and single Unicode scalar values; no two sequences of events, and
//! no two places (lock, job, shard, fence), share a head. Does not know what tokens mean, nor what a unit is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes::{JobId, LockId, TranscriptHead};
use crate::digest::keccak;

mod event;

pub use event::{Decoder, EVENT_BYTES_MAX, Event, EventError, FinishReason};

/// Choices of one request, numbered from 0.
pub const CHOICES_MAX: u32 = 128;

/// Tag of the first head.
const FIRST: u8 = 0x14;
/// Tag of every later head.
const NEXT: u8 = 0x15;

/// The first head of a place: before anything was said.
pub fn first_head(lock: LockId, job: JobId, shard: u32, fence: u64) -> TranscriptHead {
    let pieces: [&[u8]; 5] = [&[FIRST], &lock.0, &job.0, &shard.to_be_bytes(), &fence.to_be_bytes()];
    TranscriptHead(keccak(&pieces))
}

/// Why an event cannot come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// Nothing was asked to which this could be an answer.
    #[error("no request is open")]
    NoRequest,
    /// A request is open; its usage comes before the next one.
    #[error("the request before is still open")]
    RequestOpen,
    /// Numbers of choices are below [`CHOICES_MAX`].
    #[error("choice {choice} is not below {CHOICES_MAX}")]
    ChoiceTooLarge {
        /// The choice.
        choice: u32,
    },
    /// The choice has finished.
    #[error("choice {choice} has finished")]
    ChoiceFinished {
        /// The choice.
        choice: u32,
    },
    /// A choice is told in token ids or in text, not in both.
    #[error("choice {choice} is told in token ids and in text")]
    FormsMixed {
        /// The choice.
        choice: u32,
    },
    /// Usage ends a request, and this choice has not finished.
    #[error("choice {choice} has not finished")]
    ChoiceOpen {
        /// The choice.
        choice: u32,
    },
    /// Outputs of a request come in growing order of their rows.
    #[error("the output of row {row} comes out of order")]
    RowOrder {
        /// The row.
        row: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Choice {
    Tokens,
    Text,
    Finished,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    choices: BTreeMap<u32, Choice>,
    last_row: Option<u64>,
}

/// A transcript as far as it has come. After an error it is as before the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    head: TranscriptHead,
    /// The request that is being answered.
    open: Option<Request>,
}

impl Transcript {
    /// The transcript of a place before anything was said.
    pub fn begin(lock: LockId, job: JobId, shard: u32, fence: u64) -> Self {
        Self { head: first_head(lock, job, shard, fence), open: None }
    }

    /// The newest head.
    pub fn head(&self) -> TranscriptHead {
        self.head
    }

    /// Adds one event, and returns the new head.
    pub fn push(&mut self, event: &Event) -> Result<TranscriptHead, TranscriptError> {
        match (*event, &mut self.open) {
            (Event::Request { .. }, None) => self.open = Some(Request::default()),
            (Event::Request { .. }, Some(_)) => return Err(TranscriptError::RequestOpen),
            (_, None) => return Err(TranscriptError::NoRequest),
            (Event::Token { choice, .. }, Some(request)) => request.told(choice, Choice::Tokens)?,
            (Event::Text { choice, .. }, Some(request)) => request.told(choice, Choice::Text)?,
            (Event::Finish { choice, .. }, Some(request)) => request.finished(choice)?,
            (Event::Output { row, .. }, Some(request)) => {
                if request.last_row.is_some_and(|last| row <= last) {
                    return Err(TranscriptError::RowOrder { row });
                }
                request.last_row = Some(row);
            }
            (Event::Usage { .. }, Some(request)) => {
                request.all_finished()?;
                self.open = None;
            }
        }
        self.head = TranscriptHead(keccak(&[&[NEXT], &self.head.0, event.encode().as_bytes()]));
        Ok(self.head)
    }

    /// Adds token ids of a choice, in as many pieces as they come. Those before an error stay.
    pub fn tokens(&mut self, choice: u32, ids: &[u32]) -> Result<TranscriptHead, TranscriptError> {
        for &id in ids {
            self.push(&Event::Token { choice, id })?;
        }
        Ok(self.head)
    }

    /// Adds text of a choice, in as many pieces as it comes. What is before an error stays.
    pub fn text(&mut self, choice: u32, text: &str) -> Result<TranscriptHead, TranscriptError> {
        for scalar in text.chars() {
            self.push(&Event::Text { choice, scalar })?;
        }
        Ok(self.head)
    }
}

impl Request {
    fn told(&mut self, choice: u32, form: Choice) -> Result<(), TranscriptError> {
        if choice >= CHOICES_MAX {
            return Err(TranscriptError::ChoiceTooLarge { choice });
        }
        match self.choices.get(&choice) {
            None => {
                self.choices.insert(choice, form);
                Ok(())
            }
            Some(Choice::Finished) => Err(TranscriptError::ChoiceFinished { choice }),
            Some(before) if *before == form => Ok(()),
            Some(_) => Err(TranscriptError::FormsMixed { choice }),
        }
    }

    /// A choice may finish without having said anything.
    fn finished(&mut self, choice: u32) -> Result<(), TranscriptError> {
        if choice >= CHOICES_MAX {
            return Err(TranscriptError::ChoiceTooLarge { choice });
        }
        match self.choices.insert(choice, Choice::Finished) {
            Some(Choice::Finished) => Err(TranscriptError::ChoiceFinished { choice }),
            _ => Ok(()),
        }
    }

    fn all_finished(&self) -> Result<(), TranscriptError> {
        let open = self.choices.iter().find(|(_, choice)| **choice != Choice::Finished);
        open.map_or(Ok(()), |(&choice, _)| Err(TranscriptError::ChoiceOpen { choice }))
    }
}

#[cfg(test)]
mod tests;
