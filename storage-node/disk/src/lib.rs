//! The disk seam: every byte Ashlar itself makes durable goes through [`Disk`].
//!
//! Owns the trait and its implementations: the real file system, and a faulty one for tests that keeps
//! unsynced writes apart so that a crash can lose, tear or reorder any subset of them. Both the shard
//! store and the metadata journal are written against this trait, so one crash harness proves both.
//!
//! Deliberately knows nothing of extents, journals or formats.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod faulty;
mod real;

pub use faulty::{
    BLOCK_BYTES, CrashPlan, Fault, FaultyDisk, FileOp, FileOpKind, SECTOR_BYTES, SyncPhase, SyncPoint,
};
pub use real::RealDisk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What offsets and total lengths of writes through [`Disk::open_direct`] are multiples of.
pub const DIRECT_ALIGN_BYTES: usize = 4096;

/// A file system directory tree that can be made durable.
///
/// Calls block; async callers run them on blocking threads. A write is durable only after
/// [`DiskFile::sync_data`] on that file returned, and a file's *name* only after [`Disk::sync_dir`] on its
/// directory returned. Nothing else may be assumed: unsynced writes can survive, vanish or tear
/// independently of each other.
pub trait Disk: Send + Sync + 'static {
    /// Opens `path` for reading and writing.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens `path` so that writes go round the page cache where the file system can do that.
    ///
    /// The offset and the total length of every write must be multiples of [`DIRECT_ALIGN_BYTES`]
    /// (`InvalidInput` otherwise); the parts of a write need no alignment, at the price of one copy.
    /// Reads need none and see every write that returned.
    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Takes the exclusive lock on `path` (created if missing) until the guard drops or the process ends;
    /// `WouldBlock` if anybody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
    /// Creates `path` and its missing parents, and makes the new names durable.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names (not paths) of the entries of `path`, sorted.
    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Atomically replaces `to` with `from`; durable after `sync_dir` on the parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file; durable after `sync_dir` on the parent.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes names created, renamed or removed in `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether a file or directory exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes on the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// An identity of the file system that holds `path`: equal for paths that share one.
    fn file_system_id(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. All offsets are absolute; there is no cursor.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file is shorter.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Like [`DiskFile::read_exact_at`] where that needs no waiting for the device; `false`, with `buf` in
    /// any state, where it would.
    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        self.read_exact_at(buf, offset).map(|()| true)
    }
    /// Writes all of `parts`, one after another, from `offset`.
    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Like [`DiskFile::write_all_at`], and durable when it returns; other writes to the file need not be.
    fn write_durable_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write_all_at(parts, offset)?;
        self.sync_data()
    }
    /// Makes every earlier write to this file, and the size that reaches them, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// File size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Grows or cuts the file; new bytes read as zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space for `[offset, offset + len)` without changing what it reads as; grows the file.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Gives the space of `[offset, offset + len)` back; it reads as zero afterwards.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
}

/// Holds a lock taken by [`Disk::lock`]; dropping it releases the lock.
pub trait DiskLock: Send + Sync + 'static {}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It must not exist.
    CreateNew,
    /// Either.
    OpenOrCreate,
}

/// Space on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total_bytes: u64,
    /// Bytes that an unprivileged writer can still take.
    pub available_bytes: u64,
}
