//! Request ids: unique in a process, unlike from one process to the next.
//!
//! Invariant: never twice the same within 2^64 requests (a bijection of a counter).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives ids out.
pub(crate) struct RequestIds {
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: AtomicU64::new(seed) }
    }

    /// The next id: 16 hex digits, as S3's.
    pub(crate) fn next(&self) -> Arc<str> {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = [0; 16];
        hex::encode_to_slice(mixed(count).to_be_bytes(), &mut text).expect("16 digits for 8 bytes");
        text.make_ascii_uppercase();
        Arc::from(std::str::from_utf8(&text).expect("hex digits are text"))
    }
}

/// Sebastiano Vigna's splitmix64 finaliser, a bijection.
fn mixed(count: u64) -> u64 {
    let mut z = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_16_digits() {
        let ids = RequestIds::new(u64::MAX - 10);
        let given: std::collections::HashSet<Arc<str>> = (0..1000).map(|_| ids.next()).collect();
        assert_eq!(given.len(), 1000);
        assert!(given.iter().all(|id| id.len() == 16));
    }
}
