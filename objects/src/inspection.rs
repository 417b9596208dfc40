//! What the store can tell of itself at a moment, page by page: buckets that a caller sees, batches of the log.
//!
//! Invariant: as of the moment, whatever was committed since. The log is public: what is anchored, anybody may read.

use ashlar_metadata::namespace::buckets::{self, BucketRow};
use ashlar_metadata::namespace::log::{self, BatchRow, BatchStage, LogRow};
use ashlar_metadata::{Direction, KeyRange};

use crate::Store;
use crate::access::{Action, Principal, RequestContext};
use crate::error::Error;
use crate::pinning::Moment;
use crate::requests::BucketFacts;
use crate::transaction::{decode, read};
use crate::types::BucketName;

/// Rows read at a time.
const STEP_ROWS: usize = 500;

/// A batch of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBatch {
    /// Its number, from 1.
    pub sequence: u64,
    /// First and last commit position.
    pub positions: (u64, u64),
    /// Number of entries.
    pub entries: u32,
    /// Length of its blob in bytes.
    pub blob_bytes: u64,
    /// When it was sealed, in Unix milliseconds.
    pub sealed_at: u64,
    /// How far it is.
    pub state: BatchState,
    /// Commitment of the data-availability layer, once it vouches for the batch.
    pub commitment: Option<[u8; 32]>,
    /// Chain and registry that it is, or will be, anchored on.
    pub chain_id: u64,
    /// Address of the registry.
    pub registry: [u8; 20],
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    /// Its bytes are fixed.
    Sealed,
    /// The data-availability layer vouches for it.
    Certified,
    /// It is on the chain to stay.
    Anchored,
}

impl Store {
    /// Names of buckets after one, as of a moment: those that the caller owns or may list, or all where `hidden`
    /// are wanted, too: whatever is then done with these is authorised for each. The last name of a page that is
    /// not the last goes into the next call.
    pub async fn buckets_at(
        &self,
        cx: &RequestContext,
        moment: &Moment,
        after: Option<&BucketName>,
        hidden: bool,
    ) -> Result<(Vec<BucketFacts>, Option<BucketName>), Error> {
        let snapshot = moment.snapshot();
        let mut range = KeyRange::prefix(buckets::prefix(""));
        if let Some(after) = after {
            range = range.after(&buckets::key(after));
        }
        let page = snapshot.scan(range, Direction::Forward, STEP_ROWS).await;
        let page = page.map_err(|e| Error::internal("listing buckets", e))?;
        let (mut found, mut last) = (Vec::new(), None);
        for (key, row) in &page.rows {
            let name = buckets::name_of(key)
                .ok_or_else(|| Error::internal("listing buckets", "a key does not read"))?;
            let row = decode::<BucketRow>(row)?.row;
            let owns = match &cx.principal {
                Principal::System => true,
                Principal::User(user) => user.root || row.owner == user.id,
                Principal::Anonymous => false,
            };
            let visible = hidden || owns || {
                let bucket = self.bucket(snapshot, &name).await?;
                self.authorize_bucket(cx, Action::ListBucket, &bucket).is_ok()
            };
            last = Some(name.clone());
            if visible {
                found.push(crate::buckets::lifecycle::facts(name, row));
            }
        }
        Ok((found, last.filter(|_| page.more)))
    }

    /// Batches of the log after one, as of a moment, at most `max`.
    pub async fn batches_at(
        &self,
        moment: &Moment,
        after: u64,
        max: usize,
    ) -> Result<Vec<ListedBatch>, Error> {
        const READING: &str = "reading the log";
        let snapshot = moment.snapshot();
        let Some(of_log) = read::<LogRow>(snapshot, &log::key()).await? else { return Ok(Vec::new()) };
        let range = KeyRange::prefix(log::batches()).after(&log::batch_key(after));
        let page = snapshot.scan(range, Direction::Forward, max).await;
        let page = page.map_err(|e| Error::internal(READING, e))?;
        let batch = |(key, row): &(bytes::Bytes, ashlar_metadata::Row)| {
            let sequence =
                log::parse_batch_key(key).ok_or_else(|| Error::internal(READING, "a key does not read"))?;
            let row = decode::<BatchRow>(row)?.row;
            let (state, commitment) = match row.stage {
                BatchStage::Sealed => (BatchState::Sealed, None),
                BatchStage::Certified { commitment, .. } => (BatchState::Certified, Some(commitment)),
                BatchStage::Settled { commitment, .. } => (BatchState::Anchored, Some(commitment)),
            };
            Ok(ListedBatch {
                sequence,
                positions: row.positions,
                entries: row.entries,
                blob_bytes: row.blob_bytes,
                sealed_at: row.sealed_at,
                state,
                commitment,
                chain_id: of_log.row.chain_id,
                registry: of_log.row.registry,
            })
        };
        page.rows.iter().map(batch).collect()
    }
}
