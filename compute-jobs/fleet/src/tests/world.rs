//! A chain with the market, a gateway on loopback, and accounts for everybody; time passes by hand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::U256;
use ashlar_chain::{
    Artifact, EndpointLimits, Endpoints, FeePolicy, FileTransactionStore, Finality, Market, TransactionKey,
    TransactionSender, deploy,
};
use ashlar_compute_api::inference::{Generate, Inference, InferenceError, Prompt, Sampling};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::transcript::Event;
use ashlar_compute_api::vouchers::Key;
use ashlar_compute_api::{Address, Amount, ContentRoot, LockId};
use ashlar_dev_chain::{Chain, Clock as ChainClock, Configuration, DevChain};
use ashlar_disk::RealDisk;
use async_trait::async_trait;
use futures::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{
    Books, BooksError, ByBytes, Clock, Device, Escrow, FileBooks, Hub, HubConfig, HubParts, LINK_PATH,
    LockPolicy, ModelOffer, Provider, ProviderConfig, ProviderParts,
};

pub(super) const START: u64 = 1_800_000_000;
pub(super) const HOUR: u64 = 3_600;
const POLL: Duration = Duration::from_millis(5);
const FUNDS: u64 = 10_000;
/// Accounts: the gateway's, then providers'.
const ACCOUNTS: u8 = 4;
pub(super) const STAKE: u128 = 1_000;
pub(super) const CAP: u64 = 100_000;
pub(super) const EXPOSURE: u64 = 2_000;

/// Books that vanish with the test, and everything that was ever stored in them.
#[derive(Default)]
pub(super) struct MemoryBooks(
    pub(super) Mutex<HashMap<LockId, Vec<u8>>>,
    pub(super) Mutex<Vec<(LockId, Vec<u8>)>>,
);

#[async_trait]
impl Books for MemoryBooks {
    async fn load(&self) -> Result<Vec<(LockId, Vec<u8>)>, BooksError> {
        Ok(self.0.lock().iter().map(|(lock, value)| (*lock, value.clone())).collect())
    }

    async fn store(&self, lock: LockId, value: Vec<u8>) -> Result<(), BooksError> {
        self.1.lock().push((lock, value.clone()));
        self.0.lock().insert(lock, value);
        Ok(())
    }

    async fn remove(&self, lock: LockId) -> Result<(), BooksError> {
        self.0.lock().remove(&lock);
        Ok(())
    }
}

pub(super) fn key(byte: u8) -> Key {
    Key::from_secret(&[byte; 32]).unwrap()
}

pub(super) fn root(byte: u8) -> ContentRoot {
    ContentRoot([byte; 32])
}

pub(super) fn device() -> Device {
    Device { name: "processor".to_owned(), memory_bytes: 1 << 30 }
}

pub(super) struct World {
    chain: DevChain,
    pub(super) time: Arc<AtomicU64>,
    market: Market,
    senders: Vec<Arc<TransactionSender>>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) folder: tempfile::TempDir,
}

fn account(number: u8) -> TransactionKey {
    TransactionKey::from_bytes(&[0x40 + number; 32]).unwrap()
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let rich = U256::from(FUNDS) * U256::from(10).pow(U256::from(18));
        let configuration = Configuration {
            accounts: (0..ACCOUNTS).map(|number| (account(number).address(), rich)).collect(),
            ..Configuration::default()
        };
        let chain = Chain::open(
            &RealDisk::new(),
            &folder.path().join("chain"),
            None,
            configuration,
            ChainClock::Manual(Arc::clone(&time)),
        );
        let chain = DevChain::start(chain.unwrap(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let chain_id = chain.chain().configuration().chain_id;
        let endpoints = Endpoints::connect(&[chain.url()], chain_id, EndpointLimits::default()).await;
        let endpoints = Arc::new(endpoints.unwrap());
        let store = FileTransactionStore::open(Arc::new(RealDisk::new()), &folder.path().join("sent"));
        let store = Arc::new(store.unwrap());
        let mut senders = Vec::new();
        for number in 0..ACCOUNTS {
            let (endpoints, store) = (Arc::clone(&endpoints), Arc::clone(&store) as _);
            let sender = TransactionSender::open(endpoints, account(number), store, FeePolicy::default());
            senders.push(Arc::new(sender.await.unwrap()));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../chain/artifacts/ComputeMarket.json");
        let artifact = Artifact::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let code = artifact.deploy(&Market::constructor_arguments(STAKE, 0));
        let deployed = deploy(&senders[0], [1; 32].into(), &code, 0, POLL).await.unwrap();
        let market = Market::new(endpoints, deployed.address);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { chain, time, market, senders, tasks, stop, folder }
    }

    pub(super) fn clock(&self) -> Clock {
        let time = Arc::clone(&self.time);
        Arc::new(move || time.load(Ordering::Relaxed))
    }

    pub(super) fn now(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    /// Lets time pass, and makes a block then.
    pub(super) async fn pass(&self, seconds: u64) {
        self.time.fetch_add(seconds, Ordering::Relaxed);
        let chain = Arc::clone(self.chain.chain());
        tokio::task::spawn_blocking(move || chain.produce(true)).await.unwrap().unwrap();
    }

    pub(super) fn escrow(&self, number: usize) -> Arc<Escrow> {
        let sender = Arc::clone(&self.senders[number]);
        Arc::new(Escrow::new(self.market.clone(), sender, Finality::Depth(0), POLL))
    }

    pub(super) fn address(&self, number: usize) -> Address {
        Address(self.senders[number].address().into_array())
    }

    /// What an account may withdraw, in wei.
    pub(super) async fn balance(&self, number: usize) -> u128 {
        let balance = self.market.balance(self.senders[number].address(), BlockId::latest()).await.unwrap();
        balance.to()
    }

    /// Coins of the contract that stand neither in a balance nor in a stake: what locks hold.
    pub(super) async fn locked(&self) -> u128 {
        let address = self.market.address();
        let held = self.market.endpoints().any(|endpoint| endpoint.balance(address)).await.unwrap();
        let mut elsewhere = 0u128;
        for (number, sender) in self.senders.iter().enumerate() {
            elsewhere += self.balance(number).await;
            let provider = self.market.provider(sender.address(), BlockId::latest()).await.unwrap();
            elsewhere += provider.map_or(0, |provider| provider.stake + provider.leaving);
        }
        let held: u128 = held.to();
        held.checked_sub(elsewhere).expect("the contract has what it owes")
    }

    pub(super) fn policy() -> LockPolicy {
        LockPolicy {
            cap: CAP.into(),
            exposure_max: EXPOSURE.into(),
            unit_price_max: 1_000.into(),
            accept_seconds: 600,
            work_seconds: 6 * HOUR,
            renew_seconds: 60,
        }
    }

    pub(super) async fn hub(&self, books: Arc<dyn Books>) -> Hub {
        let config = HubConfig {
            fund_interval: Duration::from_millis(20),
            accept_max: Duration::from_secs(20),
            silence_max: Duration::from_secs(1),
            ..HubConfig::new(key(0x11), [0x22; 32], Self::policy())
        };
        let parts =
            HubParts { escrow: self.escrow(0), books, clock: self.clock(), recount: Arc::new(ByBytes) };
        Hub::open(config, parts).await.unwrap()
    }

    /// Serves an HTTP API on loopback; its address.
    pub(super) async fn serve(
        &self,
        answer: impl Fn(http::Request<hyper::body::Incoming>) -> http::Response<String> + Clone + Send + 'static,
    ) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (stream, _) = accepted.unwrap();
                let answer = answer.clone();
                let service = hyper::service::service_fn(move |request| {
                    let response = answer(request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let serving =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
                let stop = stop.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = serving => {}
                    }
                });
            }
        });
        url
    }

    pub(super) async fn serve_hub(&self, hub: &Hub) -> String {
        let hub = hub.clone();
        self.serve(move |request| {
            assert_eq!(request.uri().path(), LINK_PATH);
            hub.link(request)
        })
        .await
    }

    pub(super) fn offer(model: ContentRoot, kind: Kind, unit_price: u64) -> ModelOffer {
        ModelOffer {
            root: model,
            kind,
            unit_price: unit_price.into(),
            cap_min: Amount::from(1),
            cap_max: CAP.into(),
            work_seconds_max: u32::try_from(24 * HOUR).unwrap(),
            limits: ContentRoot::ZERO,
        }
    }

    pub(super) fn config(
        &self,
        number: usize,
        url: &str,
        gateway: Address,
        models: Vec<ModelOffer>,
    ) -> ProviderConfig {
        ProviderConfig {
            gateway: url.to_owned(),
            gateway_identity: gateway,
            signing_key: key(0x60 + u8::try_from(number).unwrap()),
            endpoint: String::new(),
            stake_wei: STAKE,
            models,
            devices: vec![device()],
            requests_max: 8,
            settle_seconds: 600,
            settle_above_wei: u128::from(CAP),
            settle_interval: Duration::from_millis(50),
            reconnect_max: Duration::from_millis(20),
            drain_max: Duration::from_secs(10),
            measures: false,
        }
    }

    pub(super) fn file_books(&self, number: usize) -> Arc<dyn Books> {
        let path = self.folder.path().join(format!("books-{number}"));
        Arc::new(FileBooks::open(Arc::new(RealDisk::new()), &path).unwrap())
    }

    pub(super) async fn provider(
        &self,
        number: usize,
        config: ProviderConfig,
        runtime: Arc<dyn Inference>,
    ) -> Running {
        let parts = ProviderParts {
            escrow: self.escrow(number),
            books: self.file_books(number),
            clock: self.clock(),
            runtimes: vec![runtime],
        };
        let provider = Provider::open(config, parts).await.unwrap();
        let stop = CancellationToken::new();
        let (running, stopping) = (provider.clone(), stop.clone());
        let task = tokio::spawn(async move { running.run(stopping).await });
        Running { provider, stop, task }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.chain.stop().await;
    }
}

pub(super) struct Running {
    pub(super) provider: Provider,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Asks it to end, and waits until it has.
    pub(super) async fn drain(self) -> Provider {
        self.stop.cancel();
        self.task.await.unwrap();
        self.provider
    }

    /// Ends it as a crash does, and waits until nothing of it is left.
    pub(super) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        let rest = Arc::downgrade(&self.provider.0);
        drop(self.provider);
        until("nothing of the provider is left", async || rest.strong_count() == 0).await;
    }
}

/// Waits for what tasks will bring about; a bug, not luck, decides whether it comes.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "never: {what}");
}

pub(super) fn say(text: &str, units_max: u64) -> Generate {
    Generate {
        request_hash: crate::digest::root(text.as_bytes()),
        prompt: Prompt::Text(text.to_owned()),
        choices: 1,
        units_max,
        sampling: Sampling {
            temperature: 0.0,
            top_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        },
        stop: Vec::new(),
        log_probabilities: None,
    }
}

/// An answer whole: its text and usage.
pub(super) async fn whole(
    model: &dyn Inference,
    request: Generate,
) -> Result<(String, u64, u64), InferenceError> {
    let name = request.request_hash;
    let mut pieces = model.generate(request).await?;
    let (mut text, mut usage, mut is_first) = (String::new(), None, true);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        for event in &piece.events {
            if is_first {
                assert_eq!(
                    *event,
                    Event::Request { request_hash: name },
                    "the caller finds his own name of it"
                );
                is_first = false;
            }
            if let Event::Usage { asked, answered } = event {
                usage = Some((*asked, *answered));
            }
        }
        text.push_str(&piece.text);
    }
    let (asked, answered) = usage.expect("an answer ends with its usage");
    Ok((text, asked, answered))
}
