//! A gateway against providers that cheat: its client is answered by another where that is still possible, and nobody is
//! paid for what was not heard.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ashlar_compute_api::inference::{Inference as _, InferenceError};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::terms::Shard;
use ashlar_compute_api::transcript::{Event, FinishReason};
use ashlar_compute_api::vouchers::{Key, Receipt, Settlement};
use ashlar_compute_api::{Address, ContentRoot};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use super::runtime::Counting;
use super::world::{CAP, EXPOSURE, HOUR, MemoryBooks, World, device, key, root, say, until, whole};
use crate::Placed;
use crate::escrow::{Escrow, OfferTerms};
use crate::frame::{Incoming, Outbox, Outgoing, outgoing};
use crate::limits::{DOWN_FRAME_BYTES_MAX, UP_FRAME_BYTES_MAX};
use crate::sampling::{DEFAULT_TOLERANCE_NATS, Fraction, Sampling, Worked, compare};
use crate::wire::{
    Begin, DESCRIBE_PATH, Description, Down, LOCK_PATH, LockAnswer, LockOffer, Notice, OfferedModel, Up,
    WORK_PATH,
};
use crate::{handshake, provider, transport};

const MODEL: u8 = 5;
const HONEST_PRICE: u64 = 20;
const EVIL_PRICE: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// Ends the answer in the middle, as if that were all.
    Truncates,
    /// Answers the second request with what it said to the first.
    Replays,
    /// Claims that more was asked than was.
    InflatesAsked,
    /// Claims that more was answered than was.
    InflatesAnswered,
    /// Countersigns with a key that is not its own.
    OtherKey,
    /// Countersigns for another model than the lock's.
    OtherModel,
    /// Says that something else was answered.
    OtherAnswer,
    /// Its link breaks once it has the request.
    Dies,
    /// Says nothing once it has the request.
    GoesSilent,
    /// Speaks before it was counted what was asked.
    OutOfTurn,
    /// Sends bytes that are no message.
    Babbles,
    /// Takes the voucher and gives no receipt.
    KeepsReceipt,
    /// Says more tokens than were asked for.
    Overruns,
}

const ATTACKS: [Attack; 13] = [
    Attack::Truncates,
    Attack::Replays,
    Attack::InflatesAsked,
    Attack::InflatesAnswered,
    Attack::OtherKey,
    Attack::OtherModel,
    Attack::OtherAnswer,
    Attack::Dies,
    Attack::GoesSilent,
    Attack::OutOfTurn,
    Attack::Babbles,
    Attack::KeepsReceipt,
    Attack::Overruns,
];

struct Evil {
    attack: Attack,
    escrow: Arc<Escrow>,
    signing: Key,
    model: OfferedModel,
    requests: AtomicU32,
    first_ask: Mutex<Option<ContentRoot>>,
    /// Everything with two good signatures: what it can settle.
    receipts: Mutex<Vec<Settlement>>,
    dead: CancellationToken,
}

impl Evil {
    async fn link(world: &World, url: &str, gateway: Address, attack: Attack) -> Arc<Self> {
        let (escrow, signing) = (world.escrow(1), key(0x61));
        escrow.register(signing.address(), "", super::world::STAKE).await.unwrap();
        let offer = World::offer(root(MODEL), Kind::Inference, EVIL_PRICE);
        let terms = OfferTerms {
            kind: offer.kind.number(),
            unit_price: offer.unit_price,
            cap_min: offer.cap_min,
            cap_max: offer.cap_max,
            work_seconds_max: offer.work_seconds_max,
            model_root: offer.root,
            limits: offer.limits,
        };
        escrow.publish_offer(1, &terms).await.unwrap();
        let model = OfferedModel {
            offer: 1,
            offer_version: 1,
            kind: terms.kind,
            root: terms.model_root,
            is_claimed: false,
            determinism_class: ContentRoot::ZERO,
            context_units_max: super::runtime::CONTEXT,
            unit_price: terms.unit_price,
            units_per_second: 1_000_000,
        };
        let evil = Arc::new(Self {
            attack,
            escrow,
            signing,
            model,
            requests: AtomicU32::new(0),
            first_ask: Mutex::default(),
            receipts: Mutex::default(),
            dead: CancellationToken::new(),
        });
        let mut stream = provider::dial(url).await.unwrap();
        let (domain, account) = (evil.escrow.domain(), evil.escrow.account());
        let joined = handshake::join(&mut stream, domain, gateway, account, &evil.signing, rand::random());
        joined.await.unwrap();
        let (of, tasks, stop) = (Arc::clone(&evil), world.tasks.clone(), world.stop.clone());
        world.tasks.spawn(async move {
            let (dead, group) = (of.dead.clone(), tasks.clone());
            let answer = move |request| {
                let (of, tasks) = (Arc::clone(&of), tasks.clone());
                async move { Ok::<_, Infallible>(of.answer(request, &tasks)) }
            };
            tokio::select! {
                () = dead.cancelled() => {}
                () = stop.cancelled() => {}
                _ = transport::answering(stream, &group, answer, std::future::pending()) => {}
            }
        });
        evil
    }

    fn answer(
        self: Arc<Self>,
        request: http::Request<hyper::body::Incoming>,
        tasks: &tokio_util::task::TaskTracker,
    ) -> http::Response<Outgoing> {
        let (out, body) = outgoing(DOWN_FRAME_BYTES_MAX);
        let path = request.uri().path().to_owned();
        tasks.spawn(async move {
            let mut asked = Incoming::new(request.into_body(), UP_FRAME_BYTES_MAX);
            match path.as_str() {
                DESCRIBE_PATH => {
                    let description = Description {
                        devices: vec![device()].try_into().unwrap(),
                        models: vec![self.model.clone()].try_into().unwrap(),
                        requests_max: 4,
                    };
                    out.send(&Notice::Is(description)).await.unwrap();
                    out.closed().await;
                }
                LOCK_PATH => {
                    let offer: LockOffer = asked.next().await.unwrap().unwrap();
                    let lock = offer.terms.lock_id(&self.escrow.domain(), offer.buyer);
                    self.escrow.accept(lock).await.unwrap();
                    out.send(&LockAnswer::Accepted).await.unwrap();
                }
                WORK_PATH => {
                    let Ok(Some(Up::Begin(begin))) = asked.next().await else { return };
                    // The gateway leaves as soon as it has heard enough.
                    let _ = self.work(&begin, &out, &mut asked).await;
                }
                _ => {}
            }
        });
        http::Response::new(body)
    }

    async fn work(
        &self,
        begin: &Begin,
        out: &Outbox,
        asked: &mut Incoming<hyper::body::Incoming>,
    ) -> Result<(), crate::FrameError> {
        let is_first = self.requests.fetch_add(1, Ordering::Relaxed) == 0;
        let mut request_hash = crate::digest::root(&begin.ask);
        if self.attack == Attack::Replays {
            request_hash = *self.first_ask.lock().get_or_insert(request_hash);
        }
        let units = match crate::wire::Ask::decode(&begin.ask).unwrap().answered_units_max() {
            units if self.attack == Attack::Overruns => units + 1,
            units => units,
        };
        let is_told = self.attack != Attack::OutOfTurn;
        match self.attack {
            Attack::Dies => {
                self.dead.cancel();
                return Ok(());
            }
            Attack::GoesSilent => {
                out.closed().await;
                return Ok(());
            }
            Attack::InflatesAsked => out.send(&Down::Begun { asked: 1 << 40 }).await?,
            _ if is_told => out.send(&Down::Begun { asked: 3 }).await?,
            _ => {}
        }
        let piece = |events: &[Event]| Down::Piece {
            events: events.iter().flat_map(Event::to_bytes).collect(),
            text: String::new(),
            likelihoods: Default::default(),
            payable: true,
        };
        if self.attack == Attack::Babbles {
            out.send(&(0xffu8, 0xffu8)).await?;
        }
        let mut response = blake3::Hasher::new();
        out.send(&piece(&[Event::Request { request_hash }])).await?;
        for id in 0..u32::try_from(units).unwrap() {
            if self.attack == Attack::Truncates && u64::from(id) > units / 2 {
                return Ok(());
            }
            let token = Event::Token { choice: 0, id };
            response.update(&token.to_bytes());
            out.send(&piece(&[token])).await?;
        }
        let more = u64::from(self.attack == Attack::InflatesAnswered);
        let end = [
            Event::Finish { choice: 0, reason: FinishReason::Length },
            Event::Usage { asked: 3, answered: units + more },
        ];
        for event in &end {
            response.update(&event.to_bytes());
        }
        out.send(&piece(&end)).await?;
        while let Some(Up::Pay { voucher, signature }) = asked.next().await? {
            if self.attack == Attack::KeepsReceipt {
                continue;
            }
            let other = key(0x99);
            let signing = if self.attack == Attack::OtherKey { &other } else { &self.signing };
            let response_hash = match self.attack {
                Attack::OtherAnswer => root(0xee),
                _ => ContentRoot(*response.finalize().as_bytes()),
            };
            let receipt = Receipt {
                voucher_hash: voucher.hash(),
                model_root: if self.attack == Attack::OtherModel { root(0xee) } else { root(MODEL) },
                request_hash,
                response_hash,
                output_root: ContentRoot::ZERO,
                usage: voucher.units,
                determinism_class: ContentRoot::ZERO,
                level: 1,
            };
            let domain = self.escrow.domain();
            let honest = Receipt { model_root: root(MODEL), ..receipt };
            // What it can settle it signs well, whatever it tells the gateway.
            self.receipts.lock().push(Settlement {
                voucher,
                receipt: honest,
                buyer: signature,
                provider: self.signing.sign(&domain.receipt_digest(&honest)),
            });
            let signature = signing.sign(&domain.receipt_digest(&receipt));
            out.send(&Down::Receipt { receipt, signature }).await?;
        }
        assert!(is_first || self.attack != Attack::Replays, "a replay is not paid");
        Ok(())
    }
}

async fn attacked(attack: Attack, units: u64) {
    let world = World::new().await;
    let hub = world.hub(Arc::new(MemoryBooks::default())).await;
    let url = world.serve_hub(&hub).await;
    let evil = Evil::link(&world, &url, hub.identity(), attack).await;
    until("the cheap provider has a lock", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    let offers = vec![World::offer(root(MODEL), Kind::Inference, HONEST_PRICE)];
    let config = world.config(2, &url, hub.identity(), offers);
    let honest = world.provider(2, config, Arc::new(Counting::new(root(MODEL)))).await;
    until("both are linked and have locks", async || {
        let linked = hub.providers();
        linked.len() == 2 && linked.iter().all(|provider| provider.offers_ready == 1)
    })
    .await;
    assert_eq!(world.locked().await, 2 * u128::from(CAP));
    let model = hub.model(root(MODEL)).unwrap();
    // Units that the cheap one said and the gateway heard in answers that are as they should be.
    let mut earned = 0;
    if attack == Attack::Replays {
        whole(&model, say("one two three", units)).await.unwrap();
        earned += 3 + units;
    }
    let answer = whole(&model, say("one two four", units)).await;
    let is_cut_off = matches!(answer, Err(InferenceError::Failed { .. }));
    match attack {
        // The client has heard something: there is no other answer to it.
        Attack::Truncates | Attack::InflatesAnswered | Attack::Overruns => {
            assert!(is_cut_off, "{attack:?}: {answer:?}");
        }
        // Its answer was whole; what is wrong is the money.
        Attack::OtherKey | Attack::OtherModel | Attack::OtherAnswer | Attack::KeepsReceipt => {
            assert_eq!(answer.unwrap().2, units, "{attack:?}");
            earned += 3 + units;
        }
        // Nothing was heard: the honest one answers.
        _ => assert_eq!(answer.unwrap().2, units, "{attack:?}"),
    }
    let (_, is_suspended) = hub.reputation(world.address(1));
    let is_deceit = matches!(
        attack,
        Attack::Replays
            | Attack::InflatesAsked
            | Attack::InflatesAnswered
            | Attack::OutOfTurn
            | Attack::Babbles
            | Attack::Overruns
    );
    assert_eq!(is_suspended, is_deceit, "{attack:?}");
    // It leaves and settles all that it has, and more is not to be had.
    evil.dead.cancel();
    honest.drain().await;
    let receipts = evil.receipts.lock().clone();
    if !receipts.is_empty() {
        evil.escrow.settle(&receipts).await.unwrap();
    }
    let (paid, worth) = (world.balance(1).await, u128::from(earned * EVIL_PRICE));
    // An answer that broke off was paid as far as it had come by then, at most.
    let heard = worth + if is_cut_off { u128::from((3 + units) * EVIL_PRICE) } else { 0 };
    assert!(paid <= heard, "{attack:?}: {paid} wei for {heard}");
    assert!(paid <= worth + u128::from(EXPOSURE), "{attack:?}: more than an increment was lost");
    world.pass(8 * HOUR).await;
    hub.tidy().await;
    assert_eq!(world.locked().await, 0, "{attack:?}");
    let all = world.balance(0).await + world.balance(1).await + world.balance(2).await;
    assert_eq!(all, 2 * u128::from(CAP), "{attack:?}: money is conserved");
    hub.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheating_provider_gains_nothing() {
    let seed = std::env::var("ASHLAR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    eprintln!("ASHLAR_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for attack in ATTACKS {
        // Its worst case fits an increment at either price.
        let units = random.random_range(2..EXPOSURE / HONEST_PRICE - 3);
        eprintln!("{attack:?}, {units} units");
        attacked(attack, units).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plausible_garbage_is_found_by_a_sample_and_ends_in_suspension() {
    let seed = std::env::var("ASHLAR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    eprintln!("ASHLAR_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new().await;
    let hub = world.hub(Arc::new(MemoryBooks::default())).await;
    let url = world.serve_hub(&hub).await;
    let offer = |price| vec![World::offer(root(MODEL), Kind::Embedding, price)];
    // The cheap one is right but for every third unit, and there by a millionth only.
    let wrong = Counting::wrong_every(3, root(MODEL));
    let config = world.config(1, &url, hub.identity(), offer(EVIL_PRICE));
    let cheap = world.provider(1, config, Arc::new(wrong)).await;
    until("the cheap one has a lock", async || hub.is_ready(root(MODEL), Kind::Embedding)).await;
    let config = world.config(2, &url, hub.identity(), offer(HONEST_PRICE));
    let trusted = world.provider(2, config, Arc::new(Counting::new(root(MODEL)))).await;
    until("both have locks", async || {
        let linked = hub.providers();
        linked.len() == 2 && linked.iter().all(|provider| provider.offers_ready == 1)
    })
    .await;
    let job = ashlar_compute_api::JobId([0x33; 32]);
    let fraction = Fraction::from_millionths(250_000).unwrap();
    let sampling = Sampling::new(job, random.random(), fraction);
    let model = hub.model(root(MODEL)).unwrap();
    let (worker, checker) = (model.clone().except(world.address(2)), model.on(world.address(2)));
    let worked = |rows| Worked { determinism_class: root(0xc1), rows };
    let mut found = None;
    // Not to find it in so many has odds of (11/12)⁴⁰⁰.
    for number in 0..400 {
        let placed = Placed { shard: Shard { job, number }, fence: 1 };
        let texts = vec![format!("text {number}")];
        let unit = worker.embed_unit(placed, texts.clone()).await.unwrap();
        assert_eq!(unit.provider, world.address(1));
        if sampling.is_sampled(number) {
            let checked = checker.embed(texts).await.unwrap();
            let verdict = compare(&worked(unit.rows), &worked(checked.vectors), DEFAULT_TOLERANCE_NATS);
            if !hub.judge(unit.provider, &verdict).is_paid_on {
                found = Some(number);
                break;
            }
        }
    }
    assert!(found.is_some(), "a third was wrong and a quarter was looked at");
    assert!(hub.reputation(world.address(1)).1, "it is suspended");
    assert!(!hub.reputation(world.address(2)).1);
    until("its link is cut", async || hub.providers().len() == 1).await;
    cheap.drain().await;
    trusted.drain().await;
    hub.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_was_lost_is_asked_for_again_and_is_the_same() {
    let world = World::new().await;
    let books = Arc::new(MemoryBooks::default());
    let hub = world.hub(Arc::clone(&books) as _).await;
    let url = world.serve_hub(&hub).await;
    let offers = || vec![World::offer(root(MODEL), Kind::Inference, HONEST_PRICE)];
    let config = world.config(2, &url, hub.identity(), offers());
    let honest = world.provider(2, config, Arc::new(Counting::new(root(MODEL)))).await;
    until("a lock is ready", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    let model = hub.model(root(MODEL)).unwrap();
    whole(&model, say("one", 9)).await.unwrap();
    let worth = u128::from(10 * HONEST_PRICE);
    until("it is paid", async || honest.provider.standing().await == (worth, 0)).await;
    // Opened, accepted, a place begun, the voucher, its receipt.
    until("the gateway has the receipt", async || books.1.lock().len() == 5).await;
    // As if it had crashed before the receipt came.
    let before = books.1.lock()[3].clone();
    honest.kill().await;
    hub.close().await;
    let kept = MemoryBooks::default();
    kept.0.lock().extend([before]);
    let kept = Arc::new(kept);
    let hub = world.hub(Arc::clone(&kept) as _).await;
    let url = world.serve_hub(&hub).await;
    let config = world.config(2, &url, hub.identity(), offers());
    let honest = world.provider(2, config, Arc::new(Counting::new(root(MODEL)))).await;
    until("the lock is ready again", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    assert_eq!(honest.provider.standing().await, (worth, 0), "nothing was countersigned twice");
    let model = hub.model(root(MODEL)).unwrap();
    whole(&model, say("one", 9)).await.unwrap();
    until("it is paid", async || honest.provider.standing().await == (2 * worth, 0)).await;
    honest.drain().await;
    assert_eq!(world.balance(2).await, 2 * worth);
    hub.close().await;
    world.end().await;
}
