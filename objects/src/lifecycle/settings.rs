//! The operations on a bucket's lifecycle rules.

use super::LifecycleRule;
use super::check::check;
use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::{Configuration, Error};
use crate::requests::BucketChanged;
use crate::types::BucketName;
use ashlar_metadata::namespace::buckets::Document;

impl Store {
    /// Replaces the bucket's lifecycle rules; rules without an id are given one.
    pub async fn put_lifecycle_rules(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        mut rules: Vec<LifecycleRule>,
    ) -> Result<BucketChanged, Error> {
        check(&rules)?;
        for rule in rules.iter_mut().filter(|rule| rule.id.is_empty()) {
            rule.id = format!("{:032x}", rand::random::<u128>());
        }
        self.put_document(cx, name, Action::PutLifecycleConfiguration, Document::Lifecycle, &rules).await
    }

    /// The bucket's lifecycle rules.
    pub async fn lifecycle_rules(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<Vec<LifecycleRule>, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetLifecycleConfiguration).await?;
        let rules = bucket.lifecycle.as_ref().map(|rules| rules.to_vec());
        rules.ok_or(Error::NoSuchConfiguration { what: Configuration::Lifecycle })
    }

    /// Removes the bucket's lifecycle rules.
    pub async fn delete_lifecycle_rules(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<BucketChanged, Error> {
        self.delete_document(cx, name, Action::PutLifecycleConfiguration, Document::Lifecycle).await
    }
}
