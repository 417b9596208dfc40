//! Leases given, and found again: what is started, followed, and told that another may finish first.

use std::sync::Arc;

use ashlar_compute_api::JobId;
use ashlar_compute_api::jobs::{Hedge, Lease, UnitEvent};
use ashlar_compute_api::workers::{Attached, Task};
use tokio::sync::mpsc;

use super::lead::{Lead, QUEUE_MAX, Running};
use super::unit_work::{self, AnnounceHedge, LeaseId};
use crate::ledger::LedgerError;
use crate::ledger::units::UnitId;
use crate::rows::{LeaseTerms, UnitRow};

impl Lead {
    /// Leases that a coordinator before this one gave: followed again where that can be, else waited for.
    pub(super) async fn find_leases(&mut self, id: JobId) -> Result<(), LedgerError> {
        let ledger = self.parts.ledger.clone();
        let mut from = Some(0);
        while let Some(first) = from {
            let (units, next) = ledger.open_units(id, first, QUEUE_MAX).await?;
            for of in units {
                let unit = ledger.unit(of).await?;
                for lease in unit.unit.leases().to_vec() {
                    self.attach(of, &unit, lease).await?;
                }
            }
            from = next;
        }
        Ok(())
    }

    async fn attach(&mut self, of: UnitId, unit: &UnitRow, lease: Lease) -> Result<(), LedgerError> {
        let Some(terms) = unit.terms.iter().find(|terms| terms.fence == lease.fence).copied() else {
            return Ok(());
        };
        let id = LeaseId { unit: of, fence: lease.fence };
        let Some(task) = self.task(of, unit, lease, terms) else { return Ok(()) };
        let running = Running {
            lease,
            terms,
            unit: unit.clone(),
            is_starting: false,
            is_judged: false,
            said: None,
            task: None,
        };
        self.running.insert(id, running);
        match self.parts.workers.attach(task).await {
            Attached::Running(work) => {
                let (said, hears) = mpsc::channel(1);
                let follow = unit_work::follow(work, id, self.heard.clone(), hears);
                let task = self.tasks.spawn(follow);
                if let Some(running) = self.running.get_mut(&id) {
                    (running.said, running.task) = (Some(said), Some(task));
                }
                if lease.hedge == Hedge::Announced {
                    self.say_hedge(id);
                }
                Ok(())
            }
            Attached::Gone => self.end_blameless(id, "its provider was stopped".to_owned()).await,
            Attached::Unknown => Ok(()),
        }
    }

    fn say_hedge(&self, id: LeaseId) {
        let said = self.running.get(&id).and_then(|running| running.said.as_ref());
        if let Some(said) = said {
            // It is said already where there is no room.
            let _ = said.try_send(AnnounceHedge);
        }
    }

    fn task(&self, of: UnitId, unit: &UnitRow, lease: Lease, terms: LeaseTerms) -> Option<Task> {
        let row = &self.jobs.get(&of.job)?.row;
        Some(Task {
            shard: unit.unit.shard,
            family: row.family,
            lease,
            kind: row.kind,
            model: unit.model,
            input: unit.unit.input,
            checkpoint: unit.checkpoint.map(|checkpoint| checkpoint.content_root),
            price: terms.price,
            allowance: terms.allowance,
            heartbeat_seconds: u32::try_from(self.parts.config.lease.as_secs() / 3).unwrap_or(1).max(1),
        })
    }

    /// Has a unit worked under a lease that was just given.
    pub(super) fn start(&mut self, of: UnitId, unit: UnitRow, lease: Lease, terms: LeaseTerms) {
        let id = LeaseId { unit: of, fence: lease.fence };
        let Some(task) = self.task(of, &unit, lease, terms) else { return };
        let (said, hears) = mpsc::channel(1);
        let workers = Arc::clone(&self.parts.workers);
        let task = self.tasks.spawn(unit_work::start(workers, id, task, self.heard.clone(), hears));
        let (said, task) = (Some(said), Some(task));
        let running = Running { lease, terms, unit, is_starting: true, is_judged: false, said, task };
        self.running.insert(id, running);
    }

    /// Tells a provider that another may finish before it.
    pub(super) async fn announce(&mut self, id: LeaseId) -> Result<(), LedgerError> {
        self.unit_event(id.unit, UnitEvent::AnnounceHedge { fence: id.fence }).await?;
        let is_announced = |running: &Running| running.lease.hedge == Hedge::Announced;
        if self.running.get(&id).is_some_and(is_announced) {
            self.say_hedge(id);
        }
        Ok(())
    }
}
