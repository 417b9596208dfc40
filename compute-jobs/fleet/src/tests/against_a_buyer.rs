//! A provider against a gateway that cheats: whatever it signs or does not sign, the provider works at most one increment
//! for nothing, and what it countersigned the chain pays.

use std::sync::Arc;

use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::terms::{BuyerBook, Lock, Shard};
use ashlar_compute_api::transcript::{Decoder, Event, Transcript};
use ashlar_compute_api::vouchers::{Key, LockTerms, Voucher};
use ashlar_compute_api::{Amount, ContentRoot, JobId, LockId, Salt, TranscriptHead};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::runtime::Counting;
use super::world::{CAP, EXPOSURE, HOUR, Running, World, key, root, say, until};
use crate::escrow::Escrow;
use crate::frame::{Incoming, Outbox, Outgoing, encode, outgoing};
use crate::limits::{DOWN_FRAME_BYTES_MAX, UP_FRAME_BYTES_MAX};
use crate::wire::{Ask, Begin, Down, LOCK_PATH, LockAnswer, LockOffer, PROTOCOL, Refused, Up, WORK_PATH};
use crate::{handshake, transport};

const MODEL: u8 = 5;
const PRICE: u64 = 10;

/// A gateway that says what a test has it say.
struct Gateway {
    escrow: Arc<Escrow>,
    session: Key,
    links: mpsc::Receiver<hyper::upgrade::Upgraded>,
    requests: SendRequest<Outgoing>,
    link: CancellationToken,
}

impl Gateway {
    async fn with_provider(world: &World) -> (Self, Running, Arc<Counting>) {
        let (arrived, mut links) = mpsc::channel(4);
        let url = world
            .serve(move |mut request| {
                let (upgrade, arrived) = (hyper::upgrade::on(&mut request), arrived.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = upgrade.await {
                        arrived.send(stream).await.unwrap();
                    }
                });
                let response = http::Response::builder().status(101).header("connection", "upgrade");
                response.header("upgrade", PROTOCOL).body(String::new()).unwrap()
            })
            .await;
        let runtime = Arc::new(Counting::new(root(MODEL)));
        let offers = vec![World::offer(root(MODEL), Kind::Inference, PRICE)];
        let config = world.config(1, &url, key(0x11).address(), offers);
        let running = world.provider(1, config, Arc::clone(&runtime) as _).await;
        let escrow = world.escrow(0);
        let link = CancellationToken::new();
        let requests = linked(world, &escrow, &mut links, link.clone()).await;
        (Self { escrow, session: key(1), links, requests, link }, running, runtime)
    }

    /// Breaks the link and waits for the provider to come again.
    async fn link_again(&mut self, world: &World) {
        self.link.cancel();
        self.link = CancellationToken::new();
        self.requests = linked(world, &self.escrow, &mut self.links, self.link.clone()).await;
    }

    async fn ask(&self, path: &'static str, body: Outgoing) -> Incoming<hyper::body::Incoming> {
        let response = self.requests.clone().send_request(transport::request(path, body)).await.unwrap();
        Incoming::new(response.into_body(), DOWN_FRAME_BYTES_MAX)
    }

    async fn open(&self, world: &World, salt: u8) -> LockTerms {
        let now = world.now();
        let terms = LockTerms {
            provider: world.address(1),
            offer: 1,
            offer_version: 1,
            model_root: root(MODEL),
            unit_price: PRICE.into(),
            cap: CAP.into(),
            exposure_max: EXPOSURE.into(),
            session_key: self.session.address(),
            accept_by: now + 600,
            work_by: now + HOUR,
            settle_by: now + 2 * HOUR,
            salt: Salt([salt; 32]),
        };
        self.escrow.open(&terms, CAP.into()).await.unwrap();
        let offer = LockOffer { buyer: self.escrow.account(), terms };
        let body = Outgoing::once(encode(&offer, UP_FRAME_BYTES_MAX).unwrap());
        let answer: LockAnswer = self.ask(LOCK_PATH, body).await.next().await.unwrap().unwrap();
        assert_eq!(answer, LockAnswer::Accepted);
        terms
    }

    fn id(&self, terms: &LockTerms) -> LockId {
        terms.lock_id(&self.escrow.domain(), self.escrow.account())
    }

    /// Asks for work at a place; what was heard of it, with the stream if there was an answer.
    async fn work(&self, terms: &LockTerms, shard: Shard, fence: u64, units: u64) -> Result<Heard, Refused> {
        let transcript = Transcript::begin(self.id(terms), shard.job, shard.number, fence);
        let (out, body) = outgoing(UP_FRAME_BYTES_MAX);
        let begin = Begin {
            lock: self.id(terms),
            job: shard.job,
            shard: shard.number,
            fence,
            head: transcript.head(),
            level: 1,
            ask: Ask::generate(&say("one two three", units)).unwrap().encode().unwrap(),
        };
        out.send(&Up::Begin(begin)).await.unwrap();
        let said = self.ask(WORK_PATH, body).await;
        let mut heard = Heard { out, said, transcript, shard, fence, units: 0, is_done: false };
        heard.hear().await?;
        Ok(heard)
    }

    fn voucher(&self, terms: &LockTerms, of: &Heard, seq: u32, fee: u64) -> Voucher {
        Voucher {
            lock: self.id(terms),
            provider: terms.provider,
            job: of.shard.job,
            shard: of.shard.number,
            fence: of.fence,
            transcript_head: of.transcript.head(),
            units: of.units,
            cumulative_fee: fee.into(),
            seq,
            settle_by: terms.settle_by,
        }
    }

    async fn pay(&self, of: &mut Heard, voucher: Voucher) -> Result<(), String> {
        let signature = self.session.sign(&self.escrow.domain().voucher_digest(&voucher));
        of.pay(voucher, signature).await
    }
}

/// The link that the provider makes, with the roles on it.
async fn linked(
    world: &World,
    escrow: &Escrow,
    links: &mut mpsc::Receiver<hyper::upgrade::Upgraded>,
    link: CancellationToken,
) -> SendRequest<Outgoing> {
    let mut stream = TokioIo::new(links.recv().await.unwrap());
    let (identity, domain) = (key(0x11), escrow.domain());
    let claimed = handshake::challenge(&mut stream, domain, &identity, rand::random()).await.unwrap();
    assert_eq!((claimed.provider, claimed.signing_key), (world.address(1), key(0x61).address()));
    handshake::answer(&mut stream, &claimed, &identity, Ok(())).await.unwrap();
    let (requests, connection) = transport::asking(stream, &world.tasks, link.clone()).await.unwrap();
    world.tasks.spawn(async move {
        tokio::select! {
            () = link.cancelled() => {}
            _ = connection => {}
        }
    });
    requests
}

/// What a provider said at one place.
struct Heard {
    out: Outbox,
    said: Incoming<hyper::body::Incoming>,
    transcript: Transcript,
    shard: Shard,
    fence: u64,
    units: u64,
    is_done: bool,
}

impl Heard {
    async fn hear(&mut self) -> Result<(), Refused> {
        let mut asked_units = 0;
        while !self.is_done {
            match self.said.next::<Down>().await.unwrap().unwrap() {
                Down::Refused(refused) => return Err(refused),
                Down::Begun { asked } => asked_units = asked,
                Down::Piece { events, .. } => {
                    let (mut decoder, mut bytes) = (Decoder::new(), &events[..]);
                    while let Some(event) = decoder.next(&mut bytes).unwrap() {
                        self.transcript.push(&event).unwrap();
                        match event {
                            Event::Request { .. } => self.units += asked_units,
                            Event::Token { .. } => self.units += 1,
                            Event::Usage { .. } => self.is_done = true,
                            _ => {}
                        }
                    }
                }
                Down::Alive => {}
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    }

    async fn pay(
        &mut self,
        voucher: Voucher,
        signature: ashlar_compute_api::vouchers::Signature,
    ) -> Result<(), String> {
        self.out.send(&Up::Pay { voucher, signature }).await.unwrap();
        loop {
            match self.said.next::<Down>().await.unwrap().unwrap() {
                Down::Receipt { receipt, signature: _ } => {
                    assert_eq!(receipt.voucher_hash, voucher.hash());
                    return Ok(());
                }
                Down::Unpaid { reason } => return Err(reason),
                Down::Alive => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn shard(number: u32) -> Shard {
    Shard { job: JobId([0x77; 32]), number }
}

/// After the time everything is somebody's again.
async fn conserved(world: &World, gateway: &Gateway, locks: &[LockTerms], paid: u128) {
    world.pass(3 * HOUR).await;
    for terms in locks {
        gateway.escrow.close(gateway.id(terms)).await.unwrap();
    }
    assert_eq!(world.locked().await, 0);
    assert_eq!(world.balance(1).await, paid);
    let put_in = u128::from(CAP) * u128::try_from(locks.len()).unwrap();
    assert_eq!(world.balance(0).await, put_in - paid);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_denies_gets_no_more_than_an_increment() {
    let world = World::new().await;
    let (gateway, running, runtime) = Gateway::with_provider(&world).await;
    let terms = gateway.open(&world, 1).await;
    let mut got = 0;
    // Each at a new place, each answered whole, none paid.
    for number in 0..50 {
        match gateway.work(&terms, shard(number), 1, 40).await {
            Ok(heard) => got += heard.units,
            Err(Refused::Money { .. }) => break,
            Err(refused) => panic!("{refused:?}"),
        }
    }
    assert_eq!(got * PRICE / EXPOSURE, 0, "below an increment");
    assert!((got + 43) * PRICE > EXPOSURE, "the next one would be above it");
    let begun = runtime.said.load(std::sync::atomic::Ordering::Relaxed);
    let refused = gateway.work(&terms, shard(60), 1, 40).await;
    assert!(matches!(refused, Err(Refused::Money { .. })));
    assert_eq!(runtime.said.load(std::sync::atomic::Ordering::Relaxed), begun, "nothing ran for it");
    let (earned, exposed) = running.provider.standing().await;
    assert_eq!((earned, exposed), (0, u128::from(got * PRICE)));
    running.drain().await;
    conserved(&world, &gateway, &[terms], 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_vanishes_again_and_again_gets_no_more_than_an_increment() {
    let world = World::new().await;
    let (mut gateway, running, runtime) = Gateway::with_provider(&world).await;
    let terms = gateway.open(&world, 1).await;
    runtime.allowed.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let mut fence = 0;
    let mut rounds = 0;
    loop {
        fence += 1;
        let (out, body) = outgoing(UP_FRAME_BYTES_MAX);
        let transcript = Transcript::begin(gateway.id(&terms), shard(0).job, 0, fence);
        let begin = Begin {
            lock: gateway.id(&terms),
            job: shard(0).job,
            shard: 0,
            fence,
            head: transcript.head(),
            level: 1,
            ask: Ask::generate(&say("one two three", 60)).unwrap().encode().unwrap(),
        };
        out.send(&Up::Begin(begin)).await.unwrap();
        let mut said = gateway.ask(WORK_PATH, body).await;
        runtime.allowed.add_permits(20);
        let mut tokens = 0;
        let mut refused = None;
        while tokens < 20 && refused.is_none() {
            match said.next::<Down>().await.unwrap().unwrap() {
                Down::Piece { events, .. } if events[0] == 2 => tokens += 1,
                Down::Refused(found) => refused = Some(found),
                _ => {}
            }
        }
        if let Some(refused) = refused {
            assert!(matches!(refused, Refused::Money { .. }), "{refused:?}");
            break;
        }
        rounds += 1;
        // Gone in the middle of it, and here again with a new lease.
        gateway.link_again(&world).await;
        until("the work has ended", async || {
            let (earned, exposed) = running.provider.standing().await;
            assert!(earned == 0 && exposed <= u128::from(EXPOSURE));
            exposed == u128::from(rounds * 23 * PRICE)
        })
        .await;
    }
    assert!(rounds >= 5, "each time what was told stays in the sum, and no more: {rounds}");
    running.drain().await;
    conserved(&world, &gateway, &[terms], 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_spends_twice_is_refused_and_what_was_countersigned_is_paid() {
    let world = World::new().await;
    let (gateway, running, _) = Gateway::with_provider(&world).await;
    let (one, two) = (gateway.open(&world, 1).await, gateway.open(&world, 2).await);
    let mut heard = gateway.work(&one, shard(0), 1, 40).await.unwrap();
    let fee = heard.units * PRICE;
    let good = gateway.voucher(&one, &heard, 1, fee);
    let refusal = async |heard: &mut Heard, voucher: Voucher| gateway.pay(heard, voucher).await.unwrap_err();
    // Before anything is good: a head, a count, a fee, a key, a lock that are not.
    let strange = Voucher { transcript_head: TranscriptHead([9; 32]), ..good };
    assert!(refusal(&mut heard, strange).await.contains("head"));
    assert!(refusal(&mut heard, Voucher { units: good.units - 1, ..good }).await.contains("units"));
    assert!(refusal(&mut heard, Voucher { units: good.units + 1, ..good }).await.contains("units"));
    assert!(refusal(&mut heard, Voucher { cumulative_fee: (fee + 1).into(), ..good }).await.contains("fee"));
    assert!(
        refusal(&mut heard, Voucher { settle_by: good.settle_by + 1, ..good }).await.contains("settles by")
    );
    assert!(refusal(&mut heard, Voucher { seq: 2, ..good }).await.contains("seq"));
    assert!(refusal(&mut heard, Voucher { fence: 2, ..good }).await.contains("fence"));
    assert!(refusal(&mut heard, Voucher { lock: gateway.id(&two), ..good }).await.contains("lock"));
    let signature = key(0x44).sign(&gateway.escrow.domain().voucher_digest(&good));
    assert!(heard.pay(good, signature).await.unwrap_err().contains("signed"));
    gateway.pay(&mut heard, good).await.unwrap();
    // The same again is the same receipt; another with its number is none.
    gateway.pay(&mut heard, good).await.unwrap();
    let cheaper = Voucher { cumulative_fee: Amount::from(fee - PRICE), ..good };
    assert!(refusal(&mut heard, cheaper).await.contains("countersigned"));
    drop(heard);
    // The shard again under another lock: it is worked, because nobody knows yet, and not paid twice.
    let mut again = gateway.work(&two, shard(0), 1, 40).await.unwrap();
    let second = gateway.voucher(&two, &again, 1, fee);
    assert!(refusal(&mut again, second).await.contains("has a receipt for this shard"));
    let (earned, exposed) = running.provider.standing().await;
    assert_eq!((earned, exposed), (u128::from(fee), u128::from(fee)));
    assert!(exposed <= u128::from(EXPOSURE));
    drop(again);
    running.drain().await;
    assert_eq!(world.balance(1).await, u128::from(fee), "all that was countersigned is paid");
    conserved(&world, &gateway, &[one, two], u128::from(fee)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_pays_ahead_is_one_increment_at_most() {
    let world = World::new().await;
    let (gateway, running, _) = Gateway::with_provider(&world).await;
    let terms = gateway.open(&world, 1).await;
    let lock = Lock {
        domain: gateway.escrow.domain(),
        buyer: gateway.escrow.account(),
        signing_key: key(0x61).address(),
        terms,
    };
    // The buyer's own book holds him to it.
    let mut book = BuyerBook::open(lock).unwrap();
    book.begin(shard(0), 1).unwrap();
    assert!(book.check(shard(0), EXPOSURE.into(), world.now()).is_ok());
    assert!(book.check(shard(0), (EXPOSURE + 1).into(), world.now()).is_err());
    assert_eq!(lock.check(), Ok(()));
    assert_ne!(lock.terms.model_root, ContentRoot::ZERO);
    running.drain().await;
    conserved(&world, &gateway, &[terms], 0).await;
    world.end().await;
}
