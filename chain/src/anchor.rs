//! Brings sealed batches onto the chain, one after another, and says how far each is.
//!
//! Invariants: a batch is sent only when the one before it is on the chain; that it is there already with the same
//! header is success, whoever sent it; with another header it is an alarm, and after an alarm nothing is sent any more.
//! State is read from the chain at every step, so a reorganisation steps back by itself, and a restart needs nothing
//! but the batch. Deliberately knows nothing of certificates' contents, nor of who makes them.

use std::sync::Arc;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolCall as _, SolError as _};
use parking_lot::Mutex;

use crate::batch_header::{BatchHeader, BatchHeaderError};
use crate::contracts::{ContractError, ICommitmentRegistry, revert_name};
use crate::endpoints::AskError;
use crate::registry::{LogHead, Registry};
use crate::sender::{Progress, SenderError, TransactionSender};

/// When a block counts as one that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// When so many blocks follow it.
    Depth(u64),
    /// When the chain itself calls it finalized.
    Finalized,
}

/// A sealed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What is anchored.
    pub header: BatchHeader,
    /// What its verifier needs; `None` while nobody vouches for the data yet.
    pub certificate: Option<Bytes>,
}

/// How far a batch is. Only the last one is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnchorState {
    /// It exists, without a certificate.
    Sealed,
    /// It has a certificate, and its transaction waits.
    Certified,
    /// It is on the chain, in a block that may still be taken back.
    Included,
    /// It is on the chain to stay.
    Final,
}

/// What must never be, and stops everything until a person has looked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorAlarm {
    /// The log has another batch in this place: somebody else publishes with our right, or we sealed twice.
    #[error("sequence {sequence} of {namespace} is anchored with header {anchored}, ours is {ours}")]
    OtherHeader {
        /// The log.
        namespace: B256,
        /// The place.
        sequence: u64,
        /// Our header's hash.
        ours: B256,
        /// The hash on the chain.
        anchored: B256,
    },
    /// The batch continues another log than the chain has.
    #[error("batch {sequence} of {namespace} follows {ours}, but the log ends with {anchored}")]
    OtherPrevious {
        /// The log.
        namespace: B256,
        /// Our batch.
        sequence: u64,
        /// What our header names.
        ours: B256,
        /// What the chain has.
        anchored: B256,
    },
    /// Positions of the batch are not after those that are anchored.
    #[error("batch {sequence} of {namespace} begins at position {first}, but {anchored} is anchored")]
    OtherPositions {
        /// The log.
        namespace: B256,
        /// Our batch.
        sequence: u64,
        /// Its first position.
        first: u64,
        /// The last position on the chain.
        anchored: u64,
    },
    /// What was final is gone.
    #[error(
        "sequence {sequence} of {namespace} was final with header {ours}, and is not on the chain any more"
    )]
    FinalUndone {
        /// The log.
        namespace: B256,
        /// The place.
        sequence: u64,
        /// What was there.
        ours: B256,
    },
    /// The key's nonce was used elsewhere.
    #[error("nonce {nonce} of {address} was used by a transaction that is not ours")]
    KeyUsedElsewhere {
        /// The account.
        address: Address,
        /// The nonce.
        nonce: u64,
    },
    /// The role of publisher is somebody else's.
    #[error("{namespace} is published by {publisher}, not by {ours}")]
    NotPublisher {
        /// The log.
        namespace: B256,
        /// Who it is.
        publisher: Address,
        /// Our account.
        ours: Address,
    },
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// Everything stops.
    #[error("ALARM: {0}")]
    Alarm(AnchorAlarm),
    /// The batch is not valid in itself.
    #[error(transparent)]
    Header(#[from] BatchHeaderError),
    /// The batch is for another chain or registry.
    #[error("the batch is for chain {chain_id} and registry {registry}")]
    OtherRegistry {
        /// Its chain.
        chain_id: u64,
        /// Its registry.
        registry: Address,
    },
    /// An earlier batch is missing on the chain; send that first.
    #[error("the log ends with batch {anchored}; batch {found} cannot follow")]
    Gap {
        /// The newest on the chain.
        anchored: u64,
        /// The one that was to be sent.
        found: u64,
    },
    /// The endpoint is behind what was seen before; another one, or time, helps.
    #[error("the chain endpoint is at block {head}, but block {seen} was seen")]
    Behind {
        /// Where it is.
        head: u64,
        /// What was seen.
        seen: u64,
    },
    /// The contract does not take it as it is, for a reason that another certificate or time may change.
    #[error("the registry does not take batch {sequence}: {why}")]
    Refused {
        /// Which.
        sequence: u64,
        /// The contract's error.
        why: String,
    },
    /// The chain could not be read.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The transaction could not be sent.
    #[error(transparent)]
    Sender(#[from] SenderError),
}

impl AnchorError {
    /// Whether the same step may do later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Contract(ContractError::Ask(error)) | Self::Sender(SenderError::Ask(error)) => {
                error.is_temporary()
            }
            Self::Behind { .. } | Self::Sender(SenderError::Fees { .. } | SenderError::Refused { .. }) => {
                true
            }
            _ => false,
        }
    }
}

impl From<AskError> for AnchorError {
    fn from(error: AskError) -> Self {
        Self::Contract(error.into())
    }
}

/// Anchors batches of one registry with one key.
pub struct Anchorer {
    registry: Registry,
    sender: Arc<TransactionSender>,
    finality: Finality,
    stopped: Mutex<Stopped>,
}

#[derive(Default)]
struct Stopped {
    alarm: Option<AnchorAlarm>,
    /// The newest batch of each log that was seen final.
    finals: Vec<SeenFinal>,
}

#[derive(Clone, Copy)]
struct SeenFinal {
    namespace: B256,
    sequence: u64,
    header_hash: B256,
    /// The chain's head when it was seen.
    head: u64,
}

impl Anchorer {
    /// Sends nothing yet.
    pub fn new(registry: Registry, sender: Arc<TransactionSender>, finality: Finality) -> Self {
        Self { registry, sender, finality, stopped: Mutex::default() }
    }

    /// The alarm that stopped everything, if one did.
    pub fn alarm(&self) -> Option<AnchorAlarm> {
        self.stopped.lock().alarm.clone()
    }

    /// The newest batch that is on the chain to stay: where publishing goes on after a restart.
    pub async fn final_head(&self, namespace: B256) -> Result<LogHead, AnchorError> {
        let block = self.final_block().await?;
        Ok(self.registry.head(namespace, block).await?)
    }

    /// Looks where the batch is and does what is next for it. To be called again and again until it is final, and for
    /// the batches before it, too, as long as those are not.
    pub async fn step(&self, batch: &Batch) -> Result<AnchorState, AnchorError> {
        if let Some(alarm) = self.alarm() {
            return Err(AnchorError::Alarm(alarm));
        }
        let done = self.look_and_send(batch).await;
        if let Err(AnchorError::Alarm(alarm)) = &done {
            tracing::error!(%alarm, "anchoring stops");
            self.stopped.lock().alarm = Some(alarm.clone());
        }
        done
    }

    async fn look_and_send(&self, batch: &Batch) -> Result<AnchorState, AnchorError> {
        let header = &batch.header;
        header.check()?;
        let chain_id = self.registry.endpoints().chain_id();
        if header.chain_id != chain_id || header.registry != self.registry.address() {
            return Err(AnchorError::OtherRegistry { chain_id: header.chain_id, registry: header.registry });
        }
        let ours = header.hash();
        let latest = self.registry.header_hash(header.namespace, header.sequence, BlockId::latest()).await?;
        if let Some(anchored) = latest {
            self.compare(header, ours, anchored)?;
            return self.settle(header, ours).await;
        }
        self.check_not_undone(header).await?;
        let head = self.registry.head(header.namespace, BlockId::latest()).await?;
        if head.sequence >= header.sequence {
            // Included between the two questions, or two endpoints at different heights.
            return Ok(AnchorState::Certified);
        }
        if head.sequence + 1 < header.sequence {
            return Err(AnchorError::Gap { anchored: head.sequence, found: header.sequence });
        }
        continues(header, &head)?;
        match &batch.certificate {
            None => Ok(AnchorState::Sealed),
            Some(certificate) => self.send(header, ours, certificate).await,
        }
    }

    /// Whether a batch that is on the chain is there to stay; if so, its transactions are forgotten.
    async fn settle(&self, header: &BatchHeader, ours: B256) -> Result<AnchorState, AnchorError> {
        let block = self.final_block().await?;
        let settled = self.registry.header_hash(header.namespace, header.sequence, block).await;
        let settled = match settled {
            Ok(settled) => settled,
            // The registry is younger than the final block.
            Err(ContractError::Answer { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(settled) = settled else { return Ok(AnchorState::Included) };
        self.compare(header, ours, settled)?;
        self.note_final(header, ours).await?;
        for intent in self.sender.intents().await? {
            if self.is_anchor_of(&intent.to, &intent.data, ours) {
                self.sender.forget(intent.id).await?;
            }
        }
        Ok(AnchorState::Final)
    }

    async fn send(
        &self,
        header: &BatchHeader,
        ours: B256,
        certificate: &Bytes,
    ) -> Result<AnchorState, AnchorError> {
        let id = intent_id(ours, certificate);
        let refused = |why: String| AnchorError::Refused { sequence: header.sequence, why };
        match self.sender.advance(id).await {
            Ok(Progress::Waiting) => return Ok(AnchorState::Certified),
            Ok(Progress::Included(included)) if included.succeeded => return Ok(AnchorState::Included),
            Ok(Progress::Included(included)) => {
                return Err(refused(format!("transaction {} reverted", included.hash)));
            }
            Err(SenderError::Unknown { .. }) => {}
            Err(error) => return Err(self.judged(error, header, ours)),
        }
        match self.sender.send(id, &self.registry.anchor(header, certificate)).await {
            Ok(_) => Ok(AnchorState::Certified),
            Err(SenderError::WouldRevert { data, message }) => {
                if let Ok(taken) = ICommitmentRegistry::SequenceTaken::abi_decode(&data) {
                    self.compare(header, ours, taken.anchored)?;
                    return Ok(AnchorState::Included);
                }
                if let Ok(other) = ICommitmentRegistry::NotPublisher::abi_decode(&data) {
                    return Err(AnchorError::Alarm(AnchorAlarm::NotPublisher {
                        namespace: header.namespace,
                        publisher: other.publisher,
                        ours: self.sender.address(),
                    }));
                }
                Err(refused(revert_name(&data, &message)))
            }
            Err(error) => Err(self.judged(error, header, ours)),
        }
    }

    fn judged(&self, error: SenderError, header: &BatchHeader, ours: B256) -> AnchorError {
        match error {
            SenderError::NonceTaken { address, nonce, .. } => {
                tracing::error!(sequence = header.sequence, %ours, "the batch's nonce was used elsewhere");
                AnchorError::Alarm(AnchorAlarm::KeyUsedElsewhere { address, nonce })
            }
            other => other.into(),
        }
    }

    fn compare(&self, header: &BatchHeader, ours: B256, anchored: B256) -> Result<(), AnchorError> {
        if anchored == ours {
            return Ok(());
        }
        Err(AnchorError::Alarm(AnchorAlarm::OtherHeader {
            namespace: header.namespace,
            sequence: header.sequence,
            ours,
            anchored,
        }))
    }

    async fn note_final(&self, header: &BatchHeader, header_hash: B256) -> Result<(), AnchorError> {
        let (namespace, sequence) = (header.namespace, header.sequence);
        let head = self.registry.endpoints().any(|endpoint| endpoint.block_number()).await?;
        let seen = SeenFinal { namespace, sequence, header_hash, head };
        let mut stopped = self.stopped.lock();
        match stopped.finals.iter_mut().find(|of| of.namespace == namespace) {
            Some(newest) if newest.sequence < sequence => *newest = seen,
            Some(_) => {}
            None => stopped.finals.push(seen),
        }
        Ok(())
    }

    /// A batch that is not on the chain must not be one that was final, nor one before such.
    async fn check_not_undone(&self, header: &BatchHeader) -> Result<(), AnchorError> {
        let seen = self.stopped.lock().finals.iter().find(|of| of.namespace == header.namespace).copied();
        let Some(seen) = seen.filter(|seen| seen.sequence >= header.sequence) else { return Ok(()) };
        // An endpoint that is merely behind takes nothing back.
        let head = self.registry.endpoints().any(|endpoint| endpoint.block_number()).await?;
        if head < seen.head {
            return Err(AnchorError::Behind { head, seen: seen.head });
        }
        let (namespace, sequence, ours) = (seen.namespace, seen.sequence, seen.header_hash);
        Err(AnchorError::Alarm(AnchorAlarm::FinalUndone { namespace, sequence, ours }))
    }

    async fn final_block(&self) -> Result<BlockId, AnchorError> {
        match self.finality {
            Finality::Finalized => Ok(BlockId::finalized()),
            Finality::Depth(depth) => {
                let head = self.registry.endpoints().any(|endpoint| endpoint.block_number()).await?;
                Ok(BlockId::from(head.saturating_sub(depth)))
            }
        }
    }

    fn is_anchor_of(&self, to: &[u8], data: &[u8], ours: B256) -> bool {
        to == self.registry.address().as_slice()
            && ICommitmentRegistry::anchorCall::abi_decode(data)
                .ok()
                .and_then(|call| BatchHeader::decode(&call.header).ok())
                .is_some_and(|header| header.hash() == ours)
    }
}

/// Whether the batch is the next after the log's head.
fn continues(header: &BatchHeader, head: &LogHead) -> Result<(), AnchorError> {
    let (namespace, sequence) = (header.namespace, header.sequence);
    if head.header_hash != header.previous_header_hash {
        return Err(AnchorError::Alarm(AnchorAlarm::OtherPrevious {
            namespace,
            sequence,
            ours: header.previous_header_hash,
            anchored: head.header_hash,
        }));
    }
    if head.sequence > 0 && header.first_position <= head.last_position {
        return Err(AnchorError::Alarm(AnchorAlarm::OtherPositions {
            namespace,
            sequence,
            first: header.first_position,
            anchored: head.last_position,
        }));
    }
    Ok(())
}

/// One intent for each header with each certificate: where a certificate became stale, the same header is sent again
/// with a new one, and the registry takes the sequence once.
fn intent_id(header_hash: B256, certificate: &Bytes) -> B256 {
    keccak256([&b"ashlar anchor v1"[..], header_hash.as_slice(), keccak256(certificate).as_slice()].concat())
}
