//! The actions that policies name and use cases ask for.
//!
//! One list: an action that no operation uses is still known when AWS has it, so that policies written for
//! AWS are accepted; [`Action::name`] is the spelling of IAM.

/// Which resource an action is asked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
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

            pub(crate) const fn scope(self) -> Scope {
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
        GetAccelerateConfiguration,
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
        GetLifecycleConfiguration,
        GetReplicationConfiguration,
        ListBucket,
        ListBucketMultipartUploads,
        ListBucketVersions,
        PutAccelerateConfiguration,
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
        DeleteBucketWebsite,
        PutEncryptionConfiguration,
        PutLifecycleConfiguration,
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
        GetObjectVersion,
        GetObjectVersionAcl,
        GetObjectVersionAttributes,
        GetObjectVersionTagging,
        ListMultipartUploadParts,
        PutObject,
        PutObjectAcl,
        PutObjectLegalHold,
        PutObjectRetention,
        PutObjectTagging,
        PutObjectVersionAcl,
        PutObjectVersionTagging,
        RestoreObject,
    }
}
