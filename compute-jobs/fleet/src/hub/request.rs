//! One request to one provider, from room and money to the receipt: what the gateway does for its client.
//!
//! Invariants: pieces are held against what was asked before anybody sees them; whatever becomes of the client, what was
//! heard is written down and paid, and what was not heard is not; a place is used again only if it stands whole and paid.
//! After a fault nothing is paid. Does not know which provider is a good one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ashlar_compute_api::inference::{InferenceError, LikelyToken, Piece, TokenLikelihood};
use ashlar_compute_api::terms::Shard;
use ashlar_compute_api::vouchers::{Level, Receipt, Signature};
use ashlar_compute_api::{Address, ContentRoot};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::HubInner;
use super::heard::{Asked, Fault, Heard};
use super::peer::Peer;
use super::purse::{Account, Lane};
use crate::digest::root;
use crate::frame::{FrameError, Incoming, Outbox, outgoing};
use crate::limits::{RECEIPT_WAIT_MAX, SLOW_CALLER_MAX, UP_FRAME_BYTES_MAX};
use crate::reputation::Outcome;
use crate::wire::{Begin, Down, Likely, OfferedModel, Refused, Up, WORK_PATH};

/// One part of an increment: more unpaid work than that is paid while the answer goes on.
const PAID_PARTS: u128 = 4;

/// Where work stands as a job's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The unit.
    pub shard: Shard,
    /// Of its lease.
    pub fence: u64,
}

/// What is asked, with its bytes.
pub(super) struct Question {
    pub(super) ask: crate::wire::Ask,
    pub(super) bytes: Vec<u8>,
    /// The caller's own hash of the request, which he finds in its first event.
    pub(super) name: ContentRoot,
    pub(super) level: Level,
    pub(super) placed: Option<Placed>,
    pub(super) whom: Whom,
}

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Anybody,
    Only(Address),
    /// Not the one whose work is checked.
    Not(Address),
}

impl Whom {
    pub(super) fn includes(self, provider: Address) -> bool {
        match self {
            Self::Anybody => true,
            Self::Only(one) => provider == one,
            Self::Not(one) => provider != one,
        }
    }
}

/// Rows of an answer, with who worked them and what they cost.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) provider: Address,
    pub(super) rows: Vec<Vec<f32>>,
    pub(super) units: u64,
}

enum To {
    Pieces(mpsc::Sender<Result<Piece, InferenceError>>),
    Rows(oneshot::Sender<Result<Rows, InferenceError>>),
    /// It has all that it will get, or left.
    Nobody,
}

/// Where an answer goes: a client that reads along, or one that waits for the whole.
pub(super) struct Sink {
    to: To,
    rows: Vec<Vec<f32>>,
    is_told: bool,
}

impl Sink {
    pub(super) fn pieces(to: mpsc::Sender<Result<Piece, InferenceError>>) -> Self {
        Self { to: To::Pieces(to), rows: Vec::new(), is_told: false }
    }

    pub(super) fn rows(to: oneshot::Sender<Result<Rows, InferenceError>>) -> Self {
        Self { to: To::Rows(to), rows: Vec::new(), is_told: false }
    }

    /// Whether the client has heard anything: from then on no other provider can answer.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// Another provider begins from nothing.
    pub(super) fn start_over(&mut self) {
        self.rows.clear();
    }

    /// Until a client that reads along has left; for ever where nobody does.
    async fn left(&self) {
        match &self.to {
            To::Pieces(pieces) => pieces.closed().await,
            To::Rows(_) | To::Nobody => std::future::pending().await,
        }
    }

    /// Gives a piece to the client. One that takes none for long is as good as gone, as the next look finds.
    async fn tell(&mut self, piece: Piece) -> bool {
        let To::Pieces(pieces) = &self.to else { return true };
        self.is_told = true;
        pieces.send_timeout(Ok(piece), SLOW_CALLER_MAX).await.is_ok()
    }

    /// The answer is whole: the client has it before anything is paid.
    fn done(&mut self, provider: Address, units: u64) {
        self.is_told = true;
        if let To::Rows(to) = std::mem::replace(&mut self.to, To::Nobody) {
            // A caller that left needs no answer; what was worked is paid.
            drop(to.send(Ok(Rows { provider, rows: std::mem::take(&mut self.rows), units })));
        }
    }

    /// There is no answer, or no more of it.
    pub(super) async fn fail(self, error: InferenceError) {
        match self.to {
            To::Pieces(to) => drop(to.send_timeout(Err(error), SLOW_CALLER_MAX).await),
            To::Rows(to) => drop(to.send(Err(error))),
            To::Nobody => {}
        }
    }
}

/// Why a provider did not answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No room or no money now. `was_asked` where the provider itself said so.
    Busy { retry_after_seconds: u32, was_asked: bool },
    /// The client left before anything was said.
    Left,
    /// No provider would answer this.
    Final(InferenceError),
    /// It failed, as providers do.
    Failed { reason: String },
    /// It did what it must not, or nothing.
    Fault(Fault),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn broke(error: impl std::fmt::Display) -> Fault {
    Fault::Broke { why: error.to_string() }
}

/// Asks one provider and pays it for what it says.
pub(super) async fn attempt(
    hub: &HubInner,
    peer: &Arc<Peer>,
    offered: &OfferedModel,
    question: &Question,
    sink: &mut Sink,
) -> Result<(), Failure> {
    let busy = || Failure::Busy { retry_after_seconds: 1, was_asked: false };
    let _permit = peer.permit().ok_or_else(busy)?;
    let account = hub.purse.ready(peer.provider, offered, hub.now()).ok_or_else(busy)?;
    let lane = match question.placed {
        None => account.lane().await,
        Some(placed) => account.place(placed.shard, placed.fence).await,
    };
    let lane = lane.map_err(|error| {
        tracing::warn!(%error, lock = %account.id(), "a place could not be begun");
        // A unit's lease may be over; that says nothing of the lock.
        if question.placed.is_none() {
            account.note_money(false);
        }
        busy()
    })?;
    let texts = question.ask.texts();
    let asked = Asked {
        request_hash: root(&question.bytes),
        choices: question.ask.choices(),
        answered_units_max: question.ask.answered_units_max(),
        rows: question.ask.rows(),
        count: hub.recount.asked(offered.root, &texts, question.ask.rows() > 0),
        may_be_text: offered.is_claimed,
    };
    let begin = Begin {
        lock: account.id(),
        job: lane.shard.job,
        shard: lane.shard.number,
        fence: lane.fence,
        head: lane.transcript.head(),
        level: question.level.number(),
        ask: question.bytes.clone(),
    };
    let (out, body) = outgoing(UP_FRAME_BYTES_MAX);
    out.send(&Up::Begin(begin)).await.map_err(broke)?;
    let said = peer.ask(WORK_PATH, body).await.map_err(broke)?;
    let heard = Heard::new(asked, lane.transcript.clone());
    let mut request = Request {
        hub,
        peer,
        account: &account,
        lane,
        heard,
        out,
        said,
        name: question.name,
        response: None,
        is_place_lost: false,
    };
    let heard_all = request.hear_out(sink).await;
    let units = request.heard.units();
    // A client has its answer before anything is paid; who leases a unit learns of it with its receipt, so that the next
    // lease of the unit finds no voucher that waits for one.
    if heard_all.is_ok() && question.placed.is_none() {
        sink.done(peer.provider, units);
    }
    let paid = if heard_all.is_ok() { request.settle_up().await } else { Ok(()) };
    let Request { mut lane, heard, is_place_lost, out, mut said, .. } = request;
    // There are no more vouchers; the provider's end says that the place is free.
    drop(out);
    let mut is_whole = heard_all.is_ok() && paid.is_ok();
    if is_whole {
        let end = timeout(RECEIPT_WAIT_MAX, said.next::<Down>()).await;
        is_whole = matches!(end, Ok(Ok(None)));
    }
    if heard_all.is_ok() {
        sink.done(peer.provider, units);
    }
    // A place goes on where it stands whole and paid, or where nothing was said that it could lack.
    let is_untouched = !heard.is_begun() && !is_place_lost && !matches!(heard_all, Err(Failure::Fault(_)));
    if question.placed.is_none() && (is_untouched || is_whole) {
        lane.units += heard.units();
        lane.transcript = heard.into_transcript();
        account.put_back(lane);
    }
    heard_all?;
    account.note_money(true);
    peer.answered.fetch_add(1, Ordering::Relaxed);
    // The client has its answer; what is wrong about the money is between provider and gateway.
    if let Err(failure) = paid {
        tracing::warn!(provider = %peer.provider, ?failure, "an answer stays unpaid");
        hub.note(peer.provider, Outcome::Failed);
    }
    Ok(())
}

struct Request<'a> {
    hub: &'a HubInner,
    peer: &'a Arc<Peer>,
    account: &'a Arc<Account>,
    lane: Lane,
    heard: Heard,
    out: Outbox,
    said: Incoming<hyper::body::Incoming>,
    name: ContentRoot,
    /// What the receipt that is awaited must say was answered; there is one at most.
    response: Option<ContentRoot>,
    /// The provider has the place at another head.
    is_place_lost: bool,
}

impl Request<'_> {
    /// Hears an answer to its end, and pays along.
    async fn hear_out(&mut self, sink: &mut Sink) -> Result<(), Failure> {
        let mut stopped: Option<Instant> = None;
        while !self.heard.is_done() {
            let down = tokio::select! {
                biased;
                () = sink.left(), if stopped.is_none() => {
                    stopped = Some(Instant::now());
                    // Nobody reads on: what was heard until the provider stops is paid.
                    self.out.send(&Up::Stop).await.map_err(broke)?;
                    continue;
                }
                down = timeout(self.hub.config.silence_max, self.said.next::<Down>()) => down,
            };
            if stopped.is_some_and(|at| at.elapsed() > RECEIPT_WAIT_MAX) {
                return Err(Fault::OutOfTurn.into());
            }
            let has_left = stopped.is_some() && !self.heard.is_begun();
            let down = match self.frame(down) {
                // A provider that had said nothing has nothing to end.
                Err(Failure::Fault(Fault::Truncated | Fault::Broke { .. })) if has_left => {
                    return Err(Failure::Left);
                }
                down => down?,
            };
            self.take(down, sink, stopped.is_some()).await?;
        }
        Ok(())
    }

    fn frame(
        &self,
        down: Result<Result<Option<Down>, FrameError>, tokio::time::error::Elapsed>,
    ) -> Result<Down, Failure> {
        let seconds = self.hub.config.silence_max.as_secs();
        match down {
            Err(_) => Err(Fault::Silent { seconds }.into()),
            Ok(Err(error @ FrameError::Broken { .. })) => Err(broke(error).into()),
            Ok(Err(error)) => {
                tracing::debug!(provider = %self.peer.provider, %error, "a frame is none");
                Err(Fault::NoEvent.into())
            }
            Ok(Ok(None)) => Err(Fault::Truncated.into()),
            Ok(Ok(Some(down))) => Ok(down),
        }
    }

    async fn take(&mut self, down: Down, sink: &mut Sink, is_stopped: bool) -> Result<(), Failure> {
        match down {
            Down::Begun { asked } => self.heard.begun(asked)?,
            Down::Piece { events, text, likelihoods, payable } => {
                let events = self.heard.events(&events, self.name)?;
                let likelihoods = likelihoods.into_inner().into_iter().map(likelihood).collect();
                if !is_stopped && !sink.tell(Piece { events, text, likelihoods }).await {
                    sink.to = To::Pieces(mpsc::channel(1).0);
                }
                if payable && !self.heard.is_done() {
                    self.pay_on().await?;
                }
            }
            Down::Row { row, values } => {
                self.heard.row(row, &values)?;
                sink.rows.push(values);
            }
            Down::Receipt { receipt, signature } => self.receipted(&receipt, &signature).await?,
            Down::Unpaid { reason } => return Err(Fault::NoReceipt { why: reason }.into()),
            Down::Alive => {}
            Down::Refused(refused) => return Err(self.refused(refused)),
        }
        Ok(())
    }

    fn refused(&mut self, refused: Refused) -> Failure {
        match refused {
            Refused::Busy { retry_after_seconds } => Failure::Busy { retry_after_seconds, was_asked: true },
            Refused::Invalid { reason } => Failure::Final(InferenceError::Invalid { reason }),
            Refused::TooLong { units, maximum } => Failure::Final(InferenceError::TooLong { units, maximum }),
            Refused::Failed { reason } => Failure::Failed { reason },
            Refused::Money { reason } => {
                self.account.note_money(false);
                tracing::info!(provider = %self.peer.provider, reason, "a lock does not carry a request");
                Failure::Busy { retry_after_seconds: 1, was_asked: true }
            }
            Refused::Place { reason } => {
                tracing::info!(provider = %self.peer.provider, reason, "a place is not used again");
                self.is_place_lost = true;
                Failure::Busy { retry_after_seconds: 1, was_asked: true }
            }
        }
    }

    /// Pays while the answer goes on, once there is enough to pay and nothing is awaited.
    async fn pay_on(&mut self) -> Result<(), Failure> {
        let terms = self.account.terms();
        let units = u128::from(self.lane.units + self.heard.units());
        let owed = units.saturating_mul(terms.unit_price.wei()).saturating_sub(self.lane.fee.wei());
        if self.response.is_some() || owed < terms.exposure_max().wei().div_ceil(PAID_PARTS) {
            return Ok(());
        }
        self.pay().await.map(drop)
    }

    /// Sends a voucher for what was heard; whether one was owed.
    async fn pay(&mut self) -> Result<bool, Failure> {
        let (head, units) = (self.heard.transcript().head(), self.lane.units + self.heard.units());
        let response_hash = self.heard.response_hash();
        let paid = self.account.pay(&mut self.lane, head, units, self.hub.now()).await;
        let signed = paid.map_err(|error| {
            tracing::warn!(%error, lock = %self.account.id(), "nothing was signed");
            Failure::Failed { reason: "the gateway could not pay".to_owned() }
        })?;
        let Some((voucher, signature)) = signed else { return Ok(false) };
        self.response = Some(response_hash);
        self.out.send(&Up::Pay { voucher, signature }).await.map_err(broke)?;
        Ok(true)
    }

    /// Pays all that was heard of a whole answer. A failure here is the provider's loss, or a place that is not used
    /// again; the client has its answer.
    async fn settle_up(&mut self) -> Result<(), Failure> {
        loop {
            while self.response.is_some() {
                let down = timeout(RECEIPT_WAIT_MAX, self.said.next::<Down>()).await;
                match self.frame(down)? {
                    Down::Receipt { receipt, signature } => self.receipted(&receipt, &signature).await?,
                    Down::Alive => {}
                    Down::Unpaid { reason } => return Err(Fault::NoReceipt { why: reason }.into()),
                    _ => return Err(Fault::OutOfTurn.into()),
                }
            }
            if !self.pay().await? {
                return Ok(());
            }
        }
    }

    async fn receipted(&mut self, receipt: &Receipt, signature: &Signature) -> Result<(), Failure> {
        let expected = self.response.take().ok_or(Fault::OutOfTurn)?;
        if receipt.response_hash != expected {
            return Err(
                Fault::NoReceipt { why: "it says that something else was answered".to_owned() }.into()
            );
        }
        let taken = self.account.receipted(self.lane.shard, receipt, signature).await;
        taken.map_err(|error| Fault::NoReceipt { why: error.to_string() }.into())
    }
}

fn likelihood(of: crate::wire::Likelihood) -> TokenLikelihood {
    let likely = |token: Likely| LikelyToken {
        id: token.id,
        bytes: token.bytes,
        log_probability: token.log_probability,
    };
    TokenLikelihood {
        token: likely(of.token),
        likeliest: of.likeliest.into_inner().into_iter().map(likely).collect(),
    }
}

/// What a provider may take to say nothing.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);
