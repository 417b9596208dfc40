//! What gas costs, now and in blocks before.

use alloy_consensus::Transaction as _;
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{U64, U256};
use alloy_rpc_types_eth::FeeHistory;

use super::blocks::body;
use super::failure::Failure;
use super::params::Params;
use super::{Answer, Session, answer, header};
use crate::execution::{self, SignedTransaction};
use crate::store::Snapshot;

/// Blocks of one fee history.
const HISTORY_BLOCKS_MAX: u64 = 1024;
/// Percentiles of one fee history.
const PERCENTILES_MAX: usize = 100;
/// The tip that wallets are told to give: there is one producer and no competition, but replacing a transaction
/// needs a tip to raise.
const TIP_WEI: u64 = 1_000_000;

impl Session<'_> {
    pub(super) fn gas_price(&self) -> Answer {
        // An estimate runs under the head's base fee, the transaction under the next: enough for both.
        let head = self.chain.head();
        let base_fee = execution::next_base_fee(&head).max(head.base_fee_per_gas.unwrap_or_default());
        answer(&U256::from(base_fee.saturating_add(TIP_WEI)))
    }

    pub(super) fn priority_fee(&self) -> Answer {
        answer(&U64::from(TIP_WEI))
    }

    pub(super) fn fee_history(&mut self, params: &Params<'_>) -> Answer {
        let count: U64 = params.required(0, "block count")?;
        let newest: BlockNumberOrTag = params.required(1, "newest block")?;
        let percentiles: Option<Vec<f64>> = params.optional(2, "percentiles")?;
        if let Some(percentiles) = &percentiles {
            let in_order = percentiles.is_sorted() && percentiles.iter().all(|at| (0.0..=100.0).contains(at));
            if !in_order || percentiles.len() > PERCENTILES_MAX {
                return Err(Failure::invalid_params(
                    "percentiles are at most 100 numbers from 0 to 100, rising",
                ));
            }
        }
        let snapshot = self.snapshot()?;
        let newest = self.number(&snapshot, newest.into())?;
        let newest = newest.ok_or_else(|| Failure::server("request beyond head block"))?;
        let count = count.to::<u64>().min(HISTORY_BLOCKS_MAX).min(newest + 1);
        if count == 0 {
            return answer(&FeeHistory::default());
        }
        self.look_at_blocks(count)?;
        let mut history = FeeHistory {
            oldest_block: newest + 1 - count,
            reward: percentiles.as_ref().map(|_| Vec::new()),
            ..FeeHistory::default()
        };
        for number in history.oldest_block..=newest {
            let header = header(&snapshot, number)?;
            let base_fee = header.base_fee_per_gas.unwrap_or_default();
            history.base_fee_per_gas.push(base_fee.into());
            history.gas_used_ratio.push(header.gas_used as f64 / header.gas_limit as f64);
            history.base_fee_per_blob_gas.push(1);
            history.blob_gas_used_ratio.push(0.0);
            if let (Some(percentiles), Some(rewards)) = (&percentiles, &mut history.reward) {
                rewards.push(tips(&snapshot, number, base_fee, header.gas_used, percentiles)?);
            }
            if number == newest {
                history.base_fee_per_gas.push(execution::next_base_fee(&header).into());
                history.base_fee_per_blob_gas.push(1);
            }
        }
        answer(&history)
    }
}

/// Tips of a block at percentiles of its gas.
fn tips(
    snapshot: &Snapshot,
    number: u64,
    base_fee: u64,
    gas_used: u64,
    percentiles: &[f64],
) -> Result<Vec<u128>, Failure> {
    if gas_used == 0 {
        return Ok(vec![0; percentiles.len()]);
    }
    let body = body(snapshot, number)?;
    let mut tips: Vec<(u128, u64)> = Vec::with_capacity(body.transactions.len());
    for (row, receipt) in body.transactions.iter().zip(&body.receipts) {
        let tip = SignedTransaction::from_row(row)?.envelope.effective_tip_per_gas(base_fee);
        tips.push((tip.unwrap_or_default(), receipt.gas_used));
    }
    tips.sort_unstable();
    let at = |percentile: &f64| {
        let wanted = gas_used as f64 * percentile / 100.0;
        let mut sum = 0.0;
        let found = tips.iter().find(|(_, gas)| {
            sum += *gas as f64;
            sum >= wanted
        });
        found.or(tips.last()).map_or(0, |(tip, _)| *tip)
    };
    Ok(percentiles.iter().map(at).collect())
}
