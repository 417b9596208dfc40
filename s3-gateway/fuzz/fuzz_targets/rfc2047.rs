//! Any header bytes: what was decoded survives being encoded and decoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let (decoded, again) = ashlar_s3_gateway::fuzzing::rfc2047(raw);
    assert_eq!(decoded, again);
});
