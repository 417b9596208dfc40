//! Work under way, beside the loop: what is heard of it is passed on, what the loop says is passed back.

use std::sync::Arc;

use ashlar_compute_api::workers::{StartError, Task, Work, WorkEvent, Workers};
use tokio::sync::mpsc;

use super::judging::{JudgeError, Judged};
use super::stage_work::{Materialised, StageTrouble};
use crate::ledger::units::UnitId;
use crate::rows::Checkpoint;
use ashlar_compute_api::{ContentRoot, JobId};

/// A lease, among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LeaseId {
    pub(super) unit: UnitId,
    pub(super) fence: u64,
}

/// What the loop hears.
pub(super) enum Heard {
    Materialised(JobId, Result<Materialised, StageTrouble>),
    Published(JobId, Result<ContentRoot, StageTrouble>),
    Started(LeaseId, Result<(), StartError>),
    Work(LeaseId, WorkEvent),
    /// Nothing more will be heard of it.
    Silent(LeaseId),
    Judged(LeaseId, Result<Judged, JudgeError>),
    Checkpoint(LeaseId, Result<Checkpoint, JudgeError>),
}

/// The provider shall be told that another may finish first.
pub(super) struct AnnounceHedge;

/// Starts work and follows it to its end. Dropped, it ends the work.
pub(super) async fn start(
    workers: Arc<dyn Workers>,
    id: LeaseId,
    task: Task,
    heard: mpsc::Sender<Heard>,
    said: mpsc::Receiver<AnnounceHedge>,
) {
    let started = workers.start(task).await;
    let (work, result) = match started {
        Ok(work) => (Some(work), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // The loop ends before those that talk to it; then nobody listens, and this ends as well.
    if heard.send(Heard::Started(id, result)).await.is_ok()
        && let Some(work) = work
    {
        follow(work, id, heard, said).await;
    }
}

/// Follows work to its end.
pub(super) async fn follow(
    mut work: Box<dyn Work>,
    id: LeaseId,
    heard: mpsc::Sender<Heard>,
    mut said: mpsc::Receiver<AnnounceHedge>,
) {
    loop {
        let event = tokio::select! {
            event = work.next() => event,
            said = said.recv() => match said {
                Some(AnnounceHedge) => {
                    work.announce_hedge();
                    continue;
                }
                None => return,
            },
        };
        let Some(event) = event else { break };
        if heard.send(Heard::Work(id, event)).await.is_err() {
            return;
        }
    }
    // Nobody is left to hear it where this fails.
    let _ = heard.send(Heard::Silent(id)).await;
}
