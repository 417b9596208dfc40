//! A checkpoint: every row at one point of the journal, sorted, in one file. Format:
//! `docs/formats/journal.md`.
//!
//! Owns writing and reading it as a stream of bounded frames. Invariant: a checkpoint whose root hash
//! matches is complete and unchanged; a reader that meets anything else says so and yields no end.
//! Deliberately knows nothing of the engine that the rows come from or go to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::{Disk, DiskFile, OpenMode};
use bytes::Bytes;

use super::fields::{Fields, len_u32, len_u64};
use super::group::{BLOCK_BYTES, ChainHash, JournalPoint, StoreId};
use super::superblock::CheckpointRef;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::ordered_kv::Position;

/// A frame is closed by the row that reaches this many bytes.
pub(crate) const FRAME_BYTES_TARGET: usize = 256 * 1024;
/// Longest frame that a reader accepts: the target and one largest row.
const FRAME_BYTES_MAX: usize = FRAME_BYTES_TARGET + KEY_BYTES_MAX + VALUE_BYTES_MAX + 64;
const MAGIC: &[u8; 8] = b"ASHLCKP1";
const FOOTER_BYTES: usize = 8 + 8 + 32;
const WRITE_BYTES: usize = 1024 * 1024;

/// A key and, as it is kept, its version and value.
pub(crate) type StoredRow = (Bytes, Bytes);

/// Name of the checkpoint at group `sequence`.
pub(crate) fn checkpoint_name(sequence: u64) -> PathBuf {
    PathBuf::from(format!("checkpoint-{sequence:016x}"))
}

pub(crate) fn encode_header(store: StoreId, point: &JournalPoint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&store.0);
    bytes.extend_from_slice(&point.epoch.to_be_bytes());
    bytes.extend_from_slice(&point.sequence.to_be_bytes());
    bytes.extend_from_slice(&point.position.to_be_bytes());
    bytes.extend_from_slice(&point.chain.0);
    bytes.resize(BLOCK_BYTES - 4, 0);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

pub(crate) fn parse_header(block: &[u8]) -> Option<(StoreId, JournalPoint)> {
    let (covered, crc) = block.get(..BLOCK_BYTES)?.split_last_chunk::<4>()?;
    let mut fields = Fields(covered);
    if fields.take(8)? != MAGIC || u32::from_be_bytes(*crc) != crc32fast::hash(covered) {
        return None;
    }
    let store = StoreId(fields.array()?);
    let (epoch, sequence, position) = (fields.u64()?, fields.u64()?, Position(fields.u64()?));
    Some((store, JournalPoint { epoch, sequence, position, chain: ChainHash(fields.array()?) }))
}

/// Rows on their way into a frame.
#[derive(Default)]
pub(crate) struct FrameBuilder {
    payload: Vec<u8>,
    rows: u32,
}

impl FrameBuilder {
    /// Appends a row, whose key is above every earlier one; answers whether the frame is full.
    pub(crate) fn push(&mut self, key: &[u8], stored: &[u8]) -> bool {
        self.payload.extend_from_slice(&len_u32(key.len()).to_be_bytes());
        self.payload.extend_from_slice(&len_u32(stored.len()).to_be_bytes());
        self.payload.extend_from_slice(key);
        self.payload.extend_from_slice(stored);
        self.rows += 1;
        self.payload.len() >= FRAME_BYTES_TARGET
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The frame's bytes: length, rows, CRC, rows' bytes. Empties the builder.
    pub(crate) fn take(&mut self) -> Frame {
        let Self { payload, rows } = std::mem::take(self);
        let mut bytes = Vec::with_capacity(12 + payload.len());
        bytes.extend_from_slice(&len_u32(payload.len()).to_be_bytes());
        bytes.extend_from_slice(&rows.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_be_bytes());
        bytes.extend_from_slice(&payload);
        Frame { bytes, rows }
    }
}

/// A finished frame.
pub(crate) struct Frame {
    bytes: Vec<u8>,
    rows: u32,
}

impl Frame {
    /// Length as it is written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads the rows of a frame's payload; `None` unless they are exactly `rows`, ascending, within limits.
pub(crate) fn parse_frame(payload: &Bytes, rows: u32) -> Option<Vec<StoredRow>> {
    let mut fields = Fields(payload);
    let mut found: Vec<StoredRow> = Vec::new();
    for _ in 0..rows {
        let (key_bytes, stored_bytes) = (fields.len32()?, fields.len32()?);
        let key = payload.slice_ref(fields.take(key_bytes)?);
        let stored = payload.slice_ref(fields.take(stored_bytes)?);
        if stored.len() < 8 || found.last().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        found.push((key, stored));
    }
    fields.is_done().then_some(found)
}

/// Writes a checkpoint under a name that only [`CheckpointWriter::finish`] makes real.
pub(crate) struct CheckpointWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn DiskFile>,
    point: JournalPoint,
    buffer: Vec<u8>,
    offset: u64,
    rows: u64,
    hasher: blake3::Hasher,
}

impl CheckpointWriter {
    /// Begins the checkpoint at `point` in `dir`; an unfinished one from before is overwritten.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        store: StoreId,
        point: JournalPoint,
    ) -> io::Result<Self> {
        let path = dir.join(UNFINISHED_NAME);
        if disk.exists(&path)? {
            disk.remove_file(&path)?;
        }
        let file = disk.open_direct(&path, OpenMode::CreateNew)?;
        let mut writer = Self {
            disk,
            dir: dir.to_path_buf(),
            file,
            point,
            buffer: Vec::with_capacity(WRITE_BYTES + FRAME_BYTES_TARGET),
            offset: 0,
            rows: 0,
            hasher: blake3::Hasher::new(),
        };
        writer.append(&encode_header(store, &point))?;
        Ok(writer)
    }

    pub(crate) fn push(&mut self, frame: &Frame) -> io::Result<()> {
        self.rows += u64::from(frame.rows);
        self.append(&frame.bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < WRITE_BYTES {
            return Ok(());
        }
        let whole = self.buffer.len() / BLOCK_BYTES * BLOCK_BYTES;
        self.file.write_all_at(&[&self.buffer[..whole]], self.offset)?;
        self.offset += len_u64(whole);
        self.buffer.drain(..whole);
        Ok(())
    }

    /// Seals it with its root hash and gives it its name, durably.
    pub(crate) fn finish(mut self) -> io::Result<CheckpointRef> {
        let root = *self.hasher.finalize().as_bytes();
        let mut footer = Vec::with_capacity(12 + FOOTER_BYTES);
        footer.extend_from_slice(&[0; 4]);
        footer.extend_from_slice(&[0; 4]);
        let mut payload = Vec::with_capacity(FOOTER_BYTES);
        payload.extend_from_slice(&self.rows.to_be_bytes());
        payload.extend_from_slice(&(self.offset + len_u64(self.buffer.len())).to_be_bytes());
        payload.extend_from_slice(&root);
        footer.extend_from_slice(&crc32fast::hash(&payload).to_be_bytes());
        footer.extend_from_slice(&payload);
        self.buffer.extend_from_slice(&footer);
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK_BYTES), 0);
        self.file.write_all_at(&[&self.buffer], self.offset)?;
        self.file.sync_data()?;
        let bytes = self.offset + len_u64(self.buffer.len());
        let name = self.dir.join(checkpoint_name(self.point.sequence));
        self.disk.rename(&self.dir.join(UNFINISHED_NAME), &name)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(CheckpointRef { point: self.point, root, bytes })
    }
}

/// What an unfinished checkpoint is called.
pub(crate) const UNFINISHED_NAME: &str = "checkpoint-unfinished";

/// Gives back what an unfinished checkpoint takes.
pub(crate) fn discard_unfinished(disk: &dyn Disk, dir: &Path) {
    // One that stays is void, and removed before the next is begun.
    let _ = disk.remove_file(&dir.join(UNFINISHED_NAME));
}

/// Why a checkpoint could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    #[error("damaged at byte {offset}: {what}")]
    Damaged { offset: u64, what: &'static str },
}

/// Reads a checkpoint frame by frame.
pub(crate) struct CheckpointReader {
    file: Arc<dyn DiskFile>,
    expected: CheckpointRef,
    offset: u64,
    rows: u64,
    hasher: blake3::Hasher,
    last_key: Bytes,
}

impl CheckpointReader {
    /// Opens the checkpoint that a superblock names.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        store: StoreId,
        expected: CheckpointRef,
    ) -> Result<Self, CheckpointError> {
        let file = disk.open(&dir.join(checkpoint_name(expected.point.sequence)), OpenMode::Existing)?;
        let mut block = vec![0; BLOCK_BYTES];
        file.read_exact_at(&mut block, 0)?;
        if parse_header(&block) != Some((store, expected.point)) {
            return Err(CheckpointError::Damaged { offset: 0, what: "its header is not the expected one" });
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&block);
        let offset = len_u64(BLOCK_BYTES);
        Ok(Self { file, expected, offset, rows: 0, hasher, last_key: Bytes::new() })
    }

    /// The next rows; `None` once everything was read and the root hash is the expected one.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Vec<StoredRow>>, CheckpointError> {
        let offset = self.offset;
        let damaged = |what| CheckpointError::Damaged { offset, what };
        let mut prefix = [0; 12];
        self.file.read_exact_at(&mut prefix, offset)?;
        let mut fields = Fields(&prefix);
        let short = "a frame header is short";
        let payload_bytes = fields.len32().ok_or(damaged(short))?;
        let rows = fields.u32().ok_or(damaged(short))?;
        let crc = fields.u32().ok_or(damaged(short))?;
        if payload_bytes == 0 {
            if rows != 0 {
                return Err(damaged("the footer does not parse"));
            }
            self.check_footer(crc)?;
            return Ok(None);
        }
        if payload_bytes > FRAME_BYTES_MAX {
            return Err(damaged("a frame is too long"));
        }
        let mut payload = vec![0; payload_bytes];
        self.file.read_exact_at(&mut payload, offset + 12)?;
        if crc32fast::hash(&payload) != crc {
            return Err(damaged("a frame fails its CRC"));
        }
        self.hasher.update(&prefix).update(&payload);
        let found = parse_frame(&payload.into(), rows).ok_or(damaged("a frame does not parse"))?;
        let ascends = found.first().is_some_and(|(key, _)| self.rows == 0 || *key > self.last_key);
        if !ascends {
            return Err(damaged("rows are not sorted"));
        }
        self.last_key = found.last().map(|(key, _)| key.clone()).unwrap_or_default();
        self.rows += u64::from(rows);
        self.offset += 12 + len_u64(payload_bytes);
        Ok(Some(found))
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.offset
    }

    fn check_footer(&self, crc: u32) -> Result<(), CheckpointError> {
        let damaged = |what| CheckpointError::Damaged { offset: self.offset, what };
        let mut payload = [0; FOOTER_BYTES];
        self.file.read_exact_at(&mut payload, self.offset + 12)?;
        let mut fields = Fields(&payload);
        let whole = crc32fast::hash(&payload) == crc
            && fields.u64() == Some(self.rows)
            && fields.u64() == Some(self.offset)
            && fields.array() == Some(self.expected.root);
        if !whole || *self.hasher.finalize().as_bytes() != self.expected.root {
            return Err(damaged("the root hash is not the expected one"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ashlar_disk::FaultyDisk;

    use super::*;

    fn write(disk: &Arc<dyn Disk>, rows: usize) -> (StoreId, CheckpointRef) {
        let store = StoreId([3; 16]);
        let point = JournalPoint { sequence: 12, ..JournalPoint::genesis(store) };
        let dir = Path::new("d");
        disk.create_dir_all(dir).unwrap();
        let mut writer = CheckpointWriter::create(Arc::clone(disk), dir, store, point).unwrap();
        let mut frame = FrameBuilder::default();
        for row in 0..rows {
            if frame.push(format!("key-{row:08}").as_bytes(), &[7; 500]) {
                writer.push(&frame.take()).unwrap();
            }
        }
        if !frame.is_empty() {
            writer.push(&frame.take()).unwrap();
        }
        (store, writer.finish().unwrap())
    }

    fn read(disk: &Arc<dyn Disk>, store: StoreId, expected: CheckpointRef) -> Result<usize, CheckpointError> {
        let mut reader = CheckpointReader::open(disk, Path::new("d"), store, expected)?;
        let mut rows = 0;
        while let Some(frame) = reader.next_frame()? {
            rows += frame.len();
        }
        Ok(rows)
    }

    #[test]
    fn what_was_written_is_read_back_whatever_its_size() {
        for rows in [0, 1, 517, 5_000] {
            let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::default());
            let (store, written) = write(&disk, rows);
            assert_eq!(read(&disk, store, written).unwrap(), rows);
        }
    }

    #[test]
    fn any_damage_is_noticed() {
        let faulty = FaultyDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
        let (store, written) = write(&disk, 3);
        let path = Path::new("d").join(checkpoint_name(12));
        let content_bits = (4096 + 12 + 3 * 520 + 12 + 48) * 8;
        for bit in (0..content_bits).step_by(7) {
            faulty.flip_bit(&path, bit).unwrap();
            assert!(read(&disk, store, written).is_err(), "bit {bit}");
            faulty.flip_bit(&path, bit).unwrap();
        }
        assert_eq!(read(&disk, store, written).unwrap(), 3);
    }
}
