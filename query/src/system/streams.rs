//! Rows of `system`, a page of the store at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ashlar_objects::access::Principal;
use ashlar_objects::inspection::BatchState;
use ashlar_objects::pinning::Moment;
use ashlar_objects::requests::{ListObjects, ListVersions, ListedVersion, Versioning};
use ashlar_objects::types::{BucketName, VersionId};
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use futures::{Stream, stream};

use super::scope::Scope;
use super::{Caller, SystemTable};
use crate::error::SqlError;

/// Entries of the store read at a time.
const PAGE_MAX: u32 = 1_000;
/// Batches of the log read at a time: each row holds a certificate.
const BATCHES_MAX: usize = 100;

/// Where a walk is.
struct Walk {
    table: SystemTable,
    schema: SchemaRef,
    caller: Arc<Caller>,
    scope: Scope,
    buckets: Buckets,
    /// The bucket being listed, and after which of its entries to go on.
    open: Option<(BucketName, Option<After>)>,
    /// The last batch seen.
    batch: u64,
}

/// A key, and of its versions one.
type After = (String, Option<VersionId>);

/// Buckets still to come: of this page, and after which the next begins; after the last page there is none.
struct Buckets {
    page: std::vec::IntoIter<BucketName>,
    next: Option<Option<BucketName>>,
}

/// All rows of a table.
pub(super) fn rows(
    table: SystemTable,
    schema: SchemaRef,
    caller: Arc<Caller>,
    scope: Scope,
) -> impl Stream<Item = DataFusionResult<RecordBatch>> + Send {
    let buckets = Buckets { page: Vec::new().into_iter(), next: Some(None) };
    let walk = Walk { table, schema, caller, scope, buckets, open: None, batch: 0 };
    stream::try_unfold(Some(walk), async |walk| {
        let Some(mut walk) = walk else { return Ok(None) };
        let batch = match walk.table {
            SystemTable::Queries => return Ok(Some((walk.queries()?, None))),
            SystemTable::Nodes => return Ok(Some((walk.nodes().await?, None))),
            SystemTable::Buckets => walk.page_of_buckets().await?,
            SystemTable::Anchors => walk.page_of_anchors().await?,
            SystemTable::Objects | SystemTable::ObjectVersions | SystemTable::Commitments => {
                walk.page_of_entries().await?
            }
        };
        Ok(batch.map(|batch| (batch, Some(walk))))
    })
}

fn texts<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn numbers(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    let signed = values.into_iter().map(|value| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)));
    Arc::new(signed.collect::<Int64Array>())
}

fn moments(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn flags(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())
}

fn failed(error: &ashlar_objects::Error) -> SqlError {
    SqlError::of_store("the listing", error)
}

impl Walk {
    /// Statements under way: one's own, root sees all.
    fn queries(&self) -> Result<RecordBatch, SqlError> {
        let may_see = |user_id: Option<&str>| match &self.caller.cx.principal {
            Principal::User(user) => user.root || user_id == Some(user.id.as_str()),
            Principal::System => true,
            Principal::Anonymous => false,
        };
        let mut all = self.caller.engine.inner.running.all();
        all.retain(|(_, statement)| may_see(statement.user_id.as_deref()));
        let milliseconds = |at: &std::time::Instant| u64::try_from(at.elapsed().as_millis()).ok();
        let columns = vec![
            numbers(all.iter().map(|(id, _)| Some(*id))),
            texts(all.iter().map(|(_, statement)| Some(statement.user.as_str()))),
            texts(all.iter().map(|(_, statement)| Some(&*statement.text))),
            numbers(all.iter().map(|(_, statement)| milliseconds(&statement.began))),
            numbers(all.iter().map(|(_, statement)| Some(statement.rows.load(Ordering::Relaxed)))),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Storage nodes, for root.
    async fn nodes(&self) -> Result<RecordBatch, SqlError> {
        let may_see = match &self.caller.cx.principal {
            Principal::User(user) => user.root,
            Principal::System => true,
            Principal::Anonymous => false,
        };
        let surroundings = self.caller.engine.inner.surroundings.as_ref();
        let all = match surroundings.filter(|_| may_see) {
            Some(surroundings) => surroundings.nodes().await,
            None => Vec::new(),
        };
        let columns = vec![
            numbers(all.iter().map(|node| Some(u64::from(node.node)))),
            texts(all.iter().map(|node| Some(node.domain.as_str()))),
            texts(all.iter().map(|node| Some(node.health.as_str()))),
            numbers(all.iter().map(|node| Some(node.shards))),
            numbers(all.iter().map(|node| Some(node.shard_bytes))),
            numbers(all.iter().map(|node| Some(node.writable_bytes))),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn moment(&self) -> Result<&Moment, SqlError> {
        let moment = self.caller.moment.as_ref().map(|(_, moment)| moment);
        moment.ok_or_else(|| SqlError::internal("reading a table of system", &"no moment was taken"))
    }

    async fn page_of_anchors(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let store = &self.caller.engine.inner.store;
        let page = store.batches_at(self.moment()?, self.batch, BATCHES_MAX).await.map_err(|e| failed(&e))?;
        let Some(last) = page.last() else { return Ok(None) };
        self.batch = last.sequence;
        let state = |state| match state {
            BatchState::Sealed => "sealed",
            BatchState::Certified => "certified",
            BatchState::Anchored => "anchored",
        };
        let commitments: Vec<_> = page.iter().map(|batch| batch.commitment.map(|it| hex(&it))).collect();
        let registries: Vec<_> = page.iter().map(|batch| hex(&batch.registry)).collect();
        let columns = vec![
            numbers(page.iter().map(|batch| Some(batch.sequence))),
            numbers(page.iter().map(|batch| Some(batch.positions.0))),
            numbers(page.iter().map(|batch| Some(batch.positions.1))),
            numbers(page.iter().map(|batch| Some(u64::from(batch.entries)))),
            numbers(page.iter().map(|batch| Some(batch.blob_bytes))),
            moments(page.iter().map(|batch| i64::try_from(batch.sealed_at).unwrap_or(i64::MAX))),
            texts(page.iter().map(|batch| Some(state(batch.state)))),
            texts(commitments.iter().map(Option::as_deref)),
            numbers(page.iter().map(|batch| Some(batch.chain_id))),
            texts(registries.iter().map(|registry| Some(registry.as_str()))),
        ];
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }

    async fn page_of_buckets(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            let Some(after) = self.buckets.next.take() else { return Ok(None) };
            let (store, cx) = (&self.caller.engine.inner.store, &self.caller.cx);
            let (page, more) =
                store.buckets_at(cx, self.moment()?, after.as_ref(), false).await.map_err(|e| failed(&e))?;
            self.buckets.next = more.map(Some);
            if page.is_empty() {
                continue;
            }
            let versioning = |versioning| match versioning {
                Versioning::Off => "off",
                Versioning::Enabled => "enabled",
                Versioning::Suspended => "suspended",
            };
            let columns = vec![
                texts(page.iter().map(|bucket| Some(bucket.name.as_str()))),
                texts(page.iter().map(|bucket| Some(bucket.owner.as_str()))),
                moments(page.iter().map(|bucket| bucket.created.0)),
                texts(page.iter().map(|bucket| Some(versioning(bucket.versioning)))),
            ];
            return Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?));
        }
    }

    /// Every bucket that the filter leaves: the listing of each is authorised.
    async fn next_bucket(&mut self) -> Result<Option<BucketName>, SqlError> {
        loop {
            if let Some(name) = self.buckets.page.next() {
                let wanted = self.scope.buckets.as_ref();
                if wanted.is_none_or(|wanted| wanted.iter().any(|wanted| wanted == name.as_str())) {
                    return Ok(Some(name));
                }
                continue;
            }
            let Some(after) = self.buckets.next.take() else { return Ok(None) };
            let (store, cx) = (&self.caller.engine.inner.store, &self.caller.cx);
            let (found, more) =
                store.buckets_at(cx, self.moment()?, after.as_ref(), true).await.map_err(|e| failed(&e))?;
            self.buckets.page = found.into_iter().map(|bucket| bucket.name).collect::<Vec<_>>().into_iter();
            self.buckets.next = more.map(Some);
        }
    }

    /// The next page that is not empty, of this bucket or a later one.
    async fn page_of_entries(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            let (bucket, after) = match self.open.take() {
                Some(open) => open,
                None => match self.next_bucket().await? {
                    Some(bucket) => (bucket, None),
                    None => return Ok(None),
                },
            };
            let (batch, next) = match self.table {
                SystemTable::ObjectVersions | SystemTable::Commitments => {
                    self.versions(&bucket, after).await?
                }
                _ => self.objects(&bucket, after.map(|(key, _)| key)).await?,
            };
            self.open = next.map(|after| (bucket, Some(after)));
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }

    async fn objects(&self, bucket: &BucketName, after: Option<String>) -> Result<PageOf, SqlError> {
        let (store, cx) = (&self.caller.engine.inner.store, self.listing());
        let request = ListObjects {
            bucket: bucket.clone(),
            prefix: self.scope.prefix.clone(),
            delimiter: None,
            after,
            max: PAGE_MAX,
        };
        let page = match store.list_objects_at(&cx, self.moment()?, request).await {
            Err(error) if is_hidden(&error) => Default::default(),
            page => page.map_err(|e| failed(&e))?,
        };
        let all = &page.objects;
        let columns = vec![
            texts(all.iter().map(|_| Some(bucket.as_str()))),
            texts(all.iter().map(|object| Some(object.key.as_str()))),
            numbers(all.iter().map(|object| Some(object.length))),
            texts(
                all.iter()
                    .map(|object| object.etag.to_string())
                    .collect::<Vec<_>>()
                    .iter()
                    .map(|s| Some(s.as_str())),
            ),
            moments(all.iter().map(|object| object.modified.0)),
            texts(all.iter().map(|object| Some(object.owner.as_str()))),
            texts(all.iter().map(|object| object.storage_class.as_deref())),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok((batch, page.next_after.map(|key| (key, None))))
    }

    async fn versions(
        &self,
        bucket: &BucketName,
        after: Option<(String, Option<VersionId>)>,
    ) -> Result<PageOf, SqlError> {
        let (store, cx) = (&self.caller.engine.inner.store, self.listing());
        let request = ListVersions {
            bucket: bucket.clone(),
            prefix: self.scope.prefix.clone(),
            delimiter: None,
            after,
            max: PAGE_MAX,
        };
        let page = match store.list_versions_at(&cx, self.moment()?, request).await {
            Err(error) if is_hidden(&error) => Default::default(),
            page => page.map_err(|e| failed(&e))?,
        };
        let columns = match self.table {
            SystemTable::Commitments => commitments(bucket, &page.versions),
            _ => versions(bucket, &page.versions),
        };
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok((batch, page.next_after))
    }

    /// The caller's request with what policies are asked of a listing.
    fn listing(&self) -> ashlar_objects::access::RequestContext {
        let mut cx = self.caller.cx.as_ref().clone();
        cx.keys.push(("s3:prefix", self.scope.prefix.clone()));
        cx
    }
}

fn versions(bucket: &BucketName, all: &[ListedVersion]) -> Vec<ArrayRef> {
    let ids: Vec<String> = all.iter().map(|version| version.version.to_string()).collect();
    let tags: Vec<Option<String>> =
        all.iter().map(|version| version.object.as_ref().map(|object| object.etag.to_string())).collect();
    vec![
        texts(all.iter().map(|_| Some(bucket.as_str()))),
        texts(all.iter().map(|version| Some(version.key.as_str()))),
        texts(ids.iter().map(|id| Some(id.as_str()))),
        flags(all.iter().map(|version| version.latest)),
        flags(all.iter().map(|version| version.object.is_none())),
        numbers(all.iter().map(|version| version.object.as_ref().map(|object| object.length))),
        texts(tags.iter().map(Option::as_deref)),
        moments(all.iter().map(|version| version.modified.0)),
        texts(all.iter().map(|version| Some(version.owner.as_str()))),
    ]
}

/// What each version is committed by.
fn commitments(bucket: &BucketName, all: &[ListedVersion]) -> Vec<ArrayRef> {
    let all: Vec<_> = all.iter().filter_map(|version| Some((version, version.roots.as_ref()?))).collect();
    let ids: Vec<String> = all.iter().map(|(version, _)| version.version.to_string()).collect();
    let roots: Vec<_> =
        all.iter().map(|(_, (object, content))| (object.to_string(), content.to_string())).collect();
    vec![
        texts(all.iter().map(|_| Some(bucket.as_str()))),
        texts(all.iter().map(|(version, _)| Some(version.key.as_str()))),
        texts(ids.iter().map(|id| Some(id.as_str()))),
        flags(all.iter().map(|(version, _)| version.latest)),
        numbers(all.iter().map(|(version, _)| version.object.as_ref().map(|object| object.length))),
        texts(roots.iter().map(|(object, _)| Some(object.as_str()))),
        texts(roots.iter().map(|(_, content)| Some(content.as_str()))),
        numbers(all.iter().map(|(version, _)| version.position)),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text
}

/// A page, and after what the next begins.
type PageOf = (RecordBatch, Option<After>);

/// What the caller may not see looks as if it were not there.
fn is_hidden(error: &ashlar_objects::Error) -> bool {
    matches!(error, ashlar_objects::Error::AccessDenied | ashlar_objects::Error::NoSuchBucket)
}
