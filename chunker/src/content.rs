//! `content_root`: the name of content that never changes with layout, coding or chunk size.
//!
//! Of bytes written in one stream it is their plain BLAKE3, what `b3sum` prints. Of a multipart object it is
//! BLAKE3 in key-derivation mode over its parts' lengths and digests, so that no file's own digest, and no
//! file that spells out such a list, can be mistaken for it.

use crate::digest::{ContentRoot, Digest};

/// The key-derivation context of a multipart content root.
const PARTS_CONTEXT: &str = "ashlar 2026-11 content root of parts v1";

/// Computes a content root from bytes as they come.
#[derive(Clone, Debug, Default)]
pub struct ContentHasher {
    hasher: blake3::Hasher,
}

impl ContentHasher {
    /// Over no bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes; fastest in pieces of 16 KiB and more.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.hasher.count()
    }

    /// The root of the bytes so far.
    pub fn finish(&self) -> ContentRoot {
        ContentRoot(Digest(*self.hasher.finalize().as_bytes()))
    }

    /// The root of bytes at hand.
    pub fn digest(bytes: &[u8]) -> ContentRoot {
        ContentRoot(Digest(*blake3::hash(bytes).as_bytes()))
    }
}

/// The content root of a multipart object from the length and content root of each part, in order:
/// BLAKE3-derive-key(context, (length u64 ‖ digest) of every part).
pub fn content_root_of_parts(parts: impl IntoIterator<Item = (u64, ContentRoot)>) -> ContentRoot {
    let mut hasher = blake3::Hasher::new_derive_key(PARTS_CONTEXT);
    for (length, part) in parts {
        hasher.update(&length.to_be_bytes());
        hasher.update(part.as_bytes());
    }
    ContentRoot(Digest(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_content_root_is_what_b3sum_prints() {
        let mut hasher = ContentHasher::new();
        hasher.update(b"hello ");
        hasher.update(b"world\n");
        assert_eq!(hasher.length(), 12);
        let printed = "dc5a4edb8240b018124052c330270696f96771a63b45250a5c17d3000e823355";
        assert_eq!(hasher.finish().to_string(), printed);
        assert_eq!(hasher.finish(), ContentHasher::digest(b"hello world\n"));
    }

    #[test]
    fn a_list_of_parts_is_not_the_file_that_spells_it() {
        let part = ContentHasher::digest(b"part");
        let of_parts = content_root_of_parts([(4, part)]);
        let mut spelled = 4u64.to_be_bytes().to_vec();
        spelled.extend_from_slice(part.as_bytes());
        assert_ne!(of_parts, ContentHasher::digest(&spelled));
        assert_ne!(of_parts, part);
        assert_ne!(of_parts, content_root_of_parts([(5, part)]));
        assert_ne!(of_parts, content_root_of_parts([(4, part), (4, part)]));
    }
}
