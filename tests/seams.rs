//! Nobody goes round the seams: time of day, tasks and disks are reached in named places only.
//!
//! Reads the sources as text, without tests, examples and benches: what a seeded simulation replaces must not
//! be called elsewhere. A new place is added here with its reason, or not at all.

use std::fs;
use std::path::{Path, PathBuf};

/// Text that may stand in some files only, and why.
const SEAMS: [(&str, &[&str], &str); 6] = [
    (
        "SystemTime::now",
        &["objects/src/clock.rs", "chain/dev-chain/src/clock.rs"],
        "the time of day comes from `Clock`",
    ),
    ("tokio::spawn(", &["metadata/src/conformance.rs"], "tasks belong to a group that can be waited for"),
    ("thread::spawn(", &[], "threads have names: `thread::Builder`"),
    (
        "std::fs::",
        // A model's files are read, never written: there is no sync to lose.
        &["src/", "storage-node/disk/src/", "compute-jobs/runtime/models/src/folder.rs"],
        "durable bytes go through `Disk`",
    ),
    ("thread::sleep(", &[], "waiting is an event or a timer"),
    ("process::exit(", &["src/up.rs"], "the process ends from `main`, but for a second signal"),
];

/// Sources of the crates, tests inside them left out by their file names.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = [
        "src",
        "chunker/src",
        "compute-jobs/api/src",
        "compute-jobs/runtime/src",
        "compute-jobs/runtime/kernels/src",
        "compute-jobs/openai/src",
        "compute-jobs/fleet/src",
        "compute-jobs/runtime/embedding/src",
        "compute-jobs/runtime/models/src",
        "compute-jobs/runtime/training/src",
        "compute-jobs/src",
        "compute-jobs/worker/src",
        "metadata/src",
        "storage-node/src",
        "storage-node/disk/src",
        "objects/src",
        "query/src",
        "query/doors/src",
        "s3-gateway/src",
        "chain/src",
        "chain/dev-chain/src",
        "da-publisher/src",
        "da-publisher/rsema1d/src",
        "da-publisher/verify/src",
    ]
    .iter()
    .map(|folder| root.join(folder))
    .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is in the repository") {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let is_test = matches!(
                name.as_str(),
                "tests" | "tests.rs" | "testing.rs" | "synthetic.rs" | "vectors.rs" | "use_case_tests.rs"
            );
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if name.ends_with(".rs") && !is_test {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn what_a_simulation_replaces_is_called_in_named_places_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in sources() {
        let name = path.strip_prefix(root).expect("it lies below").display().to_string();
        let text = fs::read_to_string(&path).expect("a source is text");
        // Unit tests are the last item of a file.
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (call, places, reason) in SEAMS {
            if text.contains(call) && !places.iter().any(|place| name.starts_with(place)) {
                found.push(format!("{name}: {call} ({reason})"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_owns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let silent: Vec<String> = sources()
        .iter()
        .filter(|path| !fs::read_to_string(path).expect("a source is text").starts_with("//!"))
        .map(|path| path.strip_prefix(root).expect("it lies below").display().to_string())
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top of: {silent:?}");
}
