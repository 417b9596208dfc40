//! Jobs and units as people are shown them, page by page.
//!
//! Invariant: a principal is shown his own jobs alone; who sees all (root) is the caller's to know. Pages are bounded.

use ashlar_compute_api::jobs::{Attempt, JobState, JobsError, Kind, Limits, Progress, UnitInput, UnitState};
use ashlar_compute_api::{Amount, JobId};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::{Direction, KeyRange};
use bytes::Bytes;
use serde::Serialize;

use super::submitting::jobs_error;
use super::units::UnitId;
use super::{Ledger, LedgerError};
use crate::rows::{self, JobRow, UnitRow};
use crate::turn::{RowsError, peek};

/// Most lines of a page.
const PAGE_MAX: usize = 1_000;

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobSummary {
    /// Its name.
    pub id: JobId,
    /// Which attempt at what was submitted.
    pub attempt: u32,
    /// Name of the first.
    pub family: JobId,
    /// Whose.
    pub principal: String,
    /// What kind of work.
    pub kind: Kind,
    /// Beginning of where the result goes.
    pub target: String,
    /// Beginning of what is asked.
    pub text: String,
    /// How it may run.
    pub limits: Limits,
    /// Where it stands.
    pub state: JobState,
    /// How far it has come.
    pub progress: Progress,
    /// What units under way may still cost.
    pub reserved: Amount,
    /// What it waits for, where that is known.
    pub waiting: Option<String>,
    /// Unix seconds.
    pub submitted_at: u64,
    /// Unix seconds.
    pub changed_at: u64,
}

/// Jobs, newest first, of one principal after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobSummary>,
    /// Where the next page begins, in hexadecimal; `None`: there is none.
    pub next: Option<String>,
}

/// A unit in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitSummary {
    /// Its number.
    pub number: u32,
    /// What it works on.
    pub input: UnitInput,
    /// Where it stands.
    pub state: UnitState,
    /// Rows that a checkpoint has.
    pub rows_kept: u64,
    /// Leases that ended.
    pub attempts: Vec<Attempt>,
}

/// Units by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnitPage {
    /// The units.
    pub units: Vec<UnitSummary>,
    /// Number of the first of the next page; `None`: there is none.
    pub next: Option<u32>,
}

impl JobRow {
    pub(crate) fn summary(self, id: JobId) -> JobSummary {
        JobSummary {
            id,
            attempt: self.attempt,
            family: self.family,
            principal: self.principal,
            kind: self.kind,
            target: self.target,
            text: self.text,
            limits: self.limits,
            state: self.state,
            progress: self.progress,
            reserved: self.reserved,
            waiting: self.waiting,
            submitted_at: self.submitted_at,
            changed_at: self.changed_at,
        }
    }
}

impl Ledger {
    /// A page of jobs of a principal, or of everybody.
    pub(crate) async fn list(
        &self,
        principal: Option<&str>,
        from: Option<&str>,
        limit: usize,
    ) -> Result<JobPage, JobsError> {
        let prefix = rows::of_principal_prefix(principal);
        let mut range = KeyRange::prefix(prefix.clone());
        if let Some(from) = from.and_then(|from| hex::decode(from).ok()) {
            // A mark of somebody else's list leads nowhere.
            if !from.starts_with(&prefix) {
                return Ok(JobPage::default());
            }
            range.start = Bytes::from(from);
        }
        self.page(range, limit.clamp(1, PAGE_MAX)).await.map_err(jobs_error)
    }

    async fn page(&self, range: KeyRange, limit: usize) -> Result<JobPage, LedgerError> {
        let snapshot = self.kv.snapshot().await?;
        let found = snapshot.scan(range.clone(), Direction::Forward, limit).await?;
        let mut jobs = Vec::with_capacity(found.rows.len());
        for (key, _) in &found.rows {
            let Some(id) = rows::parse_of_principal(key) else { continue };
            let row = peek::<JobRow>(&*snapshot, &rows::job(id)).await?;
            jobs.extend(row.map(|row| row.summary(id)));
        }
        let last = found.rows.last().filter(|_| found.more);
        let next = last.map(|(key, _)| hex::encode(range.after(key).start));
        Ok(JobPage { jobs, next })
    }

    /// One job, of a principal or of anybody.
    pub(crate) async fn summary(&self, principal: Option<&str>, id: JobId) -> Result<JobSummary, JobsError> {
        let found = self.row(id).await.map_err(jobs_error)?;
        let is_his = |row: &JobRow| principal.is_none_or(|principal| row.principal == principal);
        found.filter(is_his).map(|row| row.summary(id)).ok_or(JobsError::NotFound { id })
    }

    pub(crate) async fn row(&self, id: JobId) -> Result<Option<JobRow>, LedgerError> {
        let snapshot = self.kv.snapshot().await?;
        Ok(peek::<JobRow>(&*snapshot, &rows::job(id)).await?)
    }

    /// Units of a job from a number on.
    pub(crate) async fn units(&self, id: JobId, from: u32, limit: usize) -> Result<UnitPage, LedgerError> {
        let (units, next) = self.unit_rows(id, from, limit.clamp(1, PAGE_MAX)).await?;
        let summary = |row: UnitRow| UnitSummary {
            number: row.unit.shard.number,
            input: row.unit.input,
            rows_kept: row.checkpoint.map_or(0, |kept| kept.rows),
            state: row.unit.state,
            attempts: row.unit.attempts,
        };
        Ok(UnitPage { units: units.into_iter().map(summary).collect(), next })
    }

    pub(crate) async fn unit_rows(
        &self,
        id: JobId,
        from: u32,
        limit: usize,
    ) -> Result<(Vec<UnitRow>, Option<u32>), LedgerError> {
        let mut range = KeyRange::prefix(rows::units_prefix(id));
        range.start = rows::unit(id, from);
        let snapshot = self.kv.snapshot().await?;
        let page = snapshot.scan(range, Direction::Forward, limit).await?;
        let units: Result<Vec<UnitRow>, _> =
            page.rows.iter().map(|(_, row)| UnitRow::decode(&row.value)).collect();
        let units = units?;
        let next = units.last().filter(|_| page.more).map(|last| last.unit.shard.number + 1);
        Ok((units, next))
    }

    /// Units that have not ended, from a number on, by number.
    pub(crate) async fn open_units(
        &self,
        id: JobId,
        from: u32,
        limit: usize,
    ) -> Result<(Vec<UnitId>, Option<u32>), LedgerError> {
        let mut range = KeyRange::prefix(rows::units_open_prefix(id));
        range.start = rows::unit_open(id, from);
        let snapshot = self.kv.snapshot().await?;
        let page = snapshot.scan(range, Direction::Forward, limit).await?;
        let numbers = page.rows.iter().filter_map(|(key, _)| rows::parse_unit_open(key));
        let units: Vec<UnitId> = numbers.map(|number| UnitId { job: id, number }).collect();
        let next = units.last().filter(|_| page.more).map(|last| last.number + 1);
        Ok((units, next))
    }

    /// Jobs that have not ended.
    pub(crate) async fn open_jobs(&self, limit: usize) -> Result<Vec<(JobId, JobRow)>, LedgerError> {
        let snapshot = self.kv.snapshot().await?;
        let mut range = KeyRange::prefix(rows::open_prefix());
        let mut jobs = Vec::new();
        loop {
            let page = snapshot.scan(range.clone(), Direction::Forward, PAGE_MAX).await?;
            for (key, _) in &page.rows {
                let Some(id) = rows::parse_open(key) else { continue };
                let row = peek::<JobRow>(&*snapshot, &rows::job(id)).await?;
                jobs.push((id, row.ok_or_else(|| RowsError::from(gone()))?));
                if jobs.len() >= limit {
                    return Ok(jobs);
                }
            }
            match page.rows.last() {
                Some((last, _)) if page.more => range = range.after(last),
                _ => return Ok(jobs),
            }
        }
    }
}

fn gone() -> ashlar_metadata::namespace::RowError {
    ashlar_metadata::namespace::RowError { kind: "job", reason: "an open job has no row".to_owned() }
}
