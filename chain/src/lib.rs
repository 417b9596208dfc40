//! The client of the chain that anchors Ashlar's log: any EVM chain that speaks JSON-RPC.
//!
//! Owns the way to it (bounded requests, several endpoints, agreement), the publisher's transactions (durable before
//! they are sent, one nonce an intent), the typed contracts, anchoring with its states and alarms, and light checks for
//! whoever trusts no endpoint. Invariant: nothing that an endpoint says can make two transactions out of one intent, or
//! make a check pass that its hash or proof does not carry. Deliberately knows nothing of objects, batches' contents or
//! data availability; executes no EVM code.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod anchor;
mod batch_header;
pub mod contracts;
mod deployment;
mod endpoint;
mod endpoints;
mod key;
pub mod light;
mod market;
mod quorum;
mod registry;
mod sender;
mod store;
mod transport;

pub use anchor::{AnchorAlarm, AnchorError, AnchorState, Anchorer, Batch, Finality};
pub use batch_header::{BATCH_HEADER_BYTES, BatchHeader, BatchHeaderError, header_hash_slot};
pub use contracts::{ContractError, revert_name};
pub use deployment::{Artifact, ArtifactError, DeployError, Deployed, deploy};
pub use endpoint::{Endpoint, EndpointError, RpcError, ToldBlock};
pub use endpoints::{AskError, Endpoints};
pub use key::{KeyError, TransactionKey};
pub use market::{
    Market, SETTLEMENT_BYTES, SETTLEMENTS_MAX, SettleError, SettlementOutcome, SettlementWords, outcomes,
};
pub use quorum::{Quorum, QuorumSnapshot};
pub use registry::{LogHead, Registry, ToldAnchor};
pub use sender::{
    Call, DATA_BYTES_MAX, FeePolicy, INTENTS_MAX, Inclusion, Progress, SenderError, Sent, TransactionSender,
};
pub use store::{
    Attempt, Fence, FileTransactionStore, Intent, KeyId, KeyRecord, RecordError, TransactionStore,
    TransactionStoreError,
};
pub use transport::EndpointLimits;
