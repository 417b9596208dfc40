//! Root: made at the first start, its key kept what the start-up was given.
//!
//! Invariant: there is one root, and at most one of its access keys is the start-up's; giving another one
//! takes the place of it, giving the same changes nothing. Works whatever crashed before.

use bytes::Bytes;
use std::sync::Arc;

use ashlar_metadata::namespace::users::{
    self as rows, AccessKeyOrigin, AccessKeyRow, UserNameRow, UserRow, UserState,
};

use super::secret::random_bytes;
use super::{NewAccessKey, ROOT_NAME, SecretKey, Users, UsersError, check_access_key, check_secret};
use crate::access::UserIdentity;
use crate::error::Error;
use crate::transaction::{self, ATTEMPTS_MAX, Transaction, Versioned, back_off};

/// What root signs in with.
#[derive(Clone, Debug)]
pub struct RootCredentials {
    /// Root.
    pub identity: Arc<UserIdentity>,
    /// Its secret.
    pub secret: SecretKey,
    /// Whether this call made or changed them.
    pub changed: bool,
}

/// The start-up key that stands in metadata.
type Standing = (String, Versioned<AccessKeyRow>);

impl Users {
    /// Makes sure that root exists and can sign in: with `given`, else with what it had, else with a random pair.
    ///
    /// Idempotent and atomic. Errors: a pair that breaks the rules of [`check_access_key`] and
    /// [`check_secret`]; an access key that is somebody else's; a master key that is not the one that sealed
    /// what is there.
    pub async fn bootstrap_root(
        &self,
        given: Option<(String, SecretKey)>,
    ) -> Result<RootCredentials, UsersError> {
        if let Some((access_key, secret)) = &given {
            check_access_key(access_key)?;
            check_secret(secret.expose())?;
        }
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            if let Some(credentials) = self.try_bootstrap(given.as_ref()).await? {
                return Ok(credentials);
            }
        }
        Err(Error::ConditionalConflict.into())
    }

    /// `None`: lost a race.
    async fn try_bootstrap(
        &self,
        given: Option<&(String, SecretKey)>,
    ) -> Result<Option<RootCredentials>, UsersError> {
        let snapshot = self.snapshot().await?;
        let mut transaction = Transaction::default();
        let (id, mut root) = match self.find(&*snapshot, ROOT_NAME).await? {
            Some((id, found)) => {
                transaction.check_at(rows::key(&id), found.version);
                (id, found.row)
            }
            None => {
                let id = hex::encode(random_bytes::<32>()?);
                transaction.check_absent(rows::name_key(ROOT_NAME));
                transaction.put(rows::name_key(ROOT_NAME), &UserNameRow { id: id.clone() });
                transaction.put_bytes(rows::changed_key(), Bytes::new());
                let created = self.inner.clock.now();
                let state = UserState::Active;
                (id, UserRow { name: ROOT_NAME.into(), root: true, created, state, access_keys: vec![] })
            }
        };
        let standing = self.start_up_key(&*snapshot, &root).await?;
        let standing_secret =
            standing.as_ref().map(|(access_key, found)| self.open(access_key, &found.row)).transpose()?;
        let wanted = match (given, &standing, standing_secret) {
            (None, Some((access_key, _)), Some(secret)) => {
                return Ok(Some(credentials(id, access_key, secret, false)));
            }
            (Some((access_key, secret)), Some((own, _)), Some(own_secret))
                if access_key == own && secret.expose() == own_secret.expose() =>
            {
                return Ok(Some(credentials(id, access_key, own_secret, false)));
            }
            (Some((access_key, secret)), _, _) => {
                NewAccessKey { access_key: access_key.clone(), secret: secret.clone() }
            }
            (None, _, _) => NewAccessKey::random()?,
        };
        let key = rows::access_key_key(&wanted.access_key);
        let there = transaction::read::<AccessKeyRow>(&*snapshot, &key).await?;
        if there.as_ref().is_some_and(|there| there.row.user != id) {
            return Err(UsersError::AccessKeyTaken { access_key: wanted.access_key });
        }
        transaction.check_as_read(key.clone(), there.as_ref());
        if let Some((old, found)) = &standing {
            transaction.check_at(rows::access_key_key(old), found.version);
            transaction.delete(rows::access_key_key(old));
            root.access_keys.retain(|own| own != old);
        }
        root.access_keys.retain(|own| *own != wanted.access_key);
        root.access_keys.push(wanted.access_key.clone());
        let row = AccessKeyRow {
            user: id.clone(),
            name: root.name.clone(),
            root: true,
            created: self.inner.clock.now(),
            origin: AccessKeyOrigin::Bootstrap,
            sealed_secret: self.inner.keys.seal(&wanted.access_key, &wanted.secret)?,
        };
        transaction.put(key, &row);
        transaction.put(rows::key(&id), &root);
        let committed = transaction.commit(&self.inner.kv).await?;
        self.inner
            .cache
            .forget(standing.iter().map(|(old, _)| old.as_str()).chain([wanted.access_key.as_str()]));
        Ok(committed.map(|_| credentials(id, &wanted.access_key, wanted.secret, true)))
    }

    async fn start_up_key(
        &self,
        snapshot: &dyn ashlar_metadata::Snapshot,
        root: &UserRow,
    ) -> Result<Option<Standing>, UsersError> {
        for access_key in &root.access_keys {
            let found =
                transaction::read::<AccessKeyRow>(snapshot, &rows::access_key_key(access_key)).await?;
            if let Some(found) = found.filter(|found| found.row.origin == AccessKeyOrigin::Bootstrap) {
                return Ok(Some((access_key.clone(), found)));
            }
        }
        Ok(None)
    }
}

fn credentials(id: String, access_key: &str, secret: SecretKey, changed: bool) -> RootCredentials {
    let identity = UserIdentity { id, name: ROOT_NAME.into(), access_key: access_key.to_owned(), root: true };
    RootCredentials { identity: Arc::new(identity), secret, changed }
}
