//! The newest entry of a version, told from the version's own rows.
//!
//! Invariant: the record is byte for byte the one that was announced, because both are made by the same function
//! of the same rows, and every change of those rows announces them anew.

use ashlar_metadata::Snapshot;
use ashlar_metadata::namespace::manifests::{self, ManifestId, ManifestRow};

use super::{LogEntry, manifest_root, of_mark, of_put};
use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
use crate::get::all_parts;
use crate::requests::ObjectName;
use crate::transaction::read;

/// The root over a manifest's parts, all pages read.
pub(crate) async fn stored_manifest_root(
    snapshot: &dyn Snapshot,
    manifest: ManifestId,
) -> Result<[u8; 32], Error> {
    let row = read::<ManifestRow>(snapshot, &manifests::key(manifest)).await?;
    let row = row.ok_or_else(|| Error::internal("reading a manifest", "it is not there"))?.row;
    Ok(manifest_root(&all_parts(snapshot, manifest, row).await?))
}

impl Store {
    /// The newest put or mark of the version that `name` means, for who may HEAD it. A delete marker has to be
    /// named by its id.
    pub async fn log_entry(&self, cx: &RequestContext, name: &ObjectName) -> Result<LogEntry, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, &name.bucket).await?;
        let action = if name.version.is_some() { Action::GetObjectVersion } else { Action::GetObject };
        let (found, _) = self.find(cx, &*snapshot, &bucket, name, action).await?;
        let record = match &found.row.object {
            Some(object) => {
                let root = stored_manifest_root(&*snapshot, object.manifest).await?;
                of_put(&bucket.name, &name.key, &found.row, object, root)
            }
            None if name.version.is_some() => of_mark(&bucket.name, &name.key, &found.row),
            None => {
                let marker = Error::CurrentIsDeleteMarker { version: found.row.id };
                return Err(self.missing(cx, action, &bucket, name, marker));
            }
        };
        let (position, index) = found.log_place().ok_or(Error::NoLogEntry)?;
        Ok(LogEntry { position, index, record: record.encode() })
    }
}
