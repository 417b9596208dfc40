//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side.
//!
//! Invariant: the secret is never sent, and an access key that does not exist is answered like one that does:
//! salts come from one key of this process, a secret is made up, the same work is done, and the refusal comes at
//! the same time. Deliberately knows no messages around it.

use std::sync::Arc;

use ashlar_objects::users::SecretKey;
use ashlar_query::SqlError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::credentials::{Proven, random};

/// The one mechanism.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// Rounds of PBKDF2, as PostgreSQL has them.
const ROUNDS: u32 = 4096;
/// Most access keys whose salted secrets are kept.
const KEPT_MAX: usize = 4096;
/// Longest message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

type Hash = [u8; HASH_BYTES];

/// What a proof is checked against. The secret is what it was made of.
struct Verifier {
    secret: SecretKey,
    stored_key: Zeroizing<Hash>,
    server_key: Zeroizing<Hash>,
}

/// What all exchanges of a process share.
pub(super) struct Scram {
    /// Salts and made-up secrets come from it; made anew with each process.
    key: Zeroizing<Hash>,
    kept: Cache<String, Arc<Verifier>>,
}

/// Why a client is not let in. It is told no more than that.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Not the protocol.
    #[error("{0}")]
    Malformed(&'static str),
    /// Wrong secret, or no such key.
    #[error("authentication failed")]
    Wrong,
    /// A fault of ours.
    #[error(transparent)]
    Fault(#[from] SqlError),
}

/// Between the server's first message and the client's proof.
pub(super) struct Exchange {
    access_key: String,
    header: String,
    nonce: String,
    /// `client-first-message-bare ‖ ',' ‖ server-first-message`.
    begun: String,
}

impl Scram {
    pub(super) fn new() -> Result<Self, SqlError> {
        Ok(Self { key: Zeroizing::new(random()?), kept: Cache::new(KEPT_MAX) })
    }

    /// Reads the client's first message; gives the server's.
    pub(super) fn begin(&self, access_key: &str, first: &[u8]) -> Result<(Exchange, String), Refused> {
        let bad = Refused::Malformed("the first SCRAM message is malformed");
        let Some(first) = std::str::from_utf8(first).ok().filter(|text| text.len() <= MESSAGE_BYTES_MAX)
        else {
            return Err(bad);
        };
        let bare_at = match first.as_bytes().first() {
            Some(b'n' | b'y') if first.as_bytes().get(1) == Some(&b',') => {
                first[2..].find(',').map(|at| at + 3)
            }
            Some(b'p') => return Err(Refused::Malformed("channel binding was not offered")),
            _ => None,
        };
        let Some(bare_at) = bare_at else { return Err(bad) };
        let (header, bare) = first.split_at(bare_at);
        let nonce = bare.split(',').find_map(|part| part.strip_prefix("r="));
        // An extension that must be understood would be `m=`.
        let (Some(nonce), false) = (nonce, bare.starts_with("m=")) else { return Err(bad) };
        let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if nonce.is_empty() || !printable {
            return Err(bad);
        }
        let nonce = format!("{nonce}{}", STANDARD.encode(random::<18>()?));
        let answer = format!("r={nonce},s={},i={ROUNDS}", STANDARD.encode(self.salt(access_key)));
        let exchange = Exchange {
            access_key: access_key.to_owned(),
            header: header.to_owned(),
            nonce,
            begun: format!("{bare},{answer}"),
        };
        Ok((exchange, answer))
    }

    /// Checks the client's proof against whoever has the key, `None` where nobody does; gives the server's last
    /// message. Takes milliseconds of CPU: not for an async thread.
    pub(super) fn finish(
        &self,
        exchange: &Exchange,
        last: &[u8],
        found: Option<&Proven>,
    ) -> Result<String, Refused> {
        let bad = Refused::Malformed("the last SCRAM message is malformed");
        let Some(last) = std::str::from_utf8(last).ok().filter(|text| text.len() <= MESSAGE_BYTES_MAX) else {
            return Err(bad);
        };
        let Some((without_proof, proof)) = last.rsplit_once(",p=") else { return Err(bad) };
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c="));
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let proof: Option<Hash> = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let (Some(binding), Some(nonce), Some(proof)) = (binding, nonce, proof) else { return Err(bad) };
        if binding != STANDARD.encode(&exchange.header) || nonce != exchange.nonce {
            return Err(bad);
        }
        let verifier = self.verifier(&exchange.access_key, found.map(|proven| &proven.secret));
        let message = format!("{},{without_proof}", exchange.begun);
        let signature = hmac(verifier.stored_key.as_ref(), message.as_bytes());
        let mut client_key = Zeroizing::new(proof);
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let stored: Hash = Sha256::digest(client_key.as_ref()).into();
        if found.is_none() || !bool::from(stored.ct_eq(verifier.stored_key.as_ref())) {
            return Err(Refused::Wrong);
        }
        Ok(format!("v={}", STANDARD.encode(hmac(verifier.server_key.as_ref(), message.as_bytes()))))
    }

    fn salt(&self, access_key: &str) -> [u8; SALT_BYTES] {
        let digest = hmac(self.key.as_ref(), format!("salt {access_key}").as_bytes());
        std::array::from_fn(|at| digest[at])
    }

    fn verifier(&self, access_key: &str, secret: Option<&SecretKey>) -> Arc<Verifier> {
        let made_up;
        let secret = if let Some(secret) = secret {
            secret
        } else {
            let digest = hmac(self.key.as_ref(), format!("nobody {access_key}").as_bytes());
            made_up = SecretKey::new(STANDARD.encode(digest));
            &made_up
        };
        if let Some(kept) = self.kept.get(access_key)
            && bool::from(kept.secret.expose().as_bytes().ct_eq(secret.expose().as_bytes()))
        {
            return kept;
        }
        let salted = salted(secret.expose().as_bytes(), &self.salt(access_key), ROUNDS);
        let client_key = Zeroizing::new(hmac(salted.as_ref(), b"Client Key"));
        let verifier = Arc::new(Verifier {
            secret: secret.clone(),
            stored_key: Zeroizing::new(Sha256::digest(client_key.as_ref()).into()),
            server_key: Zeroizing::new(hmac(salted.as_ref(), b"Server Key")),
        });
        self.kept.insert(access_key.to_owned(), Arc::clone(&verifier));
        verifier
    }
}

/// PBKDF2 with HMAC-SHA-256, one block.
fn salted(secret: &[u8], salt: &[u8], rounds: u32) -> Zeroizing<Hash> {
    let keyed = keyed(secret);
    let mut mac = keyed.clone();
    mac.update(salt);
    mac.update(&1_u32.to_be_bytes());
    let mut last: Hash = mac.finalize().into_bytes().into();
    let mut out = Zeroizing::new(last);
    for _ in 1..rounds {
        let mut mac = keyed.clone();
        mac.update(&last);
        last = mac.finalize().into_bytes().into();
        for (byte, more) in out.iter_mut().zip(last) {
            *byte ^= more;
        }
    }
    out
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hmac(key: &[u8], message: &[u8]) -> Hash {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(secret: &str) -> Proven {
        let identity = ashlar_objects::access::UserIdentity {
            id: "1".repeat(64),
            name: "ann".into(),
            access_key: "AKANN".into(),
            root: false,
        };
        Proven { identity: Arc::new(identity), secret: SecretKey::new(secret.into()) }
    }

    /// The client's side: its last message, and what it expects of the server's.
    fn answer(secret: &str, bare: &str, server_first: &str) -> (String, String) {
        let part = |name: &str| {
            server_first.split(',').find_map(|part| part.strip_prefix(name)).expect("a part").to_owned()
        };
        let salt = STANDARD.decode(part("s=")).expect("base64");
        let salted = salted(secret.as_bytes(), &salt, part("i=").parse().expect("a number"));
        let without = format!("c=biws,r={}", part("r="));
        let message = format!("{bare},{server_first},{without}");
        let client_key = hmac(salted.as_ref(), b"Client Key");
        let stored: Hash = Sha256::digest(client_key).into();
        let signature = hmac(&stored, message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
        let server = hmac(&hmac(salted.as_ref(), b"Server Key"), message.as_bytes());
        (format!("{without},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(server)))
    }

    #[test]
    fn the_vector_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let salted = salted(b"pencil", &salt, 4096);
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                       s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                       c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server = hmac(&hmac(salted.as_ref(), b"Server Key"), message.as_bytes());
        assert_eq!(STANDARD.encode(server), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn the_right_secret_comes_in_and_every_other_is_refused_alike() {
        let scram = Scram::new().expect("random");
        let bare = "n=,r=fyko+d2lbbFgONRv9qkxdawL";
        let first = format!("n,,{bare}");
        for _ in 0..2 {
            let (exchange, server_first) = scram.begin("AKANN", first.as_bytes()).expect("begun");
            let (last, expected) = answer("pencil77", bare, &server_first);
            let found = proven("pencil77");
            assert_eq!(scram.finish(&exchange, last.as_bytes(), Some(&found)).expect("in"), expected);
            let changed = proven("pencil78");
            assert!(matches!(scram.finish(&exchange, last.as_bytes(), Some(&changed)), Err(Refused::Wrong)));
            assert!(matches!(scram.finish(&exchange, last.as_bytes(), None), Err(Refused::Wrong)));
        }
        let salt = |key: &str| {
            scram.begin(key, first.as_bytes()).expect("begun").1.split(",s=").nth(1).map(str::to_owned)
        };
        assert_eq!(salt("AKANN"), salt("AKANN"));
        assert_ne!(salt("AKANN"), salt("NOBODY"));
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        let scram = Scram::new().expect("random");
        for first in [
            "",
            "n",
            "n,,",
            "n,,n=a",
            "p=tls-server-end-point,,n=,r=abc",
            "n,,m=x,r=abc",
            "x,,n=,r=abc",
            "n,,n=,r= ",
        ] {
            assert!(scram.begin("AKANN", first.as_bytes()).is_err(), "{first}");
        }
        let (exchange, server_first) = scram.begin("AKANN", b"y,,n=,r=abc").expect("begun");
        let (last, _) = answer("pencil77", "n=,r=abc", &server_first);
        let found = proven("pencil77");
        // The client's proof was for `n,,`: a header changed under way is noticed.
        assert!(scram.finish(&exchange, last.as_bytes(), Some(&found)).is_err());
        for last in ["", "c=eSws", "c=eSws,r=abc,p=AAAA", "c=eSws,r=other,p="] {
            assert!(scram.finish(&exchange, last.as_bytes(), Some(&found)).is_err(), "{last}");
        }
    }
}
