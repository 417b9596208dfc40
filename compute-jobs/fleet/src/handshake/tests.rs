//! Handshakes with the right side, and with those that replay, relay or pretend.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

fn key(byte: u8) -> Key {
    Key::from_secret(&[byte; 32]).unwrap()
}

const DOMAIN: Domain = Domain { chain_id: 7, contract: Address([9; 20]) };
const PROVIDER_ADDRESS: Address = Address([4; 20]);

async fn gateway(
    mut stream: tokio::io::DuplexStream,
    identity: Key,
    nonce: u8,
    verdict: Result<(), LinkRefusal>,
) -> Result<Claimed, HandshakeError> {
    let claimed = challenge(&mut stream, DOMAIN, &identity, [nonce; 32]).await?;
    answer(&mut stream, &claimed, &identity, verdict).await?;
    Ok(claimed)
}

async fn provider(mut stream: tokio::io::DuplexStream, of: Address, nonce: u8) -> Result<(), HandshakeError> {
    join(&mut stream, DOMAIN, of, PROVIDER_ADDRESS, &key(2), [nonce; 32]).await
}

#[tokio::test]
async fn both_prove_who_they_are() {
    let (a, b) = duplex(1024);
    let identity = key(1);
    let (claimed, joined) =
        tokio::join!(gateway(a, identity.clone(), 1, Ok(())), provider(b, identity.address(), 2));
    joined.unwrap();
    let claimed = claimed.unwrap();
    assert_eq!((claimed.provider, claimed.signing_key), (PROVIDER_ADDRESS, key(2).address()));
}

#[tokio::test]
async fn a_refusal_says_why() {
    for refusal in LinkRefusal::ALL {
        let (a, b) = duplex(1024);
        let (claimed, joined) =
            tokio::join!(gateway(a, key(1), 1, Err(refusal)), provider(b, key(1).address(), 2));
        assert!(matches!(claimed, Err(HandshakeError::Refused(found)) if found == refusal));
        assert!(matches!(joined, Err(HandshakeError::Refused(found)) if found == refusal));
    }
}

#[tokio::test]
async fn a_provider_signs_for_no_other_gateway() {
    let (a, b) = duplex(1024);
    let (claimed, joined) = tokio::join!(gateway(a, key(8), 1, Ok(())), provider(b, key(1).address(), 2));
    assert!(matches!(joined, Err(HandshakeError::OtherGateway { found, .. }) if found == key(8).address()));
    assert!(matches!(claimed, Err(HandshakeError::Io(_))), "nothing was signed");
    // One that only says that it is the gateway has no proof.
    let (mut a, b) = duplex(1024);
    let pretends = async {
        let mut message = Vec::new();
        message.extend_from_slice(&VERSION.to_be_bytes());
        message.extend_from_slice(&DOMAIN.chain_id.to_be_bytes());
        message.extend_from_slice(&DOMAIN.contract.0);
        message.extend_from_slice(&key(1).address().0);
        message.extend_from_slice(&[1; 32]);
        a.write_all(&message).await.unwrap();
        let mut hello = [0; HELLO_BYTES];
        a.read_exact(&mut hello).await.unwrap();
        let mut verdict = [0; VERDICT_BYTES];
        // The provider's own signature, given back.
        verdict[1..].copy_from_slice(&hello[HELLO_BYTES - 64..]);
        a.write_all(&verdict).await.unwrap();
    };
    let ((), joined) = tokio::join!(pretends, provider(b, key(1).address(), 2));
    assert!(matches!(joined, Err(HandshakeError::NotProven)));
}

#[tokio::test]
async fn what_was_said_on_one_link_says_nothing_on_another() {
    // Record a good hello, then play it to the same gateway's next challenge.
    let (mut a, b) = duplex(1024);
    let record = async {
        let identity = key(1);
        let mut message = Vec::new();
        message.extend_from_slice(&VERSION.to_be_bytes());
        message.extend_from_slice(&DOMAIN.chain_id.to_be_bytes());
        message.extend_from_slice(&DOMAIN.contract.0);
        message.extend_from_slice(&identity.address().0);
        message.extend_from_slice(&[1; 32]);
        a.write_all(&message).await.unwrap();
        let mut hello = [0; HELLO_BYTES];
        a.read_exact(&mut hello).await.unwrap();
        drop(a);
        hello
    };
    let (hello, joined) = tokio::join!(record, provider(b, key(1).address(), 2));
    assert!(joined.is_err());
    let (a, mut b) = duplex(1024);
    let replay = async {
        let mut challenge = [0; CHALLENGE_BYTES];
        b.read_exact(&mut challenge).await.unwrap();
        b.write_all(&hello).await.unwrap();
        let mut verdict = [0; VERDICT_BYTES];
        b.read_exact(&mut verdict).await.unwrap();
    };
    let (claimed, ()) = tokio::join!(gateway(a, key(1), 3, Ok(())), replay);
    // Some key recovers from any signature; it is not the provider's, which the market is asked for.
    assert_ne!(claimed.unwrap().signing_key, key(2).address());
}

#[tokio::test]
async fn the_digests_are_those_of_the_document() {
    let terms = Terms {
        domain: DOMAIN,
        gateway: Address([1; 20]),
        provider: Address([2; 20]),
        gateway_nonce: [3; 32],
        provider_nonce: [4; 32],
    };
    assert_ne!(terms.digest(PROVIDER), terms.digest(GATEWAY));
    for change in [
        Terms { domain: Domain { chain_id: 8, ..DOMAIN }, ..terms },
        Terms { domain: Domain { contract: Address([8; 20]), ..DOMAIN }, ..terms },
        Terms { gateway: Address([8; 20]), ..terms },
        Terms { provider: Address([8; 20]), ..terms },
        Terms { gateway_nonce: [8; 32], ..terms },
        Terms { provider_nonce: [8; 32], ..terms },
    ] {
        assert_ne!(change.digest(PROVIDER), terms.digest(PROVIDER), "{change:?}");
    }
}

#[test]
fn the_vectors_hold() {
    let vectors = include_str!("../../../../docs/formats/vectors/link.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let handshakes = vectors["handshakes"].as_array().unwrap();
    assert!(!handshakes.is_empty());
    for vector in handshakes {
        let text = |name: &str| vector[name].as_str().unwrap().to_owned();
        fn bytes<const N: usize>(text: &str) -> [u8; N] {
            hex::decode(text).unwrap().try_into().unwrap()
        }
        let contract = Address(bytes(&text("market")));
        let terms = Terms {
            domain: Domain { chain_id: text("chain_id").parse().unwrap(), contract },
            gateway: Address(bytes(&text("gateway"))),
            provider: Address(bytes(&text("provider"))),
            gateway_nonce: bytes(&text("gateway_nonce")),
            provider_nonce: bytes(&text("provider_nonce")),
        };
        assert_eq!(hex::encode(terms.digest(PROVIDER).0), text("provider_signs"));
        assert_eq!(hex::encode(terms.digest(GATEWAY).0), text("gateway_signs"));
    }
}
