//! From what the store commits to a log that anybody can check: batches, data availability, anchors.
//!
//! [`publisher`] reads the store's outbox, seals batches, and takes each to a [`DaLayer`] and to the chain.
//!
//! [`DaLayer`] is what a publisher needs of any DA layer. The embedded one is a [`QuorumClient`] over
//! [`DaNode`]s: a blob becomes rows (`ashlar-rsema1d`), every node checks its own rows, makes them durable,
//! and only then signs; signatures of more than two thirds of the stake are a [`Certificate`], which the
//! contract `DaQuorum` accepts. A node signs one header for each (namespace, sequence), whatever crashes.
//!
//! [`history`] reads a log back from what nodes hold, when there is nothing else left.
//!
//! Planned: nodes behind a network; other layers.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

pub mod bls;
mod certificate;
pub mod history;
mod layer;
mod node;
pub mod publisher;
mod quorum;
mod service;
mod snapshot;
mod statement;

pub use ashlar_rsema1d::{Commitment, RowProof};
pub use certificate::{Certificate, CertificateError};
pub use layer::{
    BlobReference, DaLayer, DisperseError, Dispersed, Limits, RetrieveError, SampleError, SampleReport,
};
pub use node::{Admission, Archive, ArchivedNode, DaNode, NodeConfig, NodeError, PruneReport, UnixClock};
pub use quorum::{QuorumClient, QuorumConfig};
pub use service::{DaNodeService, FetchError, Held, LocalNode, StoreError, StoreRequest};
pub use snapshot::{Signer, Snapshot, SnapshotError};
pub use statement::{Dispersal, Domain, Namespace, Statement};
