//! Writing: rows become staged objects, and staged objects become visible together.

pub(crate) mod changes;
mod folders;
pub(crate) mod rows;
pub(crate) mod staged_store;
