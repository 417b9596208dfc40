//! The suite that every [`OrderedKv`](crate::OrderedKv) must pass.
