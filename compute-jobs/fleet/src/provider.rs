//! The provider's side of the fleet: links with a gateway, works what it is paid for, settles.
//!
//! Invariant: it works only under locks that the chain has as accepted for good, never more than one increment ahead of
//! its receipts ([`ashlar_compute_api::terms`]), and its receipts are on the chain before their locks end. Does not know:
//! models' bytes, devices' drivers, who supervises it. Everything comes from [`ProviderConfig`].

mod answers;
mod locks;
mod measure;
mod offers;
mod settle;
pub(crate) mod work;

use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::inference::Inference;
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::vouchers::{Key, LockTerms};
use ashlar_compute_api::{Address, Amount, ContentRoot};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::books::{Books, BooksError};
use crate::clock::Clock;
use crate::escrow::{Escrow, EscrowError};
use crate::handshake::{self, HandshakeError};
use crate::limits::{HANDSHAKE_MAX, REQUESTS_MAX};
use crate::transport;
use crate::wire::{Description, Device, LINK_PATH, OfferedModel, PROTOCOL, Refused};
use locks::{Locks, LocksError};

/// First wait before a link is tried again; each further one is twice as long, up to the configuration's.
const RECONNECT_MIN: Duration = Duration::from_millis(250);
/// A link that stood for so long was a good one: the next wait is the first again.
const GOOD_LINK_MIN: Duration = Duration::from_secs(60);

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
    /// Longest wait before a link is tried again.
    pub reconnect_max: Duration,
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
            let units_per_second =
                if config.measures { measure::measure(&**runtime, offer.kind).await } else { 0 };
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
        let first_wait = RECONNECT_MIN.min(inner.config.reconnect_max);
        let mut wait = first_wait;
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
                wait = first_wait;
            }
            // Half of it at random, so that a gateway's restart does not bring all back at once.
            let half = wait / 2;
            let pause = half + half.mul_f64(rand::random::<f64>());
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => wait = (wait * 2).min(inner.config.reconnect_max),
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

    /// Runtime and kind of work of a lock's offer.
    fn runtime_for(&self, terms: &LockTerms) -> Option<(Arc<dyn Inference>, u16)> {
        let of_offer = |model: &&OfferedModel| model.offer == terms.offer && model.root == terms.model_root;
        let kind = self.description.models.iter().find(of_offer)?.kind;
        Some((self.runtime(terms.model_root)?.0, kind))
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
