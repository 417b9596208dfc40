//! Sessions over a store on memory.

mod answers;
mod bench;
mod partitions;
mod random;
mod reading;
mod standing;
mod system;
mod transactions;
mod writing;

use bench::Bench;
