//! What a provider said to a request, held against what was asked while it comes.
//!
//! Invariant: units are those that were heard, not those that were claimed; the transcript has nothing that did not
//! arrive; after a fault nothing more is taken. Does not know whether an answer is right, nor money.

use std::collections::BTreeMap;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::transcript::{Decoder, Event, Transcript, TranscriptError};

use crate::provider::work::output;
use crate::recount::Count;

/// What a provider did that it must not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Events that no answer has in this order.
    #[error("what was said is no transcript: {0}")]
    Transcript(#[from] TranscriptError),
    /// Bytes that are no events.
    #[error("what was said is no event")]
    NoEvent,
    /// It answers another request.
    #[error("another request was answered")]
    OtherRequest,
    /// A choice, a row or a form that was not asked for.
    #[error("something was said that was not asked for")]
    NotAsked,
    /// More units than were asked for.
    #[error("more units were said than asked for")]
    TooMuch,
    /// It counts other units than were heard.
    #[error("{claimed} units are claimed, and {counted} were counted")]
    Usage {
        /// The provider's.
        claimed: u64,
        /// Ours; at most that.
        counted: u64,
    },
    /// Something before it began, or after its end.
    #[error("something was said out of turn")]
    OutOfTurn,
    /// The answer has no end.
    #[error("the answer ended before its usage")]
    Truncated,
    /// Rows that were asked for did not come.
    #[error("{found} rows of {asked} came")]
    RowsMissing {
        /// So many came.
        found: u64,
        /// So many were asked for.
        asked: u64,
    },
    /// The link or the request was broken off.
    #[error("the link broke: {why}")]
    Broke {
        /// How.
        why: String,
    },
    /// Nothing came.
    #[error("nothing was heard for {seconds} s")]
    Silent {
        /// For so long.
        seconds: u64,
    },
    /// A voucher was not countersigned, or not by the right key.
    #[error("no receipt: {why}")]
    NoReceipt {
        /// Why.
        why: String,
    },
}

impl Fault {
    /// Whether only who means to deceive does this; else it may have died.
    pub fn is_deceit(&self) -> bool {
        !matches!(self, Self::Truncated | Self::Broke { .. } | Self::Silent { .. } | Self::NoReceipt { .. })
    }
}

/// What was asked, as far as an answer is held against it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) request_hash: ContentRoot,
    pub(super) choices: u32,
    /// Of all choices together.
    pub(super) answered_units_max: u64,
    pub(super) rows: u64,
    pub(super) count: Count,
    /// Nobody checked the model's bytes: answers may come as text.
    pub(super) may_be_text: bool,
}

pub(super) struct Heard {
    asked: Asked,
    transcript: Transcript,
    /// As the provider counted what was asked.
    asked_units: Option<u64>,
    units: u64,
    tokens: u64,
    scalars: u64,
    tokens_of: BTreeMap<u32, u64>,
    rows: u64,
    is_begun: bool,
    is_done: bool,
    response: blake3::Hasher,
}

impl Heard {
    pub(super) fn new(asked: Asked, transcript: Transcript) -> Self {
        Self {
            asked,
            transcript,
            asked_units: None,
            units: 0,
            tokens: 0,
            scalars: 0,
            tokens_of: BTreeMap::new(),
            rows: 0,
            is_begun: false,
            is_done: false,
            response: blake3::Hasher::new(),
        }
    }

    /// Units of this request until now.
    pub(super) fn units(&self) -> u64 {
        self.units
    }

    /// Whether anything was said that the transcript has.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// BLAKE3 of the events after the request, joined: what a receipt for the newest head says.
    pub(super) fn response_hash(&self) -> ContentRoot {
        ContentRoot(*self.response.finalize().as_bytes())
    }

    pub(super) fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    pub(super) fn into_transcript(self) -> Transcript {
        self.transcript
    }

    /// The provider's count of what was asked.
    pub(super) fn begun(&mut self, units: u64) -> Result<(), Fault> {
        if self.asked_units.is_some() {
            return Err(Fault::OutOfTurn);
        }
        match self.asked.count {
            Count::Exactly(counted) if units != counted => Err(Fault::Usage { claimed: units, counted }),
            Count::AtMost(counted) if units > counted => Err(Fault::Usage { claimed: units, counted }),
            Count::Exactly(_) | Count::AtMost(_) => {
                self.asked_units = Some(units);
                Ok(())
            }
        }
    }

    /// Joined events, and the request's among them under the caller's name for it.
    pub(super) fn events(&mut self, mut bytes: &[u8], name: ContentRoot) -> Result<Vec<Event>, Fault> {
        let (mut decoder, mut events) = (Decoder::new(), Vec::new());
        while let Some(event) = decoder.next(&mut bytes).map_err(|_| Fault::NoEvent)? {
            self.hear(&event)?;
            events.push(match event {
                Event::Request { .. } => Event::Request { request_hash: name },
                event => event,
            });
        }
        decoder.finish().map_err(|_| Fault::NoEvent)?;
        Ok(events)
    }

    /// A row of numbers.
    pub(super) fn row(&mut self, row: u64, values: &[f32]) -> Result<(), Fault> {
        if row != self.rows || row >= self.asked.rows {
            return Err(Fault::NotAsked);
        }
        self.rows += 1;
        self.say(&output(row, values))
    }

    fn hear(&mut self, event: &Event) -> Result<(), Fault> {
        let asked_units = self.asked_units.ok_or(Fault::OutOfTurn)?;
        if self.is_done {
            return Err(Fault::OutOfTurn);
        }
        match *event {
            Event::Request { request_hash } => {
                if self.is_begun {
                    return Err(Fault::OutOfTurn);
                }
                if request_hash != self.asked.request_hash {
                    return Err(Fault::OtherRequest);
                }
                self.is_begun = true;
                if self.asked.choices > 0 {
                    self.units = asked_units;
                }
            }
            Event::Token { choice, .. } => {
                self.check_choice(choice)?;
                self.tokens += 1;
                let of_choice = self.tokens_of.entry(choice).or_default();
                *of_choice += 1;
                let most = self.asked.answered_units_max / u64::from(self.asked.choices.max(1));
                if *of_choice > most {
                    return Err(Fault::TooMuch);
                }
                self.units += 1;
            }
            Event::Text { choice, .. } => {
                self.check_choice(choice)?;
                if !self.asked.may_be_text {
                    return Err(Fault::NotAsked);
                }
                self.scalars += 1;
            }
            Event::Finish { choice, .. } => self.check_choice(choice)?,
            // Rows come with their numbers, never as bare hashes.
            Event::Output { .. } => return Err(Fault::NotAsked),
            Event::Usage { asked, answered } => self.check_usage(asked_units, asked, answered)?,
        }
        self.say(event)
    }

    fn check_choice(&self, choice: u32) -> Result<(), Fault> {
        if choice < self.asked.choices { Ok(()) } else { Err(Fault::NotAsked) }
    }

    fn check_usage(&mut self, asked_units: u64, asked: u64, answered: u64) -> Result<(), Fault> {
        if self.asked.choices == 0 {
            if self.rows != self.asked.rows {
                return Err(Fault::RowsMissing { found: self.rows, asked: self.asked.rows });
            }
            if asked > asked_units || answered != 0 {
                return Err(Fault::Usage { claimed: asked.saturating_add(answered), counted: asked_units });
            }
            self.units = asked;
        } else {
            // Of text the tokens are not known; each has at least a character.
            let is_text = self.tokens == 0 && self.scalars > 0;
            let most = self.scalars.min(self.asked.answered_units_max);
            let is_counted = if is_text { answered <= most } else { answered == self.tokens };
            if asked != asked_units || !is_counted {
                let counted = asked_units.saturating_add(if is_text { most } else { self.tokens });
                return Err(Fault::Usage { claimed: asked.saturating_add(answered), counted });
            }
            if is_text {
                self.units += answered;
            }
        }
        self.is_done = true;
        Ok(())
    }

    fn say(&mut self, event: &Event) -> Result<(), Fault> {
        self.transcript.push(event)?;
        if !matches!(event, Event::Request { .. }) {
            self.response.update(&event.to_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_compute_api::transcript::FinishReason;
    use ashlar_compute_api::{JobId, LockId};

    const HASH: ContentRoot = ContentRoot([1; 32]);
    const NAME: ContentRoot = ContentRoot([2; 32]);

    fn heard(choices: u32, rows: u64) -> Heard {
        let asked = Asked {
            request_hash: HASH,
            choices,
            answered_units_max: 3 * u64::from(choices),
            rows,
            count: Count::AtMost(10),
            may_be_text: false,
        };
        Heard::new(asked, Transcript::begin(LockId([3; 32]), JobId([4; 32]), 0, 1))
    }

    fn hear(heard: &mut Heard, events: &[Event]) -> Result<(), Fault> {
        let bytes: Vec<u8> = events.iter().flat_map(Event::to_bytes).collect();
        heard.events(&bytes, NAME).map(drop)
    }

    const REQUEST: Event = Event::Request { request_hash: HASH };
    const TOKEN: Event = Event::Token { choice: 0, id: 7 };
    const FINISH: Event = Event::Finish { choice: 0, reason: FinishReason::Stop };

    #[test]
    fn an_answer_is_counted_as_it_comes() {
        let mut one = heard(1, 0);
        one.begun(5).unwrap();
        hear(&mut one, &[REQUEST, TOKEN, TOKEN]).unwrap();
        assert_eq!(one.units(), 7);
        hear(&mut one, &[FINISH, Event::Usage { asked: 5, answered: 2 }]).unwrap();
        assert!(one.is_done() && one.units() == 7);
        assert_eq!(hear(&mut one, &[REQUEST]), Err(Fault::OutOfTurn));
    }

    #[test]
    fn what_was_not_asked_or_is_claimed_is_a_fault() {
        let begun = || {
            let mut one = heard(1, 0);
            one.begun(5).unwrap();
            one
        };
        assert_eq!(heard(1, 0).begun(11), Err(Fault::Usage { claimed: 11, counted: 10 }));
        assert_eq!(hear(&mut heard(1, 0), &[REQUEST]), Err(Fault::OutOfTurn), "nothing was counted yet");
        let other = Event::Request { request_hash: NAME };
        assert_eq!(hear(&mut begun(), &[other]), Err(Fault::OtherRequest));
        let strange = Event::Token { choice: 1, id: 7 };
        assert_eq!(hear(&mut begun(), &[REQUEST, strange]), Err(Fault::NotAsked));
        let text = Event::Text { choice: 0, scalar: 'a' };
        assert_eq!(hear(&mut begun(), &[REQUEST, text]), Err(Fault::NotAsked));
        assert_eq!(hear(&mut begun(), &[REQUEST, TOKEN, TOKEN, TOKEN, TOKEN]), Err(Fault::TooMuch));
        let inflated = Event::Usage { asked: 5, answered: 3 };
        let found = hear(&mut begun(), &[REQUEST, TOKEN, TOKEN, FINISH, inflated]);
        assert_eq!(found, Err(Fault::Usage { claimed: 8, counted: 7 }));
        let mut rows = heard(0, 2);
        rows.begun(4).unwrap();
        hear(&mut rows, &[REQUEST]).unwrap();
        assert_eq!(rows.row(1, &[1.0]), Err(Fault::NotAsked), "rows come in order");
        rows.row(0, &[1.0]).unwrap();
        let early = hear(&mut rows, &[Event::Usage { asked: 4, answered: 0 }]);
        assert_eq!(early, Err(Fault::RowsMissing { found: 1, asked: 2 }));
        assert_eq!(begun().events(&[9, 9], NAME), Err(Fault::NoEvent));
    }
}
