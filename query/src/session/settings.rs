//! Settings of a session.
//!
//! Invariant: a setting that is accepted is in force; a value that would change nothing although its name
//! promises a change is refused.

use std::time::Duration;

use crate::engine::DEFAULT_SCHEMA;
use crate::error::{SqlError, SqlState};

/// Longest value of a setting that is only kept.
const KEPT_BYTES_MAX: usize = 256;
/// Most schemas of a search path.
const SEARCH_PATH_MAX: usize = 16;

/// Names with the one value that holds. SET to it succeeds, to another fails.
const FIXED: [(&str, &str); 13] = [
    ("server_version_num", "160004"),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("integer_datetimes", "on"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("transaction_isolation", "repeatable read"),
    ("default_transaction_isolation", "repeatable read"),
    ("transaction_read_only", "off"),
    ("default_transaction_read_only", "off"),
    ("is_superuser", "off"),
    ("max_identifier_length", "1024"),
];

/// The settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    search_path: Vec<String>,
    statement_timeout: Option<Duration>,
    default_timeout: Option<Duration>,
    time_zone: String,
    application_name: String,
    extra_float_digits: i8,
    client_min_messages: String,
}

/// There is no such setting.
pub(crate) fn unknown(name: &str) -> SqlError {
    SqlError::new(SqlState::UndefinedObject, format!("there is no setting {name:?}"))
}

impl Settings {
    /// As a connection begins.
    pub(crate) fn new(statement_timeout: Option<Duration>) -> Self {
        Self {
            search_path: vec![DEFAULT_SCHEMA.to_owned()],
            statement_timeout,
            default_timeout: statement_timeout,
            time_zone: "UTC".to_owned(),
            application_name: String::new(),
            extra_float_digits: 1,
            client_min_messages: "notice".to_owned(),
        }
    }

    /// Where names without a schema are looked for, in order.
    pub(crate) fn search_path(&self) -> &[String] {
        &self.search_path
    }

    /// Looks elsewhere.
    pub(crate) fn set_search_path(&mut self, schemas: Vec<String>) {
        self.search_path = schemas;
    }

    /// How long a statement may take.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.statement_timeout
    }

    /// In which zone timestamps are shown and read.
    pub(crate) fn time_zone(&self) -> &str {
        &self.time_zone
    }

    /// What SHOW answers.
    pub(crate) fn show(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        Some(match name.as_str() {
            "search_path" => self.search_path.join(", "),
            "statement_timeout" => match self.statement_timeout {
                None => "0".to_owned(),
                Some(timeout) => format!("{}ms", timeout.as_millis()),
            },
            "timezone" => self.time_zone.clone(),
            "application_name" => self.application_name.clone(),
            "extra_float_digits" => self.extra_float_digits.to_string(),
            "client_min_messages" => self.client_min_messages.clone(),
            // The PostgreSQL whose clients are served: they choose by it what they ask.
            "server_version" => format!("16.4 (Ashlar {})", env!("CARGO_PKG_VERSION")),
            name => FIXED.iter().find(|(fixed, _)| *fixed == name)?.1.to_owned(),
        })
    }

    /// Sets, or back to the default.
    pub(crate) fn assign(&mut self, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        match value {
            Some(value) => self.set(name, value),
            None => {
                let default = Self::new(self.default_timeout).show(name).ok_or_else(|| unknown(name))?;
                self.set(name, &default)
            }
        }
    }

    /// Sets.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "search_path" => self.search_path = path(value)?,
            "statement_timeout" => self.statement_timeout = timeout(value)?,
            "timezone" => self.time_zone = zone(value)?,
            "application_name" => self.application_name = kept(value),
            "extra_float_digits" => {
                let digits = value.parse().ok().filter(|digits| (-15..=3).contains(digits));
                self.extra_float_digits =
                    digits.ok_or_else(|| SqlError::invalid("extra_float_digits is -15 to 3"))?;
            }
            "client_min_messages" => self.client_min_messages = kept(value),
            name => {
                let (_, fixed) =
                    FIXED.iter().find(|(fixed, _)| *fixed == name).ok_or_else(|| unknown(name))?;
                if !same(fixed, value) {
                    return Err(SqlError::new(
                        SqlState::InvalidParameterValue,
                        format!("{name} is {fixed} and cannot be {value}"),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// `utf-8` is UTF8, `iso` is a part of `ISO, MDY`.
fn same(fixed: &str, value: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let (fixed, value) = (plain(fixed), plain(value));
    fixed == value
        || fixed == "isomdy" && value == "iso"
        || fixed == "utf8" && value == "unicode"
        || fixed == "on" && value == "true"
}

fn kept(value: &str) -> String {
    value.chars().take(KEPT_BYTES_MAX).collect()
}

fn path(value: &str) -> Result<Vec<String>, SqlError> {
    let schemas: Vec<String> = value
        .split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty() && name != "$user")
        .collect();
    if schemas.len() > SEARCH_PATH_MAX {
        return Err(SqlError::invalid(format!("a search path has at most {SEARCH_PATH_MAX} schemas")));
    }
    Ok(schemas)
}

/// `0` is none; milliseconds without a unit, as PostgreSQL has it.
fn timeout(value: &str) -> Result<Option<Duration>, SqlError> {
    let bad = || {
        SqlError::invalid(format!("{value:?} is no duration"))
            .hint("for example '500ms', '30s', '10min', '1h'; 0 is none")
    };
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let milliseconds = match unit.trim() {
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    let milliseconds = milliseconds.filter(|ms| *ms <= 365 * 86_400_000).ok_or_else(bad)?;
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds)))
}

fn zone(value: &str) -> Result<String, SqlError> {
    let parsed = value.parse::<datafusion::arrow::array::timezone::Tz>();
    match parsed {
        Ok(_) => Ok(value.to_owned()),
        Err(_) if value.eq_ignore_ascii_case("utc") || value == "Etc/UTC" => Ok("UTC".to_owned()),
        Err(_) => {
            Err(SqlError::invalid(format!("{value:?} is no time zone")).hint("for example 'UTC' or '+02:00'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_shown_and_back_again() {
        let mut settings = Settings::new(Some(Duration::from_secs(5)));
        settings.set("statement_timeout", "2min").unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(120)));
        assert_eq!(settings.show("Statement_Timeout").as_deref(), Some("120000ms"));
        settings.assign("statement_timeout", None).unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(5)));
        settings.set("statement_timeout", "0").unwrap();
        assert_eq!(settings.statement_timeout(), None);
        settings.set("search_path", "\"$user\", sales, public").unwrap();
        assert_eq!(settings.search_path(), ["sales", "public"]);
    }

    #[test]
    fn a_promise_that_would_not_be_kept_is_refused() {
        let mut settings = Settings::new(None);
        settings.set("client_encoding", "utf-8").unwrap();
        settings.set("DateStyle", "ISO").unwrap();
        for (name, value) in [
            ("client_encoding", "latin1"),
            ("standard_conforming_strings", "off"),
            ("default_transaction_read_only", "on"),
            ("statement_timeout", "soon"),
            ("timezone", "Mars/Olympus"),
            ("no_such", "1"),
        ] {
            assert!(settings.set(name, value).is_err(), "{name} = {value}");
        }
    }
}
