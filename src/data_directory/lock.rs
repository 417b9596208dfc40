//! The lock on a data directory or disk: one process at a time.
//!
//! Invariant: the kernel holds the lock, so that it ends with its process however that ends; the file's
//! content only tells people which process it is.

use std::io;
use std::path::{Path, PathBuf};

use ashlar_disk::{Disk, DiskLock, RealDisk};

const LOCK_NAME: &str = "lock";

/// The directory is ours until this drops.
pub(crate) struct DirectoryLock {
    _lock: Box<dyn DiskLock>,
}

/// Why the directory is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error(
        "{} is in use by {}; stop that one first, or choose another --data-dir",
        dir.display(),
        holder.as_ref().map_or("another process".to_owned(), |pid| format!("the process with pid {pid}"))
    )]
    InUse { dir: PathBuf, holder: Option<String> },
    #[error("{} cannot be used: {cause}; check that it may be written to and that its disk is mounted", dir.display())]
    Unusable { dir: PathBuf, cause: io::Error },
}

impl DirectoryLock {
    /// Makes the directory where it is missing, and takes it.
    pub(crate) fn take(dir: &Path) -> Result<Self, LockError> {
        let unusable = |cause| LockError::Unusable { dir: dir.to_owned(), cause };
        RealDisk::new().create_dir_all(dir).map_err(unusable)?;
        let path = dir.join(LOCK_NAME);
        let lock = match RealDisk::new().lock(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let pid = std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
                let holder =
                    pid.filter(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()));
                return Err(LockError::InUse { dir: dir.to_owned(), holder });
            }
            Err(cause) => return Err(unusable(cause)),
        };
        std::fs::write(&path, format!("{}\n", std::process::id())).map_err(unusable)?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        let first = DirectoryLock::take(&dir).unwrap();
        let error = DirectoryLock::take(&dir).err().unwrap().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        DirectoryLock::take(&dir).unwrap();
    }
}
