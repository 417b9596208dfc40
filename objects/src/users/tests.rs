//! Users on an in-memory store: what two processes see of each other, races, and what leaks (nothing).

use std::sync::atomic::{AtomicUsize, Ordering};

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::buckets::{self, BucketId, BucketRow, BucketState, Versioning};
use ashlar_metadata::namespace::types::BucketName;
use ashlar_metadata::{
    Check, Commit, CommitError, Direction, KeyRange, MemoryKv, Outcome, Position, ReadError, Row,
    TransactionId, Write,
};

use super::*;

/// A KV that counts reads of single rows and lets others run before it answers.
struct Counting {
    kv: MemoryKv,
    reads: AtomicUsize,
}

#[async_trait::async_trait]
impl OrderedKv for Counting {
    async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        self.kv.commit(commit).await
    }
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        self.kv.snapshot().await
    }
    fn stable_position(&self) -> Position {
        self.kv.stable_position()
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let row = self.kv.get(key).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        row
    }
    async fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError> {
        self.kv.outcome(id).await
    }
    async fn expire_transactions(&self, below: Position, limit: usize) -> Result<usize, CommitError> {
        self.kv.expire_transactions(below, limit).await
    }
}

fn store() -> Arc<Counting> {
    Arc::new(Counting { kv: MemoryKv::new(), reads: AtomicUsize::new(0) })
}

fn process(kv: &Arc<Counting>, master: u8) -> Users {
    let kv: Arc<dyn OrderedKv> = Arc::<Counting>::clone(kv);
    Users::new(kv, KeyRing::from(MasterKey::from([master; 32])), Clock::System)
}

fn as_principal(principal: Principal) -> RequestContext {
    RequestContext {
        principal,
        request_id: "test".into(),
        source_ip: None,
        secure_transport: false,
        user_agent: None,
        referer: None,
        keys: vec![],
    }
}

fn system() -> RequestContext {
    as_principal(Principal::System)
}

fn pair(access_key: &str, secret: &str) -> Option<(String, SecretKey)> {
    Some((access_key.to_owned(), SecretKey::new(secret.to_owned())))
}

async fn secret_of(users: &Users, access_key: &str) -> Option<String> {
    let found = users.secret_for_access_key(access_key).await.expect("metadata reads");
    found.map(|(_, secret)| secret.expose().to_owned())
}

fn bucket_of(owner: &str) -> Commit {
    let row = BucketRow {
        id: BucketId(1),
        owner: owner.to_owned(),
        created: UnixMillis(0),
        versioning: Versioning::Off,
        state: BucketState::Live,
        location: None,
        documents_generation: 0,
    };
    let key = buckets::key(&BucketName::new("owned").expect("a name"));
    Commit { checks: vec![], writes: vec![Write::Put { key, value: row.encode() }], transaction: None }
}

#[tokio::test]
async fn a_user_comes_signs_and_goes() {
    let users = process(&store(), 1);
    let cx = system();
    let ann = users.add_user(&cx, "Ann").await.expect("added");
    assert_eq!((ann.id.len(), ann.root), (64, false));
    assert!(matches!(users.add_user(&cx, "ANN").await, Err(UsersError::UserExists { .. })));
    let key = users.add_key(&cx, "ann").await.expect("a key");
    let (identity, secret) =
        users.secret_for_access_key(&key.access_key).await.expect("reads").expect("found");
    assert_eq!((&identity.id, identity.name.as_str(), identity.root), (&ann.id, "Ann", false));
    assert_eq!(identity.access_key, key.access_key);
    assert_eq!(secret.expose(), key.secret.expose());
    assert_eq!(users.display_name(&ann.id).await.expect("reads").as_deref(), Some("Ann"));
    let listed = users.list_keys(&cx, "ann").await.expect("keys");
    assert_eq!((listed.len(), listed[0].origin), (1, AccessKeyOrigin::Added));
    users.remove_key(&cx, "ann", &key.access_key).await.expect("removed");
    assert_eq!(secret_of(&users, &key.access_key).await, None);
    let again = users.remove_key(&cx, "ann", &key.access_key).await;
    assert!(matches!(again, Err(UsersError::NoSuchAccessKey { .. })));
    let key = users.add_key(&cx, "ann").await.expect("a key");
    assert!(secret_of(&users, &key.access_key).await.is_some());
    users.remove_user(&cx, "ann").await.expect("removed");
    assert_eq!(secret_of(&users, &key.access_key).await, None);
    assert_eq!(users.by_name("ann").await.expect("reads"), None);
    assert_ne!(users.add_user(&cx, "ann").await.expect("free again").id, ann.id);
}

#[tokio::test]
async fn only_root_manages() {
    let users = process(&store(), 1);
    let user = |root| UserIdentity { id: "i".into(), name: "n".into(), access_key: "a".into(), root };
    users.add_user(&as_principal(Principal::User(Arc::new(user(true)))), "ann").await.expect("root may");
    for principal in [Principal::Anonymous, Principal::User(Arc::new(user(false)))] {
        let cx = as_principal(principal);
        let denied =
            |result: Result<(), UsersError>| assert!(matches!(result, Err(UsersError::AccessDenied)));
        denied(users.add_user(&cx, "bob").await.map(drop));
        denied(users.list_users(&cx, None, 10).await.map(drop));
        denied(users.remove_user(&cx, "ann").await);
        denied(users.add_key(&cx, "ann").await.map(drop));
        denied(users.import_key(&cx, "ann", "access", &SecretKey::new("12345678".into())).await);
        denied(users.remove_key(&cx, "ann", "access").await);
        denied(users.list_keys(&cx, "ann").await.map(drop));
        denied(users.reseal(&cx).await.map(drop));
    }
}

#[tokio::test]
async fn limits_and_taken_keys_are_errors() {
    let users = process(&store(), 1);
    let cx = system();
    users.add_user(&cx, "ann").await.expect("added");
    users.add_user(&cx, "bob").await.expect("added");
    for _ in 0..ACCESS_KEYS_MAX {
        users.add_key(&cx, "ann").await.expect("a key");
    }
    assert!(matches!(users.add_key(&cx, "ann").await, Err(UsersError::TooManyAccessKeys { .. })));
    let taken = users.by_name("ann").await.expect("reads").expect("ann").access_keys[0].clone();
    let secret = SecretKey::new("12345678".into());
    let import = users.import_key(&cx, "bob", &taken, &secret).await;
    assert!(matches!(import, Err(UsersError::AccessKeyTaken { .. })));
    assert!(matches!(users.add_key(&cx, "nobody").await, Err(UsersError::NoSuchUser { .. })));
    assert!(users.add_user(&cx, "a/b").await.is_err());
    for access_key in ["", "no/such", "absent", &"x".repeat(100_000)] {
        assert_eq!(secret_of(&users, access_key).await, None);
    }
}

#[tokio::test]
async fn root_is_made_once_and_follows_what_start_up_gives() {
    let kv = store();
    let made = process(&kv, 1).bootstrap_root(None).await.expect("root");
    assert!(made.changed && made.identity.root && made.identity.access_key.starts_with("AK"));
    let again = process(&kv, 1).bootstrap_root(None).await.expect("root");
    assert!(!again.changed);
    assert_eq!((&again.identity, again.secret.expose()), (&made.identity, made.secret.expose()));

    let users = process(&kv, 1);
    let random = made.identity.access_key.clone();
    assert!(secret_of(&users, &random).await.is_some());
    for (access_key, secret, changed) in [
        ("given", "first-secret", true),
        ("given", "first-secret", false),
        ("given", "second-secret", true),
        ("other", "second-secret", true),
    ] {
        let given = users.bootstrap_root(pair(access_key, secret)).await.expect("root");
        assert_eq!((given.changed, &given.identity.id), (changed, &made.identity.id));
        assert_eq!(secret_of(&users, access_key).await.as_deref(), Some(secret));
    }
    assert_eq!(secret_of(&users, &random).await, None, "the start-up key was replaced");
    assert_eq!(secret_of(&users, "given").await, None);
    let root = users.by_name(ROOT_NAME).await.expect("reads").expect("root");
    assert_eq!(root.access_keys, ["other"]);

    let added = users.add_key(&system(), ROOT_NAME).await.expect("a further key");
    users.bootstrap_root(pair("third", "third-secret")).await.expect("root");
    assert!(secret_of(&users, &added.access_key).await.is_some(), "further keys stay");
    users.add_user(&system(), "ann").await.expect("added");
    let of_ann = users.add_key(&system(), "ann").await.expect("a key").access_key;
    let taken = users.bootstrap_root(pair(&of_ann, "some-secret")).await;
    assert!(matches!(taken, Err(UsersError::AccessKeyTaken { .. })));
    assert!(matches!(users.remove_user(&system(), "root").await, Err(UsersError::RootStays)));
    assert!(users.bootstrap_root(pair("x", "some-secret")).await.is_err());
    assert!(users.bootstrap_root(pair("xyz", "short")).await.is_err());
}

#[tokio::test]
async fn racing_starts_agree_on_root() {
    let kv = store();
    let starts = (0..8).map(|_| {
        let users = process(&kv, 1);
        tokio::spawn(async move { users.bootstrap_root(None).await.expect("root") })
    });
    let mut seen = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        let root = start.await.expect("no panic");
        seen.push((root.identity.as_ref().clone(), root.secret.expose().to_owned()));
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]));
}

#[tokio::test]
async fn who_owns_a_bucket_stays_and_who_goes_gets_none() {
    let kv = store();
    let users = process(&kv, 1);
    let cx = system();
    let ann = users.add_user(&cx, "ann").await.expect("added");
    let key = users.add_key(&cx, "ann").await.expect("a key");
    kv.commit(bucket_of(&ann.id)).await.expect("a bucket");
    let refused = users.remove_user(&cx, "ann").await;
    assert!(matches!(refused, Err(UsersError::OwnsBuckets { bucket, .. }) if bucket == "owned"));
    assert!(secret_of(&users, &key.access_key).await.is_some());

    let (identity, _) = users.secret_for_access_key(&key.access_key).await.expect("reads").expect("found");
    let principal = Principal::User(identity);
    let snapshot = users.snapshot().await.expect("a snapshot");
    let check = users.check_may_own(&*snapshot, &principal).await.expect("he may").expect("a check");
    kv.commit(bucket_of("somebody else")).await.expect("given away");
    users.remove_user(&cx, "ann").await.expect("removed");
    let late = Commit { checks: vec![check], ..bucket_of(&ann.id) };
    assert!(matches!(kv.commit(late).await, Err(CommitError::Conflict { .. })));
    let snapshot = users.snapshot().await.expect("a snapshot");
    assert!(users.check_may_own(&*snapshot, &principal).await.is_err());
    assert!(users.check_may_own(&*snapshot, &Principal::System).await.expect("nobody").is_none());
}

#[tokio::test]
async fn a_removal_that_crashed_is_finished_by_the_next() {
    let kv = store();
    let users = process(&kv, 1);
    let cx = system();
    let ann = users.add_user(&cx, "ann").await.expect("added");
    let row = kv.get(&rows::key(&ann.id)).await.expect("reads").expect("ann");
    let row = UserRow { state: UserState::Removing, ..UserRow::decode(&row.value).expect("a row") };
    let write = Write::Put { key: rows::key(&ann.id), value: row.encode() };
    let checks = vec![Check::Present(rows::key(&ann.id))];
    kv.commit(Commit { checks, writes: vec![write], transaction: None }).await.expect("half removed");
    assert!(matches!(users.add_key(&cx, "ann").await, Err(UsersError::BeingRemoved { .. })));
    users.remove_user(&cx, "ann").await.expect("finished");
    assert!(matches!(users.remove_user(&cx, "ann").await, Err(UsersError::NoSuchUser { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_change_elsewhere_counts_within_five_seconds() {
    let kv = store();
    let (here, there) = (process(&kv, 1), process(&kv, 1));
    let cx = system();
    here.add_user(&cx, "ann").await.expect("added");
    let key = here.add_key(&cx, "ann").await.expect("a key").access_key;
    assert!(secret_of(&there, &key).await.is_some());
    here.remove_key(&cx, "ann", &key).await.expect("removed");
    assert!(secret_of(&there, &key).await.is_some(), "still believed");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(secret_of(&there, &key).await, None);
    // A key that comes, or comes back, is seen at once: what is absent is not remembered.
    here.import_key(&cx, "ann", &key, &SecretKey::new("another-secret".into())).await.expect("added");
    assert_eq!(secret_of(&there, &key).await.as_deref(), Some("another-secret"));
}

#[tokio::test(start_paused = true)]
async fn many_requests_with_one_key_read_once() {
    let kv = store();
    let users = process(&kv, 1);
    users.bootstrap_root(pair("root-key", "root-secret")).await.expect("root");
    for round in 1..=3 {
        kv.reads.store(0, Ordering::Relaxed);
        let asked = (0..100).map(|_| {
            let users = users.clone();
            tokio::spawn(async move { secret_of(&users, "root-key").await.is_some() })
        });
        for asked in asked.collect::<Vec<_>>() {
            assert!(asked.await.expect("no panic"));
        }
        assert_eq!(kv.reads.load(Ordering::Relaxed), 1, "round {round}");
        tokio::time::advance(REMEMBERED).await;
    }
}

#[tokio::test]
async fn a_key_removed_while_it_is_read_is_not_remembered() {
    let kv = store();
    let users = process(&kv, 1);
    let cx = system();
    users.add_user(&cx, "ann").await.expect("added");
    let key = users.add_key(&cx, "ann").await.expect("a key").access_key;
    let reading = tokio::spawn({
        let (users, key) = (users.clone(), key.clone());
        async move { secret_of(&users, &key).await }
    });
    while kv.reads.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    users.remove_key(&cx, "ann", &key).await.expect("removed");
    assert!(reading.await.expect("no panic").is_some(), "it was there when it was asked for");
    assert_eq!(secret_of(&users, &key).await, None);
}

#[tokio::test]
async fn a_caller_who_gives_up_blocks_nobody() {
    let kv = store();
    let users = process(&kv, 1);
    users.bootstrap_root(pair("root-key", "root-secret")).await.expect("root");
    for _ in 0..10 {
        let users = users.clone();
        let asked = tokio::spawn(async move { secret_of(&users, "root-key").await });
        tokio::task::yield_now().await;
        asked.abort();
    }
    assert!(secret_of(&users, "root-key").await.is_some());
}

#[tokio::test]
async fn another_master_key_is_told_and_rotation_reseals() {
    let kv = store();
    process(&kv, 1).bootstrap_root(pair("root-key", "root-secret")).await.expect("root");
    let wrong = process(&kv, 2);
    assert!(matches!(wrong.secret_for_access_key("root-key").await, Err(UsersError::Sealed { .. })));
    assert!(matches!(
        wrong.bootstrap_root(pair("root-key", "x-secret")).await,
        Err(UsersError::Sealed { .. })
    ));
    let both = KeyRing::new(MasterKey::from([2; 32]), vec![MasterKey::from([1; 32])]);
    let dynamic: Arc<dyn OrderedKv> = Arc::<Counting>::clone(&kv);
    let rotating = Users::new(dynamic, both, Clock::System);
    assert!(secret_of(&rotating, "root-key").await.is_some());
    assert_eq!(rotating.reseal(&system()).await.expect("resealed"), 1);
    assert_eq!(rotating.reseal(&system()).await.expect("resealed"), 0);
    assert_eq!(secret_of(&process(&kv, 2), "root-key").await.as_deref(), Some("root-secret"));
}

#[tokio::test]
async fn no_secret_stands_in_metadata_or_messages() {
    let kv = store();
    let users = process(&kv, 1);
    let secret = "c0mpletely-recognisable";
    let root = users.bootstrap_root(pair("root-key", secret)).await.expect("root");
    let snapshot = kv.snapshot().await.expect("a snapshot");
    let page = snapshot.scan(KeyRange::all(), Direction::Forward, 1000).await.expect("a scan");
    assert!(page.rows.len() >= 3);
    for (key, row) in page.rows {
        for bytes in [&key, &row.value] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    let found = users.secret_for_access_key("root-key").await.expect("reads");
    assert!(!format!("{root:?} {found:?} {users:?}").contains("recognisable"));
}

#[tokio::test]
async fn users_are_listed_page_by_page() {
    let users = process(&store(), 1);
    let cx = system();
    for name in ["dora", "Ann", "carl", "bob", "eve"] {
        users.add_user(&cx, name).await.expect("added");
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = users.list_users(&cx, after.as_deref(), 2).await.expect("a page");
        assert!(page.len() <= 2);
        names.extend(page.into_iter().map(|user| user.name));
        let Some(next) = next else { break };
        after = Some(next);
    }
    assert_eq!(names, ["Ann", "bob", "carl", "dora", "eve"]);
}

/// Front doors run these on many threads.
#[tokio::test]
async fn every_call_can_move_between_threads() {
    fn movable<T: Send>(call: T) -> T {
        call
    }
    let users = process(&store(), 1);
    let cx = system();
    movable(users.bootstrap_root(None)).await.expect("root");
    movable(users.add_user(&cx, "ann")).await.expect("added");
    let key = movable(users.add_key(&cx, "ann")).await.expect("a key").access_key;
    movable(users.secret_for_access_key(&key)).await.expect("reads");
    movable(users.remove_key(&cx, "ann", &key)).await.expect("removed");
    movable(users.remove_user(&cx, "ann")).await.expect("removed");
    movable(users.reseal(&cx)).await.expect("resealed");
}
