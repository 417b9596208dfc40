//! Tests of the data path over nodes and metadata in memory, with faults.

mod collection;
mod faults;
mod footers;
mod memory;
mod repairs;
mod round_trips;
mod session;
mod world;
