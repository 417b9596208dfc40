//! The two profiles, and the shape of one encoded blob.
//!
//! Owns which numbers of rows exist and how many bytes a row has. Invariant: a [`Shape`] that exists is valid,
//! and its rows have exactly the length that the blob demands, so that equal blobs have equal commitments.
//! Knows neither bytes nor hashes.

use std::fmt;

/// What rows are multiples of, in bytes: 32 symbols of the code.
pub const UNIT_BYTES: u32 = 64;
/// Bytes of the largest blob.
pub const BLOB_BYTES_MAX: u64 = 128 << 20;
/// The first byte of an encoded shape: names this document's scheme, not the number of rows.
pub const SCHEME: u8 = 1;

/// How many rows a blob becomes. There are only these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// 4 original and 12 parity rows; for few signers, each of whom holds large rows.
    Small,
    /// 256 original and 768 parity rows; each signer checks at least 148 of them.
    Large,
}

impl Profile {
    /// The most signers that use [`Profile::Small`].
    pub const SMALL_SIGNERS_MAX: usize = 28;

    /// The profile for a snapshot of that many signers.
    pub fn for_signers(signers: usize) -> Self {
        if signers <= Self::SMALL_SIGNERS_MAX { Self::Small } else { Self::Large }
    }

    /// K: any so many rows give the blob back.
    pub const fn original_rows(self) -> u32 {
        match self {
            Self::Small => 4,
            Self::Large => 256,
        }
    }

    /// N, three times K.
    pub const fn parity_rows(self) -> u32 {
        3 * self.original_rows()
    }

    /// K + N, a power of two.
    pub const fn rows(self) -> u32 {
        4 * self.original_rows()
    }

    /// The least rows that a signer with any stake holds.
    ///
    /// 148 rows at random places all pass with a chance of at most (5/8)^148 < 2^-100 where fewer than five
    /// eighths of the rows would: ceil(100 / (1 - log2(1.25))), the figure of Celestia Fibre. The small profile
    /// needs no such floor: it has only C(16, 5) = 4,368 sets of K + 1 rows that could contradict each other.
    pub const fn rows_per_signer_min(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Large => 148,
        }
    }
}

/// Rows and bytes of one encoded blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    profile: Profile,
    row_bytes: u32,
    blob_bytes: u64,
}

impl Shape {
    /// Bytes of an encoded shape.
    pub const ENCODED_BYTES: usize = 21;

    /// The shape of a blob of `blob_bytes`.
    pub fn new(profile: Profile, blob_bytes: u64) -> Result<Self, ShapeError> {
        if blob_bytes == 0 || blob_bytes > BLOB_BYTES_MAX {
            return Err(ShapeError::BlobBytes { blob_bytes });
        }
        let unit = u64::from(UNIT_BYTES);
        let units = blob_bytes.div_ceil(unit * u64::from(profile.original_rows()));
        let row_bytes =
            u32::try_from(units * unit).expect("a row is no longer than the largest blob and a unit");
        Ok(Self { profile, row_bytes, blob_bytes })
    }

    /// The shape with these numbers, if there is one.
    pub fn from_parts(
        original_rows: u32,
        parity_rows: u32,
        row_bytes: u32,
        blob_bytes: u64,
    ) -> Result<Self, ShapeError> {
        let profile = [Profile::Small, Profile::Large]
            .into_iter()
            .find(|profile| (profile.original_rows(), profile.parity_rows()) == (original_rows, parity_rows))
            .ok_or(ShapeError::Rows { original_rows, parity_rows })?;
        let shape = Self::new(profile, blob_bytes)?;
        if shape.row_bytes != row_bytes {
            return Err(ShapeError::RowBytes { row_bytes, blob_bytes });
        }
        Ok(shape)
    }

    /// `scheme u8 ‖ K u32 ‖ N u32 ‖ row_bytes u32 ‖ blob_bytes u64`.
    pub fn to_bytes(self) -> [u8; Self::ENCODED_BYTES] {
        let mut bytes = [SCHEME; Self::ENCODED_BYTES];
        bytes[1..5].copy_from_slice(&self.original_rows().to_be_bytes());
        bytes[5..9].copy_from_slice(&self.parity_rows().to_be_bytes());
        bytes[9..13].copy_from_slice(&self.row_bytes.to_be_bytes());
        bytes[13..].copy_from_slice(&self.blob_bytes.to_be_bytes());
        bytes
    }

    /// Reads what [`Shape::to_bytes`] wrote, and nothing else.
    pub fn from_bytes(bytes: &[u8; Self::ENCODED_BYTES]) -> Result<Self, ShapeError> {
        let (scheme, fields) = (bytes[0], &bytes[1..]);
        if scheme != SCHEME {
            return Err(ShapeError::Scheme { scheme });
        }
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| fields[at + i]));
        let blob_bytes = u64::from_be_bytes(std::array::from_fn(|i| fields[12 + i]));
        Self::from_parts(word(0), word(4), word(8), blob_bytes)
    }

    /// Which profile.
    pub fn profile(self) -> Profile {
        self.profile
    }

    /// K.
    pub fn original_rows(self) -> u32 {
        self.profile.original_rows()
    }

    /// N.
    pub fn parity_rows(self) -> u32 {
        self.profile.parity_rows()
    }

    /// K + N.
    pub fn rows(self) -> u32 {
        self.profile.rows()
    }

    /// Bytes of every row, a multiple of [`UNIT_BYTES`].
    pub fn row_bytes(self) -> u32 {
        self.row_bytes
    }

    /// Bytes of the blob; what is left of the original rows is zero.
    pub fn blob_bytes(self) -> u64 {
        self.blob_bytes
    }

    /// Siblings in the path of every row: log2(K + N).
    pub fn path_len(self) -> usize {
        index(self.rows().trailing_zeros())
    }

    /// K as a length.
    pub(crate) fn originals(self) -> usize {
        index(self.original_rows())
    }

    /// Bytes of a row as a length.
    pub(crate) fn row_len(self) -> usize {
        index(self.row_bytes)
    }

    /// Bytes of the blob as a length.
    pub(crate) fn blob_len(self) -> usize {
        usize::try_from(self.blob_bytes).expect("at most 128 MiB")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, row_bytes, blob_bytes) = (self.rows(), self.row_bytes, self.blob_bytes);
        write!(f, "Shape({blob_bytes} bytes in {rows} rows of {row_bytes})")
    }
}

/// A row number or count as a length.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("usize has at least 32 bits on every target with an operating system")
}

/// The numbers are no shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Another scheme, or none.
    #[error("scheme {scheme}, expected {SCHEME}")]
    Scheme {
        /// As found.
        scheme: u8,
    },
    /// Not the rows of a profile.
    #[error("{original_rows} original and {parity_rows} parity rows are no profile")]
    Rows {
        /// As found.
        original_rows: u32,
        /// As found.
        parity_rows: u32,
    },
    /// Rows longer or shorter than the blob demands.
    #[error("rows of {row_bytes} bytes do not belong to a blob of {blob_bytes} bytes")]
    RowBytes {
        /// As found.
        row_bytes: u32,
        /// As found.
        blob_bytes: u64,
    },
    /// An empty blob, or one that is too large.
    #[error("a blob of {blob_bytes} bytes; it must have 1 to {BLOB_BYTES_MAX}")]
    BlobBytes {
        /// As found.
        blob_bytes: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_bytes_follow_from_the_blob() {
        let row_bytes = |profile, bytes| Shape::new(profile, bytes).map(Shape::row_bytes);
        assert_eq!(row_bytes(Profile::Small, 1), Ok(64));
        assert_eq!(row_bytes(Profile::Small, 256), Ok(64));
        assert_eq!(row_bytes(Profile::Small, 257), Ok(128));
        assert_eq!(row_bytes(Profile::Small, 32 << 20), Ok(8 << 20));
        assert_eq!(row_bytes(Profile::Large, 16_384), Ok(64));
        assert_eq!(row_bytes(Profile::Large, 16_385), Ok(128));
        for bytes in [0, BLOB_BYTES_MAX + 1] {
            assert_eq!(row_bytes(Profile::Small, bytes), Err(ShapeError::BlobBytes { blob_bytes: bytes }));
        }
    }

    #[test]
    fn only_what_was_written_is_read() {
        for profile in [Profile::Small, Profile::Large] {
            for blob_bytes in [1, 63, 64, 65, 1 << 20, BLOB_BYTES_MAX] {
                let shape = Shape::new(profile, blob_bytes).unwrap();
                let bytes = shape.to_bytes();
                assert_eq!(Shape::from_bytes(&bytes), Ok(shape));
                for bit in 0..bytes.len() * 8 {
                    let mut other = bytes;
                    other[bit / 8] ^= 1 << (bit % 8);
                    // Another length of blob may fit the same rows; nothing else may differ.
                    match Shape::from_bytes(&other) {
                        Ok(read) => assert!(bit / 8 >= 13 && read.to_bytes() == other),
                        Err(_) => continue,
                    }
                }
            }
        }
    }

    #[test]
    fn signers_choose_the_profile() {
        assert_eq!(Profile::for_signers(1), Profile::Small);
        assert_eq!(Profile::for_signers(28), Profile::Small);
        assert_eq!(Profile::for_signers(29), Profile::Large);
        let floor = (100.0 / (1.0 - 1.25f64.log2())).ceil();
        assert_eq!(f64::from(Profile::Large.rows_per_signer_min()), floor);
        assert!(Profile::Large.rows() >= 1024);
    }
}
