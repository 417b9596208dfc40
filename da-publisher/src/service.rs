//! What a DA node does for a client: the trait, the facts that cross it, and nodes of this process.
//!
//! Object-safe, because a client holds nodes of this process and nodes behind a network side by side.
//! Invariant of every honest implementation: a signature is given only for rows that were checked and are
//! durable. Clients trust none of it: they check signatures, openings and rows themselves.

use std::sync::Arc;

use ashlar_rsema1d::{Commitment, OpeningError, RowError, RowProof};
use async_trait::async_trait;
use bytes::Bytes;

use crate::bls::Signature;
use crate::node::DaNode;
use crate::statement::Statement;

/// Asks a node to hold its rows of a blob and to say so.
#[derive(Clone, Debug)]
pub struct StoreRequest {
    /// What the node is to sign.
    pub statement: Statement,
    /// The encoded opening of the commitment.
    pub opening: Bytes,
    /// Exactly the rows that the epoch's assignment gives this node, in ascending order.
    pub rows: Vec<RowProof>,
    /// The publisher's proof that it may write to this log; what it is, the node's [`crate::Admission`] knows.
    pub authorization: Bytes,
}

/// What a node holds of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The encoded opening of the commitment.
    pub opening: Bytes,
    /// Which rows, in ascending order.
    pub rows: Vec<u32>,
}

/// A DA node as clients see it. All methods are cancel-safe.
#[async_trait]
pub trait DaNodeService: Send + Sync {
    /// Checks rows, makes them durable, signs. The same statement again gives the signature again.
    async fn store(&self, request: StoreRequest) -> Result<Signature, StoreError>;
    /// What the node holds of a blob.
    async fn held(&self, commitment: Commitment) -> Result<Held, FetchError>;
    /// One row of a blob with its path.
    async fn row(&self, commitment: Commitment, index: u32) -> Result<RowProof, FetchError>;
}

/// The node did not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The node has no snapshot of this epoch, or is no signer in it.
    #[error("not a signer of epoch {epoch}")]
    Epoch {
        /// As asked.
        epoch: u64,
    },
    /// To be kept until a time that has passed, or for longer than the node keeps anything.
    #[error("cannot keep rows until {keep_until}; the latest is {latest}")]
    KeepUntil {
        /// As asked.
        keep_until: u64,
        /// The latest time allowed.
        latest: u64,
    },
    /// The publisher may not write to this log.
    #[error("the publisher is not admitted to this log")]
    NotAdmitted,
    /// Another header, or another blob for the same header, was signed for this place of the log before.
    #[error(
        "header {} was signed for this place of the log, with commitment {commitment}",
        hex::encode(.header)
    )]
    Equivocation {
        /// The header that was signed.
        header: [u8; 32],
        /// Its commitment.
        commitment: Commitment,
    },
    /// This place of the log was given up after its time; the node no longer knows what it signed.
    #[error("places below {below} of this log were pruned")]
    Pruned {
        /// The lowest place that was not.
        below: u64,
    },
    /// The opening does not belong to the statement.
    #[error("{0}")]
    Opening(#[from] OpeningError),
    /// The opening has another shape than the statement, or that of another epoch's profile.
    #[error("the opening has another shape than the statement, or the epoch another profile")]
    Shape,
    /// Not exactly the rows that are this node's.
    #[error("not the rows that are assigned to this node")]
    Rows,
    /// A row failed its check.
    #[error("{0}")]
    Row(#[from] RowError),
    /// The node's disk failed; it signs nothing until it is opened again.
    #[error("the node's disk failed: {reason}")]
    Disk {
        /// What happened.
        reason: String,
    },
    /// No answer in time, or the node is gone.
    #[error("no answer in time")]
    NoAnswer,
}

/// The node did not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It does not hold that, or no longer.
    #[error("not held")]
    NotHeld,
    /// What it holds is damaged; it gives out nothing that it could not check.
    #[error("damaged on the node's disk")]
    Damaged,
    /// No answer in time, or the node is gone.
    #[error("no answer in time")]
    NoAnswer,
}

/// A node of this process. Its work runs on blocking threads.
#[derive(Clone, Debug)]
pub struct LocalNode(pub Arc<DaNode>);

impl LocalNode {
    async fn blocking<T: Send + 'static, E: Send + 'static>(
        &self,
        gone: E,
        work: impl FnOnce(&DaNode) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let node = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&node)).await.unwrap_or(Err(gone))
    }
}

#[async_trait]
impl DaNodeService for LocalNode {
    async fn store(&self, request: StoreRequest) -> Result<Signature, StoreError> {
        self.blocking(StoreError::NoAnswer, move |node| node.store(&request)).await
    }

    async fn held(&self, commitment: Commitment) -> Result<Held, FetchError> {
        self.blocking(FetchError::NoAnswer, move |node| node.held(&commitment)).await
    }

    async fn row(&self, commitment: Commitment, index: u32) -> Result<RowProof, FetchError> {
        self.blocking(FetchError::NoAnswer, move |node| node.row(&commitment, index)).await
    }
}
