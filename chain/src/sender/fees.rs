//! What is offered for gas, first and when nobody takes it.
//!
//! Invariant: never more than the policy's cap, whatever an endpoint says gas costs; each raise is at least what pools
//! ask of a replacement. Deliberately knows nothing of nonces.

use std::time::Duration;

use super::SenderError;
use crate::endpoints::Endpoints;
use crate::store::Attempt;

/// Pools ask a tenth more of both fees.
const RAISE_PERCENT: u128 = 15;

/// How much is offered, and when more.
#[derive(Clone, Copy, Debug)]
pub struct FeePolicy {
    /// Wei a gas that is never exceeded.
    pub cap_wei: u128,
    /// Least tip, in wei a gas.
    pub tip_min_wei: u128,
    /// Most tip that an endpoint can talk us into.
    pub tip_max_wei: u128,
    /// The same bytes are handed in again after so long without a receipt.
    pub resend_after: Duration,
    /// More is offered after so long without a receipt.
    pub raise_after: Duration,
    /// How often more is offered.
    pub attempts_max: usize,
}

impl Default for FeePolicy {
    fn default() -> Self {
        Self {
            cap_wei: 500_000_000_000,
            tip_min_wei: 1_000_000,
            tip_max_wei: 50_000_000_000,
            resend_after: Duration::from_secs(5),
            raise_after: Duration::from_secs(30),
            attempts_max: 16,
        }
    }
}

/// An EIP-1559 offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fees {
    pub(crate) max_fee_wei: u128,
    pub(crate) tip_wei: u128,
}

impl FeePolicy {
    /// What a new transaction offers: twice the next base fee, so that five full blocks do not price it out, and a tip.
    pub(super) async fn first(&self, endpoints: &Endpoints) -> Result<Fees, SenderError> {
        let (base_fee, tip) = self.asked(endpoints).await?;
        let wanted_wei = base_fee.saturating_add(tip);
        if wanted_wei > self.cap_wei {
            return Err(SenderError::Fees { wanted_wei, cap_wei: self.cap_wei });
        }
        Ok(Fees { max_fee_wei: wanted_wei.saturating_add(base_fee).min(self.cap_wei), tip_wei: tip })
    }

    /// What a replacement offers; `None` where the policy allows no more.
    pub(super) async fn raised(
        &self,
        endpoints: &Endpoints,
        before: &[Attempt],
    ) -> Result<Option<Fees>, SenderError> {
        let Some(last) = before.last() else { return Ok(None) };
        if before.len() >= self.attempts_max {
            return Ok(None);
        }
        let (base_fee, tip) = self.asked(endpoints).await?;
        let wanted = Fees { max_fee_wei: base_fee.saturating_mul(2).saturating_add(tip), tip_wei: tip };
        Ok(self.over(last, wanted))
    }

    fn over(&self, last: &Attempt, wanted: Fees) -> Option<Fees> {
        let raise =
            |wei: u128| wei.saturating_add((wei / 100).saturating_mul(RAISE_PERCENT).max(wei / 8 + 1));
        let tip_wei = raise(last.tip_wei).max(wanted.tip_wei);
        let least = raise(last.max_fee_wei).max(tip_wei);
        (least <= self.cap_wei)
            .then(|| Fees { max_fee_wei: least.max(wanted.max_fee_wei).min(self.cap_wei), tip_wei })
    }

    /// Next base fee and tip as an endpoint sees them, the tip within the policy.
    async fn asked(&self, endpoints: &Endpoints) -> Result<(u128, u128), SenderError> {
        let history = endpoints.any(|endpoint| endpoint.fee_history(1)).await?;
        let base_fee = history.base_fee_per_gas.last().copied().unwrap_or_default();
        let tip = endpoints.any(|endpoint| endpoint.priority_fee()).await?;
        Ok((base_fee, tip.max(self.tip_min_wei).min(self.tip_max_wei)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, Bytes};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_raise_is_always_enough_for_pools_and_never_above_the_cap(
            fee in any::<u64>(), tip in any::<u64>(), wanted in any::<(u64, u64)>(), cap in any::<u64>()
        ) {
            let tip = tip.min(fee);
            let last = Attempt {
                hash: B256::ZERO, max_fee_wei: fee.into(), tip_wei: tip.into(), encoded: Bytes::new()
            };
            let policy = FeePolicy { cap_wei: cap.into(), ..FeePolicy::default() };
            let wanted = Fees { max_fee_wei: wanted.0.into(), tip_wei: u128::from(wanted.1.min(wanted.0)) };
            if let Some(raised) = policy.over(&last, wanted) {
                prop_assert!(raised.max_fee_wei <= policy.cap_wei);
                prop_assert!(raised.tip_wei <= raised.max_fee_wei);
                prop_assert!(raised.max_fee_wei * 10 >= last.max_fee_wei * 11 && raised.max_fee_wei > last.max_fee_wei);
                prop_assert!(raised.tip_wei * 10 >= last.tip_wei * 11 && raised.tip_wei > last.tip_wei);
            }
        }
    }
}
