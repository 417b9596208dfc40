//! The front doors over a store on memory, with real clients.

mod pg;
mod stand;
