//! Foreign bytes of every kind: they are refused or read, and never more than that.

use ashlar_verify::{
    ChainEvidence, Hash, Header, HeaderError, Operation, Proof, Receipt, Record, RecordError, Trust,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{World, record};

proptest! {
    #[test]
    fn a_record_reads_back(
        version: [u8; 16],
        bucket in "[a-z0-9.-]{1,63}",
        key in "\\PC{1,200}",
        marker: bool,
        cut: prop::sample::Index,
    ) {
        let bytes = record(if marker { 2 } else { 1 }, version.into(), (&bucket, &key), None);
        let read = Record::decode(&bytes).unwrap();
        prop_assert_eq!((read.version.0, &read.bucket, &read.key), (version, &bucket, &key));
        prop_assert_eq!(read.operation == Operation::DeleteMarker, marker);
        // No record is the beginning of another, and none goes on.
        prop_assert!(Record::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert_eq!(Record::decode(&[&bytes[..], &[0]].concat()), Err(RecordError::Length));
    }

    #[test]
    fn bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Record::decode(&bytes);
        let _ = Header::decode(&bytes);
        let _ = Proof::parse(&bytes);
        let _ = Trust::parse(&bytes);
        let _ = ChainEvidence::parse(&bytes);
        let text: String = bytes.iter().map(|byte| char::from(byte & 127)).collect();
        prop_assert!(Receipt::check(&text, &Hash::ZERO).is_err());
    }

    #[test]
    fn a_header_of_noise_is_in_order_or_refused(mut bytes in vec(any::<u8>(), 190)) {
        bytes[..2].copy_from_slice(&[0, 1]);
        bytes[154..186].fill(0);
        match Header::decode(&bytes) {
            Ok(header) => prop_assert!(header.first_position <= header.last_position && header.sequence > 0),
            Err(error) => prop_assert!(matches!(error, HeaderError::Order | HeaderError::NotZero)),
        }
    }
}

#[test]
fn a_file_of_any_length_is_cut_off_somewhere() {
    let proof = World::new().proof(0, 0).to_json();
    for end in 0..proof.len() {
        assert!(Proof::parse(&proof.as_bytes()[..end]).is_err(), "{end} bytes");
    }
    let padded = proof + &" ".repeat(ashlar_verify::FILE_BYTES_MAX);
    assert!(Proof::parse(padded.as_bytes()).unwrap_err().to_string().contains("at most"));
}

/// Which fields each operation may have, as `record.md` lists them.
#[test]
fn a_record_has_what_its_operation_has_and_no_more() {
    let object = World::new().plain;
    let fields = |op, names, object, metadata: bool| {
        let mut bytes = record(op, [7; 16].into(), names, object);
        if matches!(op, 4..=6) {
            bytes[10..26].fill(0);
        }
        if op == 3 {
            bytes[98..130].fill(0);
        }
        if !metadata {
            bytes[130..162].fill(0);
        }
        Record::decode(&bytes).is_ok()
    };
    let (key, bucket, none) = (("bucket", "key"), ("bucket", ""), ("", ""));
    assert!(fields(1, key, Some(&object), true) && !fields(1, bucket, Some(&object), true));
    assert!(fields(2, key, None, true) && !fields(2, key, Some(&object), true));
    assert!(fields(3, key, Some(&object), false) && !fields(3, key, Some(&object), true));
    assert!(fields(4, bucket, None, true) && !fields(4, key, None, true) && !fields(4, none, None, true));
    assert!(fields(5, bucket, None, false) && !fields(5, bucket, None, true));
    assert!(fields(6, none, None, true) && !fields(6, bucket, None, true));
    assert!(!fields(7, none, None, false) && !fields(0, none, None, false));
}

#[test]
fn files_read_back() {
    let world = World::new();
    let proof = world.proof(1, 1);
    assert_eq!(Proof::parse(proof.to_json().as_bytes()).unwrap(), proof);
    assert_eq!(Trust::parse(world.trust.to_json().as_bytes()).unwrap(), world.trust);
}
