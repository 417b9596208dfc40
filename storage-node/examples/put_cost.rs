//! What a durable put costs: three copies of a small object on three of six stores that share a flusher.
//!
//! `put_cost FOLDER [CLIENTS] [PUTS] [BYTES] [LOG_THREADS]` prints puts a second, processor time and rounds.
//! Run it under `taskset -c 0` for the figure of one core; with BYTES above 65,536 it writes 4+2 chunks.

use ashlar_chunker::{BlobId, Coding, SessionId, ShardIndex, encode_chunk};
use ashlar_disk::RealDisk;
use ashlar_storage_node::{
    BlockRange, Flusher, FlusherOptions, NodeId, ShardPut, ShardService, Store, StoreOptions, Verify,
};
use bytes::Bytes;
use futures::future::try_join_all;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NODES: u64 = 6;

fn cpu() -> Duration {
    let ticks = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(ticks.tv_sec.try_into().unwrap_or(0), ticks.tv_nsec.try_into().unwrap_or(0))
}

fn argument(index: usize, default: u64) -> u64 {
    std::env::args().nth(index).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder =
        std::env::args().nth(1).ok_or("usage: put_cost FOLDER [CLIENTS] [PUTS] [BYTES] [LOG_THREADS]")?;
    let (clients, puts) = (argument(2, 64), argument(3, 100_000));
    let bytes = argument(4, 4096);
    let log_threads = usize::try_from(argument(5, 6))?;
    let flusher = Flusher::start(FlusherOptions { log_threads, ..FlusherOptions::default() })?;
    let opened = Instant::now();
    let stores: Vec<Arc<Store>> = (0u32..)
        .take(usize::try_from(NODES)?)
        .map(|node| {
            let folder = Path::new(&folder).join(format!("node-{node}"));
            let disk = Arc::new(RealDisk::new());
            Store::open(disk, &folder, NodeId(node), StoreOptions::default(), &flusher).map(Arc::new)
        })
        .collect::<Result<_, _>>()?;
    println!(
        "opened {} shards in {:?}, index {} bytes each",
        stores.iter().map(|store| store.report().shards).sum::<u64>(),
        opened.elapsed(),
        stores[0].index_bytes() / usize::try_from(stores[0].report().shards.max(1))?
    );
    stores.iter().for_each(|store| while store.maintain() {});
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let session = SessionId(
        Instant::now().elapsed().as_nanos().try_into().unwrap_or(0) ^ u64::from(std::process::id()),
    );
    let content: Bytes = (0..bytes).map(|byte| u8::try_from(byte % 251).unwrap_or(0)).collect();
    let chunk = Arc::new(encode_chunk(Coding::new(4, 2)?, content)?);
    let footer = chunk.commitment.encode();
    let next = Arc::new(AtomicU64::new(0));

    let (wall, before) = (Instant::now(), cpu());
    runtime.block_on(async {
        let tasks = (0..clients).map(|_| {
            let (stores, next, chunk, footer) =
                (stores.clone(), Arc::clone(&next), Arc::clone(&chunk), footer.clone());
            tokio::spawn(async move {
                loop {
                    let counter = next.fetch_add(1, Ordering::Relaxed);
                    if counter >= puts {
                        return Ok::<_, ashlar_storage_node::PutError>(());
                    }
                    let id = BlobId { session, counter }.chunk(0);
                    let shards = (0u8..).zip(0..chunk.rows[0].cells.len()).map(|(index, shard)| {
                        let node = usize::try_from((counter + u64::from(index)) % NODES).unwrap_or(0);
                        let cells = chunk.rows.iter().map(|row| row.cells[shard].clone()).collect();
                        stores[node].put(ShardPut {
                            id: id.shard(ShardIndex(index)),
                            cells,
                            footer: footer.clone(),
                        })
                    });
                    try_join_all(shards).await?;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let (wall, spent) = (wall.elapsed(), cpu() - before);
    let stats = flusher.stats();
    println!(
        "{puts} puts of {bytes} bytes by {clients} clients: {:.0}/s, {:.1} us cpu each, {:.1} MB/s of objects, {} rounds of {:.1} appends",
        puts as f64 / wall.as_secs_f64(),
        spent.as_secs_f64() * 1e6 / puts as f64,
        (puts * bytes) as f64 / wall.as_secs_f64() / 1e6,
        stats.rounds.get(),
        stats.appends.get() as f64 / stats.rounds.get().max(1) as f64,
    );

    for round in ["first", "second"] {
        let reads = puts.min(50_000);
        let (wall, before) = (Instant::now(), cpu());
        let data_shards = u64::from(chunk.commitment.layout().coding().k());
        runtime.block_on(async {
            for counter in 0..reads {
                for index in 0..data_shards {
                    let id = BlobId { session, counter }.chunk(0).shard(ShardIndex(u8::try_from(index)?));
                    let node = usize::try_from((counter + index) % NODES)?;
                    let read = stores[node].read_with_footer(id, BlockRange::ALL, Verify::Caller).await?;
                    assert_eq!(read.footer, footer, "read what was put");
                }
            }
            Ok::<_, Box<dyn Error>>(())
        })?;
        let (wall, spent) = (wall.elapsed(), cpu() - before);
        println!(
            "{round} read, one at a time: {:.0}/s, {:.1} us cpu each, {:.1} MB/s",
            reads as f64 / wall.as_secs_f64(),
            spent.as_secs_f64() * 1e6 / reads as f64,
            (reads * bytes) as f64 / wall.as_secs_f64() / 1e6
        );
    }
    let cold: u64 = stores.iter().map(|store| store.stats().cold_reads.get()).sum();
    println!("{cold} reads waited for the device");
    Ok(())
}
