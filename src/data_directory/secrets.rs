//! The two secrets of a data directory: the master key and the root user's credentials.
//!
//! Invariant: a secret file is written whole and synced under another name with mode 0600 before it gets
//! its own, so it is never half there and never readable by others.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ashlar_disk::{Disk, RealDisk};
use ashlar_objects::users::{SecretKey, check_access_key, check_secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const MASTER_KEY_NAME: &str = "master-key";
const ROOT_CREDENTIALS_NAME: &str = "root-credentials";
const MASTER_KEY_VARIABLE: &str = "ASHLAR_MASTER_KEY";
const ROOT_ACCESS_VARIABLE: &str = "ASHLAR_ROOT_ACCESS_KEY";
const ROOT_SECRET_VARIABLE: &str = "ASHLAR_ROOT_SECRET_KEY";

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("{} cannot be read or written: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{} is readable by others (mode {mode:o}); run `chmod 600 {}` and change what it holds", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{place} is not a master key: 32 bytes are, as 64 hexadecimal digits or as base64")]
    NoMasterKey { place: String },
    #[error(
        "{} is gone, and what users sign with is sealed with it; put it back, or set {MASTER_KEY_VARIABLE} to what it held",
        path.display()
    )]
    MasterKeyGone { path: PathBuf },
    #[error("{} holds no credentials; put back what it held, or set {ROOT_ACCESS_VARIABLE} and {ROOT_SECRET_VARIABLE}", path.display())]
    NoCredentials { path: PathBuf },
    #[error("{ROOT_ACCESS_VARIABLE} and {ROOT_SECRET_VARIABLE} belong together; set both or neither")]
    HalfPair,
    #[error("{ROOT_ACCESS_VARIABLE} and {ROOT_SECRET_VARIABLE} cannot be used: {problem}")]
    BadPair { problem: String },
}

/// The key that seals secrets in metadata: from the environment, else the data directory's own, which is
/// made where `may_make` says that nothing was sealed yet.
pub(crate) fn master_key(data_dir: &Path, may_make: bool) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    if let Ok(text) = std::env::var(MASTER_KEY_VARIABLE).map(Zeroizing::new) {
        return decode_master_key(&text, MASTER_KEY_VARIABLE.to_owned());
    }
    let path = data_dir.join(MASTER_KEY_NAME);
    if let Some(text) = read_secret(&path)? {
        return decode_master_key(&text, path.display().to_string());
    }
    if !may_make {
        return Err(SecretError::MasterKeyGone { path });
    }
    let key = Zeroizing::new(rand::random::<[u8; 32]>());
    write_secret(&path, &Zeroizing::new(format!("{}\n", hex::encode(key.as_ref()))))?;
    Ok(key)
}

fn decode_master_key(text: &str, place: String) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let text = text.trim();
    let bytes = if text.len() == 64 { hex::decode(text).ok() } else { STANDARD.decode(text).ok() };
    let bytes = Zeroizing::new(bytes.unwrap_or_default());
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return Err(SecretError::NoMasterKey { place });
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// The root user's pair, as it was given to this start.
pub(crate) struct GivenRoot {
    /// Access key and secret; `None`: what metadata has is left as it is, or a pair is made.
    pub(crate) pair: Option<(String, SecretKey)>,
    /// Who gave it.
    pub(crate) origin: RootOrigin,
}

/// Where root credentials are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootOrigin {
    /// Made at this start, or kept in metadata only.
    Metadata,
    /// The environment.
    Environment,
    /// The data directory.
    File,
}

impl GivenRoot {
    /// Looks in `environment` (access key, secret), else in the data directory.
    pub(crate) fn find(
        data_dir: &Path,
        environment: (Option<String>, Option<String>),
    ) -> Result<Self, SecretError> {
        match environment {
            (Some(access), Some(secret)) => {
                check_access_key(&access)
                    .map_err(|error| SecretError::BadPair { problem: error.to_string() })?;
                check_secret(&secret).map_err(|error| SecretError::BadPair { problem: error.to_string() })?;
                let pair = Some((access, SecretKey::new(secret)));
                Ok(Self { pair, origin: RootOrigin::Environment })
            }
            (None, None) => {
                let path = root_credentials_path(data_dir);
                let Some(text) = read_secret(&path)? else {
                    return Ok(Self { pair: None, origin: RootOrigin::Metadata });
                };
                let pair = Some(parse(&text).ok_or(SecretError::NoCredentials { path })?);
                Ok(Self { pair, origin: RootOrigin::File })
            }
            _ => Err(SecretError::HalfPair),
        }
    }

    /// What the environment says.
    pub(crate) fn from_environment() -> (Option<String>, Option<String>) {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        (variable(ROOT_ACCESS_VARIABLE), variable(ROOT_SECRET_VARIABLE))
    }
}

/// The file that keeps root's pair for the next start and for clients on this machine.
pub(crate) fn root_credentials_path(data_dir: &Path) -> PathBuf {
    data_dir.join(ROOT_CREDENTIALS_NAME)
}

/// Keeps root's pair, as an AWS credentials file.
pub(crate) fn keep_root_credentials(
    data_dir: &Path,
    access: &str,
    secret: &SecretKey,
) -> Result<(), SecretError> {
    let path = root_credentials_path(data_dir);
    let text =
        format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {}\n", secret.expose());
    let text = Zeroizing::new(text);
    if read_secret(&path)?.as_deref() == Some(&*text) {
        return Ok(());
    }
    write_secret(&path, &text)
}

fn parse(text: &str) -> Option<(String, SecretKey)> {
    let value = |name: &str| {
        let pair = text.lines().filter_map(|line| line.split_once('='));
        let mut found = pair.filter(|(key, _)| key.trim() == name);
        found.next().map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    Some((value("aws_access_key_id")?, SecretKey::new(value("aws_secret_access_key")?)))
}

fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, SecretError> {
    let failed = |cause| SecretError::Io { path: path.to_owned(), cause };
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    fs::read_to_string(path).map(|text| Some(Zeroizing::new(text))).map_err(failed)
}

fn write_secret(path: &Path, text: &str) -> Result<(), SecretError> {
    write_whole(path, text, 0o600)
}

/// A file that everybody may read, if it is there.
pub(crate) fn read_public(path: &Path) -> Result<Option<Vec<u8>>, SecretError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(SecretError::Io { path: path.to_owned(), cause }),
    }
}

/// Writes a file that everybody may read: whole, or not at all.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), SecretError> {
    write_whole(path, text, 0o644)
}

fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), SecretError> {
    let write = || {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        RealDisk::new().sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|cause| SecretError::Io { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_master_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(master_key(dir.path(), false), Err(SecretError::MasterKeyGone { .. })));
        let first = master_key(dir.path(), true).unwrap();
        assert!(first == master_key(dir.path(), true).unwrap());
        assert!(first == master_key(dir.path(), false).unwrap());
        assert_eq!(mode(&dir.path().join(MASTER_KEY_NAME)), 0o600);
    }

    #[test]
    fn a_master_key_is_hexadecimal_or_base64() {
        let decoded = |text: &str| decode_master_key(text, "here".to_owned()).map(|key| *key);
        assert_eq!(decoded(&format!("{}\n", "07".repeat(32))).unwrap(), [7; 32]);
        assert_eq!(decoded(&STANDARD.encode([7; 32])).unwrap(), [7; 32]);
        for bad in ["", "07", &"zz".repeat(32), &STANDARD.encode([7; 31])] {
            assert!(decoded(bad).unwrap_err().to_string().starts_with("here is not a master key"), "{bad}");
        }
    }

    #[test]
    fn an_exposed_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        master_key(dir.path(), true).unwrap();
        let path = dir.path().join(MASTER_KEY_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(master_key(dir.path(), true), Err(SecretError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn root_credentials_are_kept_and_yield_to_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let find = |access: Option<&str>, secret: Option<&str>| {
            GivenRoot::find(dir.path(), (access.map(str::to_owned), secret.map(str::to_owned)))
        };
        assert!(find(None, None).unwrap().pair.is_none());
        keep_root_credentials(dir.path(), "AKROOT", &SecretKey::new("a-long-secret-key".to_owned())).unwrap();
        assert_eq!(mode(&root_credentials_path(dir.path())), 0o600);
        let kept = find(None, None).unwrap();
        let (access, secret) = kept.pair.unwrap();
        assert_eq!(
            (kept.origin, access.as_str(), secret.expose()),
            (RootOrigin::File, "AKROOT", "a-long-secret-key")
        );
        assert_eq!(
            find(Some("OTHERROOT"), Some("another-secret-key")).unwrap().origin,
            RootOrigin::Environment
        );
        assert!(matches!(find(Some("OTHERROOT"), None), Err(SecretError::HalfPair)));
        assert!(matches!(find(Some("OTHERROOT"), Some("x")), Err(SecretError::BadPair { .. })));
    }
}
