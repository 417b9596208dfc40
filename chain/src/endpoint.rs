//! One JSON-RPC endpoint, with the requests that Ashlar makes, typed.
//!
//! Invariant: an answer is checked for shape only; whoever needs more than this endpoint's word asks several
//! ([`crate::Endpoints`]) or checks proofs ([`crate::light`]). Deliberately knows no contract.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_json_rpc::{RpcRecv, RpcSend};
use alloy_primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy_rpc_client::RpcClient;
use alloy_rpc_types_eth::{
    EIP1186AccountProofResponse, FeeHistory, Filter, Header, Log, TransactionReceipt, TransactionRequest,
};
use alloy_transport::TransportError;
use reqwest::Url;

use crate::transport::{BoundedHttp, EndpointLimits};

/// Why an endpoint did not give an answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RpcError {
    /// It was not reached in time, or what it said was not an answer.
    #[error("chain endpoint {endpoint}: {why}")]
    Unavailable {
        /// Host and port.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// It answered with an error.
    #[error("chain endpoint {endpoint} refused: {message} (code {code})")]
    Refused {
        /// Host and port.
        endpoint: String,
        /// JSON-RPC's code.
        code: i64,
        /// Its words.
        message: String,
        /// What a reverted call returned.
        data: Option<Bytes>,
    },
}

impl RpcError {
    /// Whether another endpoint might answer: it is not about the question.
    pub fn is_about_the_endpoint(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            // Limits of a plan, internal errors, methods that this one does not have.
            Self::Refused { code, .. } => matches!(code, -32005 | -32603 | -32601 | -32016 | 429),
        }
    }
}

/// A block's header as an endpoint tells it; nothing of it is checked.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct ToldBlock {
    /// The header with the hash it is said to have.
    #[serde(flatten)]
    pub header: Header,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    name: String,
    client: RpcClient,
}

impl Endpoint {
    /// `url` is `http:` or `https:`. Nothing is sent yet.
    pub fn new(url: &str, limits: EndpointLimits) -> Result<Self, EndpointError> {
        let bad = |why: String| EndpointError { url: redacted(url), why };
        let url = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("only http and https are spoken".to_owned()));
        }
        let host = url.host_str().ok_or_else(|| bad("there is no host".to_owned()))?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("{host}{port}");
        let transport = BoundedHttp::new(url, limits).map_err(|error| bad(error.to_string()))?;
        Ok(Self { name, client: RpcClient::new(transport, true) })
    }

    /// Host and port, for people: the rest of the URL may hold a key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Any request.
    pub async fn request<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, RpcError> {
        self.client.request(method, params).await.map_err(|error| self.told(error))
    }

    fn told(&self, error: TransportError) -> RpcError {
        let endpoint = self.name.clone();
        match error {
            TransportError::ErrorResp(payload) => {
                let data = payload.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok());
                let message = payload.message.chars().take(500).collect();
                RpcError::Refused { endpoint, code: payload.code, message, data }
            }
            other => RpcError::Unavailable { endpoint, why: other.to_string().chars().take(500).collect() },
        }
    }

    /// EIP-155 chain id.
    pub async fn chain_id(&self) -> Result<u64, RpcError> {
        Ok(self.request::<_, U64>("eth_chainId", ()).await?.to())
    }

    /// Number of its head.
    pub async fn block_number(&self) -> Result<u64, RpcError> {
        Ok(self.request::<_, U64>("eth_blockNumber", ()).await?.to())
    }

    /// Header of a block, if it has one there.
    pub async fn header(&self, block: BlockId) -> Result<Option<Header>, RpcError> {
        let found: Option<ToldBlock> = match block {
            BlockId::Hash(hash) => self.request("eth_getBlockByHash", (hash.block_hash, false)).await?,
            BlockId::Number(number) => self.request("eth_getBlockByNumber", (number, false)).await?,
        };
        Ok(found.map(|block| block.header))
    }

    /// Wei of an account at its head.
    pub async fn balance(&self, address: Address) -> Result<U256, RpcError> {
        self.request("eth_getBalance", (address, BlockNumberOrTag::Latest)).await
    }

    /// Nonce of an account's next transaction at a block.
    pub async fn transaction_count(&self, address: Address, block: BlockId) -> Result<u64, RpcError> {
        Ok(self.request::<_, U64>("eth_getTransactionCount", (address, block)).await?.to())
    }

    /// Code of a contract.
    pub async fn code(&self, address: Address, block: BlockId) -> Result<Bytes, RpcError> {
        self.request("eth_getCode", (address, block)).await
    }

    /// What a call returns.
    pub async fn call(&self, call: &TransactionRequest, block: BlockId) -> Result<Bytes, RpcError> {
        self.request("eth_call", (call, block)).await
    }

    /// Gas that a transaction needs on top of the head.
    pub async fn estimate_gas(&self, call: &TransactionRequest) -> Result<u64, RpcError> {
        Ok(self.request::<_, U64>("eth_estimateGas", (call,)).await?.to())
    }

    /// Hands in a signed transaction; its hash.
    pub async fn send_raw_transaction(&self, encoded: &Bytes) -> Result<B256, RpcError> {
        self.request("eth_sendRawTransaction", (encoded,)).await
    }

    /// Receipt of a transaction that is in a block of its chain.
    pub async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, RpcError> {
        self.request("eth_getTransactionReceipt", (hash,)).await
    }

    /// Logs by filter.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, RpcError> {
        self.request("eth_getLogs", (filter,)).await
    }

    /// Proof of an account and some of its slots.
    pub async fn proof(
        &self,
        address: Address,
        slots: &[B256],
        block: BlockId,
    ) -> Result<EIP1186AccountProofResponse, RpcError> {
        self.request("eth_getProof", (address, slots, block)).await
    }

    /// Tip that it suggests, in wei.
    pub async fn priority_fee(&self) -> Result<u128, RpcError> {
        Ok(self.request::<_, U128>("eth_maxPriorityFeePerGas", ()).await?.to())
    }

    /// Base fees of the last `blocks` blocks and of the next.
    pub async fn fee_history(&self, blocks: u64) -> Result<FeeHistory, RpcError> {
        self.request("eth_feeHistory", (U64::from(blocks), BlockNumberOrTag::Latest, [0f64; 0])).await
    }
}

/// A URL that is none for an endpoint.
#[derive(Clone, Debug, thiserror::Error)]
#[error("chain endpoint {url:?}: {why}")]
pub struct EndpointError {
    /// Without what might be a key.
    pub url: String,
    /// Why not.
    pub why: String,
}

/// Scheme and host of what may be a URL with a key in it.
fn redacted(url: &str) -> String {
    let end = url.find("://").map_or(0, |at| at + 3);
    let host = url[end..].find(['/', '?', '#']).map_or(url.len(), |at| end + at);
    let shown = url[end..host].rsplit('@').next().unwrap_or_default();
    format!("{}{shown}", &url[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_urls_are_never_shown() {
        let good =
            Endpoint::new("https://user:pass@rpc.example:8443/v3/secret?k=secret", EndpointLimits::default());
        let good = good.unwrap();
        assert_eq!(good.name(), "rpc.example:8443");
        assert!(!format!("{:?}", good.name()).contains("secret"));
        for bad in ["ftp://user:pass@host/secret", "https://user:pass@ho st/secret", "secret/"] {
            let error = Endpoint::new(bad, EndpointLimits::default()).unwrap_err().to_string();
            assert!(!error.contains("pass") && (bad == "secret/" || !error.contains("secret")), "{error}");
        }
    }
}
