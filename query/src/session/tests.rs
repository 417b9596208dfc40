//! Sessions over a store on memory.

mod answers;
mod bench;
mod reading;
mod standing;
mod system;
mod writing;

use bench::Bench;
