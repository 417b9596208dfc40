//! One file a lock in a directory, replaced whole: a provider's books.
//!
//! ```text
//! <directory>/lock            held as long as the books are open
//! <directory>/<lock id>.book  BLAKE3 of the value 32 ‖ value
//! ```
//!
//! Invariant: a file is at all times one whole value: the new one is written and synced beside it, renamed over it, and
//! the name is synced. What a crash left half-written has another name and is removed when the books are opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_compute_api::LockId;
use ashlar_disk::{Disk, DiskLock, OpenMode};
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Books, BooksError};

const BOOK: &str = "book";
const NEW: &str = "new";
const HASH_BYTES: usize = 32;

/// Books in a directory.
#[derive(Clone)]
pub struct FileBooks(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// One change at a time.
    changes: Mutex<()>,
    _held: Box<dyn DiskLock>,
}

fn failed(error: &io::Error) -> BooksError {
    BooksError::Failed { reason: error.to_string() }
}

impl FileBooks {
    /// Opens the directory, made if missing; refused while another process has it. Blocks.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, BooksError> {
        disk.create_dir_all(directory).map_err(|error| failed(&error))?;
        let held = disk.lock(&directory.join("lock")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => BooksError::Held,
            _ => failed(&error),
        })?;
        let inner = Inner { disk, directory: directory.to_owned(), changes: Mutex::new(()), _held: held };
        inner.sweep().map_err(|error| failed(&error))?;
        Ok(Self(Arc::new(inner)))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BooksError> + Send + 'static,
    ) -> Result<T, BooksError> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            Err(error) => Err(BooksError::Failed { reason: format!("the storing thread ended: {error}") }),
        }
    }
}

impl Inner {
    fn path(&self, lock: LockId, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}.{suffix}", hex::encode(lock.0)))
    }

    fn sweep(&self) -> io::Result<()> {
        for name in self.disk.list_dir(&self.directory)? {
            if name.extension().is_some_and(|suffix| suffix == NEW) {
                self.disk.remove_file(&self.directory.join(name))?;
            }
        }
        self.disk.sync_dir(&self.directory)
    }

    fn read(&self, path: &Path, lock: LockId) -> Result<Vec<u8>, BooksError> {
        let read = || {
            let file = self.disk.open(path, OpenMode::Existing)?;
            let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error: io::Error| failed(&error))?;
        let (hash, value) = bytes.split_first_chunk::<HASH_BYTES>().ok_or(BooksError::Damaged { lock })?;
        if blake3::hash(value) != *hash {
            return Err(BooksError::Damaged { lock });
        }
        Ok(value.to_vec())
    }

    fn write(&self, lock: LockId, value: &[u8]) -> io::Result<()> {
        let (path, new) = (self.path(lock, BOOK), self.path(lock, NEW));
        let file = self.disk.open(&new, OpenMode::OpenOrCreate)?;
        // What a failure left of an earlier one may be longer.
        file.set_len(0)?;
        file.write_all_at(&[blake3::hash(value).as_bytes(), value], 0)?;
        file.sync_data()?;
        self.disk.rename(&new, &path)?;
        self.disk.sync_dir(&self.directory)
    }
}

#[async_trait]
impl Books for FileBooks {
    async fn load(&self) -> Result<Vec<(LockId, Vec<u8>)>, BooksError> {
        self.blocking(|inner| {
            let _one = inner.changes.lock();
            let names = inner.disk.list_dir(&inner.directory).map_err(|error| failed(&error))?;
            let mut found = Vec::new();
            for name in names {
                let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".book")) else { continue };
                let mut id = [0; 32];
                let is_named = hex::decode_to_slice(stem, &mut id).is_ok();
                if is_named {
                    let lock = LockId(id);
                    found.push((lock, inner.read(&inner.directory.join(&name), lock)?));
                }
            }
            Ok(found)
        })
        .await
    }

    async fn store(&self, lock: LockId, value: Vec<u8>) -> Result<(), BooksError> {
        self.blocking(move |inner| {
            let _one = inner.changes.lock();
            inner.write(lock, &value).map_err(|error| failed(&error))
        })
        .await
    }

    async fn remove(&self, lock: LockId) -> Result<(), BooksError> {
        self.blocking(move |inner| {
            let _one = inner.changes.lock();
            let path = inner.path(lock, BOOK);
            let remove = || {
                if inner.disk.exists(&path)? {
                    inner.disk.remove_file(&path)?;
                }
                inner.disk.sync_dir(&inner.directory)
            };
            remove().map_err(|error: io::Error| failed(&error))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::{CrashPlan, FaultyDisk, RealDisk};

    #[tokio::test]
    async fn books_are_there_after_a_restart_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let open = || FileBooks::open(Arc::new(RealDisk::new()), folder.path());
        let (one, two) = (LockId([1; 32]), LockId([2; 32]));
        let books = open().unwrap();
        assert_eq!(open().err(), Some(BooksError::Held));
        books.store(one, b"first".to_vec()).await.unwrap();
        books.store(two, b"other".to_vec()).await.unwrap();
        books.store(one, b"second".to_vec()).await.unwrap();
        books.remove(two).await.unwrap();
        books.remove(two).await.unwrap();
        drop(books);
        let books = open().unwrap();
        assert_eq!(books.load().await.unwrap(), [(one, b"second".to_vec())]);
        let path = books.0.path(one, BOOK);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(books.load().await, Err(BooksError::Damaged { lock: one }));
    }

    #[tokio::test]
    async fn what_was_stored_survives_losing_everything_that_was_not_synced() {
        let disk = Arc::new(FaultyDisk::new(1 << 20));
        let lock = LockId([1; 32]);
        let books = FileBooks::open(Arc::clone(&disk) as _, Path::new("/books")).unwrap();
        for round in 0..5u8 {
            books.store(lock, vec![round; 100]).await.unwrap();
        }
        drop(books);
        let disk = disk.crash(CrashPlan::LoseAll);
        let books = FileBooks::open(Arc::new(disk), Path::new("/books")).unwrap();
        assert_eq!(books.load().await.unwrap(), [(lock, vec![4; 100])]);
    }
}
