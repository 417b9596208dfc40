//! Cross-origin rules of a bucket: their limits, and which rule answers a browser.
//!
//! Invariant: rules that passed [`validate`] can be matched in time linear in their length. Pure; knows
//! nothing of HTTP messages beyond the few header values that browsers send.

use serde::{Deserialize, Serialize};

/// One rule of a bucket's CORS configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    /// Name given by the client, up to 255 characters.
    pub id: Option<String>,
    /// Any of GET, PUT, HEAD, POST, DELETE; at least one.
    pub allowed_methods: Vec<String>,
    /// Origins, each with at most one `*`; at least one.
    pub allowed_origins: Vec<String>,
    /// Request headers that a preflight may ask for, each with at most one `*`; any letter case.
    pub allowed_headers: Vec<String>,
    /// Answer headers that scripts may read.
    pub expose_headers: Vec<String>,
    /// How long a browser may keep a preflight's answer, in seconds.
    pub max_age_seconds: Option<i32>,
}
