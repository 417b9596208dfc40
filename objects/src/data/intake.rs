//! A body on its way in, cut into rows, with memory reserved before it is filled.
//!
//! A row's buffer grows in three steps (4 KiB, 32 KiB, the whole row), each reserved first, so a slow client
//! pins about what it sent. The steps below a row come from one budget and rows from another: who waits for
//! a row holds no row, so the waiting always ends. The declared length is enforced both ways.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant};

use super::config::DataConfig;
use crate::error::Error;
use crate::requests::{BodyError, BodyStream};

/// First and second size of a row's buffer.
const STEPS: [usize; 2] = [4 << 10, 32 << 10];

/// The memory of uploads, in bytes.
#[derive(Clone)]
pub(crate) struct WriteBudget {
    intake: Arc<Semaphore>,
    rows: Arc<Semaphore>,
    intake_bytes: usize,
    row_bytes: usize,
    wait: Duration,
    patience: Duration,
}

/// Memory held. Fair: who asks first gets it first.
pub(crate) struct Held {
    _permit: OwnedSemaphorePermit,
}

impl WriteBudget {
    pub(crate) fn new(config: &DataConfig) -> Self {
        Self {
            intake: Arc::new(Semaphore::new(config.intake_bytes)),
            rows: Arc::new(Semaphore::new(config.row_bytes)),
            intake_bytes: config.intake_bytes,
            row_bytes: config.row_bytes,
            wait: config.reserve_wait,
            patience: config.row_patience,
        }
    }

    /// Bytes held and the most that can be.
    pub(crate) fn used_and_limit(&self) -> (usize, usize) {
        let free = self.intake.available_permits() + self.rows.available_permits();
        let limit = self.intake_bytes + self.row_bytes;
        (limit.saturating_sub(free), limit)
    }

    async fn reserve(&self, pool: &Arc<Semaphore>, pool_bytes: usize, bytes: usize) -> Result<Held, Error> {
        let bytes = u32::try_from(bytes.min(pool_bytes)).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(pool).try_acquire_many_owned(bytes) {
            return Ok(Held { _permit: permit });
        }
        match tokio::time::timeout(self.wait, Arc::clone(pool).acquire_many_owned(bytes)).await {
            Ok(permit) => Ok(Held { _permit: permit.expect("the budget is never closed") }),
            Err(_) => Err(Error::SlowDown { what: "the memory for uploads is taken" }),
        }
    }

    async fn intake(&self, bytes: usize) -> Result<Held, Error> {
        self.reserve(&self.intake, self.intake_bytes, bytes).await
    }

    /// Memory for a beginning, if there is any right now.
    fn try_intake(&self, bytes: usize) -> Option<Held> {
        let permit = Arc::clone(&self.intake).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()?;
        Some(Held { _permit: permit })
    }

    /// Memory for `bytes` of rows and their parity.
    pub(crate) async fn row(&self, bytes: usize) -> Result<Held, Error> {
        self.reserve(&self.rows, self.row_bytes, bytes).await
    }

    fn rows_are_scarce(&self) -> bool {
        self.rows.available_permits() < self.row_bytes / 8
    }
}

/// One row of a body.
pub(crate) struct FilledRow {
    /// Never empty.
    pub(crate) bytes: Bytes,
    /// Whether the body ends with it.
    pub(crate) last: bool,
    pub(crate) held: Held,
}

/// How large rows are, and what a row costs.
#[derive(Clone, Copy)]
pub(crate) struct RowShape {
    /// Bytes to fill.
    pub(crate) bytes: usize,
    /// Data and all shards: a row in memory takes `bytes` × shards ÷ data.
    pub(crate) data: usize,
    pub(crate) shards: usize,
}

pub(crate) struct Intake {
    stream: BodyStream,
    piece: Bytes,
    declared: Option<u64>,
    limit: u64,
    received: u64,
    ended: bool,
    budget: WriteBudget,
}

impl Intake {
    pub(crate) fn new(
        stream: BodyStream,
        declared: Option<u64>,
        limit: u64,
        budget: WriteBudget,
    ) -> Result<Self, Error> {
        match declared {
            Some(length) if length > limit => Err(Error::TooLarge { length, limit }),
            _ => Ok(Self { stream, piece: Bytes::new(), declared, limit, received: 0, ended: false, budget }),
        }
    }

    /// Waits for a piece that is not empty; `false` when the body has ended as it should.
    async fn has_piece(&mut self) -> Result<bool, Error> {
        while self.piece.is_empty() {
            if self.ended {
                return Ok(false);
            }
            match self.stream.next().await {
                Some(Ok(piece)) => self.take(piece)?,
                Some(Err(error)) => return Err(error.into()),
                None => {
                    self.ended = true;
                    if self.declared.is_some_and(|declared| self.received < declared) {
                        return Err(BodyError::Incomplete { received: self.received }.into());
                    }
                }
            }
        }
        Ok(true)
    }

    fn take(&mut self, piece: Bytes) -> Result<(), Error> {
        self.received += u64::try_from(piece.len()).expect("usize fits u64");
        if self.declared.is_some_and(|declared| self.received > declared) {
            return Err(BodyError::TooLong.into());
        }
        if self.received > self.limit {
            return Err(Error::TooLarge { length: self.received, limit: self.limit });
        }
        self.piece = piece;
        Ok(())
    }

    /// Bytes still to come that the client declared, or no bound.
    fn left(&self) -> usize {
        let pending = u64::try_from(self.piece.len()).expect("usize fits u64");
        self.declared.map_or(usize::MAX, |declared| {
            usize::try_from(declared - self.received + pending).unwrap_or(usize::MAX)
        })
    }

    /// The next row, full unless the body ends with it; `None` when the body ended before.
    pub(crate) async fn row(&mut self, shape: RowShape) -> Result<Option<FilledRow>, Error> {
        // Only a piece that is there is worth memory; one piece of the front door's own is at hand anyway.
        if !self.has_piece().await? {
            return Ok(None);
        }
        let left = self.left();
        if self.piece.len() == left && left <= STEPS[1] {
            // The usual small body came in one piece.
            let held = self.budget.intake(left).await?;
            let bytes = std::mem::take(&mut self.piece);
            return Ok(Some(FilledRow { bytes, last: true, held }));
        }
        let mut row = Filling::begin(&self.budget, shape, left).await?;
        loop {
            let room = row.step - row.buffer.len();
            // An empty rest would keep the whole buffer alive that the piece was cut from.
            let piece = match self.piece.len() <= room {
                true => std::mem::take(&mut self.piece),
                false => self.piece.split_to(room),
            };
            row.buffer.extend_from_slice(&piece);
            let full = row.buffer.len() == shape.bytes;
            if row.buffer.len() == left || (self.declared.is_none() && full) {
                // With a declared length the end is known; otherwise one piece is looked ahead.
                let last = self.declared.is_some() || !self.has_piece().await?;
                return Ok(Some(row.finish(last)));
            }
            if full {
                return Ok(Some(row.finish(false)));
            }
            if row.buffer.len() == row.step {
                row.grow(&self.budget, shape, left).await?;
            }
            if self.piece.is_empty() && !self.has_more(&mut row).await? {
                return Ok(Some(row.finish(true)));
            }
        }
    }

    /// Waits for a piece, but not for ever where others wait for the memory that is held meanwhile.
    async fn has_more(&mut self, row: &mut Filling) -> Result<bool, Error> {
        if row.step <= STEPS[1] {
            return self.has_piece().await;
        }
        loop {
            match tokio::time::timeout_at(row.deadline, self.has_piece()).await {
                Ok(more) => return more,
                Err(_) if self.budget.rows_are_scarce() => return Err(BodyError::TooSlow.into()),
                Err(_) => row.deadline = Instant::now() + self.budget.patience,
            }
        }
    }

    /// Waits for the end of the stream, which is when the front door has verified what it verifies.
    pub(crate) async fn finish(&mut self) -> Result<(), Error> {
        match self.has_piece().await? {
            true => Err(BodyError::TooLong.into()),
            false => Ok(()),
        }
    }
}

/// A row that is being filled.
struct Filling {
    buffer: BytesMut,
    step: usize,
    held: Held,
    deadline: Instant,
}

impl Filling {
    async fn begin(budget: &WriteBudget, shape: RowShape, left: usize) -> Result<Self, Error> {
        let step = STEPS[0].min(left).min(shape.bytes);
        let held = budget.intake(step).await?;
        Ok(Self {
            buffer: BytesMut::with_capacity(step),
            step,
            held,
            deadline: Instant::now() + budget.patience,
        })
    }

    async fn grow(&mut self, budget: &WriteBudget, shape: RowShape, left: usize) -> Result<(), Error> {
        let most = shape.bytes.min(left);
        let next = STEPS[1].min(most);
        // Never waits for more of the intake while holding some: many could wait so for each other.
        let more = if self.step < next { budget.try_intake(next) } else { None };
        let (step, held) = match more {
            Some(held) => (next, held),
            None => (most, budget.row(most * shape.shards / shape.data).await?),
        };
        let mut larger = BytesMut::with_capacity(step);
        larger.extend_from_slice(&self.buffer);
        (self.buffer, self.step, self.held) = (larger, step, held);
        Ok(())
    }

    fn finish(self, last: bool) -> FilledRow {
        FilledRow { bytes: self.buffer.freeze(), last, held: self.held }
    }
}
