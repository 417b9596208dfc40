//! The bucket of models: importing, listing, and bringing files to where a runtime reads them.
//!
//! Invariant: a manifest is written only over objects that were read whole; whoever may write the bucket decides what a name
//! stands for, by the store's own rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_models::{Entry, MANIFEST_BYTES_MAX, Manifest, ManifestError, ModelFolder};
use ashlar_objects::access::{Principal, RequestContext, UserIdentity};
use ashlar_objects::object_lock::Lock;
use ashlar_objects::requests::{
    CreateBucket, ListObjects, ObjectName, ObjectRead, Payload, PutObject, ReadObject, Selection,
};
use ashlar_objects::types::{Attributes, BucketName, Conditions, ObjectKey, Tags};
use ashlar_objects::{Error, Store};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;

/// The bucket.
const BUCKET: &str = "models";
/// What a manifest's key ends with.
const MANIFEST: &str = ".ashlar-model";
/// Longest name of a model.
const NAME_BYTES_MAX: usize = 128;
/// Keys of a page of a listing.
const PAGE: u32 = 1_000;

/// A name that stands for a model.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    /// The name.
    pub(crate) name: String,
    /// Content root: of the file, where it is one, else of the manifest.
    pub(crate) root: ContentRoot,
    /// Its files.
    pub(crate) manifest: Manifest,
    /// When it was imported, in Unix seconds.
    pub(crate) created_seconds: i64,
    /// Id of the user who did.
    pub(crate) owner: String,
}

/// Why something about a model was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelsError {
    /// Not a name of a model.
    #[error(
        "a model's name is 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_' and '-', and begins with a letter or digit"
    )]
    Name,
    /// Nothing was imported under this name.
    #[error(
        "there is no model '{name}': put its files under s3://{BUCKET}/{name}/ and run `ashlar models import {name}`"
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// No objects to make a model of.
    #[error("there is nothing under s3://{BUCKET}/{name}/")]
    Empty {
        /// The name.
        name: String,
    },
    /// Larger than this server loads.
    #[error("the model has {bytes} bytes, and models.bytes_max is {maximum}")]
    TooLarge {
        /// Of all files.
        bytes: u64,
        /// The setting.
        maximum: u64,
    },
    /// An object is another than when the model was imported.
    #[error("s3://{BUCKET}/{key} changed since the model was imported")]
    Changed {
        /// The object.
        key: String,
    },
    /// No runtime takes it.
    #[error("it cannot be run: {reason}")]
    Unusable {
        /// Why.
        reason: String,
    },
    /// The objects are no model together.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store's.
    #[error(transparent)]
    Store(#[from] Error),
    /// The folder of loaded models.
    #[error("{path}: {error}")]
    Folder {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Models in a store.
#[derive(Clone)]
pub(crate) struct ModelsBucket {
    store: Store,
}

fn bucket() -> BucketName {
    BucketName::new(BUCKET).expect("the name is a valid one")
}

fn system() -> RequestContext {
    RequestContext {
        principal: Principal::System,
        request_id: "models".into(),
        source_ip: None,
        secure_transport: true,
        user_agent: None,
        referer: None,
        keys: Vec::new(),
    }
}

fn check_name(name: &str) -> Result<(), ModelsError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let fits = name.len() <= NAME_BYTES_MAX && begins && name.bytes().all(is_plain);
    if fits && !name.ends_with(MANIFEST) { Ok(()) } else { Err(ModelsError::Name) }
}

/// The root of a model: a folder of one file is that file.
fn root_of(manifest: &Manifest) -> ContentRoot {
    match manifest.entries() {
        [one] => one.content_root,
        _ => manifest.root(),
    }
}

/// The bucket, if it is not there yet.
pub(super) async fn make_bucket(store: &Store, root: &Arc<UserIdentity>) -> Result<(), Error> {
    let cx = RequestContext { principal: Principal::User(Arc::clone(root)), ..system() };
    let request =
        CreateBucket { bucket: bucket(), acl: None, object_lock: false, ownership: None, location: None };
    match store.create_bucket(&cx, request).await {
        Ok(_) | Err(Error::BucketAlreadyOwnedByYou) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a file has the entry's bytes. Reads it whole.
fn holds(path: &Path, entry: &Entry) -> bool {
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    let mut hasher = blake3::Hasher::new();
    let is_long = file.metadata().is_ok_and(|found| found.len() == entry.length);
    is_long
        && std::io::copy(&mut file, &mut hasher).is_ok()
        && hasher.finalize().as_bytes() == &entry.content_root.0
}

impl ModelsBucket {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes a name stand for what lies under it now, as `cx`, who must be allowed to read that and to write the manifest.
    pub(crate) async fn import(&self, cx: &RequestContext, name: &str) -> Result<Imported, ModelsError> {
        check_name(name)?;
        let prefix = format!("{name}/");
        let (mut entries, mut after) = (Vec::new(), None);
        loop {
            let request =
                ListObjects { bucket: bucket(), prefix: prefix.clone(), delimiter: None, after, max: PAGE };
            let page = self.store.list_objects(cx, request).await?;
            for object in &page.objects {
                let file = object.key.strip_prefix(&prefix).unwrap_or(&object.key);
                if file.split('/').any(|part| part.starts_with('.')) {
                    continue;
                }
                let mut read = self.read(cx, &object.key).await?;
                let mut hasher = blake3::Hasher::new();
                while let Some(piece) = read.body.next().await {
                    hasher.update(&piece?);
                }
                let content_root = ContentRoot(*hasher.finalize().as_bytes());
                entries.push(Entry { name: file.to_owned(), length: read.length, content_root });
            }
            after = page.next_after;
            if after.is_none() || entries.len() > ashlar_models::FILES_MAX {
                break;
            }
        }
        if entries.is_empty() {
            return Err(ModelsError::Empty { name: name.to_owned() });
        }
        let manifest = Manifest::new(entries)?;
        let bytes = bytes::Bytes::from(manifest.to_bytes());
        let request = PutObject {
            bucket: bucket(),
            key: ObjectKey::new(&format!("{name}{MANIFEST}")).map_err(Error::from)?,
            attributes: Attributes::default(),
            tags: Tags::default(),
            acl: None,
            conditions: Conditions::default(),
            lock: Lock::default(),
            payload: Payload {
                length: u64::try_from(bytes.len()).ok(),
                stream: Box::pin(futures::stream::once(async move { Ok(bytes) })),
                content_md5: None,
                content_sha256: None,
                checksum: None,
                trailing_checksum: None,
            },
        };
        self.store.put_object(cx, request).await?;
        self.imported(name).await
    }

    /// What a name stands for.
    pub(crate) async fn imported(&self, name: &str) -> Result<Imported, ModelsError> {
        check_name(name)?;
        let unknown = || ModelsError::Unknown { name: name.to_owned() };
        let mut read = match self.read(&system(), &format!("{name}{MANIFEST}")).await {
            Err(ModelsError::Store(
                Error::NoSuchBucket | Error::NoSuchKey | Error::CurrentIsDeleteMarker { .. },
            )) => {
                return Err(unknown());
            }
            read => read?,
        };
        if read.length > MANIFEST_BYTES_MAX as u64 {
            return Err(
                ManifestError::TooLong { bytes: usize::try_from(read.length).unwrap_or(usize::MAX) }.into()
            );
        }
        let mut bytes = Vec::new();
        while let Some(piece) = read.body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        let manifest = Manifest::from_bytes(&bytes)?;
        Ok(Imported {
            name: name.to_owned(),
            root: root_of(&manifest),
            manifest,
            created_seconds: read.head.modified.0.div_euclid(1_000),
            owner: read.head.owner.clone(),
        })
    }

    /// Every name, as `cx`, who must be allowed to list the bucket; at most a thousand.
    pub(crate) async fn list(&self, cx: &RequestContext) -> Result<Vec<Imported>, ModelsError> {
        let request = ListObjects {
            bucket: bucket(),
            prefix: String::new(),
            delimiter: Some("/".to_owned()),
            after: None,
            max: PAGE,
        };
        let page = match self.store.list_objects(cx, request).await {
            Err(Error::NoSuchBucket) => return Ok(Vec::new()),
            page => page?,
        };
        let mut all = BTreeMap::new();
        for object in page.objects {
            if let Some(name) = object.key.strip_suffix(MANIFEST)
                && check_name(name).is_ok()
            {
                all.insert(name.to_owned(), self.imported(name).await?);
            }
        }
        Ok(all.into_values().collect())
    }

    /// Brings a model's files into a folder of their own below `folder`. What is there already, with the right bytes, is not
    /// fetched again.
    pub(super) async fn fetch(
        &self,
        imported: &Imported,
        folder: &Path,
        bytes_max: u64,
    ) -> Result<ModelFolder, ModelsError> {
        let bytes = imported.manifest.length();
        if bytes > bytes_max {
            return Err(ModelsError::TooLarge { bytes, maximum: bytes_max });
        }
        let folder = folder.join(hex::encode(imported.root.0));
        for entry in imported.manifest.entries() {
            self.fetch_file(&imported.name, entry, &folder.join(&entry.name)).await?;
        }
        Ok(ModelFolder::new(folder, imported.manifest.clone()))
    }

    async fn fetch_file(&self, model: &str, entry: &Entry, path: &Path) -> Result<(), ModelsError> {
        let failed = |error| ModelsError::Folder { path: path.to_owned(), error };
        // Other bytes of the right length, as rot leaves them, would be refused at every try.
        let (found, expected) = (path.to_owned(), entry.clone());
        let is_there = tokio::task::spawn_blocking(move || holds(&found, &expected)).await;
        if is_there.unwrap_or(false) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(failed)?;
        }
        let key = format!("{model}/{}", entry.name);
        let mut read = self.read(&system(), &key).await?;
        if read.length != entry.length {
            return Err(ModelsError::Changed { key });
        }
        let part = path.with_extension("part");
        let mut file = tokio::fs::File::create(&part).await.map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        while let Some(piece) = read.body.next().await {
            let piece = piece?;
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        if hasher.finalize().as_bytes() != &entry.content_root.0 {
            return Err(ModelsError::Changed { key });
        }
        tokio::fs::rename(&part, path).await.map_err(failed)
    }

    async fn read(&self, cx: &RequestContext, key: &str) -> Result<ObjectRead, ModelsError> {
        let key = ObjectKey::new(key).map_err(Error::from)?;
        let name = ObjectName { bucket: bucket(), key, version: None };
        let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
        Ok(self.store.get_object(cx, request).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_rotted_is_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let content_root = ContentRoot(*blake3::hash(b"weights").as_bytes());
        let entry = Entry { name: "model.gguf".to_owned(), length: 7, content_root };
        assert!(!holds(&path, &entry));
        for (bytes, expected) in [(&b"weights"[..], true), (b"weightz", false), (b"weight", false)] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(holds(&path, &entry), expected);
        }
    }
}
