//! `/api/nodes`: every storage node with its health and space. Root only.

use std::sync::Arc;

use ashlar_storage_node::NodeHealth;
use axum::Json;
use axum::extract::{Path, State};

use super::answers::Node;
use super::credentials::Root;
use super::refusal::Refusal;
use super::{Answer, Server};
use crate::roles::storage::StorageNode;

/// `GET /api/nodes`
pub(super) async fn list(State(server): State<Arc<Server>>, _: Root) -> Answer<Vec<Node>> {
    let mut nodes = Vec::new();
    for node in server.nodes.all() {
        nodes.push(describe(node).await);
    }
    Ok(Json(nodes))
}

/// `GET /api/nodes/{node}`
pub(super) async fn show(
    State(server): State<Arc<Server>>,
    _: Root,
    Path(number): Path<String>,
) -> Answer<Node> {
    let node = number.parse().ok().and_then(|number: u16| server.nodes.get(number));
    let node = node.ok_or_else(|| Refusal::not_found(&format!("storage node '{number}'")))?;
    Ok(Json(describe(node).await))
}

/// A node's health and space.
pub(crate) async fn describe(node: &StorageNode) -> Node {
    let (health, reason) = match node.service.health().await {
        NodeHealth::Writable => ("writable", None),
        NodeHealth::Full => ("full", Some("its file system has only the reserve left".to_owned())),
        NodeHealth::ReadOnly { reason } => ("read-only", Some(reason)),
        NodeHealth::Unavailable { reason } => ("unavailable", Some(reason)),
    };
    let space = node.service.space().await.unwrap_or_default();
    Node {
        node: node.place.number,
        domain: node.place.domain.clone(),
        dir: node.place.dir.display().to_string(),
        health: health.to_owned(),
        reason,
        shards: space.shards,
        shard_bytes: space.shard_bytes,
        file_bytes: space.file_bytes,
        writable_bytes: space.writable_bytes,
        total_bytes: space.total_bytes,
    }
}
