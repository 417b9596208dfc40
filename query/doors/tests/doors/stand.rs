//! A store on memory behind a door of the PostgreSQL protocol on a free port, for tests.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::net::SocketAddr;

use ashlar_objects::access::{Principal, RequestContext};
use ashlar_objects::object_lock::Lock;
use ashlar_objects::requests::{CreateBucket, Payload, PutObject};
use ashlar_objects::testing::TestStore;
use ashlar_objects::types::{Attributes, BucketName, Conditions, ObjectKey, Tags};
use ashlar_objects::users::SecretKey;
use ashlar_objects::{Store, testing::request_of};
use ashlar_query::{Engine, EngineConfig};
use ashlar_query_doors::pg::{PgConfig, PgDoor};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) const ACCESS_KEY: &str = "AKROOT";
pub(crate) const SECRET_KEY: &str = "a-secret-of-roots";

pub(crate) struct Stand {
    pub address: SocketAddr,
    pub engine: Engine,
    pub store: Store,
    pub cx: RequestContext,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

impl Stand {
    pub(crate) async fn pg(config: PgConfig) -> Self {
        let store = TestStore::new().await.store;
        let pair = (ACCESS_KEY.to_owned(), SecretKey::new(SECRET_KEY.to_owned()));
        let root = store.users().bootstrap_root(Some(pair)).await.expect("root");
        let engine = Engine::open(store.clone(), None, EngineConfig::default()).expect("an engine");
        let door = PgDoor::new(&engine, store.users().clone(), config).expect("a door");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let stopping = stop.clone();
        tasks.spawn(async move { door.serve(listener, stopping).await });
        tasks.close();
        let cx = RequestContext { principal: Principal::User(root.identity), ..request_of("root", true) };
        Self { address, engine, store, cx, stop, tasks }
    }

    pub(crate) async fn put(&self, key: &str, body: &'static str) {
        let bucket = BucketName::new("data").expect("a name");
        let create = CreateBucket {
            bucket: bucket.clone(),
            acl: None,
            object_lock: false,
            ownership: None,
            location: None,
        };
        // The second time it is there.
        drop(self.store.create_bucket(&self.cx, create).await);
        let request = PutObject {
            bucket,
            key: ObjectKey::new(key).expect("a key"),
            attributes: Attributes::default(),
            tags: Tags::default(),
            acl: None,
            conditions: Conditions::default(),
            lock: Lock::default(),
            payload: Payload {
                stream: Box::pin(futures::stream::once(async move { Ok(body.into()) })),
                length: u64::try_from(body.len()).ok(),
                content_md5: None,
                content_sha256: None,
                checksum: None,
                trailing_checksum: None,
            },
        };
        self.store.put_object(&self.cx, request).await.expect("put");
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
