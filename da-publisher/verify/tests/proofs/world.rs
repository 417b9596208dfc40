//! A log of three batches about a few objects, anchored in a registry on a chain: all of it from fixed seeds.
//!
//! Batch 1 holds positions 10 to 14 (commit 12 has three entries), batch 2 positions 20 to 26, batch 3 only 40.

use ashlar_chunker::{
    BlobCommitment, BlockProof, CHUNK_BYTES, ChunkCommitment, Coding, ContentHasher, ObjectCommitment, Part,
    ShardIndex, content_root_of_parts, encode_chunk,
};
use ashlar_verify::{
    Address, Block, BlockId, ChainKind, Checkpoint, Entry, Hash, HexBytes, Id, Neighbour, PartRow, Proof,
    ProofFormat, Slot, State, Trust, TrustFormat, header_slot, leaf, manifest_root, namespace_slots,
    record_digest,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use tiny_keccak::{Hasher, Keccak};

use crate::patricia::{Trie, list, number, text, trimmed};

pub const CHAIN_ID: u64 = 31_337;
pub const BLOCK_TIME: u64 = 1_794_000_000;
/// After every deadline of the world.
pub const NOW: u64 = (BLOCK_TIME + 1_000) * 1_000;

pub fn keccak(pieces: &[&[u8]]) -> [u8; 32] {
    let mut keccak = Keccak::v256();
    pieces.iter().for_each(|piece| keccak.update(piece));
    let mut digest = [0; 32];
    keccak.finalize(&mut digest);
    digest
}

/// Bytes that look random and are the same for ever.
pub fn seeded<const N: usize>(label: &str) -> [u8; N] {
    let mut bytes = [0; N];
    blake3::Hasher::new()
        .update(b"ashlar proof vectors 1")
        .update(label.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// The content of the vectors, from any place on.
pub fn content(seed: usize, range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|i| u8::try_from((i * 167 + i / 256 * 13 + seed) % 256).unwrap()).collect()
}

pub struct Object {
    pub parts: Vec<PartRow>,
    pub content_root: [u8; 32],
    pub object: ObjectCommitment,
    pub blobs: Vec<(BlobCommitment, Vec<ChunkCommitment>)>,
    pub bytes: Vec<u8>,
}

impl Object {
    pub fn new(lengths: &[usize], multipart: bool) -> Self {
        let (mut parts, mut blobs, mut digests, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, length) in lengths.iter().enumerate() {
            let part = content(index, 0..*length);
            let mut blob = BlobCommitment::new();
            let mut chunks = Vec::new();
            for chunk in part.chunks(usize::try_from(CHUNK_BYTES).unwrap()) {
                let coding = if chunk.len() <= 65_536 { Coding::new(1, 2) } else { Coding::new(4, 2) };
                let encoded = encode_chunk(coding.unwrap(), bytes::Bytes::copy_from_slice(chunk)).unwrap();
                blob.push(encoded.commitment.root(), u32::try_from(chunk.len()).unwrap()).unwrap();
                chunks.push(encoded.commitment);
            }
            let number = u32::try_from(index + 1).unwrap();
            parts.push(PartRow {
                number,
                blob: Id::from(seeded(&format!("blob {length} {number}"))),
                length: u64::try_from(*length).unwrap(),
                blob_root: Hash::from(*blob.root().as_bytes()),
            });
            digests.push((u64::try_from(*length).unwrap(), ContentHasher::digest(&part)));
            blobs.push((blob, chunks));
            bytes.extend(part);
        }
        let of = |part: &PartRow| Part { length: part.length, blob: part.blob_root.0.into() };
        let object = ObjectCommitment::new(&parts.iter().map(of).collect::<Vec<_>>()).unwrap();
        let root = if multipart { content_root_of_parts(digests) } else { digests[0].1 };
        Self { parts, content_root: *root.as_bytes(), object, blobs, bytes }
    }

    /// A block of a shard, with its proof.
    pub fn block(&self, part: usize, shard: u8, block: u32) -> Block {
        let (blob, chunks) = &self.blobs[part];
        let place = (ShardIndex(shard), block);
        let index = u32::try_from(part).unwrap();
        let proof = BlockProof::new(&self.object, index, blob, 0, &chunks[0], place).unwrap();
        let length = usize::try_from(self.parts[part].length).unwrap();
        let encoded = encode_chunk(chunks[0].layout().coding(), content(part, 0..length).into()).unwrap();
        let range = chunks[0].layout().block_range(block);
        let bytes = encoded.shard(ShardIndex(shard));
        let bytes = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        Block { proof: HexBytes(proof.encode()), bytes: HexBytes(bytes.to_vec()) }
    }
}

pub struct Logged {
    pub position: u64,
    pub index: u32,
    pub record: Vec<u8>,
    pub salt: Hash,
    pub names: (String, String, Id),
    pub leaf: Hash,
}

pub struct Batch {
    pub header: Vec<u8>,
    pub hash: Hash,
    pub entries: Vec<Logged>,
}

pub struct World {
    pub trust: Trust,
    pub batches: Vec<Batch>,
    pub plain: Object,
    pub multipart: Object,
    accounts: Trie,
    storage: Trie,
    pub block_header: Vec<u8>,
}

/// A record by the format text: op, version, names, object.
pub fn record(op: u8, version: Id, (bucket, key): (&str, &str), object: Option<&Object>) -> Vec<u8> {
    let mut bytes = vec![1, op];
    bytes.extend(1_793_999_000_000u64.to_be_bytes());
    bytes.extend(version.0);
    bytes.extend(object.map_or(0, |object| u64::try_from(object.bytes.len()).unwrap()).to_be_bytes());
    bytes.extend(object.map_or([0; 32], |object| object.content_root));
    bytes.extend(object.map_or([0; 32], |object| *object.object.root().as_bytes()));
    bytes.extend(object.map_or([0; 32], |object| manifest_root(&object.parts).unwrap().0));
    bytes.extend(seeded::<32>("metadata"));
    for name in [bucket, key] {
        bytes.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes
}

pub fn levels(leaves: &[Hash]) -> Vec<Vec<Hash>> {
    let mut levels = vec![leaves.to_vec()];
    while levels[levels.len() - 1].len() > 1 {
        let pairs = levels[levels.len() - 1].chunks(2).map(|pair| match pair {
            [left, right] => Hash::from(keccak(&[&[0x25], &left.0, &right.0])),
            odd => odd[0],
        });
        levels.push(pairs.collect());
    }
    levels
}

pub fn path(leaves: &[Hash], mut index: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    for level in levels(leaves) {
        if level.len() > 1 {
            path.extend(level.get(index ^ 1));
        }
        index /= 2;
    }
    path
}

pub struct HeaderFields {
    pub namespace: Hash,
    pub sequence: u64,
    pub previous: Hash,
    pub positions: (u64, u64),
    pub count: u32,
    pub root: Hash,
}

pub fn header(trust: &Trust, fields: &HeaderFields) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(trust.chain_id.to_be_bytes());
    bytes.extend(trust.registry.0);
    bytes.extend(fields.namespace.0);
    bytes.extend(fields.sequence.to_be_bytes());
    bytes.extend(fields.previous.0);
    bytes.extend(fields.positions.0.to_be_bytes());
    bytes.extend(fields.positions.1.to_be_bytes());
    bytes.extend(fields.count.to_be_bytes());
    bytes.extend(fields.root.0);
    bytes.extend([0; 32]);
    bytes.extend(7u32.to_be_bytes());
    bytes
}

impl World {
    pub fn new() -> Self {
        let mut trust = Trust {
            format: TrustFormat::V1,
            chain: ChainKind::Rpc,
            chain_id: CHAIN_ID,
            registry: Address::from(seeded("registry")),
            registry_code_hash: Hash::from(seeded("registry code")),
            verifier: Address::from(seeded("verifier")),
            verifier_code_hash: Hash::from(seeded("verifier code")),
            namespace: Hash::from(seeded("namespace")),
            publisher: Address::from(seeded("publisher")),
            receipt_key: Hash::from(signer("receipts").verifying_key().to_bytes()),
            checkpoint: Checkpoint {
                block_number: 0,
                block_hash: Hash::ZERO,
                sequence: 0,
                header_hash: Hash::ZERO,
            },
        };
        let plain = Object::new(&[40_000], false);
        let multipart = Object::new(&[150_000, 0, 20_001], true);
        let batches = batches(&trust, &plain, &multipart);
        let storage = storage(&trust, &batches);
        let accounts = accounts(&trust, &storage);
        let block_header = block_header(&accounts, 1_000);
        trust.checkpoint = Checkpoint {
            block_number: 1_000,
            block_hash: Hash::from(keccak(&[&block_header])),
            sequence: 3,
            header_hash: batches[2].hash,
        };
        Self { trust, batches, plain, multipart, accounts, storage, block_header }
    }

    pub fn block(&self) -> BlockId {
        BlockId { number: 1_000, hash: Hash::from(keccak(&[&self.block_header])) }
    }

    /// State with the slots that a verifier needs, and those of `sequences`.
    pub fn state(&self, sequences: &[u64]) -> State {
        let namespace = &self.trust.namespace;
        let slots = sequences.iter().map(|sequence| header_slot(namespace, *sequence));
        let slots = namespace_slots(namespace).into_iter().chain(slots);
        State {
            block_header: HexBytes(self.block_header.clone()),
            registry_account: self.accounts.prove(&self.trust.registry.0),
            verifier_account: self.accounts.prove(&self.trust.verifier.0),
            storage: slots.map(|slot| Slot { slot, nodes: self.storage.prove(&slot.0) }).collect(),
        }
    }

    pub fn account(&self, address: &[u8; 20]) -> Vec<HexBytes> {
        self.accounts.prove(address)
    }

    pub fn slot(&self, slot: &Hash) -> Vec<HexBytes> {
        self.storage.prove(&slot.0)
    }

    fn empty_proof(&self) -> Proof {
        let Trust { chain_id, registry, namespace, .. } = self.trust;
        let format = ProofFormat::V1;
        Proof {
            format,
            chain_id,
            registry,
            namespace,
            entry: None,
            absence: None,
            receipt: None,
            state: None,
        }
    }

    /// A whole proof of an entry: with receipt, and with state in which its header is shown.
    pub fn proof(&self, batch: usize, number: usize) -> Proof {
        let logged = &self.batches[batch].entries[number];
        let leaves: Vec<Hash> = self.batches[batch].entries.iter().map(|entry| entry.leaf).collect();
        let (bucket, key, version) = logged.names.clone();
        let entry = Entry {
            bucket,
            key,
            version,
            record: HexBytes(logged.record.clone()),
            salt: logged.salt,
            position: logged.position,
            index: logged.index,
            header: HexBytes(self.batches[batch].header.clone()),
            leaf_index: u32::try_from(number).unwrap(),
            path: path(&leaves, number),
            parts: None,
            blocks: None,
        };
        let receipt = self.receipt(logged.position, logged.index, logged.leaf);
        let state = self.state(&[u64::try_from(batch + 1).unwrap()]);
        Proof { entry: Some(entry), receipt: Some(receipt), state: Some(state), ..self.empty_proof() }
    }

    /// A proof that what `receipt` promises is not there, without anything shown yet.
    pub fn absence(&self, receipt: String, absence: ashlar_verify::Absence, sequences: &[u64]) -> Proof {
        let state = Some(self.state(sequences));
        Proof { absence: Some(absence), receipt: Some(receipt), state, ..self.empty_proof() }
    }

    /// A leaf of a batch, its record unopened.
    pub fn neighbour(&self, batch: usize, number: usize) -> Neighbour {
        let logged = &self.batches[batch].entries[number];
        let leaves: Vec<Hash> = self.batches[batch].entries.iter().map(|entry| entry.leaf).collect();
        Neighbour {
            position: logged.position,
            index: logged.index,
            record_digest: record_digest(&logged.salt, &logged.record),
            leaf_index: u32::try_from(number).unwrap(),
            path: path(&leaves, number),
        }
    }

    pub fn receipt(&self, position: u64, index: u32, leaf: Hash) -> String {
        self.receipt_by(&signer("receipts"), (BLOCK_TIME - 10) * 1_000, (position, index), leaf)
    }

    pub fn receipt_by(&self, by: &SigningKey, deadline: u64, place: (u64, u32), leaf: Hash) -> String {
        let mut bytes = vec![1];
        bytes.extend(self.trust.chain_id.to_be_bytes());
        bytes.extend(self.trust.registry.0);
        bytes.extend(self.trust.namespace.0);
        bytes.extend(place.0.to_be_bytes());
        bytes.extend(place.1.to_be_bytes());
        bytes.extend(leaf.0);
        bytes.extend(deadline.to_be_bytes());
        let signature = by.sign(&[b"ASHLAR-RECEIPT-V1", bytes.as_slice()].concat());
        bytes.extend(signature.to_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The leaf of a record at a place of this log.
    pub fn leaf(&self, place: (u64, u32), salt: &Hash, record: &[u8]) -> Hash {
        logged_leaf(&self.trust, place, salt, record)
    }
}

pub fn signer(label: &str) -> SigningKey {
    SigningKey::from_bytes(&seeded(label))
}

fn logged_leaf(trust: &Trust, (position, index): (u64, u32), salt: &Hash, record: &[u8]) -> Hash {
    let digest = record_digest(salt, record);
    leaf(trust.chain_id, &trust.registry, &trust.namespace, ashlar_verify::Place { position, index }, &digest)
}

fn batches(trust: &Trust, plain: &Object, multipart: &Object) -> Vec<Batch> {
    let places: [&[(u64, u32)]; 3] = [
        &[(10, 0), (11, 0), (12, 0), (12, 1), (12, 2), (14, 0), (14, 1)],
        &[(20, 0), (21, 0), (23, 1), (25, 0), (26, 0)],
        &[(40, 0)],
    ];
    let mut previous = Hash::ZERO;
    let mut batches = Vec::new();
    for (batch, places) in places.into_iter().enumerate() {
        let mut entries = Vec::new();
        for (number, (position, index)) in places.iter().enumerate() {
            let version = Id::from(seeded(&format!("version {position} {index}")));
            let (op, key, object) = match (batch, number) {
                (1, 1) => (1, "multi/part".to_owned(), Some(multipart)),
                (1, 2) => (2, "plain".to_owned(), None),
                (2, 0) => (1, "schl\u{fc}ssel".to_owned(), Some(plain)),
                (_, 0) => (1, "plain".to_owned(), Some(plain)),
                _ => (1, format!("key-{number}"), Some(plain)),
            };
            let record = record(op, version, ("bucket", &key), object);
            let salt = Hash::from(seeded(&format!("salt {position} {index}")));
            let leaf = logged_leaf(trust, (*position, *index), &salt, &record);
            let names = ("bucket".to_owned(), key, version);
            entries.push(Logged { position: *position, index: *index, record, salt, names, leaf });
        }
        let leaves: Vec<Hash> = entries.iter().map(|entry| entry.leaf).collect();
        let bytes = header(
            trust,
            &HeaderFields {
                namespace: trust.namespace,
                sequence: u64::try_from(batch + 1).unwrap(),
                previous,
                positions: (places[0].0, places[places.len() - 1].0),
                count: u32::try_from(places.len()).unwrap(),
                root: levels(&leaves).pop().unwrap()[0],
            },
        );
        previous = Hash::from(keccak(&[&[0x11], &bytes]));
        batches.push(Batch { header: bytes, hash: previous, entries });
    }
    batches
}

fn storage(trust: &Trust, batches: &[Batch]) -> Trie {
    let namespace = &trust.namespace;
    let [first, second] = namespace_slots(namespace);
    let newest = u64::try_from(batches.len()).unwrap().to_be_bytes();
    let mut words = vec![
        (first, [&1u32.to_be_bytes()[..], &newest, &trust.publisher.0].concat()),
        (second, [&[0; 4][..], &40u64.to_be_bytes(), &trust.verifier.0].concat()),
    ];
    for (sequence, batch) in (1..).zip(batches) {
        words.push((header_slot(namespace, sequence), batch.hash.0.to_vec()));
    }
    // What others keep in the same contract.
    for other in 0u64..60 {
        words.push((Hash::from(seeded(&format!("slot {other}"))), (other + 1).to_be_bytes().to_vec()));
    }
    Trie::new(words.iter().map(|(slot, word)| (slot.0.to_vec(), text(trimmed(word)))))
}

fn accounts(trust: &Trust, storage: &Trie) -> Trie {
    let account = |nonce: u64, storage_root: [u8; 32], code: &[u8; 32]| {
        list(&[number(nonce), text(&[]), text(&storage_root), text(code)])
    };
    let mut accounts = vec![
        (trust.registry.0, account(1, storage.root(), &trust.registry_code_hash.0)),
        (trust.verifier.0, account(1, seeded("verifier storage"), &trust.verifier_code_hash.0)),
    ];
    for other in 0u64..40 {
        let address = seeded(&format!("account {other}"));
        accounts.push((address, account(other, seeded("empty"), &seeded("no code"))));
    }
    Trie::new(accounts.into_iter().map(|(address, account)| (address.to_vec(), account)))
}

pub fn other_account() -> [u8; 20] {
    seeded("account 7")
}

fn block_header(accounts: &Trie, height: u64) -> Vec<u8> {
    list(&[
        text(&seeded::<32>("parent")),
        text(&seeded::<32>("ommers")),
        text(&seeded::<20>("beneficiary")),
        text(&accounts.root()),
        text(&seeded::<32>("transactions")),
        text(&seeded::<32>("receipts root")),
        text(&[0; 256]),
        number(0),
        number(height),
        number(30_000_000),
        number(21_000),
        number(BLOCK_TIME),
        text(b"ashlar"),
        text(&seeded::<32>("mix")),
        text(&[0; 8]),
        number(7),
    ])
}
