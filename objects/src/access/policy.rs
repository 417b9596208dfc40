//! Bucket policies: read once and strictly, then judged without I/O.
//!
//! Invariants: what is not understood is refused, never ignored; a policy speaks of its own bucket alone; an
//! explicit Deny wins over every Allow; judging takes time linear in policy and request. Whether the answer
//! of a policy is the last word is decided in `authorize`.

mod condition;
mod json;
mod key;
mod parse;
mod pattern;
mod principal;
mod value;

use condition::Condition;
use json::Json;
use pattern::Pattern;
use principal::Principals;

pub use key::REQUEST_KEYS;

use super::action::{Action, ActionSet};
use super::{Access, Principal};

/// Longest policy, in bytes, as in S3.
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

/// A bucket policy that was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PolicyError {
    /// What is wrong, as its author is told.
    pub reason: String,
}

impl PolicyError {
    fn new(reason: String) -> Self {
        Self { reason }
    }
}

impl From<PolicyError> for crate::Error {
    fn from(error: PolicyError) -> Self {
        Self::MalformedPolicy { reason: error.reason }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq)]
struct Statement {
    effect: Effect,
    principals: Principals,
    /// `NotPrincipal`.
    all_but_principals: bool,
    actions: ActionSet,
    /// What follows `arn:aws:s3:::`.
    resources: Vec<Pattern>,
    /// `NotResource`.
    all_but_resources: bool,
    conditions: Vec<Condition>,
}

/// What a policy says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Some statement denies.
    Deny,
    /// Some statement allows and none denies.
    Allow,
    /// Nothing is said.
    Silent,
}

/// The question that a policy is asked.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    facts: key::Facts<'a>,
    action: Action,
    bucket: &'a str,
    key: Option<&'a str>,
}

impl<'a> Question<'a> {
    /// May the request do its action?
    pub(super) fn of(access: &'a Access<'a>, bucket: &'a str) -> Self {
        let key = access.object.as_ref().map(|object| object.key);
        Self { facts: key::Facts { access, prefix: None }, action: access.action, bucket, key }
    }

    /// May the request list a bucket by `prefix`?
    pub(super) fn of_listing(access: &'a Access<'a>, bucket: &'a str, prefix: &'a str) -> Self {
        let facts = key::Facts { access, prefix: Some(prefix) };
        Self { facts, action: Action::ListBucket, bucket, key: None }
    }
}

impl Policy {
    /// Reads the policy of `bucket`.
    ///
    /// Errors: more than [`POLICY_BYTES_MAX`]; JSON that is broken, nested over 128 deep or has a member
    /// twice; an element, action, condition operator or key that is not known; a resource that cannot lie in
    /// `bucket`; an Allow with NotPrincipal.
    pub fn parse(json: &str, bucket: &str) -> Result<Self, PolicyError> {
        parse::policy(json, bucket)
    }

    /// Whether it lets in everybody, as AWS defines public: some Allow has the principal `*` and no condition
    /// that narrows it to certain users or networks. Deny statements change nothing.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement.effect == Effect::Allow
                && statement.principals.is_anyone()
                && !statement.conditions.iter().any(Condition::narrows)
        })
    }

    pub(super) fn judge(&self, question: &Question<'_>) -> Verdict {
        let resource = match question.key {
            Some(key) => format!("{}/{key}", question.bucket),
            None => question.bucket.to_owned(),
        };
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if !statement.applies(question, &resource) {
                continue;
            }
            match statement.effect {
                Effect::Deny => return Verdict::Deny,
                Effect::Allow => verdict = Verdict::Allow,
            }
        }
        verdict
    }
}

impl Statement {
    fn applies(&self, question: &Question<'_>, resource: &str) -> bool {
        let principal: &Principal = &question.facts.access.request.principal;
        self.actions.contains(question.action)
            && self.principals.contains(principal) != self.all_but_principals
            && self.resources.iter().any(|own| own.matches(resource, &question.facts))
                != self.all_but_resources
            && self.conditions.iter().all(|condition| condition.holds(&question.facts))
    }
}

/// Quotes foreign text for a message, cut to 80 characters.
fn quoted(text: &str) -> String {
    let mut out: String =
        text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    format!("'{out}'")
}

/// One text, or a list of at least one.
fn texts(json: Json, what: &str) -> Result<Vec<String>, PolicyError> {
    let item = |json: Json| match json {
        Json::Scalar(text) => Ok(text),
        other => Err(PolicyError::new(format!("{} holds text, not {}", quoted(what), other.kind()))),
    };
    match json {
        Json::Array(items) if items.is_empty() => {
            Err(PolicyError::new(format!("{} is an empty list", quoted(what))))
        }
        Json::Array(items) => items.into_iter().map(item).collect(),
        other => Ok(vec![item(other)?]),
    }
}

#[cfg(test)]
mod tests;
