//! From a socket to a connection of a user who proved his secret.
//!
//! Invariant: no session is made before the proof; a client that does not encrypt comes from this machine, or
//! somebody allowed it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ashlar_query::session::TransactionState;
use ashlar_query::{Session, SqlError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::backend::{self, Severity};
use super::connection::Connection;
use super::frontend::{self, Message, Opening};
use super::pipes::{Gone, Inbox, Outbox};
use super::scram::{MECHANISM, Refused};
use crate::catalog::DATABASE;
use crate::credentials::{Peer, Proven};

/// Longest message of an authentication.
const PROOF_BYTES_MAX: usize = 2048;
/// When a refusal is told, counted from the proof: whatever it was that was wrong.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);
/// Most openings before the start: TLS, GSSAPI, and the start itself.
const OPENINGS_MAX: usize = 3;

/// What a client said at the start.
struct Wishes {
    user: String,
    settings: Vec<(String, String)>,
}

/// Begins a connection; `None`: it is over already, as one that cancelled another.
pub(super) async fn start(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Result<Option<Connection>, Gone> {
    let stall = shared.config.stall_max;
    let bytes_max = shared.config.message_bytes_max;
    let (read, write) = stream.into_split();
    let (mut inbox, mut outbox) = (Inbox::new(Box::new(read), bytes_max), None);
    let mut write = Some(write);
    let mut peer = Peer { ip: peer.ip(), encrypted: false };
    for _ in 0..OPENINGS_MAX {
        let opening = inbox.opening().await?;
        match opening {
            Opening::Tls => {
                let (Some(plain), true) = (write.take(), inbox.is_empty()) else {
                    return Err(Gone::Refused("TLS was asked for where it cannot begin"));
                };
                let mut plain = plain;
                let Some(tls) = &shared.tls else {
                    plain.write_all(b"N").await?;
                    write = Some(plain);
                    continue;
                };
                plain.write_all(b"S").await?;
                let read = inbox.into_inner();
                let stream = tokio::io::join(read, plain);
                let stream = TlsAcceptor::from(Arc::clone(tls)).accept(stream).await?;
                let (read, write) = tokio::io::split(stream);
                inbox = Inbox::new(Box::new(read), bytes_max);
                outbox = Some(Outbox::new(Box::new(write), stall));
                peer.encrypted = true;
            }
            Opening::Gss => match &mut write {
                Some(plain) => plain.write_all(b"N").await?,
                None => return Err(Gone::Refused("GSSAPI was asked for within TLS")),
            },
            Opening::Cancel { process, secret } => {
                shared.cancels.cancel(process, secret);
                // Told that it was heard: over TLS, too, an end without a word looks like a fault.
                if let Some(outbox) = outbox {
                    outbox.close().await;
                }
                return Ok(None);
            }
            Opening::Start { minor, parameters } => {
                let outbox = match (outbox, write) {
                    (Some(outbox), _) => outbox,
                    (None, Some(plain)) => Outbox::new(Box::new(plain), stall),
                    (None, None) => return Err(Gone::Closed),
                };
                return greet(shared, inbox, outbox, peer, minor, parameters).await;
            }
        }
    }
    Err(Gone::Refused("a connection was opened more often than it begins"))
}

async fn greet(
    shared: Arc<Shared>,
    mut inbox: Inbox,
    mut outbox: Outbox,
    peer: Peer,
    minor: u16,
    parameters: Vec<(String, String)>,
) -> Result<Option<Connection>, Gone> {
    let unknown: Vec<String> =
        parameters.iter().map(|(name, _)| name).filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if minor > 0 || !unknown.is_empty() {
        backend::negotiate(&mut outbox.buffer, &unknown);
    }
    let begun = begin(&shared, &mut inbox, &mut outbox, peer, parameters).await;
    let (session, proven) = match begun {
        Ok(begun) => begun,
        Err(Ended::Gone(gone)) => return Err(gone),
        Err(Ended::Told { code, message, hint }) => {
            backend::failure(&mut outbox.buffer, Severity::Fatal, code, &message, hint, None);
            outbox.close().await;
            return Ok(None);
        }
    };
    let registered = match shared.cancels.register() {
        Ok(registered) => registered,
        Err(error) => {
            backend::sql_error(&mut outbox.buffer, Severity::Fatal, &error, None);
            outbox.close().await;
            return Ok(None);
        }
    };
    let mut connection = Connection::new(shared, inbox, outbox, session, proven, registered);
    connection.report_settings();
    let (process, secret) = connection.key();
    backend::key_data(connection.out(), process, secret);
    backend::ready(connection.out(), TransactionState::Idle);
    Ok(Some(connection))
}

enum Ended {
    Gone(Gone),
    Told { code: &'static str, message: String, hint: Option<&'static str> },
}

impl From<Gone> for Ended {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

fn told(code: &'static str, message: impl Into<String>, hint: Option<&'static str>) -> Ended {
    Ended::Told { code, message: message.into(), hint }
}

fn of_sql(error: &SqlError) -> Ended {
    told(error.state.code(), error.message.clone(), None)
}

async fn begin(
    shared: &Shared,
    inbox: &mut Inbox,
    outbox: &mut Outbox,
    peer: Peer,
    parameters: Vec<(String, String)>,
) -> Result<(Session, Proven), Ended> {
    let wishes = wishes(parameters)?;
    if !peer.encrypted && !peer.ip.to_canonical().is_loopback() && !shared.config.allow_plaintext {
        return Err(told("28000", "this server asks for TLS", Some("connect with sslmode=require")));
    }
    let proven = authenticate(shared, inbox, outbox, &wishes.user).await?;
    let agent = wishes.settings.iter().find(|(name, _)| name == "application_name");
    let request =
        proven.request(peer, agent.map(|(_, agent)| agent.as_str())).map_err(|error| of_sql(&error))?;
    let mut session = Session::new(&shared.engine, request).map_err(|error| of_sql(&error))?;
    for (name, value) in &wishes.settings {
        session.set(name, value).map_err(|error| of_sql(&error))?;
    }
    Ok((session, proven))
}

async fn authenticate(
    shared: &Shared,
    inbox: &mut Inbox,
    outbox: &mut Outbox,
    user: &str,
) -> Result<Proven, Ended> {
    backend::mechanisms(&mut outbox.buffer, &[MECHANISM]);
    outbox.flush().await?;
    let malformed = || told("08P01", "a SCRAM message was expected", None);
    let mut first = password(inbox).await?;
    let mechanism = frontend::text(&mut first).map_err(|_| malformed())?;
    if mechanism != MECHANISM {
        return Err(told("28000", format!("{MECHANISM} is the one mechanism here"), None));
    }
    if first.len() < 4 {
        return Err(malformed());
    }
    let first = first.split_off(4);
    let (exchange, answer) = shared.scram.begin(user, &first).map_err(refused)?;
    backend::authentication(&mut outbox.buffer, 11, answer.as_bytes());
    outbox.flush().await?;
    let last = password(inbox).await?;
    let told_at = Instant::now() + REFUSAL_DELAY;
    let proven = shared.keeper.find(user).await.map_err(|error| of_sql(&error))?;
    let scram = Arc::clone(&shared.scram);
    let for_proof = proven.clone();
    let work = tokio::task::spawn_blocking(move || scram.finish(&exchange, &last, for_proof.as_ref()));
    let finished = work.await.map_err(|error| of_sql(&SqlError::internal("checking a proof", &error)))?;
    match (finished, proven) {
        (Ok(answer), Some(proven)) => {
            backend::authentication(&mut outbox.buffer, 12, answer.as_bytes());
            backend::authentication(&mut outbox.buffer, 0, &[]);
            Ok(proven)
        }
        (Ok(_), None) => Err(refused(Refused::Wrong)),
        (Err(error), _) => {
            tokio::time::sleep_until(told_at).await;
            Err(refused(error))
        }
    }
}

async fn password(inbox: &mut Inbox) -> Result<bytes::Bytes, Ended> {
    match inbox.message_within(PROOF_BYTES_MAX).await? {
        Message::Password(body) => Ok(body),
        _ => Err(told("08P01", "an authentication message was expected", None)),
    }
}

fn refused(error: Refused) -> Ended {
    let hint = "the user is an access key and the password its secret key";
    match error {
        Refused::Wrong => told("28P01", "password authentication failed", Some(hint)),
        Refused::Malformed(what) => told("08P01", what, None),
        Refused::Fault(error) => of_sql(&error),
    }
}

/// Sorts what a client asks for.
fn wishes(parameters: Vec<(String, String)>) -> Result<Wishes, Ended> {
    let (mut user, mut database, mut settings) = (None, None, Vec::new());
    for (name, value) in parameters {
        match name.as_str() {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => return Err(told("0A000", "replication is not supported", None)),
            "options" => settings.extend(options(&value)?),
            name if name.starts_with("_pq_.") => {}
            _ => settings.push((name, value)),
        }
    }
    let user = user.filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| told("28000", "no user was given: an access key is one", None))?;
    match database {
        // Clients that were told of none take the user's name.
        Some(database) if database != DATABASE && database != user && !database.is_empty() => {
            Err(told("3D000", format!("database {database:?} does not exist"), Some("there is one: ashlar")))
        }
        _ => Ok(Wishes { user, settings }),
    }
}

/// `-c name=value` and `--name=value`, a backslash before what is meant as it is.
fn options(text: &str) -> Result<Vec<(String, String)>, Ended> {
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let word = words.last_mut().expect("there is always one");
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => words.push(String::new()),
            c => word.push(c),
        }
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.as_str() {
            "-c" => words.next(),
            long if long.starts_with("--") => Some(long[2..].replace('-', "_")),
            short if short.starts_with("-c") => Some(short[2..].to_owned()),
            _ => None,
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let (name, value) = pair.ok_or_else(|| told("22023", "options are -c name=value", None))?;
        settings.push((name.to_owned(), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings() {
        let found =
            options("-c search_path=a,\\ b -cstatement_timeout=5s --time-zone=UTC").ok().expect("read");
        let expected = [("search_path", "a, b"), ("statement_timeout", "5s"), ("time_zone", "UTC")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(options("-x").is_err() && options("-c name").is_err());
    }

    #[test]
    fn there_is_one_database() {
        let ask = |database: &str| {
            wishes(vec![("user".into(), "AK".into()), ("database".into(), database.into())]).is_ok()
        };
        assert!(ask("ashlar") && ask("AK") && ask("") && !ask("other"));
        assert!(wishes(vec![]).is_err());
    }
}
