//! The steps of a proof that an entry is in the log: record, parts, blocks, header, batch, chain, bytes.
//!
//! Invariant: the leaf is computed from record and salt, never taken from the proof. Does not know how the
//! chain's state is checked.

use ashlar_chunker::{BlobRoot, BlockProof, ContentRoot, ObjectRoot, Part, object_root};

use super::{Found, Request, Run};
use crate::content::{self, Placed};
use crate::digest::batch_root;
use crate::hex_bytes::Hash;
use crate::log::{Header, Place, leaf, record_digest};
use crate::proof::{Entry, PartRow};
use crate::receipt::Receipt;
use crate::record::{Operation, Record, manifest_root};
use crate::verdict::{Asked, Committed, Failed, Failure, Step, Verdict};

impl Run<'_> {
    pub(super) fn entry(
        &mut self,
        request: Request<'_>,
        entry: &Entry,
        receipt: Option<&str>,
    ) -> Result<Verdict, Failed> {
        let place = Place { position: entry.position, index: entry.index };
        let digest = record_digest(&entry.salt, &entry.record.0);
        let leaf = self.leaf(place, &digest);
        if let Some(receipt) = receipt {
            self.step(Step::Receipt, |run| {
                let (receipt, detail) = run.receipt(receipt)?;
                if receipt.place == place && receipt.leaf == leaf {
                    Ok(((), detail))
                } else {
                    Err(Failure::OtherPromise)
                }
            })?;
        }
        let record = self.step(Step::Record, |_| record(&request, &entry.record.0, Some(entry)))?;
        if let Some(parts) = &entry.parts {
            self.step(Step::Parts, |_| check_parts(&record, parts))?;
        }
        let placed = match &entry.blocks {
            Some(_) => self.step(Step::Object, |_| blocks(&record, entry))?,
            None => Vec::new(),
        };
        let header = self.step(Step::Header, |run| {
            let header = run.header(&entry.header.0)?;
            Ok((
                header,
                format!("batch {} of {} entries, hash {}", header.sequence, header.entry_count, header.hash),
            ))
        })?;
        self.step(Step::Batch, |_| {
            in_batch(&header, place, leaf, entry.leaf_index, &entry.path)?;
            Ok(((), format!("leaf {leaf} is number {} of {}", entry.leaf_index, header.entry_count)))
        })?;
        let chain = self.chain(Some(&header))?;
        let content_checked = request.content.is_some();
        if let Some(content) = request.content {
            self.step(Step::Content, |_| {
                let lengths = entry
                    .parts
                    .as_ref()
                    .map_or(vec![record.length], |parts| parts.iter().map(|part| part.length).collect());
                content::check(content, &lengths, ContentRoot::from(record.content_root.0), &placed)?;
                Ok(((), format!("{} bytes make content root {}", record.length, record.content_root)))
            })?;
        }
        Ok(Verdict::Committed(Box::new(Committed {
            level: chain.level,
            sequence: header.sequence,
            header_hash: header.hash,
            position: place.position,
            index: place.index,
            block: chain.block,
            block_time: chain.block_time,
            record,
            content_checked,
        })))
    }

    /// The leaf of a record at a place in the trusted log.
    pub(super) fn leaf(&self, place: Place, record_digest: &Hash) -> Hash {
        let trust = self.trust;
        leaf(trust.chain_id, &trust.registry, &trust.namespace, place, record_digest)
    }

    /// A receipt of this log's signer.
    pub(super) fn receipt(&self, text: &str) -> Found<Receipt> {
        let receipt = Receipt::check(text, &self.trust.receipt_key)?;
        self.same_log("receipt", receipt.chain_id, &receipt.registry, &receipt.namespace)?;
        let Place { position, index } = receipt.place;
        Ok((receipt, format!("promises position {position}.{index} before {} (Unix ms)", receipt.deadline)))
    }
}

/// The record, if it is what was asked for, and what the proof says it is.
pub(super) fn record(request: &Request<'_>, bytes: &[u8], entry: Option<&Entry>) -> Found<Record> {
    let record = Record::decode(bytes)?;
    let found = Asked::of(&record);
    let asked = Asked {
        operation: Some(request.operation),
        bucket: request.bucket.to_owned(),
        key: request.key.to_owned(),
        version: request.version,
    };
    if asked != (Asked { version: asked.version.and(found.version), ..found.clone() }) {
        return Err(Failure::Asked { asked: asked.into(), found: found.into() });
    }
    if let Some(Entry { bucket, key, version, .. }) = entry {
        let named =
            Asked { operation: None, bucket: bucket.clone(), key: key.clone(), version: Some(*version) };
        let found = Asked { operation: None, ..found.clone() };
        if named != found {
            return Err(Failure::Named { named: named.into(), found: found.into() });
        }
    }
    let has_content_claims = request.content.is_some()
        || entry.is_some_and(|entry| entry.parts.is_some() || entry.blocks.is_some());
    if has_content_claims && record.operation != Operation::Put {
        return Err(Failure::NoContent);
    }
    let detail = format!("{found}, {} bytes", record.length);
    Ok((record, detail))
}

fn check_parts(record: &Record, parts: &[PartRow]) -> Found<()> {
    let of = |what| Failure::Parts { what };
    let length = parts.iter().try_fold(0u64, |length, part| length.checked_add(part.length));
    if length != Some(record.length) {
        return Err(of("length"));
    }
    if manifest_root(parts) != Some(record.manifest_root) {
        return Err(of("manifest root"));
    }
    let blobs: Vec<Part> = (parts.iter())
        .map(|part| Part { length: part.length, blob: BlobRoot::from(part.blob_root.0) })
        .collect();
    let root = object_root(&blobs).map_err(|_| of("length"))?;
    if *root.as_bytes() != record.object_root.0 {
        return Err(of("object root"));
    }
    Ok(((), format!("{} parts make manifest root {}", parts.len(), record.manifest_root)))
}

/// Blocks that lead to the object root, where they stand in the object.
fn blocks<'a>(record: &Record, entry: &'a Entry) -> Found<Vec<Placed<'a>>> {
    let blocks = entry.blocks.as_deref().unwrap_or_default();
    let root = ObjectRoot::from(record.object_root.0);
    let mut placed = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let failed = |reason: String| Failure::Block { index, reason };
        let proof = BlockProof::decode(&block.proof.0).map_err(|error| failed(error.to_string()))?;
        let proven = proof.verify(&root, &block.bytes.0).map_err(|error| failed(error.to_string()))?;
        let before: u64 = match &entry.parts {
            // The parts make the same object root, so this one is among them.
            Some(parts) => (parts.iter().zip(0..proven.part)).map(|(part, _)| part.length).sum(),
            None if proven.object.part_count == 1 => 0,
            None => {
                return Err(failed(
                    "a block of an object of several parts needs the list of parts".to_owned(),
                ));
            }
        };
        if let Some(range) = proven.part_bytes {
            let range = before + range.start..before + range.end;
            placed.push(Placed { range, bytes: &block.bytes.0 });
        }
    }
    Ok((placed, format!("{} blocks lead to object root {}", blocks.len(), record.object_root)))
}

/// Whether `leaf` stands in the batch, where such a place can.
pub(super) fn in_batch(
    header: &Header,
    place: Place,
    leaf: Hash,
    leaf_index: u32,
    path: &[Hash],
) -> Result<(), Failure> {
    let (position, first, last) = (place.position, header.first_position, header.last_position);
    let last_leaf = header.entry_count - 1;
    let fits = (first..=last).contains(&position)
        && (leaf_index != 0 || position == first)
        && (leaf_index != last_leaf || position == last);
    if !fits {
        return Err(Failure::Place { position, leaf_index, first, last });
    }
    if batch_root(leaf, leaf_index, header.entry_count, path) != Some(header.batch_root) {
        return Err(Failure::Path { leaf_index, entry_count: header.entry_count });
    }
    Ok(())
}
