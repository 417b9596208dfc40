//! The bytes of a log file: header, groups of records, and the seal with its summary.
//!
//! Every check sum is seeded with the file's generation, a random number that each use of a file draws
//! anew, so nothing left over from an earlier use, and no bytes a client chose, can pass for a record.
//! What the records mean for the index is not known here.

use super::superblock::{DiskUuid, STORE_FORMAT};
use crate::service::{FOOTER_BYTES_MAX, FencingToken, NodeId, SHARD_BYTES_MAX};
use ashlar_chunker::ShardId;
use crc32fast::Hasher;

/// What groups and seals are padded to; an acknowledged page is never written again.
pub(crate) const PAGE_BYTES: usize = ashlar_disk::DIRECT_ALIGN_BYTES;
const FILE_MAGIC: [u8; 8] = *b"ASHLLOG1";
const GROUP_MAGIC: [u8; 4] = *b"AGRP";
const SEAL_MAGIC: [u8; 8] = *b"ASHLSEAL";

/// Distinguishes one use of a log file from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(pub u64);

impl Generation {
    fn hasher(self) -> Hasher {
        let mut hasher = Hasher::new();
        hasher.update(&self.0.to_be_bytes());
        hasher
    }

    fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// Reads fixed-width big-endian integers off the front of foreign bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

/// The first page of a log file that is in use. A free file's first page is anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Whose it is.
    pub node: NodeId,
    /// Of which folder.
    pub uuid: DiskUuid,
    /// Place of the file in the log.
    pub sequence: u64,
    /// Drawn when the file was taken into use.
    pub generation: Generation,
    /// Highest fencing token seen before the file.
    pub token: FencingToken,
}

impl FileHeader {
    /// Bytes of the encoding.
    pub const BYTES: usize = 60;

    /// Magic 8 ‖ format u16 ‖ reserved u16 ‖ node u32 ‖ uuid 16 ‖ sequence u64 ‖ generation u64 ‖ token u64
    /// ‖ CRC-32 of all before.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..10].copy_from_slice(&STORE_FORMAT.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.node.0.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.uuid.0);
        bytes[32..40].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.generation.0.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.token.0.to_be_bytes());
        let crc = crc32fast::hash(&bytes[..56]);
        bytes[56..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Inverse of [`encode`](Self::encode) for bytes found on a disk; `None` if they are no such header.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::BYTES }>()?;
        let (body, crc) = bytes.split_at(Self::BYTES - 4);
        if body[..8] != FILE_MAGIC || crc != crc32fast::hash(body).to_be_bytes() {
            return None;
        }
        let mut reader = Reader(&body[8..]);
        if reader.take()? != STORE_FORMAT.to_be_bytes() {
            return None;
        }
        reader.take::<2>()?;
        Some(Self {
            node: NodeId(reader.u32()?),
            uuid: DiskUuid(reader.take()?),
            sequence: reader.u64()?,
            generation: Generation(reader.u64()?),
            token: FencingToken(reader.u64()?),
        })
    }
}

/// What goes before the records that became durable together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Counts the groups of the file from 0.
    pub number: u64,
    /// Bytes of the records, padding not counted.
    pub body_bytes: u32,
    /// Records.
    pub records: u32,
}

impl GroupHeader {
    /// Bytes of the encoding.
    pub const BYTES: usize = 24;

    /// Magic 4 ‖ CRC-32 of the generation and all after ‖ number u64 ‖ body bytes u32 ‖ records u32.
    pub fn encode(&self, generation: Generation) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&GROUP_MAGIC);
        bytes[8..16].copy_from_slice(&self.number.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.body_bytes.to_be_bytes());
        bytes[20..].copy_from_slice(&self.records.to_be_bytes());
        let crc = generation.crc(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Inverse of [`encode`](Self::encode); `None` if the bytes are no group of this generation.
    pub fn decode(bytes: &[u8], generation: Generation) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::BYTES }>()?;
        if bytes[..4] != GROUP_MAGIC || bytes[4..8] != generation.crc(&bytes[8..]).to_be_bytes() {
            return None;
        }
        let mut reader = Reader(&bytes[8..]);
        Some(Self { number: reader.u64()?, body_bytes: reader.u32()?, records: reader.u32()? })
    }

    /// Bytes that the group takes in the file.
    pub fn padded_bytes(&self) -> u64 {
        let page = u64::try_from(PAGE_BYTES).expect("a page fits u64");
        let header = u64::try_from(Self::BYTES).expect("a header fits u64");
        (header + u64::from(self.body_bytes)).next_multiple_of(page)
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The shard lies in the record: its bytes, then its footer.
    Inline,
    /// The shard lies in a segment and was durable before this record.
    Extent {
        /// The segment.
        segment: u32,
        /// First page of the extent.
        page: u32,
    },
    /// The shard is gone.
    Tombstone,
    /// Nothing but the fencing token.
    Fence,
}

/// The head of a record, which its body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it says.
    pub kind: RecordKind,
    /// Of which shard; all zero for a fence.
    pub id: ShardId,
    /// Bytes of the shard; 0 where none is stored.
    pub shard_bytes: u32,
    /// Bytes of the footer: after the shard's in an inline record, in the segment for an extent.
    pub footer_bytes: u32,
    /// The deleter's token; 0 where a shard is stored.
    pub token: FencingToken,
}

impl RecordHeader {
    /// Bytes of the encoding.
    pub const BYTES: usize = 56;

    /// Bytes of the body.
    pub fn body_bytes(&self) -> u64 {
        match self.kind {
            RecordKind::Inline => u64::from(self.shard_bytes) + u64::from(self.footer_bytes),
            _ => 0,
        }
    }

    fn encode_fields(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (kind, segment, page) = match self.kind {
            RecordKind::Inline => (1, 0, 0),
            RecordKind::Extent { segment, page } => (2, segment, page),
            RecordKind::Tombstone => (3, 0, 0),
            RecordKind::Fence => (4, 0u32, 0u32),
        };
        bytes[4] = kind;
        bytes[5..26].copy_from_slice(&self.id.encode());
        bytes[28..32].copy_from_slice(&self.shard_bytes.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.footer_bytes.to_be_bytes());
        bytes[36..40].copy_from_slice(&segment.to_be_bytes());
        bytes[40..44].copy_from_slice(&page.to_be_bytes());
        bytes[44..52].copy_from_slice(&self.token.0.to_be_bytes());
        bytes
    }

    /// CRC-32 of the generation, all after it and the body ‖ kind u8 ‖ id 21 ‖ reserved u16 ‖ shard bytes
    /// u32 ‖ footer bytes u32 ‖ segment u32 ‖ page u32 ‖ token u64 ‖ reserved u32 (encryption at rest).
    pub fn encode<'a>(
        &self,
        generation: Generation,
        body: impl IntoIterator<Item = &'a [u8]>,
    ) -> [u8; Self::BYTES] {
        let mut bytes = self.encode_fields();
        let mut hasher = generation.hasher();
        hasher.update(&bytes[4..]);
        body.into_iter().for_each(|part| hasher.update(part));
        bytes[..4].copy_from_slice(&hasher.finalize().to_be_bytes());
        bytes
    }

    /// Reads a header and looks only at its shape: bounds hold, the check sum was not compared.
    pub fn decode_unchecked(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::BYTES }>()?;
        let mut reader = Reader(&bytes[4..]);
        let kind = reader.u8()?;
        let id = ShardId::decode(reader.take()?);
        let reserved: [u8; 2] = reader.take()?;
        let (shard_bytes, footer_bytes) = (reader.u32()?, reader.u32()?);
        let (segment, page) = (reader.u32()?, reader.u32()?);
        let token = FencingToken(reader.u64()?);
        let kind = match kind {
            1 => RecordKind::Inline,
            2 => RecordKind::Extent { segment, page },
            3 => RecordKind::Tombstone,
            4 => RecordKind::Fence,
            _ => return None,
        };
        let header = Self { kind, id, shard_bytes, footer_bytes, token };
        let bounded = shard_bytes <= SHARD_BYTES_MAX
            && usize::try_from(footer_bytes).is_ok_and(|footer_bytes| footer_bytes <= FOOTER_BYTES_MAX);
        (bounded && reserved == [0; 2] && header.encode_fields()[4..] == bytes[4..]).then_some(header)
    }

    /// Reads a header and compares the check sum of it and the body, which must follow it in `bytes`.
    pub fn decode(bytes: &[u8], generation: Generation) -> Option<Self> {
        let header = Self::decode_unchecked(bytes)?;
        let end = Self::BYTES + usize::try_from(header.body_bytes()).ok()?;
        let record = bytes.get(4..end)?;
        (bytes[..4] == generation.crc(record).to_be_bytes()).then_some(header)
    }
}

/// A record in the summary of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummaryEntry {
    /// Its head.
    pub header: RecordHeader,
    /// Its first byte in the file.
    pub offset: u32,
}

impl SummaryEntry {
    /// Bytes of the encoding: the record's head with the offset in place of the check sum.
    pub const BYTES: usize = RecordHeader::BYTES;

    /// Appends the encoding.
    pub fn encode_into(&self, summary: &mut Vec<u8>) {
        let mut bytes = self.header.encode_fields();
        bytes[..4].copy_from_slice(&self.offset.to_be_bytes());
        summary.extend_from_slice(&bytes);
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let offset = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Some(Self { header: RecordHeader::decode_unchecked(bytes)?, offset })
    }
}

/// The last page of a file that takes no more groups. The summary of its records lies before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Entries of the summary.
    pub entries: u32,
    /// Where the groups end.
    pub end: u32,
    /// Highest fencing token seen in the file and before it.
    pub token: FencingToken,
    summary_crc: u32,
}

impl Seal {
    /// Bytes of the encoding.
    pub const BYTES: usize = 36;

    /// Describes `summary`, a whole number of encoded entries.
    pub fn new(summary: &[u8], end: u32, token: FencingToken, generation: Generation) -> Self {
        let entries = u32::try_from(summary.len() / SummaryEntry::BYTES).expect("a file's records fit u32");
        Self { entries, end, token, summary_crc: generation.crc(summary) }
    }

    /// Magic 8 ‖ CRC-32 of the generation and all after ‖ entries u32 ‖ end u32 ‖ token u64 ‖ CRC-32 of the
    /// generation and the summary ‖ reserved u32.
    pub fn encode(&self, generation: Generation) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&SEAL_MAGIC);
        bytes[12..16].copy_from_slice(&self.entries.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.end.to_be_bytes());
        bytes[20..28].copy_from_slice(&self.token.0.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.summary_crc.to_be_bytes());
        let crc = generation.crc(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Inverse of [`encode`](Self::encode); `None` if the bytes are no seal of this generation.
    pub fn decode(bytes: &[u8], generation: Generation) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::BYTES }>()?;
        if bytes[..8] != SEAL_MAGIC || bytes[8..12] != generation.crc(&bytes[12..]).to_be_bytes() {
            return None;
        }
        let mut reader = Reader(&bytes[12..]);
        Some(Self {
            entries: reader.u32()?,
            end: reader.u32()?,
            token: FencingToken(reader.u64()?),
            summary_crc: reader.u32()?,
        })
    }

    /// Bytes of the summary.
    pub fn summary_bytes(&self) -> u64 {
        u64::from(self.entries) * u64::try_from(SummaryEntry::BYTES).expect("an entry fits u64")
    }

    /// Reads the summary; `None` if it is not the one that was sealed.
    pub fn decode_summary(&self, summary: &[u8], generation: Generation) -> Option<Vec<SummaryEntry>> {
        let (entries, rest) = summary.as_chunks::<{ SummaryEntry::BYTES }>();
        let whole = rest.is_empty() && u32::try_from(entries.len()).ok()? == self.entries;
        if !whole || generation.crc(summary) != self.summary_crc {
            return None;
        }
        entries.iter().map(SummaryEntry::decode).collect()
    }
}

/// What follows a shard's bytes in its extent, before the encoded commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterHeader {
    /// The shard.
    pub id: ShardId,
    /// Bytes of the shard, which end where this begins.
    pub shard_bytes: u32,
    /// Bytes of the commitment that follows.
    pub footer_bytes: u32,
}

impl FooterHeader {
    /// Bytes of the encoding.
    pub const BYTES: usize = 48;
    const MAGIC: [u8; 4] = *b"AFTR";

    /// Magic 4 ‖ CRC-32 of all after and the commitment ‖ id 21 ‖ reserved 3 ‖ shard bytes u32 ‖ footer
    /// bytes u32 ‖ reserved 8 (encryption at rest).
    pub fn encode(&self, footer: &[u8]) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[8..29].copy_from_slice(&self.id.encode());
        bytes[32..36].copy_from_slice(&self.shard_bytes.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.footer_bytes.to_be_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&bytes[8..]);
        hasher.update(footer);
        bytes[4..8].copy_from_slice(&hasher.finalize().to_be_bytes());
        bytes
    }

    /// Reads the header; the commitment was not compared yet.
    pub fn decode_unchecked(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::BYTES }>()?;
        if bytes[..4] != Self::MAGIC {
            return None;
        }
        let mut reader = Reader(&bytes[8..]);
        let id = ShardId::decode(reader.take()?);
        reader.take::<3>()?;
        let (shard_bytes, footer_bytes) = (reader.u32()?, reader.u32()?);
        let bounded = shard_bytes <= SHARD_BYTES_MAX
            && usize::try_from(footer_bytes).is_ok_and(|footer_bytes| footer_bytes <= FOOTER_BYTES_MAX);
        bounded.then_some(Self { id, shard_bytes, footer_bytes })
    }

    /// Reads the header and compares the check sum of it and the commitment, which must follow it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let header = Self::decode_unchecked(bytes)?;
        let end = Self::BYTES + usize::try_from(header.footer_bytes).ok()?;
        (bytes[4..8] == crc32fast::hash(bytes.get(8..end)?).to_be_bytes()).then_some(header)
    }
}

#[cfg(test)]
mod tests;
