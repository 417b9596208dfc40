//! The provider's side of the fleet: links with a gateway, works what it is paid for, settles.
//!
//! Invariant: it works only under locks that the chain has as accepted for good, never more than one increment ahead of
//! its receipts ([`ashlar_compute_api::terms`]), and its receipts are on the chain before their locks end. Does not know:
//! models' bytes, devices' drivers, who supervises it. Everything comes from [`ProviderConfig`].

mod locks;
mod offers;
mod settle;
pub(crate) mod work;

use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::inference::{Generate, Inference, Prompt, Sampling};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::terms::Lock;
use ashlar_compute_api::vouchers::{Key, LockTerms};
use ashlar_compute_api::{Address, Amount, ContentRoot};
use futures::StreamExt as _;
use hyper::body::Incoming as Body;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::books::{Books, BooksError};
use crate::clock::Clock;
use crate::escrow::{Escrow, EscrowError, LockStage};
use crate::frame::{Incoming, Outbox, Outgoing, outgoing};
use crate::handshake::{self, HandshakeError};
use crate::limits::{
    DOWN_FRAME_BYTES_MAX, FIRST_FRAME_MAX, HANDSHAKE_MAX, REQUESTS_MAX, UP_FRAME_BYTES_MAX, short,
};
use crate::transport;
use crate::wire::{
    Ask, COUNT_PATH, CountAsk, Counted, DESCRIBE_PATH, Description, Device, Down, LINK_PATH, LOCK_PATH,
    LockAnswer, LockOffer, Notice, OfferedModel, PROTOCOL, RECEIPT_PATH, Refused, Unanswered, WORK_PATH,
};
use locks::{Locks, LocksError};

/// First and longest wait before a link is tried again.
const RECONNECT_MIN: Duration = Duration::from_millis(250);
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// A link that stood for so long was a good one: the next wait is the first again.
const GOOD_LINK_MIN: Duration = Duration::from_secs(60);
/// Tokens that a measurement generates, and how long it may take.
const MEASURED_UNITS: u64 = 32;
const MEASURE_MAX: Duration = Duration::from_secs(60);

/// A model that is offered.
#[derive(Clone, Debug)]
pub struct ModelOffer {
    /// Of the runtime that runs it.
    pub root: ContentRoot,
    /// What kind of work.
    pub kind: Kind,
    /// Price of a unit, in wei.
    pub unit_price: Amount,
    /// Least cap of a lock.
    pub cap_min: Amount,
    /// Greatest cap of a lock.
    pub cap_max: Amount,
    /// Longest time from opening a lock to its workBy.
    pub work_seconds_max: u32,
    /// Content root of the document with further limits; zero for none.
    pub limits: ContentRoot,
}

/// Everything that a provider is told.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// The gateway's API: `https://host:9001`. Without TLS only where nobody else is on the way.
    pub gateway: String,
    /// Address of the gateway's identity key, as its status shows it.
    pub gateway_identity: Address,
    /// Signs receipts and links.
    pub signing_key: Key,
    /// What the market tells about where the provider is; may be empty, it calls the gateway.
    pub endpoint: String,
    /// Stake of the first registration, in wei.
    pub stake_wei: u128,
    /// What is offered.
    pub models: Vec<ModelOffer>,
    /// Devices, as they are told.
    pub devices: Vec<Device>,
    /// Requests at a time; at most [`crate::limits::REQUESTS_MAX`].
    pub requests_max: u32,
    /// No receipt is given later than so long before a lock's settleBy; until then there is time to settle.
    pub settle_seconds: u64,
    /// Receipts are settled once they are worth so much, and in any case in time. In wei.
    pub settle_above_wei: u128,
    /// How often receipts and locks are looked after.
    pub settle_interval: Duration,
    /// How long work under way may take once the end was asked for.
    pub drain_max: Duration,
    /// Whether models are measured before they are offered.
    pub measures: bool,
}

/// What a provider stands on.
pub struct ProviderParts {
    /// The market, with the provider's account.
    pub escrow: Arc<Escrow>,
    /// Where its books lie.
    pub books: Arc<dyn Books>,
    /// The time of day.
    pub clock: Clock,
    /// What runs the models.
    pub runtimes: Vec<Arc<dyn Inference>>,
}

/// Why a provider does not work.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Something in its configuration cannot be.
    #[error("{reason}")]
    Configuration {
        /// What, and what to do.
        reason: String,
    },
    /// The market could not be used.
    #[error(transparent)]
    Escrow(#[from] EscrowError),
    /// Its books do not open.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// A book does not read.
    #[error("the books cannot be read: {reason}")]
    BooksRead {
        /// Why.
        reason: String,
    },
}

/// Why a link ended or did not come to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the gateway is not reached: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the gateway answers {0} where it should link")]
    Status(http::StatusCode),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("no handshake within {} s", HANDSHAKE_MAX.as_secs())]
    HandshakeTime,
    #[error("the link broke: {0}")]
    Broke(#[from] hyper::Error),
}

/// A provider, opened: registered, its offers published, its books read.
#[derive(Clone)]
pub struct Provider(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    config: ProviderConfig,
    escrow: Arc<Escrow>,
    clock: Clock,
    runtimes: Vec<(Arc<dyn Inference>, u16)>,
    description: Description,
    locks: Locks,
    permits: Arc<Semaphore>,
    draining: watch::Sender<bool>,
    tasks: TaskTracker,
    settling: tokio::sync::Mutex<()>,
    /// Shown, not relied on.
    status: Mutex<ProviderStatus>,
}

/// How a provider does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Whether the link stands.
    pub is_linked: bool,
    /// Why it last ended or did not come to be.
    pub last_failure: Option<String>,
    /// Locks that it works under.
    pub locks: usize,
    /// All that was settled since the start, in wei.
    pub settled_wei: u128,
}

impl Provider {
    /// Reads the books, measures, registers, publishes offers: everything that a link needs.
    pub async fn open(config: ProviderConfig, parts: ProviderParts) -> Result<Self, ProviderError> {
        let configuration = |reason: String| ProviderError::Configuration { reason };
        if config.requests_max == 0 || config.requests_max > REQUESTS_MAX {
            return Err(configuration(format!("requests_max is 1 to {REQUESTS_MAX}")));
        }
        let mut runtimes = Vec::new();
        for offer in &config.models {
            let found = parts.runtimes.iter().find(|runtime| runtime.model().root == offer.root);
            let runtime =
                found.ok_or_else(|| configuration(format!("no runtime has model {}", offer.root)))?;
            runtimes.push((Arc::clone(runtime), offer.kind.number()));
        }
        let locks = Locks::load(Arc::clone(&parts.books), config.signing_key.clone()).await;
        let locks = locks.map_err(|error| match error {
            LocksError::Books(error) => ProviderError::Books(error),
            error => ProviderError::BooksRead { reason: error.to_string() },
        })?;
        offers::register(&parts.escrow, &config).await?;
        let mut models = Vec::new();
        for (offer, (runtime, _)) in config.models.iter().zip(&runtimes) {
            let units_per_second = if config.measures { measure(&**runtime, offer.kind).await } else { 0 };
            let (number, version) = offers::publish(&parts.escrow, offer).await?;
            let model = runtime.model();
            models.push(OfferedModel {
                offer: number,
                offer_version: version,
                kind: offer.kind.number(),
                root: offer.root,
                is_claimed: model.is_claimed,
                determinism_class: model.determinism_class,
                context_units_max: model.context_units_max,
                unit_price: offer.unit_price,
                units_per_second,
            });
        }
        let too_many = |_| configuration("more models or devices than a description holds".to_owned());
        let description = Description {
            devices: config.devices.clone().try_into().map_err(too_many)?,
            models: models.try_into().map_err(too_many)?,
            requests_max: config.requests_max,
        };
        let permits = usize::try_from(config.requests_max).unwrap_or(1);
        Ok(Self(Arc::new(Inner {
            config,
            escrow: parts.escrow,
            clock: parts.clock,
            runtimes,
            description,
            locks,
            permits: Arc::new(Semaphore::new(permits)),
            draining: watch::Sender::new(false),
            tasks: TaskTracker::new(),
            settling: tokio::sync::Mutex::default(),
            status: Mutex::default(),
        })))
    }

    /// Works until `stop`, then takes nothing new, lets work under way end, settles, and returns.
    pub async fn run(&self, stop: CancellationToken) {
        let inner = &self.0;
        let ended = CancellationToken::new();
        // Whoever drops this future ends what it began.
        let _ends = ended.clone().drop_guard();
        let settling = inner.tasks.spawn(settle::keep(Arc::clone(inner), ended.clone()));
        let mut wait = RECONNECT_MIN;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let failure = match inner.link(&stop).await {
                Ok(()) if stop.is_cancelled() => break,
                Ok(()) => "the gateway ended the link".to_owned(),
                Err(error) => error.to_string(),
            };
            tracing::info!(gateway = inner.config.gateway, failure, "the link ended and is tried again");
            inner.status.lock().last_failure = Some(failure);
            if began.elapsed() >= GOOD_LINK_MIN {
                wait = RECONNECT_MIN;
            }
            // Half of it at random, so that a gateway's restart does not bring all back at once.
            let half = wait / 2;
            let pause = half + half.mul_f64(rand::random::<f64>());
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => wait = (wait * 2).min(RECONNECT_MAX),
            }
        }
        ended.cancel();
        if let Err(error) = settling.await {
            tracing::error!(%error, "settling ended badly");
        }
        inner.tasks.close();
        if timeout(inner.config.drain_max, inner.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = inner.tasks.len(), "work under way was cut off");
        }
        self.settle().await;
    }

    /// Settles all receipts that pay something, now.
    pub async fn settle(&self) {
        settle::all(&self.0, true).await;
    }

    /// How it does.
    pub fn status(&self) -> ProviderStatus {
        ProviderStatus { locks: self.0.locks.all().len(), ..self.0.status.lock().clone() }
    }

    /// What receipts pay and what is worked and not paid, in wei, over all locks.
    pub async fn standing(&self) -> (u128, u128) {
        let mut sum = (0u128, 0u128);
        for account in self.0.locks.all() {
            let (earned, exposed) = account.standing().await;
            sum = (sum.0.saturating_add(earned), sum.1.saturating_add(exposed));
        }
        sum
    }
}

impl Inner {
    fn now(&self) -> u64 {
        (self.clock)()
    }

    fn runtime(&self, root: ContentRoot) -> Option<(Arc<dyn Inference>, u16)> {
        self.runtimes.iter().find(|(runtime, _)| runtime.model().root == root).cloned()
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let busy = Refused::Busy { retry_after_seconds: 1 };
        if *self.draining.borrow() {
            return Err(busy);
        }
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| busy)
    }

    /// One link, from its first byte to its last.
    async fn link(self: &Arc<Self>, stop: &CancellationToken) -> Result<(), LinkError> {
        let linked = async {
            let mut stream = dial(&self.config.gateway).await?;
            let escrow = &self.escrow;
            let config = &self.config;
            let joined = handshake::join(
                &mut stream,
                escrow.domain(),
                config.gateway_identity,
                escrow.account(),
                &config.signing_key,
                rand::random(),
            );
            joined.await?;
            Ok::<_, LinkError>(stream)
        };
        let stream = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            linked = timeout(HANDSHAKE_MAX, linked) => linked.map_err(|_| LinkError::HandshakeTime)??,
        };
        self.status.lock().is_linked = true;
        let inner = Arc::clone(self);
        let answer = move |request| {
            let inner = Arc::clone(&inner);
            async move { Ok::<_, std::convert::Infallible>(inner.answer(request)) }
        };
        let drained = async {
            stop.cancelled().await;
            self.draining.send_replace(true);
            // Work under way keeps its permit; all of them back is the end of it.
            let all = self.config.requests_max;
            let _ = timeout(self.config.drain_max, self.permits.acquire_many(all)).await;
        };
        let ended = transport::answering(stream, &self.tasks, answer, drained).await;
        self.status.lock().is_linked = false;
        Ok(ended?)
    }

    /// Answers a request of the gateway; its work goes on in the group.
    fn answer(self: Arc<Self>, request: http::Request<Body>) -> http::Response<Outgoing> {
        let (out, body) = outgoing(DOWN_FRAME_BYTES_MAX);
        let path = request.uri().path().to_owned();
        let asked = request.into_body();
        let tasks = self.tasks.clone();
        match path.as_str() {
            DESCRIBE_PATH => drop(tasks.spawn(self.describe(out))),
            WORK_PATH => drop(tasks.spawn(work::serve(self, asked, out))),
            LOCK_PATH => drop(tasks.spawn(self.take_lock(asked, out))),
            RECEIPT_PATH => drop(tasks.spawn(self.answer_again(asked, out))),
            COUNT_PATH => drop(tasks.spawn(self.count(asked, out))),
            _ => {
                let mut response = http::Response::new(body);
                *response.status_mut() = http::StatusCode::NOT_FOUND;
                return response;
            }
        }
        http::Response::new(body)
    }

    async fn describe(self: Arc<Self>, out: Outbox) {
        if out.send(&Notice::Is(self.description.clone())).await.is_err() {
            return;
        }
        let mut draining = self.draining.subscribe();
        let is_draining = async { draining.wait_for(|is_draining| *is_draining).await.is_ok() };
        let is_draining = tokio::select! {
            () = out.closed() => false,
            is_draining = is_draining => is_draining,
        };
        if is_draining {
            // A gateway that has left needs no word.
            let _ = out.send(&Notice::Draining).await;
        }
    }

    async fn take_lock(self: Arc<Self>, asked: Body, out: Outbox) {
        let mut asked = Incoming::new(asked, UP_FRAME_BYTES_MAX);
        let Ok(Ok(Some(offer))) = timeout(FIRST_FRAME_MAX, asked.next::<LockOffer>()).await else { return };
        let answer = match self.accept(offer.buyer, &offer.terms).await {
            Ok(()) => LockAnswer::Accepted,
            Err(reason) => LockAnswer::Refused { reason: short(reason) },
        };
        let _ = out.send(&answer).await;
    }

    /// Accepts a lock on the chain and opens its book. Asked again, does what is left to do.
    async fn accept(&self, buyer: Address, terms: &LockTerms) -> Result<(), String> {
        let (domain, account) = (self.escrow.domain(), self.escrow.account());
        let id = terms.lock_id(&domain, buyer);
        if self.locks.get(id).is_ok() {
            return Ok(());
        }
        if *self.draining.borrow() {
            return Err("the provider takes no more work".to_owned());
        }
        let offered = self.description.models.iter().find(|model| {
            (model.offer, model.offer_version) == (terms.offer, terms.offer_version)
                && (model.root, model.unit_price) == (terms.model_root, terms.unit_price)
        });
        if terms.provider != account || offered.is_none() {
            return Err("the lock is not for an offer of this provider".to_owned());
        }
        self.locks.has_room_for(buyer).map_err(|error| error.to_string())?;
        let lock = Lock { domain, buyer, signing_key: self.config.signing_key.address(), terms: *terms };
        lock.check().map_err(|error| error.to_string())?;
        let time = terms.settle_by - terms.work_by;
        if time < self.config.settle_seconds {
            return Err(format!("{time} s to settle in, and {} s are wanted", self.config.settle_seconds));
        }
        // The chain has it, or there is nothing to accept: the id commits to buyer and terms.
        let stage = async || {
            let found = self.escrow.lock(id).await.map_err(|error| error.to_string())?;
            found.map(|found| found.stage).ok_or_else(|| "the chain has no such lock".to_owned())
        };
        let mut found = stage().await?;
        if found == LockStage::Open {
            if self.now() > terms.accept_by {
                return Err("the lock could be accepted until before now".to_owned());
            }
            self.escrow.accept(id).await.map_err(|error| error.to_string())?;
            found = stage().await?;
        }
        match found {
            LockStage::Accepted { signing_key } if signing_key == lock.signing_key => {
                let adopted = self.locks.adopt(lock, self.config.settle_seconds).await;
                adopted.map_err(|error| error.to_string())
            }
            LockStage::Accepted { .. } => Err("the lock was accepted with another key".to_owned()),
            LockStage::Open => Err("the acceptance did not stay".to_owned()),
            LockStage::Closed => Err("the lock has ended".to_owned()),
        }
    }

    /// A voucher again whose receipt was lost on the way.
    async fn answer_again(self: Arc<Self>, asked: Body, out: Outbox) {
        let mut asked = Incoming::new(asked, UP_FRAME_BYTES_MAX);
        let Ok(Ok(Some(again))) = timeout(FIRST_FRAME_MAX, asked.next::<Unanswered>()).await else { return };
        let Unanswered { voucher, signature } = again;
        let settled = async {
            let account = self.locks.get(voucher.lock)?;
            let runtime = self.runtime(account.lock().terms.model_root);
            let class = runtime.map_or(ContentRoot::ZERO, |(runtime, _)| runtime.model().determinism_class);
            let level = ashlar_compute_api::vouchers::Level::Bound;
            self.locks.countersign(&account, &voucher, &signature, class, level, self.now()).await
        };
        let answer = match settled.await {
            Ok(settled) => Down::Receipt { receipt: settled.receipt, signature: settled.provider },
            Err(error) => Down::Unpaid { reason: short(error) },
        };
        let _ = out.send(&answer).await;
    }

    async fn count(self: Arc<Self>, asked: Body, out: Outbox) {
        let Ok(_permit) = self.permit() else {
            let _ = out.send(&Counted::Refused(Refused::Busy { retry_after_seconds: 1 })).await;
            return;
        };
        let mut asked = Incoming::new(asked, UP_FRAME_BYTES_MAX);
        let Ok(Ok(Some(of))) = timeout(FIRST_FRAME_MAX, asked.next::<CountAsk>()).await else { return };
        let invalid = |reason: &str| Counted::Refused(Refused::Invalid { reason: reason.to_owned() });
        let answer = match (self.runtime(of.model), Ask::decode(&of.ask)) {
            (Some((runtime, _)), Ok(ask)) => match work::count(&*runtime, &ask).await {
                Ok(units) => Counted::Units(units),
                Err(error) => invalid(&short(error)),
            },
            (None, _) => invalid("the model is not run here"),
            (_, Err(_)) => invalid("the request is not one of this version"),
        };
        let _ = out.send(&answer).await;
    }
}

/// The connection that becomes a link.
pub(crate) async fn dial(gateway: &str) -> Result<reqwest::Upgraded, LinkError> {
    // Whichever part of the process comes first installs it; it is the same everywhere.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(HANDSHAKE_MAX)
        .build()?;
    let url = format!("{}{LINK_PATH}", gateway.trim_end_matches('/'));
    let request = client.get(url).header("connection", "upgrade").header("upgrade", PROTOCOL);
    let response = request.send().await?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(LinkError::Status(response.status()));
    }
    Ok(response.upgrade().await?)
}

/// Units a second that a model does alone; 0 where it did not answer in time.
async fn measure(runtime: &dyn Inference, kind: Kind) -> u32 {
    let began = Instant::now();
    let work = async {
        match kind {
            Kind::Inference => {
                let request = Generate {
                    request_hash: ContentRoot::ZERO,
                    prompt: Prompt::Text("Count from one to a hundred: one, two, three,".to_owned()),
                    choices: 1,
                    units_max: MEASURED_UNITS,
                    sampling: Sampling {
                        temperature: 0.0,
                        top_p: 1.0,
                        presence_penalty: 0.0,
                        frequency_penalty: 0.0,
                        seed: 0,
                    },
                    stop: Vec::new(),
                    log_probabilities: None,
                };
                let mut pieces = runtime.generate(request).await.ok()?;
                let mut units = 0u64;
                while let Some(Ok(piece)) = pieces.next().await {
                    for event in piece.events {
                        if let ashlar_compute_api::transcript::Event::Usage { asked, answered } = event {
                            units = asked + answered;
                        }
                    }
                }
                Some(units)
            }
            Kind::Embedding | Kind::Labeling | Kind::FineTuning => {
                let texts = vec!["The quick brown fox jumps over the lazy dog.".to_owned(); 8];
                Some(runtime.embed(texts).await.ok()?.units)
            }
        }
    };
    let Ok(Some(units)) = timeout(MEASURE_MAX, work).await else { return 0 };
    let milliseconds = began.elapsed().as_millis().max(1);
    u32::try_from(u128::from(units) * 1_000 / milliseconds).unwrap_or(u32::MAX)
}
