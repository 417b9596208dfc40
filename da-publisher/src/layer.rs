//! What a publisher needs of a data-availability layer.
//!
//! Object-safe. The invariant every implementation keeps: what `disperse` answered is retrievable until the
//! time asked for, under the layer's own trust assumption, and dispersing the same (namespace, sequence, header
//! hash) again is the same dispersal. Deliberately knows nothing of rows, signers or what a blob contains.
//!
//! # How other layers map onto it
//!
//! `certificate` is opaque here: the contract `IDaVerifier` of that layer's kind reads it, and `retrieve` of the
//! same layer. Asynchronous layers hide submission and polling inside `disperse`, and keep what they need to ask
//! again (a request id, a height) where their adapter persists it, keyed by (namespace, sequence, header hash).
//! None of these adapters exists yet.
//!
//! * **0G DA** (`0g-da-client`, gRPC `disperser.Disperser`): `disperse` = `DisperseBlob(data)` → `request_id`,
//!   then `GetBlobStatus(request_id)` until CONFIRMED or FINALIZED; INSUFFICIENT_SIGNATURES and FAILED are
//!   [`DisperseError::Refused`]. A blob sent again gets another id, so the adapter persists the id before it waits.
//!   The certificate is the answer's blob header, and `retrieve` = `RetrieveBlob(storage_root, epoch, quorum_id)` of
//!   its fields. A blob has at most 31,744 KiB.
//! * **EigenDA** (`eigenda-proxy`, REST): `disperse` = `POST /put?commitment_mode=standard` with the blob as body,
//!   answered by the serialized certificate once it is confirmed; 503 is [`DisperseError::Unavailable`].
//!   `retrieve` = `GET /get/<hex certificate>?commitment_mode=standard`. Sampling happens inside the network, so
//!   `sample` is [`SampleError::NotOffered`]. Retention is two weeks, in [`Limits::keep_seconds_max`].
//! * **Celestia** (`celestia-node`, JSON-RPC): `disperse` = `blob.Submit([blob], options)` → height; the certificate
//!   is (height, namespace, commitment) and the proof of `blob.GetProof`. `retrieve` = `blob.Get(height, namespace,
//!   commitment)`. Submitting twice pays twice, so `disperse` first looks for the blob where it may have landed.
//!   `sample` asks the node's own sampling (`share.SharesAvailable` for that height).
//! * **Avail** (`avail-light`, REST v2): `disperse` = `POST /v2/submit` → block number and hash, transaction index;
//!   these are the certificate. `retrieve` = `GET /v2/blocks/{number}/data`. `sample` = the confidence in
//!   `GET /v2/blocks/{number}`, which is the light client's own sampling of cells.

use async_trait::async_trait;
use bytes::Bytes;
use rand::RngCore;

use crate::statement::Dispersal;

/// A data-availability layer.
#[async_trait]
pub trait DaLayer: Send + Sync {
    /// What the layer takes.
    fn limits(&self) -> Limits;

    /// Makes a blob available and answers the layer's certificate.
    ///
    /// Idempotent by (namespace, sequence, header hash): asking again with the same blob gives a certificate
    /// again, perhaps another one. `authorization` is what the layer's nodes want to see from the publisher.
    /// Cancel-safe: dropped half-way, it may or may not have happened; asking again settles it.
    async fn disperse(
        &self,
        dispersal: &Dispersal,
        blob: Bytes,
        authorization: Bytes,
    ) -> Result<Dispersed, DisperseError>;

    /// The bytes that were dispersed; never other bytes. Cancel-safe.
    async fn retrieve(&self, reference: &BlobReference) -> Result<Bytes, RetrieveError>;

    /// Looks, by chance, whether the blob is available to this requester. Cancel-safe.
    async fn sample(
        &self,
        reference: &BlobReference,
        samples: u32,
        rng: &mut (dyn RngCore + Send),
    ) -> Result<SampleReport, SampleError>;
}

/// What a layer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest blob.
    pub blob_bytes_max: u64,
    /// The longest time from now that a blob is kept, in seconds.
    pub keep_seconds_max: u64,
}

/// A blob that was made available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispersed {
    /// The layer's commitment to it.
    pub commitment: [u8; 32],
    /// What the layer's contract and its `retrieve` read.
    pub certificate: Bytes,
}

/// Names a blob to get back. The chain's events hold both fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobReference {
    /// The layer's commitment to it.
    pub commitment: [u8; 32],
    /// Its certificate, where it is known; the embedded layer finds blobs without.
    pub certificate: Option<Bytes>,
}

impl From<&Dispersed> for BlobReference {
    fn from(dispersed: &Dispersed) -> Self {
        Self { commitment: dispersed.commitment, certificate: Some(dispersed.certificate.clone()) }
    }
}

/// The blob was not made available, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisperseError {
    /// Too large, empty, or to be kept too long: trying again is of no use.
    #[error("the layer takes no such blob: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// More than a third of the stake holds another header, or another blob under this header, for this place of
    /// the log. An alarm: somebody published two histories.
    #[error("stake {stake} of {total} holds header {header} for this place of the log")]
    Equivocation {
        /// The header that was signed, as hexadecimal digits.
        header: String,
        /// The stake that says so.
        stake: u128,
        /// Stake of all.
        total: u128,
    },
    /// The layer judged and said no.
    #[error("the layer refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Too few answers in time: try again.
    #[error("stake {signed} of {total} signed in time; more than two thirds are needed ({failures})")]
    Unavailable {
        /// Stake that signed.
        signed: u128,
        /// Stake of all.
        total: u128,
        /// What went wrong with the others.
        failures: String,
    },
    /// The layer is shutting down.
    #[error("the layer is closed")]
    Closed,
}

/// The blob did not come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetrieveError {
    /// The certificate is needed, or is none.
    #[error("the blob cannot be named: {reason}")]
    Reference {
        /// Why.
        reason: String,
    },
    /// Too little of it is served.
    #[error("{rows} distinct rows were served, {needed} are needed")]
    Unavailable {
        /// Distinct checked rows.
        rows: usize,
        /// K.
        needed: usize,
    },
    /// Committed to by a lying encoder: it will never come back, and nobody gets other bytes.
    #[error("{reason}")]
    Lie {
        /// What the rows show.
        reason: String,
    },
}

/// What sampling found.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleReport {
    /// Distinct rows asked for.
    pub asked: u32,
    /// Rows served and checked.
    pub served: u32,
    /// If all were served: that fewer rows than give the blob back are available to this requester had a chance
    /// of at most 2^-bits. Zero otherwise.
    pub bits: f64,
}

/// Sampling could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// This layer has no sampling.
    #[error("this layer offers no sampling")]
    NotOffered,
    /// The reference is no certificate of this layer.
    #[error("the blob cannot be named: {reason}")]
    Reference {
        /// Why.
        reason: String,
    },
}
