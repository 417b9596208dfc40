//! Transactions: sent, waiting, in blocks.

use alloy_primitives::{B256, Bytes};

use super::blocks::body;
use super::failure::Failure;
use super::params::Params;
use super::{Answer, Session, answer, header, shapes};
use crate::execution::SignedTransaction;
use crate::pool::PoolError;

impl Session<'_> {
    pub(super) fn send_raw_transaction(&self, params: &Params<'_>) -> Answer {
        let encoded: Bytes = params.required(0, "transaction")?;
        match self.chain.submit(&encoded) {
            Ok(hash) => answer(&hash),
            Err(PoolError::Unavailable) => Err(Failure::internal(&PoolError::Unavailable)),
            Err(refused) => Err(Failure::server(refused.to_string())),
        }
    }

    pub(super) fn transaction_by_hash(&self, params: &Params<'_>) -> Answer {
        let hash: B256 = params.required(0, "hash")?;
        // Asked for first, so that a transaction is never in neither place.
        let waiting = self.chain.waiting_transaction(hash);
        let snapshot = self.snapshot()?;
        let Some((number, index)) = snapshot.transaction(hash)? else {
            return answer(&waiting.map(|waiting| shapes::transaction(waiting, None)));
        };
        let (header, body) = (header(&snapshot, number)?, body(&snapshot, number)?);
        let row =
            body.transactions.get(index).ok_or_else(|| Failure::internal(&"a transaction is missing"))?;
        answer(&shapes::transaction(SignedTransaction::from_row(row)?, Some((&header, index))))
    }

    pub(super) fn transaction_receipt(&self, params: &Params<'_>) -> Answer {
        let hash: B256 = params.required(0, "hash")?;
        let snapshot = self.snapshot()?;
        let Some((number, index)) = snapshot.transaction(hash)? else { return answer(&()) };
        let (header, body) = (header(&snapshot, number)?, body(&snapshot, number)?);
        if index >= body.transactions.len().min(body.receipts.len()) {
            return Err(Failure::internal(&"a receipt is missing"));
        }
        answer(&shapes::receipt(&header, &body, index)?)
    }
}
