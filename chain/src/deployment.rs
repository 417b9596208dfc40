//! Puts contracts on a chain, once each.
//!
//! Invariant: a deployment is an intent like any other, so a crash in the middle of it does not deploy twice. The
//! address follows from sender and nonce. Deliberately knows nothing of what a contract does.

use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, hex, keccak256};
use serde::Deserialize;

use crate::endpoints::AskError;
use crate::sender::{Call, Inclusion, SenderError, TransactionSender};

/// A compiled contract: `chain/artifacts/*.json`, or what `forge` and `solc` write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Creation code without arguments.
    pub creation_code: Bytes,
    /// What will lie on the chain, where the artifact says; immutables are zero in it.
    pub runtime_code: Option<Bytes>,
}

/// Why a file is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not JSON with `bytecode`.
    #[error("no artifact: {0}")]
    Json(#[from] serde_json::Error),
    /// The code is not hex, or libraries are missing in it.
    #[error("no artifact: code is not hex (are libraries linked?)")]
    Hex,
    /// An interface.
    #[error("no artifact: there is no code in it")]
    Empty,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawArtifact {
    bytecode: Code,
    deployed_bytecode: Option<Code>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Plain(String),
    Object { object: String },
}

impl Code {
    fn bytes(&self) -> Result<Bytes, ArtifactError> {
        let (Self::Plain(text) | Self::Object { object: text }) = self;
        hex::decode(text).map(Bytes::from).map_err(|_| ArtifactError::Hex)
    }
}

impl Artifact {
    /// From an artifact's JSON.
    pub fn parse(json: &str) -> Result<Self, ArtifactError> {
        let raw: RawArtifact = serde_json::from_str(json)?;
        let creation_code = raw.bytecode.bytes()?;
        if creation_code.is_empty() {
            return Err(ArtifactError::Empty);
        }
        Ok(Self { creation_code, runtime_code: raw.deployed_bytecode.map(|code| code.bytes()).transpose()? })
    }

    /// The call that creates it; `arguments` are ABI-encoded.
    pub fn deploy(&self, arguments: &[u8]) -> Call {
        Call::create([self.creation_code.as_ref(), arguments].concat().into())
    }
}

/// A contract on the chain.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Where.
    pub address: Address,
    /// keccak256 of its code.
    pub code_hash: B256,
    /// In which block.
    pub inclusion: Inclusion,
}

/// Why a contract was not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Its transaction was not sent.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The chain could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Its constructor failed.
    #[error("the constructor reverted in transaction {0}")]
    Reverted(B256),
    /// The receipt names another address than nonce and sender give, or there is no code.
    #[error("transaction {0} left no contract where it should be")]
    NoContract(B256),
}

/// Deploys under the idempotency key `id` and waits for `depth` blocks. Asked again, finds what it deployed, as long as
/// the intent is not forgotten.
pub async fn deploy(
    sender: &TransactionSender,
    id: B256,
    call: &Call,
    depth: u64,
    poll: Duration,
) -> Result<Deployed, DeployError> {
    let sent = sender.send(id, call).await?;
    let inclusion = sender.wait(id, depth, poll).await?;
    if !inclusion.succeeded {
        return Err(DeployError::Reverted(inclusion.hash));
    }
    let address = sender.address().create(sent.nonce);
    let block = BlockId::from(inclusion.block_number);
    let code = sender.endpoints().any(|endpoint| endpoint.code(address, block)).await?;
    if code.is_empty() || inclusion.contract.is_some_and(|told| told != address) {
        return Err(DeployError::NoContract(inclusion.hash));
    }
    Ok(Deployed { address, code_hash: keccak256(&code), inclusion })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_of_both_shapes_are_read() {
        let plain = r#"{"abi":[],"bytecode":"0x6001","deployedBytecode":"0x60"}"#;
        let object =
            r#"{"bytecode":{"object":"6001","linkReferences":{}},"deployedBytecode":{"object":"60"}}"#;
        for json in [plain, object] {
            let artifact = Artifact::parse(json).unwrap();
            assert_eq!(artifact.creation_code.as_ref(), [0x60, 1]);
            assert_eq!(artifact.runtime_code, Some(Bytes::from_static(&[0x60])));
            assert_eq!(artifact.deploy(&[7]).data.as_ref(), [0x60, 1, 7]);
        }
        assert!(matches!(Artifact::parse(r#"{"bytecode":"0x__$lib$__"}"#), Err(ArtifactError::Hex)));
        assert!(matches!(Artifact::parse(r#"{"bytecode":"0x"}"#), Err(ArtifactError::Empty)));
        assert!(matches!(Artifact::parse("{}"), Err(ArtifactError::Json(_))));
    }
}
