//! Foreign bytes as a checkpoint.
#![no_main]

use ashlar_metadata::embedded::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (rows, bytes) = input;
    fuzzing::checkpoint(bytes, rows);
});
