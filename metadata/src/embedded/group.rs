//! The unit that the journal appends and syncs: a group of records, each one commit. Format:
//! `docs/formats/journal.md`.
//!
//! Owns encoding, parsing and the hash chain. Invariant: a group that parses is byte for byte one that was
//! appended to this segment of this store, and its chain value commits to every record before it.
//! Deliberately knows nothing of files and of what rows mean.

use bytes::Bytes;

use super::fields::{Fields, len_u32, len_u64, round_up};
use crate::ordered_kv::Position;
use crate::plan::Change;

/// Groups begin at, and are padded to, multiples of this, so that a sync never rewrites what an earlier one
/// made durable, and appends can go round the page cache.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes of a group before its records.
pub(crate) const GROUP_HEADER_BYTES: usize = 136;
/// Longest record bytes that a reader accepts; a writer stays far below.
pub(crate) const GROUP_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const MAGIC: &[u8; 8] = b"ASHLJGR1";
/// In place of a value's length: the row is removed.
const REMOVED: u32 = u32::MAX;

/// A value of the hash chain over records.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChainHash(pub(crate) [u8; 32]);

impl std::fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Names one store: what belongs to another is never mixed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StoreId(pub(crate) [u8; 16]);

impl ChainHash {
    /// Before the first group of a store.
    pub(crate) fn genesis(store: StoreId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("ashlar metadata journal v1 genesis");
        hasher.update(&store.0);
        Self(*hasher.finalize().as_bytes())
    }

    /// Where a group's records begin.
    fn begin_group(self, sequence: u64, epoch: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(&sequence.to_be_bytes()).update(&epoch.to_be_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    fn record(self, record: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(record);
        Self(*hasher.finalize().as_bytes())
    }
}

/// A place between two groups: everything up to it is known by its chain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalPoint {
    /// Raised each time the store opens, so that of two histories the later is known.
    pub(crate) epoch: u64,
    /// Groups so far.
    pub(crate) sequence: u64,
    /// Of the last commit so far.
    pub(crate) position: Position,
    /// Over every record so far.
    pub(crate) chain: ChainHash,
}

impl JournalPoint {
    /// Before the first group of a store.
    pub(crate) fn genesis(store: StoreId) -> Self {
        Self { epoch: 0, sequence: 0, position: Position::ZERO, chain: ChainHash::genesis(store) }
    }

    /// What decides which of two histories goes on: the later epoch, then the longer.
    pub(crate) fn rank(&self) -> (u64, u64) {
        (self.epoch, self.sequence)
    }
}

/// What a group says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// The chain before its first record.
    pub(crate) chain_before: ChainHash,
    /// Where the journal stands after it.
    pub(crate) after: JournalPoint,
    /// Number of records.
    pub(crate) records: u32,
    /// Length of the records together.
    pub(crate) body_bytes: usize,
    body_crc: u32,
}

impl GroupHeader {
    /// Bytes that the group takes in a segment.
    pub(crate) fn padded_bytes(&self) -> u64 {
        padded_bytes(self.body_bytes)
    }

    /// The header's bytes for segment `segment` of `store`.
    pub(crate) fn encode(&self, store: StoreId, segment: u64) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(GROUP_HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&store.0);
        bytes.extend_from_slice(&segment.to_be_bytes());
        bytes.extend_from_slice(&self.after.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.after.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.after.position.to_be_bytes());
        bytes.extend_from_slice(&self.records.to_be_bytes());
        bytes.extend_from_slice(&len_u32(self.body_bytes).to_be_bytes());
        bytes.extend_from_slice(&self.chain_before.0);
        bytes.extend_from_slice(&self.after.chain.0);
        bytes.extend_from_slice(&self.body_crc.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.try_into().expect("the fields above fill the header")
    }

    /// Reads a header; `None` unless it is whole and of this segment of this store.
    pub(crate) fn parse(bytes: &[u8], store: StoreId, segment: u64) -> Option<Self> {
        let header = bytes.get(..GROUP_HEADER_BYTES)?;
        let (covered, crc) = header.split_last_chunk::<4>()?;
        let mut fields = Fields(covered);
        let is_ours = fields.take(8)? == MAGIC
            && fields.array()? == store.0
            && fields.u64()? == segment
            && u32::from_be_bytes(*crc) == crc32fast::hash(covered);
        if !is_ours {
            return None;
        }
        let (sequence, epoch, position) = (fields.u64()?, fields.u64()?, Position(fields.u64()?));
        let (records, body_bytes) = (fields.u32()?, fields.len32()?);
        let (chain_before, chain) = (ChainHash(fields.array()?), ChainHash(fields.array()?));
        let body_crc = fields.u32()?;
        let after = JournalPoint { epoch, sequence, position, chain };
        (body_bytes <= GROUP_BODY_BYTES_MAX && sequence > 0).then_some(Self {
            chain_before,
            after,
            records,
            body_bytes,
            body_crc,
        })
    }

    /// Whether `body` is what was appended with this header.
    pub(crate) fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.body_bytes && crc32fast::hash(body) == self.body_crc
    }
}

/// Bytes that a group with `body_bytes` of records takes in a segment.
pub(crate) fn padded_bytes(body_bytes: usize) -> u64 {
    round_up(len_u64(GROUP_HEADER_BYTES + body_bytes), len_u64(BLOCK_BYTES))
}

/// A group being filled.
pub(crate) struct GroupBuilder {
    chain_before: ChainHash,
    point: JournalPoint,
    records: u32,
    body: Vec<u8>,
}

impl GroupBuilder {
    /// The group after `before`, of `epoch`.
    pub(crate) fn new(before: &JournalPoint, epoch: u64) -> Self {
        let sequence = before.sequence + 1;
        let chain = before.chain.begin_group(sequence, epoch);
        let point = JournalPoint { epoch, sequence, position: before.position, chain };
        Self { chain_before: before.chain, point, records: 0, body: Vec::new() }
    }

    /// Appends the commit at `position`, which is above every earlier one.
    pub(crate) fn push(&mut self, position: Position, changes: &[Change]) {
        assert!(position > self.point.position, "commit positions only grow");
        let start = self.body.len();
        let body = &mut self.body;
        body.extend_from_slice(&position.to_be_bytes());
        body.extend_from_slice(&len_u32(changes.len()).to_be_bytes());
        for Change { key, value } in changes {
            body.extend_from_slice(&len_u32(key.len()).to_be_bytes());
            body.extend_from_slice(
                &value.as_ref().map_or(REMOVED, |value| len_u32(value.len())).to_be_bytes(),
            );
            body.extend_from_slice(key);
            body.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        self.records += 1;
        self.point.position = position;
        self.point.chain = self.point.chain.record(&self.body[start..]);
    }

    /// Length of the records so far.
    pub(crate) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Number of records so far.
    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// The finished group.
    pub(crate) fn finish(self) -> Group {
        let header = GroupHeader {
            chain_before: self.chain_before,
            after: self.point,
            records: self.records,
            body_bytes: self.body.len(),
            body_crc: crc32fast::hash(&self.body),
        };
        Group { header, body: Bytes::from(self.body) }
    }
}

/// A group, as it is appended and as it is read back.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) header: GroupHeader,
    pub(crate) body: Bytes,
}

/// One commit as the journal tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) position: Position,
    pub(crate) changes: Vec<Change>,
}

impl Group {
    /// The records, if they are well formed, in order, and lead to the header's chain value.
    pub(crate) fn records(&self) -> Option<Vec<Record>> {
        let after = &self.header.after;
        let mut chain = self.header.chain_before.begin_group(after.sequence, after.epoch);
        let mut records = Vec::new();
        let mut fields = Fields(&self.body);
        let mut last = Position::ZERO;
        for _ in 0..self.header.records {
            let start = self.body.len() - fields.0.len();
            let record = read_record(&self.body, &mut fields)?;
            let end = self.body.len() - fields.0.len();
            if record.position <= last || record.position > after.position {
                return None;
            }
            last = record.position;
            chain = chain.record(&self.body[start..end]);
            records.push(record);
        }
        let whole =
            fields.is_done() && chain == after.chain && (records.is_empty() || last == after.position);
        whole.then_some(records)
    }
}

fn read_record(body: &Bytes, fields: &mut Fields<'_>) -> Option<Record> {
    let position = Position(fields.u64()?);
    let count = fields.len32()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let key_bytes = fields.len32()?;
        let value_bytes = fields.u32()?;
        let key = body.slice_ref(fields.take(key_bytes)?);
        let value = match value_bytes {
            REMOVED => None,
            bytes => Some(body.slice_ref(fields.take(usize::try_from(bytes).ok()?)?)),
        };
        changes.push(Change { key, value });
    }
    Some(Record { position, changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn sample() -> Group {
        let mut builder = GroupBuilder::new(&JournalPoint::genesis(STORE), 3);
        let put = Change { key: Bytes::from_static(b"k"), value: Some(Bytes::from_static(b"value")) };
        let empty = Change { key: Bytes::from_static(b"e"), value: Some(Bytes::new()) };
        builder.push(Position(1), &[put.clone(), empty]);
        builder.push(Position(5), &[Change { value: None, ..put }]);
        builder.push(Position(6), &[]);
        builder.finish()
    }

    #[test]
    fn what_was_built_is_read_back() {
        let group = sample();
        let header = GroupHeader::parse(&group.header.encode(STORE, 9), STORE, 9).expect("whole");
        assert_eq!(header, group.header);
        assert!(header.matches(&group.body));
        let records = group.records().expect("well formed");
        assert_eq!(records.len(), 3);
        assert_eq!(records[1].position, Position(5));
        assert_eq!(records[1].changes[0].value, None);
        assert_eq!(records[0].changes[1].value, Some(Bytes::new()));
        assert_eq!(header.after.position, Position(6));
    }

    #[test]
    fn any_flipped_bit_and_any_other_home_is_refused() {
        let group = sample();
        let bytes = group.header.encode(STORE, 9);
        assert_eq!(GroupHeader::parse(&bytes, STORE, 8), None);
        assert_eq!(GroupHeader::parse(&bytes, StoreId([8; 16]), 9), None);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(GroupHeader::parse(&damaged, STORE, 9), None, "bit {bit}");
        }
        for bit in 0..group.body.len() * 8 {
            let mut damaged = group.body.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!group.header.matches(&damaged), "bit {bit}");
            let damaged = Group { header: group.header, body: damaged.into() };
            assert_eq!(damaged.records(), None, "the chain alone must tell, bit {bit}");
        }
    }

    #[test]
    fn the_chain_tells_epochs_apart() {
        let before = JournalPoint::genesis(STORE);
        let chain = |epoch| GroupBuilder::new(&before, epoch).finish().header.after.chain;
        assert_ne!(chain(1), chain(2));
    }

    #[test]
    fn the_vector_of_the_format_document_holds() {
        let group = sample();
        let mut hex = String::new();
        group.header.encode(STORE, 9).iter().for_each(|byte| hex += &format!("{byte:02x}"));
        group.body.iter().for_each(|byte| hex += &format!("{byte:02x}"));
        let vector = include_str!("../../vectors/journal-group.hex");
        assert_eq!(hex, vector.split_whitespace().collect::<String>());
    }
}
