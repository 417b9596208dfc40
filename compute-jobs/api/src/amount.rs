//! Amounts of the chain's own coin, in wei, as the market's contract holds them: 96 bits.
//!
//! Invariant: no amount has more bits, and no sum or product wraps. Text is decimal, because numbers of JSON are not
//! exact at this size. Does not know what is paid for.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Wei, at most 2⁹⁶ − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// The number has more than 96 bits, or is no decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a decimal number of at most 96 bits")]
pub struct AmountError;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that the contract can hold in one field.
    pub const MAX: Self = Self((1 << 96) - 1);

    /// In wei.
    pub const fn wei(self) -> u128 {
        self.0
    }

    /// `None` where the sum has more than 96 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::try_from(self.0 + other.0).ok()
    }

    /// The difference, or nothing where there is none.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<u64> for Amount {
    fn from(wei: u64) -> Self {
        Self(wei.into())
    }
}

impl TryFrom<u128> for Amount {
    type Error = AmountError;

    fn try_from(wei: u128) -> Result<Self, AmountError> {
        if wei > Self::MAX.0 { Err(AmountError) } else { Ok(Self(wei)) }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        // `u128` also reads a sign and leading zeros; one spelling a value.
        let is_plain = text.bytes().all(|digit| digit.is_ascii_digit());
        if !is_plain || (text.starts_with('0') && text.len() > 1) {
            return Err(AmountError);
        }
        text.parse::<u128>().map_err(|_| AmountError)?.try_into()
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_u128(self.0) }
    }
}

impl<'a> Deserialize<'a> for Amount {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(D::Error::custom)
        } else {
            u128::deserialize(from)?.try_into().map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_96_bits_and_one_spelling() {
        let most = "79228162514264337593543950335";
        assert_eq!(most.parse(), Ok(Amount::MAX));
        assert_eq!(Amount::MAX.to_string(), most);
        for wrong in ["", "+1", "01", "-1", "1 ", "79228162514264337593543950336"] {
            assert_eq!(wrong.parse::<Amount>(), Err(AmountError), "{wrong}");
        }
        assert_eq!(Amount::MAX.checked_add(Amount::from(1)), None);
        let json = serde_json::to_string(&Amount::MAX).unwrap();
        assert_eq!(json, format!("\"{most}\""));
        assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), Amount::MAX);
        assert!(serde_json::from_str::<Amount>("1").is_err());
        assert!(postcard::from_bytes::<Amount>(&postcard::to_stdvec(&u128::MAX).unwrap()).is_err());
    }
}
