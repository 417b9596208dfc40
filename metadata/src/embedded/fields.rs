//! Reads fixed-width big-endian fields off a byte slice that may hold anything.
//!
//! Invariant: running out of bytes is `None`, never a panic. Knows nothing of any format.

/// What is left to read.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `u32` that counts bytes or things in memory.
    pub(crate) fn len32(&mut self) -> Option<usize> {
        self.u32().and_then(|len| usize::try_from(len).ok())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

/// A length as it is stored. Everything stored is bounded far below 4 GiB.
pub(crate) fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("limits keep every stored length below 4 GiB")
}

/// A length as a file offset.
pub(crate) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).expect("usize fits u64")
}

/// Rounds up to a multiple of `step`.
pub(crate) fn round_up(bytes: u64, step: u64) -> u64 {
    bytes.div_ceil(step) * step
}
