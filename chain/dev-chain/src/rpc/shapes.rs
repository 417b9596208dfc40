//! From rows to what JSON-RPC shows.
//!
//! Deliberately knows nothing of parameters.

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, ReceiptEnvelope, Sealed, Transaction as _};
use alloy_primitives::U256;
use alloy_rlp::Encodable as _;
use alloy_rpc_types_eth as rpc;

use super::failure::Failure;
use crate::execution::{self, SignedTransaction};
use crate::store::{BlockRow, StoreError};

/// A transaction; `place` is its block and index unless it waits.
pub(super) fn transaction(
    signed: SignedTransaction,
    place: Option<(&Sealed<Header>, usize)>,
) -> rpc::Transaction {
    let header = place.map(|(header, _)| header);
    rpc::Transaction {
        effective_gas_price: header
            .map(|header| signed.envelope.effective_gas_price(header.base_fee_per_gas)),
        inner: Recovered::new_unchecked(signed.envelope, signed.sender),
        block_hash: header.map(|header| header.hash()),
        block_number: header.map(|header| header.number),
        transaction_index: place.map(|(_, index)| index as u64),
        block_timestamp: header.map(|header| header.timestamp),
    }
}

/// A whole block, with transactions or only their hashes.
pub(super) fn block(header: Sealed<Header>, body: &BlockRow, full: bool) -> Result<rpc::Block, Failure> {
    let mut bytes = header.inner().length();
    let mut transactions = rpc::BlockTransactions::Hashes(Vec::new());
    bytes += body.transactions.iter().map(|row| row.encoded.len()).sum::<usize>();
    if full {
        let all = body.transactions.iter().enumerate().map(|(index, row)| {
            Ok::<_, StoreError>(transaction(SignedTransaction::from_row(row)?, Some((&header, index))))
        });
        transactions = rpc::BlockTransactions::Full(all.collect::<Result<_, _>>()?);
    } else if let rpc::BlockTransactions::Hashes(hashes) = &mut transactions {
        hashes.extend(body.transactions.iter().map(|row| row.hash));
    }
    let mut header = rpc::Header::from_sealed(header);
    header.size = Some(U256::from(bytes));
    Ok(rpc::Block { header, uncles: Vec::new(), transactions, withdrawals: Some(Default::default()) })
}

/// Logs of one transaction, in order.
pub(super) fn logs(header: &Sealed<Header>, body: &BlockRow, index: usize) -> Vec<rpc::Log> {
    let Some((row, transaction)) = body.receipts.get(index).zip(body.transactions.get(index)) else {
        return Vec::new();
    };
    let before: usize = body.receipts[..index].iter().map(|receipt| receipt.logs.len()).sum();
    row.logs
        .iter()
        .enumerate()
        .map(|(at, log)| rpc::Log {
            inner: log.clone(),
            block_hash: Some(header.hash()),
            block_number: Some(header.number),
            block_timestamp: Some(header.timestamp),
            transaction_hash: Some(transaction.hash),
            transaction_index: Some(index as u64),
            log_index: Some((before + at) as u64),
            removed: false,
        })
        .collect()
}

/// The receipt of one transaction; it is there.
pub(super) fn receipt(
    header: &Sealed<Header>,
    body: &BlockRow,
    index: usize,
) -> Result<rpc::TransactionReceipt<ReceiptEnvelope<rpc::Log>>, Failure> {
    let (row, transaction) = (&body.receipts[index], &body.transactions[index]);
    let signed = SignedTransaction::from_row(transaction)?;
    let kind = signed.envelope.tx_type();
    Ok(rpc::TransactionReceipt {
        inner: execution::receipt_envelope(kind, row, logs(header, body, index)),
        transaction_hash: transaction.hash,
        transaction_index: Some(index as u64),
        block_hash: Some(header.hash()),
        block_number: Some(header.number),
        gas_used: row.gas_used,
        effective_gas_price: row.effective_gas_price,
        blob_gas_used: None,
        blob_gas_price: None,
        from: transaction.sender,
        to: signed.envelope.to(),
        contract_address: (!row.created.is_zero()).then_some(row.created),
    })
}
