//! Scans: from a location and a format to a plan that reads pinned objects.
//!
//! Invariant: what a plan reads was pinned for that execution; a plan without pins does not run. Bytes come from
//! the store in process and were checked there.

pub(crate) mod footers;
pub(crate) mod format;
pub(crate) mod lease;
mod null_words;
mod paged;
mod parquet_reader;
pub(crate) mod partitions;
pub(crate) mod pinned_store;
pub(crate) mod pins;
mod records;
pub(crate) mod schema;
pub(crate) mod table;
