//! Submissions and cancellations: what principals do.
//!
//! Invariant: of racing submissions of one name one makes the job; quotas count in the same commit. An attempt that ended
//! without a result is followed by a new one, which keeps what was good of it (see `materialising`).

use ashlar_compute_api::jobs::{
    Job, JobEvent, JobRefusal, JobSpec, JobState, JobsError, SpecError, Submitted,
};
use ashlar_compute_api::{Amount, JobId};

use super::{Ledger, LedgerError, job, spec_pages};
use crate::rows::{self, FamilyRow, JobRow, Present, PrincipalRow};
use crate::turn::{RowsError, TURNS_MAX, Turn, back_off};

/// Longest id of a principal, in bytes.
const PRINCIPAL_BYTES_MAX: usize = 512;
/// Most bytes of a statement altogether.
const SPEC_BYTES_MAX: usize = 8 << 20;
/// Most leases of a unit: each leaves a line in its row.
const LEASES_MAX: u32 = 64;
/// When who has too many jobs may come again.
const RETRY_SECONDS: u32 = 30;

/// What a principal may have under way.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Jobs that have not ended.
    pub open_jobs_max: u32,
    /// Jobs that are kept, ended ones among them.
    pub kept_jobs_max: u32,
    /// Spend caps of jobs that have not ended, together.
    pub reserved_max: Amount,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { open_jobs_max: 100, kept_jobs_max: 10_000, reserved_max: Amount::MAX }
    }
}

impl Ledger {
    /// Submits a job, or finds it.
    pub(crate) async fn submit(&self, spec: JobSpec, quotas: Quotas) -> Result<Submitted, JobsError> {
        spec.check()?;
        if spec.statement.principal.len() > PRINCIPAL_BYTES_MAX {
            return Err(SpecError::TooLong { what: "the principal", maximum: PRINCIPAL_BYTES_MAX }.into());
        }
        if spec.limits.attempts_max > LEASES_MAX {
            let maximum = usize::try_from(LEASES_MAX).unwrap_or(usize::MAX);
            return Err(SpecError::TooMany { what: "leases of a unit", maximum }.into());
        }
        let pages = spec_pages(&spec);
        if pages.iter().map(|page| page.len()).sum::<usize>() > SPEC_BYTES_MAX {
            return Err(SpecError::TooLong { what: "all of the statement", maximum: SPEC_BYTES_MAX }.into());
        }
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            if let Some(submitted) = self.submit_once(&spec, &pages, quotas).await? {
                return Ok(submitted);
            }
        }
        Err(unavailable(&RowsError::Contended))
    }

    async fn submit_once(
        &self,
        spec: &JobSpec,
        pages: &[bytes::Bytes],
        quotas: Quotas,
    ) -> Result<Option<Submitted>, JobsError> {
        let busy = Err(JobsError::Busy { retry_after_seconds: RETRY_SECONDS });
        let mut turn = Turn::begin(&self.kv).await.map_err(|error| unavailable(&error))?;
        let family_key = rows::family(spec.id());
        let family = turn.get::<FamilyRow>(&family_key).await.map_err(|error| unavailable(&error))?;
        let mut attempt = 1;
        if let Some(family) = &family {
            if family.is_leaving {
                return busy;
            }
            let (_, newest) = self.load(family.newest).await.map_err(jobs_error)?;
            newest.is_same(spec)?;
            if !matches!(newest.state, JobState::Ended(_)) {
                return Ok(Some(Submitted { job: newest, is_new: false }));
            }
            attempt = family.attempt.saturating_add(1);
            if let Some(at) = family.ended_at {
                turn.delete(rows::ended(at, spec.id()));
            }
        }
        let principal = &spec.statement.principal;
        let principal_key = rows::principal(principal);
        let counts = turn.get::<PrincipalRow>(&principal_key).await.map_err(|error| unavailable(&error))?;
        let mut counts = counts.unwrap_or_default();
        let reserved = counts.reserved.checked_add(spec.limits.spend_cap);
        let Some(reserved) = reserved.filter(|reserved| *reserved <= quotas.reserved_max) else {
            return busy;
        };
        if counts.open >= quotas.open_jobs_max || counts.kept >= quotas.kept_jobs_max {
            return busy;
        }
        (counts.open, counts.kept, counts.reserved) = (counts.open + 1, counts.kept + 1, reserved);
        let job = Job::attempt(spec.clone(), attempt);
        let row = self.new_row(&job, pages.len());
        turn.put(principal_key, &counts);
        turn.put(rows::job(job.id), &row);
        for (number, page) in (0..).zip(pages) {
            turn.put_bytes(rows::spec_page(job.id, number), page.clone());
        }
        let (principal, newest) = (principal.clone(), job.id);
        turn.put(rows::of_principal(&principal, row.submitted_at, job.id), &Present);
        turn.put(rows::open(job.id), &Present);
        let family = FamilyRow { principal, attempt, newest, ended_at: None, is_leaving: false };
        turn.put(family_key, &family);
        let committed = turn.commit().await.map_err(|error| unavailable(&error))?;
        Ok(committed.map(|_| Submitted { job, is_new: true }))
    }

    fn new_row(&self, job: &Job, pages: usize) -> JobRow {
        let (statement, now) = (&job.spec.statement, self.now());
        JobRow {
            attempt: job.attempt,
            family: job.family(),
            principal: statement.principal.clone(),
            kind: statement.kind,
            target: rows::excerpt(&statement.target),
            text: rows::excerpt(&statement.text),
            limits: job.spec.limits,
            state: job.state.clone(),
            progress: job.progress,
            reserved: Amount::ZERO,
            hedges: 0,
            spec_pages: u32::try_from(pages).expect("a statement has few pages"),
            waiting: None,
            submitted_at: now,
            changed_at: now,
        }
    }

    /// Wants a job no more.
    pub(crate) async fn cancel(&self, principal: &str, id: JobId) -> Result<(), JobsError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::begin(&self.kv).await.map_err(|error| unavailable(&error))?;
            let mut row = job(&mut turn, id).await.map_err(jobs_error)?;
            if row.principal != principal {
                return Err(JobsError::NotFound { id });
            }
            self.apply(&mut turn, id, &mut row, JobEvent::Cancel).await.map_err(jobs_error)?;
            turn.put(rows::job(id), &row);
            if turn.commit().await.map_err(|error| unavailable(&error))?.is_some() {
                return Ok(());
            }
        }
        Err(unavailable(&RowsError::Contended))
    }
}

fn unavailable(error: &RowsError) -> JobsError {
    JobsError::Unavailable { reason: error.to_string() }
}

/// As who submits sees it.
pub(crate) fn jobs_error(error: LedgerError) -> JobsError {
    match error {
        LedgerError::Job(refusal) => JobsError::Refused(refusal),
        LedgerError::NotFound { id } => JobsError::NotFound { id },
        LedgerError::Rows(error) => unavailable(&error),
        LedgerError::Unit(_) | LedgerError::Budget { .. } => JobsError::Refused(JobRefusal::Stage),
    }
}
