//! Who comes through a door: access keys and their secrets, as for S3.
//!
//! Invariant: an unknown access key and a wrong secret take the same path and the same answer; what was proven
//! holds only as long as the access key stands with the same secret. Deliberately knows no wire form.

use std::net::IpAddr;
use std::sync::Arc;

use ashlar_objects::access::{Principal, RequestContext, UserIdentity};
use ashlar_objects::users::{SecretKey, Users};
use ashlar_query::{SqlError, SqlState};
use rand::TryRngCore;
use rand::rngs::OsRng;
use subtle::ConstantTimeEq;

/// Who may come in.
#[derive(Clone, Debug)]
pub(crate) struct Doorkeeper {
    users: Users,
}

/// A user who proved an access key's secret.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) identity: Arc<UserIdentity>,
    pub(crate) secret: SecretKey,
}

/// From where, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    pub(crate) encrypted: bool,
}

impl Doorkeeper {
    pub(crate) fn new(users: Users) -> Self {
        Self { users }
    }

    /// The access key with its secret, which the caller has yet to prove.
    pub(crate) async fn find(&self, access_key: &str) -> Result<Option<Proven>, SqlError> {
        let found = self.users.secret_for_access_key(access_key).await;
        let found = found.map_err(|error| SqlError::internal("looking up an access key", &error))?;
        Ok(found.map(|(identity, secret)| Proven { identity, secret }))
    }

    /// Whoever has this pair; `None` for a key that is not there and a secret that is not its.
    pub(crate) async fn verify(&self, access_key: &str, secret: &str) -> Result<Option<Proven>, SqlError> {
        let found = self.find(access_key).await?;
        let expected = found.as_ref().map_or("", |proven| proven.secret.expose());
        let equal = bool::from(expected.as_bytes().ct_eq(secret.as_bytes()));
        Ok(found.filter(|proven| equal && !proven.secret.expose().is_empty()))
    }

    /// Fails when the access key was removed, or has another secret by now.
    pub(crate) async fn still(&self, proven: &Proven) -> Result<(), SqlError> {
        match self.verify(&proven.identity.access_key, proven.secret.expose()).await? {
            Some(now) if now.identity.id == proven.identity.id => Ok(()),
            _ => Err(SqlError::new(SqlState::InsufficientPrivilege, "the access key counts no longer")),
        }
    }
}

impl Proven {
    /// What a session acts with.
    pub(crate) fn request(&self, peer: Peer, agent: Option<&str>) -> Result<RequestContext, SqlError> {
        Ok(RequestContext {
            principal: Principal::User(Arc::clone(&self.identity)),
            request_id: Arc::from(format!("{:032X}", u128::from_be_bytes(random()?))),
            source_ip: Some(peer.ip),
            secure_transport: peer.encrypted,
            user_agent: agent.map(Arc::from),
            referer: None,
            keys: Vec::new(),
        })
    }
}

/// Random bytes from the system's generator, which no simulation replaces: a seeded secret is none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SqlError> {
    let mut bytes = [0; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| SqlError::internal("asking the system for random bytes", &error))?;
    Ok(bytes)
}
