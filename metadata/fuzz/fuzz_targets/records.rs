//! Foreign bytes as the records of a group, and records through the encoder and back.
#![no_main]

use ashlar_metadata::embedded::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u32, u64, Vec<Vec<(Vec<u8>, Option<Vec<u8>>)>>)| {
    let (bytes, count, sequence, commits) = input;
    fuzzing::records(bytes, count, sequence);
    fuzzing::round_trip(&commits);
});
