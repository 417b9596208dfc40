//! A batch: entries in the order of their places, their leaves in clear, their records sealed.
//!
//! ```text
//! blob = header 190 ‖ entry_count × leaf 32 ‖ nonce 24 ‖ XChaCha20-Poly1305(records; header as associated data)
//! records = entry_count × entry ‖ carried
//! ```
//!
//! Invariant: what opens is what was sealed: the root in the header covers the leaves, every leaf its record. Rows
//! are what a recovery writes back; they are sealed and authenticated, but no leaf covers them. Does not know where
//! entries come from.

use ashlar_chain::{BATCH_HEADER_BYTES, BatchHeader, BatchHeaderError};
use ashlar_chunker::tree::{self, Node};
use ashlar_metadata::namespace::log::GenerationRow;
use ashlar_objects::log::{entry_leaf, record_digest};
use bytes::Bytes;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use rand::RngCore;

use super::keys::{KEY_EPOCH, NamespaceKeys};

const NONCE_BYTES: usize = 24;
const SEAL_TAG_BYTES: usize = 16;
/// Bytes of a blob that an entry needs beside its record and rows.
const ENTRY_BYTES: usize = 32 + 8 + 4 + 4 + 4;

/// Which log on which chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The registry on it.
    pub registry: [u8; 20],
    /// The log in the registry.
    pub namespace: [u8; 32],
}

/// One change with what it takes to repeat it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Commit position.
    pub position: u64,
    /// Number among the entries of that commit.
    pub index: u32,
    /// What the leaf commits to.
    pub record: Bytes,
    /// Metadata rows, as they were when the batch was sealed.
    pub rows: Vec<(Bytes, Bytes)>,
}

impl Entry {
    /// What it takes in a blob.
    pub fn blob_bytes(&self) -> usize {
        Self::bytes_of(&self.record, &self.rows)
    }

    pub(super) fn bytes_of(record: &[u8], rows: &[(Bytes, Bytes)]) -> usize {
        ENTRY_BYTES + record.len() + rows_bytes(rows)
    }
}

fn rows_bytes(rows: &[(Bytes, Bytes)]) -> usize {
    rows.iter().map(|(key, value)| 8 + key.len() + value.len()).sum()
}

/// What a batch carries beside its entries: which log it is, and a stretch of a walk through all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Which of the store's logs this is, and what it went on from.
    pub generation: GenerationRow,
    /// Number of the walk that the stretch is of; 0 for none.
    pub walk: u64,
    /// The walk begins with this batch.
    pub begins: bool,
    /// The walk is complete with it.
    pub ends: bool,
    /// The stretch, and rows that were too many for the batch of their entry.
    pub rows: Vec<(Bytes, Bytes)>,
}

const BEGINS: u8 = 1;
const ENDS: u8 = 2;
/// Bytes of [`Carried`] without skipped batches and rows.
const CARRIED_BYTES: usize = 8 + 32 + 32 + 8 + 4 + 8 + 1 + 4;

impl Carried {
    /// What it takes in a blob.
    pub fn blob_bytes(&self) -> usize {
        CARRIED_BYTES + 8 * self.generation.skipped.len() + rows_bytes(&self.rows)
    }
}

/// What a batch follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// Its sequence; 0 for none.
    pub sequence: u64,
    /// Its header's hash; zeros for none.
    pub header_hash: [u8; 32],
}

/// A batch, ready to be published.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    /// Its header.
    pub header: BatchHeader,
    /// Its bytes.
    pub blob: Bytes,
    /// Where each entry is, and keccak of its salt and record.
    pub digests: Vec<(u64, u32, Node)>,
}

/// A batch that was opened and checked.
#[derive(Clone, Debug)]
pub struct OpenedBatch {
    /// Its header.
    pub header: BatchHeader,
    /// Its entries.
    pub entries: Vec<Entry>,
    /// What it carries beside them.
    pub carried: Carried,
}

/// Why a blob is no batch of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its header does not read.
    #[error("the batch's header does not read: {0}")]
    Header(#[from] BatchHeaderError),
    /// A header of another log, or of another batch than was asked for.
    #[error("the header is of another log or batch")]
    OtherLog,
    /// Shorter than header, leaves and seal.
    #[error("the blob has {bytes} bytes, which is too few for {entries} entries")]
    Length {
        /// As found.
        bytes: usize,
        /// By its header.
        entries: u32,
    },
    /// The leaves do not give the root in the header.
    #[error("the leaves do not give the header's root")]
    Root,
    /// Another key, or changed bytes.
    #[error("the records do not open with this key")]
    Seal,
    /// What was sealed is malformed.
    #[error("entry {entry} does not read")]
    Entry {
        /// Which.
        entry: u32,
    },
    /// A record that its leaf does not commit to.
    #[error("entry {entry} is not what its leaf commits to")]
    Leaf {
        /// Which.
        entry: u32,
    },
}

impl LogIdentity {
    /// `keccak(0x10 ‖ chain id ‖ registry ‖ namespace ‖ position ‖ index ‖ record digest)`.
    pub fn leaf(&self, position: u64, index: u32, record_digest: &Node) -> Node {
        entry_leaf(self.chain_id, &self.registry, &self.namespace, (position, index), record_digest)
    }

    fn owns(&self, header: &BatchHeader) -> bool {
        header.chain_id == self.chain_id
            && header.registry.into_array() == self.registry
            && header.namespace.0 == self.namespace
    }
}

/// Forms the batch that follows `previous`.
///
/// # Panics
///
/// If there are no entries, or they are not in the order of their places.
pub fn seal(
    identity: &LogIdentity,
    keys: &NamespaceKeys,
    previous: Previous,
    entries: &[Entry],
    carried: &Carried,
    random: &mut impl RngCore,
) -> SealedBatch {
    let places = || entries.iter().map(|entry| (entry.position, entry.index));
    assert!(places().zip(places().skip(1)).all(|(one, next)| one < next), "entries are in order");
    let (first, last) = entries.first().zip(entries.last()).expect("a batch has entries");
    let digest = |entry: &Entry| {
        let salt = keys.entry_salt(entry.position, entry.index);
        (entry.position, entry.index, record_digest(&salt, &entry.record))
    };
    let digests: Vec<(u64, u32, Node)> = entries.iter().map(digest).collect();
    let leaf = |(position, index, digest): &(u64, u32, Node)| identity.leaf(*position, *index, digest);
    let nodes: Vec<Node> = digests.iter().map(leaf).collect();
    let header = BatchHeader {
        chain_id: identity.chain_id,
        registry: identity.registry.into(),
        namespace: identity.namespace.into(),
        sequence: previous.sequence + 1,
        previous_header_hash: previous.header_hash.into(),
        first_position: first.position,
        last_position: last.position,
        entry_count: u32::try_from(entries.len()).expect("a batch has at most some ten thousand entries"),
        batch_root: tree::root::<{ tree::ENTRIES }>(&nodes).into(),
        key_epoch: KEY_EPOCH,
    };
    let header_bytes = header.encode();
    let size: usize = entries.iter().map(Entry::blob_bytes).sum();
    let size = BATCH_HEADER_BYTES + size + carried.blob_bytes() + NONCE_BYTES + SEAL_TAG_BYTES;
    let mut blob = Vec::with_capacity(size);
    blob.extend_from_slice(&header_bytes);
    nodes.iter().for_each(|leaf| blob.extend_from_slice(leaf));
    let mut nonce = [0; NONCE_BYTES];
    random.fill_bytes(&mut nonce);
    blob.extend_from_slice(&nonce);
    let start = blob.len();
    entries.iter().for_each(|entry| write_entry(&mut blob, entry));
    write_carried(&mut blob, carried);
    let cipher = XChaCha20Poly1305::new(Key::from_slice(keys.seal_key()));
    let tag = cipher
        .encrypt_in_place_detached(XNonce::from_slice(&nonce), &header_bytes, &mut blob[start..])
        .expect("a batch is far below the cipher's limit of 256 GiB");
    blob.extend_from_slice(&tag);
    SealedBatch { header, blob: blob.into(), digests }
}

/// Header and leaves of a blob, the leaves checked against the header's root. Needs no key.
pub fn read_leaves(identity: &LogIdentity, blob: &[u8]) -> Result<(BatchHeader, Vec<Node>), OpenError> {
    let Some((header, rest)) = blob.split_at_checked(BATCH_HEADER_BYTES) else {
        return Err(OpenError::Length { bytes: blob.len(), entries: 0 });
    };
    let header = BatchHeader::decode(header)?;
    if !identity.owns(&header) {
        return Err(OpenError::OtherLog);
    }
    let short = OpenError::Length { bytes: blob.len(), entries: header.entry_count };
    let leaves_bytes = usize::try_from(header.entry_count).ok().and_then(|count| count.checked_mul(32));
    let leaves = leaves_bytes.and_then(|bytes| rest.get(..bytes)).ok_or(short)?;
    let leaves: Vec<Node> = leaves.as_chunks().0.to_vec();
    if tree::root::<{ tree::ENTRIES }>(&leaves) != header.batch_root.0 {
        return Err(OpenError::Root);
    }
    Ok((header, leaves))
}

/// Opens a blob, and checks every record against its leaf and every leaf against the header.
pub fn open(identity: &LogIdentity, keys: &NamespaceKeys, blob: &[u8]) -> Result<OpenedBatch, OpenError> {
    let (header, leaves) = read_leaves(identity, blob)?;
    let header_bytes = header.encode();
    let short = OpenError::Length { bytes: blob.len(), entries: header.entry_count };
    let sealed = &blob[BATCH_HEADER_BYTES + 32 * leaves.len()..];
    let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(short.clone())?;
    let text_bytes = sealed.len().checked_sub(SEAL_TAG_BYTES).ok_or(short)?;
    let (text, tag) = sealed.split_at(text_bytes);
    let mut text = text.to_vec();
    XChaCha20Poly1305::new(Key::from_slice(keys.seal_key()))
        .decrypt_in_place_detached(XNonce::from_slice(nonce), &header_bytes, &mut text, Tag::from_slice(tag))
        .map_err(|_| OpenError::Seal)?;
    let mut rest = Bytes::from(text);
    let mut entries: Vec<Entry> = Vec::with_capacity(leaves.len());
    for (number, leaf) in (0_u32..).zip(&leaves) {
        let entry = read_entry(&mut rest).ok_or(OpenError::Entry { entry: number })?;
        let is_next = entries.last().is_none_or(|l| (l.position, l.index) < (entry.position, entry.index));
        let salt = keys.entry_salt(entry.position, entry.index);
        let made = identity.leaf(entry.position, entry.index, &record_digest(&salt, &entry.record));
        if !is_next || made != *leaf {
            return Err(OpenError::Leaf { entry: number });
        }
        entries.push(entry);
    }
    let carried = read_carried(&mut rest);
    let within = |entry: Option<&Entry>, position| entry.is_some_and(|entry| entry.position == position);
    let Some(carried) = carried.filter(|_| rest.is_empty()) else {
        return Err(OpenError::Entry { entry: header.entry_count });
    };
    if !within(entries.first(), header.first_position) || !within(entries.last(), header.last_position) {
        return Err(OpenError::Entry { entry: header.entry_count });
    }
    Ok(OpenedBatch { header, entries, carried })
}

/// The siblings of a leaf, from the leaf up.
pub fn path(leaves: &[Node], index: usize) -> Option<Vec<Node>> {
    tree::path::<{ tree::ENTRIES }>(leaves, index)
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("rows and records are bounded").to_be_bytes()
}

fn write_rows(blob: &mut Vec<u8>, rows: &[(Bytes, Bytes)]) {
    blob.extend_from_slice(&length(rows.len()));
    for bytes in rows.iter().flat_map(|(key, value)| [key, value]) {
        blob.extend_from_slice(&length(bytes.len()));
        blob.extend_from_slice(bytes);
    }
}

fn read_rows(rest: &mut Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let count = u32::from_be_bytes(take(rest)?);
    // A row takes eight bytes at least: nothing is allocated for a count that cannot be.
    if usize::try_from(count).ok()? > rest.len() / 8 {
        return None;
    }
    let row = |rest: &mut Bytes| Some((take_bytes(rest)?, take_bytes(rest)?));
    (0..count).map(|_| row(rest)).collect()
}

fn write_carried(blob: &mut Vec<u8>, carried: &Carried) {
    let GenerationRow { generation, salt, base_namespace, base_sequence, skipped } = &carried.generation;
    blob.extend_from_slice(&generation.to_be_bytes());
    blob.extend_from_slice(salt);
    blob.extend_from_slice(base_namespace);
    blob.extend_from_slice(&base_sequence.to_be_bytes());
    blob.extend_from_slice(&length(skipped.len()));
    skipped.iter().for_each(|sequence| blob.extend_from_slice(&sequence.to_be_bytes()));
    blob.extend_from_slice(&carried.walk.to_be_bytes());
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    blob.push(flag(carried.begins, BEGINS) | flag(carried.ends, ENDS));
    write_rows(blob, &carried.rows);
}

fn read_carried(rest: &mut Bytes) -> Option<Carried> {
    let generation = u64::from_be_bytes(take(rest)?);
    let (salt, base_namespace) = (take(rest)?, take(rest)?);
    let base_sequence = u64::from_be_bytes(take(rest)?);
    let count = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    if count > rest.len() / 8 {
        return None;
    }
    let skipped = (0..count).map(|_| Some(u64::from_be_bytes(take(rest)?))).collect::<Option<_>>()?;
    let walk = u64::from_be_bytes(take(rest)?);
    let [flags] = take(rest)?;
    if flags & !(BEGINS | ENDS) != 0 {
        return None;
    }
    let generation = GenerationRow { generation, salt, base_namespace, base_sequence, skipped };
    let rows = read_rows(rest)?;
    Some(Carried { generation, walk, begins: flags & BEGINS != 0, ends: flags & ENDS != 0, rows })
}

fn write_entry(blob: &mut Vec<u8>, entry: &Entry) {
    blob.extend_from_slice(&entry.position.to_be_bytes());
    blob.extend_from_slice(&entry.index.to_be_bytes());
    blob.extend_from_slice(&length(entry.record.len()));
    blob.extend_from_slice(&entry.record);
    write_rows(blob, &entry.rows);
}

fn read_entry(rest: &mut Bytes) -> Option<Entry> {
    let position = u64::from_be_bytes(take(rest)?);
    let index = u32::from_be_bytes(take(rest)?);
    let record = take_bytes(rest)?;
    let rows = read_rows(rest)?;
    Some(Entry { position, index, record, rows })
}

fn take<const N: usize>(rest: &mut Bytes) -> Option<[u8; N]> {
    let field = *rest.first_chunk()?;
    drop(rest.split_to(N));
    Some(field)
}

fn take_bytes(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    (length <= rest.len()).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const IDENTITY: LogIdentity = LogIdentity { chain_id: 7, registry: [1; 20], namespace: [2; 32] };

    fn keys() -> NamespaceKeys {
        NamespaceKeys::new(&[9; 32])
    }

    fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (1_u64..4, 0_u32..3, bytes(40), proptest::collection::vec((bytes(9), bytes(30)), 0..3));
        proptest::collection::vec(entry, 1..9).prop_map(|steps| {
            let mut position = 0;
            let entry = |(step, index, record, rows)| {
                position += step;
                Entry { position, index, record, rows }
            };
            steps.into_iter().map(entry).collect()
        })
    }

    fn carried() -> impl Strategy<Value = Carried> {
        let rows = proptest::collection::vec((bytes(9), bytes(30)), 0..3);
        let generation =
            (any::<u64>(), any::<[u8; 32]>(), any::<u64>(), proptest::collection::vec(any::<u64>(), 0..3));
        (generation, any::<(u64, bool, bool)>(), rows).prop_map(|(generation, (walk, begins, ends), rows)| {
            let (generation, salt, base_sequence, skipped) = generation;
            let generation =
                GenerationRow { generation, salt, base_namespace: [7; 32], base_sequence, skipped };
            Carried { generation, walk, begins, ends, rows }
        })
    }

    fn sealed(entries: &[Entry], carried: &Carried, previous: Previous) -> SealedBatch {
        seal(&IDENTITY, &keys(), previous, entries, carried, &mut StdRng::seed_from_u64(1))
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(entries in entries(), carried in carried()) {
            let batch = sealed(&entries, &carried, Previous::default());
            let opened = open(&IDENTITY, &keys(), &batch.blob).unwrap();
            prop_assert_eq!(&opened.header, &batch.header);
            prop_assert_eq!(&opened.entries, &entries);
            prop_assert_eq!(&opened.carried, &carried);
            let (_, leaves) = read_leaves(&IDENTITY, &batch.blob).unwrap();
            for (at, leaf) in leaves.iter().enumerate() {
                let count = u32::try_from(leaves.len()).unwrap();
                let path = path(&leaves, at).unwrap();
                let index = u32::try_from(at).unwrap();
                let root = tree::fold(tree::ENTRIES, *leaf, index, count, &path);
                prop_assert_eq!(root, Some(batch.header.batch_root.0));
            }
            let size: usize = entries.iter().map(Entry::blob_bytes).sum();
            let size = size + carried.blob_bytes();
            prop_assert_eq!(batch.blob.len(), BATCH_HEADER_BYTES + size + NONCE_BYTES + SEAL_TAG_BYTES);
        }

        #[test]
        fn any_changed_byte_is_noticed(entries in entries(), carried in carried(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let batch = sealed(&entries, &carried, Previous { sequence: 4, header_hash: [5; 32] });
            let mut blob = batch.blob.to_vec();
            blob[at.index(batch.blob.len())] ^= 1_u8 << bit;
            prop_assert!(open(&IDENTITY, &keys(), &blob).is_err());
            let cut = at.index(batch.blob.len());
            prop_assert!(open(&IDENTITY, &keys(), &batch.blob[..cut]).is_err());
        }
    }

    #[test]
    fn another_log_or_key_does_not_open() {
        let entry = Entry { position: 3, index: 0, record: Bytes::from_static(b"r"), rows: vec![] };
        let batch = sealed(&[entry], &Carried::default(), Previous::default());
        let other = LogIdentity { namespace: [3; 32], ..IDENTITY };
        assert_eq!(open(&other, &keys(), &batch.blob).unwrap_err(), OpenError::OtherLog);
        let other = NamespaceKeys::new(&[8; 32]);
        assert_eq!(open(&IDENTITY, &other, &batch.blob).unwrap_err(), OpenError::Seal);
    }
}
