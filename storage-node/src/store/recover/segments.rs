//! What the replayed log means for segments: which extents are live, which are not where they should be, and
//! which space lies between them.
//!
//! Keeps the invariant that no two live shards share a page: where a damaged log says otherwise, the later
//! record is right, because space is given away only after whoever had it was deleted.

use super::super::index::FileId;
use super::super::record::{FooterHeader, RecordHeader};
use super::super::space::Punch;
use super::super::state::{SegmentUse, State, page_offset};
use super::{OpenReport, PAGE, to_u64};
use ashlar_chunker::ShardId;
use std::collections::{BTreeMap, HashMap};

/// An extent as the last record about its place describes it.
struct Named {
    id: ShardId,
    /// All that it takes.
    bytes: u64,
    /// Place of the record in the log.
    order: u64,
}

/// Extents by segment and first page.
#[derive(Default)]
pub(super) struct Extents {
    named: HashMap<(u32, u32), Named>,
    records: u64,
}

impl Extents {
    /// Notes a record; they come in the order of the log.
    pub(super) fn note(&mut self, segment: u32, page: u32, header: &RecordHeader) {
        let footer = u64::from(header.footer_bytes) + to_u64(FooterHeader::BYTES);
        let bytes = (u64::from(header.shard_bytes) + footer).next_multiple_of(PAGE);
        self.records += 1;
        self.named.insert((segment, page), Named { id: header.id, bytes, order: self.records });
    }
}

/// A live extent in its segment.
#[derive(Clone, Copy)]
struct Live {
    start: u64,
    end: u64,
    order: u64,
    id: ShardId,
}

/// Counts live extents, drops those whose bytes are gone, and finds the gaps between them, which may hold
/// what was never sealed or never punched.
pub(super) fn settle(state: &mut State, extents: &Extents, report: &mut OpenReport) -> Vec<Punch> {
    let mut live: BTreeMap<u32, Vec<Live>> = BTreeMap::new();
    let mut lost = Vec::new();
    for (id, location) in state.index.after(None) {
        let FileId::Segment(segment) = location.file else { continue };
        let start = page_offset(location.offset);
        let named = extents.named.get(&(segment, location.offset)).filter(|named| named.id == id);
        let file_bytes = state.segments.get(&segment).map_or(0, |used| used.file_bytes);
        match named {
            Some(named) if start + named.bytes <= file_bytes => {
                let end = start + named.bytes;
                live.entry(segment).or_default().push(Live { start, end, order: named.order, id });
            }
            _ => lost.push(id),
        }
    }
    let mut punches = Vec::new();
    for (segment, mut extents) in live {
        extents.sort_unstable_by_key(|extent| extent.start);
        if extents.windows(2).any(|pair| pair[0].end > pair[1].start) {
            lost.extend(give_way(&mut extents));
        }
        let used = state.segments.get_mut(&segment).expect("only known segments hold live extents");
        used.extents = to_u64(extents.len());
        let mut end = 0;
        for extent in extents {
            if extent.start > end {
                let page = u32::try_from(end / PAGE).expect("pages of a segment fit u32");
                punches.push(Punch { segment, page, bytes: extent.start - end, footer: None });
                // Counted until it is punched, so that the segment is not filled again before.
                used.extents += 1;
            }
            end = extent.end;
        }
        used.end = end;
    }
    for id in lost {
        state.remove(id);
        report.lost_shards += 1;
    }
    let room = |used: &SegmentUse| used.file_bytes.saturating_sub(used.end);
    let roomy = state.segments.iter().filter(|(_, used)| used.extents > 0 && room(used) > 0);
    state.open_segment = roomy.max_by_key(|(number, used)| (room(used), **number)).map(|(number, _)| *number);
    punches
}

/// Leaves all space of the segments there are as it is until the next opening: nothing is filled that may be
/// somebody's.
pub(super) fn freeze(state: &mut State) {
    for used in state.segments.values_mut() {
        used.end = used.file_bytes;
        used.extents += 1;
    }
    state.open_segment = None;
}

/// Takes out of `extents`, which are ordered by their starts, those that overlap one with a later record.
fn give_way(extents: &mut Vec<Live>) -> Vec<ShardId> {
    let mut by_order = std::mem::take(extents);
    by_order.sort_unstable_by_key(|extent| std::cmp::Reverse(extent.order));
    let mut taken: BTreeMap<u64, Live> = BTreeMap::new();
    let mut lost = Vec::new();
    for extent in by_order {
        // Those taken do not overlap each other, so the last that starts before the end decides.
        let before = taken.range(..extent.end).next_back();
        if before.is_some_and(|(_, before)| before.end > extent.start) {
            lost.push(extent.id);
        } else {
            taken.insert(extent.start, extent);
        }
    }
    extents.extend(taken.into_values());
    lost
}

#[cfg(test)]
mod tests {
    use super::super::super::index::Location;
    use super::super::super::record::RecordKind;
    use super::*;
    use crate::service::FencingToken;
    use ashlar_chunker::{BlobId, SessionId, ShardIndex};

    /// Replays extents of one segment: counter, first page, shard bytes.
    fn replayed(records: &[(u64, u32, u32)]) -> (State, Extents) {
        let (mut state, mut extents) = (State::default(), Extents::default());
        state.segments.insert(3, SegmentUse { file_bytes: 1 << 20, end: 0, extents: 0 });
        for (counter, page, shard_bytes) in records.iter().copied() {
            let id = BlobId { session: SessionId(1), counter }.chunk(0).shard(ShardIndex(0));
            let kind = RecordKind::Extent { segment: 3, page };
            let token = FencingToken::default();
            extents.note(3, page, &RecordHeader { kind, id, shard_bytes, footer_bytes: 0, token });
            state.insert(id, Location { file: FileId::Segment(3), offset: page, shard_bytes });
        }
        (state, extents)
    }

    fn kept(records: &[(u64, u32, u32)]) -> (Vec<u64>, u64, Vec<(u32, u64)>) {
        let (mut state, extents) = replayed(records);
        let mut report = OpenReport::default();
        let punches = settle(&mut state, &extents, &mut report);
        let kept: Vec<u64> = state.index.after(None).map(|(id, _)| id.chunk.blob.counter).collect();
        let used = state.segments[&3];
        assert_eq!(used.extents, to_u64(kept.len() + punches.len()));
        (kept, report.lost_shards, punches.iter().map(|punch| (punch.page, punch.bytes)).collect())
    }

    #[test]
    fn where_extents_overlap_the_later_record_wins() {
        assert_eq!(kept(&[(1, 0, 8000), (2, 2, 8000)]), (vec![1, 2], 0, vec![]));
        assert_eq!(kept(&[(1, 0, 8000), (2, 0, 8000)]), (vec![2], 1, vec![]));
        assert_eq!(kept(&[(1, 0, 8000), (2, 1, 8000)]), (vec![2], 1, vec![(0, 4096)]));
        assert_eq!(kept(&[(1, 1, 8000), (2, 0, 8000)]), (vec![2], 1, vec![]));
        // One that loses does not take others with it.
        assert_eq!(kept(&[(1, 2, 8000), (2, 1, 8000), (3, 0, 3000)]), (vec![2, 3], 1, vec![]));
        assert_eq!(kept(&[(2, 4, 20_000), (3, 0, 20_000), (1, 9, 100)]), (vec![1, 3], 1, vec![(5, 16_384)]));
    }

    #[test]
    fn what_reaches_past_the_file_is_lost() {
        assert_eq!(kept(&[(1, 255, 4000), (2, 254, 9000)]), (vec![1], 1, vec![(0, 255 * 4096)]));
    }
}
