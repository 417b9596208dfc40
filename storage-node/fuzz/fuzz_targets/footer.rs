//! Bytes found behind a shard as its footer.
#![no_main]

use ashlar_storage_node::format::FooterHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let unchecked = FooterHeader::decode_unchecked(bytes);
    if let Some(header) = FooterHeader::decode(bytes) {
        assert_eq!(unchecked, Some(header));
        let end = FooterHeader::BYTES + usize::try_from(header.footer_bytes).expect("bounded");
        assert!(end <= bytes.len());
    }
});
