//! `/api/objects/…` and `/api/proofs/…`: what is committed of an object, and the proof of it that anybody can check.
//!
//! Deliberately checks nothing: `ashlar verify` does, and trusts nothing that is said here.

use std::sync::Arc;

use alloy_eips::BlockId;
use ashlar_chain::BatchHeader;
use ashlar_da_publisher::publisher::{
    PlaceProof, Placed, PlacedLeaf, ProofError, Receipt, SampleFailed, manifest_parts,
};
use ashlar_objects::Error;
use ashlar_objects::log::{LogEntry, Record};
use ashlar_objects::requests::ObjectName;
use ashlar_objects::types::{BucketName, ObjectKey, VersionId};
use ashlar_verify::{Absence, Entry, HexBytes, Neighbour, PartRow, Proof, ProofFormat};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::answers::{CommittedObject, Sample};
use super::credentials::Caller;
use super::refusal::Refusal;
use super::{Answer, Server, of};
use crate::evidence;
use crate::roles::publishing::Publishing;

/// Which object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    key: String,
    #[serde(rename = "version-id")]
    version: Option<String>,
    /// A receipt whose promise is to be proven, kept or broken.
    receipt: Option<String>,
}

impl Selection {
    fn name(&self, bucket: &str) -> Result<ObjectName, Refusal> {
        let bad = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, "InvalidRequest", what);
        let version = match self.version.as_deref() {
            None => None,
            Some(text) => Some(VersionId::parse(text).ok_or_else(|| bad("this is no version id"))?),
        };
        Ok(ObjectName {
            bucket: BucketName::new(bucket).map_err(Error::from)?,
            key: ObjectKey::new(&self.key).map_err(Error::from)?,
            version,
        })
    }
}

/// `GET /api/objects/{bucket}?key=…&version-id=…`
pub(super) async fn show(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(bucket): Path<String>,
    Query(selection): Query<Selection>,
) -> Answer<CommittedObject> {
    let name = selection.name(&bucket)?;
    let entry = server.store.log_entry(&of(caller), &name).await?;
    let record = read(&entry)?;
    let mut committed = CommittedObject {
        bucket,
        key: selection.key,
        version: record.version.to_string(),
        length: record.length,
        content_root: hex::encode(record.content_root),
        object_root: hex::encode(record.object_root),
        position: entry.position,
        index: entry.index,
        sequence: None,
        anchored: false,
    };
    if let Some(publishing) = &server.publishing {
        match publishing.publisher.prove(entry.position, entry.index).await {
            Ok(proof) => {
                committed.sequence = Some(proof.sequence);
                committed.anchored = proof.is_settled;
            }
            Err(ProofError::NotYet { .. }) => {}
            Err(error) => return Err(Refusal::internal("looking up the log", &error)),
        }
    }
    Ok(Json(committed))
}

/// `GET /api/proofs/{bucket}?key=…&version-id=…&receipt=…`
pub(super) async fn prove(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(bucket): Path<String>,
    Query(selection): Query<Selection>,
) -> Answer<Proof> {
    let publishing = server.publishing.as_ref().ok_or_else(Refusal::not_publishing)?;
    let name = selection.name(&bucket)?;
    let entry = server.store.log_entry(&of(caller), &name).await?;
    let place = match &selection.receipt {
        None => (entry.position, entry.index),
        Some(text) => {
            let receipt = Receipt::read(text, &publishing.receipt_key).map_err(|error| {
                Refusal::new(StatusCode::BAD_REQUEST, "InvalidReceipt", error.to_string())
            })?;
            (receipt.position, receipt.index)
        }
    };
    let found = publishing.publisher.prove(place.0, place.1).await.map_err(|error| match error {
        ProofError::NotYet { .. } => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "NotYetInTheLog", error.to_string())
        }
        ProofError::Log(_) => Refusal::internal("looking up the log", &error),
    })?;
    let mut proof = Proof {
        format: ProofFormat::V1,
        chain_id: publishing.trust.chain_id,
        registry: publishing.trust.registry,
        namespace: publishing.trust.namespace,
        entry: None,
        absence: None,
        receipt: selection.receipt.clone(),
        state: None,
    };
    let sequence = found.sequence;
    match found.placed {
        Placed::Entry { ref leaf, salt } if place == (entry.position, entry.index) => {
            let rows = server.store.recovery_rows(std::slice::from_ref(&entry), usize::MAX).await?;
            let rows = rows.into_iter().next().filter(|rows| !rows.is_later).ok_or_else(|| {
                let message = "the object was changed meanwhile; ask again";
                Refusal::new(StatusCode::CONFLICT, "OtherEntry", message)
            })?;
            let parts = manifest_parts(&rows.rows)
                .map_err(|error| Refusal::internal("reading a manifest", &error))?;
            let parts = parts.iter().map(|part| PartRow {
                number: part.number,
                blob: part.blob.0.to_be_bytes().into(),
                length: part.length,
                blob_root: part.blob_root.into(),
            });
            let parts: Vec<PartRow> = parts.collect();
            proof.entry = Some(entry_of(&name, &entry, &found, leaf, salt, parts)?);
        }
        Placed::Entry { .. } => {
            let message = "the receipt is of an older change of this object; ask for that version";
            return Err(Refusal::new(StatusCode::CONFLICT, "OtherEntry", message));
        }
        Placed::Absent { left, right } => {
            proof.absence = Some(Absence {
                opening: None,
                header: Some(HexBytes(found.header)),
                previous_header: found.previous_header.map(HexBytes),
                left: left.map(neighbour),
                right: right.map(neighbour),
            });
        }
    }
    proof.state = Some(state(publishing, sequence).await?);
    Ok(Json(proof))
}

fn read(entry: &LogEntry) -> Result<Record, Refusal> {
    Record::decode(&entry.record).map_err(|error| Refusal::internal("reading a record", &error))
}

fn entry_of(
    name: &ObjectName,
    entry: &LogEntry,
    found: &PlaceProof,
    leaf: &PlacedLeaf,
    salt: [u8; 32],
    parts: Vec<PartRow>,
) -> Result<Entry, Refusal> {
    let version = match read(entry)?.version {
        VersionId::Null => 0,
        VersionId::Id(id) => id,
    };
    Ok(Entry {
        bucket: name.bucket.to_string(),
        key: name.key.as_str().to_owned(),
        version: version.to_be_bytes().into(),
        record: HexBytes(entry.record.to_vec()),
        salt: salt.into(),
        position: entry.position,
        index: entry.index,
        header: HexBytes(found.header.clone()),
        leaf_index: leaf.leaf_index,
        path: leaf.path.iter().map(|node| (*node).into()).collect(),
        parts: (!parts.is_empty()).then_some(parts),
        blocks: None,
    })
}

fn neighbour(leaf: PlacedLeaf) -> Neighbour {
    Neighbour {
        position: leaf.position,
        index: leaf.index,
        record_digest: leaf.record_digest.into(),
        leaf_index: leaf.leaf_index,
        path: leaf.path.into_iter().map(Into::into).collect(),
    }
}

/// What is sampled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sampling {
    sequence: Option<u64>,
    #[serde(default = "Sampling::rows_default")]
    rows: u32,
}

impl Sampling {
    /// Rows whose being served leaves a chance of 2^-40.
    const fn rows_default() -> u32 {
        20
    }
}

/// `GET /api/da/sample?sequence=…&rows=…`
pub(super) async fn sample(
    State(server): State<Arc<Server>>,
    _: Caller,
    Query(sampling): Query<Sampling>,
) -> Answer<Sample> {
    let publishing = server.publishing.as_ref().ok_or_else(Refusal::not_publishing)?;
    match publishing.publisher.sample(sampling.sequence, sampling.rows).await {
        Ok((sequence, report)) => {
            Ok(Json(Sample { sequence, asked: report.asked, served: report.served, bits: report.bits }))
        }
        Err(SampleFailed::Log(error)) => Err(Refusal::internal("looking up the log", &error)),
        Err(error) => Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", error.to_string())),
    }
}

/// The chain's word for a batch, so that the file can be checked without this server.
async fn state(publishing: &Publishing, sequence: u64) -> Result<ashlar_verify::State, Refusal> {
    let told =
        evidence::state(&publishing.endpoints, &publishing.trust, Some(sequence), BlockId::latest()).await;
    told.map(|(state, ..)| state).map_err(|error| Refusal::internal("asking the chain", error.as_ref()))
}

/// The batch that a proof is about, for who looks it up on the chain.
pub(crate) fn sequence_of(proof: &Proof) -> Option<u64> {
    let header = match (&proof.entry, &proof.absence) {
        (Some(entry), _) => &entry.header,
        (_, Some(absence)) => absence.header.as_ref()?,
        _ => return None,
    };
    BatchHeader::decode(&header.0).ok().map(|header| header.sequence)
}
