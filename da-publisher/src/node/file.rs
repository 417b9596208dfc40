//! Files that appear whole or not at all, through the disk seam.
//!
//! Invariant: after [`replace`] returned, the file has exactly these bytes whatever crashes; before, it has the
//! old ones or is absent. Does not know what files contain.

use std::io;
use std::path::Path;

use ashlar_disk::{Disk, OpenMode};

/// Puts `parts`, one after another, in place of the file `name` in `folder`.
pub(super) fn replace(disk: &dyn Disk, folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let (target, fresh) = (folder.join(name), folder.join(format!("{name}.new")));
    let file = disk.open(&fresh, OpenMode::OpenOrCreate)?;
    // What an earlier attempt left must not show behind what is written now.
    file.set_len(0)?;
    file.write_all_at(parts, 0)?;
    file.sync_data()?;
    disk.rename(&fresh, &target)?;
    disk.sync_dir(folder)
}

/// All bytes of a file; `None` if there is no such file.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}
