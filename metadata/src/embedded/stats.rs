//! Counters of an embedded store, as one plain value.
//!
//! Invariant: reading them disturbs nobody. Deliberately knows no metrics system: whoever exposes them does.

use std::time::Duration;

use crate::ordered_kv::Position;

/// What an embedded store did since it opened, and how its journal locations are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Groups that were made durable.
    pub groups: u64,
    /// Commits in them; divided by `groups`, the mean batch.
    pub commits: u64,
    /// Commits refused because a check did not hold.
    pub conflicts: u64,
    /// Bytes appended to the journal, counted once whatever the number of locations.
    pub journal_bytes: u64,
    /// Time that the slowest location took to make each group durable, summed.
    pub sync_time: Duration,
    /// The longest of those times.
    pub sync_time_max: Duration,
    /// Time to make groups visible once they were durable and applied, summed.
    pub apply_time: Duration,
    /// How often the rows were made durable.
    pub persists: u64,
    /// Checkpoints finished, counted once each whatever the number of locations.
    pub checkpoints: u64,
    /// Rows and checkpoints that could not be made durable; the journal keeps what they would have freed.
    pub checkpoint_failures: u64,
    /// The latest failure of that kind.
    pub last_checkpoint_failure: Option<String>,
    /// Nothing will ever appear at or below it.
    pub stable_position: Position,
    /// Why no commits are taken any more, if so.
    pub poisoned: Option<String>,
    /// Every location given at opening, in that order.
    pub locations: Vec<LocationStats>,
}

/// One journal location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocationStats {
    /// Its folder.
    pub dir: String,
    /// Why it takes no part any more, if so. It comes back when the store is reopened.
    pub out: Option<String>,
    /// Groups made durable here.
    pub groups: u64,
    /// Time that took, summed.
    pub sync_time: Duration,
    /// Bytes of journal kept here.
    pub journal_bytes: u64,
    /// The position that its latest checkpoint, or in the first location the durable rows, hold.
    pub base: Position,
}
