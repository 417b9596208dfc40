//! The first block: who has money, and what every header of this chain has in common.
//!
//! Deliberately knows nothing of how it is stored.

use alloy_consensus::constants::EMPTY_WITHDRAWALS;
use alloy_consensus::{Header, Sealed};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::B256;

use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::state::{Changes, Nothing};
use crate::store::{BlockCommit, BlockRow, StoreError};

/// Fields that Prague demands and that are constant on a chain without a beacon chain.
pub(crate) fn header() -> Header {
    Header {
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// Block zero.
pub(crate) fn block(configuration: &Configuration, clock: &Clock) -> Result<BlockCommit, StoreError> {
    let mut changes = Changes::default();
    for (address, balance) in &configuration.accounts {
        changes.fund(*address, *balance);
    }
    let applied = changes.apply(&Nothing)?;
    let header = Header {
        state_root: applied.root,
        gas_limit: configuration.gas_limit,
        base_fee_per_gas: Some(configuration.base_fee_wei),
        timestamp: clock.unix_seconds(),
        // Two chains of the same configuration and second are still two chains only by what follows.
        extra_data: configuration.chain_id.to_be_bytes().to_vec().into(),
        ..header()
    };
    Ok(BlockCommit {
        header: Sealed::new(header),
        body: BlockRow::default(),
        nodes: applied.rows,
        code: applied.code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, U256};
    use alloy_trie::{TrieAccount, root};

    #[test]
    fn the_root_is_what_others_compute() {
        let accounts: Vec<_> =
            (1..40).map(|i| (Address::repeat_byte(i), U256::from(i) << usize::from(i))).collect();
        let configuration = Configuration { accounts: accounts.clone(), ..Configuration::default() };
        let block = block(&configuration, &Clock::System).unwrap();
        let others = accounts
            .into_iter()
            .map(|(address, balance)| (address, TrieAccount { balance, ..TrieAccount::default() }));
        assert_eq!(block.header.state_root, root::state_root_unhashed(others));
    }
}
