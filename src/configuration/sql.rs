//! Settings of SQL: its front doors, and what statements may use.
//!
//! Invariant: no key travels in clear to another machine unless that was asked for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::quantities::{ByteSize, Span};
use super::soundness::Unsound;
use super::tree::{mebibytes, seconds};

/// What SQL may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sql {
    /// Threads that statements run on, at low priority; 0: one less than there are cores.
    pub(crate) threads: u16,
    /// Memory of all statements together.
    pub(crate) memory: ByteSize,
    /// Memory of one statement; what needs more spills, or fails.
    pub(crate) statement_memory: ByteSize,
    /// What one statement may spill to disk, below the data directory; all together `running_max` times that.
    pub(crate) statement_spill: ByteSize,
    /// Footers of files that are kept.
    pub(crate) footers: ByteSize,
    /// Statements that run at a time.
    pub(crate) running_max: u16,
    /// Statements that wait for that; more are refused at once.
    pub(crate) waiting_max: u16,
    /// How long a statement may take unless its session sets another; 0: for ever.
    pub(crate) statement_timeout: Span,
}

impl Default for Sql {
    fn default() -> Self {
        Self {
            threads: 0,
            memory: mebibytes(1024),
            statement_memory: mebibytes(512),
            statement_spill: mebibytes(8 << 10),
            footers: mebibytes(64),
            running_max: 8,
            waiting_max: 64,
            statement_timeout: seconds(60 * 60),
        }
    }
}

impl Sql {
    pub(super) fn check(&self) -> Result<(), Unsound> {
        if self.running_max == 0 {
            let problem = "no statement would be let in".to_owned();
            return Err(Unsound { key: "sql.running_max", problem, remedy: "set it to at least 1" });
        }
        if self.statement_memory.0 > self.memory.0 || self.statement_memory.0 < mebibytes(16).0 {
            let problem =
                format!("a statement cannot have {} of {} in all", self.statement_memory, self.memory);
            let remedy = "take between 16MiB and sql.memory";
            return Err(Unsound { key: "sql.statement_memory", problem, remedy });
        }
        Ok(())
    }
}

/// A front door of SQL. Two types with the same settings: serde knows no default by a parameter of a type.
macro_rules! sql_door {
    ($(#[$meta:meta])* $name:ident, $port:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            /// Where it listens; port 0 takes any free one.
            pub(crate) listen: SocketAddr,
            /// Let clients on other machines in without TLS. Set it only where something in front encrypts.
            pub(crate) allow_plaintext_auth: bool,
            /// Certificates for TLS, as PEM; empty: there is none.
            pub(crate) tls_certificate: PathBuf,
            /// The key of the first of them, as PEM.
            pub(crate) tls_key: PathBuf,
            /// Open connections.
            pub(crate) connections_max: u32,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    listen: SocketAddr::from(([127, 0, 0, 1], $port)),
                    allow_plaintext_auth: false,
                    tls_certificate: PathBuf::new(),
                    tls_key: PathBuf::new(),
                    connections_max: 100,
                }
            }
        }

        impl $name {
            /// The files of certificate and key, if connections may be encrypted.
            pub(crate) fn tls(&self) -> Option<(&Path, &Path)> {
                (!self.tls_certificate.as_os_str().is_empty()).then_some((&self.tls_certificate, &self.tls_key))
            }

            pub(super) fn check(&self, key: &'static str) -> Result<(), Unsound> {
                let has_key = !self.tls_key.as_os_str().is_empty();
                if self.tls().is_some() != has_key {
                    let problem = "a certificate and its key go together".to_owned();
                    return Err(Unsound { key, problem, remedy: "set both tls_certificate and tls_key, or none" });
                }
                if !self.listen.ip().is_loopback() && !self.allow_plaintext_auth && self.tls().is_none() {
                    let problem =
                        format!("{} can be reached from other machines, and keys would travel in clear", self.listen);
                    let remedy = "listen on 127.0.0.1, set tls_certificate and tls_key, or put TLS in front and say --allow-plaintext-auth";
                    return Err(Unsound { key, problem, remedy });
                }
                if self.connections_max == 0 {
                    let problem = "no connection would be let in".to_owned();
                    return Err(Unsound { key, problem, remedy: "set connections_max to at least 1" });
                }
                Ok(())
            }
        }
    };
}

sql_door! {
    /// SQL by the PostgreSQL protocol.
    Pg, 5433
}

sql_door! {
    /// SQL by Arrow Flight.
    Flight, 8815
}
