//! What a request is answered when it cannot be served.
//!
//! Codes: JSON-RPC's own, EIP-1474's `-32005` for limits, and `3` with data for reverts, as Ethereum's nodes do.

use std::fmt::Display;

use alloy_primitives::Bytes;
use serde::Serialize;

use crate::store::StoreError;

/// A JSON-RPC error.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    code: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Bytes>,
}

impl Failure {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn parse(error: &impl Display) -> Self {
        Self::new(-32700, format!("parse error: {error}"))
    }

    pub(super) fn invalid_request(why: &str) -> Self {
        Self::new(-32600, format!("invalid request: {why}"))
    }

    pub(super) fn method_not_found(method: &str) -> Self {
        let shown: String = method.chars().take(64).collect();
        Self::new(-32601, format!("the method {shown} does not exist or is not available"))
    }

    pub(super) fn invalid_params(why: impl Display) -> Self {
        Self::new(-32602, format!("invalid params: {why}"))
    }

    pub(super) fn limit(why: impl Into<String>) -> Self {
        Self::new(-32005, why)
    }

    /// What nodes answer with their catch-all code; clients read the words.
    pub(super) fn server(why: impl Into<String>) -> Self {
        Self::new(-32000, why)
    }

    pub(super) fn reverted(output: &Bytes) -> Self {
        let message = match reason(output) {
            Some(reason) => format!("execution reverted: {reason}"),
            None => "execution reverted".to_owned(),
        };
        Self { code: 3, message, data: Some(output.clone()) }
    }

    /// Whether it says that the call itself cannot be, as against this node or a limit.
    pub(super) fn is_about_the_transaction(&self) -> bool {
        self.code == -32000
    }

    /// Detail stays in the log.
    pub(super) fn internal(error: &impl Display) -> Self {
        tracing::error!(%error, "dev chain: a request failed");
        Self::new(-32603, "internal error")
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

/// The text of Solidity's `Error(string)`.
fn reason(output: &[u8]) -> Option<String> {
    const ERROR_STRING: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
    let arguments = output.strip_prefix(&ERROR_STRING)?;
    let (offset, rest) = arguments.split_at_checked(32)?;
    let (length, text) = rest.split_at_checked(32)?;
    let word = |word: &[u8]| {
        let (high, low) = word.split_at(24);
        let low = u64::from_be_bytes(low.try_into().ok()?);
        high.iter().all(|byte| *byte == 0).then_some(low)
    };
    if word(offset)? != 32 {
        return None;
    }
    let text = text.get(..usize::try_from(word(length)?).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn the_reason_is_read_and_hostile_output_is_not() {
        let good = hex!(
            "08c379a0" "0000000000000000000000000000000000000000000000000000000000000020"
            "0000000000000000000000000000000000000000000000000000000000000002"
            "6e6f000000000000000000000000000000000000000000000000000000000000");
        assert_eq!(reason(&good).as_deref(), Some("no"));
        for length in 0..good.len() - 30 {
            assert_eq!(reason(&good[..length]), None);
        }
        let mut huge = good;
        huge[36..68].fill(0xff);
        assert_eq!(reason(&huge), None);
    }
}
