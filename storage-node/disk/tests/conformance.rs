//! One suite for every [`Disk`]: what holds on the real file system holds on the faulty one.

use ashlar_disk::{DIRECT_ALIGN_BYTES, Disk, DiskFile, FaultyDisk, OpenMode, RealDisk};
use proptest::prelude::*;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn on_each(test: impl Fn(&dyn Disk, &Path)) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    test(&RealDisk::new(), folder.path());
    let faulty = FaultyDisk::default();
    let root = PathBuf::from("/root");
    faulty.create_dir_all(&root).expect("in memory");
    test(&faulty, &root);
}

fn read(file: &dyn DiskFile) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(file.len().expect("length")).expect("fits")];
    file.read_exact_at(&mut content, 0).expect("readable to its length");
    content
}

#[test]
fn open_modes_and_names() {
    on_each(|disk, root| {
        let (a, b) = (root.join("a"), root.join("b"));
        let missing = disk.open(&a, OpenMode::Existing).err().expect("missing");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let orphan = disk.open(&root.join("none/a"), OpenMode::CreateNew).err().expect("no parent");
        assert_eq!(orphan.kind(), ErrorKind::NotFound);
        disk.open(&a, OpenMode::CreateNew).expect("created");
        let twice = disk.open(&a, OpenMode::CreateNew).err().expect("exists");
        assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
        disk.open(&b, OpenMode::OpenOrCreate).expect("created");
        disk.create_dir_all(&root.join("x/y")).expect("created");
        disk.create_dir_all(&root.join("x/y")).expect("again");
        let names = disk.list_dir(root).expect("listed");
        assert_eq!(names, ["a", "b", "x"].map(PathBuf::from));
        disk.rename(&a, &b).expect("replaced");
        assert!(!disk.exists(&a).expect("asked") && disk.exists(&b).expect("asked"));
        disk.remove_file(&b).expect("removed");
        disk.sync_dir(root).expect("synced");
        assert_eq!(disk.list_dir(root).expect("listed"), ["x"].map(PathBuf::from));
        assert_eq!(disk.list_dir(&root.join("none")).expect_err("missing").kind(), ErrorKind::NotFound);
    });
}

#[test]
fn reads_writes_and_sizes() {
    on_each(|disk, root| {
        let file = disk.open(&root.join("f"), OpenMode::CreateNew).expect("created");
        assert!(file.is_empty().expect("length"));
        file.write_all_at(&[b"", b"ab", b"", b"cd"], 2).expect("written");
        assert_eq!(read(&*file), b"\0\0abcd");
        let mut long = [0; 7];
        assert_eq!(file.read_exact_at(&mut long, 0).expect_err("short").kind(), ErrorKind::UnexpectedEof);
        file.set_len(3).expect("cut");
        file.set_len(5).expect("grown");
        assert_eq!(read(&*file), b"\0\0a\0\0");
        file.write_durable_at(&[b"xyz"], 1).expect("written");
        assert_eq!(read(&*file), b"\0xyz\0");
        file.allocate(0, 8192).expect("allocated");
        assert_eq!(file.len().expect("length"), 8192);
        file.punch(0, 4096).expect("punched");
        assert_eq!(read(&*file), vec![0; 8192]);
        file.sync_data().expect("synced");
        let mut cached = [1; 16];
        if file.read_cached_at(&mut cached, 4000).expect("no error") {
            assert_eq!(cached, [0; 16]);
        }
        let many: Vec<Vec<u8>> = (0..700u16).map(|part| part.to_be_bytes().repeat(3)).collect();
        let parts: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        file.write_all_at(&parts, 0).expect("more parts than the kernel takes in a call");
        assert_eq!(read(&*file)[..4200], many.concat());
    });
}

#[test]
fn direct_writes_keep_their_contract() {
    on_each(|disk, root| {
        let file = disk.open_direct(&root.join("f"), OpenMode::CreateNew).expect("created");
        let page = vec![3; DIRECT_ALIGN_BYTES];
        for (parts, offset) in [(vec![&page[1..]], 0), (vec![&page[..]], 512)] {
            let refused = file.write_all_at(&parts, offset).expect_err("unaligned");
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        }
        let big: Vec<u8> = (0..3_000_000u32).map(|i| u8::try_from(i % 251).expect("small")).collect();
        let tail = vec![9; big.len().next_multiple_of(DIRECT_ALIGN_BYTES) - big.len()];
        file.write_durable_at(&[&big, &tail], 4096).expect("larger than a bounce buffer");
        file.write_all_at(&[&page[..100], &page[100..]], 0).expect("small parts");
        file.sync_data().expect("synced");
        assert_eq!(read(&*file), [page.clone(), big.clone(), tail].concat());
    });
}

#[test]
fn a_lock_is_exclusive_until_dropped() {
    on_each(|disk, root| {
        let path = root.join("lock");
        let held = disk.lock(&path).expect("free");
        assert_eq!(disk.lock(&path).err().expect("taken").kind(), ErrorKind::WouldBlock);
        drop(held);
        disk.lock(&path).expect("free again");
    });
}

#[test]
fn space_and_identity() {
    on_each(|disk, root| {
        let space = disk.space(root).expect("asked");
        assert!(space.available_bytes <= space.total_bytes && space.total_bytes > 0);
        let id = disk.file_system_id(root).expect("asked");
        disk.create_dir_all(&root.join("x")).expect("created");
        assert_eq!(disk.file_system_id(&root.join("x")).expect("asked"), id);
    });
}

#[derive(Clone, Debug)]
enum Op {
    Write(u16, Vec<u8>),
    SetLen(u16),
    Allocate(u16, u16),
    Punch(u16, u16),
    Sync,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..20_000u16, prop::collection::vec(any::<u8>(), 0..6000))
            .prop_map(|(at, data)| Op::Write(at, data)),
        (0..30_000u16).prop_map(Op::SetLen),
        (0..20_000u16, 1..9000u16).prop_map(|(at, len)| Op::Allocate(at, len)),
        (0..20_000u16, 1..9000u16).prop_map(|(at, len)| Op::Punch(at, len)),
        Just(Op::Sync),
    ]
}

fn run(file: &Arc<dyn DiskFile>, ops: &[Op]) -> Vec<u8> {
    for op in ops {
        match op {
            Op::Write(at, data) => file.write_all_at(&[data], u64::from(*at)),
            Op::SetLen(len) => file.set_len(u64::from(*len)),
            Op::Allocate(at, len) => file.allocate(u64::from(*at), u64::from(*len)),
            Op::Punch(at, len) => file.punch(u64::from(*at), u64::from(*len)),
            Op::Sync => file.sync_data(),
        }
        .expect("no faults");
    }
    read(&**file)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn both_disks_read_alike_after_any_operations(ops in prop::collection::vec(op(), 0..40)) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let real = RealDisk::new().open(&folder.path().join("f"), OpenMode::CreateNew).expect("created");
        let faulty = FaultyDisk::default();
        faulty.create_dir_all(Path::new("/r")).expect("in memory");
        let unreal = faulty.open(Path::new("/r/f"), OpenMode::CreateNew).expect("created");
        prop_assert_eq!(run(&real, &ops), run(&unreal, &ops));
    }
}
