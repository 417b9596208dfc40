//! Lifecycle: which versions and uploads a bucket's rules give up, and when.
//!
//! Pure judgement lives here: rules, facts and the store's clock go in, a verdict comes out. The worker
//! (`worker.rs`) looks for what may be due and asks again, with the same functions, inside each deletion's
//! transaction; so a rule or version that changed meanwhile counts as it is then.

mod check;
mod pass;
mod settings;
mod worker;

use serde::{Deserialize, Serialize};

pub(crate) use worker::Worker;
pub use worker::{LifecycleDay, LifecycleStats};

use crate::types::{Tags, UnixMillis};
use ashlar_metadata::namespace::versions::VersionRow;

/// Milliseconds of a day of the calendar.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// One rule, as it was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleRule {
    /// Its name, unique in the bucket; empty where the store is to make one.
    pub id: String,
    /// Whether it counts.
    pub enabled: bool,
    /// What it is about.
    pub scope: RuleScope,
    /// What becomes of current versions.
    pub expiration: Option<Expiration>,
    /// What becomes of noncurrent versions.
    pub noncurrent: Option<NoncurrentExpiration>,
    /// Days after which an unfinished upload is given up.
    pub abort_uploads_after_days: Option<u32>,
}

/// What a rule is about: the two forms that S3 has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleScope {
    /// Keys that begin so, as rules said before there were filters.
    Prefix(String),
    /// A filter.
    Filter(RuleFilter),
}

/// A filter: everything it names must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFilter {
    /// RuleConditions that stand in the filter itself.
    pub outer: RuleConditions,
    /// RuleConditions that stand in its `And`.
    pub inner: Option<RuleConditions>,
}

/// RuleConditions on a version, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleConditions {
    /// How its key begins.
    pub prefix: Option<String>,
    /// Tags that it has, among others.
    pub tags: Vec<(String, String)>,
    /// It has more bytes than these.
    pub larger_than: Option<u64>,
    /// It has fewer bytes than these.
    pub smaller_than: Option<u64>,
}

/// When a current version expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    /// So many days after it was written.
    Days(u32),
    /// From this moment on, a midnight.
    Date(UnixMillis),
    /// Never; but a delete marker that hides nothing any more goes, if this is true.
    ExpiredMarker(bool),
}

/// When a noncurrent version goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoncurrentExpiration {
    /// Days since it was replaced.
    pub days: u32,
    /// How many of the newest noncurrent versions stay whatever their age.
    pub keep_newest: Option<u32>,
}

/// When a current version will expire, and which rule says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The moment.
    pub at: UnixMillis,
    /// The rule's id.
    pub rule: String,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a str,
    /// Length and tags; delete markers and uploads have none.
    pub(crate) object: Option<(u64, &'a Tags)>,
}

impl<'a> Subject<'a> {
    pub(crate) fn of(key: &'a str, row: &'a VersionRow) -> Self {
        Self { key, object: row.object.as_ref().map(|object| (object.length, &object.tags)) }
    }
}

impl RuleConditions {
    fn hold(&self, subject: &Subject<'_>) -> bool {
        let about_objects =
            !self.tags.is_empty() || self.larger_than.is_some() || self.smaller_than.is_some();
        let object_fits = match subject.object {
            None => !about_objects,
            Some((length, tags)) => {
                self.tags.iter().all(|(key, value)| tags.0.get(key) == Some(value))
                    && self.larger_than.is_none_or(|bound| length > bound)
                    && self.smaller_than.is_none_or(|bound| length < bound)
            }
        };
        object_fits && self.prefix.as_ref().is_none_or(|prefix| subject.key.starts_with(prefix.as_str()))
    }
}

impl RuleScope {
    fn all(&self) -> impl Iterator<Item = &RuleConditions> {
        let filter = match self {
            Self::Prefix(_) => None,
            Self::Filter(filter) => Some(filter),
        };
        filter.into_iter().flat_map(|filter| std::iter::once(&filter.outer).chain(&filter.inner))
    }

    /// How every key that this is about begins.
    fn prefix(&self) -> &str {
        match self {
            Self::Prefix(prefix) => prefix,
            Self::Filter(_) => self
                .all()
                .filter_map(|conditions| conditions.prefix.as_deref())
                .max_by_key(|prefix| prefix.len())
                .unwrap_or(""),
        }
    }

    fn covers(&self, subject: &Subject<'_>) -> bool {
        subject.key.starts_with(self.prefix()) && self.all().all(|conditions| conditions.hold(subject))
    }
}

impl LifecycleRule {
    fn covers(&self, subject: &Subject<'_>) -> bool {
        self.enabled && self.scope.covers(subject)
    }
}

/// What a version is to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The newest; `alone` where the key has no other.
    Newest { alone: bool },
    /// Replaced at `since`, with so many newer noncurrent objects.
    Noncurrent { since: UnixMillis, newer: u32 },
}

/// Whether any of the rules gives a version up now.
pub(crate) fn is_due(
    rules: &[LifecycleRule],
    day: LifecycleDay,
    now: UnixMillis,
    subject: &Subject<'_>,
    modified: UnixMillis,
    place: Place,
) -> bool {
    rules.iter().filter(|rule| rule.covers(subject)).any(|rule| match place {
        Place::Newest { alone } => match rule.expiration {
            _ if subject.object.is_none() && !alone => false,
            None => false,
            Some(Expiration::Days(days)) => day.after(modified, days) <= now,
            Some(Expiration::Date(date)) => date <= now,
            Some(Expiration::ExpiredMarker(goes)) => goes && subject.object.is_none(),
        },
        Place::Noncurrent { since, newer } => rule.noncurrent.is_some_and(|noncurrent| {
            noncurrent.keep_newest.is_none_or(|keep| newer >= keep)
                && day.after(since, noncurrent.days) <= now
        }),
    })
}

/// Whether any of the rules gives an upload up now.
pub(crate) fn upload_is_due(
    rules: &[LifecycleRule],
    day: LifecycleDay,
    now: UnixMillis,
    key: &str,
    initiated: UnixMillis,
) -> bool {
    let subject = Subject { key, object: None };
    rules
        .iter()
        .filter(|rule| rule.covers(&subject))
        .any(|rule| rule.abort_uploads_after_days.is_some_and(|days| day.after(initiated, days) <= now))
}

/// When an upload is given up, for who starts it.
pub(crate) fn upload_expiry(rules: &[LifecycleRule], key: &str, initiated: UnixMillis) -> Option<Expiry> {
    let subject = Subject { key, object: None };
    let expiries = rules.iter().filter(|rule| rule.covers(&subject)).filter_map(|rule| {
        let at = LifecycleDay::CALENDAR.after(initiated, rule.abort_uploads_after_days?);
        Some(Expiry { at, rule: rule.id.clone() })
    });
    expiries.min_by_key(|expiry| expiry.at)
}

/// When a current version expires, for who asks: the earliest of the rules, in days of the calendar.
pub(crate) fn expiry(rules: &[LifecycleRule], subject: &Subject<'_>, modified: UnixMillis) -> Option<Expiry> {
    subject.object?;
    let expiries = rules.iter().filter(|rule| rule.covers(subject)).filter_map(|rule| {
        let at = match rule.expiration? {
            Expiration::Days(days) => LifecycleDay::CALENDAR.after(modified, days),
            Expiration::Date(date) => date,
            Expiration::ExpiredMarker(_) => return None,
        };
        Some(Expiry { at, rule: rule.id.clone() })
    });
    expiries.min_by_key(|expiry| expiry.at)
}

/// The beginnings of all keys that enabled rules are about, none of which covers another.
pub(crate) fn prefixes(rules: &[LifecycleRule], wanted: impl Fn(&LifecycleRule) -> bool) -> Vec<&str> {
    let rules = rules.iter().filter(|rule| rule.enabled && wanted(rule));
    let mut prefixes: Vec<&str> = rules.map(|rule| rule.scope.prefix()).collect();
    prefixes.sort_unstable();
    // In order, what begins alike follows its shortest beginning.
    prefixes.dedup_by(|later, earlier| later.starts_with(*earlier));
    prefixes
}

#[cfg(test)]
mod tests;
