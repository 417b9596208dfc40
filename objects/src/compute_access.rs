//! Who may compute on what lies in a bucket.
//!
//! Invariant: what was never set lets data go to nobody but its owner's own providers and the store itself; of several
//! buckets the narrowest holds. Deliberately does not know providers beyond their addresses, nor how they are chosen.

use std::collections::BTreeSet;

use ashlar_metadata::namespace::buckets::Document;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
use crate::requests::BucketChanged;
use crate::types::BucketName;

/// Most providers that a bucket lists.
pub const LISTED_MAX: usize = 1_000;

/// A provider's account on the chain, as `0x` and 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProviderAddress(pub [u8; 20]);

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a provider's address is 0x and 40 lower-case hexadecimal digits")]
pub struct InvalidAddress;

impl TryFrom<String> for ProviderAddress {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        let digits = text.strip_prefix("0x").ok_or(InvalidAddress)?;
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(InvalidAddress);
        }
        let mut bytes = [0; 20];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidAddress)?;
        Ok(Self(bytes))
    }
}

impl From<ProviderAddress> for String {
    fn from(address: ProviderAddress) -> Self {
        format!("0x{}", hex::encode(address.0))
    }
}

impl std::fmt::Debug for ProviderAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

/// Which providers data may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeAccess {
    /// Those of the bucket's owner, and the store itself, where the data lies already.
    #[default]
    Own,
    /// These as well.
    Listed(BTreeSet<ProviderAddress>),
    /// Any.
    Any,
}

/// What a bucket says of computing on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeRule {
    /// Owner's user id.
    pub owner: String,
    /// Which providers.
    pub access: ComputeAccess,
}

impl ComputeRule {
    /// Whether data may go to this provider, which belongs to `user`, if to any user of this store.
    pub fn lets(&self, provider: ProviderAddress, user: Option<&str>) -> bool {
        let is_own = user == Some(self.owner.as_str());
        match &self.access {
            ComputeAccess::Own => is_own,
            ComputeAccess::Listed(listed) => is_own || listed.contains(&provider),
            ComputeAccess::Any => true,
        }
    }
}

impl Store {
    /// Says which providers may compute on what lies in a bucket. It opens the bucket as a policy does, and asks for the
    /// same right.
    pub async fn set_compute_access(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        access: &ComputeAccess,
    ) -> Result<BucketChanged, Error> {
        if let ComputeAccess::Listed(listed) = access
            && listed.len() > LISTED_MAX
        {
            let reason = format!("{} providers, and {LISTED_MAX} are the most", listed.len());
            return Err(Error::InvalidArgument { name: "compute-access", reason });
        }
        self.put_document(cx, name, Action::PutBucketPolicy, Document::ComputeAccess, access).await
    }

    /// Which providers may compute on what lies in a bucket.
    pub async fn compute_access(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<ComputeAccess, Error> {
        Ok(self.bucket_for(cx, name, Action::GetBucketPolicy).await?.compute_access.clone())
    }

    /// What a bucket says of computing on it, as of now; no principal is asked.
    pub async fn compute_rule(&self, name: &BucketName) -> Result<ComputeRule, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, name).await?;
        Ok(ComputeRule { owner: bucket.row.owner.clone(), access: bucket.compute_access.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::CreateBucket;
    use crate::testing::{TestStore, request_of};

    const HERS: ProviderAddress = ProviderAddress([1; 20]);
    const HIS: ProviderAddress = ProviderAddress([2; 20]);

    #[test]
    fn data_stays_with_its_owner_unless_it_is_let_go() {
        let rule = |access| ComputeRule { owner: "ann".into(), access };
        let lets = |access: ComputeAccess| {
            let rule = rule(access);
            [rule.lets(HERS, Some("ann")), rule.lets(HIS, Some("bob")), rule.lets(HIS, None)]
        };
        assert_eq!(lets(ComputeAccess::default()), [true, false, false]);
        assert_eq!(lets(ComputeAccess::Listed(BTreeSet::new())), [true, false, false]);
        assert_eq!(lets(ComputeAccess::Listed(BTreeSet::from([HIS]))), [true, true, true]);
        assert_eq!(lets(ComputeAccess::Any), [true, true, true]);
    }

    #[tokio::test]
    async fn the_setting_is_the_owners_and_is_kept() {
        let TestStore { store, .. } = TestStore::new().await;
        let (ann, bob) = (request_of("ann", false), request_of("bob", false));
        let bucket = BucketName::new("data").unwrap();
        let new = |bucket: &BucketName| CreateBucket {
            bucket: bucket.clone(),
            acl: None,
            object_lock: false,
            ownership: None,
            location: None,
        };
        store.create_bucket(&ann, new(&bucket)).await.unwrap();
        assert_eq!(store.compute_access(&ann, &bucket).await.unwrap(), ComputeAccess::Own);
        let listed = ComputeAccess::Listed(BTreeSet::from([HIS]));
        assert!(store.set_compute_access(&bob, &bucket, &listed).await.is_err());
        assert!(store.compute_access(&bob, &bucket).await.is_err());
        store.set_compute_access(&ann, &bucket, &listed).await.unwrap();
        let rule = store.compute_rule(&bucket).await.unwrap();
        assert_eq!(rule, ComputeRule { owner: "ann".into(), access: listed });
        let many = (0..=LISTED_MAX).map(|n| {
            let mut address = [0; 20];
            address[..8].copy_from_slice(&u64::try_from(n).unwrap().to_be_bytes());
            ProviderAddress(address)
        });
        let many = ComputeAccess::Listed(many.collect());
        assert!(store.set_compute_access(&ann, &bucket, &many).await.is_err());
        for name in ["ashlar-jobs", "ashlar-catalog"] {
            let reserved = BucketName::new(name).unwrap();
            let taken = store.create_bucket(&ann, new(&reserved)).await;
            assert!(matches!(taken, Err(Error::BucketAlreadyExists)), "{name}");
        }
        assert!(serde_json::from_str::<ProviderAddress>("\"0xAB\"").is_err());
    }
}
