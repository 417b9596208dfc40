//! Who is at the other end of a link, proven by both sides before anything else is said (docs/formats/link.md §2).
//!
//! ```text
//! gateway  → provider   version u16 ‖ chain id u64 ‖ market 20 ‖ gateway 20 ‖ nonce 32                 82 bytes
//! provider → gateway    version u16 ‖ provider 20 ‖ nonce 32 ‖ signature 64                            118 bytes
//! gateway  → provider   verdict u8 ‖ signature 64                                                      65 bytes
//!
//! link      = keccak(0x27 ‖ version ‖ chain id ‖ market ‖ gateway ‖ provider ‖ gateway's nonce ‖ provider's nonce)
//! signature = of keccak(0x28 ‖ link) by the provider's signing key, of keccak(0x29 ‖ link) by the gateway's key
//! ```
//!
//! Invariant: a signature counts on one link between these two under this market, in one direction, and never again: each
//! side put 32 random bytes of its own into what both sign. A provider signs for the gateway alone that it was told to
//! reach. Lengths are fixed, so nothing is allocated for a stranger. Does not know: what the link carries.

use ashlar_compute_api::vouchers::{Domain, Key, Signature};
use ashlar_compute_api::{Address, Digest};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::digest::keccak;
use crate::wire::VERSION;

const LINK: u8 = 0x27;
const PROVIDER: u8 = 0x28;
const GATEWAY: u8 = 0x29;

const CHALLENGE_BYTES: usize = 2 + 8 + 20 + 20 + 32;
const HELLO_BYTES: usize = 2 + 20 + 32 + 64;
const VERDICT_BYTES: usize = 1 + 64;

/// Why a gateway takes no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum LinkRefusal {
    /// The market does not know the provider.
    #[error("the address is not registered with the market")]
    Unregistered = 1,
    /// Another key signed than the one that the market has.
    #[error("another key signed than the one that is registered")]
    OtherKey = 2,
    /// Its stake was taken.
    #[error("an offence of the provider was proven")]
    Slashed = 3,
    /// The gateway gives it no work.
    #[error("the gateway has suspended the provider")]
    Suspended = 4,
    /// There is no room.
    #[error("the gateway has no room for another provider")]
    Full = 5,
    /// The gateway could not find out; again later.
    #[error("the gateway could not ask the chain")]
    Unavailable = 6,
}

impl LinkRefusal {
    const ALL: [Self; 6] =
        [Self::Unregistered, Self::OtherKey, Self::Slashed, Self::Suspended, Self::Full, Self::Unavailable];
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The other side speaks another version.
    #[error("the other side speaks version {found} of the link, and {VERSION} is spoken here")]
    Version {
        /// Its version.
        found: u16,
    },
    /// The gateway is of another market, or another gateway than the one that was to be reached.
    #[error("the gateway is {found} of market {market} on chain {chain_id}, and another was to be reached")]
    OtherGateway {
        /// Who it says it is.
        found: Address,
        /// Its market.
        market: Address,
        /// Its chain.
        chain_id: u64,
    },
    /// The other side did not prove who it is.
    #[error("the other side did not prove who it is")]
    NotProven,
    /// The gateway does not take it.
    #[error(transparent)]
    Refused(#[from] LinkRefusal),
    /// A byte that says nothing.
    #[error("the gateway's verdict is {found}, which says nothing")]
    Verdict {
        /// The byte.
        found: u8,
    },
}

/// Everything that both sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    domain: Domain,
    gateway: Address,
    provider: Address,
    gateway_nonce: [u8; 32],
    provider_nonce: [u8; 32],
}

impl Terms {
    fn digest(&self, role: u8) -> Digest {
        let link = keccak(&[
            &[LINK],
            &VERSION.to_be_bytes(),
            &self.domain.chain_id.to_be_bytes(),
            &self.domain.contract.0,
            &self.gateway.0,
            &self.provider.0,
            &self.gateway_nonce,
            &self.provider_nonce,
        ]);
        keccak(&[&[role], &link.0])
    }
}

/// Takes fields off the front of a message of known length.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) =
            self.0.split_first_chunk::<N>().expect("the message has as many bytes as its fields together");
        self.0 = rest;
        *field
    }
}

/// A provider that proved that it has the key, before the chain was asked whether the key is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) provider: Address,
    /// Whose key signed.
    pub(crate) signing_key: Address,
    terms: Terms,
}

/// The gateway's side up to its verdict.
pub(crate) async fn challenge<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    domain: Domain,
    identity: &Key,
    nonce: [u8; 32],
) -> Result<Claimed, HandshakeError> {
    let gateway = identity.address();
    let mut message = Vec::with_capacity(CHALLENGE_BYTES);
    message.extend_from_slice(&VERSION.to_be_bytes());
    message.extend_from_slice(&domain.chain_id.to_be_bytes());
    message.extend_from_slice(&domain.contract.0);
    message.extend_from_slice(&gateway.0);
    message.extend_from_slice(&nonce);
    stream.write_all(&message).await?;
    stream.flush().await?;
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello).await?;
    let mut fields = Fields(&hello);
    let found = u16::from_be_bytes(fields.take());
    if found != VERSION {
        return Err(HandshakeError::Version { found });
    }
    let (provider, provider_nonce) = (Address(fields.take()), fields.take());
    let terms = Terms { domain, gateway, provider, gateway_nonce: nonce, provider_nonce };
    let signature = Signature(fields.take());
    let signing_key = signature.recover(&terms.digest(PROVIDER)).map_err(|_| HandshakeError::NotProven)?;
    Ok(Claimed { provider, signing_key, terms })
}

/// The gateway's last word: its own proof, or why not.
pub(crate) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    claimed: &Claimed,
    identity: &Key,
    verdict: Result<(), LinkRefusal>,
) -> Result<(), HandshakeError> {
    let mut message = [0; VERDICT_BYTES];
    match verdict {
        Ok(()) => message[1..].copy_from_slice(&identity.sign(&claimed.terms.digest(GATEWAY)).0),
        Err(refusal) => message[0] = refusal as u8,
    }
    stream.write_all(&message).await?;
    stream.flush().await?;
    Ok(verdict?)
}

/// The provider's side.
pub(crate) async fn join<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    domain: Domain,
    gateway: Address,
    provider: Address,
    signing_key: &Key,
    nonce: [u8; 32],
) -> Result<(), HandshakeError> {
    let mut message = [0; CHALLENGE_BYTES];
    stream.read_exact(&mut message).await?;
    let mut fields = Fields(&message);
    let found = u16::from_be_bytes(fields.take());
    if found != VERSION {
        return Err(HandshakeError::Version { found });
    }
    let chain_id = u64::from_be_bytes(fields.take());
    let (market, told) = (Address(fields.take()), Address(fields.take()));
    let is_the_one = (Domain { chain_id, contract: market }) == domain && told == gateway;
    if !is_the_one {
        return Err(HandshakeError::OtherGateway { found: told, market, chain_id });
    }
    let terms = Terms { domain, gateway, provider, gateway_nonce: fields.take(), provider_nonce: nonce };
    let mut hello = Vec::with_capacity(HELLO_BYTES);
    hello.extend_from_slice(&VERSION.to_be_bytes());
    hello.extend_from_slice(&provider.0);
    hello.extend_from_slice(&nonce);
    hello.extend_from_slice(&signing_key.sign(&terms.digest(PROVIDER)).0);
    stream.write_all(&hello).await?;
    stream.flush().await?;
    let mut verdict = [0; VERDICT_BYTES];
    stream.read_exact(&mut verdict).await?;
    let mut fields = Fields(&verdict);
    let [found] = fields.take();
    if found != 0 {
        let refusal = LinkRefusal::ALL.into_iter().find(|refusal| *refusal as u8 == found);
        return Err(refusal.map_or(HandshakeError::Verdict { found }, HandshakeError::Refused));
    }
    let proof = Signature(fields.take());
    proof.verify(&terms.digest(GATEWAY), gateway).map_err(|_| HandshakeError::NotProven)
}

#[cfg(test)]
mod tests;
