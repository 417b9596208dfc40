//! `/api/status`: how the server does, in one answer.
//!
//! Any user may ask. It names folders and counts, no user, bucket or key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::answers::{Journal, Log, Status};
use super::credentials::Caller;
use super::{Answer, Server};
use crate::process;

/// `GET /api/status`
pub(super) async fn show(State(server): State<Arc<Server>>, _: Caller) -> Answer<Status> {
    let (data, metadata) = (server.store.stats(), server.metadata.stats());
    let space = server.nodes.space().await;
    let mut notes = server.obstacles();
    let ready = notes.is_empty();
    if !data.redundancy_full {
        notes.push(match (data.sweeps_done, data.scrub_nodes) {
            (0, _) => "the shards have not all been looked at since the start".to_owned(),
            (_, 0) => "some shards are missing or misplaced and are being restored".to_owned(),
            (_, nodes) => format!("damage was found on {nodes} nodes, which are being read for more of it"),
        });
    }
    if data.contradictions > 0 {
        notes.push(format!(
            "{} rebuilt cells contradicted their commitment: keep this data and report it",
            data.contradictions
        ));
    }
    let out = metadata.locations.iter().filter_map(|location| Some((&location.dir, location.out.as_ref()?)));
    notes.extend(out.map(|(dir, why)| format!("the journal in {dir} is out until a restart: {why}")));
    let log = server.publishing.as_ref().map(|publishing| {
        let heads = publishing.publisher.heads();
        Log {
            chain: publishing.chain_url().to_owned(),
            namespace: publishing.trust.namespace.to_string(),
            sealed: heads.sealed,
            anchored: heads.settled,
            anchored_position: heads.settled_position,
            stopped: heads.is_stopped,
            market: publishing.market.as_ref().map(|market| format!("{:#x}", market.address())),
        }
    });
    if log.as_ref().is_some_and(|log| log.stopped) {
        notes.push("an alarm stopped publishing; the log says which, and no receipts are given".to_owned());
    }
    let journals = metadata.locations.into_iter().map(|location| Journal {
        dir: location.dir,
        out: location.out,
        bytes: location.journal_bytes,
    });
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready,
        notes,
        uptime_seconds: server.started.elapsed().as_secs(),
        s3_endpoint: server.s3_endpoint.clone(),
        coding: server.coding.to_string(),
        nodes: data.nodes,
        nodes_writable: data.nodes_writable,
        redundancy_full: data.redundancy_full,
        repair_queue: data.repair_queue,
        gc_waiting: data.gc_dead_rows,
        shards: space.shards,
        shard_bytes: space.shard_bytes,
        writable_bytes: space.writable_bytes,
        resident_bytes: process::resident_bytes().unwrap_or(0),
        stable_position: metadata.stable_position.0,
        journals: journals.collect(),
        log,
    }))
}
