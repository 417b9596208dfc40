//! Files that appear whole or not at all, through the disk seam.
//!
//! Invariant: after [`replace`] or [`Replacing::finish`] returned, the file has exactly these bytes whatever crashes; before, it has the
//! old ones or is absent. Does not know what files contain.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::{Disk, DiskFile, OpenMode};

/// Bytes that wait in memory while a file is written.
const BUFFER_BYTES: usize = 256 << 10;

/// Puts `parts`, one after another, in place of the file `name` in `folder`.
pub(super) fn replace(disk: &dyn Disk, folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let file = begin(disk, folder, name)?;
    file.write_all_at(parts, 0)?;
    finish(disk, folder, name, &*file)
}

fn fresh(name: &str) -> String {
    format!("{name}.new")
}

fn begin(disk: &dyn Disk, folder: &Path, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&folder.join(fresh(name)), OpenMode::OpenOrCreate)?;
    // What an earlier attempt left must not show behind what is written now.
    file.set_len(0)?;
    Ok(file)
}

fn finish(disk: &dyn Disk, folder: &Path, name: &str, file: &dyn DiskFile) -> io::Result<()> {
    file.sync_data()?;
    disk.rename(&folder.join(fresh(name)), &folder.join(name))?;
    disk.sync_dir(folder)
}

/// A file that takes another's place when it is finished, written a piece at a time.
pub(super) struct Replacing {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    name: &'static str,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
}

impl Replacing {
    pub(super) fn begin(disk: Arc<dyn Disk>, folder: &Path, name: &'static str) -> io::Result<Self> {
        let file = begin(&*disk, folder, name)?;
        Ok(Self { disk, folder: folder.to_path_buf(), name, file, buffer: Vec::new(), written: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[&self.buffer], self.written)?;
        self.written += u64::try_from(self.buffer.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        finish(&*self.disk, &self.folder, self.name, &*self.file)
    }
}
