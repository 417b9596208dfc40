//! Values of conditions other than text: networks, moments, numbers and truths.
//!
//! Pure reading; what does not read is `None`, and the caller says what that means.

use std::net::IpAddr;

use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime, PrimitiveDateTime};

use crate::types::UnixMillis;

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok()?
            }
            Some(_) => return None,
        };
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether the address lies inside; an IPv4 address in IPv6 form counts as IPv4.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }

    /// Whether it is so wide that AWS calls it public: wider than /8 of IPv4 or /32 of IPv6.
    pub(super) fn is_public(&self) -> bool {
        self.bits < if self.address.is_ipv4() { 8 } else { 32 }
    }
}

/// Reads a moment: ISO 8601 with or without time and zone (none is UTC), or seconds since 1970.
pub(super) fn parse_moment(text: &str) -> Option<i128> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(i128::from(seconds) * 1_000_000_000);
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(moment.unix_timestamp_nanos());
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Iso8601::DEFAULT) {
        return Some(moment.unix_timestamp_nanos());
    }
    if let Ok(moment) = PrimitiveDateTime::parse(text, &Iso8601::DEFAULT) {
        return Some(moment.assume_utc().unix_timestamp_nanos());
    }
    let date = Date::parse(text, &Iso8601::DEFAULT).ok()?;
    Some(date.midnight().assume_utc().unix_timestamp_nanos())
}

/// Writes a moment as `aws:CurrentTime` has it; `None` outside the years 0 to 9999.
pub(super) fn rfc3339(moment: UnixMillis) -> Option<String> {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment.0) * 1_000_000).ok()?;
    moment.format(&Rfc3339).ok()
}

/// Reads a number that is finite.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// Reads `true` or `false` in any letter case.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    [("true", true), ("false", false)]
        .into_iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, b)| b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let ten = Network::parse("10.1.2.3/8").expect("a network");
        assert!(ten.contains("10.255.0.1".parse().expect("address")));
        assert!(ten.contains("::ffff:10.0.0.1".parse().expect("address")));
        assert!(!ten.contains("11.0.0.1".parse().expect("address")));
        assert!(!ten.contains("::1".parse().expect("address")));
        let all = Network::parse("0.0.0.0/0").expect("a network");
        assert!(all.contains("255.255.255.255".parse().expect("address")) && all.is_public());
        let six = Network::parse("2001:db8::/32").expect("a network");
        assert!(six.contains("2001:db8:ffff::1".parse().expect("address")) && !six.is_public());
        let one = Network::parse("192.0.2.1").expect("an address");
        assert!(one.contains("192.0.2.1".parse().expect("address")));
        assert!(!one.contains("192.0.2.2".parse().expect("address")));
        for wrong in
            ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::/129", "x", "10.0.0.0/8/8"]
        {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn moments_read_in_every_usual_form() {
        let noon = 1_767_268_800_000_000_000;
        for text in [
            "2026-01-01T12:00:00Z",
            "2026-01-01T13:00:00+01:00",
            "2026-01-01T12:00:00.000Z",
            "1767268800",
            "20260101T120000Z",
            "2026-01-01T12:00:00",
        ] {
            assert_eq!(parse_moment(text), Some(noon), "{text}");
        }
        assert_eq!(parse_moment("2026-01-01"), Some(noon - 12 * 3_600_000_000_000));
        for wrong in ["", "yesterday", "2026-13-01", "2026-01-01T25:00:00Z", "1e9"] {
            assert_eq!(parse_moment(wrong), None, "{wrong}");
        }
        assert_eq!(rfc3339(UnixMillis(1_767_268_800_000)).as_deref(), Some("2026-01-01T12:00:00Z"));
        assert_eq!(rfc3339(UnixMillis(i64::MAX)), None);
    }
}
