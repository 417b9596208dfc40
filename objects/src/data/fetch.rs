//! One byte range of one chunk: data shards where they are well, any k shards where not.
//!
//! Invariant: only [`CheckedBlocks`] are assembled, and each block that arrived is checked once. A shard that
//! is missing, damaged, silent or slow is left out and, when it is at fault, reported for repair; the range is
//! then rebuilt from k others over the same run of blocks. A contradiction is an alarm and gives no bytes.

use std::ops::Range;
use std::sync::Arc;

use ashlar_chunker::{
    CheckedBlocks, ChunkCommitment, ChunkId, ChunkLayout, ChunkRoot, Coding, ShardIndex, ShardRange,
    UncheckedCommitment,
};
use ashlar_metadata::namespace::blobs::ChunkRef;
use ashlar_storage_node::{BlockRange, ReadError, Verify};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Inner;
use super::nodes::Node;
use super::rebuild::{SourceFault, rebuild_failed};
use crate::error::Error;

/// Bytes of a rebuild that are computed where they are; more goes to the CPU pool.
const INLINE_REBUILD_BYTES_MAX: usize = 64 << 10;

/// A node's answer.
struct Arrival {
    shard: ShardIndex,
    run: Range<u32>,
    begun: Instant,
    answer: Result<(Bytes, Option<Bytes>), ReadError>,
}

/// What is known of a shard during one fetch.
#[derive(Clone, Debug, PartialEq)]
enum Shard {
    Unasked,
    Asked {
        run: Range<u32>,
        footer: bool,
        /// Asked so long ago that others were asked too.
        slow: bool,
    },
    /// Bytes came, but there is no commitment to check them with yet.
    Parked {
        run: Range<u32>,
    },
    Checked {
        run: Range<u32>,
    },
    Bad,
}

struct Fetch<'a> {
    data: &'a Inner,
    chunk: ChunkId,
    root: ChunkRoot,
    layout: ChunkLayout,
    nodes: Vec<Option<Arc<Node>>>,
    /// Known to be missing or damaged, some of it perhaps elsewhere than where this reads: asked last.
    known_bad: Vec<bool>,
    needs: Vec<ShardRange>,
    /// The run that covers every need: what rebuilding reads of each source.
    hull: Range<u32>,
    shards: Vec<Shard>,
    /// Shards in the order in which they are asked when any will do.
    order: Vec<usize>,
    parked: Vec<(ShardIndex, u32, Bytes)>,
    checked: Vec<CheckedBlocks>,
    commitment: Option<ChunkCommitment>,
    degraded: bool,
}

impl Inner {
    /// The bytes `range` of a chunk, in pieces, all checked.
    pub(super) async fn fetch(
        &self,
        chunk: ChunkId,
        at: &ChunkRef,
        range: Range<u32>,
    ) -> Result<Vec<Bytes>, Error> {
        let layout = layout_of(at)?;
        let located = self.sink.cluster.locate(chunk, at).await?;
        let mut fetch = Fetch::new(self, chunk, at, layout, located, range.clone());
        fetch.run().await?;
        let commitment = fetch.commitment.as_ref().expect("nothing is checked without a commitment");
        commitment.assemble(range, &fetch.checked).map_err(|e| Error::internal("putting a range together", e))
    }
}

/// The layout that metadata gives a chunk.
pub(crate) fn layout_of(at: &ChunkRef) -> Result<ChunkLayout, Error> {
    const ROW: &str = "reading a chunk's row";
    let coding = Coding::new(at.k, at.m).map_err(|e| Error::internal(ROW, e))?;
    ChunkLayout::new(at.length, coding).map_err(|e| Error::internal(ROW, e))
}

impl<'a> Fetch<'a> {
    fn new(
        data: &'a Inner,
        chunk: ChunkId,
        at: &ChunkRef,
        layout: ChunkLayout,
        located: Vec<Option<u16>>,
        range: Range<u32>,
    ) -> Self {
        let root = ChunkRoot::from(at.root);
        let needs = layout.shard_ranges(range);
        let start = needs.iter().map(|need| need.blocks.start).min().unwrap_or(0);
        let end = needs.iter().map(|need| need.blocks.end).max().unwrap_or(0);
        let nodes: Vec<Option<Arc<Node>>> = located
            .iter()
            .map(|node| node.and_then(|node| data.sink.cluster.nodes.get(node)).cloned())
            .collect();
        let known_bad: Vec<bool> = (0..=u8::MAX)
            .zip(&nodes)
            .map(|(shard, _)| data.repairs.is_known_bad(chunk.shard(ShardIndex(shard))))
            .collect();
        let shards =
            nodes.iter().map(|node| if node.is_some() { Shard::Unasked } else { Shard::Bad }).collect();
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        if layout.coding().is_copies() {
            // Any copy will do: spread the load.
            order.rotate_left(data.next_copy(nodes.len()));
        }
        let is_suspect = |shard: usize| nodes[shard].as_ref().is_some_and(|node| node.is_suspect());
        order.sort_by_key(|shard| (known_bad[*shard], is_suspect(*shard)));
        Self {
            data,
            chunk,
            root,
            layout,
            needs,
            hull: start..end,
            shards,
            order,
            parked: Vec::new(),
            checked: Vec::with_capacity(nodes.len()),
            nodes,
            known_bad,
            commitment: data.commitments.get(chunk, &root),
            degraded: false,
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        if self.needs.is_empty() {
            return Err(Error::internal("reading a chunk", "an empty range"));
        }
        let mut reads = FuturesUnordered::new();
        let begun = Instant::now();
        let mut deadline = begun + self.data.config.read_timeout;
        let mut hedge = Some(begun + self.data.hedges.delay());
        loop {
            if self.is_plain() || self.rebuild().await? {
                return Ok(());
            }
            for (shard, run, footer) in self.wanted()? {
                let node =
                    Arc::clone(self.nodes[shard.position()].as_ref().expect("a bad shard is not asked"));
                self.data.hedges.read_begun();
                reads.push(ask(node, self.chunk, shard, run, footer));
            }
            tokio::select! {
                biased;
                Some(arrival) = reads.next() => self.arrived(arrival),
                () = tokio::time::sleep_until(hedge.unwrap_or(deadline)) => match hedge.take() {
                    Some(_) => self.hedge(),
                    None => {
                        self.give_up_on_silent()?;
                        deadline = Instant::now() + self.data.config.read_timeout;
                    }
                },
            }
        }
    }

    /// Whether every data block needed is there and checked.
    fn is_plain(&self) -> bool {
        let has = |state: &Shard, blocks: &Range<u32>| match state {
            Shard::Checked { run } => run.start <= blocks.start && blocks.end <= run.end,
            _ => false,
        };
        if self.layout.coding().is_copies() {
            return self.shards.iter().any(|state| has(state, &self.hull));
        }
        self.needs.iter().all(|need| has(&self.shards[need.shard.position()], &need.blocks))
    }

    fn is_whole(&self, state: &Shard) -> bool {
        matches!(state, Shard::Checked { run } if *run == self.hull)
    }

    /// Rebuilds what is needed and not there, once k shards are there over the whole run.
    async fn rebuild(&mut self) -> Result<bool, Error> {
        let coding = self.layout.coding();
        let whole = |state: &Shard| self.is_whole(state);
        if coding.is_copies() || self.shards.iter().filter(|s| whole(s)).count() < usize::from(coding.k()) {
            return Ok(false);
        }
        let is_whole = |shard: &ShardIndex| whole(&self.shards[shard.position()]);
        let available: Vec<ShardIndex> = coding.shard_indices().filter(is_whole).collect();
        let needed = self.needs.iter().map(|need| need.shard);
        let wanted: Vec<ShardIndex> = needed.filter(|shard| !is_whole(shard)).collect();
        let hull = self.layout.blocks_range(self.hull.clone());
        let sources: Vec<CheckedBlocks> =
            self.checked.iter().filter(|run| run.range() == hull).cloned().collect();
        let commitment = self.take_commitment(&wanted)?;
        let bytes = sources.iter().map(|run| run.bytes().len()).sum::<usize>();
        let (plans, chunk) = (Arc::clone(&self.data.sink.rebuilding.plans), self.chunk);
        let work = move || {
            let plan = plans
                .get(coding, &available, &wanted)
                .map_err(|e| Error::internal("planning a rebuild", e))?;
            commitment.rebuild(&plan, &sources).map_err(|e| rebuild_failed(chunk, e))
        };
        let rebuilt =
            if bytes <= INLINE_REBUILD_BYTES_MAX { work() } else { self.data.cpu.run(work).await? };
        let rebuilt = rebuilt.inspect_err(|_| self.data.counters.contradictions.add(1))?;
        for run in rebuilt {
            // Runs shorter than the rebuilt one give way, so that no byte is there twice.
            self.checked.retain(|other| other.shard() != run.shard());
            self.shards[run.shard().position()] = Shard::Checked { run: self.hull.clone() };
            self.checked.push(run);
        }
        self.data.counters.degraded_reads.add(1);
        Ok(true)
    }

    /// The commitment with the leaf tables of these shards checked too.
    fn take_commitment(&mut self, shards: &[ShardIndex]) -> Result<ChunkCommitment, Error> {
        let commitment = self.commitment.as_ref().expect("nothing is checked without a commitment");
        let checked = commitment.clone().check_more(shards);
        let checked = checked.map_err(|e| Error::internal("checking a commitment's tables", e))?;
        Ok(self.commitment.insert(checked).clone())
    }

    /// Which reads to begin now. An error when no set of shards can be had any more.
    fn wanted(&mut self) -> Result<Vec<(ShardIndex, Range<u32>, bool)>, Error> {
        let coding = self.layout.coding();
        self.ask_footer_again();
        if !coding.is_copies() && !self.degraded {
            let well = |need: &ShardRange| match &self.shards[need.shard.position()] {
                Shard::Bad | Shard::Asked { slow: true, .. } => false,
                Shard::Unasked => {
                    let shard = need.shard.position();
                    let is_suspect = self.nodes[shard].as_ref().is_some_and(|node| node.is_suspect());
                    !self.known_bad[shard] && !is_suspect
                }
                _ => true,
            };
            if self.needs.iter().all(well) {
                let needs: Vec<_> = self.needs.iter().map(|need| (need.shard, need.blocks.clone())).collect();
                return Ok(needs
                    .into_iter()
                    .filter_map(|(shard, run)| self.ask_unasked(shard, run))
                    .collect());
            }
            self.degraded = true;
        }
        let useful = |state: &Shard| match state {
            Shard::Asked { run, slow, .. } => !slow && *run == self.hull,
            Shard::Parked { run } | Shard::Checked { run } => *run == self.hull,
            Shard::Unasked | Shard::Bad => false,
        };
        let mut missing =
            usize::from(coding.k()).saturating_sub(self.shards.iter().filter(|s| useful(s)).count());
        let mut begun = Vec::with_capacity(missing);
        for shard in self.order.clone() {
            if missing == 0 {
                break;
            }
            let askable = match &self.shards[shard] {
                Shard::Unasked => true,
                // A shorter run was read when all seemed well; a rebuild needs the whole one.
                Shard::Checked { run } => *run != self.hull,
                Shard::Parked { .. } | Shard::Asked { .. } | Shard::Bad => false,
            };
            if askable {
                self.shards[shard] = Shard::Unasked;
                let index = ShardIndex(u8::try_from(shard).expect("a chunk has at most 64 shards"));
                self.checked.retain(|run| run.shard() != index);
                begun.extend(self.ask_unasked(index, self.hull.clone()));
                missing -= 1;
            }
        }
        let waiting = |state: &Shard| matches!(state, Shard::Asked { .. });
        if missing > 0 && !self.shards.iter().any(waiting) {
            return Err(Error::Unreadable { chunk: self.chunk });
        }
        Ok(begun)
    }

    fn ask_unasked(&mut self, shard: ShardIndex, run: Range<u32>) -> Option<(ShardIndex, Range<u32>, bool)> {
        if self.shards[shard.position()] != Shard::Unasked {
            return None;
        }
        let on_its_way = |state: &Shard| matches!(state, Shard::Asked { footer: true, slow: false, .. });
        let footer = self.commitment.is_none() && !self.shards.iter().any(on_its_way);
        self.shards[shard.position()] = Shard::Asked { run: run.clone(), footer, slow: false };
        Some((shard, run, footer))
    }

    fn arrived(&mut self, Arrival { shard, run, begun, answer }: Arrival) {
        if self.shards[shard.position()] == Shard::Bad {
            return;
        }
        let node = Arc::clone(self.nodes[shard.position()].as_ref().expect("a bad shard is not asked"));
        match answer {
            Ok((bytes, footer)) => {
                node.succeeded();
                self.data.hedges.read_took(begun.elapsed());
                if let Some(footer) = footer
                    && self.commitment.is_none()
                {
                    let Some(commitment) = self.check_footer(&footer) else {
                        return self.at_fault(shard, &node, SourceFault::Corrupt);
                    };
                    self.data.commitments.put(self.chunk, commitment.clone());
                    self.commitment = Some(commitment);
                }
                self.shards[shard.position()] = Shard::Parked { run: run.clone() };
                self.parked.push((shard, run.start, bytes));
                if self.commitment.is_some() {
                    self.check_parked();
                }
            }
            Err(error) => {
                node.read_failed(&error);
                self.at_fault(shard, &node, SourceFault::from(&error).on(&node));
            }
        }
    }

    /// The footer as a commitment, every table checked: one that is damaged anywhere is not kept, or it
    /// would make sound shards of other nodes look bad when their tables are needed. A copy, because what
    /// is kept must not hold the whole read that it came with in memory.
    fn check_footer(&self, footer: &[u8]) -> Option<ChunkCommitment> {
        UncheckedCommitment::decode(footer).ok()?.check(&self.root).ok()
    }

    fn check_parked(&mut self) {
        for (shard, first_block, bytes) in std::mem::take(&mut self.parked) {
            let knew = self.commitment.as_ref().is_some_and(|known| known.leaves(shard).is_some());
            let Ok(commitment) = self.take_commitment(&[shard]) else {
                // The kept footer is right but for this shard's table: the others do without it.
                self.shards[shard.position()] = Shard::Bad;
                continue;
            };
            if !knew {
                self.data.commitments.put(self.chunk, commitment.clone());
            }
            let state = &mut self.shards[shard.position()];
            match (commitment.verify(shard, first_block, bytes), &*state) {
                (Ok(checked), Shard::Parked { run })
                    if checked.range() == self.layout.blocks_range(run.clone()) =>
                {
                    *state = Shard::Checked { run: run.clone() };
                    self.checked.push(checked);
                }
                _ => {
                    if let Some(node) = self.nodes[shard.position()].clone() {
                        self.at_fault(shard, &node, SourceFault::Corrupt);
                    }
                }
            }
        }
    }

    /// Without a commitment and without one on its way, a shard that came is asked again, with its footer.
    fn ask_footer_again(&mut self) {
        let on_its_way = |state: &Shard| matches!(state, Shard::Asked { footer: true, slow: false, .. });
        if self.commitment.is_some() || self.shards.iter().any(on_its_way) {
            return;
        }
        if let Some(shard) = self.shards.iter().position(|state| matches!(state, Shard::Parked { .. })) {
            self.shards[shard] = Shard::Unasked;
            self.parked.retain(|(parked, ..)| parked.position() != shard);
        }
    }

    /// A shard was not had from its node: goes on without it, and has it repaired if there is anything to.
    fn at_fault(&mut self, shard: ShardIndex, node: &Node, fault: SourceFault) {
        self.data.found_at_fault(self.chunk.shard(shard), node, fault);
        self.shards[shard.position()] = Shard::Bad;
    }

    /// Lets others be asked beside those that are slow, if the bucket has tokens for it.
    fn hedge(&mut self) {
        let k = usize::from(self.layout.coding().k());
        let whole = self.shards.iter().filter(|state| self.is_whole(state)).count();
        let waiting = |state: &&mut Shard| matches!(state, Shard::Asked { slow: false, .. });
        if self.data.hedges.take(k.saturating_sub(whole).max(1)) {
            self.data.counters.hedged_reads.add(1);
            self.shards.iter_mut().filter(waiting).for_each(|state| {
                if let Shard::Asked { slow, .. } = state {
                    *slow = true;
                }
            });
        }
    }

    /// The time is up: whoever has not answered counts as failed.
    fn give_up_on_silent(&mut self) -> Result<(), Error> {
        let mut silent = 0;
        for (state, node) in self.shards.iter_mut().zip(&self.nodes) {
            if matches!(state, Shard::Asked { .. }) {
                silent += 1;
                *state = Shard::Bad;
                if let Some(node) = node {
                    node.failed();
                }
            }
        }
        if silent == 0 { Err(Error::Unreadable { chunk: self.chunk }) } else { Ok(()) }
    }
}

async fn ask(node: Arc<Node>, chunk: ChunkId, shard: ShardIndex, run: Range<u32>, footer: bool) -> Arrival {
    let begun = Instant::now();
    let range = BlockRange { first_block: run.start, count: run.end - run.start };
    let id = chunk.shard(shard);
    let answer = if footer {
        let read = node.service.read_with_footer(id, range, Verify::Caller).await;
        read.map(|read| (read.bytes, Some(read.footer)))
    } else {
        node.service.read(id, range, Verify::Caller).await.map(|read| (read.bytes, None))
    };
    Arrival { shard, run, begun, answer }
}
