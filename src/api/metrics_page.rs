//! `/metrics`: what the layers count, in Prometheus' text format.
//!
//! The gateway counts through the `metrics` facade; the layers below keep plain numbers, which are read at
//! scrape time. Invariant: names and labels are fixed, so that a client cannot grow the page, and a name
//! once promised stays: tests/system/metrics.rs lists them.

use std::fmt::{Display, Write};
use std::sync::Arc;

use ashlar_metadata::embedded::Stats;
use ashlar_objects::DataStats;
use ashlar_objects::lifecycle::LifecycleStats;
use ashlar_query::EngineStats;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Server;
use crate::process;

/// Upper bounds of latency buckets in seconds: from a cached 4 KiB read to a slow 5 GiB upload.
const LATENCY_BUCKETS: [f64; 17] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0,
];

/// What was counted through the `metrics` facade.
#[derive(Clone)]
pub(crate) struct Histograms(PrometheusHandle);

/// Starts counting; before the first request is taken.
pub(crate) fn install() -> anyhow::Result<Histograms> {
    let latencies = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(latencies, &LATENCY_BUCKETS)?;
    Ok(Histograms(builder.install_recorder()?))
}

impl Histograms {
    /// Folds what was recorded since the last call into the histograms, so that it takes no more memory.
    pub(crate) fn fold(&self) {
        self.0.run_upkeep();
    }
}

/// `GET /metrics`
pub(super) async fn show(State(server): State<Arc<Server>>) -> impl IntoResponse {
    let mut page = Page(server.histograms.0.render());
    process_figures(&mut page);
    page.one("gauge", "ashlar_ready", "1 while writes are taken.", u8::from(server.obstacles().is_empty()));
    let version = [(labels(&[("version", env!("CARGO_PKG_VERSION"))]), 1)];
    page.many("gauge", "ashlar_build_info", "The version that runs.", version);
    data_figures(&mut page, &server.store.stats());
    lifecycle_figures(&mut page, &server.store.lifecycle_stats());
    metadata_figures(&mut page, &server.metadata.stats());
    node_figures(&mut page, &server).await;
    log_figures(&mut page, &server);
    sql_figures(&mut page, &server.sql.stats());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0)
}

fn sql_figures(page: &mut Page, stats: &EngineStats) {
    page.one("gauge", "ashlar_sql_running", "Statements that run or whose rows stream.", stats.running);
    page.one("gauge", "ashlar_sql_waiting", "Statements that wait to be planned or to run.", stats.waiting);
    page.one("gauge", "ashlar_sql_planning", "Statements that are planned.", stats.planning);
    page.one("gauge", "ashlar_sql_memory_bytes", "Memory of all statements.", stats.memory_bytes);
    page.one("gauge", "ashlar_sql_footer_bytes", "Footers of Parquet files kept.", stats.footer_bytes);
}

fn process_figures(page: &mut Page) {
    if let Some(bytes) = process::resident_bytes() {
        page.one("gauge", "process_resident_memory_bytes", "Resident memory.", bytes);
    }
    if let Some(seconds) = process::cpu_seconds() {
        page.one("counter", "process_cpu_seconds_total", "CPU used, user and system.", seconds);
    }
    if let Some(open) = process::open_descriptors() {
        page.one("gauge", "process_open_fds", "Open file descriptors.", open);
    }
}

fn data_figures(page: &mut Page, stats: &DataStats) {
    let counters = [
        ("ashlar_reads_degraded_total", "Chunk ranges read with parity.", stats.degraded_reads),
        ("ashlar_reads_hedged_total", "Reads asked twice because the first was slow.", stats.hedged_reads),
        ("ashlar_shards_corrupt_total", "Shards found damaged.", stats.corrupt_shards),
        ("ashlar_shards_missing_total", "Shards found missing by reads.", stats.missing_shards),
        (
            "ashlar_contradictions_total",
            "Rebuilt cells that contradict their commitment: must stay 0.",
            stats.contradictions,
        ),
        (
            "ashlar_shards_substituted_total",
            "Shards put on another node than planned.",
            stats.substituted_shards,
        ),
        (
            "ashlar_chunks_shrunk_total",
            "Chunks coded with fewer data shards for want of nodes.",
            stats.shrunk_chunks,
        ),
        ("ashlar_repair_shards_total", "Shards rebuilt and stored again.", stats.repaired_shards),
        ("ashlar_repair_bytes_total", "Bytes of them.", stats.repaired_bytes),
        (
            "ashlar_repair_failures_total",
            "Repairs that did not work out and are tried again.",
            stats.repair_failures,
        ),
        (
            "ashlar_sweeps_total",
            "Whole comparisons of metadata with the nodes' inventories.",
            stats.sweeps_done,
        ),
        ("ashlar_scrub_bytes_total", "Bytes read and compared by scrubbing.", stats.scrubbed_bytes),
        ("ashlar_gc_blobs_total", "Blobs collected.", stats.gc_collected_blobs),
        ("ashlar_gc_orphans_total", "Shards without a row that were deleted.", stats.gc_orphans_deleted),
        ("ashlar_gc_orphan_bytes_total", "Bytes of them.", stats.gc_orphan_bytes_deleted),
    ];
    for (name, help, value) in counters {
        page.one("counter", name, help, value);
    }
    let gauges = [
        ("ashlar_repair_queue", "Shards that wait for repair.", stats.repair_queue),
        (
            "ashlar_sweep_missing_shards",
            "Shards the last sweep could not restore.",
            stats.sweep_missing_shards,
        ),
        ("ashlar_scrub_nodes", "Nodes to be scrubbed because damage was found there.", stats.scrub_nodes),
        ("ashlar_sweep_chunks", "Chunks the last sweep looked at.", stats.sweep_chunks),
        ("ashlar_gc_dead_rows", "Rows that wait for collection.", stats.gc_dead_rows),
        (
            "ashlar_gc_orphans_waiting",
            "Shards without a row whose blob may be in flight.",
            stats.gc_orphans_waiting,
        ),
        ("ashlar_readers", "Reads open.", stats.readers),
        ("ashlar_blobs_in_flight", "Blobs being written or waiting for their commit.", stats.blobs_in_flight),
        ("ashlar_nodes", "Storage nodes.", stats.nodes),
        ("ashlar_nodes_writable", "Storage nodes that take writes.", stats.nodes_writable),
        (
            "ashlar_redundancy_full",
            "1 while every shard is known to be in its place.",
            stats.redundancy_full.into(),
        ),
    ];
    for (name, help, value) in gauges {
        page.one("gauge", name, help, value);
    }
    let budget = |name| labels(&[("budget", name)]);
    let used = [
        (budget("writes"), stats.write_bytes_used),
        (budget("reads"), stats.read_bytes_used),
        (budget("commitments"), stats.commitment_bytes),
    ];
    page.many("gauge", "ashlar_memory_used_bytes", "Memory taken from a budget.", used);
    let limits = [(budget("writes"), stats.write_bytes_limit), (budget("reads"), stats.read_bytes_limit)];
    page.many("gauge", "ashlar_memory_limit_bytes", "What a budget allows.", limits);
}

fn log_figures(page: &mut Page, server: &Server) {
    if let Some(publishing) = &server.publishing {
        let heads = publishing.publisher.heads();
        page.one("gauge", "ashlar_log_sealed", "Newest sealed batch of the log.", heads.sealed);
        page.one("gauge", "ashlar_log_anchored", "Newest batch on the chain to stay.", heads.settled);
        page.one(
            "gauge",
            "ashlar_log_stopped",
            "1 after an alarm, until a restart.",
            u8::from(heads.is_stopped),
        );
    }
}

fn lifecycle_figures(page: &mut Page, stats: &LifecycleStats) {
    let kind = |name| labels(&[("kind", name)]);
    let expired = [
        (kind("current"), stats.current),
        (kind("noncurrent"), stats.noncurrent),
        (kind("marker"), stats.markers),
        (kind("upload"), stats.uploads),
    ];
    let name = "ashlar_lifecycle_expired_total";
    page.many("counter", name, "Versions, delete markers and uploads that lifecycle rules gave up.", expired);
    let counters = [
        (
            "ashlar_lifecycle_locked_total",
            "Times that a version which was due stayed because it is locked.",
            stats.locked,
        ),
        ("ashlar_lifecycle_rows_total", "Versions and uploads looked at for lifecycle rules.", stats.rows),
        ("ashlar_lifecycle_passes_total", "Passes over all buckets with lifecycle rules.", stats.passes),
    ];
    for (name, help, value) in counters {
        page.one("counter", name, help, value);
    }
}

fn metadata_figures(page: &mut Page, stats: &Stats) {
    let counters = [
        ("ashlar_metadata_commits_total", "Commits made durable.", stats.commits),
        (
            "ashlar_metadata_sync_batches_total",
            "Groups of commits, each synced once in every location.",
            stats.groups,
        ),
        ("ashlar_metadata_conflicts_total", "Commits refused because a check did not hold.", stats.conflicts),
        ("ashlar_metadata_journal_bytes_total", "Bytes appended to the journal.", stats.journal_bytes),
        ("ashlar_metadata_checkpoints_total", "Checkpoints finished.", stats.checkpoints),
        ("ashlar_metadata_checkpoint_failures_total", "Checkpoints that failed.", stats.checkpoint_failures),
    ];
    for (name, help, value) in counters {
        page.one("counter", name, help, value);
    }
    let sync_seconds = stats.sync_time.as_secs_f64();
    page.one(
        "counter",
        "ashlar_metadata_sync_seconds_total",
        "Time in which groups became durable.",
        sync_seconds,
    );
    let longest = stats.sync_time_max.as_secs_f64();
    page.one("gauge", "ashlar_metadata_sync_seconds_max", "The longest of those times.", longest);
    page.one(
        "gauge",
        "ashlar_metadata_stable_position",
        "Everything up to it is visible.",
        stats.stable_position.0,
    );
    let takes_commits = u8::from(stats.poisoned.is_none());
    page.one("gauge", "ashlar_metadata_takes_commits", "0 after a failure, until a restart.", takes_commits);
    let part = stats.locations.iter().filter(|location| location.out.is_none()).count();
    page.one("gauge", "ashlar_metadata_journals", "Folders in which the journal is kept.", part);
}

/// Name, help, and labels with values.
type Family = (&'static str, &'static str, Vec<(String, u64)>);

async fn node_figures(page: &mut Page, server: &Server) {
    let mut families: [Family; 6] = [
        ("ashlar_node_writable", "1 while the node takes writes.", Vec::new()),
        ("ashlar_node_shards", "Shards on the node.", Vec::new()),
        ("ashlar_node_shard_bytes", "Bytes of them.", Vec::new()),
        ("ashlar_node_file_bytes", "What the node's files take.", Vec::new()),
        ("ashlar_node_writable_bytes", "What the node could still take.", Vec::new()),
        ("ashlar_node_total_bytes", "Size of the node's file system.", Vec::new()),
    ];
    for node in server.nodes.all() {
        let space = node.service.space().await.unwrap_or_default();
        let writable = node.service.health().await == ashlar_storage_node::NodeHealth::Writable;
        let values = [
            u64::from(writable),
            space.shards,
            space.shard_bytes,
            space.file_bytes,
            space.writable_bytes,
            space.total_bytes,
        ];
        for ((_, _, series), value) in families.iter_mut().zip(values) {
            series.push((labels(&[("node", &node.place.number.to_string())]), value));
        }
    }
    for (name, help, series) in families {
        page.many("gauge", name, help, series);
    }
    server.nodes.counters(|name, help, series| page.many("counter", name, help, series));
}

/// Labels as they stand in the page. Values are ours: numbers and fixed words.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    pairs.join(",")
}

/// The text under construction.
struct Page(String);

impl Page {
    fn one(&mut self, kind: &str, name: &str, help: &str, value: impl Display) {
        self.many(kind, name, help, [(String::new(), value)]);
    }

    fn many<V: Display>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (String, V)>,
    ) {
        let mut write = |arguments: std::fmt::Arguments<'_>| {
            self.0.write_fmt(arguments).expect("writing to a string does not fail");
        };
        write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in series {
            match labels.as_str() {
                "" => write(format_args!("{name} {value}\n")),
                labels => write(format_args!("{name}{{{labels}}} {value}\n")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_one_head_and_escaped_labels() {
        let mut page = Page(String::new());
        page.many("gauge", "a", "What.", [(labels(&[("x", "q\"\\")]), 1), (labels(&[("x", "b")]), 2)]);
        page.one("counter", "b", "That.", 0.5);
        let expected = "# HELP a What.\n# TYPE a gauge\na{x=\"q\\\"\\\\\"} 1\na{x=\"b\"} 2\n\
                        # HELP b That.\n# TYPE b counter\nb 0.5\n";
        assert_eq!(page.0, expected);
    }
}
