//! The commitment to an object: its parts, in order, under one header.
//!
//! An object written in one stream has one part, also when it is empty; a multipart object has one per part.

use crate::digest::{BlobRoot, ObjectRoot};
use crate::header::{ObjectHeader, part_leaf};
use crate::tree::{self, Node, PARTS};

/// One part of an object: the blob that holds it and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Bytes of the part, which are the bytes of the blob.
    pub length: u64,
    /// Root of the blob.
    pub blob: BlobRoot,
}

/// The parts are more than 2^32 - 1 or 2^64 - 1 bytes long together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object of more than 2^64 - 1 bytes or 2^32 - 1 parts")]
pub struct ObjectTooLarge;

/// The root of an object made of `parts`, in order.
pub fn object_root(parts: &[Part]) -> Result<ObjectRoot, ObjectTooLarge> {
    ObjectCommitment::new(parts).map(|object| object.root())
}

/// The parts of an object, in order; 32 bytes of memory per part.
#[derive(Clone, Debug)]
pub struct ObjectCommitment {
    header: ObjectHeader,
    leaves: Vec<Node>,
}

impl ObjectCommitment {
    /// Commits to `parts`, in order.
    pub fn new(parts: &[Part]) -> Result<Self, ObjectTooLarge> {
        let part_count = u32::try_from(parts.len()).map_err(|_| ObjectTooLarge)?;
        let length = parts
            .iter()
            .try_fold(0u64, |length, part| length.checked_add(part.length))
            .ok_or(ObjectTooLarge)?;
        let leaves = parts.iter().map(|part| part_leaf(part.length, &part.blob)).collect();
        Ok(Self { header: ObjectHeader { length, part_count }, leaves })
    }

    /// Length and part count.
    pub const fn header(&self) -> ObjectHeader {
        self.header
    }

    /// The object's root.
    pub fn root(&self) -> ObjectRoot {
        self.header.root(&tree::root::<PARTS>(&self.leaves))
    }

    /// The leaf of part `index`.
    pub(crate) fn leaf(&self, index: u32) -> Option<Node> {
        self.leaves.get(usize::try_from(index).ok()?).copied()
    }

    /// The siblings of part `index` in the tree, from the leaf up.
    pub(crate) fn path(&self, index: u32) -> Option<Vec<Node>> {
        tree::path::<PARTS>(&self.leaves, usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn length_and_order_count() {
        let part = |length, byte| Part { length, blob: BlobRoot(Digest([byte; 32])) };
        let root = |parts: &[Part]| object_root(parts).unwrap();
        assert_ne!(root(&[part(1, 1), part(1, 2)]), root(&[part(1, 2), part(1, 1)]));
        assert_ne!(root(&[part(1, 1)]), root(&[part(2, 1)]));
        assert_ne!(root(&[]), root(&[part(0, 0)]));
        assert_eq!(object_root(&[part(u64::MAX, 1), part(1, 1)]), Err(ObjectTooLarge));
    }
}
