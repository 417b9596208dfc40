//! The actions that policies name and use cases ask for.
//!
//! One list: an action that no operation uses is still known when AWS has it, so that policies written for
//! AWS are accepted; [`Action::name`] is the spelling of IAM.

/// A set of actions: one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ActionSet(u128);

const _: () = assert!(Action::ALL.len() <= 128, "a set of actions has one bit each");

impl ActionSet {
    pub(super) fn insert(&mut self, action: Action) {
        self.0 |= action.bit();
    }

    pub(super) fn contains(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    pub(super) fn complement(self) -> Self {
        Self(!self.0)
    }
}

/// Which resource an action is asked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every bucket: no resource of one bucket.
    Service,
    /// A bucket.
    Bucket,
    /// An object.
    Object,
}

macro_rules! actions {
    ($($scope:ident { $($variant:ident,)* })*) => {
        /// An action of S3 as policies name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are those of IAM")]
        pub enum Action { $($($variant,)*)* }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$($(Self::$variant,)*)*];

            /// IAM's name: `s3:GetObject`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => concat!("s3:", stringify!($variant)),)*)* }
            }

            /// Its own bit: the number of a variant is below 128, see above.
            const fn bit(self) -> u128 {
                1 << (self as u8)
            }

            pub(super) const fn scope(self) -> Scope {
                match self { $($(Self::$variant => Scope::$scope,)*)* }
            }
        }
    };
}

actions! {
    Service {
        ListAllMyBuckets,
    }
    Bucket {
        CreateBucket,
        DeleteBucket,
        DeleteBucketPolicy,
        DeleteBucketWebsite,
        GetAccelerateConfiguration,
        GetAnalyticsConfiguration,
        GetBucketAcl,
        GetBucketCORS,
        GetBucketLocation,
        GetBucketLogging,
        GetBucketNotification,
        GetBucketObjectLockConfiguration,
        GetBucketOwnershipControls,
        GetBucketPolicy,
        GetBucketPolicyStatus,
        GetBucketPublicAccessBlock,
        GetBucketRequestPayment,
        GetBucketTagging,
        GetBucketVersioning,
        GetBucketWebsite,
        GetEncryptionConfiguration,
        GetIntelligentTieringConfiguration,
        GetInventoryConfiguration,
        GetLifecycleConfiguration,
        GetMetricsConfiguration,
        GetReplicationConfiguration,
        ListBucket,
        ListBucketMultipartUploads,
        ListBucketVersions,
        PutAccelerateConfiguration,
        PutAnalyticsConfiguration,
        PutBucketAcl,
        PutBucketCORS,
        PutBucketLogging,
        PutBucketNotification,
        PutBucketObjectLockConfiguration,
        PutBucketOwnershipControls,
        PutBucketPolicy,
        PutBucketPublicAccessBlock,
        PutBucketRequestPayment,
        PutBucketTagging,
        PutBucketVersioning,
        PutBucketWebsite,
        PutEncryptionConfiguration,
        PutIntelligentTieringConfiguration,
        PutInventoryConfiguration,
        PutLifecycleConfiguration,
        PutMetricsConfiguration,
        PutReplicationConfiguration,
    }
    Object {
        AbortMultipartUpload,
        BypassGovernanceRetention,
        DeleteObject,
        DeleteObjectTagging,
        DeleteObjectVersion,
        DeleteObjectVersionTagging,
        GetObject,
        GetObjectAcl,
        GetObjectAttributes,
        GetObjectLegalHold,
        GetObjectRetention,
        GetObjectTagging,
        GetObjectTorrent,
        GetObjectVersion,
        GetObjectVersionAcl,
        GetObjectVersionAttributes,
        GetObjectVersionForReplication,
        GetObjectVersionTagging,
        GetObjectVersionTorrent,
        ListMultipartUploadParts,
        PutObject,
        PutObjectAcl,
        PutObjectLegalHold,
        PutObjectRetention,
        PutObjectTagging,
        PutObjectVersionAcl,
        PutObjectVersionTagging,
        ObjectOwnerOverrideToBucketOwner,
        ReplicateDelete,
        ReplicateObject,
        ReplicateTags,
        RestoreObject,
    }
}
