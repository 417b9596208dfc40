//! Units given out, job by job in turns, and stragglers hedged.
//!
//! Invariant: a unit is leased only when its job runs and can pay; of a job's units one in twenty is hedged, one at least, and
//! only when no other is left to be given out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ashlar_compute_api::jobs::{Hedge, JobEvent, JobState, UnitState};
use ashlar_compute_api::workers::ProviderOffer;
use ashlar_compute_api::{Address, Amount, JobId};
use ashlar_objects::compute_access::ComputeRule;

use super::lead::{Lead, QUEUE_MAX};
use super::unit_work::LeaseId;
use crate::ledger::LedgerError;
use crate::ledger::leasing::Grant;
use crate::ledger::units::UnitId;
use crate::matching::{Choice, Need, NoChoice, choose};
use crate::rows::{LeaseTerms, Reputation, UnitRow};

/// Units of a job of which one may be hedged.
const UNITS_PER_HEDGE: u32 = 20;
/// Units that must be done before any is a straggler.
const DONE_MIN: usize = 3;

/// What is known of providers in one pass.
struct Market {
    offers: Vec<ProviderOffer>,
    reputations: HashMap<Address, Reputation>,
    taken: HashMap<Address, u32>,
    rules: HashMap<JobId, Vec<ComputeRule>>,
}

/// What became of a try to give a unit out.
enum Given {
    Yes,
    /// This unit needs nobody now; another may.
    Skip,
    /// Of this job nothing can be given out now.
    No(NoChoice),
}

impl Lead {
    /// Gives out what can be.
    pub(super) async fn schedule(&mut self) -> Result<(), LedgerError> {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut market = self.market().await?;
        self.turn_of = (self.turn_of + 1) % ids.len();
        let mut order: Vec<JobId> = ids[self.turn_of..].iter().chain(&ids[..self.turn_of]).copied().collect();
        while !order.is_empty() && self.running.len() < self.parts.config.running_max {
            let mut again = Vec::new();
            for id in order {
                if self.give_one(id, &mut market).await? {
                    again.push(id);
                }
            }
            order = again;
        }
        for id in ids {
            self.hedge(id, &mut market).await?;
        }
        Ok(())
    }

    async fn market(&self) -> Result<Market, LedgerError> {
        let offers = self.parts.workers.offers();
        let mut reputations = HashMap::new();
        for offer in &offers {
            reputations.insert(offer.provider, self.parts.ledger.reputation(offer.provider).await?);
        }
        Ok(Market { offers, reputations, taken: self.taken(), rules: HashMap::new() })
    }

    /// Gives out one unit of a job; answers whether there may be another.
    async fn give_one(&mut self, id: JobId, market: &mut Market) -> Result<bool, LedgerError> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(false) };
        if job.row.state != JobState::Running {
            return Ok(false);
        }
        if job.queue.is_empty() {
            let Some(from) = job.next else { return Ok(false) };
            let (units, next) = self.parts.ledger.open_units(id, from, QUEUE_MAX).await?;
            job.next = next;
            let leased = |of: &UnitId| self.running.keys().any(|lease| lease.unit == *of);
            job.queue.extend(units.into_iter().filter(|of| !leased(of)));
        }
        let Some(of) = self.jobs.get_mut(&id).and_then(|job| job.queue.pop_front()) else { return Ok(false) };
        match self.give(of, market, None).await? {
            Given::Yes => {
                self.say_waiting(id, None).await?;
                Ok(true)
            }
            Given::Skip => Ok(true),
            Given::No(reason) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.queue.push_front(of);
                }
                self.is_stuck(id, reason).await?;
                Ok(false)
            }
        }
    }

    /// What it means that nothing of a job can be given out.
    async fn is_stuck(&mut self, id: JobId, reason: NoChoice) -> Result<(), LedgerError> {
        let is_idle = !self.running.keys().any(|lease| lease.unit.job == id);
        if reason == NoChoice::Means && is_idle {
            // Nothing comes back any more: what is left will never do.
            let reason = "what is left of the spend cap is less than its next unit may cost".to_owned();
            let row = self.parts.ledger.job_event(self.term, id, JobEvent::Fail { reason }).await;
            return match row {
                Ok(row) => {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.row = row;
                    }
                    Ok(())
                }
                Err(LedgerError::Job(_)) => Ok(()),
                Err(error) => Err(error),
            };
        }
        if is_idle { self.say_waiting(id, Some(&reason.to_string())).await } else { Ok(()) }
    }

    async fn say_waiting(&mut self, id: JobId, waiting: Option<&str>) -> Result<(), LedgerError> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        if job.row.waiting.as_deref() == waiting {
            return Ok(());
        }
        job.row.waiting = waiting.map(str::to_owned);
        self.parts.ledger.set_waiting(self.term, id, waiting).await
    }

    /// Gives a unit to whom it fits best, beside `first` if that one has it.
    async fn give(
        &mut self,
        of: UnitId,
        market: &mut Market,
        first: Option<Address>,
    ) -> Result<Given, LedgerError> {
        let unit = self.parts.ledger.unit(of).await?;
        let is_open = unit.unit.state == UnitState::Open;
        if is_open != first.is_none() {
            return Ok(Given::Skip);
        }
        let choice = match self.choice(of.job, &unit, market, first).await? {
            Ok(choice) => choice,
            Err(reason) => return Ok(Given::No(reason)),
        };
        let Choice { provider, price, allowance } = choice;
        let (seconds, is_hedge) = (self.parts.config.lease.as_secs(), first.is_some());
        let grant = Grant { provider, seconds, price, allowance, is_hedge };
        let lease = match self.parts.ledger.lease(self.term, of, grant).await {
            Ok(lease) => lease,
            Err(LedgerError::Budget { .. }) => return Ok(Given::No(NoChoice::Means)),
            Err(LedgerError::Unit(_) | LedgerError::NotFound { .. }) => return Ok(Given::Skip),
            // Cancelled meanwhile; the next look sees it.
            Err(LedgerError::Job(_)) => return Ok(Given::No(NoChoice::Room)),
            Err(error) => return Err(error),
        };
        *market.taken.entry(provider).or_default() += 1;
        if let Some(job) = self.jobs.get_mut(&of.job) {
            job.row.reserved = job.row.reserved.checked_add(allowance).unwrap_or(Amount::MAX);
            job.row.hedges += u32::from(is_hedge);
        }
        let unit = self.parts.ledger.unit(of).await.unwrap_or(unit);
        let terms = LeaseTerms { fence: lease.fence, price, allowance, paid: Amount::ZERO };
        self.start(of, unit, lease, terms);
        Ok(Given::Yes)
    }

    async fn choice(
        &self,
        id: JobId,
        unit: &UnitRow,
        market: &mut Market,
        first: Option<Address>,
    ) -> Result<Result<Choice, NoChoice>, LedgerError> {
        let Some(job) = self.jobs.get(&id) else { return Ok(Err(NoChoice::Model)) };
        let rules = match market.rules.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match self.parts.rules.rules(&job.inputs).await {
                Ok(rules) => place.insert(rules),
                Err(error) => {
                    tracing::warn!(%id, %error, "whether data may go out is not known: it does not");
                    return Ok(Err(NoChoice::Access));
                }
            },
        };
        let tried: Vec<Address> = unit.unit.attempts.iter().map(|attempt| attempt.provider).collect();
        let need = Need {
            kind: job.row.kind,
            model: unit.model,
            determinism: unit.determinism,
            usage_max: unit.usage_max,
            left: job.row.left(),
            rules,
            principal: &job.row.principal,
            tried: &tried,
            not: first,
            now: self.parts.ledger.now(),
        };
        Ok(choose(&need, &market.offers, &market.reputations, &market.taken))
    }

    /// Has a second provider work on what takes too long, once the first knows.
    async fn hedge(&mut self, id: JobId, market: &mut Market) -> Result<(), LedgerError> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        let is_all_given = job.queue.is_empty() && job.next.is_none();
        if job.row.state != JobState::Running || !is_all_given || job.durations.len() < DONE_MIN {
            return Ok(());
        }
        let mut durations: Vec<u64> = job.durations.iter().copied().collect();
        durations.sort_unstable();
        let median = durations[durations.len() / 2].max(1);
        let late = median.saturating_mul(self.parts.config.straggler_factor.into());
        let now = self.parts.ledger.now();
        let may_hedge = |hedges: u32| hedges < (job.row.progress.units / UNITS_PER_HEDGE).max(1);
        let may = may_hedge(job.row.hedges);
        let stragglers = self.running.iter().filter(|(lease, running)| {
            lease.unit.job == id && now.saturating_sub(running.lease.granted_at) > late
        });
        let stragglers: Vec<(LeaseId, Hedge, Address, UnitRow)> = stragglers
            .map(|(lease, running)| {
                (*lease, running.lease.hedge, running.lease.provider, running.unit.clone())
            })
            .collect();
        for (lease, hedge, provider, unit) in stragglers {
            if !may {
                return Ok(());
            }
            let is_told = hedge == Hedge::Told && unit.unit.leases().len() == 1;
            if is_told {
                self.give(lease.unit, market, Some(provider)).await?;
                return Ok(());
            }
            // Nobody is told that another could finish first where there is no other.
            if hedge == Hedge::Alone && self.choice(id, &unit, market, Some(provider)).await?.is_ok() {
                self.announce(lease).await?;
            }
        }
        Ok(())
    }
}
