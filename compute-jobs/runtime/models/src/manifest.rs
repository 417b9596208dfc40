//! The manifest of a model that is a folder of files, and its one encoding.
//!
//! Invariant: what is decoded encodes to the same bytes, so that a model has one root; no name leads out of the folder,
//! and none is a file in one place and a folder in another. Does not know where files lie.

use std::fmt::Write as _;

use ashlar_compute_api::ContentRoot;

/// The first line: what this is, in which version.
const FIRST_LINE: &str = "ashlar-model 1";

/// Files of one model.
pub const FILES_MAX: usize = 1_000;
/// Bytes of a file's name.
pub const NAME_BYTES_MAX: usize = 512;
/// Bytes of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// BLAKE3 of bytes: what `b3sum` prints for them.
pub fn content_root(bytes: &[u8]) -> ContentRoot {
    ContentRoot(*blake3::hash(bytes).as_bytes())
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path within the folder, its parts joined by `/`.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// BLAKE3 of the bytes.
    pub content_root: ContentRoot,
}

/// Why bytes or entries are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than any manifest.
    #[error("{bytes} bytes, and a manifest has at most {MANIFEST_BYTES_MAX}")]
    TooLong {
        /// Of the text.
        bytes: usize,
    },
    /// Not a manifest's first line: another version, or something else.
    #[error("the first line is not \"{FIRST_LINE}\"")]
    FirstLine,
    /// Not UTF-8, or no line feed at the end.
    #[error("a manifest is lines of UTF-8, each ended by a line feed")]
    NotLines,
    /// Not `BLAKE3 length name` in their one spelling.
    #[error("line {line} is not 64 lower-case hexadecimal digits, a length and a name")]
    Line {
        /// From 1, the first line among them.
        line: usize,
    },
    /// A name that a folder cannot have, or that leads elsewhere.
    #[error("{name:?} cannot name a file of a model")]
    Name {
        /// As given.
        name: String,
    },
    /// Names do not ascend, or one stands there twice.
    #[error("{name:?} does not come after the name before it")]
    Order {
        /// The later one.
        name: String,
    },
    /// A file's name is also that of a folder.
    #[error("{name:?} is a file, and others lie in it")]
    FileAndFolder {
        /// The file.
        name: String,
    },
    /// None, or more than [`FILES_MAX`].
    #[error("{count} files, and a model has 1 to {FILES_MAX}")]
    Count {
        /// So many.
        count: usize,
    },
    /// Not the bytes that the root names.
    #[error("the manifest's BLAKE3 is {found}, and {expected} was asked for")]
    Root {
        /// What was asked for.
        expected: ContentRoot,
        /// Of the bytes.
        found: ContentRoot,
    },
}

/// Which files a model consists of. Its own BLAKE3 is the model's content root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Whether a name says one place within a folder, in one spelling on every system.
pub(crate) fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let plain = part.chars().all(|c| !c.is_control() && c != '\\' && c != ':');
        plain && !part.is_empty() && part != "." && part != ".."
    };
    name.len() <= NAME_BYTES_MAX && name.split('/').all(is_part)
}

impl Manifest {
    /// The manifest of these files, in whatever order they are given.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Self::of_sorted(entries)
    }

    fn of_sorted(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.is_empty() || entries.len() > FILES_MAX {
            return Err(ManifestError::Count { count: entries.len() });
        }
        for entry in &entries {
            if !is_name(&entry.name) {
                return Err(ManifestError::Name { name: entry.name.clone() });
            }
        }
        for pair in entries.windows(2) {
            if pair[0].name >= pair[1].name {
                return Err(ManifestError::Order { name: pair[1].name.clone() });
            }
        }
        for entry in &entries {
            // What lies in a folder of this name does not have to stand right behind it: "a", "a-b", "a/b".
            let folder = format!("{}/", entry.name);
            let first_behind = entries.partition_point(|other| other.name < folder);
            if entries.get(first_behind).is_some_and(|other| other.name.starts_with(&folder)) {
                return Err(ManifestError::FileAndFolder { name: entry.name.clone() });
            }
        }
        let manifest = Self { entries };
        match manifest.to_bytes().len() {
            bytes if bytes > MANIFEST_BYTES_MAX => Err(ManifestError::TooLong { bytes }),
            _ => Ok(manifest),
        }
    }

    /// Whether bytes begin as a manifest does. A model of one file never does.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.strip_prefix(FIRST_LINE.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n"))
    }

    /// The manifest's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\n");
        for Entry { name, length, content_root } in &self.entries {
            let root = hex::encode(content_root.0);
            writeln!(text, "{root} {length} {name}").expect("a string takes any text");
        }
        text.into_bytes()
    }

    /// Reads a manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { bytes: bytes.len() });
        }
        if !Self::begins(bytes) {
            return Err(ManifestError::FirstLine);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotLines)?;
        let text = text.strip_suffix('\n').ok_or(ManifestError::NotLines)?;
        let mut entries = Vec::new();
        for (at, line) in text.split('\n').enumerate().skip(1) {
            if entries.len() == FILES_MAX {
                return Err(ManifestError::Count { count: FILES_MAX + 1 });
            }
            entries.push(entry(line).ok_or(ManifestError::Line { line: at + 1 })?);
        }
        Self::of_sorted(entries)
    }

    /// Reads the manifest that `root` names.
    pub fn from_bytes_of(bytes: &[u8], root: ContentRoot) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { bytes: bytes.len() });
        }
        match content_root(bytes) {
            found if found == root => Self::from_bytes(bytes),
            found => Err(ManifestError::Root { expected: root, found }),
        }
    }

    /// The model's content root.
    pub fn root(&self) -> ContentRoot {
        content_root(&self.to_bytes())
    }

    /// The files by name, ascending.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        self.entries.get(at)
    }

    /// Bytes of all files together.
    pub fn length(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.length))
    }
}

fn entry(line: &str) -> Option<Entry> {
    let (root, rest) = line.split_once(' ')?;
    let (length, name) = rest.split_once(' ')?;
    let content_root = format!("0x{root}").parse().ok()?;
    let value: u64 = length.parse().ok()?;
    // One spelling: no sign, no zeros in front.
    (value.to_string() == length).then(|| Entry { name: name.to_owned(), length: value, content_root })
}

#[cfg(test)]
mod tests;
