//! The index log's writing end: groups of records, one durable write each, into one active file.
//!
//! Keeps three invariants: a file is sealed durably before the next one takes a group; a page that was
//! acknowledged is never written again; and the index is changed in the order of the records.

use super::index::{FileId, Location};
use super::record::{
    FileHeader, Generation, GroupHeader, PAGE_BYTES, RecordHeader, RecordKind, Seal, SummaryEntry,
};
use super::space::{CreateError, FullError, Reserve};
use super::state::{FreedExtent, LogUse};
use super::writer::ExtentLease;
use super::{StoreInner, files};
use crate::service::{DeleteError, FencingToken, PutError};
use ashlar_chunker::{BlobId, SessionId, ShardId, ShardIndex};
use ashlar_disk::{DiskFile, OpenMode};
use bytes::Bytes;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Bytes of records after which a group is written, so that it mostly is one system call.
const GROUP_BYTES_MAX: u64 = 1 << 20;
/// Where the header's second copy lies in a log file's first page, a sector of its own.
pub(crate) const HEADER_COPY_AT: usize = 2048;
const ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// A shard that waits to be entered into the log.
pub(crate) struct PutAppend {
    pub(crate) id: ShardId,
    pub(crate) place: PutPlace,
    pub(crate) shard_bytes: u32,
    pub(crate) footer: Bytes,
    pub(crate) claim: WriteClaim,
    pub(crate) done: oneshot::Sender<Result<(), PutError>>,
    /// Counts against the queue's limit until the record is durable.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

/// Where the bytes of a shard are.
pub(crate) enum PutPlace {
    /// Here, to go into the record.
    Inline(Vec<Bytes>),
    /// In a segment, durable.
    Extent(Arc<ExtentLease>),
}

/// Something that waits to be appended.
pub(crate) enum Append {
    Put(PutAppend),
    Delete {
        ids: Vec<ShardId>,
        token: FencingToken,
        done: oneshot::Sender<Result<(), DeleteError>>,
    },
    /// A record of a file that is being compacted, copied if it still counts.
    /// Answered once it is decided; dropped without an answer if that failed.
    Copy {
        header: RecordHeader,
        body: Bytes,
        from: Location,
        done: oneshot::Sender<()>,
    },
}

/// An answer that waits until all stores of a round are durable, so that wake-ups come together.
pub(crate) enum Completion {
    Put(oneshot::Sender<Result<(), PutError>>, Result<(), PutError>),
    Delete(oneshot::Sender<Result<(), DeleteError>>, Result<(), DeleteError>),
    Copy(oneshot::Sender<()>),
}

impl Completion {
    pub(crate) fn send(self) {
        // A receiver that is gone belongs to a client that is gone.
        match self {
            Completion::Put(done, outcome) => drop(done.send(outcome)),
            Completion::Delete(done, outcome) => drop(done.send(outcome)),
            Completion::Copy(done) => drop(done.send(())),
        }
    }
}

/// Keeps an id from being written twice at once.
pub(crate) struct WriteClaim {
    store: Arc<StoreInner>,
    id: ShardId,
    released: bool,
}

impl WriteClaim {
    /// The id must have been entered into `writing` before.
    pub(crate) fn entered(store: Arc<StoreInner>, id: ShardId) -> Self {
        Self { store, id, released: false }
    }

    /// The id was taken out of `writing` together with others.
    fn released(mut self) {
        self.released = true;
    }
}

impl Drop for WriteClaim {
    fn drop(&mut self) {
        if !self.released {
            self.store.state.write().writing.remove(&self.id);
        }
    }
}

/// The file that takes groups.
pub(crate) struct ActiveLog {
    pub(crate) slot: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) file_bytes: u64,
    pub(crate) generation: Generation,
    pub(crate) offset: u64,
    pub(crate) groups: u64,
    pub(crate) summary: Vec<u8>,
}

impl ActiveLog {
    /// Whether a group of `body_bytes` in `records` records leaves room for the seal.
    fn has_room(&self, body_bytes: u64, records: usize) -> bool {
        let header = GroupHeader { number: 0, body_bytes: to_u32(body_bytes), records: 0 };
        let summary = to_u64(self.summary.len() + records * SummaryEntry::BYTES);
        let page = to_u64(PAGE_BYTES);
        self.offset + header.padded_bytes() + summary.next_multiple_of(page) + page <= self.file_bytes
    }

    /// Writes summary and seal; the file takes no group after it.
    pub(crate) fn seal(&self, token: FencingToken) -> io::Result<()> {
        let seal = Seal::new(&self.summary, to_u32(self.offset), token, self.generation);
        let page = to_u64(PAGE_BYTES);
        let summary_padded = to_u64(self.summary.len()).next_multiple_of(page);
        let padding = usize::try_from(summary_padded).expect("a log file fits usize") - self.summary.len();
        let seal = seal.encode(self.generation);
        let parts = [&self.summary, &ZERO_PAGE[..padding], &seal, &ZERO_PAGE[seal.len()..]];
        self.file.write_durable_at(&parts, self.file_bytes - page - summary_padded)
    }
}

/// The writing end; used by one thread at a time.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) active: Option<ActiveLog>,
    pub(crate) sequence: u64,
    /// Heads of the group being built; kept for its memory.
    heads: Vec<[u8; RecordHeader::BYTES]>,
}

/// A record of the group being built.
struct Staged {
    header: RecordHeader,
    /// Which of the group's appends it is of.
    item: usize,
}

/// Why a group was not written.
enum AppendError {
    Full(FullError),
    /// No file could be made; nothing was written, so the next group may try again.
    Failed(String),
    Poisoned(String),
}

impl AppendError {
    fn put_error(&self) -> PutError {
        match self {
            AppendError::Full(full) => full.put_error(),
            AppendError::Failed(reason) => PutError::Unavailable { reason: reason.clone() },
            AppendError::Poisoned(reason) => PutError::ReadOnly { reason: reason.clone() },
        }
    }

    fn delete_error(&self) -> DeleteError {
        match self {
            AppendError::Full(full) => DeleteError::Unavailable { reason: full.to_string() },
            AppendError::Failed(reason) => DeleteError::Unavailable { reason: reason.clone() },
            AppendError::Poisoned(reason) => DeleteError::ReadOnly { reason: reason.clone() },
        }
    }
}

impl From<CreateError> for AppendError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Full(full) => AppendError::Full(full),
            CreateError::Io(error) => AppendError::Failed(format!("cannot make a log file: {error}")),
        }
    }
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("usize fits u64")
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value).expect("offsets in a log file fit u32")
}

impl PutAppend {
    fn header(&self) -> RecordHeader {
        let kind = match &self.place {
            PutPlace::Inline(_) => RecordKind::Inline,
            PutPlace::Extent(lease) => RecordKind::Extent { segment: lease.segment(), page: lease.page() },
        };
        let footer_bytes = to_u32(to_u64(self.footer.len()));
        let (id, shard_bytes) = (self.id, self.shard_bytes);
        RecordHeader { kind, id, shard_bytes, footer_bytes, token: FencingToken::default() }
    }
}

impl Append {
    fn body(&self) -> impl Iterator<Item = &[u8]> {
        let (cells, tail): (&[Bytes], Option<&Bytes>) = match self {
            Append::Put(PutAppend { place: PutPlace::Inline(cells), footer, .. }) => (cells, Some(footer)),
            Append::Put(_) | Append::Delete { .. } => (&[], None),
            Append::Copy { body, .. } => (&[], Some(body)),
        };
        cells.iter().chain(tail).map(|part| &part[..])
    }

    /// Most records it can become.
    fn records_max(&self) -> usize {
        if let Append::Delete { ids, .. } = self { ids.len().max(1) } else { 1 }
    }

    /// Most bytes that its records take.
    fn bytes_max(&self) -> u64 {
        let body: u64 = self.body().map(|part| to_u64(part.len())).sum();
        body + to_u64(self.records_max() * RecordHeader::BYTES)
    }
}

impl StoreInner {
    /// Makes everything in `items` durable, in order, and enters it into the index.
    pub(crate) fn append(&self, items: Vec<Append>, completions: &mut Vec<Completion>) {
        let mut log = self.log.lock();
        let group_bytes_max = GROUP_BYTES_MAX.min(self.options.log_bytes / 4);
        let (mut group, mut group_bytes, mut has_shard) = (Vec::with_capacity(items.len()), 0, false);
        for item in items {
            // A delete must see what was stored or copied before it in the index, and nothing of its own group
            // is there yet: what it removed would be entered again.
            if group_bytes > group_bytes_max || (has_shard && matches!(item, Append::Delete { .. })) {
                self.append_group(&mut log, std::mem::take(&mut group), completions);
                (group_bytes, has_shard) = (0, false);
            }
            group_bytes += item.bytes_max();
            has_shard |= !matches!(item, Append::Delete { .. });
            group.push(item);
        }
        if !group.is_empty() {
            self.append_group(&mut log, group, completions);
        }
    }

    fn append_group(&self, log: &mut Log, items: Vec<Append>, completions: &mut Vec<Completion>) {
        let mut freed = Vec::new();
        let mut refused = Vec::new();
        let (staged, outcome) = if let Some(reason) = self.poison_reason() {
            (Vec::new(), Err(AppendError::Poisoned(reason)))
        } else {
            // Room first: a delete that finds none must leave the index alone.
            let bytes = items.iter().map(Append::bytes_max).sum();
            let records = items.iter().map(Append::records_max).sum();
            let stores = items.iter().any(|item| matches!(item, Append::Put(_)));
            let reserve = if stores { Reserve::Kept } else { Reserve::Used };
            match self.make_room(log, bytes, records, reserve) {
                Err(error) => (Vec::new(), Err(error)),
                Ok(()) => {
                    let staged = self.stage(&items, &mut freed, &mut refused);
                    let outcome = match staged.is_empty() {
                        true => Ok(None),
                        false => self.write_group(log, &items, &staged).map(Some),
                    };
                    (staged, outcome)
                }
            }
        };
        match outcome {
            Ok(offsets) => {
                if let (Some((offsets, slot)), Some(active)) = (offsets, log.active.as_mut()) {
                    for (record, offset) in staged.iter().zip(&offsets) {
                        SummaryEntry { header: record.header, offset: *offset }
                            .encode_into(&mut active.summary);
                    }
                    self.enter(slot, &items, &staged, &offsets, &mut freed);
                }
                self.free_extents(&freed);
                complete(items, &refused, completions);
            }
            Err(error) => fail(items, &error, completions),
        }
    }

    /// Decides what each append becomes. Deletes leave the index here, so that nothing behind them in the
    /// group sees the shards.
    fn stage(
        &self,
        items: &[Append],
        freed: &mut Vec<FreedExtent>,
        refused: &mut Vec<(usize, DeleteError)>,
    ) -> Vec<Staged> {
        let mut staged = Vec::with_capacity(items.len());
        let mut put_here = HashSet::new();
        for (item, append) in items.iter().enumerate() {
            match append {
                Append::Put(put) => {
                    put_here.insert(put.id);
                    staged.push(Staged { header: put.header(), item });
                }
                Append::Delete { ids, token, .. } => {
                    let mut state = self.state.write();
                    if *token < state.token {
                        refused.push((item, DeleteError::StaleToken { token: *token, highest: state.token }));
                        continue;
                    }
                    let before = staged.len();
                    for id in ids {
                        if let Some(extent) = state.remove(*id) {
                            freed.extend(extent);
                            staged.push(Staged {
                                header: without_shard(RecordKind::Tombstone, *id, *token),
                                item,
                            });
                        }
                    }
                    if staged.len() == before && *token > state.token {
                        staged.push(Staged {
                            header: without_shard(RecordKind::Fence, no_shard(), *token),
                            item,
                        });
                    }
                    state.token = *token;
                }
                Append::Copy { header, from, .. } => {
                    let found = self.state.read().index.get(header.id);
                    let counts = match header.kind {
                        RecordKind::Inline | RecordKind::Extent { .. } => found == Some(*from),
                        RecordKind::Tombstone => found.is_none(),
                        RecordKind::Fence => true,
                    };
                    // A put of this group is newer, and not in the index yet.
                    if counts && !put_here.contains(&header.id) {
                        staged.push(Staged { header: *header, item });
                    }
                }
            }
        }
        staged
    }

    /// Writes one group; where each record starts, and in which slot.
    fn write_group(
        &self,
        log: &mut Log,
        items: &[Append],
        staged: &[Staged],
    ) -> Result<(Vec<u32>, u32), AppendError> {
        let record = |staged: &Staged| to_u64(RecordHeader::BYTES) + staged.header.body_bytes();
        let body_bytes: u64 = staged.iter().map(record).sum();
        let Log { active: Some(active), heads, .. } = log else {
            unreachable!("room was made in an active file");
        };
        heads.clear();
        let mut offsets = Vec::with_capacity(staged.len());
        let mut offset = active.offset + to_u64(GroupHeader::BYTES);
        for record in staged {
            let body = items[record.item].body().filter(|_| record.header.body_bytes() > 0);
            heads.push(record.header.encode(active.generation, body));
            offsets.push(to_u32(offset));
            offset += to_u64(RecordHeader::BYTES) + record.header.body_bytes();
        }
        let records = u32::try_from(staged.len()).expect("records of a group fit u32");
        let group = GroupHeader { number: active.groups, body_bytes: to_u32(body_bytes), records };
        let encoded = group.encode(active.generation);
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 + 4 * staged.len());
        parts.push(&encoded);
        for (record, head) in staged.iter().zip(&*heads) {
            parts.push(head);
            parts.extend(items[record.item].body().filter(|_| record.header.body_bytes() > 0));
        }
        let end = active.offset + group.padded_bytes();
        parts.push(&ZERO_PAGE[..usize::try_from(end - offset).expect("less than a page")]);
        if let Err(error) = active.file.write_durable_at(&parts, active.offset) {
            return Err(AppendError::Poisoned(self.poison("writing the log", &error)));
        }
        self.stats.log_group(end - active.offset, records);
        active.offset = end;
        active.groups += 1;
        Ok((offsets, active.slot))
    }

    /// Enters a durable group into the index.
    fn enter(
        &self,
        slot: u32,
        items: &[Append],
        staged: &[Staged],
        offsets: &[u32],
        freed: &mut Vec<FreedExtent>,
    ) {
        let mut state = self.state.write();
        for (record, offset) in staged.iter().zip(offsets) {
            state.count(slot, &record.header);
            let inline =
                Location { file: FileId::Log(slot), offset: *offset, shard_bytes: record.header.shard_bytes };
            let id = record.header.id;
            match (&items[record.item], record.header.kind) {
                (Append::Put(put), _) => {
                    let location = match &put.place {
                        PutPlace::Inline(_) => inline,
                        PutPlace::Extent(lease) => lease.keep(put.shard_bytes),
                    };
                    state.quarantined.remove(&id);
                    state.writing.remove(&id);
                    freed.extend(state.insert(id, location));
                    self.stats.put(put.shard_bytes);
                }
                (Append::Copy { .. }, RecordKind::Inline) => freed.extend(state.insert(id, inline)),
                _ => {}
            }
        }
    }

    /// Makes sure that an active file has room, sealing one and taking the next as needed.
    fn make_room(
        &self,
        log: &mut Log,
        body_bytes: u64,
        records: usize,
        reserve: Reserve,
    ) -> Result<(), AppendError> {
        if log.active.as_ref().is_some_and(|active| active.has_room(body_bytes, records)) {
            return Ok(());
        }
        if let Some(active) = &log.active {
            // The next file first: without one this keeps its room for what is smaller.
            if self.state.read().spares.is_empty() {
                self.create_spare(reserve)?;
            }
            let token = self.state.read().token;
            if let Err(error) = active.seal(token) {
                return Err(AppendError::Poisoned(self.poison("sealing a log file", &error)));
            }
            if let Some(log) = self.state.write().logs.get_mut(&active.slot) {
                log.sealed = true;
            }
            log.active = None;
        }
        self.activate(log, reserve)?;
        let active = log.active.as_ref().expect("activated just now");
        assert!(active.has_room(body_bytes, records), "a group is smaller than a log file");
        Ok(())
    }

    fn activate(&self, log: &mut Log, reserve: Reserve) -> Result<(), AppendError> {
        let spare = self.state.write().spares.pop();
        let slot = match spare {
            Some(slot) => slot,
            None => {
                self.create_spare(reserve)?;
                self.state.write().spares.pop().expect("created just now; only this thread takes spares")
            }
        };
        self.wake_keeper();
        let generation = Generation((self.options.random)());
        let sequence = log.sequence + 1;
        let token = self.state.read().token;
        let header = FileHeader { node: self.node, uuid: self.uuid, sequence, generation, token };
        let opened = (|| {
            let path = self.folder.join(files::file_name(FileId::Log(slot)));
            let file = self.disk.open_direct(&path, OpenMode::Existing)?;
            file.write_durable_at(&[&header_page(&header)], 0)?;
            let file_bytes = file.len()?;
            Ok((file, file_bytes))
        })();
        let (file, file_bytes) = opened.map_err(|error: io::Error| {
            AppendError::Poisoned(self.poison("taking a log file into use", &error))
        })?;
        log.sequence = sequence;
        self.state.write().logs.insert(slot, LogUse::new(sequence, generation, file_bytes));
        log.active = Some(ActiveLog {
            slot,
            file,
            file_bytes,
            generation,
            offset: to_u64(PAGE_BYTES),
            groups: 0,
            summary: Vec::new(),
        });
        Ok(())
    }
}

/// The first page of a log file: the header in two sectors.
fn header_page(header: &FileHeader) -> [u8; PAGE_BYTES] {
    let mut page = ZERO_PAGE;
    let encoded = header.encode();
    page[..encoded.len()].copy_from_slice(&encoded);
    page[HEADER_COPY_AT..HEADER_COPY_AT + encoded.len()].copy_from_slice(&encoded);
    page
}

fn without_shard(kind: RecordKind, id: ShardId, token: FencingToken) -> RecordHeader {
    RecordHeader { kind, id, shard_bytes: 0, footer_bytes: 0, token }
}

/// What a fence has in place of an id.
fn no_shard() -> ShardId {
    BlobId { session: SessionId(0), counter: 0 }.chunk(0).shard(ShardIndex(0))
}

fn complete(items: Vec<Append>, refused: &[(usize, DeleteError)], completions: &mut Vec<Completion>) {
    completions.extend(items.into_iter().enumerate().map(|(item, append)| match append {
        Append::Put(put) => {
            put.claim.released();
            Completion::Put(put.done, Ok(()))
        }
        Append::Delete { done, .. } => {
            let error = refused.iter().find(|(refused, _)| *refused == item).map(|(_, error)| error.clone());
            Completion::Delete(done, error.map_or(Ok(()), Err))
        }
        Append::Copy { done, .. } => Completion::Copy(done),
    }));
}

fn fail(items: Vec<Append>, error: &AppendError, completions: &mut Vec<Completion>) {
    completions.extend(items.into_iter().filter_map(|append| {
        Some(match append {
            Append::Put(put) => Completion::Put(put.done, Err(error.put_error())),
            Append::Delete { done, .. } => Completion::Delete(done, Err(error.delete_error())),
            Append::Copy { .. } => return None,
        })
    }));
}

#[cfg(test)]
mod tests;
