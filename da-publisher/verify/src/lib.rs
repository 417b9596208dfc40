//! Proofs for people: whether an entry is in the log, or was promised and is not. Pure checks over bytes.
//!
//! Somebody hands over a [`Proof`]; the user has a [`Trust`] file, found out about the chain himself
//! ([`ChainEvidence`]), and perhaps has the object's bytes. [`verify`] goes through named [`Step`]s, tells each
//! to a [`Steps`], stops at the first that fails, and ends in exactly one [`Verdict`], whose [`Level`] follows
//! from what evidence was checked and from nothing else.
//!
//! ```
//! use ashlar_verify::{ChainEvidence, Proof, Report, Request, Trust, verify};
//! # fn files() -> (&'static [u8], &'static [u8]) { (b"{}", b"{}") }
//! # fn check() -> Result<(), Box<dyn std::error::Error>> {
//! let (trust, proof) = files();
//! let (trust, proof) = (Trust::parse(trust)?, Proof::parse(proof)?);
//! let mut file = std::io::Cursor::new(b"the bytes that were downloaded");
//! let request = Request { content: Some(&mut file), ..Request::put("bucket", "key", 1_790_000_000_000) };
//! let mut report = Report::default();
//! let verdict = verify(request, &trust, &proof, &ChainEvidence::none(), &mut report);
//! println!("{}", report.to_json(&verdict));
//! # Ok(())
//! # }
//! # assert!(check().is_err());
//! ```
//!
//! Normative text: `docs/formats/proof.md`, with vectors; `ops/verify/verify.py` is a second verifier, written
//! from that text. This crate does no I/O but reading the content it is given, reads no clock, knows no network
//! and no server. Foreign bytes never make it panic.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod block;
mod content;
mod digest;
mod evidence;
mod hex_bytes;
mod log;
mod proof;
mod receipt;
mod record;
mod registry;
mod report;
mod rlp;
mod strict;
mod trie;
mod trust;
mod verdict;
mod verify;

pub use block::BlockId;
pub use content::ContentError;
pub use evidence::{Answer, ChainEvidence, EvidenceFormat};
pub use hex_bytes::{Address, Fixed, Hash, HexBytes, Id};
pub use log::{HEADER_BYTES, Header, HeaderError, Place, leaf, record_digest};
pub use proof::{Absence, Block, Entry, Neighbour, Opening, PartRow, Proof, ProofFormat, Slot, State};
pub use receipt::{RECEIPT_BYTES, Receipt, ReceiptError};
pub use record::{Operation, Record, RecordError, manifest_root};
pub use registry::{header_slot, namespace_slots};
pub use report::Report;
pub use rlp::RlpError;
pub use strict::{FILE_BYTES_MAX, ParseError};
pub use trie::TrieError;
pub use trust::{ChainKind, Checkpoint, Trust, TrustFormat};
pub use verdict::{Asked, BrokenPromise, Committed, Failed, Failure, Level, Shown, Step, Steps, Verdict};
pub use verify::{Request, verify};
