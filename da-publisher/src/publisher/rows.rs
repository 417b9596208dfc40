//! The log in metadata: sealed batches with their exact bytes, and how far each is.
//!
//! Invariant: every change checks the one [`LogRow`] as it was read, so of two publishers one stops. A batch's bytes
//! go only in the commit that says that it is on the chain to stay.

use std::sync::Arc;

use ashlar_chain::BatchHeader;
use ashlar_metadata::namespace::log::{
    self, BLOB_PAGE_BYTES, BatchRow, BatchStage, LEAVES_PER_PAGE, LeafPage, LogRow, PlaceRow, WalkRow,
};
use ashlar_metadata::namespace::{NamespaceRow, RowError};
use ashlar_metadata::{
    Check, Commit, CommitError, Direction, KeyRange, OrderedKv, Position, ReadError, Write,
};
use bytes::{Bytes, BytesMut};

use super::batch::{LogIdentity, SealedBatch};
use crate::layer::Dispersed;

/// Rows read or deleted at once.
const STEP: usize = 64;

/// The log's rows could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Metadata did not answer.
    #[error("the log's rows cannot be read: {0}")]
    Read(#[from] ReadError),
    /// Corruption, or a newer Ashlar.
    #[error("{0}")]
    Row(#[from] RowError),
    /// Somebody else changed the log: there may be one publisher.
    #[error("another publisher changed the log")]
    Fenced,
    /// Metadata took no commit.
    #[error("the log's rows cannot be changed: {0}")]
    Commit(CommitError),
    /// These rows are of a log on another chain or registry.
    #[error(
        "metadata holds the log of another chain, registry or namespace; it was made with other settings or keys"
    )]
    OtherLog,
    /// Rows contradict each other.
    #[error("batch {sequence} is not whole in metadata: {what}")]
    Broken {
        /// Which.
        sequence: u64,
        /// What is missing.
        what: &'static str,
    },
}

/// A row and the position that wrote it.
#[derive(Clone, Debug)]
pub(super) struct Kept<R> {
    pub(super) row: R,
    pub(super) version: Position,
}

/// Where the log and its walk are. The log's row stands for both: every change of either writes it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) log: Kept<LogRow>,
    pub(super) walk: WalkRow,
}

/// The log's rows.
#[derive(Clone)]
pub(super) struct LogRows {
    kv: Arc<dyn OrderedKv>,
}

impl LogRows {
    pub(super) fn new(kv: Arc<dyn OrderedKv>) -> Self {
        Self { kv }
    }

    /// Where the log is; made if there is none.
    pub(super) async fn open(&self, identity: &LogIdentity) -> Result<State, LogError> {
        let log = self.open_log(identity).await?;
        let walk = self.read::<WalkRow>(&log::walk_key()).await?;
        Ok(State { log, walk: walk.map(|walk| walk.row).unwrap_or_default() })
    }

    async fn open_log(&self, identity: &LogIdentity) -> Result<Kept<LogRow>, LogError> {
        if let Some(found) = self.read::<LogRow>(&log::key()).await? {
            let row = &found.row;
            if (row.chain_id, row.registry, row.namespace)
                != (identity.chain_id, identity.registry, identity.namespace)
            {
                return Err(LogError::OtherLog);
            }
            return Ok(found);
        }
        let row = LogRow {
            chain_id: identity.chain_id,
            registry: identity.registry,
            namespace: identity.namespace,
            sealed: 0,
            header_hash: [0; 32],
            last_position: 0,
            settled: 0,
            settled_position: 0,
        };
        let writes = vec![Write::Put { key: log::key(), value: row.encode() }];
        let version = self.commit(vec![Check::Absent(log::key())], writes).await?;
        Ok(Kept { row, version })
    }

    /// Seals: the batch's rows, and where the log and the walk are now, in one commit.
    pub(super) async fn add(
        &self,
        state: &State,
        batch: &SealedBatch,
        (sealed_at, keep_until): (u64, u64),
        walk: WalkRow,
    ) -> Result<State, LogError> {
        let log = &state.log;
        let header = &batch.header;
        let sequence = header.sequence;
        let row = LogRow {
            sealed: sequence,
            header_hash: header.hash().0,
            last_position: header.last_position,
            ..log.row.clone()
        };
        let batch_row = BatchRow {
            header: header.encode().to_vec(),
            positions: (header.first_position, header.last_position),
            entries: header.entry_count,
            blob_bytes: u64::try_from(batch.blob.len()).expect("usize fits u64"),
            sealed_at,
            keep_until,
            stage: BatchStage::Sealed,
        };
        let mut writes = vec![
            Write::Put { key: log::key(), value: row.encode() },
            Write::Put { key: log::walk_key(), value: walk.encode() },
            Write::Put { key: log::batch_key(sequence), value: batch_row.encode() },
            Write::Put { key: log::place_key(header.last_position), value: PlaceRow { sequence }.encode() },
        ];
        for (page, start) in (0..).zip((0..batch.blob.len()).step_by(BLOB_PAGE_BYTES)) {
            let value = batch.blob.slice(start..batch.blob.len().min(start + BLOB_PAGE_BYTES));
            writes.push(Write::Put { key: log::blob_key(sequence, page), value });
        }
        for (page, leaves) in (0..).zip(batch.digests.chunks(LEAVES_PER_PAGE)) {
            let value = LeafPage(leaves.to_vec()).encode();
            writes.push(Write::Put { key: log::leaves_key(sequence, page), value });
        }
        let version = self.commit(vec![Check::At(log::key(), log.version)], writes).await?;
        Ok(State { log: Kept { row, version }, walk })
    }

    pub(super) async fn batch(&self, sequence: u64) -> Result<Option<Kept<BatchRow>>, LogError> {
        self.read(&log::batch_key(sequence)).await
    }

    /// A batch that must be there, with its header.
    pub(super) async fn sealed(&self, sequence: u64) -> Result<(Kept<BatchRow>, BatchHeader), LogError> {
        let broken = |what| LogError::Broken { sequence, what };
        let batch = self.batch(sequence).await?.ok_or(broken("its row"))?;
        let header = BatchHeader::decode(&batch.row.header).map_err(|_| broken("its header"))?;
        Ok((batch, header))
    }

    /// The bytes of a batch that is not final yet.
    pub(super) async fn blob(&self, sequence: u64, row: &BatchRow) -> Result<Bytes, LogError> {
        let mut blob = BytesMut::new();
        self.each(log::blob_pages(sequence), |_, page| {
            blob.extend_from_slice(&page);
            Ok(())
        })
        .await?;
        if u64::try_from(blob.len()) != Ok(row.blob_bytes) {
            return Err(LogError::Broken { sequence, what: "its blob" });
        }
        Ok(blob.freeze())
    }

    /// Where each entry of a batch is, and its record's digest.
    pub(super) async fn leaves(&self, sequence: u64) -> Result<Vec<(u64, u32, [u8; 32])>, LogError> {
        let mut leaves = Vec::new();
        self.each(log::leaf_pages(sequence), |_, page| {
            leaves.extend(LeafPage::decode(&page)?.0);
            Ok(())
        })
        .await?;
        Ok(leaves)
    }

    /// The batch that a commit position is in, or would be in had it entries.
    pub(super) async fn batch_of(&self, position: u64) -> Result<Option<u64>, LogError> {
        let from = KeyRange { start: log::place_key(position), ..KeyRange::prefix(log::places()) };
        let snapshot = self.kv.snapshot().await?;
        let page = snapshot.scan(from, Direction::Forward, 1).await?;
        let row = page.rows.first().map(|(_, row)| PlaceRow::decode(&row.value)).transpose()?;
        Ok(row.map(|place| place.sequence))
    }

    /// The layer vouches for a batch.
    pub(super) async fn certify(
        &self,
        sequence: u64,
        batch: &Kept<BatchRow>,
        dispersed: &Dispersed,
        keep_until: u64,
    ) -> Result<Kept<BatchRow>, LogError> {
        let (commitment, certificate) = (dispersed.commitment, dispersed.certificate.to_vec());
        let stage = BatchStage::Certified { commitment, certificate };
        let row = BatchRow { stage, keep_until, ..batch.row.clone() };
        let key = log::batch_key(sequence);
        let writes = vec![Write::Put { key: key.clone(), value: row.encode() }];
        let version = self.commit(vec![Check::At(key, batch.version)], writes).await?;
        Ok(Kept { row, version })
    }

    /// A batch is on the chain to stay: its bytes go.
    pub(super) async fn settle(
        &self,
        log: &Kept<LogRow>,
        sequence: u64,
        batch: &Kept<BatchRow>,
    ) -> Result<Kept<LogRow>, LogError> {
        let (commitment, certificate) = match &batch.row.stage {
            BatchStage::Certified { commitment, certificate } => (*commitment, certificate.clone()),
            BatchStage::Settled { .. } | BatchStage::Sealed => {
                return Err(LogError::Broken { sequence, what: "its certificate" });
            }
        };
        let stage = BatchStage::Settled { commitment, certificate };
        let settled = BatchRow { stage, ..batch.row.clone() };
        let row = LogRow { settled: sequence, settled_position: batch.row.positions.1, ..log.row.clone() };
        let key = log::batch_key(sequence);
        let mut writes = vec![
            Write::Put { key: log::key(), value: row.encode() },
            Write::Put { key: key.clone(), value: settled.encode() },
        ];
        self.each(log::blob_pages(sequence), |page, _| {
            writes.push(Write::Delete { key: page });
            Ok(())
        })
        .await?;
        let checks = vec![Check::At(log::key(), log.version), Check::At(key, batch.version)];
        let version = self.commit(checks, writes).await?;
        Ok(Kept { row, version })
    }

    async fn read<R: NamespaceRow>(&self, key: &[u8]) -> Result<Option<Kept<R>>, LogError> {
        let Some(found) = self.kv.get(key).await? else { return Ok(None) };
        Ok(Some(Kept { row: R::decode(&found.value)?, version: found.version }))
    }

    async fn each(
        &self,
        prefix: Bytes,
        mut visit: impl FnMut(Bytes, Bytes) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let snapshot = self.kv.snapshot().await?;
        let mut range = KeyRange::prefix(prefix);
        loop {
            let page = snapshot.scan(range.clone(), Direction::Forward, STEP).await?;
            let last = page.rows.last().map(|(key, _)| key.clone());
            for (key, row) in page.rows {
                visit(key, row.value)?;
            }
            match last {
                Some(last) if page.more => range = range.after(&last),
                _ => return Ok(()),
            }
        }
    }

    /// Commits; that another publisher was faster is an error of its own. An outcome that is not known is settled by
    /// reading the log again, which whoever gets the error does by opening anew.
    async fn commit(&self, checks: Vec<Check>, writes: Vec<Write>) -> Result<Position, LogError> {
        match self.kv.commit(Commit { checks, writes, transaction: None }).await {
            Ok(position) => Ok(position),
            Err(CommitError::Conflict { .. }) => Err(LogError::Fenced),
            Err(error) => Err(LogError::Commit(error)),
        }
    }
}
