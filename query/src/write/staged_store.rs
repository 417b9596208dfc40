//! The place where DataFusion's writers put files: objects of a publish group.
//!
//! Invariant: writes only, below the one location that the statement named; bytes go on as they come, at most a
//! bounded number of pieces ahead; a file that is not finished is not staged.

use std::fmt;
use std::sync::Arc;

use ashlar_objects::requests::BodyError;
use ashlar_objects::types::ObjectKey;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::changes::{Changes, put};
use crate::error::SqlError;
use crate::location::{Keys, Location};
use crate::scan::pinned_store::failed;

/// Under which URL writers find it.
pub(crate) const STAGED_URL: &str = "ashlar-staged://objects/";
/// Pieces that a writer may be ahead of the store.
const PIECES_AHEAD_MAX: usize = 4;

/// Where one statement writes.
#[derive(Clone)]
pub(crate) struct StagedStore {
    pub(crate) changes: Arc<Changes>,
    pub(crate) location: Location,
    /// Why a file was not staged: writers forget what failed when they finish.
    failure: Failure,
}

type Failure = Arc<Mutex<Option<SqlError>>>;

impl StagedStore {
    /// For one statement.
    pub(crate) fn new(changes: Arc<Changes>, location: Location) -> Self {
        Self { changes, location, failure: Failure::default() }
    }

    /// The first failure.
    pub(crate) fn failure(&self) -> Option<SqlError> {
        self.failure.lock().clone()
    }

    /// Where a path of the writer's lies. `Path` encodes what it takes for special; the key is what was meant.
    fn key(&self, path: &Path) -> Result<ObjectKey> {
        let folder = match &self.location.keys {
            Keys::One(key) => return Ok(key.clone()),
            Keys::Below(_) | Keys::Matching(_) => self.location.prefix(),
        };
        let parts: Vec<_> = path
            .parts()
            .map(|part| percent_decode_str(part.as_ref()).decode_utf8_lossy().into_owned())
            .collect();
        let key = format!("{folder}{}", parts.join("/"));
        ObjectKey::new(&key).map_err(|e| failed(SqlError::invalid(format!("{}: {e}", self.location))))
    }

    fn upload(&self, path: &Path) -> Result<Upload> {
        let key = self.key(path)?;
        let (send, receive) = mpsc::channel::<std::result::Result<Bytes, BodyError>>(PIECES_AHEAD_MAX);
        let body = futures::stream::unfold(receive, async |mut receive| {
            receive.recv().await.map(|piece| (piece, receive))
        });
        let request = put(&self.location.bucket, &key, None, Box::pin(body));
        let changes = Arc::clone(&self.changes);
        let task = AbortOnDropHandle::new(
            tokio::runtime::Handle::current().spawn(async move { changes.stage_own(request).await }),
        );
        Ok(Upload { send: Some(send), task: Some(task), failure: Arc::clone(&self.failure) })
    }
}

impl fmt::Debug for StagedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedStore").field("location", &self.location.to_string()).finish_non_exhaustive()
    }
}

impl fmt::Display for StagedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location)
    }
}

/// One file on its way.
struct Upload {
    send: Option<mpsc::Sender<std::result::Result<Bytes, BodyError>>>,
    task: Option<AbortOnDropHandle<std::result::Result<(), SqlError>>>,
    failure: Failure,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let send = self.send.clone();
        async move {
            let gone = || failed(SqlError::internal("writing rows", &"the upload ended early"));
            let send = send.ok_or_else(gone)?;
            for piece in data {
                // Why it ended, `complete` tells.
                if send.send(Ok(piece)).await.is_err() {
                    break;
                }
            }
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.send = None;
        let task =
            self.task.take().ok_or_else(|| failed(SqlError::internal("writing rows", &"completed twice")))?;
        let staged = task.await.map_err(|e| failed(SqlError::internal("writing rows", &e)))?;
        if let Err(error) = staged {
            self.failure.lock().get_or_insert_with(|| error.clone());
            return Err(failed(error));
        }
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        // Told that the body broke off, the store keeps nothing.
        if let Some(send) = self.send.take() {
            let _ = send.send(Err(BodyError::Incomplete { received: 0 })).await;
        }
        self.task = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // An end without an error would look like a whole file.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn refused(operation: &str) -> Error {
    Error::NotSupported { source: format!("{operation} where a statement writes").into() }
}

#[async_trait]
impl ObjectStore for StagedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        let mut upload = self.upload(location)?;
        upload.put_part(payload).await?;
        upload.complete().await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(self.upload(location)?))
    }

    async fn get_opts(&self, _: &Path, _: GetOptions) -> Result<GetResult> {
        Err(refused("reading"))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { Err(refused("deletion")) }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::once(async { Err(refused("listing")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(refused("listing"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("copying"))
    }
}
