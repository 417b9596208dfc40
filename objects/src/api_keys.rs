//! API keys: what programs sign in with where an access key and its secret do not fit, and what they may spend.
//!
//! A key is 256 random bits, shown once; only a digest of it is stored, so nothing that is read of metadata opens anything.
//! It stands for its user with all his rights on objects; routes and models are narrowed by its scope.
//!
//! Invariants: who presents a key learns that it exists only if it is the right one, in the same time; a removed key counts
//! for nothing at once; a user who is removed leaves no key; what was spent is never more than the cap, whatever crashes
//! (see `spending.rs`). As with users, nothing of it is announced in the log, and a recovery brings no key back. Deliberately
//! knows nothing of HTTP, models or prices.

mod manage;
mod secret;
mod spending;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ashlar_metadata::namespace::api_keys::{self as rows, ApiKeyRow};
use ashlar_metadata::{OrderedKv, Snapshot};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio_util::task::TaskTracker;

use crate::access::UserIdentity;
use crate::clock::Clock;
use crate::error::Error;
use crate::transaction;
use crate::types::UnixMillis;

pub(crate) use manage::remove_all_of;
pub use secret::API_KEY_PREFIX;
pub use spending::{ALLOWANCE_RESERVATIONS, Reservation};

use spending::Meter;

/// Most API keys of one user.
pub const API_KEYS_MAX: usize = 64;
/// Longest name of a key, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Most routes and most models of a scope, each.
pub const SCOPE_ITEMS_MAX: usize = 100;

/// API keys over the metadata store. Cheap to clone; clones share what was taken out to spend.
#[derive(Clone)]
pub struct ApiKeys {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn OrderedKv>,
    clock: Clock,
    /// The store's: what takes an allowance out is not stopped half-way by a client that vanishes.
    tasks: TaskTracker,
    /// One for each key that spent something here since all was last given back.
    meters: Mutex<HashMap<String, Arc<Meter>>>,
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKeys")
    }
}

/// What a key is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeySpec {
    /// What its owner calls it; 1 to [`NAME_CHARS_MAX`] characters.
    pub name: String,
    /// From when on it is nothing any more; later than now.
    pub expires: Option<UnixMillis>,
    /// The routes that it opens, as the front door calls them; `None`: all.
    pub routes: Option<BTreeSet<String>>,
    /// The models that it may ask, by name or content root; `None`: all.
    pub models: Option<BTreeSet<String>>,
    /// The most that it may spend, in wei; `None`: no bound.
    pub spend_cap: Option<u128>,
}

/// What is known of a key, besides its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyFacts {
    /// What it is managed by: 24 hexadecimal digits.
    pub id: String,
    /// Id of its user.
    pub user: String,
    /// Name of its user.
    pub user_name: String,
    /// Whether its user is root.
    pub root: bool,
    /// When it was made.
    pub created: UnixMillis,
    /// What was asked for.
    pub spec: ApiKeySpec,
}

/// A key in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedApiKey {
    /// What is known of it.
    pub facts: ApiKeyFacts,
    /// What it has spent, in wei, with what gateways other than this one have taken out and not yet spent.
    pub spent: u128,
}

/// A key that was just made. Nothing shows the secret again.
#[derive(Debug)]
pub struct NewApiKey {
    /// What is known of it.
    pub facts: ApiKeyFacts,
    /// What programs send.
    pub secret: crate::users::SecretKey,
}

/// What presenting a key comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// It is no key. Takes as long as any other answer, but for the read that finds a row or none.
    Unknown,
    /// It was a key until it expired.
    Expired,
    /// It is a key, and stands for this user.
    Known(Arc<UserIdentity>, Arc<ApiKeyFacts>),
}

/// Why something about API keys was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeysError {
    /// Root manages all keys, a user his own.
    #[error("only root and the user himself manage a user's API keys")]
    AccessDenied,
    /// There is no such user.
    #[error("there is no user '{name}'")]
    NoSuchUser {
        /// Name asked for.
        name: String,
    },
    /// The user is being removed.
    #[error("user '{name}' is being removed")]
    BeingRemoved {
        /// The user.
        name: String,
    },
    /// There is no such key.
    #[error("there is no API key '{id}'")]
    NoSuchKey {
        /// Id asked for.
        id: String,
    },
    /// More keys than a user may have.
    #[error("user '{name}' has {API_KEYS_MAX} API keys, the most that are allowed")]
    TooManyKeys {
        /// The user.
        name: String,
    },
    /// What was asked for cannot be a key.
    #[error("no such key can be made: {reason}")]
    Invalid {
        /// What is wrong.
        reason: &'static str,
    },
    /// It would spend more than it may.
    #[error("the API key may spend {cap} wei; {spent} are spent or set aside, and this may cost {wanted}")]
    AboveSpendCap {
        /// The most.
        cap: u128,
        /// Durably counted so far.
        spent: u128,
        /// Asked for.
        wanted: u128,
    },
    /// Metadata failed, or kept losing races.
    #[error(transparent)]
    Store(#[from] Error),
}

impl ApiKeys {
    /// API keys on `kv`. Reads nothing yet.
    #[must_use]
    pub fn new(kv: Arc<dyn OrderedKv>, clock: Clock, tasks: TaskTracker) -> Self {
        Self { inner: Arc::new(Inner { kv, clock, tasks, meters: Mutex::default() }) }
    }

    /// Whose key this is. Reads one row; what does not even look like a key reads none. Cancel-safe.
    pub async fn present(&self, text: &str) -> Result<Presented, ApiKeysError> {
        let Some(digest) = secret::digest_of(text) else { return Ok(Presented::Unknown) };
        let id = secret::id_of(&digest);
        let found = self.inner.kv.get(&rows::key(&id)).await;
        let found = found.map_err(|e| Error::internal("reading an API key", e))?;
        let row =
            found.map(|found| transaction::decode::<ApiKeyRow>(&found)).transpose()?.map(|found| found.row);
        let expected = row.as_ref().map_or([0; 32], |row| row.digest);
        let is_equal = bool::from(expected.ct_eq(&digest));
        match row {
            Some(row) if is_equal => Ok(self.known(id, row)),
            _ => Ok(Presented::Unknown),
        }
    }

    /// The key with this id, as if it had been presented: for work that was begun with it and goes on without it.
    pub async fn standing(&self, id: &str) -> Result<Presented, ApiKeysError> {
        let snapshot = self.snapshot().await?;
        let found = transaction::read::<ApiKeyRow>(&*snapshot, &rows::key(id)).await?;
        Ok(found.map_or(Presented::Unknown, |found| self.known(id.to_owned(), found.row)))
    }

    fn known(&self, id: String, row: ApiKeyRow) -> Presented {
        if row.expires.is_some_and(|expires| expires <= self.inner.clock.now()) {
            return Presented::Expired;
        }
        let identity = UserIdentity {
            id: row.user.clone(),
            name: row.user_name.clone(),
            access_key: format!("api-key-{id}"),
            root: row.root,
        };
        Presented::Known(Arc::new(identity), Arc::new(facts(id, row)))
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.inner.kv.snapshot().await.map_err(|e| Error::internal("reading API keys", e))
    }
}

fn facts(id: String, row: ApiKeyRow) -> ApiKeyFacts {
    let ApiKeyRow { name, user, user_name, root, created, expires, routes, models, spend_cap, .. } = row;
    let spec = ApiKeySpec { name, expires, routes, models, spend_cap };
    ApiKeyFacts { id, user, user_name, root, created, spec }
}

#[cfg(test)]
mod tests;
