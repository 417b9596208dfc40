//! Sizes, spans of time and codings as people write them in a configuration.
//!
//! Owns reading and printing of `64MiB`, `30s` and `4+2`. Invariant: what is printed reads back equal.
//! Deliberately knows nothing of which key means what.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes: a plain integer, or `64MiB`, `5GB`, `128KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

/// Units from large to small, binary ones before decimal ones, so that printing picks the shortest exact one.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// The number for memory on this machine.
    pub(crate) fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = BYTE_UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = exact.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_number(text);
        let wanted = || format!("'{text}' is not a size; write it like 64MiB, 5GB or 4096");
        let number: u64 = number.parse().map_err(|_| wanted())?;
        if unit.is_empty() {
            return Ok(Self(number));
        }
        let factor =
            BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wanted)?.1;
        number.checked_mul(factor).map(Self).ok_or_else(wanted)
    }
}

/// A span of time: `250ms`, `30s`, `15m`, `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

const SPAN_UNITS: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let exact = SPAN_UNITS.iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
        let (name, unit) = exact.copied().unwrap_or(("s", 1_000));
        write!(f, "{}{name}", millis / unit)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_number(text);
        let wanted = || format!("'{text}' is not a span of time; write it like 250ms, 30s, 15m or 24h");
        let number: u64 = number.parse().map_err(|_| wanted())?;
        let unit = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?.1;
        let unit = u64::try_from(unit).expect("an hour in milliseconds fits u64");
        number.checked_mul(unit).map(|millis| Self(Duration::from_millis(millis))).ok_or_else(wanted)
    }
}

/// Data and parity shards of a chunk: `4+2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodingChoice {
    /// Data shards.
    pub(crate) k: u8,
    /// Parity shards: nodes that may be lost.
    pub(crate) m: u8,
}

impl fmt::Display for CodingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

impl FromStr for CodingChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || format!("'{text}' is not a coding; write data and parity shards like 4+2");
        let (k, m) = text.split_once('+').ok_or_else(wanted)?;
        let number = |part: &str| part.trim().parse::<u8>().map_err(|_| wanted());
        Ok(Self { k: number(k)?, m: number(m)? })
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

macro_rules! written_as_text {
    ($type:ty, $what:literal, $from_integer:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        let from: fn(u64) -> Option<$type> = $from_integer;
                        let unexpected = || E::invalid_value(de::Unexpected::Signed(number), &self);
                        u64::try_from(number).ok().and_then(from).ok_or_else(unexpected)
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }
    };
}

written_as_text!(ByteSize, "a size like \"64MiB\" or a number of bytes", |number| Some(ByteSize(number)));
written_as_text!(Span, "a span of time like \"30s\"", |_| None);
written_as_text!(ChainFinality, "`finalized` or a number of blocks", |blocks: u64| Some(
    ChainFinality::Depth(blocks)
));
written_as_text!(CodingChoice, "a coding like \"4+2\"", |_| None);

/// When a block stays: `finalized` as the chain itself says, or a number of blocks on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainFinality {
    /// As the chain says.
    Finalized,
    /// So many blocks later.
    Depth(u64),
}

impl fmt::Display for ChainFinality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finalized => f.write_str("finalized"),
            Self::Depth(blocks) => write!(f, "{blocks}"),
        }
    }
}

impl FromStr for ChainFinality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "finalized" => Ok(Self::Finalized),
            _ => text.parse().map(Self::Depth).map_err(|_| {
                format!("'{text}' is no finality; write `finalized`, or a number of blocks like 12")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_printed() {
        for (bytes, text) in [(0, "0B"), (1, "1B"), (64 << 20, "64MiB"), (5_000_000, "5MB"), (1025, "1025B")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(bytes));
        }
        assert_eq!("4096".parse::<ByteSize>().unwrap(), ByteSize(4096));
        assert_eq!("2 gib".parse::<ByteSize>().unwrap(), ByteSize(2 << 30));
        for bad in ["", "MiB", "-1", "1.5GiB", "1XB", "99999999999TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_read_back_as_printed() {
        for (millis, text) in
            [(0, "0s"), (250, "250ms"), (30_000, "30s"), (900_000, "15m"), (86_400_000, "24h")]
        {
            assert_eq!(Span(Duration::from_millis(millis)).to_string(), text);
            assert_eq!(text.parse::<Span>().unwrap(), Span(Duration::from_millis(millis)));
        }
        for bad in ["", "30", "1d", "s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn codings_need_both_halves() {
        assert_eq!("4+2".parse::<CodingChoice>().unwrap(), CodingChoice { k: 4, m: 2 });
        for bad in ["4", "4+", "4+x", "256+1", "4-2"] {
            assert!(bad.parse::<CodingChoice>().is_err(), "{bad}");
        }
    }
}
