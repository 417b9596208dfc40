//! A place in a file, from which little-endian values are taken in order.
//!
//! Invariant: never leaves the file; a length is believed only where so many bytes follow.

use super::GgufError;

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], GgufError> {
        let end = self.at.checked_add(count).ok_or(GgufError::Truncated { what })?;
        let taken = self.bytes.get(self.at..end).ok_or(GgufError::Truncated { what })?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let length = self.u64(what)?;
        let length = usize::try_from(length).map_err(|_| GgufError::Truncated { what })?;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| GgufError::Text { what })
    }

    /// How many things follow, of which each has at least so many bytes.
    pub(super) fn count(&self, count: u64, bytes_min: usize, what: &'static str) -> Result<usize, GgufError> {
        let count = usize::try_from(count).map_err(|_| GgufError::Truncated { what })?;
        let needed = count.checked_mul(bytes_min).ok_or(GgufError::Truncated { what })?;
        if needed > self.bytes.len() - self.at { Err(GgufError::Truncated { what }) } else { Ok(count) }
    }

    /// What follows from the next place that is a multiple of `alignment`.
    pub(super) fn rest_aligned(&self, alignment: u64) -> Result<&'a [u8], GgufError> {
        let alignment = usize::try_from(alignment).unwrap_or(usize::MAX);
        let start = self.at.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
        // A file without tensors may end before.
        Ok(self.bytes.get(start..).unwrap_or_default())
    }
}
