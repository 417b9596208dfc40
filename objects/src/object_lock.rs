//! Object lock: which versions may not be removed yet, and who may change that.
//!
//! Invariants: a version under legal hold or in its retention period goes for nobody's asking, except that
//! governance is ended by who has a right of its own; compliance is only ever extended. What counts is the
//! store's clock. Deliberately knows no rows but the lock itself: each removal asks here in its commit.

mod settings;

use serde::{Deserialize, Serialize};
use time::{Month, OffsetDateTime};

pub use ashlar_metadata::namespace::locks::{Lock, Retention, RetentionMode};

use crate::error::Error;
use crate::types::UnixMillis;

/// Longest default retention, in days; the same in years is [`YEARS_MAX`].
const DAYS_MAX: u32 = 36_500;
/// Longest default retention, in years.
const YEARS_MAX: u32 = 100;
/// One day in milliseconds.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What a bucket with object lock says of its new versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLockRules {
    /// The retention of versions for which the client named none.
    pub default: Option<DefaultRetention>,
}

/// A retention counted from when a version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRetention {
    /// Who may end it early.
    pub mode: RetentionMode,
    /// How long it lasts.
    pub period: Period,
}

/// A length of time as S3 counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Period {
    Days(u32),
    Years(u32),
}

impl Period {
    /// The end of a period that begins now.
    fn after(self, now: UnixMillis) -> UnixMillis {
        match self {
            Self::Days(days) => UnixMillis(now.0.saturating_add(i64::from(days) * DAY_MILLIS)),
            Self::Years(years) => years_after(now, years)
                .unwrap_or(UnixMillis(now.0.saturating_add(i64::from(years) * 366 * DAY_MILLIS))),
        }
    }
}

/// The same day and hour in a later year; the last of February becomes the first of March.
fn years_after(now: UnixMillis, years: u32) -> Option<UnixMillis> {
    let then = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.0) * 1_000_000).ok()?;
    let year = then.year().checked_add(i32::try_from(years).ok()?)?;
    let moved = then.replace_year(year);
    let moved =
        moved.or_else(|_| then.replace_day(1)?.replace_month(Month::March)?.replace_year(year)).ok()?;
    i64::try_from(moved.unix_timestamp_nanos() / 1_000_000).ok().map(UnixMillis)
}

impl ObjectLockRules {
    /// Refuses a period that is none.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |reason: &'static str| Err(Error::InvalidRetentionPeriod { reason });
        match self.default.map(|default| default.period) {
            Some(Period::Days(0) | Period::Years(0)) => {
                invalid("Default retention period must be a positive integer value.")
            }
            Some(Period::Days(days)) if days > DAYS_MAX => {
                invalid("Default retention period too large: at most 36500 days are possible.")
            }
            Some(Period::Years(years)) if years > YEARS_MAX => {
                invalid("Default retention period too large: at most 100 years are possible.")
            }
            _ => Ok(()),
        }
    }
}

/// The lock of a version written now: what was asked, and the bucket's default where no retention was.
pub(crate) fn of_new_version(asked: Lock, rules: Option<&ObjectLockRules>, now: UnixMillis) -> Lock {
    let default = rules.and_then(|rules| rules.default);
    let default = default.map(|default| Retention { mode: default.mode, until: default.period.after(now) });
    Lock { retention: asked.retention.or(default), ..asked }
}

/// Refuses a lock that cannot be had: in a bucket without object lock, or until a moment that has passed.
pub(crate) fn check_asked(
    asked: &Lock,
    rules: Option<&ObjectLockRules>,
    now: UnixMillis,
) -> Result<(), Error> {
    if asked.is_unset() {
        return Ok(());
    }
    if rules.is_none() {
        return Err(without_lock());
    }
    match asked.retention {
        Some(retention) if retention.until <= now => Err(in_the_past()),
        _ => Ok(()),
    }
}

fn in_the_past() -> Error {
    Error::InvalidArgument {
        name: "x-amz-object-lock-retain-until-date",
        reason: "The retain until date must be in the future!".into(),
    }
}

fn without_lock() -> Error {
    Error::InvalidRequest { reason: "Bucket is missing Object Lock Configuration".into() }
}

fn in_force(retention: Option<Retention>, now: UnixMillis) -> Option<Retention> {
    retention.filter(|retention| retention.until > now)
}

/// What stands against a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// Nothing.
    None,
    /// Governance: the right to bypass it ends it.
    Governance,
    /// Compliance or a legal hold.
    Absolute,
}

/// What stands against removing a version now.
pub(crate) fn hindrance(lock: &Lock, now: UnixMillis) -> Hindrance {
    if lock.legal_hold == Some(true) {
        return Hindrance::Absolute;
    }
    match in_force(lock.retention, now).map(|retention| retention.mode) {
        None => Hindrance::None,
        Some(RetentionMode::Governance) => Hindrance::Governance,
        Some(RetentionMode::Compliance) => Hindrance::Absolute,
    }
}

/// Refuses to remove a locked version. `bypass` says that the right to end governance was looked at.
pub(crate) fn check_removal(lock: &Lock, now: UnixMillis, bypass: bool) -> Result<(), Error> {
    match hindrance(lock, now) {
        Hindrance::None => Ok(()),
        Hindrance::Governance if bypass => Ok(()),
        Hindrance::Governance | Hindrance::Absolute => Err(Error::ObjectLocked),
    }
}

/// What stands against giving a version another retention: the same or a longer one of the same mode is
/// free, compliance allows nothing else, and governance lets who may bypass it do anything.
fn hindrance_to_change(old: Option<Retention>, new: Option<Retention>, now: UnixMillis) -> Hindrance {
    let Some(old) = in_force(old, now) else { return Hindrance::None };
    let extends = new.is_some_and(|new| new.mode == old.mode && new.until >= old.until);
    match old.mode {
        _ if extends => Hindrance::None,
        RetentionMode::Governance => Hindrance::Governance,
        RetentionMode::Compliance => Hindrance::Absolute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn retention(mode: RetentionMode, after: i64) -> Option<Retention> {
        Some(Retention { mode, until: UnixMillis(NOW.0 + after) })
    }

    fn day(year: i32, month: Month, day: u8) -> UnixMillis {
        let date = time::Date::from_calendar_date(year, month, day).unwrap().midnight().assume_utc();
        UnixMillis(date.unix_timestamp() * 1000)
    }

    #[test]
    fn periods_are_counted_by_the_calendar() {
        let leap = day(2024, Month::February, 29);
        assert_eq!(Period::Days(1).after(leap), day(2024, Month::March, 1));
        assert_eq!(Period::Years(1).after(leap), day(2025, Month::March, 1));
        assert_eq!(Period::Years(4).after(leap), day(2028, Month::February, 29));
        assert_eq!(Period::Years(100).after(day(2026, Month::May, 3)), day(2126, Month::May, 3));
    }

    #[test]
    fn default_periods_are_positive_and_bounded() {
        let rules = |period| ObjectLockRules {
            default: Some(DefaultRetention { mode: RetentionMode::Governance, period }),
        };
        for good in [Period::Days(1), Period::Days(36_500), Period::Years(1), Period::Years(100)] {
            rules(good).check().unwrap();
        }
        for bad in [Period::Days(0), Period::Years(0), Period::Days(36_501), Period::Years(101)] {
            assert!(matches!(rules(bad).check(), Err(Error::InvalidRetentionPeriod { .. })), "{bad:?}");
        }
        ObjectLockRules::default().check().unwrap();
    }

    #[test]
    fn what_was_asked_beats_the_default() {
        let default = DefaultRetention { mode: RetentionMode::Governance, period: Period::Days(1) };
        let rules = ObjectLockRules { default: Some(default) };
        let asked = Lock { retention: retention(RetentionMode::Compliance, 5), legal_hold: None };
        assert_eq!(of_new_version(asked, Some(&rules), NOW), asked);
        let held = Lock { retention: None, legal_hold: Some(true) };
        let lock = of_new_version(held, Some(&rules), NOW);
        let expected =
            Lock { retention: retention(RetentionMode::Governance, DAY_MILLIS), legal_hold: Some(true) };
        assert_eq!(lock, expected);
        assert_eq!(of_new_version(Lock::default(), None, NOW), Lock::default());
    }

    #[test]
    fn locks_are_asked_for_the_future_of_locked_buckets() {
        let rules = Some(&ObjectLockRules { default: None });
        let asked = Lock { retention: retention(RetentionMode::Compliance, 1), legal_hold: None };
        check_asked(&asked, rules, NOW).unwrap();
        assert!(matches!(check_asked(&asked, None, NOW), Err(Error::InvalidRequest { .. })));
        let past = Lock { retention: retention(RetentionMode::Compliance, 0), legal_hold: None };
        assert!(matches!(check_asked(&past, rules, NOW), Err(Error::InvalidArgument { .. })));
        check_asked(&Lock::default(), None, NOW).unwrap();
    }

    fn modes() -> impl Strategy<Value = RetentionMode> {
        prop_oneof![Just(RetentionMode::Governance), Just(RetentionMode::Compliance)]
    }

    proptest! {
        #[test]
        fn nothing_locked_is_removed_and_nothing_else_is_kept(
            mode in modes(), after in -3i64..3, held: Option<bool>, bypass: bool,
        ) {
            let lock = Lock { retention: retention(mode, after), legal_hold: held };
            let retained = after > 0 && !(mode == RetentionMode::Governance && bypass);
            let may = held != Some(true) && !retained;
            prop_assert_eq!(check_removal(&lock, NOW, bypass).is_ok(), may);
        }

        #[test]
        fn no_change_shortens_compliance(
            new in proptest::option::of((modes(), 1i64..9)), after in 1i64..9, mode in modes(),
        ) {
            let old = retention(mode, after);
            let new = new.and_then(|(mode, after)| retention(mode, after));
            let kept = new.is_some_and(|new| new.mode == mode && Some(new.until) >= old.map(|old| old.until));
            let expected = match mode {
                _ if kept => Hindrance::None,
                RetentionMode::Governance => Hindrance::Governance,
                RetentionMode::Compliance => Hindrance::Absolute,
            };
            prop_assert_eq!(hindrance_to_change(old, new, NOW), expected);
            prop_assert_eq!(hindrance_to_change(retention(mode, 0), new, NOW), Hindrance::None);
        }
    }
}
