//! Continuation tokens: where a listing goes on, opaque to clients and bound to the listing.
//!
//! Invariant: a token is accepted only by the listing (operation, bucket, prefix, delimiter) that gave it
//! and only unchanged; anything else is an error, never another place in the list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::failure::Failure;

/// Length of the check value in bytes.
const CHECK_BYTES: usize = 16;
/// First byte of a token: its layout.
const VERSION: u8 = 1;

/// Makes and reads tokens.
pub struct Tokens {
    key: [u8; 32],
}

impl Tokens {
    /// With a key that gateways of one cluster share.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// A token of the listing `scope` that goes on after `place`.
    pub fn seal(&self, scope: &[&str], place: &str) -> String {
        let mut raw = Vec::with_capacity(1 + CHECK_BYTES + place.len());
        raw.push(VERSION);
        raw.extend_from_slice(&self.check(scope, place));
        raw.extend_from_slice(place.as_bytes());
        URL_SAFE_NO_PAD.encode(raw)
    }

    /// The place in a token; `None` where it is not one of ours for this listing.
    pub fn open(&self, scope: &[&str], token: &str) -> Option<String> {
        let raw = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = raw.split_first()?;
        let (check, place) = rest.split_at_checked(CHECK_BYTES)?;
        let place = std::str::from_utf8(place).ok()?;
        let good = *version == VERSION && bool::from(self.check(scope, place).ct_eq(check));
        good.then(|| place.to_owned())
    }

    fn check(&self, scope: &[&str], place: &str) -> [u8; CHECK_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for piece in scope.iter().chain(std::iter::once(&place)) {
            hasher.update(&u64::try_from(piece.len()).expect("a length fits u64").to_be_bytes());
            hasher.update(piece.as_bytes());
        }
        let mut check = [0; CHECK_BYTES];
        hasher.finalize_xof().fill(&mut check);
        check
    }

    /// As [`Tokens::open`], with the error that S3 gives.
    pub(crate) fn require(&self, scope: &[&str], token: &str) -> Result<String, Failure> {
        self.open(scope, token).ok_or_else(|| {
            Failure::argument("continuation-token", "The continuation token provided is incorrect")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_opens_only_where_it_was_sealed() {
        let tokens = Tokens::new([7; 32]);
        let token = tokens.seal(&["b", "p/", ""], "p/k🦀\0");
        assert_eq!(tokens.open(&["b", "p/", ""], &token).as_deref(), Some("p/k🦀\0"));
        for scope in [&["b", "p", "/"][..], &["b", "p/"], &["c", "p/", ""]] {
            assert_eq!(tokens.open(scope, &token), None);
        }
        assert_eq!(Tokens::new([8; 32]).open(&["b", "p/", ""], &token), None);
    }

    proptest! {
        #[test]
        fn any_place_comes_back_and_any_change_is_seen(place in "\\PC*", at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let tokens = Tokens::new([7; 32]);
            let token = tokens.seal(&["b"], &place);
            prop_assert_eq!(tokens.open(&["b"], &token), Some(place));
            let mut raw = URL_SAFE_NO_PAD.decode(&token).expect("ours");
            let at = at.index(raw.len());
            raw[at] ^= 1 << bit;
            prop_assert_eq!(tokens.open(&["b"], &URL_SAFE_NO_PAD.encode(raw)), None);
        }

        #[test]
        fn no_text_panics(token in "\\PC*") {
            Tokens::new([7; 32]).open(&["b"], &token);
        }
    }
}
