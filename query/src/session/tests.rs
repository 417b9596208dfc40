//! Sessions over a store on memory.

mod bench;
mod reading;

use bench::Bench;
