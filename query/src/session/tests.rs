//! Sessions over a store on memory.

mod answers;
mod bench;
mod bounds;
mod paging;
mod partitions;
mod random;
mod reading;
mod rights;
mod standing;
mod system;
mod transactions;
mod writing;

use bench::Bench;
