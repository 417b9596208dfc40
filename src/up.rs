//! `ashlar up`: every role in one process on one data directory, from lock to orderly end.
//!
//! Invariant: nothing listens before everything behind it is open, and nothing is closed before what uses
//! it has ended. Opening and closing block, so they happen outside the runtime, in [`run`]; only
//! [`serve`] is async.

mod announcement;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ashlar_metadata::EmbeddedKv;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::api::{self, Histograms, Server};
use crate::command_line::ServerFlags;
use crate::configuration::{Configuration, Loaded};
use crate::data_directory::{self, DirectoryLock, GivenRoot, Layout};
use crate::process::{self, StopSignals};
use crate::progress::Progress;
use crate::roles::storage::StorageNodes;
use crate::roles::{doors, gateway, metadata, models, objects, publishing, query};
use crate::{logging, output};
use announcement::Announcement;

/// How often what histograms recorded is folded into their buckets.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);
/// How long commits under way may take after the last request ended.
const COMMIT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long threads that block on a disk may take after everything else ended.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(5);
/// Exit status after a second signal.
const EXIT_IMPATIENT: i32 = 130;

/// What is open before the runtime starts and is closed after it ended.
struct Opened {
    tree: Configuration,
    layout: Layout,
    nodes: Arc<StorageNodes>,
    metadata: Arc<EmbeddedKv>,
    master_key: Zeroizing<[u8; 32]>,
    root: GivenRoot,
    histograms: Histograms,
    started: Instant,
}

/// Runs until a signal asks for the end.
pub(crate) fn run(flags: &ServerFlags) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut loaded = Loaded::from_process(flags)?;
    logging::start(&loaded.tree.log).map_err(|problem| anyhow::anyhow!("log.filter: {problem}"))?;
    process::log_panics();
    if process::raise_descriptor_limit().is_none_or(|limit| limit < 4096) {
        tracing::warn!("fewer than 4,096 files may be open; raise `ulimit -n` to serve many clients");
    }
    let locks = take(&mut loaded)?;
    let opened = open(loaded.tree, started)?;
    let runtime = runtime(&opened.tree)?;
    let served = runtime.block_on(serve(&opened));
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    opened.nodes.close();
    // Makes rows durable and joins its threads, which saves the next start some replaying.
    drop(opened);
    drop(locks);
    served.inspect(|()| tracing::info!("stopped"))?;
    Ok(ExitCode::SUCCESS)
}

/// Locks the data directory and every disk, and lets what was laid out earlier fill in the configuration.
pub(crate) fn take(loaded: &mut Loaded) -> anyhow::Result<Vec<DirectoryLock>> {
    let mut locks = vec![DirectoryLock::take(&loaded.tree.data_dir)?];
    let mut tree = loaded.tree.clone();
    // What is shown later must make sense in another working directory.
    tree.data_dir =
        std::fs::canonicalize(&tree.data_dir).context("finding the data directory's full path")?;
    Layout::recall(&mut tree, |key| loaded.source(key).is_some())?;
    tree.check()?;
    for disk in &tree.disks {
        locks.push(DirectoryLock::take(&disk.join("nodes"))?);
    }
    loaded.tree = tree;
    Ok(locks)
}

fn open(tree: Configuration, started: Instant) -> anyhow::Result<Opened> {
    let mut progress = Progress::start();
    let layout = Layout::find(&tree)?;
    let master_key =
        data_directory::master_key(&tree.data_dir, data_directory::is_fresh(&tree.data_dir, &layout))?;
    let root = GivenRoot::find(&tree.data_dir, GivenRoot::from_environment())?;
    layout.make(&tree)?;
    let histograms = api::install_metrics()?;
    progress.step("reading metadata");
    let metadata = metadata::open(&layout, &tree)?;
    progress.step(&format!("opening {} storage nodes", layout.nodes.len()));
    let nodes = Arc::new(StorageNodes::open(&layout, &tree)?);
    progress.end();
    Ok(Opened { tree, layout, nodes, metadata, master_key, root, histograms, started })
}

pub(crate) fn runtime(tree: &Configuration) -> anyhow::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = match tree.runtime.worker_threads {
        0 => cores,
        threads => usize::from(threads),
    };
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(usize::from(tree.runtime.blocking_threads_max))
        .thread_name("ashlar")
        .enable_all()
        .build()
        .context("starting the runtime's threads")
}

/// Everything that is served, from the first listener to the last commit.
async fn serve(opened: &Opened) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("listening for signals")?;
    let tasks = TaskTracker::new();
    let (stopping, background, closing) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let (users, root) =
        objects::users(&opened.metadata, opened.master_key.clone(), opened.root.pair.clone()).await?;
    data_directory::keep_root_credentials(&opened.tree.data_dir, &root.identity.access_key, &root.secret)?;
    let prepared = match opened.tree.publish.enabled {
        true => {
            let prepared =
                publishing::prepare(&opened.tree, &opened.layout, &opened.metadata, &opened.master_key).await;
            Some(prepared.context(
                "publishing cannot start (publish.enabled = false serves without it: nothing is promised, and a recovery may miss what is written meanwhile)",
            )?)
        }
        false => None,
    };
    let store =
        objects::open(&opened.metadata, &opened.nodes, users, &opened.tree, prepared.as_ref()).await?;
    store.start_background(&background);
    let (publishing_tasks, publishing_stop) = (TaskTracker::new(), CancellationToken::new());
    let publishing = match prepared {
        Some(prepared) => {
            let started =
                prepared.start(store.clone(), &opened.metadata, &publishing_tasks, &publishing_stop);
            Some(Arc::new(started.await?))
        }
        None => None,
    };

    let own_models = models::OwnModels::new(&store, &opened.tree);
    if !opened.tree.models.serve.is_empty() {
        models::make_bucket(&store, &root.identity).await?;
        tasks.spawn(Arc::clone(&own_models).load(stopping.clone()));
    }
    let openai = ashlar_openai::Gateway::new(ashlar_openai::GatewayParts {
        store: store.clone(),
        models: Arc::clone(&own_models) as Arc<dyn ashlar_openai::Models>,
        jobs: None,
        watch: Arc::new(ashlar_openai::Ignored),
        limits: ashlar_openai::Limits::default(),
        clock: ashlar_objects::clock::Clock::System,
    });

    let sql = query::open(&store, &opened.nodes, &opened.tree)?;
    let s3 = bind(opened.tree.s3.listen, "s3.listen").await?;
    let api = bind(opened.tree.api.listen, "api.listen").await?;
    let pg = bind(opened.tree.pg.listen, "pg.listen").await?;
    let flight = bind(opened.tree.flight.listen, "flight.listen").await?;
    let sql_doors = doors::build(&sql, store.users(), &opened.tree, &opened.master_key)?;
    let announcement = Announcement {
        s3: s3.local_addr().context("asking for the S3 address")?,
        api: api.local_addr().context("asking for the API's address")?,
        pg: pg.local_addr().context("asking for the address of the PostgreSQL protocol")?,
        flight: flight.local_addr().context("asking for the address of Arrow Flight")?,
        chain: publishing.as_ref().map(|publishing| publishing.chain_url().to_owned()),
        tree: &opened.tree,
        layout: &opened.layout,
        root: &root,
        root_origin: opened.root.origin,
        took: opened.started.elapsed(),
    };
    let server = Arc::new(Server {
        store: store.clone(),
        metadata: Arc::clone(&opened.metadata),
        nodes: Arc::clone(&opened.nodes),
        histograms: opened.histograms.clone(),
        started: opened.started,
        coding: opened.tree.coding,
        s3_endpoint: format!("http://{}", announcement.s3),
        publishing: publishing.clone(),
        models: own_models,
        openai,
        sql: sql.clone(),
        stopping: stopping.clone(),
    });
    tasks.spawn(api::serve(api, server, closing.clone()));
    tasks.spawn(fold(opened.histograms.clone(), closing.clone()));
    let token_key =
        blake3::derive_key("ashlar 2026 continuation tokens of listings", opened.master_key.as_ref());
    let gateway = gateway::build(store.clone(), &opened.tree, announcement.s3, token_key);
    let gateway = tasks.spawn({
        let stopping = stopping.clone();
        async move { gateway.serve(s3, stopping).await }
    });
    let sql_doors = tasks.spawn({
        let stopping = stopping.clone();
        async move { sql_doors.serve(pg, flight, stopping).await }
    });
    announce(&announcement)?;

    let signal = signals.next().await;
    tracing::info!(signal, "stopping: requests under way may end, new ones are not taken");
    stopping.cancel();
    let orderly = async {
        let served = gateway.await;
        let served_sql = sql_doors.await;
        background.cancel();
        if tokio::time::timeout(COMMIT_DRAIN_TIMEOUT, sql.drain()).await.is_err() {
            tracing::warn!("statements under way did not end in time; what they staged is given up later");
        }
        if tokio::time::timeout(COMMIT_DRAIN_TIMEOUT, store.drain()).await.is_err() {
            tracing::warn!("commits or background work under way did not end in time");
        }
        closing.cancel();
        tasks.close();
        tasks.wait().await;
        publishing_stop.cancel();
        publishing_tasks.close();
        publishing_tasks.wait().await;
        if let Some(publishing) = &publishing {
            publishing.close().await;
        }
        served.context("serving S3").and(served_sql.context("serving SQL")?)
    };
    tokio::select! {
        ended = orderly => ended,
        signal = signals.next() => {
            tracing::warn!(signal, "stopping at once; what was acknowledged is safe");
            std::process::exit(EXIT_IMPATIENT);
        }
    }
}

async fn bind(address: std::net::SocketAddr, key: &'static str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        let flag = key.replace('.', "-");
        format!("{address} cannot be listened on; end what uses it, or choose another with --{flag}")
    })
}

fn announce(announcement: &Announcement<'_>) -> anyhow::Result<()> {
    tracing::info!(s3 = %announcement.s3, api = %announcement.api, took = ?announcement.took, "up");
    match output::print(&announcement.to_string()) {
        // Whoever started us may have closed the pipe; the server is up all the same.
        Err(error) if error.is::<output::ReaderGone>() => Ok(()),
        printed => printed,
    }
}

async fn fold(histograms: Histograms, stop: CancellationToken) {
    let mut timer = tokio::time::interval(FOLD_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => histograms.fold(),
        }
    }
}
