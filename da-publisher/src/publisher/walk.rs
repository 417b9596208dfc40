//! The walk through all rows that batches carry: when one begins, how far it is, and what it makes needless.
//!
//! Invariant: the last complete walk but one and everything since is never said to be needless.

use std::time::Duration;

use ashlar_metadata::namespace::log::{WalkBounds, WalkRow};

/// Walks that are kept, with everything since the first batch of the older.
const KEPT: usize = 2;

/// Whether a walk is to begin.
pub(super) fn is_due(walk: &WalkRow, now: u64, retention: Duration) -> bool {
    let third = u64::try_from(retention.as_millis() / 3).unwrap_or(u64::MAX);
    // A clock that was set back says nothing of how long ago that was.
    let is_over = now < walk.begun_at || now - walk.begun_at >= third;
    !is_under_way(walk) && (walk.number == 0 || walk.is_wanted || is_over)
}

/// Begins a walk with a batch.
pub(super) fn begin(walk: &mut WalkRow, now: u64, sequence: u64, bounds: WalkBounds) {
    walk.number += 1;
    walk.begun_at = now;
    walk.first = sequence;
    walk.bounds = bounds;
    walk.is_wanted = false;
}

/// Whether a walk has begun and is not complete.
pub(super) fn is_under_way(walk: &WalkRow) -> bool {
    walk.cursor.is_some() || walk.ends_at.is_some()
}

/// Goes on with a stretch that was read at `position`.
pub(super) fn advance(walk: &mut WalkRow, cursor: Option<Vec<u8>>, position: u64) {
    walk.ends_at = cursor.is_none().then_some(position);
    walk.cursor = cursor;
}

/// Whether the walk is complete with a batch that has all entries up to `last_position`: then it also has those because of
/// which rows were passed over.
pub(super) fn end(walk: &mut WalkRow, sequence: u64, last_position: u64) -> bool {
    let is_complete = walk.ends_at.is_some_and(|ends_at| ends_at <= last_position);
    if is_complete {
        walk.ends_at = None;
        walk.complete.push((walk.first, sequence));
        let surplus = walk.complete.len().saturating_sub(KEPT);
        walk.complete.drain(..surplus);
    }
    is_complete
}

/// The first batch that a recovery may need: those before it may be given up. `None`: all are needed.
pub(super) fn floor(walk: &WalkRow, settled: u64) -> Option<u64> {
    match walk.complete[..] {
        [(first, _), (_, last)] if last <= settled => Some(first),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_walks_and_all_since_are_needed() {
        let mut walk = WalkRow::default();
        let retention = Duration::from_secs(30);
        assert!(is_due(&walk, 5, retention), "the first begins at once");
        for (number, sequence) in (1..).zip([1, 10, 20]) {
            let now = 10_000 * number;
            assert!(is_due(&walk, now, retention));
            begin(&mut walk, now, sequence, WalkBounds::default());
            advance(&mut walk, Some(vec![1]), 5);
            assert!(!end(&mut walk, sequence, 9) && !is_due(&walk, now + 60_000, retention), "one at a time");
            advance(&mut walk, None, 10);
            assert!(!end(&mut walk, sequence + 1, 9) && !is_due(&walk, now + 60_000, retention));
            assert!(end(&mut walk, sequence + 2, 10));
            assert!(!is_due(&walk, now + 9_999, retention));
        }
        assert_eq!(walk.complete, [(10, 12), (20, 22)]);
        assert_eq!(floor(&walk, 21), None, "the newest is not on the chain to stay");
        assert_eq!(floor(&walk, 22), Some(10));
        assert!(is_due(&walk, 1, retention), "the clock was set back");
        walk.is_wanted = true;
        assert!(is_due(&walk, 30_001, retention));
    }
}
