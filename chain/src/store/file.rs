//! One file a key in a directory, replaced whole.
//!
//! Invariant: the file is at all times one whole record: the new one is written and synced beside it, then renamed over
//! it, and the name is synced. A lock file keeps other processes out for as long as this store lives; a fence in the
//! record keeps out whoever held the key before, should locks not reach him. Deliberately knows nothing of chains.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::{Disk, DiskLock, OpenMode};
use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Fence, KeyId, KeyRecord, TransactionStore, TransactionStoreError};

/// The store over a directory.
#[derive(Clone)]
pub struct FileTransactionStore(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// Keys held by this process. Also orders changes: one file is changed by one caller at a time.
    held: Mutex<HashMap<KeyId, Box<dyn DiskLock>>>,
}

fn failed(error: &io::Error) -> TransactionStoreError {
    TransactionStoreError::Failed(error.to_string())
}

impl FileTransactionStore {
    /// Opens the directory, made if missing. Blocks.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, TransactionStoreError> {
        disk.create_dir_all(directory).map_err(|error| failed(&error))?;
        let held = Mutex::new(HashMap::new());
        Ok(Self(Arc::new(Inner { disk, directory: directory.to_owned(), held })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, TransactionStoreError> + Send + 'static,
    ) -> Result<T, TransactionStoreError> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            Err(error) => Err(TransactionStoreError::Failed(format!("the storing thread ended: {error}"))),
        }
    }
}

impl Inner {
    fn path(&self, key: KeyId, suffix: &str) -> PathBuf {
        self.directory.join(format!("{key}.{suffix}"))
    }

    fn read(&self, key: KeyId) -> Result<Option<(Fence, KeyRecord)>, TransactionStoreError> {
        let path = self.path(key, "transactions");
        if !self.disk.exists(&path).map_err(|error| failed(&error))? {
            return Ok(None);
        }
        let read = || {
            let file = self.disk.open(&path, OpenMode::Existing)?;
            let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error: io::Error| failed(&error))?;
        let record = KeyRecord::decode(&bytes);
        record.map(Some).map_err(|why| TransactionStoreError::Damaged { path, why })
    }

    fn read_fenced(&self, key: KeyId, fence: Fence) -> Result<KeyRecord, TransactionStoreError> {
        let (newest, record) = self.read(key)?.unwrap_or((Fence(0), KeyRecord::default()));
        if newest != fence {
            return Err(TransactionStoreError::Fenced { key, ours: fence.0, newest: newest.0 });
        }
        Ok(record)
    }

    fn write(&self, key: KeyId, fence: Fence, record: &KeyRecord) -> Result<(), TransactionStoreError> {
        let (path, new) = (self.path(key, "transactions"), self.path(key, "new"));
        let write = || {
            let file = self.disk.open(&new, OpenMode::OpenOrCreate)?;
            // What a crash left of an earlier one may be longer.
            file.set_len(0)?;
            file.write_all_at(&[&record.encode(fence)], 0)?;
            file.sync_data()?;
            self.disk.rename(&new, &path)?;
            self.disk.sync_dir(&self.directory)
        };
        write().map_err(|error: io::Error| failed(&error))
    }
}

#[async_trait]
impl TransactionStore for FileTransactionStore {
    async fn acquire(&self, key: KeyId) -> Result<(Fence, KeyRecord), TransactionStoreError> {
        self.blocking(move |inner| {
            let mut held = inner.held.lock();
            if let Entry::Vacant(free) = held.entry(key) {
                let lock = inner.disk.lock(&inner.path(key, "lock")).map_err(|error| match error.kind() {
                    io::ErrorKind::WouldBlock => TransactionStoreError::Held { key },
                    _ => failed(&error),
                })?;
                free.insert(lock);
            }
            let (fence, record) = inner.read(key)?.unwrap_or((Fence(0), KeyRecord::default()));
            let fence = Fence(fence.0 + 1);
            inner.write(key, fence, &record)?;
            Ok((fence, record))
        })
        .await
    }

    async fn load(&self, key: KeyId, fence: Fence) -> Result<KeyRecord, TransactionStoreError> {
        self.blocking(move |inner| {
            let _held = inner.held.lock();
            inner.read_fenced(key, fence)
        })
        .await
    }

    async fn save(&self, key: KeyId, fence: Fence, record: KeyRecord) -> Result<(), TransactionStoreError> {
        self.blocking(move |inner| {
            let _held = inner.held.lock();
            inner.read_fenced(key, fence)?;
            inner.write(key, fence, &record)
        })
        .await
    }
}
