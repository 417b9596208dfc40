//! Files that lie about themselves.

use proptest::prelude::*;

use super::*;

fn file() -> Vec<u8> {
    to_bytes(&[("b", &[2], &[1.0, 2.0]), ("a", &[2, 3], &[0.5; 6])], "key", "text".into()).unwrap()
}

/// The file with another header.
fn with_header(change: impl FnOnce(&str) -> String) -> Vec<u8> {
    let bytes = file();
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
    let header = change(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
    let mut other = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    other.extend(header.as_bytes());
    other.extend(&bytes[8 + length..]);
    other
}

#[test]
fn tensors_come_back_by_name_and_shape() {
    let bytes = file();
    let read = TensorFile::parse(&bytes).unwrap();
    assert_eq!(read.floats("b", &[2]).unwrap(), [1.0, 2.0]);
    assert_eq!(read.floats("a", &[2, 3]).unwrap(), [0.5; 6]);
    assert_eq!(read.text("key"), Some("text"));
    let shape = TensorError::Shape { name: "a".into(), found: vec![2, 3], expected: vec![6] };
    assert_eq!(read.check("a", &[6]), Err(shape));
    assert_eq!(read.check("c", &[6]), Err(TensorError::Missing { name: "c".into() }));
}

#[test]
fn a_header_that_claims_more_than_is_there_is_refused() {
    assert!(with_header(str::to_owned) == file());
    let refused = |bytes: &[u8]| TensorFile::parse(bytes).unwrap_err();
    let mut huge = file();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(refused(&huge), TensorError::Header { bytes: u64::MAX, .. }));
    let lies: [(&str, &str); 5] = [
        ("[2,3]", "[2000000000,3]"),
        ("[2,3]", "[4294967296,4294967296]"),
        ("[2,3]", "[-2,3]"),
        ("\"F32\"", "\"F99\""),
        ("\"data_offsets\":[0", "\"data_offsets\":[8"),
    ];
    for (from, to) in lies {
        let bytes = with_header(|header| header.replacen(from, to, 1));
        assert_ne!(bytes, file(), "{from} stands in the header");
        assert!(matches!(refused(&bytes), TensorError::Malformed { .. }), "{to}");
    }
    assert!(matches!(refused(&file()[..40]), TensorError::Malformed { .. }));
    assert!(matches!(refused(b"12"), TensorError::Malformed { .. }));
    let longer: Vec<u8> = file().into_iter().chain([0]).collect();
    assert!(matches!(refused(&longer), TensorError::Malformed { .. }));
}

#[test]
fn what_is_not_finite_is_no_weight() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bytes = to_bytes(&[("a", &[1], &[wrong])], "key", String::new()).unwrap();
        let read = TensorFile::parse(&bytes).unwrap();
        assert_eq!(read.floats("a", &[1]), Err(TensorError::NotFinite { name: "a".into() }));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(changes in prop::collection::vec((0_usize..400, any::<u8>()), 1..6)) {
        let mut bytes = file();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(read) = TensorFile::parse(&bytes) {
            for name in read.names() {
                let shape = read.shape(&name).unwrap().to_vec();
                let _ = read.floats(&name, &shape);
            }
        }
    }
}
