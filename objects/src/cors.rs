//! Cross-origin rules of a bucket: their limits, and which rule answers a browser.
//!
//! Invariant: rules that passed [`validate`] can be matched in time linear in their length, because each
//! pattern holds at most one `*`. The first rule that matches answers. Pure; knows nothing of HTTP messages
//! beyond the few header values that browsers send.

use serde::{Deserialize, Serialize};

/// Most rules of one bucket, as in S3.
pub const RULES_MAX: usize = 100;
/// Most bytes of all text of a bucket's rules, as in S3.
pub const RULES_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a rule, in characters.
const ID_CHARS_MAX: usize = 255;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// One rule of a bucket's CORS configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    /// Name given by the client, up to 255 characters.
    pub id: Option<String>,
    /// Any of GET, PUT, HEAD, POST, DELETE; at least one.
    pub allowed_methods: Vec<String>,
    /// Origins, each with at most one `*`; at least one.
    pub allowed_origins: Vec<String>,
    /// Request headers that a preflight may ask for, each with at most one `*`; any letter case.
    pub allowed_headers: Vec<String>,
    /// Answer headers that scripts may read.
    pub expose_headers: Vec<String>,
    /// How long a browser may keep a preflight's answer, in seconds.
    pub max_age_seconds: Option<i32>,
}

/// Why a CORS configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// None, or more than [`RULES_MAX`].
    #[error("a CORS configuration of {rules} rules; 1 to {RULES_MAX} are allowed")]
    Rules {
        /// Their number.
        rules: usize,
    },
    /// More than [`RULES_BYTES_MAX`] of text.
    #[error("the rules have {bytes} bytes of text, at most {RULES_BYTES_MAX} are allowed")]
    TooLong {
        /// Their length.
        bytes: usize,
    },
    /// A rule without a method or without an origin.
    #[error("rule {rule} has no {what}")]
    Missing {
        /// Which rule, from 1.
        rule: usize,
        /// What it lacks.
        what: &'static str,
    },
    /// A value that is not allowed.
    #[error("rule {rule}: '{value}' is not {what}")]
    Value {
        /// Which rule, from 1.
        rule: usize,
        /// The value, cut to 80 characters.
        value: String,
        /// What it should be.
        what: &'static str,
    },
}

impl From<CorsError> for crate::Error {
    fn from(error: CorsError) -> Self {
        Self::InvalidRequest { reason: error.to_string() }
    }
}

/// What an answer says to the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsAnswer<'a> {
    /// `Access-Control-Allow-Origin`: `*`, or the origin that asked, and then `Vary: Origin` belongs to it.
    pub allow_origin: &'a str,
    /// Whether `Access-Control-Allow-Credentials: true` goes with it: never with `*`.
    pub allow_credentials: bool,
    /// `Access-Control-Allow-Methods`.
    pub allow_methods: &'a [String],
    /// `Access-Control-Allow-Headers`: those asked for; empty for none and for requests that are no preflight.
    pub allow_headers: Vec<String>,
    /// `Access-Control-Expose-Headers`.
    pub expose_headers: &'a [String],
    /// `Access-Control-Max-Age` in seconds.
    pub max_age_seconds: Option<i32>,
}

impl CorsRule {
    /// Whether the rule answers a request of this method from this origin with these request headers.
    #[must_use]
    pub fn matches(&self, origin: &str, method: &str, headers: &[&str]) -> bool {
        self.allowed_methods.iter().any(|own| own == method)
            && self.origin_pattern(origin).is_some()
            && headers.iter().all(|header| {
                let header = header.to_ascii_lowercase();
                self.allowed_headers.iter().any(|own| star_matches(&own.to_ascii_lowercase(), &header))
            })
    }

    fn origin_pattern(&self, origin: &str) -> Option<&str> {
        self.allowed_origins.iter().map(String::as_str).find(|own| star_matches(own, origin))
    }

    fn answer<'a>(&'a self, origin: &'a str, headers: &[&str]) -> CorsAnswer<'a> {
        let any = self.origin_pattern(origin) == Some("*");
        CorsAnswer {
            allow_origin: if any { "*" } else { origin },
            allow_credentials: !any,
            allow_methods: &self.allowed_methods,
            allow_headers: headers.iter().map(|header| header.to_ascii_lowercase()).collect(),
            expose_headers: &self.expose_headers,
            max_age_seconds: self.max_age_seconds,
        }
    }
}

/// The answer to a preflight (OPTIONS), `None` where it is refused (403).
///
/// `request_headers` is the value of `Access-Control-Request-Headers` as sent.
#[must_use]
pub fn preflight<'a>(
    rules: &'a [CorsRule],
    origin: &'a str,
    method: &str,
    request_headers: Option<&str>,
) -> Option<CorsAnswer<'a>> {
    let headers: Vec<&str> =
        request_headers.unwrap_or("").split(',').map(str::trim).filter(|header| !header.is_empty()).collect();
    rules.iter().find(|rule| rule.matches(origin, method, &headers)).map(|rule| rule.answer(origin, &headers))
}

/// What the answer to a request of this method from this origin says besides itself; `None` says nothing, and
/// the browser keeps the answer from the script.
#[must_use]
pub fn actual<'a>(rules: &'a [CorsRule], origin: &'a str, method: &str) -> Option<CorsAnswer<'a>> {
    rules.iter().find(|rule| rule.matches(origin, method, &[])).map(|rule| rule.answer(origin, &[]))
}

/// Checks a configuration before it is stored.
pub fn validate(rules: &[CorsRule]) -> Result<(), CorsError> {
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(CorsError::Rules { rules: rules.len() });
    }
    let mut bytes = 0;
    for (index, rule) in rules.iter().enumerate() {
        bytes += check_rule(rule, index + 1)?;
    }
    if bytes > RULES_BYTES_MAX { Err(CorsError::TooLong { bytes }) } else { Ok(()) }
}

/// Checks one rule; answers the bytes of its text.
fn check_rule(rule: &CorsRule, number: usize) -> Result<usize, CorsError> {
    for (list, what) in [(&rule.allowed_methods, "AllowedMethod"), (&rule.allowed_origins, "AllowedOrigin")] {
        if list.is_empty() {
            return Err(CorsError::Missing { rule: number, what });
        }
    }
    type Valid = fn(&str) -> bool;
    let lists: [(&[String], Valid, &str); 4] = [
        (&rule.allowed_methods, |own| METHODS.contains(&own), "GET, PUT, HEAD, POST or DELETE"),
        (&rule.allowed_origins, is_pattern, "an origin with at most one '*'"),
        (&rule.allowed_headers, is_pattern, "a header name with at most one '*'"),
        (&rule.expose_headers, is_header_name, "a header name"),
    ];
    let mut bytes = 0;
    for (list, valid, what) in lists {
        for value in list {
            bytes += value.len();
            if !valid(value) {
                return Err(CorsError::Value { rule: number, value: cut(value), what });
            }
        }
    }
    if let Some(id) = &rule.id {
        bytes += id.len();
        if id.chars().count() > ID_CHARS_MAX {
            return Err(CorsError::Value {
                rule: number,
                value: cut(id),
                what: "an ID of at most 255 characters",
            });
        }
    }
    if let Some(seconds) = rule.max_age_seconds.filter(|seconds| *seconds < 0) {
        let what = "a MaxAgeSeconds of 0 or more";
        return Err(CorsError::Value { rule: number, value: seconds.to_string(), what });
    }
    Ok(bytes)
}

fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}

/// What may stand in a header value without ending it.
fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_pattern(value: &str) -> bool {
    is_plain(value) && value.matches('*').count() <= 1
}

fn is_header_name(value: &str) -> bool {
    is_plain(value) && !value.contains(['*', ',', ':', '"'])
}

/// Whether `text` matches a pattern with at most one `*`; of more, all but the first are plain characters.
fn star_matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| rest.ends_with(after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    fn rule(methods: &[&str], origins: &[&str], headers: &[&str]) -> CorsRule {
        CorsRule {
            allowed_methods: list(methods),
            allowed_origins: list(origins),
            allowed_headers: list(headers),
            expose_headers: list(&["x-amz-meta-header1"]),
            ..CorsRule::default()
        }
    }

    #[test]
    fn origins_match_as_in_s3() {
        let rules = [
            rule(&["GET"], &["*suffix"], &[]),
            rule(&["GET"], &["start*end"], &[]),
            rule(&["GET"], &["prefix*"], &[]),
            rule(&["PUT"], &["*.put"], &[]),
        ];
        for origin in ["foo.suffix", "startend", "start1end", "start12end", "prefix", "prefix.suffix"] {
            let answer = actual(&rules, origin, "GET").expect("a rule");
            assert_eq!((answer.allow_origin, answer.allow_credentials), (origin, true));
            assert_eq!(answer.allow_methods, ["GET"]);
            assert!(preflight(&rules, origin, "GET", None).is_some());
        }
        for origin in
            ["foo.bar", "foo.suffix.get", "0start12end", "bla.prefix", "foo.put", "star", "startEnd"]
        {
            assert_eq!(actual(&rules, origin, "GET"), None, "{origin}");
        }
        assert!(actual(&rules, "foo.put", "PUT").is_some());
        assert!(!star_matches("ab*ba", "aba"));
    }

    #[test]
    fn an_origin_of_any_is_answered_without_credentials() {
        let rules = [rule(&["GET"], &["*"], &[])];
        let answer = actual(&rules, "http://example.org", "GET").expect("a rule");
        assert_eq!((answer.allow_origin, answer.allow_credentials), ("*", false));
        let rules = [rule(&["GET"], &["http://*"], &[])];
        let answer = actual(&rules, "http://example.org", "GET").expect("a rule");
        assert_eq!((answer.allow_origin, answer.allow_credentials), ("http://example.org", true));
    }

    #[test]
    fn a_preflight_needs_every_header_allowed() {
        let rules = [rule(&["GET"], &["*"], &["X-Amz-*", "content-type"])];
        let ask = |headers| preflight(&rules, "http://a", "GET", Some(headers));
        assert_eq!(
            ask("x-amz-date, Content-Type").expect("allowed").allow_headers,
            ["x-amz-date", "content-type"]
        );
        assert!(ask("x-amz-date,authorization").is_none());
        assert!(ask("").is_some());
        assert!(ask(" , ").is_some());
        let none = [rule(&["GET"], &["*"], &[])];
        assert!(preflight(&none, "http://a", "GET", Some("x-amz-meta-header2")).is_none());
        assert!(preflight(&none, "http://a", "PUT", None).is_none());
    }

    #[test]
    fn what_breaks_a_limit_is_refused() {
        assert_eq!(validate(&[]), Err(CorsError::Rules { rules: 0 }));
        assert!(validate(&vec![rule(&["GET"], &["*"], &[]); RULES_MAX]).is_ok());
        assert!(validate(&vec![rule(&["GET"], &["*"], &[]); RULES_MAX + 1]).is_err());
        let wrong = [
            rule(&[], &["*"], &[]),
            rule(&["GET"], &[], &[]),
            rule(&["OPTIONS"], &["*"], &[]),
            rule(&["get"], &["*"], &[]),
            rule(&["GET"], &["http://*.*.org"], &[]),
            rule(&["GET"], &[""], &[]),
            rule(&["GET"], &["a\r\nb"], &[]),
            rule(&["GET"], &["*"], &["*-*"]),
            CorsRule { expose_headers: list(&["x*"]), ..rule(&["GET"], &["*"], &[]) },
            CorsRule { expose_headers: list(&["x\r\nset-cookie"]), ..rule(&["GET"], &["*"], &[]) },
            CorsRule { id: Some("i".repeat(256)), ..rule(&["GET"], &["*"], &[]) },
            CorsRule { max_age_seconds: Some(-1), ..rule(&["GET"], &["*"], &[]) },
        ];
        for rule in wrong {
            let error = validate(std::slice::from_ref(&rule)).expect_err("must be refused");
            assert!(error.to_string().len() < 300, "{error}");
        }
        let long = "a".repeat(RULES_BYTES_MAX);
        assert!(matches!(validate(&[rule(&["GET"], &[&long], &[])]), Err(CorsError::TooLong { .. })));
    }
}
