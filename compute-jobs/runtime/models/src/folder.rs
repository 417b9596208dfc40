//! A model's files where they lie, read only as what the content root names.
//!
//! Invariant: what is read was hashed after it was read, so that a file changed underneath is an error and never
//! weights; lengths are compared with the manifest before memory is reserved. Reads block: for threads that may.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ashlar_compute_api::ContentRoot;

use crate::manifest::{Entry, FILES_MAX, Manifest, ManifestError, content_root};

/// Folders within folders.
const DEPTH_MAX: usize = 8;
/// Bytes that are hashed at once.
const PIECE_BYTES: usize = 1 << 20;

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system would not.
    #[error("{path}: {error}")]
    Io {
        /// Of the file or folder.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// Neither a file nor a folder, or a name that a model cannot have.
    #[error("{path} cannot be part of a model")]
    NotPart {
        /// Of what was found.
        path: PathBuf,
    },
    /// Not in the manifest.
    #[error("the model has no file {name:?}")]
    Missing {
        /// What was asked for.
        name: String,
    },
    /// Larger than who reads it takes.
    #[error("{name:?} has {length} bytes, and {maximum} are the most")]
    TooLarge {
        /// The file.
        name: String,
        /// Its bytes.
        length: u64,
        /// The reader's limit.
        maximum: u64,
    },
    /// Other bytes than those that the root names.
    #[error("{name:?} holds other bytes than those that the model's root names")]
    OtherBytes {
        /// The file.
        name: String,
    },
    /// Files that cannot be a model together.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError + use<'_> {
    move |error| FolderError::Io { path: path.to_owned(), error }
}

/// A model of many files.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    folder: PathBuf,
    manifest: Manifest,
    root: ContentRoot,
}

impl ModelFolder {
    /// The model that a manifest describes, its files in `folder`. What else lies there is not part of it.
    pub fn new(folder: impl Into<PathBuf>, manifest: Manifest) -> Self {
        let root = manifest.root();
        Self { folder: folder.into(), manifest, root }
    }

    /// The model that the files of a folder are, hashing all of them. Names that begin with a dot are left out; a link
    /// is an error.
    pub fn of_files(folder: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let folder = folder.into();
        let mut entries = Vec::new();
        list(&folder, "", 0, &mut entries)?;
        Ok(Self::new(folder, Manifest::new(entries)?))
    }

    /// The model's content root.
    pub fn root(&self) -> ContentRoot {
        self.root
    }

    /// Which files it has.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it has a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.manifest.entry(name).is_some()
    }

    /// A file's bytes, at most `bytes_max` of them.
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
        let entry =
            self.manifest.entry(name).ok_or_else(|| FolderError::Missing { name: name.to_owned() })?;
        let bytes = read(&self.folder.join(name), name, Some(entry.length), bytes_max)?;
        match content_root(&bytes) == entry.content_root {
            true => Ok(bytes),
            false => Err(FolderError::OtherBytes { name: name.to_owned() }),
        }
    }
}

/// A model of one file.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// BLAKE3 of them.
    pub root: ContentRoot,
}

impl ModelFile {
    /// Reads the model that `root` names; whatever the file holds, where none is given.
    pub fn read(path: &Path, root: Option<ContentRoot>, bytes_max: u64) -> Result<Self, FolderError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = read(path, &name, None, bytes_max)?;
        let found = content_root(&bytes);
        if root.is_some_and(|root| root != found) || Manifest::begins(&bytes) {
            return Err(FolderError::OtherBytes { name });
        }
        Ok(Self { bytes, root: found })
    }
}

fn read(path: &Path, name: &str, expected: Option<u64>, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
    let other = || FolderError::OtherBytes { name: name.to_owned() };
    let file = File::open(path).map_err(io(path))?;
    let length = file.metadata().map_err(io(path))?.len();
    if expected.is_some_and(|expected| expected != length) {
        return Err(other());
    }
    if length > bytes_max {
        return Err(FolderError::TooLarge { name: name.to_owned(), length, maximum: bytes_max });
    }
    let mut bytes = Vec::new();
    let reserved = usize::try_from(length).ok().and_then(|length| bytes.try_reserve_exact(length).ok());
    reserved.ok_or_else(|| {
        io(path)(std::io::Error::new(
            std::io::ErrorKind::OutOfMemory,
            format!("no memory for {length} bytes"),
        ))
    })?;
    file.take(length).read_to_end(&mut bytes).map_err(io(path))?;
    if u64::try_from(bytes.len()).ok() == Some(length) { Ok(bytes) } else { Err(other()) }
}

fn list(folder: &Path, prefix: &str, depth: usize, entries: &mut Vec<Entry>) -> Result<(), FolderError> {
    for found in std::fs::read_dir(folder).map_err(io(folder))? {
        let found = found.map_err(io(folder))?;
        let path = found.path();
        let refuse = || FolderError::NotPart { path: path.clone() };
        let name = found.file_name().into_string().map_err(|_| refuse())?;
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{name}");
        let kind = found.file_type().map_err(io(&path))?;
        if kind.is_dir() && depth < DEPTH_MAX {
            list(&path, &format!("{name}/"), depth + 1, entries)?;
        } else if kind.is_file() {
            if entries.len() == FILES_MAX {
                return Err(ManifestError::Count { count: FILES_MAX + 1 }.into());
            }
            let (length, content_root) = hash(&path)?;
            entries.push(Entry { name, length, content_root });
        } else {
            return Err(refuse());
        }
    }
    Ok(())
}

fn hash(path: &Path) -> Result<(u64, ContentRoot), FolderError> {
    let mut file = File::open(path).map_err(io(path))?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(io(path))? {
            0 => return Ok((hasher.count(), ContentRoot(*hasher.finalize().as_bytes()))),
            count => hasher.update(&piece[..count]),
        };
    }
}

#[cfg(test)]
mod tests;
