//! Buffers for large reads, used again: fresh memory costs a page fault and a cleared page for each 4 KiB,
//! which is more than reading those from the page cache.
//!
//! One pool for all stores of a process. It keeps at most [`KEPT_MAX`] buffers, the last one returned is the
//! first one given (its lines are still in the CPU's cache), and bytes of an earlier read are never shown: a
//! buffer comes out only as the bytes that were read into it.

use bytes::Bytes;
use parking_lot::Mutex;
use std::io;

/// Bytes of one buffer: what a reader fetches at most of one shard, and a footer behind it.
const BUFFER_BYTES: usize = 272 << 10;
/// Reads of at most this are not worth a buffer that is mostly empty.
const POOLED_READ_BYTES_MIN: usize = BUFFER_BYTES / 2;
/// Buffers kept for the next reads: 8.5 MiB.
const KEPT_MAX: usize = 32;

static FREE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// The first `len` bytes of a buffer, which goes back to the pool.
struct Pooled {
    buffer: Box<[u8]>,
    len: usize,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut free = FREE.lock();
        if free.len() < KEPT_MAX {
            free.push(buffer);
        }
    }
}

/// `len` bytes as `read` fills them, or what it says instead.
///
/// # Errors
///
/// Those of `read`.
pub(super) fn read_into<E: From<io::Error>>(
    len: usize,
    read: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<Bytes, E> {
    if !(POOLED_READ_BYTES_MIN..=BUFFER_BYTES).contains(&len) {
        let mut buffer = vec![0; len];
        read(&mut buffer)?;
        return Ok(Bytes::from(buffer));
    }
    let buffer = FREE.lock().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
    let mut pooled = Pooled { buffer, len };
    read(&mut pooled.buffer[..len])?;
    Ok(Bytes::from_owner(pooled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(len: usize, with: u8) -> Bytes {
        read_into::<io::Error>(len, |buffer| {
            assert_eq!(buffer.len(), len);
            buffer.fill(with);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_holds_its_bytes() {
        for len in [1, POOLED_READ_BYTES_MIN, 256 << 10, BUFFER_BYTES, BUFFER_BYTES + 1] {
            let first = filled(len, 1);
            let slice = first.slice(len / 2..);
            drop(first);
            let second = filled(len, 2);
            assert!(slice.iter().all(|byte| *byte == 1), "{len}");
            assert_eq!((second.len(), second[0]), (len, 2));
        }
        let failed = read_into(BUFFER_BYTES, |_| Err(io::Error::other("as asked")));
        assert!(failed.is_err());
        assert!(FREE.lock().len() <= KEPT_MAX);
    }
}
