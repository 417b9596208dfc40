//! Normal life: link, lock, answer, vouchers, settlement, restart, drain.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ashlar_compute_api::inference::{Classify, Inference, InferenceError};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::terms::Shard;
use ashlar_compute_api::{JobId, LockId};
use futures::StreamExt as _;

use super::runtime::Counting;
use super::world::{CAP, EXPOSURE, HOUR, MemoryBooks, World, key, root, say, until, whole};
use crate::{LinkRefusal, Placed};

const MODEL: u8 = 5;
const PRICE: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_paid_to_the_last_unit_and_settled_on_the_chain() {
    let world = World::new().await;
    let books = Arc::new(MemoryBooks::default());
    let hub = world.hub(Arc::clone(&books) as _).await;
    let url = world.serve_hub(&hub).await;
    let offers = vec![World::offer(root(MODEL), Kind::Inference, PRICE)];
    let config = world.config(1, &url, hub.identity(), offers);
    let running = world.provider(1, config, Arc::new(Counting::new(root(MODEL)))).await;
    until("a lock is ready", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    assert_eq!(world.locked().await, u128::from(CAP));
    let model = hub.model(root(MODEL)).unwrap();
    assert_eq!(model.units(&say("one two three", 1).prompt).await, Ok(3));

    let mut units = 0;
    for round in 1..=5 {
        let (text, asked, answered) = whole(&model, say("one two three", 20 * round)).await.unwrap();
        assert_eq!((asked, answered), (3, 20 * round));
        assert!(text.starts_with("0 1 2 "));
        units += asked + answered;
        // Two of the longest unpaid would be above the increment.
        let worth = u128::from(units * PRICE);
        until("it is receipted", async || running.provider.standing().await == (worth, 0)).await;
    }
    // Several at a time, each at a place of its own.
    let many = (0..6).map(|_| whole(&model, say("a b", 10)));
    for answer in futures::future::join_all(many).await {
        let (_, asked, answered) = answer.unwrap();
        units += asked + answered;
    }
    let worth = u128::from(units * PRICE);
    until("all is receipted", async || running.provider.standing().await == (worth, 0)).await;
    assert_eq!(hub.signed_wei().await, worth);

    // What no model can answer, and what no increment carries.
    let too_long = whole(&model, say("a", 5_000)).await;
    assert!(matches!(too_long, Err(InferenceError::TooLong { .. })), "{too_long:?}");
    let too_dear = whole(&model, say("a", EXPOSURE / PRICE)).await;
    assert!(matches!(too_dear, Err(InferenceError::Busy { .. })), "{too_dear:?}");
    let huge = whole(&model, say(&"word ".repeat(2_000_000), 1)).await;
    assert!(matches!(huge, Err(InferenceError::Invalid { .. })));
    assert_eq!(running.provider.standing().await, (worth, 0), "refusals leave no mark");

    running.drain().await;
    assert_eq!(world.balance(1).await, worth, "draining settles");
    assert_eq!(world.locked().await, u128::from(CAP) - worth);
    until("the gateway notices", async || hub.providers().is_empty()).await;
    assert!(hub.model(root(MODEL)).is_none());

    // After its time the rest of the lock comes back without anybody's consent.
    world.pass(8 * HOUR).await;
    hub.tidy().await;
    assert_eq!(world.locked().await, 0);
    assert_eq!(world.balance(0).await, u128::from(CAP) - worth);
    assert!(books.0.lock().is_empty(), "what is over is forgotten");
    hub.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_units_of_jobs_are_worked_and_paid() {
    let world = World::new().await;
    let hub = world.hub(Arc::new(MemoryBooks::default())).await;
    let url = world.serve_hub(&hub).await;
    let offers = vec![
        World::offer(root(MODEL), Kind::Embedding, PRICE),
        World::offer(root(MODEL), Kind::Labeling, 2 * PRICE),
    ];
    let config = world.config(1, &url, hub.identity(), offers);
    let running = world.provider(1, config, Arc::new(Counting::new(root(MODEL)))).await;
    let kinds = [Kind::Embedding, Kind::Labeling];
    until("locks are ready", async || kinds.iter().all(|kind| hub.is_ready(root(MODEL), *kind))).await;
    let model = hub.model(root(MODEL)).unwrap();
    let texts = || vec!["some spam".to_owned()];
    let embedded = model.embed(texts()).await.unwrap();
    assert_eq!((embedded.vectors, embedded.units), (vec![vec![9.0, 0.5]], 2));
    let labels = vec!["ham".to_owned(), "spam".to_owned()];
    let asked = Classify { texts: texts(), labels, instructions: None };
    let classified = model.classify(asked.clone()).await.unwrap();
    assert_eq!(classified.log_probabilities, [[-2.0, -0.1]]);
    let placed = Placed { shard: Shard { job: JobId([7; 32]), number: 3 }, fence: 4 };
    let unit = model.embed_unit(placed, texts()).await.unwrap();
    assert_eq!((unit.provider, unit.units), (world.address(1), 2));
    assert_eq!(unit.rows, vec![vec![9.0, 0.5]]);
    // The lease is over: nothing is worked under its fence again, and under the next one it goes on.
    let again = model.embed_unit(placed, texts()).await;
    assert!(matches!(again, Err(InferenceError::Busy { .. })), "{again:?}");
    let next = Placed { fence: 5, ..placed };
    model.embed_unit(next, texts()).await.unwrap();
    let worth = u128::from(2 * PRICE * 3 + 2 * 2 * PRICE);
    until("all is receipted", async || running.provider.standing().await == (worth, 0)).await;
    running.drain().await;
    assert_eq!(world.balance(1).await, worth);
    hub.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_pays_what_it_heard_and_stops_the_work() {
    let world = World::new().await;
    let hub = world.hub(Arc::new(MemoryBooks::default())).await;
    let url = world.serve_hub(&hub).await;
    let runtime = Arc::new(Counting::held(root(MODEL)));
    let offers = vec![World::offer(root(MODEL), Kind::Inference, PRICE)];
    let config = world.config(1, &url, hub.identity(), offers);
    let running = world.provider(1, config, Arc::clone(&runtime) as _).await;
    until("a lock is ready", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    let model = hub.model(root(MODEL)).unwrap();
    let mut pieces = model.generate(say("a b c", 100)).await.unwrap();
    runtime.allowed.add_permits(7);
    for _ in 0..8 {
        pieces.next().await.unwrap().unwrap();
    }
    drop(pieces);
    let worth = u128::from((3 + 7) * PRICE);
    until("what was heard is paid", async || running.provider.standing().await == (worth, 0)).await;
    // The place stands whole: the next answer goes on in it.
    runtime.allowed.add_permits(5);
    assert_eq!(whole(&model, say("a", 5)).await.unwrap().2, 5);
    let worth = worth + u128::from(6 * PRICE);
    until("it is paid", async || running.provider.standing().await == (worth, 0)).await;
    running.drain().await;
    hub.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_room_the_answer_is_busy_at_once() {
    let world = World::new().await;
    let hub = world.hub(Arc::new(MemoryBooks::default())).await;
    let url = world.serve_hub(&hub).await;
    let runtime = Arc::new(Counting::held(root(MODEL)));
    let offers = vec![World::offer(root(MODEL), Kind::Inference, PRICE)];
    let mut config = world.config(1, &url, hub.identity(), offers);
    config.requests_max = 1;
    let running = world.provider(1, config, Arc::clone(&runtime) as _).await;
    until("a lock is ready", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    let model = hub.model(root(MODEL)).unwrap();
    let first = model.generate(say("a", 5)).await.unwrap();
    assert!(!hub.is_ready(root(MODEL), Kind::Inference));
    let refused = whole(&model, say("a", 5)).await;
    assert!(matches!(refused, Err(InferenceError::Busy { .. })), "{refused:?}");
    assert_eq!(runtime.said.load(Ordering::Relaxed), 1, "the second was never begun");
    runtime.allowed.add_permits(5);
    let rest: Vec<_> = first.collect().await;
    assert!(rest.iter().all(Result::is_ok));
    until("there is room again", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    running.drain().await;
    hub.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_go_on_after_a_crash_with_what_was_stored() {
    let world = World::new().await;
    let books = Arc::new(MemoryBooks::default());
    let hub = world.hub(Arc::clone(&books) as _).await;
    let url = world.serve_hub(&hub).await;
    let offers = || vec![World::offer(root(MODEL), Kind::Inference, PRICE)];
    let config = world.config(1, &url, hub.identity(), offers());
    let running = world.provider(1, config, Arc::new(Counting::new(root(MODEL)))).await;
    until("a lock is ready", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    let model = hub.model(root(MODEL)).unwrap();
    whole(&model, say("a b", 18)).await.unwrap();
    let worth = u128::from(20 * PRICE);
    until("it is paid", async || running.provider.standing().await == (worth, 0)).await;
    running.kill().await;
    until("the gateway notices", async || hub.providers().is_empty()).await;
    hub.close().await;

    // A new gateway process with the same books, and a new provider process with the same folder.
    let hub = world.hub(Arc::clone(&books) as _).await;
    let url = world.serve_hub(&hub).await;
    let config = world.config(1, &url, hub.identity(), offers());
    let running = world.provider(1, config, Arc::new(Counting::new(root(MODEL)))).await;
    until("the lock is ready again", async || hub.is_ready(root(MODEL), Kind::Inference)).await;
    assert_eq!(world.locked().await, u128::from(CAP), "no second lock was opened");
    assert_eq!(running.provider.standing().await, (worth, 0));
    let model = hub.model(root(MODEL)).unwrap();
    whole(&model, say("a b", 18)).await.unwrap();
    until("it is paid", async || running.provider.standing().await == (2 * worth, 0)).await;
    running.drain().await;
    assert_eq!(world.balance(1).await, 2 * worth);
    hub.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_needs_the_registered_key_and_the_right_gateway() {
    let world = World::new().await;
    let hub = world.hub(Arc::new(MemoryBooks::default())).await;
    let url = world.serve_hub(&hub).await;
    let offers = || vec![World::offer(root(MODEL), Kind::Inference, PRICE)];
    let failure = async |running: &super::world::Running| {
        let mut found = String::new();
        until("a link fails", async || {
            found = running.provider.status().last_failure.unwrap_or_default();
            !found.is_empty()
        })
        .await;
        found
    };
    // One that was told of another gateway does not sign for this one.
    let config = world.config(1, &url, key(0x77).address(), offers());
    let running = world.provider(1, config, Arc::new(Counting::new(root(MODEL)))).await;
    assert!(failure(&running).await.contains("another was to be reached"));
    running.kill().await;
    // A suspended one is told so.
    hub.note(world.address(2), crate::Outcome::Mismatched);
    let config = world.config(2, &url, hub.identity(), offers());
    let running = world.provider(2, config, Arc::new(Counting::new(root(MODEL)))).await;
    assert_eq!(failure(&running).await, LinkRefusal::Suspended.to_string());
    running.kill().await;
    assert!(hub.providers().is_empty());
    assert_eq!(world.locked().await, 0);
    let no_lock = world.escrow(0).lock(LockId([9; 32])).await.unwrap();
    assert_eq!(no_lock, None);
    hub.close().await;
    world.end().await;
}
