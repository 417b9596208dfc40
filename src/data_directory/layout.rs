//! Where each storage node lies, and which of them keep a copy of the metadata journal.
//!
//! Invariant: a node stays where its folder is found; only a node without one gets a new place, on the disk
//! with the fewest. What was laid out is recorded in `layout.toml`, so that a start without the flags of the
//! first one finds the same nodes, and a start that would begin with more nodes empty than parity can
//! replace is refused instead of taken for a fresh one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ashlar_disk::{Disk, RealDisk};
use serde::{Deserialize, Serialize};

use crate::configuration::{CodingChoice, Configuration};

/// Folder in a node's that keeps a copy of the metadata journal.
pub(crate) const JOURNAL_NAME: &str = "journal";
/// Folder in a node's that keeps rows of the data-availability layer.
pub(crate) const DA_NAME: &str = "da";
/// File in a node's folder that says only that a process has it open.
const LOCK_NAME: &str = "lock";
const RECORD_NAME: &str = "layout.toml";
const RECORD_HEAD: &str =
    "# Where the storage nodes lie. Written by `ashlar up`; flags and configuration win over it.\n\n";

/// A storage node's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlace {
    /// The node.
    pub(crate) number: u16,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// What fails together with it: its disk where there are several, else only itself.
    pub(crate) domain: String,
    /// The folder is missing or empty: the node starts with nothing.
    pub(crate) is_new: bool,
    /// It was there at an earlier start, so its shards must be rebuilt.
    pub(crate) is_lost: bool,
}

impl NodePlace {
    /// Whether a store was ever opened in its folder: something besides journal, DA rows and a lock is there.
    pub(crate) fn holds_files(&self) -> bool {
        let is_other = |name: &Path| {
            // DA rows that were set aside have an extension.
            [JOURNAL_NAME, LOCK_NAME].map(Path::new).contains(&name)
                || name.file_stem() == Some(DA_NAME.as_ref())
        };
        // A folder that cannot be listed cannot be said to be empty.
        let names = RealDisk::new().list_dir(&self.dir);
        names.map_or(true, |names| names.iter().any(|name| !is_other(name)))
    }

    /// Where it keeps its copy of the metadata journal.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.dir.join(JOURNAL_NAME)
    }
}

/// Every node's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// By number.
    pub(crate) nodes: Vec<NodePlace>,
    /// Folders beside the metadata directory that keep the journal.
    pub(crate) journals: Vec<PathBuf>,
    /// The folders under which nodes lie; more than one means that losing one loses no data.
    pub(crate) roots: Vec<PathBuf>,
}

/// Why nodes cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("{} cannot be used: {cause}; check that its disk is mounted and may be written to", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{} cannot be understood: {problem}; put back what it held, or remove it to have nodes looked for anew", path.display())]
    Record { path: PathBuf, problem: String },
    #[error("node-{number} lies in {} and in {}; move one of them away", a.display(), b.display())]
    Twice { number: u16, a: PathBuf, b: PathBuf },
    #[error(
        "there are {found} storage nodes and {wanted} are configured; nodes are never dropped with what they hold: configure {found} or more"
    )]
    Fewer { found: u16, wanted: u16 },
    #[error(
        "{} of the nodes of this data directory are missing ({}) and the coding {coding} replaces at most {}; \
         mount the disks they lie on and name them with --disk, or remove {} to go on without what they held",
        missing.len(), missing.join(", "), coding.m, record.display()
    )]
    TooManyLost { missing: Vec<String>, coding: CodingChoice, record: PathBuf },
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    coding: Option<String>,
    /// Node number to the folder that holds `nodes/`.
    #[serde(default)]
    nodes: BTreeMap<String, PathBuf>,
}

impl Layout {
    /// Lets an earlier start's record fill in what this one left at its default.
    pub(crate) fn recall(tree: &mut Configuration, is_set: impl Fn(&str) -> bool) -> Result<(), LayoutError> {
        let Some(record) = Record::read(&tree.data_dir)? else { return Ok(()) };
        if !is_set("nodes") {
            tree.nodes = u16::try_from(record.nodes.len()).unwrap_or(u16::MAX).max(1);
        }
        if let Some(coding) = record.coding.and_then(|text| text.parse().ok()).filter(|_| !is_set("coding")) {
            tree.coding = coding;
        }
        if !is_set("disks") {
            let data_dir = absolute(&tree.data_dir)?;
            let mut roots: Vec<PathBuf> = Vec::new();
            for root in record.nodes.into_values() {
                if root != data_dir && !roots.contains(&root) {
                    roots.push(root);
                }
            }
            tree.disks = roots;
        }
        Ok(())
    }

    /// Finds or chooses every node's place, and the journal's.
    pub(crate) fn find(tree: &Configuration) -> Result<Self, LayoutError> {
        let data_dir = absolute(&tree.data_dir)?;
        let mut roots = Vec::new();
        for root in tree.node_roots() {
            RealDisk::new()
                .create_dir_all(&root)
                .map_err(|cause| LayoutError::Io { path: root.clone(), cause })?;
            roots.push(absolute(&root)?);
        }
        let mut searched = roots.clone();
        if !searched.contains(&data_dir) {
            searched.push(data_dir);
        }
        let found = find_nodes(&searched)?;
        let record = Record::read(&tree.data_dir)?.unwrap_or_default();
        let known = found.keys().copied().chain(record.numbers()).max().map_or(0, |last| last + 1);
        if known > tree.nodes {
            return Err(LayoutError::Fewer { found: known, wanted: tree.nodes });
        }
        let mut used: Vec<usize> =
            roots.iter().map(|root| found.values().filter(|at| *at == root).count()).collect();
        let mut nodes = Vec::new();
        for number in 0..tree.nodes {
            let root = found.get(&number).cloned().unwrap_or_else(|| {
                let (emptiest, _) =
                    used.iter().enumerate().min_by_key(|(_, nodes)| **nodes).expect("there is a root");
                used[emptiest] += 1;
                roots[emptiest].clone()
            });
            let is_new = !found.contains_key(&number);
            let domain = match roots.len() {
                1 => format!("node-{number}"),
                _ => root.display().to_string(),
            };
            let is_lost = is_new && record.nodes.contains_key(&number.to_string());
            nodes.push(NodePlace { number, dir: node_dir(&root, number), domain, is_new, is_lost });
        }
        let missing: Vec<String> =
            nodes.iter().filter(|node| node.is_lost).map(|node| format!("node-{}", node.number)).collect();
        if missing.len() > usize::from(tree.coding.m) {
            let record = tree.data_dir.join(RECORD_NAME);
            return Err(LayoutError::TooManyLost { missing, coding: tree.coding, record });
        }
        let journals = if tree.disks.is_empty() { Vec::new() } else { journals(&nodes, tree.coding.m) };
        Ok(Self { nodes, journals, roots })
    }

    /// Makes the folders that are missing, and records all of them.
    pub(crate) fn make(&self, tree: &Configuration) -> Result<(), LayoutError> {
        for node in &self.nodes {
            let failed = |cause| LayoutError::Io { path: node.dir.clone(), cause };
            RealDisk::new().create_dir_all(&node.dir).map_err(failed)?;
        }
        let root_of = |node: &NodePlace| node.dir.ancestors().nth(2).map(Path::to_owned).unwrap_or_default();
        let nodes = self.nodes.iter().map(|node| (node.number.to_string(), root_of(node))).collect();
        Record { coding: Some(tree.coding.to_string()), nodes }.write(&tree.data_dir)
    }

    /// Whether several of the folders lie on one file system, so that they fail together after all.
    pub(crate) fn shares_file_systems(&self) -> bool {
        let mut ids: Vec<u64> =
            self.roots.iter().filter_map(|root| RealDisk::new().file_system_id(root).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len() < self.roots.len()
    }
}

impl Record {
    fn read(data_dir: &Path) -> Result<Option<Self>, LayoutError> {
        let path = data_dir.join(RECORD_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(LayoutError::Io { path, cause }),
        };
        let record: Self = toml::from_str(&text).map_err(|error| LayoutError::Record {
            path: path.clone(),
            problem: error.message().to_owned(),
        })?;
        match record.nodes.keys().find(|number| number.parse::<u16>().is_err()) {
            Some(number) => {
                Err(LayoutError::Record { path, problem: format!("'{number}' is no node number") })
            }
            None => Ok(Some(record)),
        }
    }

    fn numbers(&self) -> impl Iterator<Item = u16> {
        self.nodes.keys().filter_map(|number| number.parse().ok())
    }

    fn write(&self, data_dir: &Path) -> Result<(), LayoutError> {
        let path = data_dir.join(RECORD_NAME);
        let text =
            format!("{RECORD_HEAD}{}", toml::to_string(self).expect("a record can be written as TOML"));
        if std::fs::read_to_string(&path).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        let write = || {
            let new = path.with_extension("new");
            std::fs::write(&new, text)?;
            std::fs::File::open(&new)?.sync_all()?;
            RealDisk::new().rename(&new, &path)?;
            RealDisk::new().sync_dir(data_dir)
        };
        write().map_err(|cause| LayoutError::Io { path: path.clone(), cause })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, LayoutError> {
    match std::fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::path::absolute(path).map_err(|cause| LayoutError::Io { path: path.to_owned(), cause })
        }
        Err(cause) => Err(LayoutError::Io { path: path.to_owned(), cause }),
    }
}

fn node_dir(root: &Path, number: u16) -> PathBuf {
    root.join("nodes").join(format!("node-{number}"))
}

/// Nodes with something in their folders, each with the root it lies under.
fn find_nodes(roots: &[PathBuf]) -> Result<BTreeMap<u16, PathBuf>, LayoutError> {
    let mut found: BTreeMap<u16, PathBuf> = BTreeMap::new();
    for root in roots {
        let nodes = root.join("nodes");
        let names = match RealDisk::new().list_dir(&nodes) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(LayoutError::Io { path: nodes, cause }),
        };
        for name in names {
            let number =
                name.to_str().and_then(|name| name.strip_prefix("node-")).and_then(|n| n.parse().ok());
            let Some(number) = number else { continue };
            let dir = node_dir(root, number);
            let entries = RealDisk::new()
                .list_dir(&dir)
                .map_err(|cause| LayoutError::Io { path: dir.clone(), cause })?;
            if entries.is_empty() {
                continue;
            }
            if let Some(other) = found.insert(number, root.clone()) {
                return Err(LayoutError::Twice { number, a: node_dir(&other, number), b: dir });
            }
        }
    }
    Ok(found)
}

/// m + 1 nodes on as many disks as there are, those that keep a journal already first: losing the metadata
/// directory and any m nodes leaves one.
fn journals(nodes: &[NodePlace], m: u8) -> Vec<PathBuf> {
    let mut kept: Vec<&NodePlace> = nodes.iter().filter(|node| node.journal_dir().is_dir()).collect();
    while kept.len() < usize::from(m) + 1 {
        let on_disk = |domain: &str| kept.iter().filter(|node| node.domain == domain).count();
        let left = nodes.iter().filter(|node| kept.iter().all(|kept| kept.number != node.number));
        let Some(next) = left.min_by_key(|node| (on_disk(&node.domain), node.number)) else { break };
        kept.push(next);
    }
    kept.into_iter().map(NodePlace::journal_dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stand {
        dir: tempfile::TempDir,
    }

    impl Stand {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn tree(&self, disks: usize) -> Configuration {
            let disks = (0..disks).map(|n| self.dir.path().join(format!("disk{n}"))).collect();
            let data_dir = self.dir.path().join("data");
            std::fs::create_dir_all(&data_dir).unwrap();
            Configuration { data_dir, disks, ..Configuration::default() }
        }

        /// What a start does, with something left in every folder.
        fn start(&self, tree: &Configuration) -> Layout {
            let layout = Layout::find(tree).unwrap();
            layout.make(tree).unwrap();
            for node in &layout.nodes {
                std::fs::write(node.dir.join("superblock"), "x").unwrap();
            }
            for journal in &layout.journals {
                std::fs::create_dir_all(journal).unwrap();
            }
            layout
        }
    }

    #[test]
    fn one_disk_makes_every_node_its_own_domain() {
        let stand = Stand::new();
        let layout = stand.start(&stand.tree(0));
        assert_eq!(layout.nodes.len(), 6);
        assert!(layout.journals.is_empty());
        assert!(layout.nodes.iter().all(|node| node.is_new && !node.is_lost));
        assert_eq!(layout.nodes[3].domain, "node-3");
        assert!(layout.nodes[3].dir.ends_with("data/nodes/node-3"));
    }

    #[test]
    fn nodes_are_spread_over_disks_and_so_is_the_journal() {
        let stand = Stand::new();
        let layout = stand.start(&stand.tree(3));
        let on = |disk: &str| layout.nodes.iter().filter(|node| node.domain.ends_with(disk)).count();
        assert_eq!([on("disk0"), on("disk1"), on("disk2")], [2, 2, 2]);
        assert_eq!(layout.journals.len(), 3);
        let mut disks: Vec<_> = layout.journals.iter().map(|dir| dir.ancestors().nth(3).unwrap()).collect();
        disks.sort();
        disks.dedup();
        assert_eq!(disks.len(), 3);
        assert!(layout.shares_file_systems());
    }

    #[test]
    fn a_second_start_finds_everything_where_it_was() {
        let stand = Stand::new();
        let first = stand.start(&stand.tree(4));
        let mut forgetful = stand.tree(0);
        forgetful.nodes = 1;
        Layout::recall(&mut forgetful, |_| false).unwrap();
        assert_eq!((forgetful.nodes, forgetful.disks.len()), (6, 4));
        let second = stand.start(&forgetful);
        let places = |layout: &Layout| layout.nodes.iter().map(|node| node.dir.clone()).collect::<Vec<_>>();
        assert_eq!(places(&first), places(&second));
        assert_eq!(first.journals, second.journals);
        assert!(second.nodes.iter().all(|node| !node.is_new));
        let mut reordered = stand.tree(4);
        reordered.disks.reverse();
        assert_eq!(places(&first), places(&stand.start(&reordered)));
    }

    #[test]
    fn as_many_nodes_as_parity_replaces_may_be_lost() {
        let stand = Stand::new();
        stand.start(&stand.tree(0));
        let gone =
            |number| std::fs::remove_dir_all(node_dir(&stand.dir.path().join("data"), number)).unwrap();
        gone(1);
        gone(4);
        let layout = Layout::find(&stand.tree(0)).unwrap();
        let lost: Vec<u16> =
            layout.nodes.iter().filter(|node| node.is_lost).map(|node| node.number).collect();
        assert_eq!(lost, [1, 4]);
        gone(5);
        let error = Layout::find(&stand.tree(0)).unwrap_err().to_string();
        assert!(error.contains("node-1, node-4, node-5"), "{error}");
    }

    #[test]
    fn fewer_nodes_than_there_are_is_refused_and_more_is_fine() {
        let stand = Stand::new();
        stand.start(&stand.tree(0));
        let with = |nodes| Layout::find(&Configuration { nodes, ..stand.tree(0) });
        assert!(matches!(with(5), Err(LayoutError::Fewer { found: 6, wanted: 5 })));
        let grown = with(8).unwrap();
        assert!(grown.nodes[7].is_new && !grown.nodes[7].is_lost);
    }

    #[test]
    fn a_node_in_two_places_is_refused() {
        let stand = Stand::new();
        stand.start(&stand.tree(2));
        let copy = stand.dir.path().join("disk1/nodes/node-0");
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::write(copy.join("superblock"), "x").unwrap();
        assert!(matches!(Layout::find(&stand.tree(2)), Err(LayoutError::Twice { number: 0, .. })));
    }
}
