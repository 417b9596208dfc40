//! Reads: find a shard, fetch its bytes, check them if asked, and make sure that they were still its.
//!
//! A location can go stale while it is read (deleted, or moved by compaction), so it is looked up again
//! afterwards: only bytes from a location that still holds count. Reads of up to 256 KiB that the page cache
//! can answer are done in place, all others on a blocking thread.

use super::StoreInner;
use super::buffers::read_into;
use super::index::{FileId, Location};
use super::record::{FooterHeader, Generation, RecordHeader, RecordKind};
use super::state::page_offset;
use crate::checked::{byte_range, check_blocks};
use crate::service::{BlockRange, Corruption, FootedRead, PutError, ReadError, Verify};
use ashlar_chunker::{BLOCK_BYTES, ShardId};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Larger reads always go to a blocking thread: copying them is work enough. 256 KiB take some 30 µs, and
/// handing them to another thread would take as long.
const INLINE_READ_BYTES_MAX: u32 = 256 << 10;
/// Bytes read behind a small shard in the hope that its footer is among them: 4+2 of 64 KiB cells needs 972.
const INLINE_FOOTER_GUESS: u64 = 1024;
/// The same behind a large shard: 4+2 of a full chunk needs 12,492.
const EXTENT_FOOTER_GUESS: u64 = 12 << 10 | 512;
/// Moves of a shard by compaction that one read puts up with.
const MOVES_MAX: usize = 8;

/// What to fetch.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) range: BlockRange,
    /// Whether the footer is wanted by the caller.
    pub(crate) footer: bool,
    pub(crate) verify: Verify,
}

/// Why nothing came of a fetch.
enum FetchError {
    Corrupt(Corruption),
    Io(io::Error),
    /// It would have to wait for the device.
    Cold,
    Refused(ReadError),
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The file was cut short behind our back.
            io::ErrorKind::UnexpectedEof => FetchError::Corrupt(Corruption::Record),
            _ => FetchError::Io(error),
        }
    }
}

impl StoreInner {
    fn locate(&self, id: ShardId) -> Result<(Location, Generation), ReadError> {
        let state = self.state.read();
        if state.quarantined.contains(&id) {
            return Err(ReadError::Corrupt { id, corruption: Corruption::Quarantined });
        }
        let location = state.index.get(id).ok_or(ReadError::NotFound { id })?;
        let generation = match location.file {
            FileId::Log(slot) => state.logs.get(&slot).map(|log| log.generation),
            FileId::Segment(_) => None,
        };
        Ok((location, generation.unwrap_or(Generation(0))))
    }

    /// Keeps a shard from being served; whether it is here and was not quarantined before.
    pub(crate) fn set_aside(&self, id: ShardId) -> bool {
        let mut state = self.state.write();
        let fresh = state.index.get(id).is_some() && state.quarantined.insert(id);
        if fresh {
            self.stats.corrupt.add(1);
        }
        fresh
    }

    pub(crate) async fn read_shard(
        self: &Arc<Self>,
        id: ShardId,
        wanted: Wanted,
    ) -> Result<FootedRead, ReadError> {
        for _ in 0..MOVES_MAX {
            let (location, generation) = self.locate(id)?;
            let mut fetched = Err(FetchError::Cold);
            let bytes = wanted.range.count.saturating_mul(BLOCK_BYTES).min(location.shard_bytes);
            if bytes <= INLINE_READ_BYTES_MAX {
                fetched = self.fetch(id, location, generation, wanted, false);
            }
            if let Err(FetchError::Cold) = fetched {
                self.stats.cold_reads.add(1);
                let store = Arc::clone(self);
                let fetch = move || store.fetch(id, location, generation, wanted, true);
                fetched = tokio::task::spawn_blocking(fetch)
                    .await
                    .map_err(|error| ReadError::Unavailable { reason: error.to_string() })?;
            }
            if let Some(outcome) = self.judge(id, location, fetched) {
                return outcome;
            }
        }
        Err(ReadError::Unavailable { reason: String::from("the shard keeps moving") })
    }

    /// The same on a thread that may block.
    pub(crate) fn read_shard_blocking(&self, id: ShardId, wanted: Wanted) -> Result<FootedRead, ReadError> {
        for _ in 0..MOVES_MAX {
            let (location, generation) = self.locate(id)?;
            let fetched = self.fetch(id, location, generation, wanted, true);
            if let Some(outcome) = self.judge(id, location, fetched) {
                return outcome;
            }
        }
        Err(ReadError::Unavailable { reason: String::from("the shard keeps moving") })
    }

    /// What a fetch means, now that it is done; `None` if the shard was elsewhere by then.
    fn judge(
        &self,
        id: ShardId,
        location: Location,
        fetched: Result<FootedRead, FetchError>,
    ) -> Option<Result<FootedRead, ReadError>> {
        match self.locate(id) {
            Ok((now, _)) if now == location => {}
            Ok(_) => return None,
            Err(error) => return Some(Err(error)),
        }
        Some(match fetched {
            Ok(read) => {
                self.stats.read(read.bytes.len());
                Ok(read)
            }
            Err(FetchError::Corrupt(corruption)) => {
                self.set_aside(id);
                Err(ReadError::Corrupt { id, corruption })
            }
            // Its file is gone: so is the shard, and a put may bring it back.
            Err(FetchError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.set_aside(id);
                Err(ReadError::NotFound { id })
            }
            Err(FetchError::Io(error)) => Err(ReadError::Io { id, error: Arc::new(error) }),
            Err(FetchError::Cold) => {
                Err(ReadError::Unavailable { reason: String::from("a read that waits") })
            }
            Err(FetchError::Refused(error)) => Err(error),
        })
    }

    fn fetch(
        &self,
        id: ShardId,
        location: Location,
        generation: Generation,
        wanted: Wanted,
        may_wait: bool,
    ) -> Result<FootedRead, FetchError> {
        let range = byte_range(id, location.shard_bytes, wanted.range).map_err(FetchError::Refused)?;
        let reader = Reader { store: self, file: location.file, may_wait };
        let (bytes, footer) = match location.file {
            FileId::Log(_) => reader.inline(id, location, range, wanted, generation)?,
            FileId::Segment(_) => reader.extent(id, location, range, wanted)?,
        };
        if wanted.verify == Verify::Node {
            check_blocks(id, wanted.range.first_block, &bytes, &footer).map_err(FetchError::Corrupt)?;
        }
        Ok(FootedRead { bytes, footer })
    }

    /// Whether the shard here has this footer, and so the same content. `false` if what is here is broken;
    /// it is set aside then, so that the next put replaces it.
    pub(crate) async fn has_footer(self: &Arc<Self>, id: ShardId, footer: &Bytes) -> Result<bool, PutError> {
        let range = BlockRange { first_block: 0, count: 1 };
        match self.read_shard(id, Wanted { range, footer: true, verify: Verify::Node }).await {
            Ok(held) if held.footer == *footer => Ok(true),
            Ok(_) => Err(PutError::Conflict { id }),
            Err(ReadError::NotFound { .. } | ReadError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(PutError::Unavailable { reason: error.to_string() }),
        }
    }

    /// The end of a streamed put of a shard that was here when it began.
    pub(crate) async fn compare(self: &Arc<Self>, id: ShardId, footer: &Bytes) -> Result<(), PutError> {
        if self.has_footer(id, footer).await? { Ok(()) } else { Err(PutError::Busy { id }) }
    }
}

struct Reader<'a> {
    store: &'a StoreInner,
    file: FileId,
    may_wait: bool,
}

impl Reader<'_> {
    /// Reads `[from, to)`, or less where the file ends.
    fn bytes(&self, from: u64, to: u64) -> Result<Bytes, FetchError> {
        let (file, file_bytes) = self.store.read_files.get(self.file)?;
        let len = to.min(file_bytes).saturating_sub(from);
        let len = usize::try_from(len).expect("reads are bounded by a shard and a footer");
        read_into(len, |buffer| {
            if self.may_wait {
                file.read_exact_at(buffer, from)?;
            } else if !file.read_cached_at(buffer, from)? {
                return Err(FetchError::Cold);
            }
            Ok(())
        })
    }

    fn inline(
        &self,
        id: ShardId,
        location: Location,
        range: std::ops::Range<u32>,
        wanted: Wanted,
        generation: Generation,
    ) -> Result<(Bytes, Bytes), FetchError> {
        let damaged = || FetchError::Corrupt(Corruption::Record);
        let from = u64::from(location.offset);
        let head = to_u64(RecordHeader::BYTES);
        let shard_end = from + head + u64::from(location.shard_bytes);
        let whole = wanted.footer || wanted.verify == Verify::Node;
        let mut record = self.bytes(from, shard_end + if whole { INLINE_FOOTER_GUESS } else { 0 })?;
        let header = RecordHeader::decode_unchecked(&record).ok_or_else(damaged)?;
        let named =
            (header.kind, header.id, header.shard_bytes) == (RecordKind::Inline, id, location.shard_bytes);
        if !named {
            return Err(damaged());
        }
        let end = if whole { head + header.body_bytes() } else { shard_end - from };
        if to_u64(record.len()) < end {
            record = self.bytes(from, from + end)?;
        }
        let end = usize::try_from(end).expect("a record fits usize");
        let shard = RecordHeader::BYTES;
        let bytes = record
            .len()
            .ge(&end)
            .then(|| record.slice(shard + to_usize(range.start)..shard + to_usize(range.end)));
        let bytes = bytes.ok_or_else(damaged)?;
        if !whole {
            return Ok((bytes, Bytes::new()));
        }
        let footer = record.slice(shard + to_usize(location.shard_bytes)..end);
        if wanted.verify == Verify::Node && RecordHeader::decode(&record[..end], generation).is_none() {
            // Name the block where it is one.
            check_blocks(id, wanted.range.first_block, &bytes, &footer).map_err(FetchError::Corrupt)?;
            return Err(damaged());
        }
        Ok((bytes, footer))
    }

    fn extent(
        &self,
        id: ShardId,
        location: Location,
        range: std::ops::Range<u32>,
        wanted: Wanted,
    ) -> Result<(Bytes, Bytes), FetchError> {
        let start = page_offset(location.offset);
        let shard_end = start + u64::from(location.shard_bytes);
        let (from, to) = (start + u64::from(range.start), start + u64::from(range.end));
        if !wanted.footer && wanted.verify == Verify::Caller {
            let bytes = self.bytes(from, to)?;
            return match bytes.len() == to_usize(range.end - range.start) {
                true => Ok((bytes, Bytes::new())),
                false => Err(FetchError::Corrupt(Corruption::Record)),
            };
        }
        let footer_end = shard_end + to_u64(FooterHeader::BYTES) + EXTENT_FOOTER_GUESS;
        let (bytes, mut tail) = if to == shard_end {
            let mut bytes = self.bytes(from, footer_end)?;
            let tail = bytes.split_off(bytes.len().min(to_usize(range.end - range.start)));
            (bytes, tail)
        } else {
            (self.bytes(from, to)?, self.bytes(shard_end, footer_end)?)
        };
        let damaged = || FetchError::Corrupt(Corruption::Record);
        let header = FooterHeader::decode_unchecked(&tail).ok_or_else(damaged)?;
        if (header.id, header.shard_bytes) != (id, location.shard_bytes) {
            return Err(damaged());
        }
        let end = FooterHeader::BYTES + to_usize(header.footer_bytes);
        if tail.len() < end {
            tail = self.bytes(shard_end, shard_end + to_u64(end))?;
        }
        if tail.len() < end || (wanted.verify == Verify::Node && FooterHeader::decode(&tail).is_none()) {
            return Err(damaged());
        }
        Ok((bytes, tail.slice(FooterHeader::BYTES..end)))
    }
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("usize fits u64")
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).expect("u32 fits usize")
}
