//! Users and their access keys: who they are, and the secrets that prove it.
//!
//! Invariants: a secret is stored only sealed and never printed; an access key that was removed or changed,
//! by whatever process, counts for nothing after [`REMEMBERED`] has passed; a user who owns a bucket is not
//! removed. Management is root's. Deliberately knows nothing of signatures.

mod bootstrap;
mod cache;
mod manage;
mod names;
mod seal;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use ashlar_metadata::namespace::users::{
    self as rows, AccessKeyOrigin, AccessKeyRow, UserNameRow, UserRow, UserState,
};
use ashlar_metadata::{Check, OrderedKv, Snapshot};

use crate::access::{Principal, RequestContext, UserIdentity};
use crate::clock::Clock;
use crate::error::Error;
use crate::transaction::{self, Versioned};
use crate::types::UnixMillis;

pub use bootstrap::RootCredentials;
pub use manage::USERS_PAGE_MAX;
pub use names::{check_access_key, check_secret, check_user_name};
pub use seal::{KeyRing, MasterKey, MasterKeyError, SealError};
pub(crate) use secret::random_bytes;
pub use secret::{NewAccessKey, SecretKey};

/// How long an access key is believed without asking metadata again.
pub const REMEMBERED: Duration = Duration::from_secs(3);
/// Most access keys that are remembered.
pub const REMEMBERED_MAX: usize = 10_000;
/// Most access keys of one user.
pub const ACCESS_KEYS_MAX: usize = 16;
/// Name of the user who may do everything.
pub const ROOT_NAME: &str = "root";

/// Users and access keys, over the metadata store. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct Users {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn OrderedKv>,
    keys: KeyRing,
    clock: Clock,
    cache: cache::Cache,
    /// Identities that stand in no row may own buckets: tests make them up.
    unknown_may_own: bool,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Users")
    }
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFacts {
    /// Stable id, 64 hex digits.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// Whether it is root.
    pub root: bool,
    /// When it was made.
    pub created: UnixMillis,
    /// Access keys, at most [`ACCESS_KEYS_MAX`].
    pub access_keys: Vec<String>,
}

/// What is known of an access key, besides its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeyFacts {
    /// The access key.
    pub access_key: String,
    /// When it was made.
    pub created: UnixMillis,
    /// Whether it was given at start-up or added since.
    pub origin: AccessKeyOrigin,
}

/// Why something about users was not done.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// Only root manages users.
    #[error("only root manages users")]
    AccessDenied,
    /// Not a user's name.
    #[error("'{name}' is not a user's name: {reason}")]
    InvalidName {
        /// What was given, cut to 80 characters.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Not an access key, or not a secret.
    #[error("not a valid {what}: {reason}")]
    InvalidCredential {
        /// `access key` or `secret`.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The name is taken.
    #[error("there is a user '{name}' already")]
    UserExists {
        /// The name.
        name: String,
    },
    /// There is no such user.
    #[error("there is no user '{name}'")]
    NoSuchUser {
        /// Name or id asked for.
        name: String,
    },
    /// Root stays.
    #[error("root cannot be removed")]
    RootStays,
    /// The user owns buckets.
    #[error("user '{name}' owns the bucket '{bucket}'; delete it first")]
    OwnsBuckets {
        /// The user.
        name: String,
        /// One of his buckets.
        bucket: String,
    },
    /// The user is being removed.
    #[error("user '{name}' is being removed")]
    BeingRemoved {
        /// The user.
        name: String,
    },
    /// The access key belongs to somebody already.
    #[error("the access key '{access_key}' is taken")]
    AccessKeyTaken {
        /// The access key.
        access_key: String,
    },
    /// The user has no such access key.
    #[error("user '{name}' has no access key '{access_key}'")]
    NoSuchAccessKey {
        /// The user.
        name: String,
        /// The access key.
        access_key: String,
    },
    /// More access keys than a user may have.
    #[error("user '{name}' has {ACCESS_KEYS_MAX} access keys, the most that are allowed")]
    TooManyAccessKeys {
        /// The user.
        name: String,
    },
    /// A stored secret does not open.
    #[error("the secret of access key '{access_key}' does not open: {source}")]
    Sealed {
        /// The access key.
        access_key: String,
        /// Why.
        source: SealError,
    },
    /// Metadata failed, or kept losing races.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<UsersError> for Error {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::AccessDenied => Self::AccessDenied,
            UsersError::Store(error) => error,
            UsersError::Sealed { .. } => Self::internal("opening a secret", error),
            other => Self::InvalidRequest { reason: other.to_string() },
        }
    }
}

impl Users {
    /// Users on `kv`, their secrets sealed with `keys`. Reads nothing yet.
    #[must_use]
    pub fn new(kv: Arc<dyn OrderedKv>, keys: KeyRing, clock: Clock) -> Self {
        let inner = Inner { kv, keys, clock, cache: cache::Cache::default(), unknown_may_own: false };
        Self { inner: Arc::new(inner) }
    }

    /// The user and the secret of an access key, `None` where there is no such key.
    ///
    /// Answers from memory for [`REMEMBERED`] after metadata was last asked; then one caller asks again and
    /// those that come meanwhile wait for its answer. A change made through these very `Users` counts at once.
    /// What does not exist is not remembered. Cancel-safe.
    pub async fn secret_for_access_key(
        &self,
        access_key: &str,
    ) -> Result<Option<(Arc<UserIdentity>, SecretKey)>, UsersError> {
        if check_access_key(access_key).is_err() {
            return Ok(None);
        }
        let cache = &self.inner.cache;
        if let Some(known) = cache.fresh(access_key) {
            return Ok(Some(known.pair()));
        }
        let _turn = cache.turn(access_key).await;
        if let Some(known) = cache.fresh(access_key) {
            return Ok(Some(known.pair()));
        }
        let asking = cache.ask(access_key);
        let key = rows::access_key_key(access_key);
        let found = self.inner.kv.get(&key).await.map_err(|e| Error::internal("reading an access key", e))?;
        let Some(found) = found else {
            asking.absent();
            return Ok(None);
        };
        if let Some(known) = asking.unchanged(found.version) {
            return Ok(Some(known.pair()));
        }
        let Versioned { row, version } = transaction::decode::<AccessKeyRow>(&found)?;
        let secret = self.open(access_key, &row)?;
        let identity =
            UserIdentity { id: row.user, name: row.name, access_key: access_key.to_owned(), root: row.root };
        let known = cache::Known::new(Arc::new(identity), secret, version);
        asking.found(&known);
        Ok(Some(known.pair()))
    }

    /// The user with this id.
    pub async fn by_id(&self, id: &str) -> Result<Option<UserFacts>, UsersError> {
        let snapshot = self.snapshot().await?;
        let found = transaction::read::<UserRow>(&*snapshot, &rows::key(id)).await?;
        Ok(found.map(|found| facts(id.to_owned(), found.row)))
    }

    /// The user with this name, whatever its letter case.
    pub async fn by_name(&self, name: &str) -> Result<Option<UserFacts>, UsersError> {
        let snapshot = self.snapshot().await?;
        Ok(self.find(&*snapshot, name).await?.map(|(id, found)| facts(id, found.row)))
    }

    /// What to show for the owner or grantee with this id: the name, or `None` where there is no such user.
    /// Names never change, so what was found once is remembered.
    pub async fn display_name(&self, id: &str) -> Result<Option<Arc<str>>, UsersError> {
        if let Some(name) = self.inner.cache.name(id) {
            return Ok(Some(name));
        }
        let Some(found) = self.by_id(id).await? else { return Ok(None) };
        let name: Arc<str> = found.name.into();
        self.inner.cache.remember_name(id, &name);
        Ok(Some(name))
    }

    /// What a commit must check that makes this principal the owner of a bucket, so that it fails if he is
    /// removed meanwhile; `None` where nobody can be.
    ///
    /// Errors: access denied where the user is gone or being removed.
    pub async fn check_may_own(
        &self,
        snapshot: &dyn Snapshot,
        principal: &Principal,
    ) -> Result<Option<Check>, UsersError> {
        let Principal::User(user) = principal else { return Ok(None) };
        let key = rows::key(&user.id);
        match transaction::read::<UserRow>(snapshot, &key).await? {
            Some(found) if found.row.state == UserState::Active => Ok(Some(Check::At(key, found.version))),
            None if self.inner.unknown_may_own => Ok(None),
            _ => Err(UsersError::AccessDenied),
        }
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.inner.kv.snapshot().await.map_err(|e| Error::internal("reading users", e))
    }

    async fn find(
        &self,
        snapshot: &dyn Snapshot,
        name: &str,
    ) -> Result<Option<(String, Versioned<UserRow>)>, UsersError> {
        let Some(named) = transaction::read::<UserNameRow>(snapshot, &rows::name_key(name)).await? else {
            return Ok(None);
        };
        let id = named.row.id;
        let user = transaction::read::<UserRow>(snapshot, &rows::key(&id)).await?;
        let user =
            user.ok_or_else(|| Error::internal("reading a user", format!("the name {name} leads nowhere")))?;
        Ok(Some((id, user)))
    }

    fn open(&self, access_key: &str, row: &AccessKeyRow) -> Result<SecretKey, UsersError> {
        self.inner
            .keys
            .open(access_key, &row.sealed_secret)
            .map_err(|source| UsersError::Sealed { access_key: access_key.to_owned(), source })
    }
}

fn facts(id: String, row: UserRow) -> UserFacts {
    UserFacts { id, name: row.name, root: row.root, created: row.created, access_keys: row.access_keys }
}

fn require_root(cx: &RequestContext) -> Result<(), UsersError> {
    match &cx.principal {
        Principal::System => Ok(()),
        Principal::User(user) if user.root => Ok(()),
        Principal::User(_) | Principal::Anonymous => Err(UsersError::AccessDenied),
    }
}

#[cfg(any(test, feature = "testing"))]
impl Users {
    /// Users on `kv` with a master key made for this one test. Whoever a test makes up may own buckets.
    #[must_use]
    pub fn for_tests(kv: Arc<dyn OrderedKv>) -> Self {
        let keys = KeyRing::from(MasterKey::from([7; 32]));
        let inner =
            Inner { kv, keys, clock: Clock::System, cache: cache::Cache::default(), unknown_may_own: true };
        Self { inner: Arc::new(inner) }
    }
}

#[cfg(test)]
mod tests;
