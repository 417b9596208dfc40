//! Which provider gets a unit.
//!
//! Invariant J8: data goes to providers that the rules of its buckets let, and to no others; of those, to one that runs the
//! very model, has room, is not suspended, and can be paid. A pure choice over facts.

use std::collections::HashMap;

use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::workers::{Belongs, ProviderOffer};
use ashlar_compute_api::{Address, Amount, ContentRoot};
use ashlar_objects::compute_access::{ComputeRule, ProviderAddress};

use crate::ledger::units::cost;
use crate::rows::Reputation;

/// What a unit needs.
#[derive(Clone, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) kind: Kind,
    pub(crate) model: ContentRoot,
    pub(crate) determinism: Option<ContentRoot>,
    pub(crate) usage_max: u64,
    /// What the job can still reserve.
    pub(crate) left: Amount,
    /// Of every bucket that the job reads.
    pub(crate) rules: &'a [ComputeRule],
    /// Whose job it is.
    pub(crate) principal: &'a str,
    /// Had it before: better not again.
    pub(crate) tried: &'a [Address],
    /// Has it now: not at all.
    pub(crate) not: Option<Address>,
    pub(crate) now: u64,
}

/// To whom a unit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) provider: Address,
    pub(crate) price: Amount,
    pub(crate) allowance: Amount,
}

/// Why it goes to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum NoChoice {
    /// Nobody runs the model.
    #[error("a provider that runs the model")]
    Model,
    /// None of those who run it may see the data.
    #[error("a provider that the compute-access of the data's buckets lets")]
    Access,
    /// The others failed too often of late.
    #[error("a provider that is not suspended")]
    Suspended,
    /// What is left of the spend cap is less than it may cost.
    #[error("room within the spend cap")]
    Means,
    /// All are busy.
    #[error("a provider with room")]
    Room,
}

/// Chooses among offers: untried ones first, then by price for what succeeds, then by speed.
///
/// `taken` is what each provider was given that its offer does not count yet.
pub(crate) fn choose(
    need: &Need<'_>,
    offers: &[ProviderOffer],
    reputations: &HashMap<Address, Reputation>,
    taken: &HashMap<Address, u32>,
) -> Result<Choice, NoChoice> {
    let mut best: Option<(Rank, Choice)> = None;
    // How far the candidate went that went furthest: what is missing.
    let mut missing = NoChoice::Model;
    for offer in offers {
        match consider(need, offer, reputations, taken) {
            Err(reason) => missing = missing.max(reason),
            Ok(found) => {
                if best.as_ref().is_none_or(|(rank, _)| found.0.is_before(rank)) {
                    best = Some(found);
                }
            }
        }
    }
    best.map(|(_, choice)| choice).ok_or(missing)
}

/// Smaller is better, field by field.
struct Rank {
    was_tried: bool,
    effective_price: f64,
    seconds_per_unit: f64,
    provider: Address,
}

impl Rank {
    fn is_before(&self, other: &Self) -> bool {
        let by = self.was_tried.cmp(&other.was_tried);
        let by = by.then(self.effective_price.total_cmp(&other.effective_price));
        let by = by.then(self.seconds_per_unit.total_cmp(&other.seconds_per_unit));
        by.then(self.provider.cmp(&other.provider)).is_lt()
    }
}

fn consider(
    need: &Need<'_>,
    offer: &ProviderOffer,
    reputations: &HashMap<Address, Reputation>,
    taken: &HashMap<Address, u32>,
) -> Result<(Rank, Choice), NoChoice> {
    let runs = offer.models.iter().find(|model| {
        let is_class = need.determinism.is_none_or(|class| class == model.determinism_class);
        model.kind == need.kind && model.model == need.model && is_class
    });
    let runs = runs.filter(|_| need.not != Some(offer.provider)).ok_or(NoChoice::Model)?;
    if !lets(need, offer) {
        return Err(NoChoice::Access);
    }
    let reputation = reputations.get(&offer.provider).copied().unwrap_or_default();
    if need.now < reputation.suspended_until {
        return Err(NoChoice::Suspended);
    }
    let allowance = cost(runs.price, need.usage_max).filter(|allowance| *allowance <= need.left);
    let allowance = allowance.ok_or(NoChoice::Means)?;
    if offer.free <= taken.get(&offer.provider).copied().unwrap_or_default() {
        return Err(NoChoice::Room);
    }
    let share = success_share(&reputation);
    let price = f64::from(u32::try_from(runs.price.wei().min(u128::from(u32::MAX))).unwrap_or(u32::MAX));
    let speed = f64::from(runs.units_per_second.max(1)) * share;
    let rank = Rank {
        was_tried: need.tried.contains(&offer.provider),
        effective_price: price / share,
        seconds_per_unit: 1.0 / speed,
        provider: offer.provider,
    };
    Ok((rank, Choice { provider: offer.provider, price: runs.price, allowance }))
}

/// Whether the data may go there. The store itself has it already; a job that reads no bucket is its principal's.
fn lets(need: &Need<'_>, offer: &ProviderOffer) -> bool {
    let user = match &offer.belongs {
        Belongs::Operator => return true,
        Belongs::User(user) => Some(user.as_str()),
        Belongs::Stranger => None,
    };
    if need.rules.is_empty() {
        return user == Some(need.principal);
    }
    let provider = ProviderAddress(offer.provider.0);
    need.rules.iter().all(|rule| rule.lets(provider, user))
}

/// How many of its leases a provider brings to an end, with one success and one failure beforehand.
fn success_share(of: &Reputation) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a rank needs no more")]
    let (good, bad) = ((of.finished + 1) as f64, (of.failed + of.expired) as f64);
    good / (good + bad)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ashlar_compute_api::workers::ModelOffer;
    use ashlar_objects::compute_access::ComputeAccess;

    use super::*;

    const MODEL: ContentRoot = ContentRoot([1; 32]);

    fn address(number: u8) -> Address {
        Address([number; 20])
    }

    fn offer(number: u8, belongs: Belongs, price: u64, units_per_second: u32) -> ProviderOffer {
        let model = ModelOffer {
            kind: Kind::Labeling,
            model: MODEL,
            determinism_class: ContentRoot([2; 32]),
            price: price.into(),
            units_per_second,
        };
        ProviderOffer { provider: address(number), belongs, free: 1, models: vec![model] }
    }

    fn need<'a>(rules: &'a [ComputeRule], tried: &'a [Address]) -> Need<'a> {
        Need {
            kind: Kind::Labeling,
            model: MODEL,
            determinism: None,
            usage_max: 10,
            left: 100.into(),
            rules,
            principal: "ann",
            tried,
            not: None,
            now: 50,
        }
    }

    fn rule(access: ComputeAccess) -> ComputeRule {
        ComputeRule { owner: "ann".into(), access }
    }

    #[test]
    fn data_goes_to_those_who_are_let_and_to_no_others() {
        let offers = [
            offer(1, Belongs::Stranger, 0, 9),
            offer(2, Belongs::User("bob".into()), 0, 9),
            offer(3, Belongs::User("ann".into()), 5, 1),
        ];
        let none = HashMap::new();
        let of = |rules: &[ComputeRule], offers: &[ProviderOffer]| {
            choose(&need(rules, &[]), offers, &HashMap::new(), &none).map(|choice| choice.provider)
        };
        let listed = |number: u8| ComputeAccess::Listed(BTreeSet::from([ProviderAddress([number; 20])]));
        assert_eq!(of(&[rule(ComputeAccess::Own)], &offers), Ok(address(3)));
        assert_eq!(of(&[rule(ComputeAccess::Own)], &offers[..2]), Err(NoChoice::Access));
        assert_eq!(of(&[rule(listed(2))], &offers), Ok(address(2)));
        assert_eq!(of(&[rule(ComputeAccess::Any)], &offers), Ok(address(1)));
        assert_eq!(
            of(&[rule(ComputeAccess::Any), rule(listed(2))], &offers),
            Ok(address(2)),
            "the narrowest"
        );
        assert_eq!(of(&[], &offers), Ok(address(3)), "what lies in no bucket is its principal's");
        let bobs = ComputeRule { owner: "bob".into(), access: ComputeAccess::Own };
        assert_eq!(of(&[rule(ComputeAccess::Own), bobs], &offers), Err(NoChoice::Access), "two owners");
        assert_eq!(of(&[rule(ComputeAccess::Own)], &[offer(4, Belongs::Operator, 0, 1)]), Ok(address(4)));
    }

    #[test]
    fn price_speed_room_and_reputation_count() {
        let any = [rule(ComputeAccess::Any)];
        let offers = [
            offer(1, Belongs::Stranger, 5, 1),
            offer(2, Belongs::Stranger, 5, 90),
            offer(3, Belongs::Stranger, 9, 900),
            offer(4, Belongs::Stranger, 11, 999),
        ];
        let (fresh, none) = (HashMap::new(), HashMap::new());
        let chosen = |need: &Need<'_>, of: &HashMap<Address, Reputation>, taken: &HashMap<Address, u32>| {
            choose(need, &offers, of, taken).map(|choice| (choice.provider, choice.allowance))
        };
        assert_eq!(chosen(&need(&any, &[]), &fresh, &none), Ok((address(2), 50.into())));
        let tried = [address(1), address(2)];
        assert_eq!(chosen(&need(&any, &tried), &fresh, &none), Ok((address(3), 90.into())));
        let taken = HashMap::from([(address(2), 1)]);
        assert_eq!(chosen(&need(&any, &[]), &fresh, &taken), Ok((address(1), 50.into())));
        let bad = Reputation { failed: 9, ..Reputation::default() };
        let bad = HashMap::from([(address(1), bad), (address(2), bad)]);
        assert_eq!(chosen(&need(&any, &[]), &bad, &none), Ok((address(3), 90.into())), "what fails is dear");
        let suspended = Reputation { suspended_until: 51, ..Reputation::default() };
        let all = HashMap::from([1, 2, 3, 4].map(|number| (address(number), suspended)));
        assert_eq!(chosen(&need(&any, &[]), &all, &none), Err(NoChoice::Suspended));
        let poor = Need { left: 49.into(), ..need(&any, &[]) };
        assert_eq!(chosen(&poor, &fresh, &none), Err(NoChoice::Means));
        let full = HashMap::from([1, 2, 3, 4].map(|number| (address(number), 1)));
        assert_eq!(chosen(&need(&any, &[]), &fresh, &full), Err(NoChoice::Room));
        let other = Need { model: ContentRoot::ZERO, ..need(&any, &[]) };
        assert_eq!(chosen(&other, &fresh, &none), Err(NoChoice::Model));
        let class = Need { determinism: Some(MODEL), ..need(&any, &[]) };
        assert_eq!(chosen(&class, &fresh, &none), Err(NoChoice::Model));
        let not = Need { not: Some(address(2)), ..need(&any, &[]) };
        assert_eq!(chosen(&not, &fresh, &none), Ok((address(1), 50.into())));
    }
}
