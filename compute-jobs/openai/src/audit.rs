//! The gateway's own account of an answer: the transcript and the usage, from what a provider says and is passed on.
//!
//! Invariant: what leaves [`Audit::take`] for the client is in the transcript, and usage is what was counted here. Where token
//! ids are told, a unit of an answer is a token and the provider's count must be equal. Where an upstream tells text
//! alone, its count cannot be checked and is bounded by the text: no more units than bytes, and one for the end of
//! each choice. Pure: knows no clock, no network and no money.

use std::collections::BTreeMap;

use ashlar_compute_api::inference::{Piece, TokenLikelihood};
use ashlar_compute_api::transcript::{Event, FinishReason, Transcript, TranscriptError};
use ashlar_compute_api::{ContentRoot, TranscriptHead};

/// Most bytes of text that a unit stands for: more is no token of any vocabulary.
const UNIT_BYTES_MAX: u64 = 512;

/// Units of a request and its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of what was asked.
    pub asked: u64,
    /// Of what was answered.
    pub answered: u64,
}

/// What a provider did that ends its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misdeed {
    /// Events came in an order that no transcript has.
    #[error("an event out of order: {0}")]
    Order(#[from] TranscriptError),
    /// The answer is to another request.
    #[error("the answer is to another request")]
    OtherRequest,
    /// A choice that was not asked for.
    #[error("choice {choice} was not asked for")]
    ChoiceNotAsked {
        /// Which.
        choice: u32,
    },
    /// An event that has no place in the answer of a language model.
    #[error("an event that is not of generated text")]
    ForeignEvent,
    /// More than was asked for.
    #[error("choice {choice} has more than {maximum} units")]
    TooMuch {
        /// Which.
        choice: u32,
        /// As asked.
        maximum: u64,
    },
    /// Text that belongs to no choice, or to several.
    #[error("text that does not belong to one choice")]
    TextWithoutChoice,
    /// Text for readers that the events do not have.
    #[error("the text of choice {choice} is not what its events say")]
    OtherText {
        /// Which.
        choice: u32,
    },
    /// Log-probabilities of other tokens, or none where they were asked for.
    #[error("log-probabilities do not belong to the tokens of choice {choice}")]
    OtherLikelihoods {
        /// Which.
        choice: u32,
    },
    /// A choice that was asked for never came.
    #[error("{missing} choices never finished")]
    ChoicesMissing {
        /// How many.
        missing: u32,
    },
    /// Usage is another than what was counted.
    #[error("the provider counts {claimed:?}, and {counted:?} was counted")]
    OtherUsage {
        /// By the provider.
        claimed: Usage,
        /// By the gateway: the exact units, or the most that there can be.
        counted: Usage,
    },
    /// The answer ended before its usage.
    #[error("the answer ended before its usage")]
    Unfinished,
    /// Vectors that are not what was asked for.
    #[error("{0}")]
    Vectors(&'static str),
}

/// What a client is told of one choice at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) choice: u32,
    pub(crate) text: String,
    pub(crate) likelihoods: Vec<TokenLikelihood>,
    pub(crate) finish: Option<FinishReason>,
}

/// How an answer goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// So much may be passed on.
    Told(Vec<Told>),
    /// All was told.
    Ended(Usage),
}

/// What was asked, as far as an answer is held against it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) request_hash: ContentRoot,
    pub(crate) choices: u32,
    pub(crate) units_max: u64,
    pub(crate) with_likelihoods: bool,
    /// Units of the request by the gateway's own count.
    pub(crate) asked: u64,
    /// Whether nobody checked the model's bytes, so that the upstream's count of the request is its own.
    pub(crate) is_claimed: bool,
    /// Bytes of the request's text.
    pub(crate) asked_bytes: u64,
}

#[derive(Debug, Default)]
struct Choice {
    tokens: u64,
    /// Bytes of text events.
    bytes: u64,
    /// Text of events that readers were not yet told.
    untold: String,
    is_text: bool,
    has_finished: bool,
}

/// The account of one answer.
#[derive(Debug)]
pub(crate) struct Audit {
    transcript: Transcript,
    terms: Terms,
    choices: BTreeMap<u32, Choice>,
    has_begun: bool,
}

impl Audit {
    pub(crate) fn new(transcript: Transcript, terms: Terms) -> Self {
        Self { transcript, terms, choices: BTreeMap::new(), has_begun: false }
    }

    /// Head of what was passed on.
    pub(crate) fn head(&self) -> TranscriptHead {
        self.transcript.head()
    }

    /// Units of the answer so far; of text that no token ids are told of, as few as there can be.
    pub(crate) fn answered(&self) -> u64 {
        self.choices.values().map(|choice| choice.tokens + choice.bytes.div_ceil(UNIT_BYTES_MAX)).sum()
    }

    /// Takes what a provider says at once. After an error nothing more may be passed on.
    pub(crate) fn take(&mut self, piece: Piece) -> Result<Step, Misdeed> {
        let (mut told, mut speaking, mut usage) = (Vec::new(), None, None);
        let mut ids = Vec::new();
        for event in &piece.events {
            self.transcript.push(event)?;
            match *event {
                Event::Request { request_hash } => {
                    if std::mem::replace(&mut self.has_begun, true) || request_hash != self.terms.request_hash
                    {
                        return Err(Misdeed::OtherRequest);
                    }
                }
                Event::Token { choice, id } => {
                    ids.push(id);
                    self.choice(choice)?.tokens += 1;
                    self.speaks(choice, &mut speaking)?;
                }
                Event::Text { choice, scalar } => {
                    let state = self.choice(choice)?;
                    state.is_text = true;
                    state.bytes += u64::try_from(scalar.len_utf8()).unwrap_or(4);
                    state.untold.push(scalar);
                    self.speaks(choice, &mut speaking)?;
                }
                Event::Finish { choice, reason } => {
                    self.choice(choice)?.has_finished = true;
                    told.push((choice, reason));
                }
                Event::Usage { asked, answered } => usage = Some(Usage { asked, answered }),
                Event::Output { .. } => return Err(Misdeed::ForeignEvent),
            }
        }
        let mut passed = Vec::new();
        let speaker = match (speaking, told.as_slice()) {
            (Some(choice), _) => Some(choice),
            (None, [(choice, _)]) => Some(*choice),
            // What one choice held back comes when it is known to be no stop sequence.
            (None, []) if self.terms.choices == 1 => Some(0),
            _ => None,
        };
        if !piece.text.is_empty() || !piece.likelihoods.is_empty() || speaking.is_some() {
            let choice = speaker.ok_or(Misdeed::TextWithoutChoice)?;
            self.hold_against_events(choice, &piece, &ids)?;
            let finish = told.iter().position(|(of, _)| *of == choice).map(|at| told.remove(at).1);
            passed.push(Told { choice, text: piece.text, likelihoods: piece.likelihoods, finish });
        }
        passed.extend(told.into_iter().map(|(choice, finish)| Told {
            choice,
            text: String::new(),
            likelihoods: Vec::new(),
            finish: Some(finish),
        }));
        match usage {
            None => Ok(Step::Told(passed)),
            Some(_) if !passed.is_empty() => Err(Misdeed::ForeignEvent),
            Some(claimed) => self.settle(claimed).map(Step::Ended),
        }
    }

    fn choice(&mut self, choice: u32) -> Result<&mut Choice, Misdeed> {
        if choice >= self.terms.choices {
            return Err(Misdeed::ChoiceNotAsked { choice });
        }
        Ok(self.choices.entry(choice).or_default())
    }

    /// A choice goes on; no other may in the same piece.
    fn speaks(&mut self, choice: u32, speaking: &mut Option<u32>) -> Result<(), Misdeed> {
        if speaking.replace(choice).is_some_and(|other| other != choice) {
            return Err(Misdeed::TextWithoutChoice);
        }
        let maximum = self.terms.units_max;
        let state = self.choice(choice)?;
        let is_too_much = state.tokens > maximum || state.bytes.div_ceil(UNIT_BYTES_MAX) > maximum;
        if is_too_much { Err(Misdeed::TooMuch { choice, maximum }) } else { Ok(()) }
    }

    fn hold_against_events(&mut self, choice: u32, piece: &Piece, ids: &[u32]) -> Result<(), Misdeed> {
        let with_likelihoods = self.terms.with_likelihoods;
        let state = self.choice(choice)?;
        if state.is_text {
            let rest = state.untold.strip_prefix(&piece.text).ok_or(Misdeed::OtherText { choice })?;
            state.untold = rest.to_owned();
        }
        // Text without token ids may come without log-probabilities: upstreams give them for tokens that are theirs.
        let told = piece.likelihoods.iter().map(|of| of.token.id);
        if !state.is_text
            && (with_likelihoods || !piece.likelihoods.is_empty())
            && !told.eq(ids.iter().copied())
        {
            return Err(Misdeed::OtherLikelihoods { choice });
        }
        Ok(())
    }

    /// The usage that counts, if the provider's is that.
    fn settle(&self, claimed: Usage) -> Result<Usage, Misdeed> {
        let finished = self.choices.values().filter(|choice| choice.has_finished).count();
        let missing = self.terms.choices.saturating_sub(u32::try_from(finished).unwrap_or(u32::MAX));
        if missing > 0 {
            return Err(Misdeed::ChoicesMissing { missing });
        }
        let tokens: u64 = self.choices.values().map(|choice| choice.tokens).sum();
        let texts = self.choices.values().filter(|choice| choice.is_text);
        let by_text: u64 = texts.map(|choice| choice.bytes + 1).sum();
        let asked_max = if self.terms.is_claimed {
            // Every message costs some units that have no text.
            self.terms.asked.max(self.terms.asked_bytes)
        } else {
            self.terms.asked
        };
        let counted = Usage { asked: asked_max, answered: tokens + by_text };
        let is_asked =
            if self.terms.is_claimed { claimed.asked <= asked_max } else { claimed.asked == asked_max };
        let is_answered = (tokens..=tokens + by_text).contains(&claimed.answered);
        if is_asked && is_answered { Ok(claimed) } else { Err(Misdeed::OtherUsage { claimed, counted }) }
    }
}

#[cfg(test)]
mod tests;
