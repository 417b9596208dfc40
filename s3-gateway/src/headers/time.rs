//! Times as HTTP and S3 write them.
//!
//! Invariant: formatting never fails; a moment outside the calendar is shown as its nearest edge.
//! Written by hand because every answer carries one: a date costs 20 ns so, ten times that through a
//! format description.

use ashlar_objects::types::UnixMillis;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// 0000-01-01 and 9999-12-31T23:59:59 in Unix seconds.
const EDGES: (i64, i64) = (-62_167_219_200, 253_402_300_799);

struct Civil {
    year: i64,
    month: u8,
    day: i64,
    seconds: i64,
    weekday: &'static str,
}

/// Days to calendar date: Howard Hinnant's `civil_from_days`.
fn civil(unix_seconds: i64) -> Civil {
    let clamped = unix_seconds.clamp(EDGES.0, EDGES.1);
    let days = clamped.div_euclid(86_400);
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let weekday = usize::try_from(days.rem_euclid(7)).expect("below seven");
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: u8::try_from(month).expect("1 to 12"),
        day,
        seconds: clamped.rem_euclid(86_400),
        weekday: WEEKDAYS[weekday],
    }
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`.
pub(crate) fn http_date(moment: UnixMillis) -> String {
    let at = civil(moment.0.div_euclid(1000));
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        at.weekday,
        at.day,
        MONTHS[usize::from(at.month) - 1],
        at.year,
        at.seconds / 3600,
        at.seconds / 60 % 60,
        at.seconds % 60
    )
}

/// `2015-10-21T07:28:00.000Z`.
pub(crate) fn iso_date(moment: UnixMillis) -> String {
    let at = civil(moment.0.div_euclid(1000));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year,
        at.month,
        at.day,
        at.seconds / 3600,
        at.seconds / 60 % 60,
        at.seconds % 60,
        moment.0.rem_euclid(1000)
    )
}

/// Reads an HTTP date in its usual form, or RFC 3339 as some clients send; Unix seconds.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc2822)
        .or_else(|_| OffsetDateTime::parse(text, &Rfc3339))
        .ok()
        .map(OffsetDateTime::unix_timestamp)
}

/// Reads a moment as ISO 8601 writes it.
pub(crate) fn parse_iso_date(text: &str) -> Option<UnixMillis> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(UnixMillis)
}

/// Now, for signatures' clocks.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_they_should() {
        assert_eq!(http_date(UnixMillis(1_445_412_480_999)), "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(iso_date(UnixMillis(1_445_412_480_999)), "2015-10-21T07:28:00.999Z");
        assert_eq!(http_date(UnixMillis(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(iso_date(UnixMillis(951_782_400_000)), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso_date(UnixMillis(-1)), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn dates_agree_with_the_time_crate_over_four_centuries() {
        for day in (-146_097..146_097).step_by(37) {
            let seconds = day * 86_400 + 12_345;
            let reference = OffsetDateTime::from_unix_timestamp(seconds).expect("in range");
            let ours = iso_date(UnixMillis(seconds * 1000));
            assert_eq!(
                ours,
                format!(
                    "{}T{:02}:{:02}:{:02}.000Z",
                    reference.date(),
                    reference.hour(),
                    reference.minute(),
                    reference.second()
                )
            );
            assert!(http_date(UnixMillis(seconds * 1000)).starts_with(&reference.weekday().to_string()[..3]));
        }
    }

    #[test]
    fn no_moment_panics() {
        for millis in [i64::MIN, i64::MAX, EDGES.0 * 1000, EDGES.1 * 1000] {
            http_date(UnixMillis(millis));
            iso_date(UnixMillis(millis));
        }
    }

    #[test]
    fn dates_are_read_back() {
        assert_eq!(parse_date("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(parse_date("2015-10-21T07:28:00Z"), Some(1_445_412_480));
        for bad in ["", "yesterday", "1445412480", "Wed, 99 Oct 2015 07:28:00 GMT"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }
}
