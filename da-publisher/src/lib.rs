//! From sealed batches to data availability: the layer trait, the embedded layer, and what they sign.
//!
//! [`DaLayer`] is what a publisher needs of any DA layer. The embedded one is a [`QuorumClient`] over
//! [`DaNode`]s: a blob becomes rows (`ashlar-rsema1d`), every node checks its own rows, makes them durable,
//! and only then signs; signatures of more than two thirds of the stake are a [`Certificate`], which the
//! contract `DaQuorum` accepts. A node signs one header for each (namespace, sequence), whatever crashes.
//!
//! Not here yet, and planned: reading the outbox, sealing batches, anchoring, snapshots of a namespace, nodes
//! behind a network. This crate does not know what a batch contains.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

pub mod bls;
mod certificate;
mod layer;
mod node;
mod quorum;
mod service;
mod snapshot;
mod statement;

pub use certificate::{Certificate, CertificateError};
pub use layer::{
    BlobReference, DaLayer, DisperseError, Dispersed, Limits, RetrieveError, SampleError, SampleReport,
};
pub use node::{Admission, DaNode, NodeConfig, NodeError, PruneReport, UnixClock, open_or_create_key};
pub use quorum::{QuorumClient, QuorumConfig};
pub use service::{DaNodeService, FetchError, Held, LocalNode, StoreError, StoreRequest};
pub use snapshot::{Signer, Snapshot, SnapshotError};
pub use statement::{Dispersal, Domain, Namespace, Statement};
