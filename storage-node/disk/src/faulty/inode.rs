//! One file of the faulty disk: what readers see, what is durable, and the changes between the two.
//!
//! Keeps the invariant that `durable` plus all of `pending`, in order, is `live`, unless a sync failed: the
//! changes it dropped stay readable and are never made durable, as on Linux.

use super::rng::Rng;
use super::{BLOCK_BYTES, SECTOR_BYTES};
use std::collections::BTreeSet;

/// A change that no sync has covered yet.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Zero { offset: usize, len: usize },
    SetLen(usize),
}

/// A file's content, twice, and what lies between.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    blocks: BTreeSet<usize>,
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(data);
        }
        Change::Zero { offset, len } => {
            let end = (offset + len).min(content.len());
            if *offset < end {
                content[*offset..end].fill(0);
            }
        }
        Change::SetLen(len) => content.resize(*len, 0),
    }
}

impl Inode {
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    /// Blocks that `[offset, offset + len)` would add to what the file takes.
    pub(super) fn new_blocks(&self, offset: usize, len: usize) -> usize {
        Self::block_range(offset, len).filter(|block| !self.blocks.contains(block)).count()
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block_range(offset: usize, len: usize) -> std::ops::Range<usize> {
        offset / BLOCK_BYTES..(offset + len).div_ceil(BLOCK_BYTES)
    }

    fn push(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    pub(super) fn write(&mut self, offset: usize, data: Vec<u8>) {
        self.blocks.extend(Self::block_range(offset, data.len()));
        self.push(Change::Write { offset, data });
    }

    pub(super) fn allocate(&mut self, offset: usize, len: usize) {
        self.blocks.extend(Self::block_range(offset, len));
        if self.live.len() < offset + len {
            self.push(Change::SetLen(offset + len));
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.blocks.retain(|block| *block < len.div_ceil(BLOCK_BYTES));
        self.push(Change::SetLen(len));
    }

    pub(super) fn punch(&mut self, offset: usize, len: usize) {
        let whole = offset.div_ceil(BLOCK_BYTES)..(offset + len) / BLOCK_BYTES;
        self.blocks.retain(|block| !whole.contains(block));
        self.push(Change::Zero { offset, len });
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// What a failed sync leaves: readable, and never durable.
    pub(super) fn drop_pending(&mut self) {
        self.pending.clear();
    }

    /// Damages both what is read and what is durable.
    pub(super) fn damage(&mut self, change: impl Fn(&mut [u8])) {
        change(&mut self.live);
        change(&mut self.durable);
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The file after a crash that lost every unsynced change.
    pub(super) fn without_pending(&self) -> Self {
        Self::settled(self.durable.clone(), self.blocks.clone())
    }

    /// The file after a crash that lost no change.
    pub(super) fn with_pending(&self) -> Self {
        let mut content = self.durable.clone();
        self.pending.iter().for_each(|change| apply(&mut content, change));
        Self::settled(content, self.blocks.clone())
    }

    /// The file after a crash that kept any subset of the unsynced changes, in any order, torn at sectors.
    pub(super) fn with_some_pending(&self, rng: &mut Rng) -> Self {
        let mut order: Vec<&Change> = self.pending.iter().collect();
        if rng.one_in(2) {
            rng.shuffle(&mut order);
        }
        let mut content = self.durable.clone();
        let mut lengths = vec![content.len()];
        for change in order {
            match rng.below(4) {
                0 => {}
                1 => Self::apply_torn(&mut content, change, rng),
                _ => apply(&mut content, change),
            }
            lengths.push(content.len());
        }
        if rng.one_in(4) {
            // The data got there, the size that reaches it did not.
            content.truncate(lengths[rng.below(lengths.len())].max(self.durable.len()));
        }
        Self::settled(content, self.blocks.clone())
    }

    fn apply_torn(content: &mut Vec<u8>, change: &Change, rng: &mut Rng) {
        let (offset, len) = match change {
            Change::Write { offset, data } => (*offset, data.len()),
            Change::Zero { offset, len } => (*offset, *len),
            Change::SetLen(_) => return apply(content, change),
        };
        let mut at = offset;
        while at < offset + len {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + len);
            if rng.one_in(2) {
                let sector = match change {
                    Change::Write { data, .. } => {
                        Change::Write { offset: at, data: data[at - offset..end - offset].to_vec() }
                    }
                    _ => Change::Zero { offset: at, len: end - at },
                };
                apply(content, &sector);
            }
            at = end;
        }
    }

    fn settled(content: Vec<u8>, blocks: BTreeSet<usize>) -> Self {
        Self { live: content.clone(), durable: content, pending: Vec::new(), blocks }
    }
}
