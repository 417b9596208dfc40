//! What a verification ends in: one verdict with its level, or the step that failed and why.
//!
//! Invariant: there is no third way out, and no verdict without a level. Does not know how one is reached.

use std::fmt;

use serde::Serialize;

use crate::block::BlockId;
use crate::content::ContentError;
use crate::hex_bytes::{Address, Hash, Id};
use crate::log::{HeaderError, Place};
use crate::receipt::ReceiptError;
use crate::record::{Operation, Record, RecordError};
use crate::rlp::RlpError;
use crate::trie::TrieError;

/// A step of a verification, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The files have their formats. Taken by who reads them.
    Parse,
    /// Chain, registry and namespace are those of the trust file.
    Trust,
    /// The receipt is signed by the trusted key, and is about this log.
    Receipt,
    /// The record is what was asked for.
    Record,
    /// The list of parts makes the record's manifest root and object root.
    Parts,
    /// Single blocks lead to the object root.
    Object,
    /// The header of the batch is well-formed and of this log.
    Header,
    /// The leaf stands in the batch.
    Batch,
    /// Nothing can stand in the promised place, and its deadline has passed.
    Promise,
    /// The block whose state is shown is on the chain.
    Block,
    /// The contracts at their addresses have the trusted code.
    Contracts,
    /// The registry has the header's hash.
    State,
    /// The chain has not gone back behind what was known before.
    Checkpoint,
    /// The bytes are those of the record.
    Content,
}

impl Step {
    /// Its name in texts and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Trust => "trust",
            Self::Receipt => "receipt",
            Self::Record => "record",
            Self::Parts => "parts",
            Self::Object => "object",
            Self::Header => "header",
            Self::Batch => "batch",
            Self::Promise => "promise",
            Self::Block => "block",
            Self::Contracts => "contracts",
            Self::State => "state",
            Self::Checkpoint => "checkpoint",
            Self::Content => "content",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Is told each step as it ends.
pub trait Steps {
    /// The step held; `detail` says in a line what was checked.
    fn passed(&mut self, step: Step, detail: &str);
    /// The step failed, and nothing comes after it.
    fn failed(&mut self, step: Step, failure: &Failure);
}

/// Who vouches for the state that the verdict stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The store's own chain: detects corruption and a log gone back behind the checkpoint, not its operator.
    SelfAttested,
    /// Two or more endpoints that the user chose agree.
    RpcTrusted,
    /// A block hash that the user pinned.
    HeaderVerified,
}

/// The one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The entry is in the log.
    Committed(Box<Committed>),
    /// The entry was promised and is not in the log.
    PromisedNotInLog(Box<BrokenPromise>),
    /// Nothing is shown.
    Failed(Failed),
}

/// The entry is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Committed {
    /// On whose word.
    pub level: Level,
    /// Number of its batch.
    pub sequence: u64,
    /// Hash of the batch's header.
    pub header_hash: Hash,
    /// Position of its commit.
    pub position: u64,
    /// Its number in the commit.
    pub index: u32,
    /// The block whose state showed it.
    pub block: BlockId,
    /// That block's time, Unix seconds.
    pub block_time: u64,
    /// What it says.
    pub record: Record,
    /// Whether bytes were held against it.
    pub content_checked: bool,
}

/// How the log shows that an entry is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// The leaves around its place are neighbours.
    Neighbours,
    /// Another entry stands in its place.
    OtherEntry,
    /// Its place lies between two batches.
    Gap,
    /// The log ended before its place when the deadline had passed.
    Stalled,
}

/// The entry was promised and is not in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokenPromise {
    /// On whose word.
    pub level: Level,
    /// The batch that goes past the promised place, or the newest of a stalled log.
    pub sequence: u64,
    /// Position that was promised.
    pub position: u64,
    /// Number in the commit that was promised.
    pub index: u32,
    /// The leaf that was promised.
    pub leaf: Hash,
    /// When it was due: Unix milliseconds.
    pub deadline: u64,
    /// How the log shows it.
    pub shown: Shown,
    /// The block whose state showed it.
    pub block: BlockId,
    /// That block's time, Unix seconds.
    pub block_time: u64,
    /// What was promised, if it was opened.
    pub record: Option<Record>,
}

/// Nothing is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The step that failed.
    pub step: Step,
    /// Why, in a line.
    pub reason: String,
}

impl Verdict {
    /// What a command exits with: 0 committed, 1 failed, 2 promised but not in the log.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Committed(_) => 0,
            Self::Failed(_) => 1,
            Self::PromisedNotInLog(_) => 2,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Proof, receipt or header speak of another log.
    #[error("the {what} is of another {of}")]
    Other {
        /// Which of them.
        what: &'static str,
        /// What differs.
        of: &'static str,
    },
    /// The record is not one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record is of something else than was asked for.
    #[error("asked for {asked}, the record is of {found}")]
    Asked {
        /// What was asked for.
        asked: Box<Asked>,
        /// What the record is of.
        found: Box<Asked>,
    },
    /// The proof's bucket, key or version differ from its record's.
    #[error("the proof names {named}, its record {found}")]
    Named {
        /// What the proof names.
        named: Box<Asked>,
        /// What the record is of.
        found: Box<Asked>,
    },
    /// Bytes were given for a record that has none.
    #[error("the record is no put: it has no content to check")]
    NoContent,
    /// The parts are not those of the record.
    #[error("the list of parts does not make the record's {what}")]
    Parts {
        /// Length, manifest root or object root.
        what: &'static str,
    },
    /// A block does not lead to the object root.
    #[error("block {index} of the proof: {reason}")]
    Block {
        /// Which one.
        index: usize,
        /// Why not.
        reason: String,
    },
    /// The header is not one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Receipt and entry are about different leaves.
    #[error("the receipt promises another entry")]
    OtherPromise,
    /// The place is outside of the batch, or not where a first or last leaf stands.
    #[error("position {position} cannot stand at leaf {leaf_index} of a batch from {first} to {last}")]
    Place {
        /// Position claimed.
        position: u64,
        /// Number of the leaf claimed.
        leaf_index: u32,
        /// First position of the batch.
        first: u64,
        /// Last position of the batch.
        last: u64,
    },
    /// The path leads elsewhere, or is longer or shorter than count and index say.
    #[error("the path does not lead from leaf {leaf_index} of {entry_count} to the batch root")]
    Path {
        /// Number of the leaf claimed.
        leaf_index: u32,
        /// Leaves of the batch.
        entry_count: u32,
    },
    /// The receipt is not one, or not of this signer.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The promise may still be kept.
    #[error("the promise is due at {deadline} (Unix ms), it is {now}")]
    NotDue {
        /// When it is due.
        deadline: u64,
        /// When the verifier was asked.
        now: u64,
    },
    /// What is shown does not exclude the entry.
    #[error("{0}")]
    NotExcluded(&'static str),
    /// There is no state to check.
    #[error("neither the proof nor the evidence has state of the chain")]
    NoState,
    /// A block header is malformed.
    #[error("the block's header: {0}")]
    BlockHeader(RlpError),
    /// Nobody vouches for the block.
    #[error("nobody vouches for block {number} {hash}: {reason}", number = .block.number, hash = .block.hash)]
    Vouched {
        /// The block.
        block: BlockId,
        /// Why not.
        reason: &'static str,
    },
    /// A proof in a trie fails.
    #[error("{what}: {error}")]
    Trie {
        /// Of what.
        what: &'static str,
        /// Why.
        error: TrieError,
    },
    /// Other code at the address.
    #[error("the code of the {contract} has hash {found}, not the trusted {expected}")]
    Code {
        /// Which contract.
        contract: &'static str,
        /// Hash found.
        found: Hash,
        /// Hash trusted.
        expected: Hash,
    },
    /// The namespace has another publisher or verifier.
    #[error("the namespace has {what} {found}, not the trusted {expected}")]
    Role {
        /// Publisher or verifier.
        what: &'static str,
        /// Found.
        found: Address,
        /// Trusted.
        expected: Address,
    },
    /// A slot that is needed is not shown.
    #[error("the state does not show the slot of the {what}")]
    Slot {
        /// What would stand in it.
        what: &'static str,
    },
    /// A slot is shown twice.
    #[error("slot {slot} is shown twice")]
    SlotTwice {
        /// Which one.
        slot: Hash,
    },
    /// Another header is anchored.
    #[error("at sequence {sequence} header {found} is anchored, not {expected}")]
    Anchored {
        /// The sequence.
        sequence: u64,
        /// Hash in the registry.
        found: Hash,
        /// Hash of the proof's header.
        expected: Hash,
    },
    /// The chain contradicts the checkpoint.
    #[error("the chain has gone back behind the checkpoint, or is another one: {0}")]
    Rewound(&'static str),
    /// The bytes are not those of the record.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// An operation on a version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub(crate) operation: Option<Operation>,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version: Option<Id>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.operation {
            write!(f, "{operation:?} of ")?;
        }
        write!(f, "{:?}/{:?}", self.bucket, self.key)?;
        self.version.map_or(Ok(()), |version| write!(f, " version {version}"))
    }
}

impl Asked {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            operation: Some(record.operation),
            bucket: record.bucket.clone(),
            key: record.key.clone(),
            version: Some(record.version),
        }
    }
}

impl Committed {
    /// Where the entry stands.
    pub const fn place(&self) -> Place {
        Place { position: self.position, index: self.index }
    }
}
