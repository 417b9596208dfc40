//! The compact index: where each shard lies, in id order, in 33 bytes a shard plus free room in pages.
//!
//! Shards mostly arrive in id order, so a full last page is followed by a fresh one instead of being split:
//! pages stay full. The invariant: pages are non-empty, sorted, and keyed by their first id.
//! What a location means is not known here.

use ashlar_chunker::ShardId;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Entries of a full page: about 8 KiB, which an insertion moves half of.
const PAGE_ENTRIES_MAX: usize = 256;
/// Two neighbours that together have at most this many are joined.
const JOIN_ENTRIES_MAX: usize = PAGE_ENTRIES_MAX / 2;

type Key = [u8; ShardId::BYTES];

/// Where a shard lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Which file.
    pub(crate) file: FileId,
    /// Byte of the log file, or 4 KiB page of the segment.
    pub(crate) offset: u32,
    /// Bytes of the shard.
    pub(crate) shard_bytes: u32,
}

/// A file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileId {
    /// A log file, by slot.
    Log(u32),
    /// A segment, by number.
    Segment(u32),
}

/// Slots and segment numbers stay below this, so that one bit tells them apart.
pub(crate) const FILE_NUMBER_MAX: u32 = u32::MAX >> 1;
const SEGMENT_BIT: u32 = 1 << 31;

/// An entry as kept: nothing is aligned, so nothing is padded.
#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    place: [u8; 12],
}

impl Entry {
    fn new(key: Key, location: Location) -> Self {
        let file = match location.file {
            FileId::Log(slot) => slot,
            FileId::Segment(number) => number | SEGMENT_BIT,
        };
        let mut place = [0; 12];
        place[..4].copy_from_slice(&file.to_be_bytes());
        place[4..8].copy_from_slice(&location.offset.to_be_bytes());
        place[8..].copy_from_slice(&location.shard_bytes.to_be_bytes());
        Self { key, place }
    }

    fn location(&self) -> Location {
        let word = |at: usize| {
            let [a, b, c, d] = [self.place[at], self.place[at + 1], self.place[at + 2], self.place[at + 3]];
            u32::from_be_bytes([a, b, c, d])
        };
        let file = word(0);
        let file = match file & SEGMENT_BIT {
            0 => FileId::Log(file),
            _ => FileId::Segment(file & !SEGMENT_BIT),
        };
        Location { file, offset: word(4), shard_bytes: word(8) }
    }
}

/// Ids in order, each with its location.
#[derive(Default)]
pub(crate) struct Index {
    pages: BTreeMap<Key, Vec<Entry>>,
    len: usize,
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The highest id.
    pub(crate) fn last(&self) -> Option<ShardId> {
        let (_, page) = self.pages.last_key_value()?;
        page.last().map(|entry| ShardId::decode(entry.key))
    }

    /// Bytes of memory that the pages take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.pages
            .values()
            .map(|page| page.capacity() * size_of::<Entry>() + size_of::<(Key, Vec<Entry>)>())
            .sum()
    }

    pub(crate) fn get(&self, id: ShardId) -> Option<Location> {
        let key = id.encode();
        let (_, page) = self.pages.range(..=key).next_back()?;
        let at = page.binary_search_by(|entry| entry.key.cmp(&key)).ok()?;
        Some(page[at].location())
    }

    /// Sets where a shard lies; what was there before.
    pub(crate) fn insert(&mut self, id: ShardId, location: Location) -> Option<Location> {
        let key = id.encode();
        let entry = Entry::new(key, location);
        let Some((first, page)) = self.pages.range_mut(..=key).next_back() else {
            self.len += 1;
            let next = self.pages.keys().next().copied();
            self.add_before(next, entry);
            return None;
        };
        let first = *first;
        match page.binary_search_by(|entry| entry.key.cmp(&key)) {
            Ok(at) => {
                let before = page[at].location();
                page[at] = entry;
                return Some(before);
            }
            Err(at) if page.len() < PAGE_ENTRIES_MAX => page.insert(at, entry),
            Err(at) if at == page.len() => self.add_after(&first, entry),
            Err(at) => {
                let mut upper = Vec::with_capacity(PAGE_ENTRIES_MAX);
                upper.extend(page.drain(PAGE_ENTRIES_MAX / 2..));
                match at.checked_sub(PAGE_ENTRIES_MAX / 2) {
                    Some(at) if at > 0 => upper.insert(at, entry),
                    _ => page.insert(at, entry),
                }
                debug_assert!(page[0].key == first, "the first entry of a page never moves");
                self.pages.insert(upper[0].key, upper);
            }
        }
        self.len += 1;
        None
    }

    /// Puts an entry between the full page at `first` and the next one.
    fn add_after(&mut self, first: &Key, entry: Entry) {
        let after = (Bound::Excluded(*first), Bound::Unbounded);
        let next = self.pages.range(after).next().map(|(key, _)| *key);
        self.add_before(next, entry);
    }

    /// Makes an entry the first of the page at `next`, or a page of its own where that is full.
    fn add_before(&mut self, next: Option<Key>, entry: Entry) {
        match next {
            Some(next) if self.pages[&next].len() < PAGE_ENTRIES_MAX => {
                let mut page = self.pages.remove(&next).expect("found just now");
                page.insert(0, entry);
                self.pages.insert(entry.key, page);
            }
            _ => self.add_page(entry),
        }
    }

    fn add_page(&mut self, entry: Entry) {
        let mut page = Vec::with_capacity(PAGE_ENTRIES_MAX);
        page.push(entry);
        self.pages.insert(entry.key, page);
    }

    /// Forgets a shard; where it lay.
    pub(crate) fn remove(&mut self, id: ShardId) -> Option<Location> {
        let key = id.encode();
        let (first, page) = self.pages.range_mut(..=key).next_back()?;
        let at = page.binary_search_by(|entry| entry.key.cmp(&key)).ok()?;
        let first = *first;
        let location = page.remove(at).location();
        let left = page.len();
        self.len -= 1;
        if at == 0 {
            let page = self.pages.remove(&first).expect("found just now");
            if let Some(entry) = page.first() {
                self.pages.insert(entry.key, page);
            }
        }
        if left > 0 && left <= JOIN_ENTRIES_MAX / 2 {
            self.join(&key);
        }
        Some(location)
    }

    /// Joins the page around `key` with a neighbour, if both are nearly empty.
    fn join(&mut self, key: &Key) {
        let Some(first) = self.pages.range(..=*key).next_back().or_else(|| self.pages.iter().next()) else {
            return;
        };
        let first = *first.0;
        let before = self.pages.range(..first).next_back().map(|(key, _)| *key);
        let after = self.pages.range((Bound::Excluded(first), Bound::Unbounded)).next().map(|(key, _)| *key);
        for (left, right) in [(Some(first), after), (before, Some(first))] {
            if let (Some(left), Some(right)) = (left, right)
                && self.pages[&left].len() + self.pages[&right].len() <= JOIN_ENTRIES_MAX
            {
                let moved = self.pages.remove(&right).expect("found just now");
                self.pages.get_mut(&left).expect("found just now").extend(moved);
                return;
            }
        }
    }

    /// Shards after `after`, in order.
    pub(crate) fn after(&self, after: Option<ShardId>) -> impl Iterator<Item = (ShardId, Location)> {
        let key = after.map(ShardId::encode);
        let first = key.and_then(|key| self.pages.range(..=key).next_back()).map(|(first, _)| *first);
        let start = first.map_or(Bound::Unbounded, Bound::Included);
        self.pages
            .range((start, Bound::Unbounded))
            .flat_map(|(_, page)| page)
            .skip_while(move |entry| key.is_some_and(|key| entry.key <= key))
            .map(|entry| (ShardId::decode(entry.key), entry.location()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_chunker::{BlobId, SessionId, ShardIndex};
    use proptest::prelude::*;

    fn id(counter: u64) -> ShardId {
        let shard = ShardIndex(u8::try_from(counter % 6).unwrap());
        BlobId { session: SessionId(counter / 1000), counter }.chunk(0).shard(shard)
    }

    fn location(value: u32) -> Location {
        let file = if value.is_multiple_of(2) { FileId::Log(value) } else { FileId::Segment(value) };
        Location { file, offset: value.wrapping_mul(31), shard_bytes: !value }
    }

    #[test]
    fn a_million_shards_in_order_take_less_than_64_bytes_each() {
        let mut index = Index::default();
        for counter in 0..1_000_000 {
            index.insert(id(counter), location(7));
        }
        assert_eq!(index.len(), 1_000_000);
        assert!(index.memory_bytes() / index.len() < 40, "{}", index.memory_bytes() / index.len());
        for counter in (0..1_000_000).filter(|counter| counter % 20 != 0) {
            index.remove(id(counter));
        }
        assert!(index.memory_bytes() / index.len() < 160, "{}", index.memory_bytes() / index.len());
    }

    #[test]
    fn shards_in_any_order_take_less_than_64_bytes_each() {
        let mut index = Index::default();
        for counter in 0..200_000u64 {
            index.insert(id(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20), location(7));
        }
        assert!(index.memory_bytes() / index.len() < 64, "{}", index.memory_bytes() / index.len());
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(ops in prop::collection::vec((0u8..4, 0u64..900, any::<u32>()), 0..3000)) {
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            for (op, counter, value) in ops {
                let id = id(counter);
                let place = location(value & FILE_NUMBER_MAX);
                match op {
                    0 | 1 => prop_assert_eq!(index.insert(id, place), model.insert(id, place)),
                    2 => prop_assert_eq!(index.remove(id), model.remove(&id)),
                    _ => prop_assert_eq!(index.get(id), model.get(&id).copied()),
                }
                prop_assert_eq!(index.len(), model.len());
            }
            prop_assert!(index.after(None).eq(model.iter().map(|(id, place)| (*id, *place))));
            for after in [id(0), id(450), id(899)] {
                let expected = model.range((Bound::Excluded(after), Bound::Unbounded));
                prop_assert!(index.after(Some(after)).eq(expected.map(|(id, place)| (*id, *place))));
            }
        }
    }
}
