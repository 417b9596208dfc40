//! Settings of a bucket that bend what ACLs and policies mean: object ownership and public access block.
//!
//! Plain data with the defaults of ADR 0002; what they change is written where it is decided, in
//! `authorize`, `acl` and `policy`.

use serde::{Deserialize, Serialize};

/// Who owns what is written to a bucket, and whether ACLs count there.
///
/// The default is what holds where nothing is stored (ADR 0002).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectOwnership {
    /// The bucket's owner owns every object and ACLs are switched off.
    BucketOwnerEnforced,
    /// The bucket's owner owns what is written with the canned ACL `bucket-owner-full-control`.
    BucketOwnerPreferred,
    /// Whoever writes an object owns it.
    #[default]
    ObjectWriter,
}

impl ObjectOwnership {
    /// S3's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BucketOwnerEnforced => "BucketOwnerEnforced",
            Self::BucketOwnerPreferred => "BucketOwnerPreferred",
            Self::ObjectWriter => "ObjectWriter",
        }
    }

    /// Reads S3's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::BucketOwnerEnforced, Self::BucketOwnerPreferred, Self::ObjectWriter]
            .into_iter()
            .find(|ownership| ownership.name() == word)
    }

    /// Whether ACLs are read and may be written.
    #[must_use]
    pub const fn acls_count(self) -> bool {
        !matches!(self, Self::BucketOwnerEnforced)
    }
}

/// Four switches against public access. All off is the same as none stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicAccessBlock {
    /// A request that would set a public ACL is refused.
    pub block_public_acls: bool,
    /// Public grants of ACLs that are there count for nothing.
    pub ignore_public_acls: bool,
    /// A policy that is public is refused.
    pub block_public_policy: bool,
    /// A bucket whose policy is public lets in nobody but its owner.
    pub restrict_public_buckets: bool,
}
