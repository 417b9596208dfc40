//! The gateway's side of the fleet: which providers are linked, which of them answers a request, and what they are paid.
//!
//! Invariant: a request is given to one provider at a time, and to another only as long as its client has heard nothing;
//! where nobody has room it is refused at once and nothing waits. Does not know HTTP faces, users or metadata: the gateway
//! is the buyer's agent, and whose request it is was decided before.

mod heard;
mod peer;
mod purse;
mod remote;
mod request;

pub use heard::Fault;
pub use purse::LockPolicy;
pub use remote::{RemoteModel, UnitAnswer};
pub use request::Placed;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ashlar_compute_api::inference::{InferenceError, Model};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::vouchers::Key;
use ashlar_compute_api::{Address, Amount, ContentRoot};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::books::Books;
use crate::clock::Clock;
use crate::escrow::Escrow;
use crate::limits::{ATTEMPTS_MAX, HANDSHAKES_MAX};
use crate::recount::Recount;
use crate::reputation::{Outcome, Reputations};
use crate::sampling::{Consequence, Verdict};
use crate::wire::{Device, OfferedModel, PROTOCOL};
use peer::Peer;
use purse::Purse;
use request::{Failure, Question, Sink, attempt};

/// Everything that a hub is told.
#[derive(Clone)]
pub struct HubConfig {
    /// Proves to providers which gateway this is. Not an account: it signs links alone.
    pub identity: Key,
    /// What locks' session keys come from.
    pub session_secret: [u8; 32],
    /// Under what locks are opened.
    pub locks: LockPolicy,
    /// How often it is looked whether every offer has a lock.
    pub fund_interval: Duration,
    /// How long a provider may take to accept a lock, with what the chain takes.
    pub accept_max: Duration,
    /// How often locks that are over are looked for.
    pub tidy_interval: Duration,
    /// A provider that says nothing to a request for so long has failed it.
    pub silence_max: Duration,
}

impl HubConfig {
    /// With intervals for a chain of seconds.
    pub fn new(identity: Key, session_secret: [u8; 32], locks: LockPolicy) -> Self {
        Self {
            identity,
            session_secret,
            locks,
            fund_interval: Duration::from_secs(1),
            accept_max: Duration::from_secs(120),
            tidy_interval: Duration::from_secs(60),
            silence_max: request::SILENCE_MAX,
        }
    }
}

/// What a hub stands on.
pub struct HubParts {
    /// The market, with the gateway's account.
    pub escrow: Arc<Escrow>,
    /// Where its books lie.
    pub books: Arc<dyn Books>,
    /// The time of day.
    pub clock: Clock,
    /// Counts what was asked.
    pub recount: Arc<dyn Recount>,
}

/// Why a hub does not open.
#[derive(Debug, thiserror::Error)]
#[error("the gateway's locks cannot be read: {reason}")]
pub struct HubError {
    /// Why.
    reason: String,
}

/// A model that somebody offers now.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSummary {
    /// Content root.
    pub root: ContentRoot,
    /// Kinds of work, as the market numbers them.
    pub kinds: Vec<u16>,
    /// Providers that offer it.
    pub providers: usize,
    /// Cheapest price of a unit.
    pub unit_price_min: Amount,
    /// The longest context that somebody offers.
    pub context_units_max: u64,
}

/// A provider as the hub has it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// Its account.
    pub provider: Address,
    /// What it says it has.
    pub devices: Vec<Device>,
    /// What the chain confirms of its offers.
    pub models: Vec<OfferedModel>,
    /// Requests at a time.
    pub requests_max: u32,
    /// Share of its room that is taken.
    pub load: f64,
    /// How many of its offers have a lock that requests are paid from now.
    pub offers_ready: usize,
    /// Takes no new work.
    pub is_draining: bool,
    /// Requests that it answered on this link.
    pub answered: u64,
    /// How far it is counted on.
    pub reputation: f64,
}

/// The hub; clones are the same one.
#[derive(Clone)]
pub struct Hub(Arc<HubInner>);

pub(crate) struct HubInner {
    config: HubConfig,
    escrow: Arc<Escrow>,
    clock: Clock,
    recount: Arc<dyn Recount>,
    purse: Purse,
    peers: Mutex<HashMap<Address, Arc<Peer>>>,
    reputations: Mutex<Reputations>,
    links: AtomicU64,
    handshakes: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Hub {
    /// Reads the books and begins to look after locks, in tasks of its own until [`Hub::close`].
    pub async fn open(config: HubConfig, parts: HubParts) -> Result<Self, HubError> {
        let purse = Purse::load(Arc::clone(&parts.escrow), parts.books, config.locks, config.session_secret);
        let purse = purse.await.map_err(|error| HubError { reason: error.to_string() })?;
        let inner = Arc::new(HubInner {
            config,
            escrow: parts.escrow,
            clock: parts.clock,
            recount: parts.recount,
            purse,
            peers: Mutex::default(),
            reputations: Mutex::default(),
            links: AtomicU64::new(0),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let tidy = Arc::clone(&inner);
        inner.tasks.spawn(async move {
            let mut timer = interval(tidy.config.tidy_interval);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = tidy.stop.cancelled() => return,
                    _ = timer.tick() => tidy.purse.tidy(tidy.now()).await,
                }
            }
        });
        Ok(Self(inner))
    }

    /// Address of the identity key: what providers are told to link with.
    pub fn identity(&self) -> Address {
        self.0.config.identity.address()
    }

    /// Answers `GET` [`crate::LINK_PATH`]: 101, and the connection becomes a link. The server under it must serve
    /// upgrades. It needs no credentials: a provider proves itself on the link.
    pub fn link<B>(&self, mut request: http::Request<B>) -> http::Response<String> {
        let answer = |status: http::StatusCode, text: &str| {
            let mut response = http::Response::new(text.to_owned());
            *response.status_mut() = status;
            response
        };
        let wanted = request.headers().get(http::header::UPGRADE);
        if wanted.is_none_or(|wanted| wanted != PROTOCOL) {
            let mut response = answer(
                http::StatusCode::UPGRADE_REQUIRED,
                "providers link here: upgrade the connection to ashlar-link/1\n",
            );
            let protocol = http::HeaderValue::from_static(PROTOCOL);
            response.headers_mut().insert(http::header::UPGRADE, protocol);
            return response;
        }
        let Ok(permit) = Arc::clone(&self.0.handshakes).try_acquire_owned() else {
            let mut response =
                answer(http::StatusCode::SERVICE_UNAVAILABLE, "too many providers are linking; again soon\n");
            response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("2"));
            return response;
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let hub = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            let stopping = hub.stop.clone();
            let linked = async {
                match upgrade.await {
                    Ok(stream) => {
                        if let Err(end) = peer::serve(hub, TokioIo::new(stream), permit).await {
                            tracing::info!(%end, "a provider's link ended");
                        }
                    }
                    Err(error) => tracing::debug!(%error, "a connection did not become a link"),
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = linked => {}
            }
        });
        let mut response = answer(http::StatusCode::SWITCHING_PROTOCOLS, "");
        let headers = response.headers_mut();
        headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, http::HeaderValue::from_static(PROTOCOL));
        response
    }

    /// Models that are offered now, cheapest first.
    pub fn models(&self) -> Vec<ModelSummary> {
        let mut found: HashMap<ContentRoot, ModelSummary> = HashMap::new();
        for peer in self.0.peers.lock().values() {
            let mut seen = Vec::new();
            for model in &peer.models {
                let summary = found.entry(model.root).or_insert_with(|| ModelSummary {
                    root: model.root,
                    kinds: Vec::new(),
                    providers: 0,
                    unit_price_min: model.unit_price,
                    context_units_max: 0,
                });
                if !summary.kinds.contains(&model.kind) {
                    summary.kinds.push(model.kind);
                }
                if !seen.contains(&model.root) {
                    seen.push(model.root);
                    summary.providers += 1;
                }
                summary.unit_price_min = summary.unit_price_min.min(model.unit_price);
                summary.context_units_max = summary.context_units_max.max(model.context_units_max);
            }
        }
        let mut models: Vec<ModelSummary> = found.into_values().collect();
        models.sort_by_key(|model| (model.unit_price_min, model.root));
        models
    }

    /// A model that is offered, as a runtime: every call goes to a provider of then. `None` where nobody offers it now.
    pub fn model(&self, root: ContentRoot) -> Option<RemoteModel> {
        let peers = self.0.peers.lock();
        let offered = peers.values().flat_map(|peer| &peer.models).filter(|model| model.root == root);
        let longest = offered.max_by_key(|model| model.context_units_max)?;
        let model = Model {
            root,
            is_claimed: longest.is_claimed,
            determinism_class: longest.determinism_class,
            context_units_max: longest.context_units_max,
        };
        Some(RemoteModel::new(Arc::clone(&self.0), model))
    }

    /// Whether a request for this work would find a provider with room and money now.
    pub fn is_ready(&self, root: ContentRoot, kind: Kind) -> bool {
        let now = self.0.now();
        self.0.ranked(root, kind.number()).iter().any(|(peer, offered)| {
            peer.load() < 1.0 && self.0.purse.ready(peer.provider, offered, now).is_some()
        })
    }

    /// Providers that are linked.
    pub fn providers(&self) -> Vec<PeerStatus> {
        let now = self.0.now();
        let reputations = self.0.reputations.lock();
        let peers = self.0.peers.lock();
        let status = |peer: &Arc<Peer>| PeerStatus {
            provider: peer.provider,
            devices: peer.description.devices.to_vec(),
            models: peer.models.clone(),
            requests_max: peer.description.requests_max,
            load: peer.load(),
            offers_ready: peer
                .models
                .iter()
                .filter(|offered| self.0.purse.ready(peer.provider, offered, now).is_some())
                .count(),
            is_draining: peer.is_draining.load(Ordering::SeqCst),
            answered: peer.answered.load(Ordering::Relaxed),
            reputation: reputations.score(peer.provider),
        };
        let mut all: Vec<PeerStatus> = peers.values().map(status).collect();
        all.sort_by_key(|status| status.provider);
        all
    }

    /// Takes down what a check by somebody else found; a provider whose work does not match is suspended and its link cut.
    pub fn note(&self, provider: Address, outcome: Outcome) {
        self.0.note(provider, outcome);
    }

    /// Takes down what a sample of a provider's work showed, and says what follows for the job.
    pub fn judge(&self, provider: Address, verdict: &Verdict) -> Consequence {
        let consequence = verdict.consequence();
        self.0.note(provider, consequence.outcome);
        consequence
    }

    /// How far a provider is counted on, and whether it is suspended.
    pub fn reputation(&self, provider: Address) -> (f64, bool) {
        let reputations = self.0.reputations.lock();
        (reputations.score(provider), reputations.is_suspended(provider))
    }

    /// All that was signed over locks that are not over, in wei.
    pub async fn signed_wei(&self) -> u128 {
        self.0.purse.signed_wei().await
    }

    /// Takes coins back out of locks that are over, now.
    pub async fn tidy(&self) {
        self.0.purse.tidy(self.0.now()).await;
    }

    /// Ends all links and waits for what was under way.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl HubInner {
    fn now(&self) -> u64 {
        (self.clock)()
    }

    fn register(&self, peer: &Arc<Peer>) {
        let before = self.peers.lock().insert(peer.provider, Arc::clone(peer));
        // A provider that links again has lost the link before, whether that is noticed yet or not.
        if let Some(before) = before {
            before.ended.cancel();
        }
    }

    fn unregister(&self, peer: &Peer) {
        let mut peers = self.peers.lock();
        if peers.get(&peer.provider).is_some_and(|linked| linked.number == peer.number) {
            peers.remove(&peer.provider);
        }
    }

    fn note(&self, provider: Address, outcome: Outcome) {
        let is_suspended = {
            let mut reputations = self.reputations.lock();
            reputations.note(provider, outcome);
            reputations.is_suspended(provider)
        };
        if is_suspended && let Some(peer) = self.peers.lock().remove(&provider) {
            tracing::warn!(%provider, ?outcome, "a provider is suspended");
            peer.ended.cancel();
        }
    }

    /// Who could answer, best first: cheap, not loaded, counted on.
    fn ranked(&self, root: ContentRoot, kind: u16) -> Vec<(Arc<Peer>, OfferedModel)> {
        let reputations = self.reputations.lock();
        let peers = self.peers.lock();
        let fit = peers.values().filter(|peer| !peer.is_draining.load(Ordering::SeqCst));
        let fit = fit.filter_map(|peer| Some((Arc::clone(peer), peer.offered(root, kind)?.clone())));
        let cost = |peer: &Peer, offered: &OfferedModel| {
            // Exact enough to order by: a price is below 2⁹⁶.
            let price = offered.unit_price.to_string().parse::<f64>().unwrap_or(f64::MAX);
            price * (1.0 + peer.load()) / reputations.score(peer.provider).max(0.01)
        };
        let mut ranked: Vec<_> = fit.map(|(peer, offered)| (cost(&peer, &offered), peer, offered)).collect();
        ranked.sort_by(|(a, one, _), (b, other, _)| a.total_cmp(b).then(one.number.cmp(&other.number)));
        ranked.into_iter().map(|(_, peer, offered)| (peer, offered)).collect()
    }

    /// Has a question answered by one provider or another, as long as the client has heard nothing.
    async fn answer(
        &self,
        root: ContentRoot,
        kind: Kind,
        question: &Question,
        sink: &mut Sink,
    ) -> Result<(), InferenceError> {
        let mut retry_after = 1;
        let mut failed: Option<String> = None;
        let mut attempts = 0;
        for (peer, offered) in self.ranked(root, kind.number()) {
            if attempts == ATTEMPTS_MAX || sink.is_told() {
                break;
            }
            if !question.whom.includes(peer.provider) {
                continue;
            }
            sink.start_over();
            match attempt(self, &peer, &offered, question, sink).await {
                Ok(()) => {
                    self.note(peer.provider, Outcome::Answered);
                    return Ok(());
                }
                Err(Failure::Busy { retry_after_seconds, was_asked }) => {
                    retry_after = retry_after.max(retry_after_seconds);
                    attempts += usize::from(was_asked);
                }
                Err(Failure::Left) => {
                    return Err(InferenceError::Failed { reason: "the client has left".to_owned() });
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Failed { reason }) => {
                    self.note(peer.provider, Outcome::Failed);
                    failed = Some(reason);
                    attempts += 1;
                }
                Err(Failure::Fault(fault)) => {
                    tracing::warn!(provider = %peer.provider, %fault, "a provider failed a request");
                    let outcome = if fault.is_deceit() { Outcome::Deceived } else { Outcome::Failed };
                    self.note(peer.provider, outcome);
                    failed = Some(fault.to_string());
                    attempts += 1;
                }
            }
        }
        Err(match failed {
            Some(reason) => InferenceError::Failed { reason },
            None => InferenceError::Busy { retry_after_seconds: retry_after },
        })
    }
}
