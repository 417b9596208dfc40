//! Transactions that wait for a block.
//!
//! Invariant: bounded in number, per sender and in bytes; of one sender's nonce there is one, and another takes its
//! place only for a tenth more of both fees, so replacing costs. A sender with too many waiting gives up its last
//! nonce for an earlier one, so that a gap can always be filled. In memory: who sent a transaction keeps it until
//! it has a receipt. Deliberately knows nothing of state beyond the nonces it is told.

use std::collections::{BTreeMap, HashMap};

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, U256};

use crate::configuration::PoolLimits;
use crate::execution::SignedTransaction;

/// Why a transaction was not taken; the words are those that clients of other nodes know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It waits already.
    #[error("already known")]
    AlreadyKnown,
    /// The account has used this nonce.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// Another with this nonce waits and pays too much to be replaced by this one.
    #[error("replacement transaction underpriced")]
    Underpriced,
    /// The account could not pay.
    #[error("insufficient funds for gas * price + value: address {sender} have {have} want {want}")]
    InsufficientFunds {
        /// Who would pay.
        sender: Address,
        /// Balance in wei.
        have: U256,
        /// The most that it may cost, in wei.
        want: U256,
    },
    /// No room.
    #[error("txpool is full")]
    Full,
    /// The sender has too many waiting.
    #[error("too many transactions of {sender} wait, {limit} may")]
    SenderFull {
        /// Whose.
        sender: Address,
        /// How many may.
        limit: usize,
    },
    /// More bytes than one may have.
    #[error("oversized data: transaction size {bytes}, limit {limit}")]
    Oversized {
        /// Its size.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// Not a signed transaction of a kind that this chain takes.
    #[error("{0}")]
    Invalid(String),
    /// The chain cannot answer; the log says why.
    #[error("the chain is out of order")]
    Unavailable,
}

/// What waits.
pub(crate) struct Pool {
    limits: PoolLimits,
    by_sender: BTreeMap<Address, BTreeMap<u64, SignedTransaction>>,
    by_hash: HashMap<B256, (Address, u64)>,
    bytes: usize,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self { limits, by_sender: BTreeMap::new(), by_hash: HashMap::new(), bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(crate) fn get(&self, hash: B256) -> Option<&SignedTransaction> {
        let (sender, nonce) = self.by_hash.get(&hash)?;
        self.by_sender.get(sender)?.get(nonce)
    }

    /// Takes a transaction whose static checks passed; `next` and `balance` are its sender's at the head.
    pub(crate) fn add(
        &mut self,
        transaction: SignedTransaction,
        next: u64,
        balance: U256,
    ) -> Result<B256, PoolError> {
        let (hash, sender, nonce) = (transaction.hash(), transaction.sender, transaction.envelope.nonce());
        let bytes = transaction.encoded.len();
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        if nonce < next {
            return Err(PoolError::NonceTooLow { next, nonce });
        }
        let want = cost_max(&transaction);
        if want > balance {
            return Err(PoolError::InsufficientFunds { sender, have: balance, want });
        }
        let of_sender = self.by_sender.entry(sender).or_default();
        let replaced = of_sender.get(&nonce).map(|old| (old.hash(), old.encoded.len()));
        let full = of_sender.len() >= self.limits.per_sender_max;
        let last = of_sender.last_key_value().map(|(last, tx)| (*last, tx.hash()));
        let gives_way = last.filter(|(last, _)| full && replaced.is_none() && nonce < *last);
        let refused = match of_sender.get(&nonce) {
            Some(old) if !outbids(&transaction, old) => Some(PoolError::Underpriced),
            Some(_) => None,
            None if full && gives_way.is_none() => {
                Some(PoolError::SenderFull { sender, limit: self.limits.per_sender_max })
            }
            None if gives_way.is_none() && self.by_hash.len() >= self.limits.transactions_max => {
                Some(PoolError::Full)
            }
            None => None,
        };
        let bytes_after = self.bytes + bytes - replaced.map_or(0, |(_, bytes)| bytes);
        let refused = refused.or_else(|| (bytes_after > self.limits.bytes_max).then_some(PoolError::Full));
        if let Some(refused) = refused {
            if of_sender.is_empty() {
                self.by_sender.remove(&sender);
            }
            return Err(refused);
        }
        if let Some((old, _)) = replaced {
            self.by_hash.remove(&old);
        }
        of_sender.insert(nonce, transaction);
        self.by_hash.insert(hash, (sender, nonce));
        self.bytes = bytes_after;
        if let Some((_, last)) = gives_way {
            self.remove(last);
        }
        Ok(hash)
    }

    /// The nonce after the last that follows `next` without a gap.
    pub(crate) fn pending_nonce(&self, sender: Address, next: u64) -> u64 {
        let waiting = self.by_sender.get(&sender);
        (next..).find(|nonce| waiting.is_none_or(|waiting| !waiting.contains_key(nonce))).unwrap_or(next)
    }

    /// What can go into a block of this base fee, dearest first, each sender's in the order of nonces.
    pub(crate) fn candidates(
        &self,
        base_fee: u64,
        mut next: impl FnMut(Address) -> u64,
    ) -> Vec<SignedTransaction> {
        let mut ready: Vec<(u128, usize, Vec<&SignedTransaction>)> = Vec::new();
        for (order, (sender, waiting)) in self.by_sender.iter().enumerate() {
            let first = next(*sender);
            let run: Vec<_> = (first..)
                .map_while(|nonce| waiting.get(&nonce))
                .take_while(|tx| tx.envelope.max_fee_per_gas() >= u128::from(base_fee))
                .collect();
            if let Some(head) = run.first() {
                let tip = head.envelope.effective_tip_per_gas(base_fee).unwrap_or_default();
                ready.push((tip, order, run));
            }
        }
        ready.sort_by_key(|(tip, order, _)| (std::cmp::Reverse(*tip), *order));
        ready.into_iter().flat_map(|(_, _, run)| run).cloned().collect()
    }

    pub(crate) fn remove(&mut self, hash: B256) {
        let Some((sender, nonce)) = self.by_hash.remove(&hash) else { return };
        if let Some(waiting) = self.by_sender.get_mut(&sender) {
            if let Some(gone) = waiting.remove(&nonce) {
                self.bytes -= gone.encoded.len();
            }
            if waiting.is_empty() {
                self.by_sender.remove(&sender);
            }
        }
    }

    /// Takes away what `sender` can never send any more, now that `next` is its nonce.
    pub(crate) fn advance(&mut self, sender: Address, next: u64) {
        let Some(waiting) = self.by_sender.get(&sender) else { return };
        let stale: Vec<B256> = waiting.range(..next).map(|(_, tx)| tx.hash()).collect();
        for hash in stale {
            self.remove(hash);
        }
    }
}

/// The most wei that it may take from its sender.
fn cost_max(transaction: &SignedTransaction) -> U256 {
    let tx = &transaction.envelope;
    let gas = U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas()));
    gas.saturating_add(tx.value())
}

fn outbids(new: &SignedTransaction, old: &SignedTransaction) -> bool {
    let tenth_more = |fee: u128| fee.saturating_add(fee.div_ceil(10).max(1));
    let tip = |tx: &SignedTransaction| tx.envelope.priority_fee_or_price();
    new.envelope.max_fee_per_gas() >= tenth_more(old.envelope.max_fee_per_gas())
        && tip(new) >= tenth_more(tip(old))
}
