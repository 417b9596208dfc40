//! The bytes somebody has, against what the record says of them, in one pass and a fixed buffer.
//!
//! Invariant: whatever the object's size, one part is hashed at a time, and nothing is kept but a digest a part.

use std::io::{self, Read};
use std::ops::Range;

use ashlar_chunker::{ContentHasher, ContentRoot, content_root_of_parts};

/// Read at a time; BLAKE3 is at full speed from 16 KiB on.
const BUFFER_BYTES: u32 = 256 << 10;

/// The bytes are not those of the record.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// They could not be read.
    #[error("the content could not be read: {0}")]
    Read(#[from] io::Error),
    /// They end early.
    #[error("the content ends after {found} bytes, the record says {expected}")]
    Short {
        /// Bytes found.
        found: u64,
        /// Bytes of the record.
        expected: u64,
    },
    /// They go on.
    #[error("the content goes on after the {expected} bytes of the record")]
    Long {
        /// Bytes of the record.
        expected: u64,
    },
    /// A block that leads to the object root is not in them.
    #[error("byte {at} of the content is not that of the proven block")]
    Block {
        /// Where.
        at: u64,
    },
    /// Right length, other bytes.
    #[error("the content makes root {found}, the record says {expected}")]
    Root {
        /// Root of the bytes.
        found: ContentRoot,
        /// Root of the record.
        expected: ContentRoot,
    },
}

/// Bytes that stand at a known place of the object.
pub(crate) struct Placed<'a> {
    pub(crate) range: Range<u64>,
    pub(crate) bytes: &'a [u8],
}

impl Placed<'_> {
    /// The first byte of `buffer`, which begins at `start`, that differs.
    fn difference(&self, start: u64, buffer: &[u8]) -> Option<u64> {
        let end = start + u64::try_from(buffer.len()).expect("a buffer is counted by a u64");
        let (from, to) = (self.range.start.max(start), self.range.end.min(end));
        (from..to).find(|at| {
            let in_buffer = usize::try_from(at - start).expect("within the buffer");
            let in_block = usize::try_from(at - self.range.start).expect("within the block");
            buffer[in_buffer] != self.bytes[in_block]
        })
    }
}

/// Reads `content` to its end and holds it against lengths, root and proven blocks.
pub(crate) fn check(
    content: &mut dyn Read,
    lengths: &[u64],
    expected: ContentRoot,
    placed: &[Placed<'_>],
) -> Result<(), ContentError> {
    let length: u64 = lengths.iter().sum();
    let mut buffer = vec![0; usize::try_from(BUFFER_BYTES).expect("256 KiB")];
    let mut at = 0;
    let mut digests = Vec::with_capacity(lengths.len());
    for part_length in lengths {
        let mut hasher = ContentHasher::new();
        while hasher.length() < *part_length {
            let want = (part_length - hasher.length()).min(BUFFER_BYTES.into());
            let want = usize::try_from(want).expect("at most a buffer");
            let count = read(content, &mut buffer[..want])?;
            if count == 0 {
                return Err(ContentError::Short { found: at, expected: length });
            }
            let piece = &buffer[..count];
            if let Some(at) = placed.iter().find_map(|block| block.difference(at, piece)) {
                return Err(ContentError::Block { at });
            }
            hasher.update(piece);
            at += u64::try_from(count).expect("a buffer is counted by a u64");
        }
        digests.push((*part_length, hasher.finish()));
    }
    if read(content, &mut buffer[..1])? != 0 {
        return Err(ContentError::Long { expected: length });
    }
    let of_parts = content_root_of_parts(digests.iter().copied());
    match digests.as_slice() {
        [(_, plain)] if *plain == expected => Ok(()),
        _ if of_parts == expected => Ok(()),
        [(_, plain)] => Err(ContentError::Root { found: *plain, expected }),
        _ => Err(ContentError::Root { found: of_parts, expected }),
    }
}

fn read(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match content.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
