//! A walk through every row that a recovery needs, a stretch at a time.
//!
//! What entries say is carried by entries; a walk carries the rest: what was there before the log, what is older than
//! the data-availability layer keeps, and rows that are too large for an entry. Each stretch is read in a snapshot of
//! its own, and rows that came after the walk began are passed over, because their entries carry them: so it ends, however
//! much is written. Invariant: secrets are in no row that is walked.

use ashlar_metadata::namespace::cluster;
use ashlar_metadata::namespace::keys::{KeyReader, Tag};
use ashlar_metadata::namespace::log::WalkBounds;
use ashlar_metadata::namespace::{outbox, users};
use ashlar_metadata::{Check, Commit, CommitError, Direction, KeyRange, Position, Write};
use bytes::Bytes;

use super::of_cluster_map;
use crate::Store;
use crate::error::Error;

/// Kinds of rows that are walked, in the order of the walk: what others refer to comes after what refers to it, so
/// that what is removed meanwhile leaves no row that refers to nothing.
pub(crate) const WALKED: [Tag; 9] = [
    Tag::Cluster,
    Tag::User,
    Tag::Bucket,
    Tag::BucketDocument,
    Tag::Version,
    Tag::Manifest,
    Tag::ManifestParts,
    Tag::Blob,
    Tag::ChunkPage,
];
/// Rows read at once.
const STEP_ROWS: usize = 2_000;
const READING: &str = "walking through metadata";

/// A stretch of a walk, or another piece of what is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Rows, key and value.
    pub rows: Vec<(Bytes, Bytes)>,
    /// The last key passed, from which the next stretch goes on; `None`: this was the last one.
    pub cursor: Option<Bytes>,
    /// The moment that was read.
    pub position: u64,
}

impl Stretch {
    /// What it takes where it is carried.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(carried_bytes).sum()
    }
}

/// What a row takes where it is carried: its bytes and their lengths.
fn carried_bytes((key, value): &(Bytes, Bytes)) -> usize {
    8 + key.len() + value.len()
}

/// Whether a row was there, or may have been, when a walk with these bounds began.
fn is_within(tag: Tag, key: &[u8], version: Position, bounds: &WalkBounds) -> bool {
    let id = || KeyReader::new(key, tag).and_then(|mut reader| reader.u128());
    match tag {
        // Whatever writes a version's row announces it.
        Tag::Version => version.0 <= bounds.position,
        // Ids go up; rows are written again without an entry when references or places change.
        Tag::Manifest | Tag::ManifestParts => id().is_none_or(|id| id <= bounds.manifest),
        Tag::Blob | Tag::ChunkPage => id().is_none_or(|id| id <= bounds.blob),
        // Says that all users follow, which is not so here.
        Tag::User => key != users::changed_key(),
        _ => true,
    }
}

impl Store {
    /// Where a walk ends that begins now.
    pub async fn walk_bounds(&self) -> Result<WalkBounds, Error> {
        let snapshot = self.snapshot().await?;
        let mut last = [0; 2];
        for (tag, last) in [Tag::Manifest, Tag::Blob].into_iter().zip(&mut last) {
            let all = KeyRange::prefix(Bytes::from(vec![tag as u8]));
            let page = snapshot.scan(all, Direction::Backward, 1).await;
            let page = page.map_err(|e| Error::internal(READING, e))?;
            let id = page.rows.first().and_then(|(key, _)| KeyReader::new(key, tag)?.u128());
            *last = id.unwrap_or(0);
        }
        let [manifest, blob] = last;
        Ok(WalkBounds { position: snapshot.position().0, manifest, blob })
    }

    /// The rows that come after `cursor`, from the first for `None`: as many as take `bytes_max` where they are carried, and
    /// at least one.
    pub async fn walk(
        &self,
        bounds: &WalkBounds,
        cursor: Option<&Bytes>,
        bytes_max: usize,
    ) -> Result<Stretch, Error> {
        let snapshot = self.snapshot().await?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let passed = cursor.and_then(|cursor| cursor.first().copied());
        let first = WALKED.iter().position(|tag| passed.is_none_or(|passed| passed == *tag as u8));
        let first = first.ok_or_else(|| Error::internal(READING, "the cursor is at no kind of row"))?;
        for (number, tag) in WALKED.iter().enumerate().skip(first) {
            let mut range = KeyRange::prefix(Bytes::from(vec![*tag as u8]));
            if let Some(cursor) = cursor.filter(|_| number == first) {
                range = range.after(cursor);
            }
            loop {
                let page = snapshot.scan(range.clone(), Direction::Forward, STEP_ROWS).await;
                let page = page.map_err(|e| Error::internal(READING, e))?;
                let last = page.rows.last().map(|(key, _)| key.clone());
                for (key, row) in page.rows {
                    if !is_within(*tag, &key, row.version, bounds) {
                        continue;
                    }
                    let row = (key, row.value);
                    if bytes > 0 && bytes + carried_bytes(&row) > bytes_max {
                        let cursor = rows.last().map(|(key, _): &(Bytes, Bytes)| key.clone());
                        return Ok(Stretch { rows, cursor, position: snapshot.position().0 });
                    }
                    bytes += carried_bytes(&row);
                    rows.push(row);
                }
                match last {
                    Some(last) if page.more => range = range.after(&last),
                    _ => break,
                }
            }
        }
        Ok(Stretch { rows, cursor: None, position: snapshot.position().0 })
    }

    /// All users, without secrets, if any was added or removed after `position`; and when. Before them stands the row that
    /// says that there are no others.
    pub async fn users_changed_since(&self, position: u64) -> Result<Option<(u64, Stretch)>, Error> {
        let snapshot = self.snapshot().await?;
        let key = users::changed_key();
        let changed = snapshot.get(&key).await.map_err(|e| Error::internal(READING, e))?;
        let Some(changed) = changed.filter(|changed| changed.version.0 > position) else { return Ok(None) };
        let mut rows = vec![(key.clone(), changed.value)];
        let mut range = KeyRange::prefix(users::prefix());
        loop {
            let page = snapshot.scan(range.clone(), Direction::Forward, STEP_ROWS).await;
            let page = page.map_err(|e| Error::internal(READING, e))?;
            let last = page.rows.last().map(|(key, _)| key.clone());
            let others = page.rows.into_iter().filter(|(other, _)| *other != key);
            rows.extend(others.map(|(key, row)| (key, row.value)));
            match last {
                Some(last) if page.more => range = range.after(&last),
                _ => {
                    let stretch = Stretch { rows, cursor: None, position: snapshot.position().0 };
                    return Ok(Some((changed.version.0, stretch)));
                }
            }
        }
    }

    /// Announces the cluster map as it is: an entry that says nothing new, for a log that has to go on while nothing
    /// changes.
    pub async fn announce_cluster_map(&self) -> Result<(), Error> {
        let snapshot = self.snapshot().await?;
        let row = snapshot.get(&cluster::key()).await.map_err(|e| Error::internal(READING, e))?;
        let row = row.ok_or_else(|| Error::internal(READING, "there is no cluster map"))?;
        let record = of_cluster_map(&row.value, self.inner.clock.now());
        let write = Write::PutAtPosition {
            key_prefix: outbox::prefix(),
            key_suffix: outbox::suffix(0),
            value: outbox::encode(&record),
        };
        let checks = vec![Check::At(cluster::key(), row.version)];
        match self.inner.kv.commit(Commit { checks, writes: vec![write], transaction: None }).await {
            // It changed, which was announced; or it was announced, or will be when this is tried again.
            Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Unknown { .. }) => Ok(()),
            Err(error) => Err(Error::internal("announcing the cluster map", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestStore;

    #[tokio::test]
    async fn a_walk_in_stretches_of_any_size_passes_every_row_once() {
        let test = TestStore::new().await;
        let mut writes = Vec::new();
        for (number, tag) in WALKED.iter().enumerate() {
            for row in 0..number * 3 {
                let key = Bytes::from(format!("{}key{row:03}", char::from(*tag as u8)));
                writes.push(Write::Put { key, value: Bytes::from(vec![7; row * 40]) });
            }
        }
        // What is not walked: secrets before all.
        let secret = ashlar_metadata::namespace::users::access_key_key("AK");
        writes.push(Write::Put { key: secret, value: Bytes::from_static(b"sealed") });
        let digest = ashlar_metadata::namespace::api_keys::key("0a1b");
        writes.push(Write::Put { key: digest, value: Bytes::from_static(b"digest") });
        test.kv.commit(Commit { checks: vec![], writes, transaction: None }).await.unwrap();
        let bounds =
            WalkBounds { manifest: u128::MAX, blob: u128::MAX, ..test.store.walk_bounds().await.unwrap() };
        let whole = test.store.walk(&bounds, None, usize::MAX).await.unwrap();
        assert!(whole.cursor.is_none() && whole.rows.len() > 100, "{}", whole.rows.len());
        assert!(
            whole.rows.iter().all(|(key, _)| key[0] != Tag::AccessKey as u8 && key[0] != Tag::ApiKey as u8)
        );
        for bytes_max in [1, 100, 333, 4000] {
            let (mut rows, mut cursor) = (Vec::new(), None);
            loop {
                let stretch = test.store.walk(&bounds, cursor.as_ref(), bytes_max).await.unwrap();
                assert!(stretch.rows.len() == 1 || stretch.bytes() <= bytes_max);
                rows.extend(stretch.rows);
                cursor = stretch.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(rows, whole.rows, "in stretches of {bytes_max} bytes");
        }
    }

    #[tokio::test]
    async fn a_log_goes_on_while_nothing_changes() {
        let test = TestStore::new().await;
        let before = test.store.outbox_after(None, 100).await.unwrap();
        test.store.announce_cluster_map().await.unwrap();
        let after = test.store.outbox_after(None, 100).await.unwrap();
        assert_eq!((before.len() + 1, &after[..before.len()]), (after.len(), &before[..]));
        let rows = test.store.recovery_rows(&after[before.len()..], usize::MAX).await.unwrap();
        assert_eq!(rows[0].rows[0].0, cluster::key());
    }
}
