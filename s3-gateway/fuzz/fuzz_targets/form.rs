//! Any bytes as a browser's form: no panic, bounded fields, and a file that is never longer than what came.
#![no_main]

use ashlar_s3_gateway::fuzzing::FormReader;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let mut reader = FormReader::new("XY", 4096);
    let mut pieces = bytes.chunks(usize::from(step) + 1);
    loop {
        let Some(piece) = pieces.next() else { return };
        match reader.try_push(piece) {
            None => return,
            Some(false) => {}
            Some(true) => break,
        }
    }
    let mut file = reader.into_file();
    let mut length = 0;
    for piece in pieces {
        file.push(Bytes::copy_from_slice(piece));
        while let Some(data) = file.next() {
            length += data.len();
        }
    }
    assert!(length <= bytes.len());
});
