//! Whom a statement is about.
//!
//! Invariant: `*` alone is a wildcard; a principal that is named is named whole, so nobody is let in by a
//! pattern. Whether a named user exists is not known here: a name nobody has matches nobody.

use super::PolicyError;
use super::json::Json;
use crate::access::Principal;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// Everybody, signed in or not.
    Anyone,
    /// A user by id or by name.
    User(String),
    /// A user by both.
    UserOf { id: String, name: String },
    /// Somebody who never comes here: a service of AWS.
    Nobody,
}

/// The principals of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principals(Vec<Named>);

impl Principals {
    /// Reads `Principal` or `NotPrincipal`.
    pub(super) fn parse(json: Json) -> Result<Self, PolicyError> {
        match json {
            Json::Scalar(text) if text == "*" => Ok(Self(vec![Named::Anyone])),
            Json::Object(kinds) => {
                let mut out = Vec::new();
                for (kind, values) in kinds {
                    let parse = match kind.as_str() {
                        "AWS" => parse_user,
                        "CanonicalUser" => parse_id,
                        "Service" => |_: &str| Ok(Named::Nobody),
                        _ => {
                            let kind = super::quoted(&kind);
                            return Err(PolicyError::new(format!(
                                "principals of kind {kind} are not supported"
                            )));
                        }
                    };
                    for text in super::texts(values, "Principal")? {
                        out.push(parse(&text)?);
                    }
                }
                if out.is_empty() {
                    return Err(PolicyError::new("the principal names nobody".to_owned()));
                }
                Ok(Self(out))
            }
            Json::Scalar(text) => Err(PolicyError::new(format!(
                "the principal {} is neither \"*\" nor an object such as {{\"AWS\": …}}",
                super::quoted(&text)
            ))),
            other => Err(PolicyError::new(format!("the principal is an object, not {}", other.kind()))),
        }
    }

    /// Whether it names this principal.
    pub(super) fn contains(&self, principal: &Principal) -> bool {
        self.0.iter().any(|named| match (named, principal) {
            (Named::Anyone, _) => true,
            (Named::User(text), Principal::User(user)) => user.id == *text || user.name == *text,
            (Named::UserOf { id, name }, Principal::User(user)) => user.id == *id && user.name == *name,
            _ => false,
        })
    }

    /// Whether it names everybody.
    pub(super) fn is_anyone(&self) -> bool {
        self.0.contains(&Named::Anyone)
    }
}

fn parse_id(text: &str) -> Result<Named, PolicyError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { Ok(Named::User(text.to_owned())) } else { Err(refused(text)) }
}

/// `*`, an id, a name, `arn:aws:iam::<id>:root`, `arn:aws:iam::<id>:user/<name>` or `arn:aws:iam:::user/<name>`.
fn parse_user(text: &str) -> Result<Named, PolicyError> {
    if text == "*" {
        return Ok(Named::Anyone);
    }
    if text.is_empty()
        || text.contains(['*', '?', '$'])
        || text.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        return Err(refused(text));
    }
    if !text.starts_with("arn:") {
        return if text.contains([':', '/']) { Err(refused(text)) } else { Ok(Named::User(text.to_owned())) };
    }
    let (id, who) = text
        .strip_prefix("arn:aws:iam::")
        .and_then(|rest| rest.split_once(':'))
        .ok_or_else(|| refused(text))?;
    match (id, who.split_once('/')) {
        (id, None) if who == "root" && !id.is_empty() => Ok(Named::User(id.to_owned())),
        (_, Some(("user", ""))) => Err(refused(text)),
        ("", Some(("user", name))) => Ok(Named::User(name.to_owned())),
        (id, Some(("user", name))) => Ok(Named::UserOf { id: id.to_owned(), name: name.to_owned() }),
        _ => Err(refused(text)),
    }
}

fn refused(text: &str) -> PolicyError {
    PolicyError::new(format!(
        "{} is not a principal: a user's id or name, arn:aws:iam::<id>:root, arn:aws:iam::<id>:user/<name> or * is",
        super::quoted(text)
    ))
}
