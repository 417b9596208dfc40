//! Files as they are, cut, changed and lied about.

use proptest::prelude::*;

use super::{Encoding, Gguf, GgufError, Value};
use crate::synthetic::{self, File, Written};

fn small() -> File {
    File {
        entries: vec![
            ("a".into(), Written::U32(7)),
            ("b".into(), Written::Text("text".into())),
            ("c".into(), Written::Texts(vec!["x".into(), String::new()])),
            ("d".into(), Written::I32s(vec![-1, 2])),
            ("e".into(), Written::Truth(true)),
            ("f".into(), Written::F32(0.5)),
        ],
        tensors: vec![("t".into(), vec![32, 2], 8, vec![1; 68]), ("v".into(), vec![3], 0, vec![0; 12])],
    }
}

#[test]
fn values_and_tensors_are_read() {
    let bytes = small().bytes();
    let file = Gguf::read(&bytes).expect("a file");
    assert_eq!(file.whole("a", 0..8), Ok(7));
    assert!(
        file.whole("a", 0..7).is_err() && file.whole("b", 0..9).is_err() && file.whole("z", 0..9).is_err()
    );
    assert_eq!(file.text("b"), Ok("text"));
    assert_eq!(file.texts("c"), Ok(&["x", ""][..]));
    assert_eq!(file.wholes("d"), Ok(&[-1, 2][..]));
    assert_eq!(file.value("e"), Some(&Value::Truth(true)));
    assert_eq!(file.real("f"), Ok(0.5));
    let tensor = &file.tensors()["t"];
    assert_eq!(
        (tensor.encoding, tensor.rows, tensor.columns, tensor.bytes),
        (Encoding::Q8_0, 2, 32, &[1; 68][..])
    );
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let bytes = small().bytes();
    for end in 0..bytes.len() {
        assert!(Gguf::read(&bytes[..end]).is_err(), "{end}");
    }
}

#[test]
fn lengths_that_the_file_does_not_have_reserve_nothing() {
    let whole = small().bytes();
    // The numbers of tensors and entries, and the length of the first key.
    for at in [8, 16, 24] {
        for lie in [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 17] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            assert!(Gguf::read(&bytes).is_err(), "{at} {lie}");
        }
    }
    let listed = File { entries: vec![("c".into(), Written::I32s(vec![1]))], tensors: Vec::new() }.bytes();
    let at = 24 + 8 + 1 + 4 + 4;
    for lie in [u64::MAX, 1 << 61, 1 << 30] {
        let mut bytes = listed.clone();
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        assert_eq!(Gguf::read(&bytes), Err(GgufError::Truncated { what: "a list" }));
    }
}

#[test]
fn what_is_not_read_is_named() {
    let refused = |change: &dyn Fn(&mut File)| {
        let mut file = small();
        change(&mut file);
        Gguf::read(&file.bytes()).expect_err("refused")
    };
    let kind = refused(&|file| file.tensors[0].2 = 14);
    assert_eq!(kind, GgufError::TensorType { name: "t".into(), kind: 14 });
    assert!(matches!(refused(&|file| file.tensors[0].1 = vec![33, 2]), GgufError::Tensor { .. }));
    assert!(matches!(refused(&|file| file.tensors[0].1 = vec![32, 0]), GgufError::Tensor { .. }));
    assert!(matches!(
        refused(&|file| file.tensors[0].1 = vec![32, 1 << 40, 1 << 40]),
        GgufError::Tensor { .. }
    ));
    assert!(matches!(refused(&|file| file.tensors[0].1 = vec![32, 1, 1, 1, 1]), GgufError::Tensor { .. }));
    assert_eq!(refused(&|file| file.tensors[1].0 = "t".into()), GgufError::Twice { name: "t".into() });
    assert_eq!(refused(&|file| file.entries[1].0 = "a".into()), GgufError::Twice { name: "a".into() });
    let aligned = refused(&|file| file.entries.push(("general.alignment".into(), Written::U32(3))));
    assert!(matches!(aligned, GgufError::Value { .. }));
    let mut bytes = small().bytes();
    bytes[4] = 1;
    assert_eq!(Gguf::read(&bytes), Err(GgufError::Version { version: 1 }));
    bytes[0] = b'g';
    assert_eq!(Gguf::read(&bytes), Err(GgufError::Magic));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_end_in_values_or_errors(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = small().bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(file) = Gguf::read(&bytes) {
            for tensor in file.tensors().values() {
                prop_assert!(tensor.bytes.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_changed_model_is_loaded_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        // What comes before the tensors' bytes.
        let mut bytes = synthetic::model(1).bytes();
        for (at, value) in changes {
            let at = at.index(6000);
            bytes[at] = value;
        }
        let teacher = crate::Teacher::load(&bytes, crate::Precision::Quantised, true);
        if let Ok(mut teacher) = teacher {
            teacher.feed(&[1, 2, 3], 1, |logits| assert!(!logits.is_empty()));
        }
    }
}
