//! Lost disks: node folders and the metadata directory go, everything comes back.

use std::path::Path;

use crate::server::{Server, Stand, pattern, refusal, remove};

const OBJECTS: u64 = 24;

fn fill(server: &Server) {
    server.put("/bucket", b"");
    for seed in 0..OBJECTS {
        server.put(&format!("/bucket/{seed}"), &pattern(seed, size(seed)));
    }
}

fn size(seed: u64) -> usize {
    usize::try_from(seed * seed * 9000 + 1).unwrap()
}

fn check(server: &Server) {
    for seed in 0..OBJECTS {
        assert_eq!(server.get_object(&format!("/bucket/{seed}")), pattern(seed, size(seed)), "object {seed}");
    }
}

#[test]
fn any_two_of_six_nodes_may_be_deleted_and_come_back() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    fill(&server);
    server.stop();
    for node in [1, 4] {
        remove(&stand.data().join(format!("nodes/node-{node}")));
    }
    let server = stand.start(&[]);
    assert_eq!(server.log().matches("starts empty").count(), 2, "{}", server.log());
    check(&server);
    server.wait_redundant();
    server.stop();
    // Redundancy is back: two others may go.
    for node in [0, 5] {
        remove(&stand.data().join(format!("nodes/node-{node}")));
    }
    let server = stand.start(&[]);
    check(&server);
}

#[test]
fn more_lost_nodes_than_parity_replaces_are_not_taken_for_a_fresh_start() {
    let stand = Stand::new();
    stand.start(&[]).stop();
    for node in 0..3 {
        remove(&stand.data().join(format!("nodes/node-{node}")));
    }
    let said = refusal(&stand.up(&[]).output().unwrap());
    assert!(said.contains("node-0, node-1, node-2") && said.contains("--disk"), "{said}");
}

#[test]
fn an_empty_metadata_folder_beside_full_nodes_is_refused_and_may_be_put_back() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    fill(&server);
    server.stop();
    let metadata = stand.data().join("metadata");
    let aside = stand.path("metadata-aside");
    std::fs::rename(&metadata, &aside).unwrap();
    // The second attempt finds what the first one left.
    for _ in 0..2 {
        let said = refusal(&stand.up(&[]).output().unwrap());
        assert!(said.contains(&metadata.display().to_string()), "{said}");
        assert!(said.contains("nodes/node-5") && said.contains("--data-dir"), "{said}");
    }
    remove(&metadata);
    std::fs::rename(&aside, &metadata).unwrap();
    check(&stand.start(&[]));
}

#[test]
fn with_several_disks_the_metadata_directory_and_two_nodes_may_go_at_once() {
    let stand = Stand::new();
    let disks: Vec<String> =
        (0..3).map(|disk| stand.path(&format!("disk{disk}")).display().to_string()).collect();
    let flags: Vec<&str> = disks.iter().flat_map(|disk| ["--disk", disk.as_str()]).collect();
    let server = stand.start(&flags);
    fill(&server);
    server.kill();
    let keepers: Vec<_> = (0..6)
        .flat_map(|node| disks.iter().map(move |disk| format!("{disk}/nodes/node-{node}")))
        .filter(|dir| std::path::Path::new(dir).join("journal").is_dir())
        .collect();
    assert_eq!(keepers.len(), 3, "{keepers:?}");
    remove(&stand.data().join("metadata"));
    for keeper in &keepers[..2] {
        remove(std::path::Path::new(keeper));
    }
    // The next start needs none of the flags: where nodes lie is recorded.
    let server = stand.start(&[]);
    assert!(server.log().contains("brought back from the journal"), "{}", server.log());
    check(&server);
    server.wait_redundant();
    server.stop();
    let server = stand.start(&[]);
    check(&server);
}

#[test]
fn a_node_whose_files_are_unreadable_is_set_aside_and_filled_again() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    fill(&server);
    server.stop();
    let dir = stand.data().join("nodes/node-3");
    overwrite(&dir);
    let server = stand.start(&[]);
    check(&server);
    server.wait_redundant();
    assert!(dir.join("superblock").exists());
}

/// Leaves every file under a folder with its length and nothing of what it held.
fn overwrite(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            overwrite(&path);
        } else {
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::write(&path, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
        }
    }
}

#[test]
fn a_disk_belongs_to_one_server() {
    let (first, second) = (Stand::new(), Stand::new());
    let disk = first.path("shared").display().to_string();
    let server = first.start(&["--disk", &disk]);
    let said = refusal(&second.up(&["--disk", &disk]).output().unwrap());
    assert!(said.contains("in use by the process with pid"), "{said}");
    assert!(server.stop().success());
}
