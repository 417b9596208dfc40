//! The role `gateway`: the S3 front door over the store, with the limits of the configuration.

use std::net::SocketAddr;

use ashlar_objects::Store;
use ashlar_s3_gateway::{Gateway, GatewayConfig, Limits};

use crate::configuration::Configuration;

/// A gateway that listens nowhere yet. `token_key` checks continuation tokens and must be the same after a
/// restart, so that a listing under way goes on.
pub(crate) fn build(store: Store, tree: &Configuration, listen: SocketAddr, token_key: [u8; 32]) -> Gateway {
    let limits = &tree.limits;
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let config = GatewayConfig {
        domains: tree.s3.domains.clone(),
        region: tree.s3.region.clone(),
        token_key: Some(token_key),
        limits: Limits {
            connections_max: count(limits.connections_max),
            in_flight_max: count(limits.in_flight_max),
            header_timeout: limits.header_timeout.0,
            pace_bytes_per_second: limits.pace_bytes_per_second.0,
            pace_window: limits.pace_window.0,
            clock_skew_max: limits.clock_skew_max.0,
            drain_timeout: limits.drain_timeout.0,
            ..Limits::default()
        },
        ..GatewayConfig::new(listen)
    };
    Gateway::new(store, config)
}
