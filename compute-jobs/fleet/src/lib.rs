//! The wire between the gateway, which buys computation, and its providers, and the money on it.
//!
//! A provider calls the gateway and proves who it is ([`handshake`](crate::HandshakeError)); from then on the gateway asks
//! and the provider answers, over HTTP/2 with the roles turned round. A [`Hub`] is the gateway's side: it knows who is
//! linked, keeps an escrow lock ready with each, gives requests to the best, and pays by vouchers for what it heard itself.
//! A [`Provider`] is the other side: it accepts locks on the chain, works at most one increment ahead of its receipts, and
//! settles them in time. [`sampling`] says which units are worked twice and what counts as the same.
//!
//! Invariants: what is signed was stored before; either side loses at most one increment of a lock, whatever the other
//! does; a peer makes nobody hold more than [`limits`] says. Normative: docs/formats/link.md. Deliberately knows nothing of
//! models' insides, SQL, metadata, users and HTTP faces.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod books;
mod clock;
mod digest;
mod escrow;
mod frame;
mod handshake;
mod hub;
pub mod limits;
mod provider;
mod recount;
mod reputation;
pub mod sampling;
#[cfg(test)]
mod tests;
mod transport;
mod wire;

pub use books::{Books, BooksError, FileBooks};
pub use clock::Clock;
pub use escrow::{Escrow, EscrowError, LockStage, LockState, OfferTerms, ProviderState};
pub use frame::FrameError;
pub use handshake::{HandshakeError, LinkRefusal};
pub use hub::{
    Fault, Hub, HubConfig, HubError, HubParts, LockPolicy, ModelSummary, PeerStatus, Placed, RemoteModel,
    UnitAnswer,
};
pub use provider::{ModelOffer, Provider, ProviderConfig, ProviderError, ProviderParts, ProviderStatus};
pub use recount::{ByBytes, Count, Recount, Texts};
pub use reputation::{Outcome, Reputations};
pub use wire::{Description, Device, LINK_PATH, List, OfferedModel, PROTOCOL, VERSION};
