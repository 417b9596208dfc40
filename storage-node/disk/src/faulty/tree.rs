//! The names of the faulty disk: what can be opened, what would be found after a crash, and the changes
//! between the two. Also where its space is counted.

use super::inode::Inode;
use super::{BLOCK_BYTES, Fault};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link { path: PathBuf, inode: u64 },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
}

impl NameChange {
    pub(super) fn parent(&self) -> &Path {
        let path = match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path,
            NameChange::Rename { to, .. } => to,
        };
        path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Unlink { path } => {
                names.remove(path);
            }
            NameChange::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Tree {
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) pending_names: Vec<NameChange>,
    pub(super) inodes: HashMap<u64, Inode>,
    pub(super) inodes_made: u64,
    pub(super) total_bytes: u64,
    pub(super) file_system_id: u64,
    pub(super) locks: BTreeSet<PathBuf>,
}

impl Tree {
    pub(super) fn has_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path == Path::new("/") || self.dirs.contains(path)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        if !self.has_dir(path.parent().unwrap_or(Path::new(""))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = self.inodes_made;
        self.inodes_made += 1;
        self.inodes.insert(inode, Inode::default());
        self.change_name(NameChange::Link { path: path.to_path_buf(), inode });
        Ok(inode)
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let blocks: usize = named.iter().filter_map(|inode| self.inodes.get(inode)).map(Inode::blocks).sum();
        u64::try_from(blocks * BLOCK_BYTES).expect("usize fits u64")
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// ENOSPC unless the disk has room for the blocks that the range adds.
    pub(super) fn reserve(&mut self, inode: u64, offset: usize, len: usize) -> io::Result<()> {
        let added = self.inode(inode)?.new_blocks(offset, len) * BLOCK_BYTES;
        let added = u64::try_from(added).expect("usize fits u64");
        if added > 0 && self.used_bytes() + added > self.total_bytes {
            return Err(Fault::Enospc.error());
        }
        Ok(())
    }
}
