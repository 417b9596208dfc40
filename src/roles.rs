//! The roles of a process, one file each: what it opens, with which settings, and what it says about it.
//!
//! Deliberately ties no two of them together: `up` does.

pub(crate) mod doors;
pub(crate) mod gateway;
pub(crate) mod metadata;
pub(crate) mod models;
pub(crate) mod objects;
pub(crate) mod publishing;
pub(crate) mod query;
pub(crate) mod storage;
