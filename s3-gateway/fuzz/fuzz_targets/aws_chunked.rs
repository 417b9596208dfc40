//! Any bytes as an `aws-chunked` body: the same outcome however they are cut into pieces.
#![no_main]

use ashlar_s3_gateway::fuzzing::Decoder;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// Decoded bytes and whether the body was whole; `None` where the framing is broken.
fn decode(input: &[u8], step: usize) -> Option<(Vec<u8>, bool)> {
    let mut decoder = Decoder::unsigned();
    let mut out = Vec::new();
    for piece in input.chunks(step) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(data) = decoder.next(&mut piece).ok()? {
            out.extend_from_slice(&data);
        }
    }
    let whole = decoder.finish().is_ok();
    Some((out, whole))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    assert_eq!(decode(bytes, usize::from(step) + 1), decode(bytes, usize::MAX));
});
