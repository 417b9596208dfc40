//! Jobs as submitters hold them, and as people look at them.
//!
//! Invariant: everything is for one principal, who sees his own jobs alone; what is answered stands in metadata. Wakes
//! the coordinator of this process, and needs none: another finds what was submitted by looking.

use std::sync::Arc;

use ashlar_compute_api::JobId;
use ashlar_compute_api::jobs::{Job, JobSpec, Jobs, JobsError, Submitted};
use async_trait::async_trait;
use tokio::sync::Notify;

use crate::ledger::submitting_error;
use crate::ledger::{JobPage, JobSummary, Ledger, Quotas, UnitPage};

/// Jobs in metadata.
#[derive(Clone)]
pub struct DurableJobs {
    ledger: Ledger,
    quotas: Quotas,
    wake: Arc<Notify>,
}

impl DurableJobs {
    /// Jobs of this ledger, bounded by these quotas. `wake` is told whenever a coordinator has something new to look at.
    pub fn new(ledger: Ledger, quotas: Quotas, wake: Arc<Notify>) -> Self {
        Self { ledger, quotas, wake }
    }

    /// A page of jobs, newest first: of a principal, or of everybody, for who may see that. `from` is an earlier
    /// page's [`JobPage::next`].
    pub async fn list(
        &self,
        principal: Option<&str>,
        from: Option<&str>,
        limit: usize,
    ) -> Result<JobPage, JobsError> {
        self.ledger.list(principal, from, limit).await
    }

    /// One job with its progress: of a principal, or of anybody.
    pub async fn summary(&self, principal: Option<&str>, id: JobId) -> Result<JobSummary, JobsError> {
        self.ledger.summary(principal, id).await
    }

    /// Units of a job from a number on: of a principal's, or of anybody's.
    pub async fn units(
        &self,
        principal: Option<&str>,
        id: JobId,
        from: u32,
        limit: usize,
    ) -> Result<UnitPage, JobsError> {
        self.ledger.summary(principal, id).await?;
        self.ledger.units(id, from, limit).await.map_err(submitting_error)
    }
}

#[async_trait]
impl Jobs for DurableJobs {
    async fn submit(&self, spec: JobSpec) -> Result<Submitted, JobsError> {
        let submitted = self.ledger.submit(spec, self.quotas).await?;
        self.wake.notify_one();
        Ok(submitted)
    }

    async fn job(&self, principal: &str, id: JobId) -> Result<Job, JobsError> {
        let (row, job) = self.ledger.load(id).await.map_err(submitting_error)?;
        if row.principal == principal { Ok(job) } else { Err(JobsError::NotFound { id }) }
    }

    async fn cancel(&self, principal: &str, id: JobId) -> Result<Job, JobsError> {
        self.ledger.cancel(principal, id).await?;
        self.wake.notify_one();
        self.job(principal, id).await
    }
}
