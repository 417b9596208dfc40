//! Blocks and their receipts.

use alloy_consensus::ReceiptEnvelope;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{B256, U64};
use alloy_rpc_types_eth as rpc;

use super::failure::Failure;
use super::params::Params;
use super::{Answer, Session, answer, header, shapes};
use crate::store::{BlockRow, Snapshot};

impl Session<'_> {
    pub(super) fn block_by_number(&self, params: &Params<'_>) -> Answer {
        self.block(params.required::<BlockNumberOrTag>(0, "block")?.into(), params)
    }

    pub(super) fn block_by_hash(&self, params: &Params<'_>) -> Answer {
        self.block(params.required::<B256>(0, "hash")?.into(), params)
    }

    fn block(&self, block: BlockId, params: &Params<'_>) -> Answer {
        let full = params.optional::<bool>(1, "full")?.unwrap_or(false);
        let snapshot = self.snapshot()?;
        let Some(number) = self.number(&snapshot, block)? else { return answer(&()) };
        let header = header(&snapshot, number)?;
        answer(&shapes::block(header, &body(&snapshot, number)?, full)?)
    }

    pub(super) fn block_receipts(&self, params: &Params<'_>) -> Answer {
        let snapshot = self.snapshot()?;
        let Some(number) = self.number(&snapshot, params.required(0, "block")?)? else { return answer(&()) };
        let (header, body) = (header(&snapshot, number)?, body(&snapshot, number)?);
        let receipts: Vec<rpc::TransactionReceipt<ReceiptEnvelope<rpc::Log>>> = (0..body.transactions.len())
            .map(|index| shapes::receipt(&header, &body, index))
            .collect::<Result<_, _>>()?;
        answer(&receipts)
    }

    pub(super) fn block_transaction_count(&self, params: &Params<'_>) -> Answer {
        let snapshot = self.snapshot()?;
        let Some(number) = self.number(&snapshot, params.required(0, "block")?)? else { return answer(&()) };
        answer(&U64::from(body(&snapshot, number)?.transactions.len()))
    }
}

/// The body of a block that is there.
pub(super) fn body(snapshot: &Snapshot, number: u64) -> Result<BlockRow, Failure> {
    snapshot.body(number)?.ok_or_else(|| Failure::internal(&"a body is missing"))
}
