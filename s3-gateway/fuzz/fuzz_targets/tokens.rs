//! Any text as a continuation token: refused, unless it is the one that was sealed.
#![no_main]

use ashlar_s3_gateway::fuzzing::Tokens;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (place, token) = input;
    let tokens = Tokens::new([7; 32]);
    let sealed = tokens.seal(&["bucket", "prefix"], place);
    assert_eq!(tokens.open(&["bucket", "prefix"], &sealed).as_deref(), Some(place));
    if token != sealed {
        // Another token can name the same place only by being the same bytes.
        assert_ne!(tokens.open(&["bucket", "prefix"], token).as_deref(), Some(place));
    }
});
