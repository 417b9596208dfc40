//! A folder gives the bytes of its root or none.

use super::*;

#[test]
fn other_bytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    for (name, text) in [("a", "one"), ("inner/b", "two"), (".c", "three")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let model = ModelFolder::of_files(folder.path()).unwrap();
    let names: Vec<_> = model.manifest().entries().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "inner/b"]);
    assert_eq!(model.read("inner/b", 3).unwrap(), b"two");
    assert!(matches!(model.read("inner/b", 2), Err(FolderError::TooLarge { length: 3, .. })));
    assert!(matches!(model.read("c", 9), Err(FolderError::Missing { .. })));
    std::fs::write(folder.path().join("a"), "eno").unwrap();
    assert!(matches!(model.read("a", 9), Err(FolderError::OtherBytes { .. })));
    std::fs::write(folder.path().join("a"), "longer").unwrap();
    assert!(matches!(model.read("a", 9), Err(FolderError::OtherBytes { .. })));
    assert_ne!(ModelFolder::of_files(folder.path()).unwrap().root(), model.root());
}

#[test]
fn a_model_of_one_file_is_named_by_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.safetensors");
    std::fs::write(&path, "weights").unwrap();
    let root = content_root(b"weights");
    assert_eq!(ModelFile::read(&path, Some(root), 7).unwrap().bytes, b"weights");
    assert!(matches!(
        ModelFile::read(&path, Some(ContentRoot::ZERO), 7),
        Err(FolderError::OtherBytes { .. })
    ));
    assert!(matches!(ModelFile::read(&path, None, 6), Err(FolderError::TooLarge { .. })));
    std::fs::write(&path, "ashlar-model 1\n").unwrap();
    assert!(matches!(ModelFile::read(&path, None, 99), Err(FolderError::OtherBytes { .. })));
}

#[cfg(unix)]
#[test]
fn links_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("a")).unwrap();
    assert!(matches!(ModelFolder::of_files(folder.path()), Err(FolderError::NotPart { .. })));
}
