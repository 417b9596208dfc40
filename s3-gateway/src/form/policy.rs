//! The policy of a form upload: what its signer allows its sender.
//!
//! Invariant: bucket and key are named by conditions; every field that is sent must be allowed by one, except
//! those that S3 exempts; a condition about a field that was not sent does not hold. Source: "POST Policy" of the S3 API reference.

use ashlar_objects::types::PUT_BYTES_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::failure::{Code, Failure};
use crate::form::fields::Form;

/// Longest policy in base64.
const POLICY_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Equals { field: String, value: String },
    StartsWith { field: String, prefix: String },
    Length { least: u64, most: u64 },
}

/// A parsed policy.
#[derive(Debug)]
pub(crate) struct Policy {
    expires: i64,
    conditions: Vec<Condition>,
}

fn invalid(why: &str) -> Failure {
    Failure::new(Code::InvalidPolicyDocument, format!("Invalid Policy: {why}."))
}

fn denied(why: &str) -> Failure {
    Failure::new(Code::AccessDenied, format!("Invalid according to Policy: {why}"))
}

impl Policy {
    /// Reads a policy as the form carries it.
    pub(crate) fn parse(encoded: &str) -> Result<Self, Failure> {
        if encoded.len() > POLICY_BYTES_MAX {
            return Err(invalid("it is too long"));
        }
        let compact: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let json = STANDARD.decode(compact).map_err(|_| invalid("it is not base64"))?;
        let document: Value = serde_json::from_slice(&json).map_err(|_| invalid("Invalid JSON"))?;
        let document = document.as_object().ok_or_else(|| invalid("Invalid JSON: it is no object"))?;
        let expiration = document
            .get("expiration")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("Policy missing expiration"))?;
        let expires = crate::headers::time::parse_date(expiration)
            .ok_or_else(|| invalid("the expiration is not an ISO 8601 time"))?;
        let conditions = document
            .get("conditions")
            .and_then(Value::as_array)
            .filter(|conditions| !conditions.is_empty())
            .ok_or_else(|| invalid("Policy missing conditions"))?;
        let mut read = Vec::with_capacity(conditions.len());
        for condition in conditions {
            match condition {
                Value::Object(pairs) => {
                    for (field, value) in pairs {
                        read.push(Condition::Equals {
                            field: field.to_ascii_lowercase(),
                            value: scalar(value)?,
                        });
                    }
                }
                Value::Array(items) => read.push(of_array(items)?),
                _ => return Err(invalid("a condition is neither object nor array")),
            }
        }
        Ok(Self { expires, conditions: read })
    }

    /// The least and most bytes of a file that every condition allows.
    pub(crate) fn length_range(&self) -> (u64, u64) {
        self.conditions.iter().fold((0, PUT_BYTES_MAX), |(low, high), condition| match condition {
            Condition::Length { least, most } => (low.max(*least), high.min(*most)),
            _ => (low, high),
        })
    }

    /// Whether a condition speaks of a field.
    fn names(&self, field: &str) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::Equals { field: own, .. } | Condition::StartsWith { field: own, .. } => own == field,
            Condition::Length { .. } => false,
        })
    }

    /// Holds a form to the policy.
    pub(crate) fn check(&self, form: &Form, bucket: &str, now: i64) -> Result<(), Failure> {
        if now >= self.expires {
            return Err(denied("Policy expired."));
        }
        let value = |field: &str| if field == "bucket" { Some(bucket) } else { form.get(field) };
        for condition in &self.conditions {
            let (holds, field) = match condition {
                Condition::Equals { field, value: wanted } => (value(field) == Some(wanted), field),
                Condition::StartsWith { field, prefix } => {
                    // A list of content types holds when each begins so.
                    let holds = value(field).is_some_and(|value| {
                        if field == "content-type" {
                            value.split(',').all(|one| one.trim().starts_with(prefix.as_str()))
                        } else {
                            value.starts_with(prefix.as_str())
                        }
                    });
                    (holds, field)
                }
                Condition::Length { .. } => continue,
            };
            if !holds {
                return Err(denied(&format!(
                    "Policy Condition failed: the field '{field}' is not as the policy asks."
                )));
            }
        }
        // Without them the signer would have allowed uploads anywhere.
        if let Some(missing) = ["bucket", "key"].into_iter().find(|field| !self.names(field)) {
            return Err(denied(&format!("Policy missing condition: it does not say which {missing}")));
        }
        for (field, _) in form.fields() {
            let exempt = matches!(field.as_str(), "x-amz-signature" | "policy" | "file" | "submit")
                || field.starts_with("x-ignore-");
            if !exempt && !self.names(field) {
                return Err(denied(&format!("Extra input fields: {field}")));
            }
        }
        Ok(())
    }
}

fn scalar(value: &Value) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(invalid("a condition's value is not text")),
    }
}

fn of_array(items: &[Value]) -> Result<Condition, Failure> {
    let [operator, first, second] = items else {
        return Err(invalid("a condition in an array has three items"));
    };
    let operator = operator.as_str().ok_or_else(|| invalid("a condition's operator is not text"))?;
    if operator.eq_ignore_ascii_case("content-length-range") {
        let bound = |value: &Value| -> Result<u64, Failure> {
            scalar(value)?.parse().map_err(|_| invalid("a bound of content-length-range is not a number"))
        };
        return Ok(Condition::Length { least: bound(first)?, most: bound(second)? });
    }
    let field = first
        .as_str()
        .and_then(|field| field.strip_prefix('$'))
        .ok_or_else(|| invalid("a condition's field does not begin with '$'"))?;
    let field = field.to_ascii_lowercase();
    match operator.to_ascii_lowercase().as_str() {
        "eq" => Ok(Condition::Equals { field, value: scalar(second)? }),
        "starts-with" => Ok(Condition::StartsWith { field, prefix: scalar(second)? }),
        _ => Err(invalid("a condition's operator is not eq, starts-with or content-length-range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(conditions: &str) -> Result<Policy, Failure> {
        let json = format!("{{\"expiration\": \"2030-01-01T00:00:00Z\", \"conditions\": {conditions}}}");
        Policy::parse(&STANDARD.encode(json))
    }

    const NOW: i64 = 1_700_000_000;

    #[test]
    fn conditions_hold_or_not() {
        let read = policy(r#"[{"bucket": "b"}, ["starts-with", "$key", "user/"], ["eq", "$ACL", "private"], ["content-length-range", 1, "10"]]"#).expect("policy");
        assert_eq!(read.length_range(), (1, 10));
        let good = [("key", "user/x"), ("acl", "private"), ("policy", "p"), ("x-ignore-me", "1")];
        read.check(&Form::of(&good), "b", NOW).expect("allowed");
        for (fields, bucket) in [
            (&good[..], "c"),
            (&[("key", "usr/x"), ("acl", "private")], "b"),
            (&[("key", "user/x")], "b"),
            (&[("key", "user/x"), ("acl", "public-read")], "b"),
            (&[("key", "user/x"), ("acl", "private"), ("x-amz-meta-a", "1")], "b"),
        ] {
            assert_eq!(
                read.check(&Form::of(fields), bucket, NOW).expect_err("refused").code(),
                "AccessDenied"
            );
        }
        let late = read.check(&Form::of(&good), "b", 2_000_000_000).expect_err("expired");
        assert_eq!(late.code(), "AccessDenied");
    }

    #[test]
    fn bucket_and_key_must_be_named_and_ranges_all_hold() {
        let form = Form::of(&[("key", "x")]);
        for conditions in [r#"[{"bucket": "b"}]"#, r#"[["starts-with", "$key", ""]]"#] {
            let read = policy(conditions).expect("policy");
            assert_eq!(
                read.check(&form, "b", NOW).expect_err("refused").code(),
                "AccessDenied",
                "{conditions}"
            );
        }
        let ranges = r#"[{"bucket": "b"}, {"key": "x"}, ["content-length-range", 1, 10], ["content-length-range", 5, 20]]"#;
        let read = policy(ranges).expect("policy");
        read.check(&form, "b", NOW).expect("allowed");
        assert_eq!(read.length_range(), (5, 10));
    }

    #[test]
    fn broken_policies_are_refused() {
        for bad in [
            "[]",
            "{}",
            "[1]",
            r#"[["eq", "key", "x"]]"#,
            r#"[["like", "$key", "x"]]"#,
            r#"[["content-length-range", "a", 1]]"#,
            r#"[["eq", "$key"]]"#,
            r#"[{"a": []}]"#,
        ] {
            assert_eq!(policy(bad).expect_err(bad).code(), "InvalidPolicyDocument");
        }
        for bad in ["***", "e30=", "W10="] {
            assert_eq!(Policy::parse(bad).expect_err(bad).code(), "InvalidPolicyDocument");
        }
    }
}
