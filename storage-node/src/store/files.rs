//! The names of a store's files, and a bounded set of open ones for reading.

use super::index::FileId;
use ashlar_disk::{Disk, DiskFile, OpenMode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's name in its node's folder.
pub(crate) fn file_name(file: FileId) -> PathBuf {
    match file {
        FileId::Log(slot) => PathBuf::from(format!("log-{slot:08}")),
        FileId::Segment(number) => PathBuf::from(format!("segment-{number:08}")),
    }
}

/// Inverse of [`file_name`]; `None` for a foreign file.
pub(crate) fn parse_name(name: &Path) -> Option<FileId> {
    let name = name.to_str()?;
    let number = |digits: &str| {
        let plain = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let log = name.strip_prefix("log-").and_then(number).map(FileId::Log);
    log.or_else(|| name.strip_prefix("segment-").and_then(number).map(FileId::Segment))
}

struct OpenFile {
    file: Arc<dyn DiskFile>,
    len: u64,
    used: u64,
}

#[derive(Default)]
struct OpenFiles {
    files: HashMap<FileId, OpenFile>,
    clock: u64,
}

/// Files open for reading; the one not used for longest makes room.
pub(crate) struct ReadFiles {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    files_max: usize,
    open: Mutex<OpenFiles>,
}

impl ReadFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: PathBuf, files_max: usize) -> Self {
        Self { disk, folder, files_max, open: Mutex::default() }
    }

    /// The file and its length; `NotFound` if somebody removed it.
    pub(crate) fn get(&self, id: FileId) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        let mut open = self.open.lock();
        open.clock += 1;
        let clock = open.clock;
        if let Some(found) = open.files.get_mut(&id) {
            found.used = clock;
            return Ok((Arc::clone(&found.file), found.len));
        }
        let file = self.disk.open(&self.folder.join(file_name(id)), OpenMode::Existing)?;
        let len = file.len()?;
        if open.files.len() >= self.files_max {
            let idle = open.files.iter().min_by_key(|(_, file)| file.used).map(|(id, _)| *id);
            idle.and_then(|id| open.files.remove(&id));
        }
        open.files.insert(id, OpenFile { file: Arc::clone(&file), len, used: clock });
        Ok((file, len))
    }

    /// Closes a file that was removed.
    pub(crate) fn forget(&self, id: FileId) {
        self.open.lock().files.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::FaultyDisk;

    #[test]
    fn names_round_trip_and_foreign_ones_are_ignored() {
        for file in [FileId::Log(0), FileId::Log(12_345_678), FileId::Segment(7)] {
            assert_eq!(parse_name(&file_name(file)), Some(file));
        }
        for foreign in
            ["superblock", "log-1", "log-0000000x", "log-+0000001", "segment-000000001", "lost+found"]
        {
            assert_eq!(parse_name(Path::new(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn only_so_many_stay_open() {
        let disk = FaultyDisk::default();
        disk.create_dir_all(Path::new("/n")).unwrap();
        for slot in 0..5 {
            disk.open(&Path::new("/n").join(file_name(FileId::Log(slot))), OpenMode::CreateNew).unwrap();
        }
        let files = ReadFiles::new(Arc::new(disk), PathBuf::from("/n"), 2);
        for slot in [0, 1, 2, 0, 3, 4, 4] {
            files.get(FileId::Log(slot)).unwrap();
            assert!(files.open.lock().files.len() <= 2);
        }
        files.forget(FileId::Log(4));
        assert_eq!(files.get(FileId::Log(9)).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
