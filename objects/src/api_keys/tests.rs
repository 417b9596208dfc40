//! Keys in their life, and caps that hold whatever crashes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ashlar_metadata::{MemoryKv, OrderedKv};

use super::*;
use crate::access::RequestContext;
use crate::testing::{anonymous_request, request_of};
use crate::users::Users;

struct World {
    kv: Arc<dyn OrderedKv>,
    keys: ApiKeys,
    users: Users,
    now: Arc<AtomicI64>,
    root: RequestContext,
}

fn keys_on(kv: &Arc<dyn OrderedKv>, now: &Arc<AtomicI64>) -> ApiKeys {
    ApiKeys::new(Arc::clone(kv), Clock::Manual(Arc::clone(now)), TaskTracker::new())
}

async fn world() -> World {
    let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::new());
    let now = Arc::new(AtomicI64::new(1_000));
    let (keys, users) = (keys_on(&kv, &now), Users::for_tests(Arc::clone(&kv)));
    let root = request_of("root", true);
    for name in ["ann", "bob"] {
        users.add_user(&root, name).await.unwrap();
    }
    World { kv, keys, users, now, root }
}

impl World {
    async fn of(&self, name: &str) -> RequestContext {
        request_of(&self.users.by_name(name).await.unwrap().unwrap().id, false)
    }

    async fn key(&self, spend_cap: Option<u128>) -> NewApiKey {
        let spec = ApiKeySpec { name: "ci".into(), spend_cap, ..ApiKeySpec::default() };
        self.keys.create(&self.root, "ann", spec).await.unwrap()
    }

    async fn spent(&self) -> u128 {
        self.keys.list(&self.root, Some("ann"), None).await.unwrap().0[0].spent
    }
}

#[tokio::test]
async fn a_key_stands_for_its_user_until_it_expires_or_is_removed() {
    let world = world().await;
    let spec = ApiKeySpec {
        name: "notebook".into(),
        expires: Some(UnixMillis(2_000)),
        routes: Some(BTreeSet::from(["chat".into()])),
        models: Some(BTreeSet::from(["small".into()])),
        spend_cap: Some(7),
    };
    let made = world.keys.create(&world.of("ann").await, "ann", spec.clone()).await.unwrap();
    let Presented::Known(identity, facts) = world.keys.present(made.secret.expose()).await.unwrap() else {
        panic!("a key that was just made is known");
    };
    let ann = world.users.by_name("ann").await.unwrap().unwrap();
    assert_eq!((&identity.id, identity.name.as_str(), identity.root), (&ann.id, "ann", false));
    assert_eq!((&facts.spec, &*facts), (&spec, &made.facts));
    let mut wrong = made.secret.expose().to_owned();
    let last = if wrong.pop() == Some('A') { 'B' } else { 'A' };
    wrong.push(last);
    for text in [wrong.as_str(), "", "sk-ashlar-", &"x".repeat(2_000)] {
        assert_eq!(world.keys.present(text).await.unwrap(), Presented::Unknown, "{text}");
    }
    world.now.store(2_000, Ordering::Relaxed);
    assert_eq!(world.keys.present(made.secret.expose()).await.unwrap(), Presented::Expired);
    world.now.store(1_000, Ordering::Relaxed);
    world.keys.remove(&world.of("ann").await, &made.facts.id).await.unwrap();
    assert_eq!(world.keys.present(made.secret.expose()).await.unwrap(), Presented::Unknown);
    assert_eq!(world.keys.standing(&made.facts.id).await.unwrap(), Presented::Unknown);
    let again = world.keys.remove(&world.root, &made.facts.id).await;
    assert!(matches!(again, Err(ApiKeysError::NoSuchKey { .. })));
}

#[tokio::test]
async fn users_manage_their_own_keys_and_root_everybodys() {
    let world = world().await;
    let key = world.key(None).await;
    let bob = world.of("bob").await;
    let spec = || ApiKeySpec { name: "n".into(), ..ApiKeySpec::default() };
    for cx in [bob.clone(), anonymous_request()] {
        assert!(matches!(world.keys.create(&cx, "ann", spec()).await, Err(ApiKeysError::AccessDenied)));
        assert!(matches!(world.keys.list(&cx, Some("ann"), None).await, Err(ApiKeysError::AccessDenied)));
        assert!(matches!(world.keys.list(&cx, None, None).await, Err(ApiKeysError::AccessDenied)));
        let removed = world.keys.remove(&cx, &key.facts.id).await;
        assert!(matches!(removed, Err(ApiKeysError::NoSuchKey { .. })), "whether it exists is not told");
    }
    world.keys.create(&bob, "bob", spec()).await.unwrap();
    assert_eq!(world.keys.list(&world.root, None, None).await.unwrap().0.len(), 2);
    let nobody = world.keys.create(&world.root, "eve", spec()).await;
    assert!(matches!(nobody, Err(ApiKeysError::NoSuchUser { .. })));
    world.users.remove_user(&world.root, "ann").await.unwrap();
    assert_eq!(world.keys.present(key.secret.expose()).await.unwrap(), Presented::Unknown);
    let left = world.keys.list(&world.root, None, None).await.unwrap().0;
    assert_eq!(left.iter().map(|key| key.facts.user_name.as_str()).collect::<Vec<_>>(), ["bob"]);
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_and_their_number_is_bounded() {
    let world = world().await;
    let empty = Some(BTreeSet::new());
    let many = Some((0..=SCOPE_ITEMS_MAX).map(|n| n.to_string()).collect());
    let wrong = [
        ApiKeySpec::default(),
        ApiKeySpec { name: "x".repeat(101), ..ApiKeySpec::default() },
        ApiKeySpec { name: "a\nb".into(), ..ApiKeySpec::default() },
        ApiKeySpec { name: "n".into(), expires: Some(UnixMillis(1_000)), ..ApiKeySpec::default() },
        ApiKeySpec { name: "n".into(), routes: empty, ..ApiKeySpec::default() },
        ApiKeySpec { name: "n".into(), models: many, ..ApiKeySpec::default() },
    ];
    for spec in wrong {
        let made = world.keys.create(&world.root, "ann", spec.clone()).await;
        assert!(matches!(made, Err(ApiKeysError::Invalid { .. })), "{spec:?}");
    }
    for _ in 0..API_KEYS_MAX {
        world.key(None).await;
    }
    let spec = ApiKeySpec { name: "n".into(), ..ApiKeySpec::default() };
    let made = world.keys.create(&world.root, "ann", spec).await;
    assert!(matches!(made, Err(ApiKeysError::TooManyKeys { .. })));
}

#[tokio::test]
async fn what_was_not_spent_goes_back() {
    let world = world().await;
    let id = world.key(Some(1_000)).await.facts.id;
    let mut reservation = world.keys.reserve(&id, 100).await.unwrap();
    reservation.spend(30);
    reservation.spend(40);
    drop(reservation);
    assert_eq!(world.spent().await, 40);
    drop(world.keys.reserve(&id, 100).await.unwrap());
    assert_eq!(world.spent().await, 40);
    world.keys.give_back().await.unwrap();
    let other = keys_on(&world.kv, &world.now);
    assert_eq!(other.list(&world.root, Some("ann"), None).await.unwrap().0[0].spent, 40);
    drop(other.reserve(&id, 960).await.expect("all of the rest is there"));
}

#[tokio::test]
async fn no_number_of_requests_and_crashes_exceeds_a_cap() {
    let seed = rand::random::<u64>();
    eprintln!("seed {seed}");
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    let world = world().await;
    let cap = 10_000;
    let id = world.key(Some(cap)).await.facts.id;
    let (mut spent, mut lost, mut refused) = (0, 0, 0);
    let mut processes = vec![keys_on(&world.kv, &world.now), keys_on(&world.kv, &world.now)];
    for _ in 0..600 {
        let which = rand::Rng::random_range(&mut random, 0..processes.len());
        if rand::Rng::random_ratio(&mut random, 1, 20) {
            // A crash: what it had set aside is not given back.
            lost += processes[which].unused(&id);
            processes[which] = keys_on(&world.kv, &world.now);
        }
        let amount = rand::Rng::random_range(&mut random, 1..=50);
        match processes[which].reserve(&id, amount).await {
            Ok(mut reservation) => {
                let used = rand::Rng::random_range(&mut random, 0..=amount);
                reservation.spend(used);
                spent += used;
            }
            Err(ApiKeysError::AboveSpendCap { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(spent <= cap, "{spent} of {cap} were spent");
    }
    assert!(refused > 0, "the cap was reached");
    for process in &processes {
        process.give_back().await.unwrap();
    }
    assert_eq!(world.spent().await, spent + lost, "what crashes cost, and nothing else, was not spent");
}

#[tokio::test]
async fn requests_at_once_share_an_allowance() {
    let world = world().await;
    let id = world.key(Some(100)).await.facts.id;
    let asked = futures::future::join_all((0..20).map(|_| world.keys.reserve(&id, 10))).await;
    assert_eq!(asked.iter().filter(|asked| asked.is_ok()).count(), 10);
    drop(asked);
    assert_eq!(world.spent().await, 0);
    let none = world.key(Some(0)).await.facts.id;
    assert!(matches!(world.keys.reserve(&none, 1).await, Err(ApiKeysError::AboveSpendCap { .. })));
    world.keys.reserve(&none, 0).await.expect("nothing is never too much");
}
