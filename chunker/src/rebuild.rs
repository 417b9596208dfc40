//! Rebuilds lost shards from any k others.
//!
//! The code is linear and position-wise, so for a given set of sources every lost shard is one fixed
//! combination of them. The stock decoder, which spends 0.3 ms a call on locating the erasures, is therefore
//! asked once per pattern, for the coefficients; applying them is k multiplications per lost byte pair and
//! knows no rows: any run of 64-byte units, across any number of rows, is one call.
//! What comes out is checked against the leaves; a difference is an alarm of its own.

mod coefficients;
mod plans;

pub use plans::RebuildPlans;

use crate::coding::{CODER_BYTES, Coding, position};
use crate::commitment::{BlockMismatch, CheckedBlocks, ChunkCommitment};
use crate::digest::ChunkRoot;
use crate::id::ShardIndex;
use bytes::Bytes;
use coefficients::coefficients;
use reed_solomon_simd::engine::{DefaultEngine, Engine, GfElement};

/// Bytes multiplied at a time: source, product and result stay in the first-level cache.
const SLICE_BYTES: usize = 4096;

/// The shards cannot be rebuilt from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuilderError {
    /// Fewer than k distinct shards are left.
    #[error("{available} shards are left of a chunk that needs {k}")]
    TooFew {
        /// Distinct shards given.
        available: usize,
        /// Shards needed.
        k: u8,
    },
    /// The chunk has no such shard.
    #[error("no shard {shard} in the chunk")]
    NoSuchShard {
        /// The shard named.
        shard: ShardIndex,
    },
}

/// The cells given are not what the rebuilder was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildSources {
    /// Not one input per source.
    #[error("{found} sources given, {expected} needed")]
    Count {
        /// k.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// Inputs of different lengths, or no multiple of 64.
    #[error("sources of {length} bytes, where the first has {first}: must be equal multiples of 64")]
    Length {
        /// Length of the first input.
        first: usize,
        /// Length of the one at fault.
        length: usize,
    },
    /// The blocks given lack the source at this place in the order, or cover another run.
    #[error("no blocks of shard {shard} that match the first source's run")]
    Run {
        /// The source.
        shard: ShardIndex,
    },
    /// The rebuilder was made for another coding.
    #[error("a rebuilder for {rebuilder}, a chunk of {chunk}")]
    Coding {
        /// Coding of the rebuilder.
        rebuilder: Coding,
        /// Coding of the chunk.
        chunk: Coding,
    },
    /// Blocks that were checked against another chunk.
    #[error("blocks of chunk {found} given for chunk {expected}")]
    OtherChunk {
        /// The chunk to rebuild.
        expected: ChunkRoot,
        /// The chunk of the blocks.
        found: ChunkRoot,
    },
}

/// Checked sources gave a block that its own leaf denies: the chunk was committed with shards that are not
/// code words of each other. An alarm, never an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rebuilt block {block} of shard {shard} of chunk {chunk} contradicts its leaf")]
pub struct RebuildContradiction {
    /// The chunk.
    pub chunk: ChunkRoot,
    /// The shard that was rebuilt.
    pub shard: ShardIndex,
    /// Its first block that differs.
    pub block: u32,
}

/// Checked blocks of the lost shards could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// The sources do not fit.
    #[error(transparent)]
    Sources(#[from] RebuildSources),
    /// The result contradicts the commitment.
    #[error(transparent)]
    Contradiction(#[from] RebuildContradiction),
    /// The leaf table of a lost shard was left out when the commitment was checked.
    #[error(transparent)]
    Leaves(BlockMismatch),
}

/// Rebuilds a fixed set of lost shards from a fixed set of k sources. Costs one decoder call to make (0.3 ms
/// unless k = 1) and little to use: keep it, or ask [`RebuildPlans`].
pub struct Rebuilder {
    coding: Coding,
    sources: Vec<ShardIndex>,
    wanted: Vec<ShardIndex>,
    /// Per wanted shard, per source: the coefficient's logarithm, or `None` where it is zero.
    coefficients: Vec<Vec<Option<GfElement>>>,
    engine: DefaultEngine,
}

impl Rebuilder {
    /// Plans the rebuilding of `wanted` from the first k of `available` in shard order, so data before parity.
    /// `wanted` may name shards that are available: they are copied from there or computed alike.
    pub fn new(
        coding: Coding,
        available: &[ShardIndex],
        wanted: &[ShardIndex],
    ) -> Result<Self, RebuilderError> {
        let (sources, wanted) = normalised(coding, available, wanted)?;
        let coefficients = coefficients(coding, &sources, &wanted);
        Ok(Self { coding, sources, wanted, coefficients, engine: DefaultEngine::new() })
    }

    /// The k shards to give to [`rebuild`](Self::rebuild), in that order.
    pub fn sources(&self) -> &[ShardIndex] {
        &self.sources
    }

    /// The shards that it gives back, in that order: sorted, each once.
    pub fn wanted(&self) -> &[ShardIndex] {
        &self.wanted
    }

    /// Rebuilds equal ranges of the wanted shards from such ranges of the sources, in the order of
    /// [`sources`](Self::sources); the ranges begin and end at multiples of 64 bytes of the shard and may span
    /// rows. The result is *not* checked.
    pub fn rebuild(&self, sources: &[Bytes]) -> Result<Vec<Bytes>, RebuildSources> {
        if sources.len() != self.sources.len() {
            return Err(RebuildSources::Count { expected: self.sources.len(), found: sources.len() });
        }
        let first = sources[0].len();
        let fits =
            |source: &Bytes| source.len() == first && source.len().is_multiple_of(position(CODER_BYTES));
        if let Some(bad) = sources.iter().find(|source| !fits(source)) {
            return Err(RebuildSources::Length { first, length: bad.len() });
        }
        let rebuilt = self.coefficients.iter().map(|row| match only_source(row) {
            Some(source) => sources[source].clone(),
            None => self.combine(row, sources, first).into(),
        });
        Ok(rebuilt.collect())
    }

    /// The sum of the sources, each times its coefficient.
    fn combine(&self, row: &[Option<GfElement>], sources: &[Bytes], length: usize) -> Vec<u8> {
        let mut combined = Vec::with_capacity(length);
        let (mut sum, mut product) = ([[0; 64]; SLICE_BYTES / 64], [[0; 64]; SLICE_BYTES / 64]);
        while combined.len() < length {
            let slice = combined.len()..length.min(combined.len() + SLICE_BYTES);
            let sum = &mut sum[..slice.len() / 64];
            let product = &mut product[..slice.len() / 64];
            sum.fill([0; 64]);
            for (source, log) in sources.iter().zip(row).filter_map(|(source, log)| Some((source, (*log)?))) {
                product.as_flattened_mut().copy_from_slice(&source[slice.clone()]);
                if log != 0 {
                    self.engine.mul(product, log);
                }
                let bytes = sum.as_flattened_mut().iter_mut().zip(product.as_flattened());
                bytes.for_each(|(sum, byte)| *sum ^= byte);
            }
            combined.extend_from_slice(sum.as_flattened());
        }
        combined
    }
}

/// The source that a wanted shard equals: its only coefficient is one.
fn only_source(row: &[Option<GfElement>]) -> Option<usize> {
    let mut used = row.iter().enumerate().filter_map(|(source, log)| Some((source, (*log)?)));
    match (used.next(), used.next()) {
        (Some((source, 0)), None) => Some(source),
        _ => None,
    }
}

/// The first k available shards and the wanted ones, sorted, each once.
fn normalised(
    coding: Coding,
    available: &[ShardIndex],
    wanted: &[ShardIndex],
) -> Result<(Vec<ShardIndex>, Vec<ShardIndex>), RebuilderError> {
    if let Some(&shard) = available.iter().chain(wanted).find(|shard| !coding.contains(**shard)) {
        return Err(RebuilderError::NoSuchShard { shard });
    }
    let sorted = |shards: &[ShardIndex]| {
        let mut shards = shards.to_vec();
        shards.sort_unstable();
        shards.dedup();
        shards
    };
    let mut sources = sorted(available);
    if sources.len() < usize::from(coding.k()) {
        return Err(RebuilderError::TooFew { available: sources.len(), k: coding.k() });
    }
    sources.truncate(usize::from(coding.k()));
    Ok((sources, sorted(wanted)))
}

impl ChunkCommitment {
    /// Rebuilds the same run of blocks of every shard that `rebuilder` wants, from checked blocks of its
    /// sources (in any order, others are ignored), and checks the result against the leaves.
    pub fn rebuild(
        &self,
        rebuilder: &Rebuilder,
        blocks: &[CheckedBlocks],
    ) -> Result<Vec<CheckedBlocks>, RebuildError> {
        let chunk = self.layout().coding();
        if chunk != rebuilder.coding {
            return Err(RebuildSources::Coding { rebuilder: rebuilder.coding, chunk }.into());
        }
        let runs = self.runs_of_sources(rebuilder, blocks)?;
        if chunk.is_copies() {
            return Ok(rebuilder.wanted.iter().map(|shard| runs[0].copied_to(*shard)).collect());
        }
        let sources: Vec<_> = runs.iter().map(|run| run.bytes().clone()).collect();
        let first_block = runs[0].first_block();
        let rebuilt = rebuilder.rebuild(&sources)?;
        let checked = rebuilder.wanted.iter().zip(rebuilt).map(|(shard, bytes)| {
            self.verify(*shard, first_block, bytes).map_err(|mismatch| match mismatch {
                BlockMismatch::Digest { shard, block } => {
                    RebuildContradiction { chunk: self.root(), shard, block }.into()
                }
                other => RebuildError::Leaves(other),
            })
        });
        checked.collect()
    }

    fn runs_of_sources<'a>(
        &self,
        rebuilder: &Rebuilder,
        blocks: &'a [CheckedBlocks],
    ) -> Result<Vec<&'a CheckedBlocks>, RebuildSources> {
        let mut runs: Vec<&CheckedBlocks> = Vec::with_capacity(rebuilder.sources.len());
        for &shard in &rebuilder.sources {
            let run = blocks.iter().find(|run| run.shard() == shard).ok_or(RebuildSources::Run { shard })?;
            if run.chunk_root() != self.root() {
                return Err(RebuildSources::OtherChunk { expected: self.root(), found: run.chunk_root() });
            }
            if runs.first().is_some_and(|first| first.range() != run.range()) {
                return Err(RebuildSources::Run { shard });
            }
            runs.push(run);
        }
        Ok(runs)
    }
}
