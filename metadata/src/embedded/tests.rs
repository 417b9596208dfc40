//! Tests of the embedded store as a whole, on the disk that forgets what was not synced.

mod conformance;
mod crash;
mod failures;
mod recovery;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::FaultyDisk;
use bytes::Bytes;

use super::*;
use crate::commit::Write;

/// Small segments and bases, so that tests pass through rolling, cutting and checkpoints.
fn small() -> Options {
    Options {
        cache_bytes: 4 * 1024 * 1024,
        segment_bytes: 64 * 1024,
        checkpoint_journal_bytes_min: 128 * 1024,
        checkpoint_bytes_per_second: u64::MAX,
        ..Options::default()
    }
}

/// A metadata directory and the given number of replicas, all on one disk.
fn locations(disk: &FaultyDisk, replicas: usize) -> Vec<JournalLocation> {
    let dirs = std::iter::once(PathBuf::from("/meta"))
        .chain((0..replicas).map(|node| PathBuf::from(format!("/disk-{node}/nodes/node-{node}/journal"))));
    dirs.map(|dir| JournalLocation { disk: Arc::new(disk.clone()), dir }).collect()
}

fn reopen(disk: &FaultyDisk, replicas: usize) -> EmbeddedKv {
    EmbeddedKv::open(&locations(disk, replicas), &small()).unwrap()
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(name: &str, value: impl Into<Bytes>) -> Commit {
    let writes = vec![Write::Put { key: key(name), value: value.into() }];
    Commit { writes, ..Commit::default() }
}

/// Commits `rows` rows named `{prefix}{number}`, each with its number and some weight as value.
async fn fill(kv: &EmbeddedKv, prefix: &str, rows: usize) {
    for row in 0..rows {
        let value = format!("{row:0>2000}");
        kv.commit(put(&format!("{prefix}{row:05}"), value)).await.unwrap();
    }
}

async fn names(kv: &EmbeddedKv) -> Vec<String> {
    let snapshot = kv.snapshot().await.unwrap();
    let mut names = Vec::new();
    let mut range = KeyRange::all();
    loop {
        let page = snapshot.scan(range.clone(), Direction::Forward, 1000).await.unwrap();
        names.extend(page.rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()));
        match page.rows.last() {
            Some((last, _)) if page.more => range = range.after(last),
            _ => return names,
        }
    }
}

fn dir(location: &JournalLocation) -> &Path {
    &location.dir
}
