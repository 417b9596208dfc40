//! Reads a policy document into statements.
//!
//! Invariant: every member of the document is read or refused; none is skipped.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::condition::Condition;
use super::json::Json;
use super::pattern::{Pattern, Reading};
use super::principal::Principals;
use super::{Effect, POLICY_BYTES_MAX, Policy, PolicyError, Statement, quoted, texts};
use crate::access::action::{Action, ActionSet};

const ARN: &str = "arn:aws:s3:::";

/// Names of actions as patterns are held against them: letter case does not matter.
static ACTION_NAMES: LazyLock<Vec<(Action, String)>> = LazyLock::new(|| {
    Action::ALL.iter().map(|action| (*action, action.name().to_ascii_lowercase())).collect()
});

/// What a statement is read under.
struct Frame<'a> {
    bucket: &'a str,
    variables: bool,
}

pub(super) fn policy(json: &str, bucket: &str) -> Result<Policy, PolicyError> {
    if json.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::new(format!(
            "the policy has {} bytes, at most {POLICY_BYTES_MAX} are allowed",
            json.len()
        )));
    }
    let document: Json = serde_json::from_str(json)
        .map_err(|error| PolicyError::new(format!("the policy is not JSON: {error}")))?;
    let Json::Object(members) = document else {
        return Err(PolicyError::new(format!("a policy is an object, not {}", document.kind())));
    };
    let mut variables = false;
    let mut statements = None;
    for (name, value) in members {
        match name.as_str() {
            "Version" => variables = version(value)?,
            "Id" => drop(one_text(value, "Id")?),
            "Statement" => statements = Some(value),
            _ => return Err(PolicyError::new(format!("a policy has no element {}", quoted(&name)))),
        }
    }
    let statements = match statements {
        Some(Json::Array(statements)) if !statements.is_empty() => statements,
        Some(statement @ Json::Object(_)) => vec![statement],
        _ => return Err(PolicyError::new("a policy has at least one Statement".to_owned())),
    };
    let frame = Frame { bucket, variables };
    let mut sids = HashSet::new();
    let mut out = Vec::with_capacity(statements.len());
    for json in statements {
        let (statement, sid) = statement(json, &frame)?;
        if let Some(sid) = sid
            && !sids.insert(sid.clone())
        {
            return Err(PolicyError::new(format!("two statements have the Sid {}", quoted(&sid))));
        }
        out.push(statement);
    }
    Ok(Policy { statements: out })
}

/// Whether the version knows variables.
fn version(json: Json) -> Result<bool, PolicyError> {
    match one_text(json, "Version")?.as_str() {
        "2012-10-17" => Ok(true),
        "2008-10-17" => Ok(false),
        other => {
            Err(PolicyError::new(format!("the Version is 2012-10-17 or 2008-10-17, not {}", quoted(other))))
        }
    }
}

fn one_text(json: Json, what: &str) -> Result<String, PolicyError> {
    match json {
        Json::Scalar(text) => Ok(text),
        other => Err(PolicyError::new(format!("{what} is text, not {}", other.kind()))),
    }
}

fn statement(json: Json, frame: &Frame<'_>) -> Result<(Statement, Option<String>), PolicyError> {
    let Json::Object(members) = json else {
        return Err(PolicyError::new(format!("a statement is an object, not {}", json.kind())));
    };
    let (mut effect, mut sid, mut conditions) = (None, None, Vec::new());
    let (mut principals, mut actions, mut resources) =
        (Choice::default(), Choice::default(), Choice::default());
    for (name, value) in members {
        match name.as_str() {
            "Sid" => sid = Some(one_text(value, "Sid")?),
            "Effect" => effect = Some(parse_effect(value)?),
            "Principal" => principals.set(Principals::parse(value)?, false, &name)?,
            "NotPrincipal" => principals.set(Principals::parse(value)?, true, &name)?,
            "Action" => actions.set(parse_actions(value)?, false, &name)?,
            "NotAction" => actions.set(parse_actions(value)?, true, &name)?,
            "Resource" => resources.set(parse_resources(value, frame)?, false, &name)?,
            "NotResource" => resources.set(parse_resources(value, frame)?, true, &name)?,
            "Condition" => conditions = Condition::parse_all(value, frame.variables)?,
            _ => return Err(PolicyError::new(format!("a statement has no element {}", quoted(&name)))),
        }
    }
    let effect = effect.ok_or_else(|| PolicyError::new("a statement has an Effect".to_owned()))?;
    let (principals, all_but_principals) = principals.take("Principal")?;
    let (actions, all_but_actions) = actions.take("Action")?;
    let (resources, all_but_resources) = resources.take("Resource")?;
    if effect == Effect::Allow && all_but_principals {
        return Err(PolicyError::new(
            "NotPrincipal cannot be allowed: it would let in everybody else".to_owned(),
        ));
    }
    let actions = if all_but_actions { actions.complement() } else { actions };
    let statement = Statement {
        effect,
        principals,
        all_but_principals,
        actions,
        resources,
        all_but_resources,
        conditions,
    };
    Ok((statement, sid))
}

/// An element or its `Not…`: exactly one of the two.
struct Choice<T>(Option<(T, bool)>);

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Choice<T> {
    fn set(&mut self, value: T, negated: bool, name: &str) -> Result<(), PolicyError> {
        if self.0.is_some() {
            return Err(PolicyError::new(format!("{name} stands beside its opposite")));
        }
        self.0 = Some((value, negated));
        Ok(())
    }

    fn take(self, name: &str) -> Result<(T, bool), PolicyError> {
        self.0.ok_or_else(|| PolicyError::new(format!("a statement has {name} or Not{name}")))
    }
}

fn parse_effect(json: Json) -> Result<Effect, PolicyError> {
    match one_text(json, "Effect")?.as_str() {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        other => Err(PolicyError::new(format!("the Effect is Allow or Deny, not {}", quoted(other)))),
    }
}

fn parse_actions(json: Json) -> Result<ActionSet, PolicyError> {
    let mut out = ActionSet::default();
    let distinct: HashSet<String> = texts(json, "Action")?.into_iter().collect();
    for text in distinct {
        let wanted = text.to_ascii_lowercase();
        let pattern = Pattern::parse(&wanted, Reading { variables: false, wildcards: true })?;
        let own = wanted == "*" || wanted.starts_with("s3:");
        let mut found = false;
        for (action, name) in ACTION_NAMES.iter() {
            if own && pattern.matches_plain(name) {
                out.insert(*action);
                found = true;
            }
        }
        if !found {
            return Err(PolicyError::new(format!("there is no action {}", quoted(&text))));
        }
    }
    Ok(out)
}

fn parse_resources(json: Json, frame: &Frame<'_>) -> Result<Vec<Pattern>, PolicyError> {
    let reading = Reading { variables: frame.variables, wildcards: true };
    texts(json, "Resource")?
        .iter()
        .map(|text| {
            let inside = if text == "*" { "*" } else { text.strip_prefix(ARN).unwrap_or("") };
            let pattern = Pattern::parse(inside, reading)?;
            if inside.is_empty() || !pattern.could_name(frame.bucket) {
                return Err(PolicyError::new(format!(
                    "the resource {} is not {ARN}{} or inside it",
                    quoted(text),
                    frame.bucket
                )));
            }
            Ok(pattern)
        })
        .collect()
}
