//! Sums of amounts that no amount may hold: what a lock's work is worth, paid or not.
//!
//! Invariant: a sum is exact, or stands at the top and compares as more than any amount; nothing wraps.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;

/// What so many units are worth, in wei. Never wraps: 64 bits times 96.
pub(crate) fn worth(units: u64, price: Amount) -> Worth {
    let (high, low) = (price.wei() >> 64, price.wei() & u128::from(u64::MAX));
    let units = u128::from(units);
    // high has 32 bits, so its product has 96; saturation keeps every comparison with an amount right.
    let high = units * high;
    if high >> 64 != 0 { Worth(u128::MAX) } else { Worth((high << 64).saturating_add(units * low)) }
}

/// A sum of wei that may be more than an [`Amount`]; at the top it stays there, so that it never compares as less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Worth(u128);

impl Worth {
    pub(crate) fn plus(self, other: impl Into<Self>) -> Self {
        Self(self.0.saturating_add(other.into().0))
    }

    pub(crate) fn minus(self, other: impl Into<Self>) -> Self {
        Self(self.0.saturating_sub(other.into().0))
    }

    pub(crate) const fn wei(self) -> u128 {
        self.0
    }
}

impl From<Amount> for Worth {
    fn from(amount: Amount) -> Self {
        Self(amount.wei())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worth_is_exact_until_it_stays_at_the_top() {
        assert_eq!(worth(3, Amount::from(5)).wei(), 15);
        let price = Amount::try_from((1u128 << 64) + 7).unwrap();
        assert_eq!(worth(1 << 40, price).wei(), (1 << 104) + (7 << 40));
        assert_eq!(worth(u64::MAX, Amount::MAX).wei(), u128::MAX);
        assert_eq!(worth(u64::MAX, Amount::MAX).plus(Amount::MAX).wei(), u128::MAX);
    }
}
