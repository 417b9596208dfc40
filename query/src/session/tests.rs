//! Sessions over a store on memory.

mod answers;
mod bench;
mod bounds;
mod paging;
mod reading;
mod rights;
mod standing;
mod system;
mod writing;

use bench::Bench;
