//! Conditions of a statement: operators, read strictly and judged against one request.
//!
//! The rules are IAM's: conditions of a statement must all hold; of the values of one condition any may; a
//! key that the request lacks fails a plain operator, passes a negated one and passes `…IfExists`.

use super::PolicyError;
use super::json::Json;
use super::key::{ANONYMOUS_ID, Facts, Key, Values};
use super::pattern::{Pattern, Reading};
use super::value::{Network, parse_bool, parse_moment, parse_number};

/// How several values of a request are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    /// The key has one value.
    One,
    /// Every value of the request; none at all passes.
    ForAll,
    /// Some value of the request.
    ForAny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, found: T, wanted: T) -> bool {
        match self {
            Self::Equal => found == wanted,
            Self::Less => found < wanted,
            Self::LessOrEqual => found <= wanted,
            Self::Greater => found > wanted,
            Self::GreaterOrEqual => found >= wanted,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equals(Vec<Pattern>),
    EqualsIgnoreCase(Vec<Pattern>),
    Like(Vec<Pattern>),
    Number(Comparison, Vec<f64>),
    Moment(Comparison, Vec<i128>),
    Bool(Vec<bool>),
    Address(Vec<Network>),
    /// Whether the key is absent.
    Null(Vec<bool>),
}

/// One operator on one key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    key: Key,
    quantifier: Quantifier,
    negated: bool,
    if_exists: bool,
    test: Test,
}

impl Condition {
    /// Reads the `Condition` member of a statement.
    pub(super) fn parse_all(json: Json, variables: bool) -> Result<Vec<Self>, PolicyError> {
        let Json::Object(operators) = json else {
            return Err(PolicyError::new(format!("Condition is an object, not {}", json.kind())));
        };
        let mut out = Vec::new();
        for (operator, keys) in operators {
            let Json::Object(keys) = keys else {
                return Err(PolicyError::new(format!(
                    "the operator {} holds an object of keys, not {}",
                    super::quoted(&operator),
                    keys.kind()
                )));
            };
            for (key, values) in keys {
                out.push(Self::parse(&operator, &key, values, variables)?);
            }
        }
        Ok(out)
    }

    fn parse(operator: &str, key_name: &str, values: Json, variables: bool) -> Result<Self, PolicyError> {
        let key = Key::parse(key_name)?;
        let (quantifier, rest) = match operator.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantifier::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::ForAny, rest),
            _ => (Quantifier::One, operator),
        };
        if key.is_many() && quantifier == Quantifier::One && rest != "Null" {
            return Err(PolicyError::new(format!(
                "{} can have several values: use ForAllValues or ForAnyValue",
                super::quoted(key_name)
            )));
        }
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let values = super::texts(values, operator)?;
        let (negated, test) = parse_test(name, &values, variables)?.ok_or_else(|| {
            PolicyError::new(format!("the operator {} is not supported", super::quoted(operator)))
        })?;
        if matches!(test, Test::Null(_)) && (if_exists || quantifier != Quantifier::One) {
            return Err(PolicyError::new(format!(
                "the operator {} is not supported",
                super::quoted(operator)
            )));
        }
        Ok(Self { key, quantifier, negated, if_exists, test })
    }

    /// Whether it holds.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        let values = facts.values(&self.key);
        if let Test::Null(wanted) = &self.test {
            return wanted.contains(&matches!(values, Values::None));
        }
        let one = |value: &str| self.test.matches(value, facts) != self.negated;
        match values {
            Values::None => match self.quantifier {
                _ if self.if_exists => true,
                Quantifier::One => self.negated,
                Quantifier::ForAll => true,
                Quantifier::ForAny => false,
            },
            Values::One(value) => one(&value),
            Values::Many(values) => match self.quantifier {
                Quantifier::ForAny => values.into_iter().any(one),
                Quantifier::ForAll | Quantifier::One => values.into_iter().all(one),
            },
        }
    }

    /// Whether it holds only for identities or addresses that are certain and few: then its statement is not
    /// public even with the principal `*`. The list of keys is AWS's, as far as they exist here.
    pub(super) fn narrows(&self) -> bool {
        if self.negated || self.if_exists || self.quantifier == Quantifier::ForAll {
            return false;
        }
        match (&self.key, &self.test) {
            (Key::SourceIp, Test::Address(networks)) => !networks.iter().any(Network::is_public),
            (
                Key::UserId | Key::UserName,
                Test::Equals(values) | Test::EqualsIgnoreCase(values) | Test::Like(values),
            ) => values.iter().all(|value| {
                // Everybody who does not sign goes by one id.
                value
                    .fixed_text()
                    .is_some_and(|text| self.key != Key::UserId || !text.eq_ignore_ascii_case(ANONYMOUS_ID))
            }),
            _ => false,
        }
    }
}

impl Test {
    fn matches(&self, value: &str, facts: &Facts<'_>) -> bool {
        match self {
            Self::Equals(wanted) => wanted.iter().any(|own| own.matches(value, facts)),
            Self::EqualsIgnoreCase(wanted) => {
                let value = value.to_lowercase();
                wanted.iter().any(|own| own.expand(facts).is_some_and(|own| own.to_lowercase() == value))
            }
            Self::Like(wanted) => wanted.iter().any(|own| own.matches(value, facts)),
            Self::Number(comparison, wanted) => parse_number(value)
                .is_some_and(|value| wanted.iter().any(|own| comparison.holds(value, *own))),
            Self::Moment(comparison, wanted) => parse_moment(value)
                .is_some_and(|value| wanted.iter().any(|own| comparison.holds(value, *own))),
            Self::Bool(wanted) => parse_bool(value).is_some_and(|value| wanted.contains(&value)),
            Self::Address(wanted) => {
                value.parse().is_ok_and(|value| wanted.iter().any(|own| own.contains(value)))
            }
            Self::Null(_) => false,
        }
    }
}

/// The operator's test, and whether it is the negated one; `None` where there is no such operator.
fn parse_test(name: &str, values: &[String], variables: bool) -> Result<Option<(bool, Test)>, PolicyError> {
    let text = |wildcards| {
        values
            .iter()
            .map(|value| Pattern::parse(value, Reading { variables, wildcards }))
            .collect::<Result<Vec<_>, _>>()
    };
    if let Some(rest) = name.strip_prefix("String") {
        return Ok(Some(match rest {
            "Equals" => (false, Test::Equals(text(false)?)),
            "NotEquals" => (true, Test::Equals(text(false)?)),
            "EqualsIgnoreCase" => (false, Test::EqualsIgnoreCase(text(false)?)),
            "NotEqualsIgnoreCase" => (true, Test::EqualsIgnoreCase(text(false)?)),
            "Like" => (false, Test::Like(text(true)?)),
            "NotLike" => (true, Test::Like(text(true)?)),
            _ => return Ok(None),
        }));
    }
    if let Some((negated, comparison)) = name.strip_prefix("Numeric").and_then(comparison) {
        return Ok(Some((negated, Test::Number(comparison, read(values, "a number", parse_number)?))));
    }
    if let Some((negated, comparison)) = name.strip_prefix("Date").and_then(comparison) {
        return Ok(Some((negated, Test::Moment(comparison, read(values, "a date", parse_moment)?))));
    }
    Ok(Some(match name {
        "Bool" => (false, Test::Bool(read(values, "true or false", parse_bool)?)),
        "Null" => (false, Test::Null(read(values, "true or false", parse_bool)?)),
        "IpAddress" => (false, Test::Address(read(values, "an address or network", Network::parse)?)),
        "NotIpAddress" => (true, Test::Address(read(values, "an address or network", Network::parse)?)),
        _ => return Ok(None),
    }))
}

fn comparison(name: &str) -> Option<(bool, Comparison)> {
    Some(match name {
        "Equals" => (false, Comparison::Equal),
        "NotEquals" => (true, Comparison::Equal),
        "LessThan" => (false, Comparison::Less),
        "LessThanEquals" => (false, Comparison::LessOrEqual),
        "GreaterThan" => (false, Comparison::Greater),
        "GreaterThanEquals" => (false, Comparison::GreaterOrEqual),
        _ => return None,
    })
}

fn read<T>(values: &[String], what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, PolicyError> {
    values
        .iter()
        .map(|value| {
            parse(value).ok_or_else(|| PolicyError::new(format!("{} is not {what}", super::quoted(value))))
        })
        .collect()
}
