//! Pinned objects in the clothes of an `ObjectStore`, for DataFusion's own readers of CSV, JSON and Arrow.
//!
//! Invariant: gives out what one execution pinned and nothing else; it lists nothing, writes nothing, and no
//! other store is behind any URL. So neither files nor hosts can be reached, whatever a statement says.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ashlar_objects::pinning::PinnedObject;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use url::Url;

use super::format::{Format, FormatKind};
use super::lease::HeldLease;
use super::null_words::NullWords;
use super::pins::{Open, Pins, Texts};
use super::records::Records;
use crate::write::staged_store::{STAGED_URL, StagedStore};

/// Under which URL scans find it.
pub(crate) const PINNED_URL: &str = "ashlar-pinned://objects/";
/// Its name in errors.
const NAME: &str = "ashlar";

/// What one execution pinned, by path.
pub(crate) struct PinnedStore {
    lease: Option<Arc<HeldLease>>,
    objects: HashMap<Path, PinnedObject>,
    open: Open,
    texts: Texts,
    memory: Arc<dyn MemoryPool>,
}

/// The path of an object in a scan. Two keys may look the same as paths, so the second is told apart.
pub(crate) fn path_of(object: &PinnedObject) -> Path {
    let plain = format!("{}/{}", object.bucket, object.key);
    match Path::parse(&plain) {
        Ok(path) => path,
        Err(_) => Path::from(format!("{plain}~{:032x}", object.pinned.content_id())),
    }
}

/// An object's facts as DataFusion wants them.
pub(crate) fn meta_of(object: &PinnedObject) -> ObjectMeta {
    let head = &object.pinned.head;
    ObjectMeta {
        location: path_of(object),
        last_modified: DateTime::<Utc>::from_timestamp_millis(head.modified.0).unwrap_or_default(),
        size: head.length,
        e_tag: Some(format!("{:032x}", object.pinned.content_id())),
        version: None,
    }
}

/// What the path of a text file begins with, before its number; no bucket is named so.
const TEXT: &str = "TEXT.";

/// The same of a file of text, which is unpacked and watched on its way. A packed one has no size by which it could
/// be split.
pub(crate) fn meta_of_text(object: &PinnedObject, format: &Format, number: usize) -> ObjectMeta {
    let meta = meta_of(object);
    let size = if format.packed().is_compressed() { 1 } else { meta.size };
    let location = Path::parse(format!("{TEXT}{number}/{}", meta.location)).unwrap_or(meta.location);
    ObjectMeta { location, size, ..meta }
}

/// The number of a text file, and the path of its object.
fn text_of(path: &Path) -> Option<(usize, Path)> {
    let (number, rest) = path.as_ref().strip_prefix(TEXT)?.split_once('/')?;
    Some((number.parse().ok()?, Path::parse(rest).ok()?))
}

impl PinnedStore {
    /// Of what was pinned, for a statement with memory of its own.
    pub(crate) fn new(pins: Option<&Pins>, memory: Arc<dyn MemoryPool>) -> Self {
        let objects = pins.into_iter().flat_map(Pins::all).map(|object| (path_of(object), object.clone()));
        let texts = pins.map(|pins| pins.texts().clone()).unwrap_or_default();
        let open = pins.map(|pins| pins.open_pages().clone()).unwrap_or_default();
        Self {
            lease: pins.map(|pins| Arc::clone(&pins.lease)),
            objects: objects.collect(),
            open,
            texts,
            memory,
        }
    }

    /// A text file from its beginning, or from the beginning of a line: unpacked, and never more of it than there
    /// is memory for.
    fn as_text(
        &self,
        number: usize,
        body: BoxStream<'static, Result<Bytes>>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (format, batch_rows) = self.texts.get(number).ok_or_else(|| refused("reading in this format"))?;
        let body = body.map_err(DataFusionError::from).boxed();
        let unpacked = format.packed().convert_stream(body).map_err(|e| failed(e.into()))?;
        let held = MemoryConsumer::new("reading text").register(&self.memory);
        let mut records = Records::new(&format, batch_rows, held);
        let unpacked = match format.csv.null.as_deref().filter(|_| format.kind == FormatKind::Csv) {
            None | Some("") => unpacked,
            Some(word) => {
                let words = Arc::new(Mutex::new(NullWords::new(word, &format.csv)));
                let at_end = Arc::clone(&words);
                let rest = futures::stream::once(async move { Ok(at_end.lock().end()) });
                unpacked.map_ok(move |piece| words.lock().pass(&piece)).chain(rest).boxed()
            }
        };
        let watched = unpacked.map(move |piece| {
            let piece = piece.map_err(|e| failed(e.into()))?;
            records.pass(&piece).map_err(failed)?;
            Ok(piece)
        });
        Ok(watched.boxed())
    }

    fn find(&self, path: &Path) -> Result<(&Arc<HeldLease>, PinnedObject)> {
        let object = self.objects.get(path).cloned().or_else(|| self.open.get(path));
        let found = self.lease.as_ref().zip(object);
        found.ok_or_else(|| Error::NotFound { path: path.to_string(), source: "it is not pinned".into() })
    }
}

impl fmt::Debug for PinnedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedStore").field("objects", &self.objects.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for PinnedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pinned objects")
    }
}

pub(crate) fn failed(error: crate::SqlError) -> Error {
    Error::Generic { store: NAME, source: Box::new(error) }
}

fn refused(operation: &str) -> Error {
    Error::NotSupported { source: format!("{operation} of a pinned object").into() }
}

#[async_trait]
impl ObjectStore for PinnedStore {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused("writing"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("writing"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let text = text_of(location);
        let (lease, object) = self.find(text.as_ref().map_or(location, |(_, path)| path))?;
        let meta = meta_of(&object);
        let range = match &options.range {
            Some(range) => {
                range.as_range(meta.size).map_err(|e| Error::Generic { store: NAME, source: Box::new(e) })?
            }
            None => 0..meta.size,
        };
        let body = if options.head {
            futures::stream::empty().boxed()
        } else {
            let body = lease.stream(&object.pinned, range.clone()).await.map_err(failed)?;
            let body = body.map_err(failed).boxed();
            match text {
                Some((number, _)) => self.as_text(number, body)?,
                None => body,
            }
        };
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes: Default::default() })
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

/// The URLs of one execution: pinned objects, and where it writes if it does.
#[derive(Debug)]
pub(crate) struct ExecutionStores {
    pub(crate) pinned: Arc<PinnedStore>,
    pub(crate) staged: Option<Arc<StagedStore>>,
}

impl ObjectStoreRegistry for ExecutionStores {
    fn register_store(&self, _: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        // Nobody may add a way out.
        Some(store)
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        let root = url.join("/").map(String::from).unwrap_or_default();
        if root == PINNED_URL {
            return Ok(Arc::<PinnedStore>::clone(&self.pinned));
        }
        if let (Some(staged), STAGED_URL) = (&self.staged, root.as_str()) {
            return Ok(Arc::<StagedStore>::clone(staged));
        }
        let what = crate::SqlError::invalid("only objects of this store can be read and written");
        Err(what.into())
    }
}
