//! Tensors of a safetensors file, checked against what the reader expects before they are copied.
//!
//! Invariant: nothing is reserved by what a header claims: a tensor's bytes lie in the file, its shape is the one that was
//! asked for, and its numbers are finite. Does not know what tensors mean.

use std::collections::HashMap;

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

/// Bytes of a header. The largest models' have some hundred KiB.
pub const HEADER_BYTES_MAX: u64 = 4 << 20;
/// Tensors of a file.
pub const TENSORS_MAX: usize = 100_000;

/// Bytes of the number that a file begins with: how long its header is.
const LENGTH_BYTES: usize = 8;

/// Why there is no such tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The header is longer than any that is read, or than the file.
    #[error("a header of {bytes} bytes in a file of {file_bytes}; at most {HEADER_BYTES_MAX} are read")]
    Header {
        /// What the file claims.
        bytes: u64,
        /// The file's length.
        file_bytes: usize,
    },
    /// Not a safetensors file.
    #[error("not a safetensors file: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// More than [`TENSORS_MAX`].
    #[error("{count} tensors, and at most {TENSORS_MAX} are read")]
    Count {
        /// So many.
        count: usize,
    },
    /// No tensor of this name.
    #[error("there is no tensor {name:?}")]
    Missing {
        /// Of the tensor.
        name: String,
    },
    /// Numbers of another kind.
    #[error("{name:?} holds {found}, and 32-bit floats are read")]
    Kind {
        /// Of the tensor.
        name: String,
        /// What it holds.
        found: String,
    },
    /// Another shape than what the configuration says.
    #[error("{name:?} has shape {found:?}, and {expected:?} was expected")]
    Shape {
        /// Of the tensor.
        name: String,
        /// The file's.
        found: Vec<usize>,
        /// The reader's.
        expected: Vec<usize>,
    },
    /// A number that is none, or infinite.
    #[error("{name:?} holds numbers that are not finite")]
    NotFinite {
        /// Of the tensor.
        name: String,
    },
}

/// A safetensors file in memory.
#[derive(Debug)]
pub struct TensorFile<'a> {
    metadata: Metadata,
    data: &'a [u8],
}

impl<'a> TensorFile<'a> {
    /// Reads the header and holds it against the file's length. Copies no tensor.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TensorError> {
        let malformed =
            |error: safetensors::SafeTensorError| TensorError::Malformed { reason: error.to_string() };
        if let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() {
            let header = u64::from_le_bytes(*length);
            if header > HEADER_BYTES_MAX {
                return Err(TensorError::Header { bytes: header, file_bytes: bytes.len() });
            }
        }
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
        match metadata.offset_keys().len() {
            count if count > TENSORS_MAX => Err(TensorError::Count { count }),
            _ => Ok(Self { metadata, data: &bytes[LENGTH_BYTES + header..] }),
        }
    }

    /// What the file says beside its tensors.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// All names, in the file's order.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    fn info(&self, name: &str, expected: &[usize]) -> Result<&TensorInfo, TensorError> {
        let missing = || TensorError::Missing { name: name.to_owned() };
        let info = self.metadata.info(name).ok_or_else(missing)?;
        if info.dtype != Dtype::F32 {
            return Err(TensorError::Kind { name: name.to_owned(), found: info.dtype.to_string() });
        }
        if info.shape != expected {
            let (found, expected) = (info.shape.clone(), expected.to_vec());
            return Err(TensorError::Shape { name: name.to_owned(), found, expected });
        }
        Ok(info)
    }

    /// Whether a tensor of 32-bit floats with this shape is there. Copies nothing.
    pub fn check(&self, name: &str, expected: &[usize]) -> Result<(), TensorError> {
        self.info(name, expected).map(|_| ())
    }

    /// A tensor of 32-bit floats with this shape, row after row.
    pub fn floats(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, TensorError> {
        let (begin, end) = self.info(name, expected)?.data_offsets;
        let (words, _) = self.data[begin..end].as_chunks::<4>();
        let floats: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        match floats.iter().all(|float| float.is_finite()) {
            true => Ok(floats),
            false => Err(TensorError::NotFinite { name: name.to_owned() }),
        }
    }
}

/// The bytes of a file with these tensors and one text beside them. The same are the same bytes.
pub(crate) fn to_bytes(
    tensors: &[(&str, &[usize], &[f32])],
    key: &str,
    text: String,
) -> Result<Vec<u8>, TensorError> {
    let malformed =
        |error: safetensors::SafeTensorError| TensorError::Malformed { reason: error.to_string() };
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, floats)| floats.iter().flat_map(|float| float.to_le_bytes()).collect())
        .collect();
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| {
            let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.to_vec(), bytes)?;
            Ok((*name, view))
        })
        .collect();
    let beside = HashMap::from([(key.to_owned(), text)]);
    safetensors::serialize(views.map_err(malformed)?, Some(beside)).map_err(malformed)
}

#[cfg(test)]
mod tests;
