//! 32-byte digests, and one newtype per level so that a root of one level cannot stand in for another.
//!
//! Owns their hexadecimal text form (64 lower-case digits). Does not know how any of them is computed.

use std::fmt;
use std::str::FromStr;

/// Any 32-byte digest: a BLAKE3 leaf or a keccak256 node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Bytes of an encoded digest.
    pub const BYTES: usize = 32;
    /// The digest of 32 zero bytes, which stands for the root of a tree without leaves.
    pub const ZERO: Self = Self([0; 32]);

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestParseError;

impl FromStr for Digest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, DigestParseError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != Self::BYTES || !rest.is_empty() {
            return Err(DigestParseError);
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, DigestParseError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(DigestParseError),
    }
}

macro_rules! root {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Digest);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }

            /// The digest without its level.
            pub const fn digest(&self) -> Digest {
                self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(Digest(bytes))
            }
        }

        impl FromStr for $name {
            type Err = DigestParseError;

            fn from_str(text: &str) -> Result<Self, DigestParseError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

root!(
    /// Root of the tree over the blocks of one shard.
    ShardRoot
);
root!(
    /// Commits to one chunk: its length, coding and the roots of all its shards.
    ChunkRoot
);
root!(
    /// Commits to one blob (the bytes of one part): its length and the roots of its chunks.
    BlobRoot
);
root!(
    /// Commits to one object: its length and its parts in order.
    ObjectRoot
);
root!(
    /// Names content independently of layout: BLAKE3 of the plain bytes, or a tagged list for multipart.
    ContentRoot
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let digest = Digest(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let text = digest.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(text.parse::<Digest>(), Ok(digest));
        assert_eq!(text.to_uppercase().parse::<Digest>(), Ok(digest));
        assert_eq!(text[1..].parse::<Digest>(), Err(DigestParseError));
        assert_eq!(format!("{text}00").parse::<Digest>(), Err(DigestParseError));
        assert_eq!(text.replacen('0', "g", 1).parse::<Digest>(), Err(DigestParseError));
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }

    #[test]
    fn debug_names_the_level() {
        let root = ChunkRoot(Digest::ZERO);
        assert_eq!(format!("{root:?}"), format!("ChunkRoot({})", "0".repeat(64)));
    }
}
