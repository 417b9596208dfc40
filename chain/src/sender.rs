//! Sends transactions of one key, each intent exactly once, through crashes, lost answers and rising fees.
//!
//! Invariants: signed bytes and their nonce are durable before they are sent; a nonce belongs to one intent for ever,
//! and a dearer replacement reuses it; after a crash the stored bytes are sent again. Whoever asks twice with the same
//! idempotency key gets the same transaction. A sender that was fenced signs nothing more. Cancel-safe: what was being
//! stored when a caller vanished is read back before anything else is signed. Deliberately knows no contract.

mod fees;
mod signing;

pub use fees::FeePolicy;
pub use signing::Call;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rpc_types_eth::{Log, TransactionReceipt, TransactionRequest};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::endpoint::RpcError;
use crate::endpoints::{AskError, Endpoints};
use crate::key::{KeyError, TransactionKey};
use crate::store::{Attempt, Fence, Intent, KeyId, KeyRecord, TransactionStore, TransactionStoreError};

/// Intents of one key that are not forgotten yet.
pub const INTENTS_MAX: usize = 256;
/// Call data or creation code of one transaction; nodes take 128 KiB with everything around it.
pub const DATA_BYTES_MAX: usize = 126 << 10;
/// An endpoint may show a nonce as used before it shows the receipt; so often it is believed to come.
const NONCE_STRIKES_MAX: u32 = 10;
/// Added to a gas estimate: state may change before the transaction runs.
const GAS_MARGIN_PERCENT: u64 = 25;

/// Why a transaction was not sent, or will never be.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The chain could not be asked, or contradicts itself.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Nothing could be made durable, so nothing new was signed or sent.
    #[error(transparent)]
    Store(#[from] TransactionStoreError),
    /// There is no signature.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It would revert, and was neither signed nor sent.
    #[error("the call would revert: {message}")]
    WouldRevert {
        /// What the node says.
        message: String,
        /// What the call returned.
        data: Bytes,
    },
    /// The idempotency key was used for something else.
    #[error("intent {id} was asked for before, for another call")]
    OtherCall {
        /// Which.
        id: B256,
    },
    /// Nobody asked for it, or it was forgotten.
    #[error("intent {id} is unknown")]
    Unknown {
        /// Which.
        id: B256,
    },
    /// Too many are not forgotten yet.
    #[error("{INTENTS_MAX} intents are open; forget those that are done")]
    TooMany,
    /// More than nodes take.
    #[error("{bytes} bytes of data are more than the {DATA_BYTES_MAX} that nodes take")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Gas costs more than the policy allows; nothing was signed.
    #[error("gas costs {wanted_wei} wei, the policy allows {cap_wei}")]
    Fees {
        /// What would have to be offered.
        wanted_wei: u128,
        /// The policy's bound.
        cap_wei: u128,
    },
    /// A node refuses what is stored; it stays stored, and is sent again later.
    #[error("transaction {hash} was refused: {message}")]
    Refused {
        /// Which.
        hash: B256,
        /// Why.
        message: String,
    },
    /// A transaction that this store does not know used the nonce: somebody else signs with the key.
    #[error(
        "nonce {nonce} of {address} was used by a transaction that is not ours: the key signs elsewhere, too"
    )]
    NonceTaken {
        /// Whose.
        address: Address,
        /// Which.
        nonce: u64,
        /// The intent that can never be done.
        id: B256,
    },
}

/// A transaction that is durable here, and was handed to the chain if `announced`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its nonce, whatever replaces it.
    pub nonce: u64,
    /// Hash of the newest attempt.
    pub hash: B256,
    /// Whether a node took it; if not, [`TransactionSender::advance`] tries again.
    pub announced: bool,
}

/// How far an intent is, as the chain stands now.
#[derive(Clone, Debug)]
pub enum Progress {
    /// None of its transactions is in a block.
    Waiting,
    /// One is. A reorganisation can take it back.
    Included(Box<Inclusion>),
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub struct Inclusion {
    /// Its hash.
    pub hash: B256,
    /// Its block's number.
    pub block_number: u64,
    /// Its block's hash.
    pub block_hash: B256,
    /// Whether it did what it was to do; a reverted one used its nonce all the same.
    pub succeeded: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// The contract it made.
    pub contract: Option<Address>,
    /// What it logged.
    pub logs: Vec<Log>,
}

/// Sends for one key.
pub struct TransactionSender {
    endpoints: Arc<Endpoints>,
    key: TransactionKey,
    id: KeyId,
    fence: Fence,
    store: Arc<dyn TransactionStore>,
    fees: FeePolicy,
    state: Mutex<State>,
}

struct State {
    record: KeyRecord,
    /// Whether `record` is what is stored: not while, and not after, a save that did not return well.
    certain: bool,
    tracks: HashMap<B256, Track>,
}

/// What is known of an intent since this process began.
#[derive(Default)]
struct Track {
    announced: Option<Instant>,
    signed: Option<Instant>,
    strikes: u32,
}

impl TransactionSender {
    /// Takes the key, fencing who had it, and loads what is not done. Sends nothing: see [`Self::resume`].
    pub async fn open(
        endpoints: Arc<Endpoints>,
        key: TransactionKey,
        store: Arc<dyn TransactionStore>,
        fees: FeePolicy,
    ) -> Result<Self, SenderError> {
        let id = KeyId { chain_id: endpoints.chain_id(), address: key.address() };
        let (fence, mut record) = store.acquire(id).await?;
        if record == KeyRecord::default() {
            // A store that was lost may have sent before: what still waits for a block is not signed anew.
            let pending = BlockId::pending();
            record.next_nonce =
                endpoints.any(|endpoint| endpoint.transaction_count(id.address, pending)).await?;
        }
        let state = Mutex::new(State { record, certain: true, tracks: HashMap::new() });
        Ok(Self { endpoints, key, id, fence, store, fees, state })
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.id.address
    }

    /// The chain.
    pub fn endpoints(&self) -> &Arc<Endpoints> {
        &self.endpoints
    }

    /// What is not forgotten yet.
    pub async fn intents(&self) -> Result<Vec<Intent>, SenderError> {
        Ok(self.state().await?.record.intents.clone())
    }

    /// Makes `call` durable under the idempotency key `id` and sends it; asked again, sends the same bytes again. An
    /// endpoint that cannot be reached after the bytes are durable is no error: `announced` says so.
    pub async fn send(&self, id: B256, call: &Call) -> Result<Sent, SenderError> {
        let mut state = self.state().await?;
        if let Some(intent) = state.record.intent(id) {
            if !call.is_of(intent) {
                return Err(SenderError::OtherCall { id });
            }
            let intent = intent.clone();
            return self.announce(&mut state, &intent).await;
        }
        if state.record.intents.len() >= INTENTS_MAX {
            return Err(SenderError::TooMany);
        }
        if call.data.len() > DATA_BYTES_MAX {
            return Err(SenderError::TooLarge { bytes: call.data.len() });
        }
        let gas_limit = match call.gas_limit {
            Some(gas_limit) => gas_limit,
            None => self.estimate(call).await?,
        };
        let fees = self.fees.first(&self.endpoints).await?;
        // Without open intents the account may have been used by hand; with them a used nonce is found by `advance`.
        let used = self.count(BlockId::latest()).await?;
        let nonce = state.record.next_nonce.max(if state.record.intents.is_empty() { used } else { 0 });
        let attempt = signing::sign(&self.key, self.id.chain_id, nonce, gas_limit, call, fees)?;
        let intent = Intent {
            id,
            nonce,
            to: call.to.map(|to| Bytes::copy_from_slice(to.as_slice())).unwrap_or_default(),
            value: call.value,
            data: call.data.clone(),
            gas_limit,
            attempts: vec![attempt],
        };
        let mut record = state.record.clone();
        record.next_nonce = nonce + 1;
        record.intents.push(intent.clone());
        self.save(&mut state, record).await?;
        state.tracks.entry(id).or_default().signed = Some(Instant::now());
        self.announce(&mut state, &intent).await
    }

    /// Sends again what a process before this one left open. Errors of single transactions are left to `advance`.
    pub async fn resume(&self) -> Result<Vec<Sent>, SenderError> {
        let mut state = self.state().await?;
        let mut sent = Vec::new();
        for intent in state.record.intents.clone() {
            match self.announce(&mut state, &intent).await {
                Ok(done) => sent.push(done),
                Err(SenderError::Refused { hash, message }) => {
                    tracing::warn!(%hash, message, "a stored transaction was refused again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Looks how far an intent is; where it waits, sends it again, and offers more after a time.
    pub async fn advance(&self, id: B256) -> Result<Progress, SenderError> {
        let mut state = self.state().await?;
        let intent = state.record.intent(id).cloned().ok_or(SenderError::Unknown { id })?;
        if let Some(included) = self.find(&intent).await? {
            state.tracks.remove(&id);
            return Ok(Progress::Included(included));
        }
        if self.count(BlockId::latest()).await? > intent.nonce {
            // It may have come into a block between the two questions.
            if let Some(included) = self.find(&intent).await? {
                return Ok(Progress::Included(included));
            }
            let track = state.tracks.entry(id).or_default();
            track.strikes += 1;
            if track.strikes >= NONCE_STRIKES_MAX {
                return Err(SenderError::NonceTaken { address: self.id.address, nonce: intent.nonce, id });
            }
            return Ok(Progress::Waiting);
        }
        let track = state.tracks.entry(id).or_default();
        track.strikes = 0;
        let signed = *track.signed.get_or_insert_with(Instant::now);
        let is_due = |since: Option<Instant>, after: Duration| since.is_none_or(|at| at.elapsed() >= after);
        let resend = is_due(track.announced, self.fees.resend_after);
        if is_due(Some(signed), self.fees.raise_after)
            && let Some(raised) = self.raise(&mut state, &intent).await?
        {
            self.announce(&mut state, &raised).await?;
            return Ok(Progress::Waiting);
        }
        if resend {
            self.announce(&mut state, &intent).await?;
        }
        Ok(Progress::Waiting)
    }

    /// Signs an intent's transaction anew for more, under the same nonce, now. `None` where the policy ends.
    pub async fn replace(&self, id: B256) -> Result<Option<Sent>, SenderError> {
        let mut state = self.state().await?;
        let intent = state.record.intent(id).cloned().ok_or(SenderError::Unknown { id })?;
        match self.raise(&mut state, &intent).await? {
            Some(raised) => self.announce(&mut state, &raised).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits until the intent is in a block with `depth` blocks after it, looking every `poll`.
    pub async fn wait(&self, id: B256, depth: u64, poll: Duration) -> Result<Inclusion, SenderError> {
        loop {
            match self.advance(id).await {
                Ok(Progress::Included(included)) => {
                    let head = self.endpoints.any(|endpoint| endpoint.block_number()).await?;
                    if head.saturating_sub(included.block_number) >= depth {
                        return Ok(*included);
                    }
                }
                Ok(Progress::Waiting) => {}
                Err(SenderError::Ask(error)) if error.is_temporary() => {
                    tracing::warn!(%error, "waiting for a chain endpoint");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(poll).await;
        }
    }

    /// Forgets an intent whose outcome the caller keeps and that no reorganisation can undo any more. Its nonce stays
    /// used; asked for again, the idempotency key makes a new transaction.
    pub async fn forget(&self, id: B256) -> Result<(), SenderError> {
        let mut state = self.state().await?;
        let mut record = state.record.clone();
        record.intents.retain(|intent| intent.id != id);
        if record.intents.len() < state.record.intents.len() {
            self.save(&mut state, record).await?;
            state.tracks.remove(&id);
        }
        Ok(())
    }

    /// The state, read back first if it is not known to be what is stored.
    async fn state(&self) -> Result<MutexGuard<'_, State>, SenderError> {
        let mut state = self.state.lock().await;
        if !state.certain {
            state.record = self.store.load(self.id, self.fence).await?;
            state.certain = true;
        }
        Ok(state)
    }

    /// Makes `record` durable. A caller that vanishes meanwhile leaves the state uncertain, as an error does.
    async fn save(&self, state: &mut State, record: KeyRecord) -> Result<(), SenderError> {
        state.certain = false;
        self.store.save(self.id, self.fence, record.clone()).await?;
        state.record = record;
        state.certain = true;
        Ok(())
    }

    async fn count(&self, block: BlockId) -> Result<u64, SenderError> {
        Ok(self.endpoints.any(|endpoint| endpoint.transaction_count(self.id.address, block)).await?)
    }

    async fn estimate(&self, call: &Call) -> Result<u64, SenderError> {
        let request = TransactionRequest { from: Some(self.id.address), ..call.request() };
        match self.endpoints.any(|endpoint| endpoint.estimate_gas(&request)).await {
            Ok(gas) => Ok(gas.saturating_add(gas / 100 * GAS_MARGIN_PERCENT)),
            Err(AskError::Rpc(RpcError::Refused { message, data, code, .. }))
                if code == 3 || data.is_some() || message.contains("revert") =>
            {
                Err(SenderError::WouldRevert { message, data: data.unwrap_or_default() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The intent's transaction that is in a block, if one is.
    async fn find(&self, intent: &Intent) -> Result<Option<Box<Inclusion>>, SenderError> {
        for attempt in intent.attempts.iter().rev() {
            let hash = attempt.hash;
            let receipt = self.endpoints.any(|endpoint| endpoint.receipt(hash)).await?;
            if let Some(included) = receipt.and_then(|receipt| inclusion(hash, receipt)) {
                return Ok(Some(Box::new(included)));
            }
        }
        Ok(None)
    }

    async fn raise(&self, state: &mut State, intent: &Intent) -> Result<Option<Intent>, SenderError> {
        let Some(fees) = self.fees.raised(&self.endpoints, &intent.attempts).await? else { return Ok(None) };
        let call = Call::of(intent);
        let attempt =
            signing::sign(&self.key, self.id.chain_id, intent.nonce, intent.gas_limit, &call, fees)?;
        let mut record = state.record.clone();
        let raised = record.intent_mut(intent.id).ok_or(SenderError::Unknown { id: intent.id })?;
        raised.attempts.push(attempt);
        let raised = raised.clone();
        self.save(state, record).await?;
        state.tracks.entry(intent.id).or_default().signed = Some(Instant::now());
        Ok(Some(raised))
    }

    /// Hands the newest attempt to an endpoint.
    async fn announce(&self, state: &mut State, intent: &Intent) -> Result<Sent, SenderError> {
        let attempt: &Attempt = intent.attempts.last().expect("a stored intent has an attempt");
        let sent = |announced| Sent { nonce: intent.nonce, hash: attempt.hash, announced };
        let done = self.endpoints.any(|endpoint| endpoint.send_raw_transaction(&attempt.encoded)).await;
        let announced = match done {
            Ok(_) => true,
            Err(AskError::Rpc(RpcError::Refused { message, .. })) if is_had_already(&message) => true,
            Err(AskError::Rpc(RpcError::Refused { message, code, .. })) if code != -32005 => {
                return Err(SenderError::Refused { hash: attempt.hash, message });
            }
            Err(error) if error.is_temporary() => {
                tracing::warn!(%error, hash = %attempt.hash, "a transaction could not be handed in; it is kept");
                false
            }
            Err(error) => return Err(error.into()),
        };
        if announced {
            state.tracks.entry(intent.id).or_default().announced = Some(Instant::now());
        }
        Ok(sent(announced))
    }
}

/// Whether a node's words mean that it has this transaction, a dearer one of the same nonce, or has run one.
fn is_had_already(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "already known",
        "known transaction",
        "already imported",
        "nonce too low",
        "replacement transaction underpriced",
    ]
    .iter()
    .any(|known| message.contains(known))
}

/// What a receipt says, if it is of this transaction and of a block.
fn inclusion(hash: B256, receipt: TransactionReceipt) -> Option<Inclusion> {
    (receipt.transaction_hash == hash).then_some(())?;
    Some(Inclusion {
        hash,
        block_number: receipt.block_number?,
        block_hash: receipt.block_hash?,
        succeeded: receipt.inner.status(),
        gas_used: receipt.gas_used,
        contract: receipt.contract_address,
        logs: receipt.inner.logs().to_vec(),
    })
}
