//! [`Disk`] on the operating system's file system.
//!
//! Owns the choice of system calls. It keeps the trait's promise that nothing counts as durable before the
//! kernel said so: no call retries a failed sync, because Linux drops the dirty pages of a failed one.
//! Deliberately knows nothing of formats, and keeps no state but file descriptors.

use crate::{DIRECT_ALIGN_BYTES, Disk, DiskFile, DiskLock, OpenMode, Space};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Parts handed to the kernel in one call (its own limit is 1,024).
const PARTS_PER_CALL_MAX: usize = 256;
/// Zeroes written in one call where holes cannot be punched, and bytes bounced in one direct write.
const PIECE_BYTES: usize = 1 << 20;

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    /// Nothing is opened or checked yet.
    pub fn new() -> Self {
        Self
    }
}

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match mode {
        OpenMode::Existing => {}
        OpenMode::CreateNew => {
            options.create_new(true);
        }
        OpenMode::OpenOrCreate => {
            options.create(true);
        }
    }
    options.mode(0o600);
    options
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(BufferedFile { file: options(mode).open(path)? }))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let buffered = BufferedFile { file: options(mode).open(path)? };
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("O_DIRECT is a low bit");
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path);
        match direct {
            Ok(file) => Ok(Arc::new(DirectFile { buffered, direct: Some(file) })),
            // tmpfs and some network file systems have no direct writes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(Arc::new(DirectFile { buffered, direct: None }))
            }
            Err(error) => Err(error),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = options(OpenMode::OpenOrCreate).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(LockedFile { _file: file }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        self.create_dir_all(parent)?;
        match fs::create_dir(path) {
            Ok(()) => self.sync_dir(parent),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(PathBuf::from(entry?.file_name()));
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn file_system_id(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.dev())
    }
}

struct LockedFile {
    _file: File,
}

impl DiskLock for LockedFile {}

struct BufferedFile {
    file: File,
}

/// Writes `parts` at `offset` with as few calls as the kernel allows; `flags` go to every call.
fn write_parts(file: &File, parts: &[&[u8]], mut offset: u64, flags: ReadWriteFlags) -> io::Result<()> {
    let mut first = 0;
    let mut skip = 0;
    while first < parts.len() {
        let slices: Vec<IoSlice<'_>> = parts[first..]
            .iter()
            .take(PARTS_PER_CALL_MAX)
            .enumerate()
            .map(|(index, part)| IoSlice::new(if index == 0 { &part[skip..] } else { part }))
            .collect();
        if slices.iter().all(|slice| slice.is_empty()) {
            first += slices.len();
            skip = 0;
            continue;
        }
        let mut written = match rustix::io::pwritev2(file, &slices, offset, flags) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        offset += u64::try_from(written).expect("usize fits u64");
        while first < parts.len() && written >= parts[first].len() - skip {
            written -= parts[first].len() - skip;
            first += 1;
            skip = 0;
        }
        skip += written;
    }
    Ok(())
}

impl DiskFile for BufferedFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        let len = buf.len();
        match rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            // A short answer is the cached head of the range, or the end of the file.
            Ok(read) => Ok(read == len),
            Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        write_parts(&self.file, parts, offset, ReadWriteFlags::empty())
    }

    fn write_durable_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        match write_parts(&self.file, parts, offset, ReadWriteFlags::DSYNC) {
            // A file system without RWF_DSYNC says so before it writes anything.
            Err(error) if is_unsupported(&error) => {
                self.write_all_at(parts, offset)?;
                self.sync_data()
            }
            other => other,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, len) {
            Ok(()) => Ok(()),
            Err(errno) if is_unsupported(&errno.into()) => {
                let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
                if self.len()? < end { self.set_len(end) } else { Ok(()) }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, len) {
            Ok(()) => Ok(()),
            Err(errno) if is_unsupported(&errno.into()) => self.zero(offset, len),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl BufferedFile {
    /// What `punch` does where the file system has no holes: the range reads as zero, no space comes back.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?.min(self.len()?);
        let zeroes = vec![0; PIECE_BYTES];
        let mut at = offset;
        while at < end {
            let piece = usize::try_from(end - at).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
            self.write_all_at(&[&zeroes[..piece]], at)?;
            at += u64::try_from(piece).expect("usize fits u64");
        }
        Ok(())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::OPNOTSUPP, Errno::NOSYS].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// Writes through a second descriptor that goes round the page cache; everything else is buffered.
struct DirectFile {
    buffered: BufferedFile,
    direct: Option<File>,
}

thread_local! {
    /// Where unaligned parts are gathered for a direct write; one a thread, at most `PIECE_BYTES` and a page.
    static BOUNCE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn is_aligned(part: &[u8]) -> bool {
    part.len().is_multiple_of(DIRECT_ALIGN_BYTES) && part.as_ptr().addr().is_multiple_of(DIRECT_ALIGN_BYTES)
}

impl DirectFile {
    fn write(&self, parts: &[&[u8]], offset: u64, durable: bool) -> io::Result<()> {
        check_direct(parts, offset)?;
        let Some(direct) = &self.direct else {
            return match durable {
                true => self.buffered.write_durable_at(parts, offset),
                false => self.buffered.write_all_at(parts, offset),
            };
        };
        if parts.iter().all(|part| is_aligned(part)) {
            return write_direct(direct, parts, offset, durable);
        }
        BOUNCE.with_borrow_mut(|bounce| write_bounced(direct, bounce, parts, offset, durable))
    }
}

fn write_direct(file: &File, parts: &[&[u8]], offset: u64, durable: bool) -> io::Result<()> {
    let flags = if durable { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
    match write_parts(file, parts, offset, flags) {
        Err(error) if durable && is_unsupported(&error) => {
            write_parts(file, parts, offset, ReadWriteFlags::empty())?;
            file.sync_data()
        }
        other => other,
    }
}

/// Copies `parts` into aligned memory, a piece at a time. Only the last piece is asked to be durable by
/// itself when there is one piece; more pieces are written first and synced together.
fn write_bounced(
    file: &File,
    bounce: &mut Vec<u8>,
    parts: &[&[u8]],
    mut offset: u64,
    durable: bool,
) -> io::Result<()> {
    if bounce.is_empty() {
        bounce.resize(PIECE_BYTES + DIRECT_ALIGN_BYTES, 0);
    }
    let start = bounce.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
    let aligned = &mut bounce[start..start + PIECE_BYTES];
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let single = durable && total <= PIECE_BYTES;
    let mut filled = 0;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let take = rest.len().min(PIECE_BYTES - filled);
            aligned[filled..filled + take].copy_from_slice(&rest[..take]);
            filled += take;
            rest = &rest[take..];
            if filled == PIECE_BYTES {
                write_direct(file, &[&*aligned], offset, single)?;
                offset += u64::try_from(filled).expect("usize fits u64");
                filled = 0;
            }
        }
    }
    if filled > 0 {
        write_direct(file, &[&aligned[..filled]], offset, single)?;
    }
    if durable && !single { file.sync_data() } else { Ok(()) }
}

/// The contract of [`Disk::open_direct`], the same for every implementation.
pub(crate) fn check_direct(parts: &[&[u8]], offset: u64) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let align = u64::try_from(DIRECT_ALIGN_BYTES).expect("a page fits u64");
    if !total.is_multiple_of(DIRECT_ALIGN_BYTES) || !offset.is_multiple_of(align) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a direct write of {total} bytes at {offset} is not a multiple of {align}"),
        ));
    }
    Ok(())
}

impl DiskFile for DirectFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.buffered.read_exact_at(buf, offset)
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        self.buffered.read_cached_at(buf, offset)
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write(parts, offset, false)
    }

    fn write_durable_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write(parts, offset, true)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.buffered.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.buffered.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.buffered.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.buffered.allocate(offset, len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.buffered.punch(offset, len)
    }
}
