//! Conditions of a request against what is there: RFC 9110 and S3's additions.
//!
//! Pure; each caller evaluates them on the very rows whose versions its commit checks.

use crate::error::Error;
use crate::types::{Conditions, ETag, TagMatch, UnixMillis, VersionId};

/// What a condition is held against: the current object, `None` where there is none or a delete marker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Existing {
    pub(crate) etag: ETag,
    pub(crate) modified: UnixMillis,
    pub(crate) version: Option<VersionId>,
}

fn matches(tags: &TagMatch, etag: ETag) -> bool {
    match tags {
        TagMatch::Any => true,
        TagMatch::OneOf(list) => {
            let text = etag.to_string();
            list.contains(&text)
        }
    }
}

fn seconds(time: UnixMillis) -> i64 {
    time.0.div_euclid(1000)
}

/// Conditions of GET and HEAD, and of the source of a copy, in the order of RFC 9110 §13.2.2.
///
/// `NotModified` becomes 304 for reads; a copy maps it to `PreconditionFailed`.
pub(crate) fn check_read(conditions: &Conditions, found: &Existing) -> Result<(), Error> {
    let modified = seconds(found.modified);
    match (&conditions.if_match, conditions.if_unmodified_since) {
        (Some(tags), _) if !matches(tags, found.etag) => {
            return Err(Error::PreconditionFailed { condition: "If-Match" });
        }
        (None, Some(time)) if modified > time => {
            return Err(Error::PreconditionFailed { condition: "If-Unmodified-Since" });
        }
        _ => {}
    }
    let not_modified = match (&conditions.if_none_match, conditions.if_modified_since) {
        (Some(tags), _) => matches(tags, found.etag),
        (None, Some(time)) => modified <= time,
        (None, None) => false,
    };
    if not_modified {
        return Err(Error::NotModified {
            etag: found.etag,
            modified: found.modified,
            version: found.version,
        });
    }
    Ok(())
}

/// Conditions of PUT, COPY's destination and Complete.
pub(crate) fn check_write(conditions: &Conditions, found: Option<&Existing>) -> Result<(), Error> {
    match (&conditions.if_match, found) {
        (Some(_), None) => return Err(Error::NoSuchKey),
        (Some(tags), Some(existing)) if !matches(tags, existing.etag) => {
            return Err(Error::PreconditionFailed { condition: "If-Match" });
        }
        _ => {}
    }
    match (&conditions.if_none_match, found) {
        (Some(tags), Some(existing)) if matches(tags, existing.etag) => {
            return Err(Error::PreconditionFailed { condition: "If-None-Match" });
        }
        _ => {}
    }
    match (conditions.if_unmodified_since, found) {
        (Some(time), Some(existing)) if seconds(existing.modified) > time => {
            Err(Error::PreconditionFailed { condition: "If-Unmodified-Since" })
        }
        _ => Ok(()),
    }
}

/// What a DELETE would remove: an object, or a delete marker (which has no tag).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doomed {
    pub(crate) etag: Option<ETag>,
    pub(crate) modified: UnixMillis,
    pub(crate) length: u64,
}

/// Conditions of DELETE: each that is given must hold for what is there. Where nothing is there, the
/// deletion has already happened and passes, as S3 has it.
pub(crate) fn check_delete(conditions: &Conditions, found: Option<&Doomed>) -> Result<(), Error> {
    let Some(doomed) = found else { return Ok(()) };
    let tag_differs = |tags: &TagMatch| match doomed.etag {
        Some(etag) => !matches(tags, etag),
        None => *tags != TagMatch::Any,
    };
    if conditions.if_match.as_ref().is_some_and(tag_differs) {
        return Err(Error::PreconditionFailed { condition: "If-Match" });
    }
    if conditions.if_match_size.is_some_and(|size| size != doomed.length) {
        return Err(Error::PreconditionFailed { condition: "x-amz-if-match-size" });
    }
    if conditions.if_match_last_modified.is_some_and(|time| time != seconds(doomed.modified)) {
        return Err(Error::PreconditionFailed { condition: "x-amz-if-match-last-modified-time" });
    }
    Ok(())
}

/// Whether a write carries any condition that needs the current object.
pub(crate) fn any(conditions: &Conditions) -> bool {
    *conditions != Conditions::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: Existing = Existing { etag: ETag::Md5([7; 16]), modified: UnixMillis(5_400), version: None };

    fn tags(tags: &[&str]) -> Option<TagMatch> {
        Some(TagMatch::OneOf(tags.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn a_matching_tag_silences_the_dates() {
        let own = FOUND.etag.to_string();
        let conditions =
            Conditions { if_match: tags(&[&own]), if_unmodified_since: Some(0), ..Default::default() };
        assert!(check_read(&conditions, &FOUND).is_ok());
        let conditions =
            Conditions { if_none_match: tags(&["x"]), if_modified_since: Some(100), ..Default::default() };
        assert!(check_read(&conditions, &FOUND).is_ok());
        let conditions = Conditions { if_modified_since: Some(5), ..Default::default() };
        assert!(matches!(check_read(&conditions, &FOUND), Err(Error::NotModified { .. })));
        let conditions = Conditions { if_unmodified_since: Some(4), ..Default::default() };
        assert!(matches!(check_read(&conditions, &FOUND), Err(Error::PreconditionFailed { .. })));
    }

    #[test]
    fn writes_tell_absent_from_different() {
        let star = Conditions { if_none_match: Some(TagMatch::Any), ..Default::default() };
        assert!(check_write(&star, None).is_ok());
        assert!(matches!(check_write(&star, Some(&FOUND)), Err(Error::PreconditionFailed { .. })));
        let exact = Conditions { if_match: tags(&["other"]), ..Default::default() };
        assert!(matches!(check_write(&exact, None), Err(Error::NoSuchKey)));
        assert!(matches!(check_write(&exact, Some(&FOUND)), Err(Error::PreconditionFailed { .. })));
    }
}
