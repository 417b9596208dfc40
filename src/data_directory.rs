//! The data directory: who has it, where everything lies in it, and its secrets.
//!
//! ```text
//! <data-dir>/lock               held while a process runs here; names its pid
//! <data-dir>/metadata/          rows and journal
//! <data-dir>/master-key         seals secret keys in metadata (0600)
//! <data-dir>/root-credentials   of the user root, as an AWS credentials file (0600)
//! <root>/nodes/node-<n>/        shards of node n; <root> is the data directory or one of the disks
//! <root>/nodes/node-<n>/journal a copy of the metadata journal, on some nodes when there are several disks
//! ```
//!
//! Invariant: one process at a time, and no secret is ever readable by others, not for a moment.
//! Deliberately opens no store: that is the roles' part.

mod layout;
mod lock;
mod secrets;

pub(crate) use layout::{DA_NAME, JOURNAL_NAME, Layout, NodePlace};
pub(crate) use lock::DirectoryLock;
pub(crate) use secrets::{
    GivenRoot, RootOrigin, keep_root_credentials, master_key, read_public, root_credentials_path,
    write_public,
};

use std::path::{Path, PathBuf};

/// Whether nothing was ever kept here: no metadata, and no node that holds anything.
pub(crate) fn is_fresh(data_dir: &Path, layout: &Layout) -> bool {
    let empty =
        std::fs::read_dir(metadata_dir(data_dir)).map_or(true, |mut entries| entries.next().is_none());
    empty && layout.nodes.iter().all(|node| node.is_new && !node.is_lost)
}

/// Where metadata lies.
pub(crate) fn metadata_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("metadata")
}
