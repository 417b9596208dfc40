//! Many objects pinned at one moment: what a query resolves its paths to.
//!
//! Invariant: every object of one call was current at the same moment, and each was authorised as a listing
//! of its prefix and a GET of its key would be. Deliberately knows nothing of patterns, formats or SQL.

use std::sync::Arc;
use std::time::Duration;

use ashlar_metadata::namespace::manifests::{self, ManifestRow};
use ashlar_metadata::namespace::versions::{self, CurrentRow, VersionRow};
use ashlar_metadata::{Direction, KeyRange, Snapshot};

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::buckets::Bucket;
use crate::error::Error;
use crate::get::{Opened, all_parts};
use crate::leases::{Pinned, ReadLease};
use crate::requests::{ObjectName, ReadObject, Selection};
use crate::transaction::decode;
use crate::types::{BucketName, Conditions, ObjectKey};
use crate::versions::FoundVersion;

/// Rows of a listing read at a time.
const STEP_ROWS: usize = 500;

/// One moment of the store under a lease: what was current then can be found as long as this lives, and what was
/// found can be read as long as the lease is renewed. It holds old rows of metadata; let it go soon.
#[derive(Clone)]
pub struct Moment {
    lease: ReadLease,
    snapshot: Arc<dyn Snapshot>,
}

impl Moment {
    /// The lease, to be renewed and released.
    pub fn lease(&self) -> &ReadLease {
        &self.lease
    }

    pub(crate) fn snapshot(&self) -> &dyn Snapshot {
        &*self.snapshot
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Which objects to pin.
pub enum PinRequest<'a> {
    /// One object, by its key. It must be there.
    Object(BucketName, ObjectKey),
    /// Live objects whose keys begin so and are wanted.
    Prefix {
        /// Where.
        bucket: BucketName,
        /// What their keys begin with.
        prefix: String,
        /// Which of these; the others are neither authorised nor opened.
        wanted: &'a (dyn Fn(&str) -> bool + Send + Sync),
    },
}

/// One pinned object under its name.
#[derive(Clone, Debug)]
pub struct PinnedObject {
    /// Its bucket.
    pub bucket: BucketName,
    /// Its key.
    pub key: ObjectKey,
    /// These bytes, whatever happens to the key.
    pub pinned: Pinned,
}

impl Store {
    /// The present, under a lease for at most `ttl` unless renewed.
    pub async fn moment(&self, ttl: Duration) -> Result<Moment, Error> {
        // The lease first: whatever the snapshot shows died after it, if at all.
        let lease = self.lease(ttl).await?;
        let snapshot = self.snapshot().await?;
        Ok(Moment { lease, snapshot })
    }

    /// Pins what the requests name as of one moment, in the order of the requests, keys ascending.
    ///
    /// A prefix asks for ListBucket with `s3:prefix`, and every object for GetObject. More than `objects_max`
    /// objects in all are `InvalidRequest`.
    pub async fn pin_all(
        &self,
        cx: &RequestContext,
        moment: &Moment,
        requests: &[PinRequest<'_>],
        objects_max: usize,
    ) -> Result<Vec<Vec<PinnedObject>>, Error> {
        self.check_lease(&moment.lease).await?;
        let snapshot = &moment.snapshot;
        let mut all = Vec::with_capacity(requests.len());
        let mut left = objects_max;
        for request in requests {
            let pinned = match request {
                PinRequest::Object(bucket, key) => {
                    vec![self.pin_one(cx, &**snapshot, bucket, key).await?]
                }
                PinRequest::Prefix { bucket, prefix, wanted } => {
                    let bucket = self.bucket(&**snapshot, bucket).await?;
                    self.authorize_listing(cx, &bucket, prefix)?;
                    self.pin_prefix(cx, &**snapshot, &bucket, prefix, *wanted, left).await?
                }
            };
            left = left.checked_sub(pinned.len()).ok_or_else(|| too_many(objects_max))?;
            all.push(pinned);
        }
        Ok(all)
    }

    /// Whether a listing of this prefix would be answered.
    pub async fn may_list(
        &self,
        cx: &RequestContext,
        bucket: &BucketName,
        prefix: &str,
    ) -> Result<(), Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, bucket).await?;
        self.authorize_listing(cx, &bucket, prefix)
    }

    fn authorize_listing(&self, cx: &RequestContext, bucket: &Bucket, prefix: &str) -> Result<(), Error> {
        let mut cx = cx.clone();
        cx.keys.push(("s3:prefix", prefix.to_owned()));
        self.authorize_bucket(&cx, Action::ListBucket, bucket)
    }

    async fn pin_one(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<PinnedObject, Error> {
        let request = ReadObject {
            name: ObjectName::current(bucket, key),
            selection: Selection::Whole,
            conditions: Conditions::default(),
        };
        let opened =
            self.open_object(cx, snapshot, &request, Action::GetObject, Action::GetObjectVersion).await?;
        Ok(PinnedObject { bucket: bucket.clone(), key: key.clone(), pinned: opened.into_pinned() })
    }

    async fn pin_prefix(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        bucket: &Arc<Bucket>,
        prefix: &str,
        wanted: &(dyn Fn(&str) -> bool + Send + Sync),
        objects_max: usize,
    ) -> Result<Vec<PinnedObject>, Error> {
        let mut pinned = Vec::new();
        let mut range = KeyRange::prefix(versions::current_prefix(bucket.id(), prefix));
        loop {
            let page = snapshot
                .scan(range.clone(), Direction::Forward, STEP_ROWS)
                .await
                .map_err(|e| Error::internal("listing what a query reads", e))?;
            let mut chosen = Vec::new();
            for (key, row) in &page.rows {
                let name = versions::parse_current_key(key)
                    .ok_or_else(|| Error::internal("listing what a query reads", "a key does not read"))?;
                if wanted(&name) {
                    chosen.push((ObjectKey::new(&name)?, decode::<CurrentRow>(row)?.row));
                }
            }
            if pinned.len() + chosen.len() > objects_max {
                return Err(too_many(objects_max));
            }
            self.open_chosen(cx, snapshot, bucket, chosen, &mut pinned).await?;
            match page.rows.last() {
                Some((last, _)) if page.more => range = range.after(last),
                _ => return Ok(pinned),
            }
        }
    }

    async fn open_chosen(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        bucket: &Arc<Bucket>,
        chosen: Vec<(ObjectKey, CurrentRow)>,
        pinned: &mut Vec<PinnedObject>,
    ) -> Result<(), Error> {
        const READING: &str = "reading versions and manifests";
        let keys: Vec<_> = chosen
            .iter()
            .flat_map(|(key, current)| {
                [versions::key(bucket.id(), key, current.sequence), manifests::key(current.manifest)]
            })
            .collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let rows = snapshot.get_many(&keys).await.map_err(|e| Error::internal(READING, e))?;
        for ((key, current), rows) in chosen.into_iter().zip(rows.chunks_exact(2)) {
            let [Some(version), Some(manifest)] = rows else {
                return Err(Error::internal(READING, "the listing names what is not there"));
            };
            let found = FoundVersion::new(current.sequence, decode::<VersionRow>(version)?);
            let name = ObjectName::current(&bucket.name, &key);
            self.authorize_object(cx, Action::GetObject, bucket, &name, Some(&found), None)?;
            let manifest = decode::<ManifestRow>(manifest)?.row;
            let object = found.row.object.clone();
            let object = object.ok_or_else(|| Error::internal(READING, "a live object is a marker"))?;
            let multipart = manifest.multipart;
            let parts = all_parts(snapshot, object.manifest, manifest).await?;
            let opened = Opened { bucket: Arc::clone(bucket), found, object, parts, multipart };
            let (bucket, pin) = (bucket.name.clone(), opened.into_pinned());
            pinned.push(PinnedObject { bucket, key, pinned: pin });
        }
        Ok(())
    }
}

fn too_many(objects_max: usize) -> Error {
    Error::InvalidRequest { reason: format!("more than {objects_max} objects would be read at once") }
}
