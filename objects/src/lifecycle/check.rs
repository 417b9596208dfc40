//! What S3 refuses about lifecycle rules when they are put.

use std::collections::BTreeSet;

use super::{DAY_MILLIS, Expiration, LifecycleRule, RuleConditions, RuleScope};
use crate::attributes::check_tags;
use crate::error::Error;
use crate::types::{KEY_BYTES_MAX, Tags};

/// Most rules of a bucket.
const RULES_MAX: usize = 1_000;
/// Longest id of a rule, in characters.
const ID_CHARACTERS_MAX: usize = 255;
/// Most noncurrent versions that a rule may keep.
const KEEP_NEWEST_MAX: u32 = 100;

fn malformed(reason: &'static str) -> Error {
    Error::MalformedConfiguration { reason }
}

fn request(reason: &str) -> Error {
    Error::InvalidRequest { reason: reason.into() }
}

fn argument(name: &'static str, reason: &str) -> Error {
    Error::InvalidArgument { name, reason: reason.into() }
}

/// Refuses rules that S3 would.
pub(super) fn check(rules: &[LifecycleRule]) -> Result<(), Error> {
    if rules.is_empty() {
        return Err(malformed("a lifecycle configuration has at least one rule"));
    }
    if rules.len() > RULES_MAX {
        return Err(request("The number of lifecycle rules must not exceed the allowed limit of 1000 rules"));
    }
    let mut ids = BTreeSet::new();
    for rule in rules {
        if rule.id.chars().count() > ID_CHARACTERS_MAX {
            return Err(argument("ID", "ID length should not exceed allowed limit of 255"));
        }
        if !rule.id.is_empty() && !ids.insert(&rule.id) {
            return Err(argument("ID", "Rule ID must be unique. Found same ID for more than one rule"));
        }
        check_scope(&rule.scope)?;
        check_actions(rule)?;
    }
    Ok(())
}

fn check_scope(scope: &RuleScope) -> Result<(), Error> {
    if scope.prefix().len() > KEY_BYTES_MAX {
        return Err(request("The maximum size of a prefix is 1024"));
    }
    scope.all().try_for_each(check_conditions)
}

fn check_conditions(conditions: &RuleConditions) -> Result<(), Error> {
    let tags = Tags(conditions.tags.iter().cloned().collect());
    if tags.0.len() != conditions.tags.len() {
        return Err(request("Duplicate Tag Keys are not allowed."));
    }
    check_tags(&tags, usize::MAX)?;
    match (conditions.larger_than, conditions.smaller_than) {
        (Some(larger), Some(smaller)) if smaller <= larger => {
            Err(request("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."))
        }
        _ => Ok(()),
    }
}

fn check_actions(rule: &LifecycleRule) -> Result<(), Error> {
    let by_tag = rule.scope.all().any(|conditions| !conditions.tags.is_empty());
    let by_size = rule.scope.all().any(|c| c.larger_than.is_some() || c.smaller_than.is_some());
    match rule.expiration {
        Some(Expiration::Days(0)) => {
            return Err(argument("Days", "'Days' for Expiration action must be a positive integer"));
        }
        Some(Expiration::Date(date)) if date.0.rem_euclid(DAY_MILLIS) != 0 => {
            return Err(argument("Date", "'Date' must be at midnight GMT"));
        }
        Some(Expiration::ExpiredMarker(_)) if by_tag => {
            return Err(request("ExpiredObjectDeleteMarker cannot be specified with Tags."));
        }
        _ => {}
    }
    if let Some(noncurrent) = &rule.noncurrent {
        if noncurrent.days == 0 {
            return Err(argument(
                "NoncurrentDays",
                "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer",
            ));
        }
        if noncurrent.keep_newest.is_some_and(|keep| !(1..=KEEP_NEWEST_MAX).contains(&keep)) {
            return Err(argument(
                "NewerNoncurrentVersions",
                "'NewerNoncurrentVersions' must be a positive integer up to 100",
            ));
        }
    }
    match rule.abort_uploads_after_days {
        Some(0) => {
            return Err(argument(
                "DaysAfterInitiation",
                "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer",
            ));
        }
        Some(_) if by_tag => {
            return Err(request("AbortIncompleteMultipartUpload cannot be specified with Tags."));
        }
        Some(_) if by_size => {
            return Err(request("AbortIncompleteMultipartUpload cannot be specified with Object Size."));
        }
        _ => {}
    }
    if rule.expiration.is_none() && rule.noncurrent.is_none() && rule.abort_uploads_after_days.is_none() {
        return Err(request("At least one action needs to be specified in a rule"));
    }
    Ok(())
}
