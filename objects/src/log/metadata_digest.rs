//! The digest of what stands beside a version's bytes. Normative text: `docs/formats/record.md`, section 3.
//!
//! Invariant: names come in byte order and none twice, so that what a version says has one digest; whatever an
//! operation can change in a version's row is under a name here, so that every change shows.

use ashlar_metadata::namespace::locks::RetentionMode;
use ashlar_metadata::namespace::versions::VersionRow;

use crate::types::{ChecksumAlgorithm, ChecksumType};

/// A canonical list being hashed.
#[derive(Default)]
pub(super) struct List(blake3::Hasher);

impl List {
    /// The next pair; its name sorts after every one before.
    pub(super) fn pair(&mut self, name: &[&[u8]], value: &[u8]) {
        let bytes: usize = name.iter().map(|piece| piece.len()).sum();
        let bytes =
            u16::try_from(bytes).expect("names have at most 2 KiB: user metadata and keys are bounded");
        self.0.update(&bytes.to_be_bytes());
        name.iter().for_each(|piece| {
            self.0.update(piece);
        });
        let bytes = u32::try_from(value.len()).expect("values are of one row, which has at most 1 MiB");
        self.0.update(&bytes.to_be_bytes());
        self.0.update(value);
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.pair(&[name.as_bytes()], value.as_bytes());
        }
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

fn checksum_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "checksum-crc32",
        ChecksumAlgorithm::Crc32c => "checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "checksum-sha1",
        ChecksumAlgorithm::Sha256 => "checksum-sha256",
    }
}

/// The digest of what a version's row says beside its bytes; of a delete marker that is whose it is.
#[must_use]
pub fn metadata_digest(row: &VersionRow) -> [u8; 32] {
    let mut list = List::default();
    let object = row.object.as_ref();
    let attributes = object.map(|object| &object.attributes);
    let of = |field: fn(&crate::types::Attributes) -> &Option<String>| {
        attributes.and_then(|attributes| field(attributes).as_deref())
    };
    list.text("acl", object.and_then(|object| object.acl.as_deref()));
    list.text("cache-control", of(|attributes| &attributes.cache_control));
    if let Some(checksum) = object.and_then(|object| object.checksum.as_ref()) {
        list.text(checksum_name(checksum.algorithm), Some(&checksum.text()));
        list.text(
            "checksum-type",
            Some(match checksum.kind {
                ChecksumType::Composite => "COMPOSITE",
                ChecksumType::FullObject => "FULL_OBJECT",
            }),
        );
    }
    list.text("content-disposition", of(|attributes| &attributes.content_disposition));
    list.text("content-encoding", of(|attributes| &attributes.content_encoding));
    list.text("content-language", of(|attributes| &attributes.content_language));
    list.text("content-type", of(|attributes| &attributes.content_type));
    if let Some(object) = object {
        list.text("etag", Some(&object.etag.to_string()));
    }
    list.text("expires", of(|attributes| &attributes.expires));
    list.text("legal-hold", row.lock.legal_hold.map(|held| if held { "ON" } else { "OFF" }));
    for (name, value) in attributes.iter().flat_map(|attributes| &attributes.user) {
        list.pair(&[b"meta:", name.as_bytes()], value.as_bytes());
    }
    list.text("owner", Some(&row.owner));
    if let Some(retention) = &row.lock.retention {
        list.text("retain-until", Some(&retention.until.0.to_string()));
        list.text(
            "retention-mode",
            Some(match retention.mode {
                RetentionMode::Governance => "GOVERNANCE",
                RetentionMode::Compliance => "COMPLIANCE",
            }),
        );
    }
    list.text("storage-class", of(|attributes| &attributes.storage_class));
    for (name, value) in object.iter().flat_map(|object| &object.tags.0) {
        list.pair(&[b"tag:", name.as_bytes()], value.as_bytes());
    }
    list.text("website-redirect", of(|attributes| &attributes.website_redirect));
    list.digest()
}
