//! Object lock in headers: what a write asks for, what a read shows.
//!
//! Invariant: mode and date come together or not at all; a word that S3 does not know is an error.

use ashlar_objects::object_lock::{Lock, Retention, RetentionMode};
use http::{HeaderMap, HeaderValue};

use crate::failure::Failure;
use crate::headers::text;
use crate::headers::time::{iso_date, parse_iso_date};
use crate::ops::objects_read::ascii;

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const LEGAL_HOLD: &str = "x-amz-object-lock-legal-hold";

/// Reads a mode's name.
pub(crate) fn mode(word: &str) -> Option<RetentionMode> {
    match word {
        "GOVERNANCE" => Some(RetentionMode::Governance),
        "COMPLIANCE" => Some(RetentionMode::Compliance),
        _ => None,
    }
}

/// A mode's name.
pub(crate) fn mode_name(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => "GOVERNANCE",
        RetentionMode::Compliance => "COMPLIANCE",
    }
}

/// A legal hold's name.
pub(crate) fn hold_name(held: bool) -> &'static str {
    if held { "ON" } else { "OFF" }
}

/// Reads a legal hold's name.
pub(crate) fn hold(word: &str) -> Option<bool> {
    match word {
        "ON" => Some(true),
        "OFF" => Some(false),
        _ => None,
    }
}

/// The lock that a write asks for.
pub(crate) fn of_write(headers: &HeaderMap) -> Result<Lock, Failure> {
    let legal_hold = text(headers, LEGAL_HOLD)?
        .map(|word| {
            hold(word)
                .ok_or_else(|| Failure::argument(LEGAL_HOLD, "Legal Hold must be either of 'ON' or 'OFF'"))
        })
        .transpose()?;
    let retention = match (text(headers, MODE)?, text(headers, UNTIL)?) {
        (None, None) => None,
        (Some(word), Some(date)) => {
            let mode = mode(word).ok_or_else(|| Failure::argument(MODE, "Unknown wormMode directive."))?;
            let until = parse_iso_date(date).ok_or_else(|| {
                Failure::argument(UNTIL, "The retain until date must be provided in ISO 8601 format")
            })?;
            Some(Retention { mode, until })
        }
        (mode, _) => {
            return Err(Failure::argument(
                if mode.is_none() { MODE } else { UNTIL },
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            ));
        }
    };
    Ok(Lock { retention, legal_hold })
}

/// `x-amz-bypass-governance-retention`.
pub(crate) fn bypasses_governance(headers: &HeaderMap) -> bool {
    is_true(headers, "x-amz-bypass-governance-retention")
}

/// `x-amz-bucket-object-lock-enabled`.
pub(crate) fn of_new_bucket(headers: &HeaderMap) -> bool {
    is_true(headers, "x-amz-bucket-object-lock-enabled")
}

fn is_true(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Writes a version's lock into an answer.
pub(crate) fn write(headers: &mut HeaderMap, lock: &Lock) {
    if let Some(retention) = lock.retention {
        headers.insert(MODE, HeaderValue::from_static(mode_name(retention.mode)));
        headers.insert(UNTIL, ascii(iso_date(retention.until)));
    }
    if let Some(held) = lock.legal_hold {
        headers.insert(LEGAL_HOLD, HeaderValue::from_static(hold_name(held)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_objects::types::UnixMillis;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Lock, Failure> {
        let pairs = pairs.iter().map(|(name, value)| {
            (name.parse::<http::HeaderName>().expect("name"), value.parse::<HeaderValue>().expect("value"))
        });
        of_write(&pairs.collect())
    }

    #[test]
    fn locks_are_read_and_written_alike() {
        let date = "2030-01-01T00:00:00.250Z";
        let lock = read(&[(MODE, "COMPLIANCE"), (UNTIL, date), (LEGAL_HOLD, "OFF")]).expect("lock");
        let until = UnixMillis(1_893_456_000_250);
        let retention = Retention { mode: RetentionMode::Compliance, until };
        assert_eq!(lock, Lock { retention: Some(retention), legal_hold: Some(false) });
        let mut answer = HeaderMap::new();
        write(&mut answer, &lock);
        for (name, value) in [(MODE, "COMPLIANCE"), (UNTIL, date), (LEGAL_HOLD, "OFF")] {
            assert_eq!(answer[name], value);
        }
        assert!(read(&[]).expect("none").is_unset());
    }

    #[test]
    fn half_a_retention_and_unknown_words_are_refused() {
        let date = "2030-01-01T00:00:00Z";
        for pairs in [
            &[(MODE, "GOVERNANCE")][..],
            &[(UNTIL, date)],
            &[(MODE, "governance"), (UNTIL, date)],
            &[(MODE, "GOVERNANCE"), (UNTIL, "tomorrow")],
            &[(LEGAL_HOLD, "on")],
        ] {
            assert_eq!(read(pairs).expect_err("refused").code(), "InvalidArgument", "{pairs:?}");
        }
    }
}
