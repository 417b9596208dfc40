//! Rows of `system`, a page of the store at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ashlar_objects::access::Principal;
use ashlar_objects::requests::{ListObjects, ListVersions, Versioning};
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

/// Where a walk is.
struct Walk {
    table: SystemTable,
    schema: SchemaRef,
    caller: Arc<Caller>,
    prefix: String,
    buckets: Buckets,
    /// The bucket being listed, and after which of its entries to go on.
    open: Option<(BucketName, Option<After>)>,
}

/// A key, and of its versions one.
type After = (String, Option<VersionId>);

/// Which buckets are still to come.
enum Buckets {
    Named(std::vec::IntoIter<String>),
    /// A page of them, and after which the next begins; the last page has none.
    Pages(std::vec::IntoIter<BucketName>, Option<Option<String>>),
}

/// All rows of a table.
pub(super) fn rows(
    table: SystemTable,
    schema: SchemaRef,
    caller: Arc<Caller>,
    scope: Scope,
) -> impl Stream<Item = DataFusionResult<RecordBatch>> + Send {
    let buckets = match scope.buckets {
        Some(names) => Buckets::Named(names.into_iter()),
        None => Buckets::Pages(Vec::new().into_iter(), Some(None)),
    };
    let walk = Walk { table, schema, caller, prefix: scope.prefix, buckets, open: None };
    stream::try_unfold(Some(walk), async |walk| {
        let Some(mut walk) = walk else { return Ok(None) };
        let batch = match walk.table {
            SystemTable::Queries => return Ok(Some((walk.queries()?, None))),
            SystemTable::Buckets => walk.page_of_buckets().await?,
            SystemTable::Objects | SystemTable::ObjectVersions => walk.page_of_entries().await?,
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

    async fn page_of_buckets(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let Buckets::Pages(_, next) = &mut self.buckets else { return Ok(None) };
        let Some(after) = next.take() else { return Ok(None) };
        let store = &self.caller.engine.inner.store;
        let (page, more) = store
            .list_buckets(&self.caller.cx, "", after.as_deref(), PAGE_MAX)
            .await
            .map_err(|e| failed(&e))?;
        *next = more.map(Some);
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
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }

    async fn next_bucket(&mut self) -> Result<Option<BucketName>, SqlError> {
        loop {
            match &mut self.buckets {
                Buckets::Named(names) => match names.next() {
                    None => return Ok(None),
                    // A name that no bucket can have.
                    Some(name) => {
                        if let Ok(name) = BucketName::new(&name) {
                            return Ok(Some(name));
                        }
                    }
                },
                Buckets::Pages(page, next) => {
                    if let Some(name) = page.next() {
                        return Ok(Some(name));
                    }
                    let Some(after) = next.take() else { return Ok(None) };
                    let store = &self.caller.engine.inner.store;
                    let (found, more) = store
                        .list_buckets(&self.caller.cx, "", after.as_deref(), PAGE_MAX)
                        .await
                        .map_err(|e| failed(&e))?;
                    *page = found.into_iter().map(|bucket| bucket.name).collect::<Vec<_>>().into_iter();
                    *next = more.map(Some);
                }
            }
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
                SystemTable::ObjectVersions => self.versions(&bucket, after).await?,
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
            prefix: self.prefix.clone(),
            delimiter: None,
            after,
            max: PAGE_MAX,
        };
        let page = match store.list_objects(&cx, request).await {
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
            prefix: self.prefix.clone(),
            delimiter: None,
            after,
            max: PAGE_MAX,
        };
        let page = match store.list_versions(&cx, request).await {
            Err(error) if is_hidden(&error) => Default::default(),
            page => page.map_err(|e| failed(&e))?,
        };
        let all = &page.versions;
        let ids: Vec<String> = all.iter().map(|version| version.version.to_string()).collect();
        let tags: Vec<Option<String>> =
            all.iter().map(|version| version.object.as_ref().map(|object| object.etag.to_string())).collect();
        let columns = vec![
            texts(all.iter().map(|_| Some(bucket.as_str()))),
            texts(all.iter().map(|version| Some(version.key.as_str()))),
            texts(ids.iter().map(|id| Some(id.as_str()))),
            flags(all.iter().map(|version| version.latest)),
            flags(all.iter().map(|version| version.object.is_none())),
            numbers(all.iter().map(|version| version.object.as_ref().map(|object| object.length))),
            texts(tags.iter().map(Option::as_deref)),
            moments(all.iter().map(|version| version.modified.0)),
            texts(all.iter().map(|version| Some(version.owner.as_str()))),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok((batch, page.next_after))
    }

    /// The caller's request with what policies are asked of a listing.
    fn listing(&self) -> ashlar_objects::access::RequestContext {
        let mut cx = self.caller.cx.as_ref().clone();
        cx.keys.push(("s3:prefix", self.prefix.clone()));
        cx
    }
}

/// A page, and after what the next begins.
type PageOf = (RecordBatch, Option<After>);

/// What the caller may not see looks as if it were not there.
fn is_hidden(error: &ashlar_objects::Error) -> bool {
    matches!(error, ashlar_objects::Error::AccessDenied | ashlar_objects::Error::NoSuchBucket)
}
