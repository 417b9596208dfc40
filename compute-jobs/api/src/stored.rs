//! How values of this crate are kept: a byte that says the version, then postcard.
//!
//! Invariant: what was written is read back whole or not at all; another version or a byte too many is an error.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::jobs::{Job, Unit};
use crate::terms::{BuyerBook, ProviderBook};

/// Why bytes are no such value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Written by another version.
    #[error("version {found:?}, and {expected} is read")]
    Version {
        /// The one that is read.
        expected: u8,
        /// The first byte, if there is one.
        found: Option<u8>,
    },
    /// Not the value's bytes.
    #[error("the bytes are not those of the value")]
    Malformed,
    /// Bytes behind the value.
    #[error("{count} bytes behind the value")]
    Trailing {
        /// So many.
        count: usize,
    },
}

/// A value that is kept in metadata or on a provider's disk.
pub trait Stored: Serialize + DeserializeOwned {
    /// Changes whenever the bytes do.
    const VERSION: u8;

    /// The value's bytes.
    fn to_stored(&self) -> Vec<u8> {
        let written = postcard::to_extend(self, vec![Self::VERSION]);
        written.expect("a vector takes any number of bytes, and no value here has a length that is not known")
    }

    /// The value of these bytes.
    fn from_stored(bytes: &[u8]) -> Result<Self, StoredError> {
        let (&found, body) =
            bytes.split_first().ok_or(StoredError::Version { expected: Self::VERSION, found: None })?;
        if found != Self::VERSION {
            return Err(StoredError::Version { expected: Self::VERSION, found: Some(found) });
        }
        let (value, rest) = postcard::take_from_bytes(body).map_err(|_| StoredError::Malformed)?;
        if rest.is_empty() { Ok(value) } else { Err(StoredError::Trailing { count: rest.len() }) }
    }
}

impl Stored for Job {
    const VERSION: u8 = 1;
}

impl Stored for Unit {
    const VERSION: u8 = 1;
}

impl Stored for ProviderBook {
    const VERSION: u8 = 1;
}

impl Stored for BuyerBook {
    const VERSION: u8 = 1;
}
