//! A store on memory with an engine, and short words for what tests do with them.

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::Store;
use ashlar_objects::access::RequestContext;
use ashlar_objects::object_lock::Lock;
use ashlar_objects::requests::{CreateBucket, Payload, PutObject};
use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::types::{Attributes, BucketName, Conditions, ObjectKey, Tags};
use bytes::Bytes;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::{Engine, EngineConfig, Outcome, Session, SqlError};

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    pub(crate) cx: RequestContext,
}

pub(crate) fn bucket(name: &str) -> BucketName {
    BucketName::new(name).unwrap()
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

pub(crate) fn put_request(to: &str, name: &str, body: impl Into<Bytes>) -> PutObject {
    let body = body.into();
    let length = u64::try_from(body.len()).ok();
    PutObject {
        bucket: bucket(to),
        key: key(name),
        attributes: Attributes::default(),
        tags: Tags::default(),
        acl: None,
        conditions: Conditions::default(),
        lock: Lock::default(),
        payload: Payload {
            stream: Box::pin(futures::stream::once(async move { Ok(body) })),
            length,
            content_md5: None,
            content_sha256: None,
            checksum: None,
            trailing_checksum: None,
        },
    }
}

/// A Parquet file of one batch, in row groups of so many rows.
pub(crate) fn parquet(batch: &RecordBatch, row_group: usize) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(EngineConfig::default()).await
    }

    pub(crate) async fn with(config: EngineConfig) -> Self {
        Self::on(TestStore::new().await.store, config).await
    }

    pub(crate) async fn on(store: Store, config: EngineConfig) -> Self {
        let engine = Engine::open(store.clone(), None, config).unwrap();
        let bench = Self { store, engine, cx: request_of("ann", false) };
        bench.make_bucket("data").await;
        bench
    }

    /// Waits until what was dropped is cleaned up: no statement or transaction is left then.
    pub(crate) async fn until_nothing_is_left(&self) {
        let nothing = async {
            while self.store.groups_and_leases_now().await != (0, 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), nothing).await;
        assert!(waited.is_ok(), "groups, leases: {:?}", self.store.groups_and_leases_now().await);
    }

    pub(crate) async fn make_bucket(&self, name: &str) {
        let request = CreateBucket {
            bucket: bucket(name),
            acl: None,
            object_lock: false,
            ownership: None,
            location: None,
        };
        self.store.create_bucket(&self.cx, request).await.unwrap();
    }

    pub(crate) async fn put(&self, name: &str, body: impl Into<Bytes>) {
        self.store.put_object(&self.cx, put_request("data", name, body)).await.unwrap();
    }

    pub(crate) fn session(&self) -> Session {
        Session::new(&self.engine, self.cx.clone()).unwrap()
    }

    /// Runs in a session of its own; rows as a table.
    pub(crate) async fn rows(&self, sql: &str) -> String {
        rows(&mut self.session(), sql).await.unwrap_or_else(|e| panic!("{sql}: {} {e}", e.state.code()))
    }

    pub(crate) async fn error(&self, sql: &str) -> SqlError {
        rows(&mut self.session(), sql).await.expect_err(sql)
    }
}

/// Runs; rows as a table without its frame.
pub(crate) async fn rows(session: &mut Session, sql: &str) -> Result<String, SqlError> {
    match session.query(sql, Vec::new()).await? {
        Outcome::Affected { tag, rows } => {
            Ok(format!("{tag}{}", rows.map(|rows| format!(" {rows}")).unwrap_or_default()))
        }
        Outcome::Rows(stream) => {
            let batches: Vec<RecordBatch> = stream.try_collect().await?;
            let table = pretty_format_batches(&batches).unwrap().to_string();
            let lines = table.lines().filter(|line| !line.starts_with('+'));
            let cells = lines
                .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"));
            Ok(cells.skip(1).collect::<Vec<_>>().join("\n"))
        }
    }
}

pub(crate) fn batch(columns: Vec<(&str, Arc<dyn datafusion::arrow::array::Array>)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}
