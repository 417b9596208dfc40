//! Bytes found on a disk as a superblock and as the header of a log file.
#![no_main]

use ashlar_storage_node::Superblock;
use ashlar_storage_node::format::FileHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(superblock) = Superblock::decode(bytes) {
        let encoded = superblock.encode();
        assert_eq!(Superblock::decode(&encoded), Ok(superblock));
    }
    if let Some(header) = FileHeader::decode(bytes) {
        assert_eq!(FileHeader::decode(&header.encode()), Some(header));
    }
});
