//! `/healthz` and `/readyz`: whether the process lives, and whether it takes writes.
//!
//! Invariant: both answer without credentials and tell nothing that an outsider could use. Ready means that
//! metadata takes commits, that m + 1 nodes or more are writable, and that no stop was asked for.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::Server;

/// `GET /healthz`
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(super) async fn ready(State(server): State<Arc<Server>>) -> (StatusCode, String) {
    match server.obstacles() {
        obstacles if obstacles.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
        obstacles => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", obstacles.join("; "))),
    }
}
