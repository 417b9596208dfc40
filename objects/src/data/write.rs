//! A body becomes a blob: rows are received, coded and stored side by side, with one row in each stage.
//!
//! A small body (one chunk of one row) takes a short way: coded in place, one put a node, no task and, below
//! 32 KiB, no other thread. Dropping the write at any await drops its shard writers; what was sealed already
//! is an orphan, which the collector may take as soon as the blob's guard is gone.

use std::sync::Arc;

use ashlar_chunker::{BlobCommitment, CHUNK_BYTES, ChunkBuilder, ChunkCommitment, Coding, encode_chunk};
use ashlar_metadata::Check;
use ashlar_metadata::namespace::blobs::{BlobId, BlobRow, CHUNKS_PER_PAGE, ChunkPage, ChunkRef};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use md5_many::Md5State;
use tokio::sync::mpsc;

use super::Inner;
use super::chunk_writer::{ChunkWriter, cells_of_shard};
use super::cluster::ChunkPlan;
use super::digests::{DigestRequest, DigestValues, Digests};
use super::intake::{FilledRow, Held, Intake, RowShape};
use super::session::InFlightGuard;
use crate::error::Error;
use crate::requests::BodyStream;

/// Bytes that are coded and hashed where they are; more goes to the CPU pool.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Chunks of one blob that may be waiting for their last sync.
const CHUNKS_SEALING_MAX: usize = 2;

/// A blob whose shards are all durable, and which nothing refers to yet.
pub(crate) struct StoredBlob {
    /// Its id.
    pub(crate) id: BlobId,
    /// Its row, page 0 of the chunks included.
    pub(crate) row: BlobRow,
    /// Pages 1, 2, … of the chunks.
    pub(crate) further_pages: Vec<ChunkPage>,
    /// Commitment to its chunks.
    pub(crate) blob_root: [u8; 32],
    /// BLAKE3 of the plain bytes.
    pub(crate) blake3: [u8; 32],
    /// MD5 of the plain bytes; zero when it was not asked for.
    pub(crate) md5: [u8; 16],
    /// The checksum asked for, raw and big-endian.
    pub(crate) checksum: Option<Vec<u8>>,
    /// Belongs into the commit that makes the blob reachable.
    pub(crate) session_check: Check,
    /// Keeps the shards from being collected until that commit has been decided.
    pub(crate) in_flight: Arc<InFlightGuard>,
}

/// A row between intake and coder.
struct RawRow {
    bytes: Bytes,
    held: Held,
    /// Set on the first row of a chunk.
    plan: Option<ChunkPlan>,
    ends_chunk: bool,
}

/// A row between coder and nodes.
struct CodedRow {
    cells: Vec<Bytes>,
    held: Held,
    plan: Option<ChunkPlan>,
    /// Set on the last row of a chunk.
    commitment: Option<ChunkCommitment>,
}

/// What goes to the CPU pool and back with each row.
struct Coder {
    builder: ChunkBuilder,
    digests: Box<Digests>,
    blob: BlobCommitment,
}

impl Coder {
    fn code(&mut self, row: &RawRow) -> Result<(Vec<Bytes>, Option<ChunkCommitment>), Error> {
        const CODING: &str = "coding a row";
        if let Some(plan) = &row.plan
            && plan.coding.row_bytes() != self.builder.row_bytes()
        {
            self.builder = ChunkBuilder::new(plan.coding);
        }
        let coded = self.builder.push_row(row.bytes.clone()).map_err(|e| Error::internal(CODING, e))?;
        self.digests.update(&row.bytes);
        let commitment = if row.ends_chunk {
            let commitment = self.builder.finish().map_err(|e| Error::internal(CODING, e))?;
            let length = commitment.layout().chunk_len();
            self.blob.push(commitment.root(), length).map_err(|e| Error::internal(CODING, e))?;
            Some(commitment)
        } else {
            None
        };
        Ok((coded.cells, commitment))
    }
}

fn row_shape(coding: Coding, chunk_len: u32) -> RowShape {
    let bytes = coding.row_bytes().min(CHUNK_BYTES - chunk_len);
    RowShape {
        bytes: usize::try_from(bytes).expect("u32 fits usize"),
        data: usize::from(coding.k()),
        shards: usize::from(coding.shards()),
    }
}

impl Inner {
    pub(super) async fn write_blob(
        self: &Arc<Self>,
        stream: BodyStream,
        declared: Option<u64>,
        limit: u64,
        digests: DigestRequest,
    ) -> Result<StoredBlob, Error> {
        if self.session.is_fenced() {
            return Err(Error::SlowDown { what: "this process was fenced by another and must be restarted" });
        }
        let in_flight = self.session.begin_blob();
        let blob = in_flight.blob();
        let mut intake = Intake::new(stream, declared, limit, self.write_budget.clone())?;
        let plan = self.sink.cluster.plan(blob.chunk(0), &[])?;
        let Some(first) = intake.row(row_shape(plan.coding, 0)).await? else {
            let values = Digests::new(digests).finish()?;
            return Ok(self.stored(in_flight, Vec::new(), &BlobCommitment::new(), values));
        };
        if first.last {
            intake.finish().await?;
            return self.write_one_row(in_flight, plan, first, digests).await;
        }
        Box::pin(self.write_rows(in_flight, plan, intake, first, digests)).await
    }

    fn stored(
        &self,
        in_flight: InFlightGuard,
        mut chunks: Vec<ChunkRef>,
        blob: &BlobCommitment,
        digests: DigestValues,
    ) -> StoredBlob {
        let page = usize::try_from(CHUNKS_PER_PAGE).expect("u32 fits usize");
        let further = chunks.split_off(page.min(chunks.len()));
        let row = BlobRow { length: blob.length(), chunk_count: blob.chunk_count(), chunks };
        StoredBlob {
            id: super::row_id(in_flight.blob()),
            row,
            further_pages: further.chunks(page).map(|chunks| ChunkPage(chunks.to_vec())).collect(),
            blob_root: *blob.root().as_bytes(),
            blake3: *digests.content.as_bytes(),
            md5: digests.md5,
            checksum: digests.checksum,
            session_check: self.session.check(),
            in_flight: Arc::new(in_flight),
        }
    }

    /// A body of one row: one put a node.
    async fn write_one_row(
        &self,
        in_flight: InFlightGuard,
        plan: ChunkPlan,
        row: FilledRow,
        request: DigestRequest,
    ) -> Result<StoredBlob, Error> {
        let FilledRow { bytes, held, .. } = row;
        let small = bytes.len() <= INLINE_BYTES_MAX;
        let coding = plan.coding;
        let mut digests = Digests::new(request);
        let md5 = if small { None } else { digests.take_md5() };
        let md5 = self.update_md5(md5, bytes.clone());
        let work = move || {
            digests.update(&bytes);
            let encoded = encode_chunk(coding, bytes).map_err(|e| Error::internal("coding a chunk", e));
            (encoded, digests)
        };
        let (encoded, digests) = if small {
            work()
        } else {
            let ((encoded, mut digests), md5) = tokio::try_join!(self.cpu.run(work), md5)?;
            digests.put_md5(md5);
            (encoded, digests)
        };
        let (encoded, digests) = (encoded?, digests.finish()?);
        let mut blob = BlobCommitment::new();
        let length = encoded.commitment.layout().chunk_len();
        let pushed = blob.push(encoded.commitment.root(), length);
        pushed.map_err(|e| Error::internal("committing to a blob", e))?;
        let shards = encoded.commitment.layout().coding().shard_indices();
        let shards = shards.map(|shard| cells_of_shard(&encoded, shard)).collect();
        let chunk = self.sink.put(plan, encoded.commitment, shards).await?;
        drop(held);
        Ok(self.stored(in_flight, vec![chunk], &blob, digests))
    }

    /// The MD5 of a body after `bytes`, where one is asked for.
    async fn update_md5(&self, md5: Option<Md5State>, bytes: Bytes) -> Result<Option<Md5State>, Error> {
        match md5 {
            Some(md5) => self.md5_lanes.update(md5, bytes).await.map(Some),
            None => Ok(None),
        }
    }

    /// A longer body: three stages in one task, one row on its way between each two.
    async fn write_rows(
        self: &Arc<Self>,
        in_flight: InFlightGuard,
        plan: ChunkPlan,
        mut intake: Intake,
        first: FilledRow,
        request: DigestRequest,
    ) -> Result<StoredBlob, Error> {
        let (raw_in, raw_out) = mpsc::channel(1);
        let (coded_in, coded_out) = mpsc::channel(1);
        let coder = Coder {
            builder: ChunkBuilder::new(plan.coding),
            digests: Digests::new(request),
            blob: BlobCommitment::new(),
        };
        let ((), coder, chunks) = tokio::try_join!(
            self.receive(in_flight.blob(), plan, &mut intake, first, raw_in),
            self.code(coder, raw_out, coded_in),
            self.store(coded_out),
        )?;
        let Coder { digests, blob, .. } = coder;
        Ok(self.stored(in_flight, chunks, &blob, digests.finish()?))
    }

    /// First stage: rows from the body, each chunk planned as it begins.
    async fn receive(
        &self,
        blob: ashlar_chunker::BlobId,
        plan: ChunkPlan,
        intake: &mut Intake,
        first: FilledRow,
        rows: mpsc::Sender<RawRow>,
    ) -> Result<(), Error> {
        let mut coding = plan.coding;
        let mut index = 0;
        let mut chunk_len = 0;
        let mut plan = Some(plan);
        let mut next = Some(first);
        while let Some(FilledRow { bytes, last, held }) = next {
            chunk_len += u32::try_from(bytes.len()).expect("a row is within a chunk");
            let ends_chunk = last || chunk_len == CHUNK_BYTES;
            let row = RawRow { bytes, held, plan: plan.take(), ends_chunk };
            if rows.send(row).await.is_err() {
                // A later stage has failed and its error ends all three.
                return Ok(());
            }
            if last {
                break;
            }
            if ends_chunk {
                index += 1;
                chunk_len = 0;
                let next_plan = self.sink.cluster.plan(blob.chunk(index), &[])?;
                coding = next_plan.coding;
                plan = Some(next_plan);
            }
            next = intake.row(row_shape(coding, chunk_len)).await?;
        }
        intake.finish().await
    }

    /// Second stage: parity, leaves and digests, one hop to the CPU pool a row, the MD5 beside it.
    async fn code(
        &self,
        mut coder: Coder,
        mut rows: mpsc::Receiver<RawRow>,
        coded: mpsc::Sender<CodedRow>,
    ) -> Result<Coder, Error> {
        let mut md5 = coder.digests.take_md5();
        while let Some(row) = rows.recv().await {
            let hashing = self.update_md5(md5, row.bytes.clone());
            let work = move || {
                let coded = coder.code(&row);
                (coder, row, coded)
            };
            let ((returned, row, result), hashed) = tokio::try_join!(self.cpu.run(work), hashing)?;
            (coder, md5) = (returned, hashed);
            let RawRow { held, plan, .. } = row;
            let (cells, commitment) = result?;
            if coded.send(CodedRow { cells, held, plan, commitment }).await.is_err() {
                break;
            }
        }
        coder.digests.put_md5(md5);
        Ok(coder)
    }

    /// Third stage: cells to nodes; the last syncs of a chunk overlap the next chunk's cells.
    async fn store(&self, mut rows: mpsc::Receiver<CodedRow>) -> Result<Vec<ChunkRef>, Error> {
        let mut chunks = Vec::new();
        let mut sealing = FuturesOrdered::new();
        let mut writing: Option<ChunkWriter> = None;
        loop {
            let row = tokio::select! {
                biased;
                Some(sealed) = sealing.next() => {
                    chunks.push(sealed?);
                    continue;
                }
                row = rows.recv(), if sealing.len() < CHUNKS_SEALING_MAX => row,
            };
            let Some(CodedRow { cells, held, plan, commitment }) = row else { break };
            match (plan, commitment, writing.take()) {
                (Some(plan), Some(commitment), None) => {
                    let coding = commitment.layout().coding();
                    let shards = cells.into_iter().take(usize::from(coding.shards())).map(|cell| vec![cell]);
                    let put = self.sink.put(plan, commitment, shards.collect());
                    sealing.push_back(futures::future::Either::Left(async move {
                        let chunk = put.await;
                        drop(held);
                        chunk
                    }));
                }
                (plan, commitment, open) => {
                    let mut writer = match (plan, open) {
                        (Some(plan), _) => {
                            let shard_bytes = CHUNK_BYTES.div_ceil(u32::from(plan.coding.k()));
                            self.sink.begin(plan, shard_bytes.next_multiple_of(64)).await
                        }
                        (None, Some(open)) => open,
                        (None, None) => {
                            return Err(Error::internal("storing a row", "its chunk was not begun"));
                        }
                    };
                    self.sink.write_row(&mut writer, cells).await?;
                    drop(held);
                    match commitment {
                        Some(commitment) => {
                            sealing.push_back(futures::future::Either::Right(
                                self.sink.seal(writer, commitment),
                            ));
                        }
                        None => writing = Some(writer),
                    }
                }
            }
        }
        while let Some(sealed) = sealing.next().await {
            chunks.push(sealed?);
        }
        Ok(chunks)
    }
}
