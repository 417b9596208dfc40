//! The front doors of SQL: certificates from their files, limits from the configuration.

use std::path::Path;

use anyhow::Context;
use ashlar_objects::users::Users;
use ashlar_query::Engine;
use ashlar_query_doors::Tls;
use ashlar_query_doors::flight::{FlightConfig, FlightDoor};
use ashlar_query_doors::pg::{PgConfig, PgDoor};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::configuration::Configuration;

/// Threads that serve connections; statements run elsewhere.
const THREADS: usize = 2;
/// How much lower than the rest of the process their priority is: as that of statements.
const NICENESS: i32 = 10;

/// Both doors.
pub(crate) struct Doors {
    pg: PgDoor,
    flight: FlightDoor,
}

/// Doors that listen nowhere yet. Tokens of Flight are sealed with a key from the master key, so that every
/// gateway opens them.
pub(crate) fn build(
    engine: &Engine,
    users: &Users,
    tree: &Configuration,
    master_key: &[u8; 32],
) -> anyhow::Result<Doors> {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let drain_timeout = tree.limits.drain_timeout.0;
    let pg = PgConfig {
        tls: tree.pg.tls().map(tls).transpose().context("pg.tls_certificate")?,
        allow_plaintext: tree.pg.allow_plaintext_auth,
        connections_max: count(tree.pg.connections_max),
        drain_timeout,
        ..PgConfig::default()
    };
    let flight = FlightConfig {
        tls: tree.flight.tls().map(tls).transpose().context("flight.tls_certificate")?,
        allow_plaintext: tree.flight.allow_plaintext_auth,
        connections_max: count(tree.flight.connections_max),
        drain_timeout,
        ..FlightConfig::default()
    };
    let token_key = blake3::derive_key("ashlar 2026 tokens of Arrow Flight", master_key);
    Ok(Doors {
        pg: PgDoor::new(engine, users.clone(), pg).context("opening the PostgreSQL protocol's door")?,
        flight: FlightDoor::new(engine, users.clone(), &token_key, flight)
            .context("opening Arrow Flight's door")?,
    })
}

fn tls((certificate, key): (&Path, &Path)) -> anyhow::Result<Tls> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    Ok(Tls::from_pem(&read(certificate)?, &zeroize::Zeroizing::new(read(key)?))?)
}

impl Doors {
    /// Serves until `stopping`, and then until what is under way has ended or was cut. On threads of its own at low
    /// priority: rows are brought into form there, and S3 comes first.
    pub(crate) async fn serve(
        self,
        pg: TcpListener,
        flight: TcpListener,
        stopping: CancellationToken,
    ) -> anyhow::Result<()> {
        let (pg, flight) = (pg.into_std()?, flight.into_std()?);
        let threads = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("sql-door")
            .on_thread_start(|| {
                if let Err(error) = rustix::process::nice(NICENESS) {
                    tracing::debug!(%error, "a thread of SQL's doors keeps its priority");
                }
            })
            .enable_all()
            .build()
            .context("starting the threads of SQL's doors")?;
        let served = threads.spawn(async move {
            let (pg, flight) = (TcpListener::from_std(pg)?, TcpListener::from_std(flight)?);
            tokio::join!(self.pg.serve(pg, stopping.clone()), self.flight.serve(flight, stopping));
            anyhow::Ok(())
        });
        let served = served.await;
        // Waiting for threads is not allowed here; nothing is left on them.
        threads.shutdown_background();
        served.context("serving SQL's doors")?
    }
}
