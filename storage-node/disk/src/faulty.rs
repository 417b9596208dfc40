//! [`Disk`] in memory, for tests: it keeps unsynced changes apart, so that a crash can lose, tear or
//! reorder any subset of them, and injects errors, full disks and bit flips.
//!
//! Keeps the invariant that only `sync_data` (for content) and `sync_dir` (for names) make anything
//! durable. Everything random comes from a seed that the test prints.
//!
//! Deliberately harsher than hardware: a crash may keep a later write and lose an earlier one to the same
//! sector, because nothing in the trait's promise excludes it.

mod inode;
mod rng;
mod tree;

use crate::real::check_direct;
use crate::{Disk, DiskFile, DiskLock, OpenMode, Space};
use inode::Inode;
use parking_lot::Mutex;
use rng::Rng;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::{NameChange, Tree};

/// What a write tears at.
pub const SECTOR_BYTES: usize = 512;
/// What space is counted in.
pub const BLOCK_BYTES: usize = 4096;

/// Called around every sync: see [`FaultyDisk::on_sync`].
type SyncHook = Arc<dyn Fn(&SyncPoint) + Send + Sync>;
/// Decides which syncs do nothing: see [`FaultyDisk::ignore_syncs`].
type IgnoreHook = Arc<dyn Fn(&SyncPoint) -> bool + Send + Sync>;
/// Decides which calls fail: see [`FaultyDisk::set_fault`].
type FaultHook = Arc<dyn Fn(&FileOp<'_>) -> Option<Fault> + Send + Sync>;

/// A sync that is about to take effect, or just did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncPoint {
    /// Counts the syncs of this disk from 0, of files and directories together.
    pub index: u64,
    /// On which side of its effect.
    pub phase: SyncPhase,
    /// The file or directory.
    pub path: PathBuf,
}

/// The side of a sync on which a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPhase {
    /// Nothing that this sync covers is durable yet.
    Before,
    /// Everything is, and the caller does not know it yet.
    After,
}

/// What a crash does to unsynced changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// All are lost.
    LoseAll,
    /// None is lost, as when only the process died.
    KeepAll,
    /// Any subset survives, reordered and torn at sectors, as this seed decides.
    Seeded(u64),
}

/// A call that a fault hook may fail.
#[derive(Clone, Copy, Debug)]
pub struct FileOp<'a> {
    /// Which call.
    pub kind: FileOpKind,
    /// As it was opened.
    pub path: &'a Path,
    /// First byte; 0 where the call has no range.
    pub offset: u64,
    /// Bytes; 0 where the call has no range.
    pub len: u64,
}

/// The calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the call of that name")]
pub enum FileOpKind {
    Open,
    Read,
    Write,
    Sync,
    SyncDir,
    SetLen,
    Allocate,
    Punch,
    Rename,
    Remove,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Input/output error. A failed write may have written its first half; a failed sync loses for ever
    /// what it should have made durable, though it can still be read.
    Eio,
    /// No space left on the device.
    Enospc,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Eio => rustix::io::Errno::IO.into(),
            Fault::Enospc => rustix::io::Errno::NOSPC.into(),
        }
    }
}

#[derive(Default)]
struct Controls {
    syncs: u64,
    ignored_syncs: BTreeSet<u64>,
    ignore_hook: Option<IgnoreHook>,
    sync_hook: Option<SyncHook>,
    fault_hook: Option<FaultHook>,
}

struct Shared {
    tree: Mutex<Tree>,
    controls: Mutex<Controls>,
}

/// A disk that forgets what was not synced. Clones share it.
#[derive(Clone)]
pub struct FaultyDisk {
    shared: Arc<Shared>,
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tree = self.shared.tree.lock();
        f.debug_struct("FaultyDisk").field("files", &tree.names.len()).finish_non_exhaustive()
    }
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self::new(1 << 40)
    }
}

impl FaultyDisk {
    /// An empty disk of `total_bytes`; writing past them is ENOSPC.
    pub fn new(total_bytes: u64) -> Self {
        Self::from_tree(Tree { total_bytes, file_system_id: 1, ..Tree::default() })
    }

    fn from_tree(tree: Tree) -> Self {
        Self { shared: Arc::new(Shared { tree: Mutex::new(tree), controls: Mutex::default() }) }
    }

    /// Changes the size of the disk; files stay as they are.
    pub fn set_total_bytes(&self, total_bytes: u64) {
        self.shared.tree.lock().total_bytes = total_bytes;
    }

    /// The disk as it would be found after a crash at this moment. This one goes on untouched; hooks and
    /// locks do not carry over.
    pub fn crash(&self, plan: CrashPlan) -> FaultyDisk {
        let tree = self.shared.tree.lock();
        let mut rng = Rng::new(if let CrashPlan::Seeded(seed) = plan { seed } else { 0 });
        let mut names = tree.durable_names.clone();
        for change in &tree.pending_names {
            let kept = match plan {
                CrashPlan::LoseAll => false,
                CrashPlan::KeepAll => true,
                CrashPlan::Seeded(_) => rng.one_in(2),
            };
            if kept {
                change.apply(&mut names);
            }
        }
        let inodes = names
            .values()
            .filter_map(|inode| Some((*inode, tree.inodes.get(inode)?)))
            .map(|(number, inode)| {
                let after = match plan {
                    CrashPlan::LoseAll => inode.without_pending(),
                    CrashPlan::KeepAll => inode.with_pending(),
                    CrashPlan::Seeded(_) => inode.with_some_pending(&mut rng),
                };
                (number, after)
            })
            .collect();
        Self::from_tree(Tree {
            dirs: tree.dirs.clone(),
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            inodes,
            inodes_made: tree.inodes_made,
            total_bytes: tree.total_bytes,
            file_system_id: tree.file_system_id,
            locks: BTreeSet::new(),
        })
    }

    /// Makes sync number `index` (see [`SyncPoint::index`]) succeed without making anything durable: a
    /// crash test that still passes does not test that sync.
    pub fn ignore_sync(&self, index: u64) {
        self.shared.controls.lock().ignored_syncs.insert(index);
    }

    /// The same for every sync that `ignored` says, asked before the sync.
    pub fn ignore_syncs(&self, ignored: impl Fn(&SyncPoint) -> bool + Send + Sync + 'static) {
        self.shared.controls.lock().ignore_hook = Some(Arc::new(ignored));
    }

    /// Syncs so far, of files and directories.
    pub fn syncs(&self) -> u64 {
        self.shared.controls.lock().syncs
    }

    /// Calls `hook` before and after every sync takes effect, on the thread that syncs and with no lock
    /// of the disk held, so that it may call [`FaultyDisk::crash`].
    pub fn on_sync(&self, hook: impl Fn(&SyncPoint) + Send + Sync + 'static) {
        self.shared.controls.lock().sync_hook = Some(Arc::new(hook));
    }

    /// Asks `hook` about every call; where it answers, the call fails like that.
    pub fn set_fault(&self, hook: impl Fn(&FileOp<'_>) -> Option<Fault> + Send + Sync + 'static) {
        self.shared.controls.lock().fault_hook = Some(Arc::new(hook));
    }

    /// No call fails any more.
    pub fn clear_fault(&self) {
        self.shared.controls.lock().fault_hook = None;
    }

    /// Flips one bit of a file, for readers and on the medium. `bit` counts from the file's first byte.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let byte = to_usize(bit / 8)?;
        let mask = 1u8 << (bit % 8);
        self.damage(path, |content| {
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= mask;
            }
        })
    }

    /// Changes a file's content behind its owner's back.
    pub fn damage(&self, path: &Path, change: impl Fn(&mut [u8])) -> io::Result<()> {
        let mut tree = self.shared.tree.lock();
        let inode = *tree.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        tree.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?.damage(change);
        Ok(())
    }

    /// Deletes every file under `dir` at once and durably, as somebody's `rm -r` would.
    pub fn wipe(&self, dir: &Path) {
        let mut tree = self.shared.tree.lock();
        tree.names.retain(|path, _| !path.starts_with(dir));
        tree.durable_names.retain(|path, _| !path.starts_with(dir));
        tree.pending_names.retain(|change| !change.parent().starts_with(dir));
        tree.dirs.retain(|path| !path.starts_with(dir));
    }

    /// Paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.shared.tree.lock().names.keys().cloned().collect()
    }

    /// Whether any file has changes that no sync covered.
    pub fn has_unsynced(&self) -> bool {
        let tree = self.shared.tree.lock();
        !tree.pending_names.is_empty() || tree.inodes.values().any(Inode::has_pending)
    }

    fn check_fault(&self, kind: FileOpKind, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        let hook = self.shared.controls.lock().fault_hook.clone();
        match hook.and_then(|hook| hook(&FileOp { kind, path, offset, len })) {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    /// Runs `effect` between the two sides of the hook, unless this sync is to be ignored.
    fn sync(&self, path: &Path, effect: impl FnOnce(&mut Tree)) {
        let (index, mut ignored, ignore_hook, hook) = {
            let mut controls = self.shared.controls.lock();
            let index = controls.syncs;
            controls.syncs += 1;
            let ignored = controls.ignored_syncs.contains(&index);
            (index, ignored, controls.ignore_hook.clone(), controls.sync_hook.clone())
        };
        let point = |phase| SyncPoint { index, phase, path: path.to_path_buf() };
        let call = |phase| {
            if let Some(hook) = &hook {
                hook(&point(phase));
            }
        };
        call(SyncPhase::Before);
        ignored |= ignore_hook.is_some_and(|ignored| ignored(&point(SyncPhase::Before)));
        if !ignored {
            effect(&mut self.shared.tree.lock());
        }
        call(SyncPhase::After);
    }

    fn open_file(&self, path: &Path, mode: OpenMode, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.check_fault(FileOpKind::Open, path, 0, 0)?;
        let mut tree = self.shared.tree.lock();
        let inode = match (tree.names.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => *inode,
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => tree.create(path)?,
        };
        Ok(Arc::new(FaultyFile { disk: self.clone(), path: path.to_path_buf(), inode, direct }))
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.open_file(path, mode, false)
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.open_file(path, mode, true)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        if !self.shared.tree.lock().locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FaultyLock { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree.lock();
        let missing: Vec<PathBuf> = path.ancestors().map(Path::to_path_buf).collect();
        tree.dirs.extend(missing);
        Ok(())
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let tree = self.shared.tree.lock();
        if !tree.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names: BTreeSet<PathBuf> = tree
            .names
            .keys()
            .chain(&tree.dirs)
            .filter(|entry| entry.parent() == Some(path))
            .filter_map(|entry| entry.file_name().map(PathBuf::from))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_fault(FileOpKind::Rename, from, 0, 0)?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut tree = self.shared.tree.lock();
        let inode = *tree.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        tree.change_name(NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf(), inode });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check_fault(FileOpKind::Remove, path, 0, 0)?;
        let mut tree = self.shared.tree.lock();
        if !tree.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        tree.change_name(NameChange::Unlink { path: path.to_path_buf() });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check_fault(FileOpKind::SyncDir, path, 0, 0)?;
        if !self.shared.tree.lock().has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.sync(path, |tree| {
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                tree.pending_names.drain(..).partition(|change| change.parent() == path);
            here.iter().for_each(|change| change.apply(&mut tree.durable_names));
            tree.pending_names = elsewhere;
        });
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let tree = self.shared.tree.lock();
        Ok(tree.names.contains_key(path) || tree.has_dir(path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let tree = self.shared.tree.lock();
        if !tree.has_dir(path) && !tree.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let available_bytes = tree.total_bytes.saturating_sub(tree.used_bytes());
        Ok(Space { total_bytes: tree.total_bytes, available_bytes })
    }

    fn file_system_id(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.shared.tree.lock().file_system_id)
    }
}

struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl DiskLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.disk.shared.tree.lock().locks.remove(&self.path);
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    path: PathBuf,
    inode: u64,
    direct: bool,
}

impl FaultyFile {
    fn check(&self, kind: FileOpKind, offset: u64, len: u64) -> io::Result<()> {
        self.disk.check_fault(kind, &self.path, offset, len)
    }
}

impl DiskFile for FaultyFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(FileOpKind::Read, offset, u64::try_from(buf.len()).expect("usize fits u64"))?;
        let mut tree = self.disk.shared.tree.lock();
        let offset = to_usize(offset)?;
        let content = tree.inode(self.inode)?.live();
        let range = content.get(offset..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        if self.direct {
            check_direct(parts, offset)?;
        }
        let mut data = parts.concat();
        let len = data.len();
        let outcome = self.check(FileOpKind::Write, offset, u64::try_from(len).expect("usize fits u64"));
        if outcome.is_err() {
            data.truncate(len / 2);
        }
        let mut tree = self.disk.shared.tree.lock();
        let offset = to_usize(offset)?;
        tree.reserve(self.inode, offset, data.len())?;
        tree.inode(self.inode)?.write(offset, data);
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Err(error) = self.check(FileOpKind::Sync, 0, 0) {
            self.disk.shared.tree.lock().inode(self.inode)?.drop_pending();
            return Err(error);
        }
        self.disk.sync(&self.path, |tree| {
            if let Some(inode) = tree.inodes.get_mut(&self.inode) {
                inode.sync();
            }
        });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut tree = self.disk.shared.tree.lock();
        Ok(u64::try_from(tree.inode(self.inode)?.live().len()).expect("usize fits u64"))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(FileOpKind::SetLen, 0, len)?;
        self.disk.shared.tree.lock().inode(self.inode)?.set_len(to_usize(len)?);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(FileOpKind::Allocate, offset, len)?;
        let (offset, len) = (to_usize(offset)?, to_usize(len)?);
        let mut tree = self.disk.shared.tree.lock();
        tree.reserve(self.inode, offset, len)?;
        tree.inode(self.inode)?.allocate(offset, len);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(FileOpKind::Punch, offset, len)?;
        let (offset, len) = (to_usize(offset)?, to_usize(len)?);
        self.disk.shared.tree.lock().inode(self.inode)?.punch(offset, len);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
