//! Foreign bytes as a record of the log: refused, or the one encoding of what they say.

#![no_main]

use ashlar_metadata::namespace::record::Record;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(&record.encode()[..], bytes);
    }
});
