//! Manifests have one spelling, and refuse everything else.

use proptest::prelude::*;

use super::*;

fn file(name: &str) -> Entry {
    Entry { name: name.into(), length: 5, content_root: content_root(name.as_bytes()) }
}

#[test]
fn order_of_giving_does_not_matter() {
    let one = Manifest::new(vec![file("b"), file("a/c"), file("a-b")]).unwrap();
    let other = Manifest::new(vec![file("a-b"), file("b"), file("a/c")]).unwrap();
    assert_eq!(one, other);
    assert_eq!(one.root(), other.root());
    assert_eq!(Manifest::from_bytes_of(&one.to_bytes(), one.root()), Ok(one.clone()));
    let elsewhere = ContentRoot([7; 32]);
    let refused = ManifestError::Root { expected: elsewhere, found: one.root() };
    assert_eq!(Manifest::from_bytes_of(&one.to_bytes(), elsewhere), Err(refused));
    assert_eq!(one.entry("a/c"), Some(&file("a/c")));
    assert_eq!(one.entry("a"), None);
}

#[test]
fn names_stay_within_the_folder() {
    for name in ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a\\b", "c:a", "a\nb", "a\0"] {
        assert_eq!(Manifest::new(vec![file(name)]), Err(ManifestError::Name { name: name.into() }));
    }
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    assert!(Manifest::new(vec![file(&long)]).is_err());
    assert!(Manifest::new(vec![file(&long[1..])]).is_ok());
    assert!(Manifest::new(vec![file("ein Ordner/größe.json"), file(".hidden")]).is_ok());
}

#[test]
fn a_file_is_no_folder() {
    let both = Manifest::new(vec![file("a"), file("a-b"), file("a/b")]);
    assert_eq!(both, Err(ManifestError::FileAndFolder { name: "a".into() }));
}

#[test]
fn what_is_no_manifest_is_refused() {
    let bytes = Manifest::new(vec![file("a"), file("b")]).unwrap().to_bytes();
    let text = String::from_utf8(bytes).unwrap();
    let refuse = |text: &str| Manifest::from_bytes(text.as_bytes()).unwrap_err();
    assert_eq!(refuse(""), ManifestError::FirstLine);
    assert_eq!(refuse(&text.replace("model 1", "model 2")), ManifestError::FirstLine);
    assert_eq!(refuse(text.trim_end()), ManifestError::NotLines);
    assert_eq!(refuse("ashlar-model 1\n"), ManifestError::Count { count: 0 });
    assert_eq!(refuse(&text.replacen(" 5 ", " 05 ", 1)), ManifestError::Line { line: 2 });
    assert_eq!(refuse(&text.replacen(" 5 b", " +5 b", 1)), ManifestError::Line { line: 3 });
    assert_eq!(refuse(&text.replacen(" 5 b", " 5  b", 1)), ManifestError::Order { name: " b".into() });
    assert_eq!(refuse(&text.replacen(" 5 a", " 5 b", 1)), ManifestError::Order { name: "b".into() });
    assert_eq!(refuse(&format!("{text}\n")), ManifestError::Line { line: 4 });
    let many: String = (0..=FILES_MAX).map(|n| format!("{} 1 {n:05}\n", "0".repeat(64))).collect();
    let many = format!("ashlar-model 1\n{many}");
    assert_eq!(refuse(&many), ManifestError::Count { count: FILES_MAX + 1 });
    let long = vec![b'a'; MANIFEST_BYTES_MAX + 1];
    assert_eq!(Manifest::from_bytes(&long), Err(ManifestError::TooLong { bytes: long.len() }));
}

proptest! {
    #[test]
    fn what_is_read_has_these_bytes(at in 0_usize..200, byte: u8) {
        let mut bytes = Manifest::new(vec![file("a"), file("b/c")]).unwrap().to_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(manifest) = Manifest::from_bytes(&bytes) {
            prop_assert_eq!(manifest.to_bytes(), bytes);
        }
    }
}
