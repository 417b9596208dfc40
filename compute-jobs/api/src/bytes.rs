//! Fixed byte strings, one type for each thing that is named by one, so that none stands in for another.
//!
//! Owns their text form: `0x` and lower-case digits, one spelling a value; in binary they are their bytes.
//! Does not know how any of them is computed.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserializer, Serializer};

/// The text is not `0x` and as many lower-case hexadecimal digits as the type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 0x and {digits} lower-case hexadecimal digits")]
pub struct BytesParseError {
    /// Digits behind `0x`.
    pub digits: usize,
}

pub(crate) fn parse<const N: usize>(text: &str) -> Result<[u8; N], BytesParseError> {
    let error = BytesParseError { digits: 2 * N };
    let digits = text.strip_prefix("0x").ok_or(error)?;
    if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return Err(error);
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| error)?;
    Ok(bytes)
}

/// As text for people, as bytes for machines.
pub(crate) fn serialize<const N: usize, S: Serializer>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() {
        return to.collect_str(&format_args!("0x{}", hex::encode(bytes)));
    }
    let mut tuple = to.serialize_tuple(N)?;
    bytes.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
    tuple.end()
}

pub(crate) fn deserialize<'a, const N: usize, D: Deserializer<'a>>(from: D) -> Result<[u8; N], D::Error> {
    struct Bytes<const N: usize>;

    impl<'a, const N: usize> Visitor<'a> for Bytes<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{N} bytes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; N], E> {
            parse(text).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut bytes: A) -> Result<[u8; N], A::Error> {
            let mut read = [0; N];
            for byte in &mut read {
                *byte = bytes.next_element()?.ok_or_else(|| A::Error::custom("too few bytes"))?;
            }
            Ok(read)
        }
    }

    if from.is_human_readable() { from.deserialize_str(Bytes) } else { from.deserialize_tuple(N, Bytes) }
}

macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// All zero.
            pub const ZERO: Self = Self([0; $bytes]);

            /// Whether all bytes are zero.
            pub fn is_zero(&self) -> bool {
                *self == Self::ZERO
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BytesParseError;

            fn from_str(text: &str) -> Result<Self, BytesParseError> {
                parse(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                serialize(&self.0, to)
            }
        }

        impl<'a> serde::Deserialize<'a> for $name {
            fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
                deserialize(from).map(Self)
            }
        }
    };
}

fixed!(
    /// An account or a key on the chain: the last 20 bytes of keccak256 of its public key.
    Address,
    20
);
fixed!(
    /// Names an escrow lock, and by being a hash of them also its terms.
    LockId,
    32
);
fixed!(
    /// Names a job, on the chain and off it.
    JobId,
    32
);
fixed!(
    /// BLAKE3 of plain bytes: of an object, a model, a request or an answer, or of a name.
    ContentRoot,
    32
);
fixed!(
    /// A head of a transcript's hash chain.
    TranscriptHead,
    32
);
fixed!(
    /// `hashStruct` of EIP-712 of a voucher, without a domain.
    VoucherHash,
    32
);
fixed!(
    /// What a key signs.
    Digest,
    32
);
fixed!(
    /// Commits to the units of a job in their order.
    InputRoot,
    32
);
fixed!(
    /// What a buyer chose to tell apart two locks of equal terms.
    Salt,
    32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_spelling() {
        let address = Address([0xab; 20]);
        let text = address.to_string();
        assert_eq!(text.parse(), Ok(address));
        let error = Err(BytesParseError { digits: 40 });
        assert_eq!(text.replace('a', "A").parse::<Address>(), error);
        assert_eq!(text[2..].parse::<Address>(), error);
        assert_eq!(text[..40].parse::<Address>(), error);
        assert_eq!(format!("{text}00").parse::<Address>(), error);
    }

    #[test]
    fn people_read_text_and_machines_bytes() {
        let job = JobId([7; 32]);
        let json = serde_json::to_string(&job).unwrap();
        assert_eq!(json, format!("\"{job}\""));
        assert_eq!(serde_json::from_str::<JobId>(&json).unwrap(), job);
        let bytes = postcard::to_stdvec(&job).unwrap();
        assert_eq!(bytes, [7; 32]);
        assert_eq!(postcard::from_bytes::<JobId>(&bytes).unwrap(), job);
        assert!(postcard::from_bytes::<JobId>(&bytes[1..]).is_err());
    }
}
