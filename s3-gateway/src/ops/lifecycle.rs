//! Lifecycle configuration of a bucket.

use ashlar_objects::lifecycle::{
    Expiration, LifecycleRule as Rule, NoncurrentExpiration, RuleConditions, RuleFilter, RuleScope,
};
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::{Code, Failure};
use crate::ops::{Answer, Operations, bucket, changed, millis, timestamp};

/// A count of days or versions; below zero is refused like zero.
fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn shown(number: u32) -> Option<i32> {
    i32::try_from(number).ok()
}

fn size(name: &'static str, bytes: Option<i64>) -> Result<Option<u64>, Failure> {
    bytes
        .map(|bytes| u64::try_from(bytes).map_err(|_| Failure::argument(name, "The size is not negative.")))
        .transpose()
}

fn conditions(
    prefix: Option<String>,
    tags: impl IntoIterator<Item = Tag>,
    larger: Option<i64>,
    smaller: Option<i64>,
) -> Result<RuleConditions, Failure> {
    let tags = tags.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    Ok(RuleConditions {
        prefix,
        tags: tags.collect(),
        larger_than: size("ObjectSizeGreaterThan", larger)?,
        smaller_than: size("ObjectSizeLessThan", smaller)?,
    })
}

fn filter(filter: LifecycleRuleFilter) -> Result<RuleFilter, Failure> {
    let outer =
        conditions(filter.prefix, filter.tag, filter.object_size_greater_than, filter.object_size_less_than)?;
    let inner = filter.and.map(|and| {
        let tags = and.tags.unwrap_or_default();
        conditions(and.prefix, tags, and.object_size_greater_than, and.object_size_less_than)
    });
    Ok(RuleFilter { outer, inner: inner.transpose()? })
}

fn expiration(expiration: LifecycleExpiration) -> Result<Expiration, Failure> {
    match (expiration.days, expiration.date, expiration.expired_object_delete_marker) {
        (Some(days), None, None) => Ok(Expiration::Days(count(days))),
        (None, Some(date), None) => Ok(Expiration::Date(millis(date))),
        (None, None, Some(goes)) => Ok(Expiration::ExpiredMarker(goes)),
        _ => Err(Failure::malformed_xml("an expiration has one of Days, Date and ExpiredObjectDeleteMarker")),
    }
}

fn read(rule: LifecycleRule) -> Result<Rule, Failure> {
    let enabled = match rule.status.as_str() {
        ExpirationStatus::ENABLED => true,
        ExpirationStatus::DISABLED => false,
        _ => return Err(Failure::malformed_xml("a rule's status is Enabled or Disabled")),
    };
    let scope = match (rule.prefix, rule.filter) {
        (Some(_), Some(_)) => {
            return Err(Failure::malformed_xml("a rule has a Filter or a Prefix, and not both"));
        }
        (None, Some(asked)) => RuleScope::Filter(filter(asked)?),
        // An empty prefix is read as none.
        (prefix, None) => RuleScope::Prefix(prefix.unwrap_or_default()),
    };
    if rule.transitions.is_some_and(|list| !list.is_empty())
        || rule.noncurrent_version_transitions.is_some_and(|list| !list.is_empty())
    {
        return Err(Failure::new(
            Code::InvalidStorageClass,
            "There is one storage class that keeps all others: a rule cannot move objects to another.",
        ));
    }
    let noncurrent = rule.noncurrent_version_expiration.map(|asked| NoncurrentExpiration {
        days: asked.noncurrent_days.map_or(0, count),
        keep_newest: asked.newer_noncurrent_versions.map(count),
    });
    let abort = rule.abort_incomplete_multipart_upload;
    Ok(Rule {
        id: rule.id.unwrap_or_default(),
        enabled,
        scope,
        expiration: rule.expiration.map(expiration).transpose()?,
        noncurrent,
        abort_uploads_after_days: abort.map(|asked| asked.days_after_initiation.map_or(0, count)),
    })
}

fn bytes(bound: Option<u64>) -> Option<i64> {
    bound.and_then(|bytes| i64::try_from(bytes).ok())
}

fn tags(tags: Vec<(String, String)>) -> impl Iterator<Item = Tag> {
    tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) })
}

fn write(rule: Rule) -> LifecycleRule {
    let (prefix, filter) = match rule.scope {
        RuleScope::Prefix(prefix) => (Some(prefix), None),
        RuleScope::Filter(RuleFilter { outer, inner }) => {
            let and = inner.map(|inner| LifecycleRuleAndOperator {
                object_size_greater_than: bytes(inner.larger_than),
                object_size_less_than: bytes(inner.smaller_than),
                prefix: inner.prefix,
                tags: Some(tags(inner.tags).collect()),
            });
            // A filter of nothing is shown as S3 shows it, with an empty prefix.
            let nothing = and.is_none() && outer == RuleConditions::default();
            let filter = LifecycleRuleFilter {
                and,
                object_size_greater_than: bytes(outer.larger_than),
                object_size_less_than: bytes(outer.smaller_than),
                prefix: if nothing { Some(String::new()) } else { outer.prefix },
                tag: tags(outer.tags).next(),
            };
            (None, Some(filter))
        }
    };
    let mut expiration = LifecycleExpiration::default();
    match rule.expiration {
        Some(Expiration::Days(days)) => expiration.days = shown(days),
        Some(Expiration::Date(date)) => expiration.date = Some(timestamp(date)),
        Some(Expiration::ExpiredMarker(goes)) => expiration.expired_object_delete_marker = Some(goes),
        None => {}
    }
    let status = if rule.enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    LifecycleRule {
        abort_incomplete_multipart_upload: rule
            .abort_uploads_after_days
            .map(|days| AbortIncompleteMultipartUpload { days_after_initiation: shown(days) }),
        expiration: rule.expiration.map(|_| expiration),
        filter,
        id: Some(rule.id),
        noncurrent_version_expiration: rule.noncurrent.map(|noncurrent| NoncurrentVersionExpiration {
            newer_noncurrent_versions: noncurrent.keep_newest.and_then(shown),
            noncurrent_days: shown(noncurrent.days),
        }),
        noncurrent_version_transitions: None,
        prefix,
        status: ExpirationStatus::from_static(status),
        transitions: None,
    }
}

pub(super) async fn put(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutBucketLifecycleConfigurationInput>,
) -> Answer<PutBucketLifecycleConfigurationOutput> {
    let configuration =
        request.input.lifecycle_configuration.ok_or_else(|| Failure::malformed_xml("it is empty"))?;
    let rules: Result<Vec<Rule>, Failure> = configuration.rules.into_iter().map(read).collect();
    let done = ops.store.put_lifecycle_rules(cx, &bucket(&request.input.bucket)?, rules?).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn get(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetBucketLifecycleConfigurationInput>,
) -> Answer<GetBucketLifecycleConfigurationOutput> {
    let rules = ops.store.lifecycle_rules(cx, &bucket(&request.input.bucket)?).await?;
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(rules.into_iter().map(write).collect()),
        ..GetBucketLifecycleConfigurationOutput::default()
    }))
}

pub(super) async fn delete(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<DeleteBucketLifecycleInput>,
) -> Answer<DeleteBucketLifecycleOutput> {
    let done = ops.store.delete_lifecycle_rules(cx, &bucket(&request.input.bucket)?).await?;
    changed(done.receipt.as_ref())
}
