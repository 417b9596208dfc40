//! The names on the metrics page are promises to dashboards and alerts.

use crate::server::Stand;

const PROMISED: [&str; 51] = [
    "ashlar_blobs_in_flight",
    "ashlar_build_info",
    "ashlar_chunks_shrunk_total",
    "ashlar_contradictions_total",
    "ashlar_flush_appends_total",
    "ashlar_flush_segment_syncs_total",
    "ashlar_flush_sync_batches_total",
    "ashlar_gc_blobs_total",
    "ashlar_gc_dead_rows",
    "ashlar_gc_orphans_total",
    "ashlar_gc_orphans_waiting",
    "ashlar_lifecycle_expired_total",
    "ashlar_lifecycle_locked_total",
    "ashlar_lifecycle_passes_total",
    "ashlar_lifecycle_rows_total",
    "ashlar_memory_limit_bytes",
    "ashlar_memory_used_bytes",
    "ashlar_metadata_checkpoints_total",
    "ashlar_metadata_commits_total",
    "ashlar_metadata_conflicts_total",
    "ashlar_metadata_journal_bytes_total",
    "ashlar_metadata_journals",
    "ashlar_metadata_stable_position",
    "ashlar_metadata_sync_batches_total",
    "ashlar_metadata_sync_seconds_total",
    "ashlar_metadata_takes_commits",
    "ashlar_node_file_bytes",
    "ashlar_node_put_bytes_total",
    "ashlar_node_read_bytes_total",
    "ashlar_node_shard_bytes",
    "ashlar_node_shards",
    "ashlar_node_total_bytes",
    "ashlar_node_writable",
    "ashlar_node_writable_bytes",
    "ashlar_nodes",
    "ashlar_nodes_writable",
    "ashlar_readers",
    "ashlar_reads_degraded_total",
    "ashlar_reads_hedged_total",
    "ashlar_ready",
    "ashlar_redundancy_full",
    "ashlar_repair_queue",
    "ashlar_repair_shards_total",
    "ashlar_s3_bytes_in_total",
    "ashlar_s3_bytes_out_total",
    "ashlar_s3_in_flight",
    "ashlar_s3_request_seconds",
    "ashlar_s3_requests_total",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
];

#[test]
fn every_promised_name_is_there_and_the_page_is_well_formed() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    server.put("/bucket", b"");
    server.put("/bucket/key", &[1; 100_000]);
    server.get_object("/bucket/key");
    assert_eq!(server.s3("GET", "/bucket/absent", b"").status, 404);
    let page = server.get("/metrics");
    assert!(page.head.contains("text/plain; version=0.0.4"), "{}", page.head);
    let page = page.text();
    let families: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let missing: Vec<_> = PROMISED.iter().filter(|name| !families.contains(*name)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    for family in &families {
        assert_eq!(families.iter().filter(|other| *other == family).count(), 1, "{family} has two heads");
    }
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(name.starts_with("ashlar_") || name.starts_with("process_"), "{line}");
        assert!(
            !name.contains("bucket/") && !line.contains("absent"),
            "a client's words are on the page: {line}"
        );
    }
    let counted = |labels: &str| {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("ashlar_s3_requests_total{{{labels}}} ")));
        line.map(|count| count.parse::<u64>().unwrap())
    };
    assert_eq!(counted("operation=\"PutObject\",code=\"OK\""), Some(1));
    assert_eq!(counted("operation=\"GetObject\",code=\"NoSuchKey\""), Some(1));
    assert!(server.figure("ashlar_metadata_commits_total") >= 2.0);
    assert!(server.figure("ashlar_s3_bytes_in_total") >= 100_000.0);
    assert_eq!(server.get("/healthz").text(), "ok\n");
    assert_eq!(server.get("/readyz").text(), "ready\n");
}
