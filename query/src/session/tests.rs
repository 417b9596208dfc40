//! Sessions over a store on memory.

mod bench;
mod reading;
mod standing;

use bench::Bench;
