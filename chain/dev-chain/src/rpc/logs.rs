//! Logs by filter.
//!
//! Invariant: blocks looked at and logs returned are bounded; who asks for more is told how much he may.

use alloy_rpc_types_eth::{self as rpc, Filter, FilterBlockOption};

use super::blocks::body;
use super::failure::Failure;
use super::params::Params;
use super::{Answer, Session, answer, header, shapes};
use crate::store::Snapshot;

/// What a log takes in JSON beside its data, about.
const LOG_FRAME_BYTES: usize = 700;

impl Session<'_> {
    pub(super) fn logs(&mut self, params: &Params<'_>) -> Answer {
        let filter: Filter = params.required(0, "filter")?;
        let snapshot = self.snapshot()?;
        let (from, to) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let number = snapshot.number(hash)?.ok_or_else(|| Failure::server("unknown block"))?;
                (number, number)
            }
            FilterBlockOption::Range { from_block, to_block } => {
                let number = |block: Option<_>| match block {
                    Some(block) => self.number(&snapshot, rpc::BlockId::Number(block)),
                    None => Ok(Some(snapshot.at())),
                };
                // A range that begins after the head has no logs yet; one that ends after it ends there.
                let Some(from) = number(from_block)? else { return answer(&[(); 0]) };
                (from, number(to_block)?.unwrap_or_else(|| snapshot.at()))
            }
        };
        if from > to {
            return Err(Failure::invalid_params("the range ends before it begins"));
        }
        answer(&self.matching(&snapshot, &filter, from, to)?)
    }

    fn matching(
        &mut self,
        snapshot: &Snapshot,
        filter: &Filter,
        from: u64,
        to: u64,
    ) -> Result<Vec<rpc::Log>, Failure> {
        let limits = self.chain.configuration().rpc;
        if to - from >= limits.log_blocks_max {
            return Err(Failure::limit(format!("at most {} blocks a query", limits.log_blocks_max)));
        }
        self.look_at_blocks(to - from + 1)?;
        let mut found: Vec<rpc::Log> = Vec::new();
        let mut bytes = 0;
        for number in from..=to {
            let header = header(snapshot, number)?;
            if header.logs_bloom.is_zero() || !filter.matches_bloom(header.logs_bloom) {
                continue;
            }
            let body = body(snapshot, number)?;
            for index in 0..body.receipts.len() {
                let logs = shapes::logs(&header, &body, index);
                for log in logs.into_iter().filter(|log| filter.matches(&log.inner)) {
                    bytes += LOG_FRAME_BYTES + 2 * log.inner.data.data.len();
                    found.push(log);
                }
                if found.len() > limits.logs_max || bytes > self.bytes_left {
                    return Err(Failure::limit(format!(
                        "more than {} logs: ask for fewer blocks",
                        limits.logs_max
                    )));
                }
            }
        }
        Ok(found)
    }
}
