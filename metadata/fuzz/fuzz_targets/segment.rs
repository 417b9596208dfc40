//! Foreign bytes as a journal segment and as a superblock.
#![no_main]

use ashlar_metadata::embedded::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::segment(bytes);
});
