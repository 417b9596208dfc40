//! An answer under way: pieces from a provider, audited, charged, and given up when nobody waits for it.
//!
//! Invariant: what was told before an answer is dropped is charged, what a misbehaving provider told is not; money for all
//! that an answer can cost is set aside before it begins. Does not know how answers are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Generate, InferenceError, Model, Piece, Prompt, TokenLikelihood};
use ashlar_compute_api::transcript::FinishReason;
use ashlar_objects::api_keys::Reservation;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::audit::{Audit, Misdeed, Step, Terms, Told, Usage};
use crate::credentials::Caller;
use crate::gateway::Gateway;
use crate::models::{Price, Served};
use crate::rates::Turn;
use crate::refusal::Refusal;
use crate::watch::{Delivered, Misconduct};

/// For whom an answer is.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) caller: Caller,
    pub(crate) request_id: Arc<str>,
    pub(crate) turn: Arc<Turn>,
    /// What the request holds of the memory for bodies, for as long as a provider may hold its text.
    pub(crate) _held: Option<Arc<OwnedSemaphorePermit>>,
}

/// What an answer costs. Dropped, it is paid.
pub(crate) struct Charge {
    reservation: Option<Reservation>,
    turn: Arc<Turn>,
    price: Price,
    usage: Usage,
}

impl Charge {
    /// Sets aside what `most` costs.
    pub(crate) async fn reserve(
        gateway: &Gateway,
        asker: &Asker,
        price: Price,
        most: Usage,
    ) -> Result<Self, Refusal> {
        let reservation = match &asker.caller.key {
            Some(key) => {
                let most = price.cost(most.asked, most.answered);
                Some(gateway.store().api_keys().reserve(&key.id, most).await?)
            }
            None => None,
        };
        Ok(Self { reservation, turn: Arc::clone(&asker.turn), price, usage: Usage::default() })
    }

    /// So much is to be paid until now.
    pub(crate) fn owe(&mut self, usage: Usage) {
        self.usage = usage;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.turn.count(self.usage.asked.saturating_add(self.usage.answered));
        if let Some(reservation) = &mut self.reservation {
            reservation.spend(self.price.cost(self.usage.asked, self.usage.answered));
        }
    }
}

/// What an answer does next.
pub(crate) enum Next {
    Told(Vec<Told>),
    Ended(Usage),
}

/// An answer under way. Dropping it ends the provider's work.
pub(crate) struct Answer {
    pieces: BoxStream<'static, Result<Piece, InferenceError>>,
    audit: Audit,
    charge: Charge,
    gateway: Gateway,
    asker: Asker,
    pub(crate) model: Model,
    request_hash: ContentRoot,
    asked: u64,
}

/// The most units that each choice may have, and how many units the request has.
pub(crate) struct Room {
    pub(crate) asked: u64,
    pub(crate) units_max: u64,
}

/// Counts a prompt and finds how long its answers may be; refuses what does not fit.
pub(crate) async fn room(
    gateway: &Gateway,
    asker: &Asker,
    served: &Served,
    prompt: &Prompt,
    wanted: Option<u64>,
    param: &'static str,
) -> Result<Room, Refusal> {
    let asked = served.inference.units(prompt).await;
    let asked = asked.map_err(|error| Refusal::of_inference(error, param, &asker.request_id))?;
    let maximum = served.inference.model().context_units_max;
    let rest = maximum.saturating_sub(asked);
    if rest == 0 {
        return Err(Refusal::too_long(asked.saturating_add(wanted.unwrap_or(1)), maximum, param));
    }
    let most = gateway.limits().answer_units_max;
    match wanted {
        None => Ok(Room { asked, units_max: rest.min(most) }),
        Some(wanted) if wanted > rest => Err(Refusal::too_long(asked.saturating_add(wanted), maximum, param)),
        Some(units_max) => Ok(Room { asked, units_max }),
    }
}

impl Answer {
    /// Begins one. Errors are those that a client is to be told before anything else.
    pub(crate) async fn begin(
        gateway: &Gateway,
        asker: Asker,
        served: Served,
        request: Generate,
        asked: u64,
        param: &'static str,
    ) -> Result<Self, Refusal> {
        let model = served.inference.model().clone();
        let terms = Terms {
            request_hash: request.request_hash,
            choices: request.choices,
            units_max: request.units_max,
            with_likelihoods: request.log_probabilities.is_some(),
            asked,
            is_claimed: model.is_claimed,
            asked_bytes: asked_bytes(&request.prompt),
        };
        let most = request.units_max.saturating_mul(request.choices.into());
        // An upstream counts the request itself, up to its bytes.
        let asked_most = if model.is_claimed { asked.max(terms.asked_bytes) } else { asked };
        let most = Usage { asked: asked_most, answered: most };
        let charge = Charge::reserve(gateway, &asker, served.facts.price, most).await?;
        let request_hash = request.request_hash;
        let pieces = served.inference.generate(request).await;
        let pieces = pieces.map_err(|error| Refusal::of_inference(error, param, &asker.request_id))?;
        let audit = Audit::new(served.transcript, terms);
        let mut answer =
            Self { pieces, audit, charge, gateway: gateway.clone(), asker, model, request_hash, asked };
        answer.charge.owe(Usage { asked, answered: 0 });
        Ok(answer)
    }

    /// What comes next. After an error or the end it must not be asked again.
    pub(crate) async fn next(&mut self) -> Result<Next, Refusal> {
        let wait = self.gateway.limits().piece_wait;
        let piece = match tokio::time::timeout(wait, self.pieces.next()).await {
            Err(_) => {
                return Err(Refusal::provider_failed(&self.asker.request_id, "it was silent for too long"));
            }
            Ok(None) => return Err(self.end_for(Misdeed::Unfinished)),
            Ok(Some(Err(error))) => return Err(Refusal::of_inference(error, "", &self.asker.request_id)),
            Ok(Some(Ok(piece))) => piece,
        };
        match self.audit.take(piece) {
            Ok(Step::Told(told)) => {
                let ended_ill =
                    |told: &Told| matches!(told.finish, Some(FinishReason::Failed | FinishReason::Cancelled));
                if told.iter().any(ended_ill) {
                    return Err(Refusal::provider_failed(&self.asker.request_id, "it gave the answer up"));
                }
                self.charge.owe(Usage { asked: self.asked, answered: self.audit.answered() });
                Ok(Next::Told(told))
            }
            Ok(Step::Ended(usage)) => {
                self.charge.owe(usage);
                self.gateway.watch().delivered(&Delivered {
                    request_id: Arc::clone(&self.asker.request_id),
                    model_root: self.model.root,
                    head: self.audit.head(),
                    usage,
                });
                Ok(Next::Ended(usage))
            }
            Err(misdeed) => Err(self.end_for(misdeed)),
        }
    }

    fn end_for(&mut self, misdeed: Misdeed) -> Refusal {
        self.charge.owe(Usage::default());
        self.gateway.watch().misconduct(&Misconduct {
            request_id: Arc::clone(&self.asker.request_id),
            model_root: self.model.root,
            request_hash: self.request_hash,
            head: self.audit.head(),
            misdeed,
        });
        Refusal::misconduct()
    }
}

/// A choice in one piece.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) likelihoods: Vec<TokenLikelihood>,
    pub(crate) finish: Option<FinishReason>,
}

/// Waits for all of an answer. It is bounded by what was asked for.
pub(crate) async fn collect(mut answer: Answer, choices: u32) -> Result<(Vec<Whole>, Usage), Refusal> {
    let mut wholes: BTreeMap<u32, Whole> = (0..choices).map(|choice| (choice, Whole::default())).collect();
    loop {
        match answer.next().await? {
            Next::Told(told) => {
                for told in told {
                    let whole = wholes.entry(told.choice).or_default();
                    whole.text.push_str(&told.text);
                    whole.likelihoods.extend(told.likelihoods);
                    whole.finish = told.finish.or(whole.finish);
                }
            }
            Next::Ended(usage) => return Ok((wholes.into_values().collect(), usage)),
        }
    }
}

fn asked_bytes(prompt: &Prompt) -> u64 {
    /// Units without text that a message of any form has.
    const MESSAGE_UNITS: usize = 16;
    let bytes = match prompt {
        Prompt::Text(text) => text.len() + MESSAGE_UNITS,
        Prompt::Chat(messages) => messages.iter().map(|message| message.text.len() + MESSAGE_UNITS).sum(),
    };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
