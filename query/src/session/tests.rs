//! Sessions over a store on memory.

mod bench;
mod reading;
mod standing;
mod writing;

use bench::Bench;
