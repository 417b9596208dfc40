//! Settings of the gateway: every limit that a client can run into has its name and default here.
//!
//! Invariant: no other file holds a limit of its own that an operator might want to change.
//! Deliberately knows nothing of files or flags: the binary fills this in.

use std::net::SocketAddr;
use std::time::Duration;

/// What the binary tells the gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where to listen, for the binary that binds the socket and for messages.
    pub listen: SocketAddr,
    /// Domains for virtual-host addressing: `bucket.<domain>`. Path addressing always works.
    pub domains: Vec<String>,
    /// The region that signatures must name; an empty name accepts any.
    pub region: String,
    /// Key of the check value in continuation tokens; gateways of one cluster share it. `None`: random,
    /// so tokens end with the process.
    pub token_key: Option<[u8; 32]>,
    /// What clients may use of the gateway.
    pub limits: Limits,
}

impl GatewayConfig {
    /// Defaults for an address.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            domains: Vec::new(),
            region: "us-east-1".to_owned(),
            token_key: None,
            limits: Limits::default(),
        }
    }
}

/// Limits on connections, heads and bodies.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; further ones are answered 503 and closed.
    pub connections_max: usize,
    /// Requests being served; further ones are answered 503 SlowDown with `Retry-After`.
    pub in_flight_max: usize,
    /// Read buffer and unsent answer of one connection in bytes, at most each; both start small. At least 8 KiB.
    pub connection_buffer_bytes: usize,
    /// Names and values of all headers of a request, in bytes.
    pub header_bytes_max: usize,
    /// Path and query of a request, in bytes.
    pub uri_bytes_max: usize,
    /// How long a client may take for a request's head, and how long a connection may idle between two.
    pub header_timeout: Duration,
    /// Slowest a client may send a body or take an answer, in bytes a second, over [`Limits::pace_window`].
    pub pace_bytes_per_second: u64,
    /// Credit in time with which each body and answer starts, and the most it can save up.
    pub pace_window: Duration,
    /// Largest body that is read whole before it is looked at (XML, policies), in bytes.
    pub document_bytes_max: usize,
    /// All such bodies being read at a moment, in bytes.
    pub documents_bytes_max: usize,
    /// Largest such body of who did not sign, in bytes.
    pub stranger_document_bytes_max: usize,
    /// All such bodies of those who did not sign being read at a moment, and the form fields of browser uploads,
    /// in bytes.
    pub stranger_documents_bytes_max: usize,
    /// How long such a body may wait for room in all.
    pub document_wait: Duration,
    /// Deepest nesting of XML.
    pub xml_depth_max: usize,
    /// All form fields before the file of a browser upload, in bytes.
    pub form_bytes_max: usize,
    /// How much of an unread body is read and dropped so that a client gets to see its error, in bytes.
    pub drain_bytes_max: usize,
    /// How far a client's clock may be off.
    pub clock_skew_max: Duration,
    /// How long open requests may go on after a stop was asked for.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            in_flight_max: 16_384,
            connection_buffer_bytes: 256 << 10,
            header_bytes_max: 32 << 10,
            uri_bytes_max: 16 << 10,
            header_timeout: Duration::from_secs(30),
            pace_bytes_per_second: 2048,
            pace_window: Duration::from_secs(30),
            document_bytes_max: 8 << 20,
            documents_bytes_max: 64 << 20,
            stranger_document_bytes_max: 64 << 10,
            stranger_documents_bytes_max: 2 << 20,
            document_wait: Duration::from_secs(5),
            xml_depth_max: 16,
            form_bytes_max: 256 << 10,
            drain_bytes_max: 1 << 20,
            clock_skew_max: Duration::from_secs(15 * 60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
