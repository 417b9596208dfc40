//! Adding, listing and removing users and access keys: root's alone.
//!
//! Invariants: a user's row lists exactly his access keys, and all change together; a user is removed only
//! when he owns no bucket, and cannot come to own one meanwhile.

use ashlar_metadata::namespace::buckets::{self, BucketRow};
use ashlar_metadata::namespace::users::{
    self as rows, AccessKeyOrigin, AccessKeyRow, UserNameRow, UserRow, UserState,
};
use ashlar_metadata::{Direction, KeyRange, Snapshot};
use bytes::Bytes;

use super::secret::random_bytes;
use super::{
    ACCESS_KEYS_MAX, AccessKeyFacts, NewAccessKey, SecretKey, UserFacts, Users, UsersError, check_access_key,
    check_secret, check_user_name, facts, require_root,
};
use crate::access::RequestContext;
use crate::api_keys;
use crate::error::Error;
use crate::transaction::{self, ATTEMPTS_MAX, Transaction, Versioned, back_off};

/// Most users of one page.
pub const USERS_PAGE_MAX: usize = 1_000;
/// Rows read by one step of a scan.
const STEP_ROWS: usize = 1_000;

impl Users {
    /// Adds a user, who has no access key yet.
    pub async fn add_user(&self, cx: &RequestContext, name: &str) -> Result<UserFacts, UsersError> {
        require_root(cx)?;
        check_user_name(name)?;
        let id = hex::encode(random_bytes::<32>()?);
        let row = UserRow {
            name: name.to_owned(),
            root: false,
            created: self.inner.clock.now(),
            state: UserState::Active,
            access_keys: vec![],
        };
        let mut transaction = Transaction::default();
        transaction.check_absent(rows::name_key(name));
        transaction.check_absent(rows::key(&id));
        transaction.put(rows::name_key(name), &UserNameRow { id: id.clone() });
        transaction.put_bytes(rows::changed_key(), Bytes::new());
        transaction.put(rows::key(&id), &row);
        match transaction.commit(&self.inner.kv).await? {
            Some(_) => Ok(facts(id, row)),
            None => Err(UsersError::UserExists { name: name.to_owned() }),
        }
    }

    /// Users in the order of their names in lower case, after `after`, at most `max` (1 to [`USERS_PAGE_MAX`]);
    /// and where to go on, when there are more.
    pub async fn list_users(
        &self,
        cx: &RequestContext,
        after: Option<&str>,
        max: usize,
    ) -> Result<(Vec<UserFacts>, Option<String>), UsersError> {
        require_root(cx)?;
        let snapshot = self.snapshot().await?;
        let mut range = KeyRange::prefix(rows::names_prefix());
        if let Some(after) = after {
            range = range.after(&rows::name_key(after));
        }
        let page = scan(&*snapshot, range, max.clamp(1, USERS_PAGE_MAX)).await?;
        let mut users = Vec::with_capacity(page.rows.len());
        for (_, row) in &page.rows {
            let id = transaction::decode::<UserNameRow>(row)?.row.id;
            if let Some(found) = transaction::read::<UserRow>(&*snapshot, &rows::key(&id)).await? {
                users.push(facts(id, found.row));
            }
        }
        let next = page.rows.last().filter(|_| page.more).and_then(|(key, _)| rows::name_of(key));
        Ok((users, next))
    }

    /// Removes a user with all his access keys and API keys. Objects of his in others' buckets stay.
    ///
    /// Errors: [`UsersError::OwnsBuckets`], and nothing changed. A removal that crashed is finished by another.
    pub async fn remove_user(&self, cx: &RequestContext, name: &str) -> Result<(), UsersError> {
        require_root(cx)?;
        self.set_state(name, UserState::Removing).await?;
        // From here on no bucket of his can be made, so what this snapshot does not hold never comes.
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let (id, found) = self.named(&*snapshot, name).await?;
            if found.row.state != UserState::Removing {
                return Err(Error::ConditionalConflict.into());
            }
            if let Some(bucket) = owned_bucket(&*snapshot, &id).await? {
                self.set_state(name, UserState::Active).await?;
                return Err(UsersError::OwnsBuckets { name: found.row.name, bucket });
            }
            let mut transaction = Transaction::default();
            transaction.check_at(rows::key(&id), found.version);
            transaction.delete(rows::key(&id));
            transaction.delete(rows::name_key(name));
            transaction.put_bytes(rows::changed_key(), Bytes::new());
            api_keys::remove_all_of(&*snapshot, &id, &mut transaction).await?;
            for access_key in &found.row.access_keys {
                transaction.delete(rows::access_key_key(access_key));
            }
            let committed = transaction.commit(&self.inner.kv).await?;
            self.inner.cache.forget(found.row.access_keys.iter().map(String::as_str));
            if committed.is_some() {
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict.into())
    }

    async fn set_state(&self, name: &str, state: UserState) -> Result<(), UsersError> {
        self.change(name, |id, found, transaction| {
            if found.root {
                return Err(UsersError::RootStays);
            }
            transaction.put(rows::key(id), &UserRow { state, ..found.clone() });
            Ok(())
        })
        .await
    }

    /// Adds a random access key. Its secret is answered this once.
    pub async fn add_key(&self, cx: &RequestContext, name: &str) -> Result<NewAccessKey, UsersError> {
        let key = NewAccessKey::random()?;
        self.import_key(cx, name, &key.access_key, &key.secret).await?;
        Ok(key)
    }

    /// Adds an access key that was made elsewhere.
    pub async fn import_key(
        &self,
        cx: &RequestContext,
        name: &str,
        access_key: &str,
        secret: &SecretKey,
    ) -> Result<(), UsersError> {
        require_root(cx)?;
        check_access_key(access_key)?;
        check_secret(secret.expose())?;
        let key = rows::access_key_key(access_key);
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let (id, Versioned { row: mut user, version }) = self.named(&*snapshot, name).await?;
            if user.state != UserState::Active {
                return Err(UsersError::BeingRemoved { name: user.name });
            }
            if user.access_keys.len() >= ACCESS_KEYS_MAX {
                return Err(UsersError::TooManyAccessKeys { name: user.name });
            }
            if transaction::read::<AccessKeyRow>(&*snapshot, &key).await?.is_some() {
                return Err(UsersError::AccessKeyTaken { access_key: access_key.to_owned() });
            }
            let row = AccessKeyRow {
                user: id.clone(),
                name: user.name.clone(),
                root: user.root,
                created: self.inner.clock.now(),
                origin: AccessKeyOrigin::Added,
                sealed_secret: self.inner.keys.seal(access_key, secret)?,
            };
            user.access_keys.push(access_key.to_owned());
            let mut transaction = Transaction::default();
            transaction.check_at(rows::key(&id), version);
            transaction.check_absent(key.clone());
            transaction.put(key.clone(), &row);
            transaction.put(rows::key(&id), &user);
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict.into())
    }

    /// Removes an access key of a user. At once here, within [`super::REMEMBERED`] elsewhere, it signs nothing.
    ///
    /// Root's start-up key can be removed too; the next start brings it back.
    pub async fn remove_key(
        &self,
        cx: &RequestContext,
        name: &str,
        access_key: &str,
    ) -> Result<(), UsersError> {
        require_root(cx)?;
        let removed = self
            .change(name, |id, found, transaction| {
                let mut user = found.clone();
                user.access_keys.retain(|own| own != access_key);
                if user.access_keys.len() == found.access_keys.len() {
                    let (name, access_key) = (user.name, access_key.to_owned());
                    return Err(UsersError::NoSuchAccessKey { name, access_key });
                }
                transaction.delete(rows::access_key_key(access_key));
                transaction.put(rows::key(id), &user);
                Ok(())
            })
            .await;
        self.inner.cache.forget([access_key]);
        removed
    }

    /// The access keys of a user.
    pub async fn list_keys(
        &self,
        cx: &RequestContext,
        name: &str,
    ) -> Result<Vec<AccessKeyFacts>, UsersError> {
        require_root(cx)?;
        let snapshot = self.snapshot().await?;
        let (_, found) = self.named(&*snapshot, name).await?;
        let mut out = Vec::with_capacity(found.row.access_keys.len());
        for access_key in found.row.access_keys {
            let key = rows::access_key_key(&access_key);
            if let Some(found) = transaction::read::<AccessKeyRow>(&*snapshot, &key).await? {
                out.push(AccessKeyFacts { access_key, created: found.row.created, origin: found.row.origin });
            }
        }
        Ok(out)
    }

    /// Seals anew, with the current master key, every secret that an older one sealed; answers how many.
    /// When it is done the older master keys are needed no more.
    pub async fn reseal(&self, cx: &RequestContext) -> Result<u64, UsersError> {
        require_root(cx)?;
        let mut resealed = 0;
        let mut range = KeyRange::prefix(rows::access_keys_prefix());
        loop {
            let snapshot = self.snapshot().await?;
            let page = scan(&*snapshot, range.clone(), STEP_ROWS).await?;
            for (key, row) in &page.rows {
                let found = transaction::decode::<AccessKeyRow>(row)?;
                let Some(access_key) = rows::access_key_of(key) else { continue };
                if self.inner.keys.is_current(&found.row.sealed_secret) {
                    continue;
                }
                let secret = self.open(&access_key, &found.row)?;
                let sealed_secret = self.inner.keys.seal(&access_key, &secret)?;
                let mut transaction = Transaction::default();
                transaction.check_at(key.clone(), found.version);
                transaction.put(key.clone(), &AccessKeyRow { sealed_secret, ..found.row });
                // A row that changed meanwhile was sealed with a current key, or is gone.
                resealed += u64::from(transaction.commit(&self.inner.kv).await?.is_some());
            }
            match page.rows.last().filter(|_| page.more) {
                Some((key, _)) => range = range.after(key),
                None => return Ok(resealed),
            }
        }
    }

    async fn named(
        &self,
        snapshot: &dyn Snapshot,
        name: &str,
    ) -> Result<(String, Versioned<UserRow>), UsersError> {
        self.find(snapshot, name)
            .await?
            .ok_or_else(|| UsersError::NoSuchUser { name: name.chars().take(80).collect() })
    }

    /// Changes a user's row and what hangs on it, atomically; `change` puts what it wants to have changed and
    /// is called again after a lost race.
    async fn change(
        &self,
        name: &str,
        change: impl Fn(&str, &UserRow, &mut Transaction) -> Result<(), UsersError>,
    ) -> Result<(), UsersError> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let (id, found) = self.named(&*snapshot, name).await?;
            let mut transaction = Transaction::default();
            transaction.check_at(rows::key(&id), found.version);
            change(&id, &found.row, &mut transaction)?;
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict.into())
    }
}

/// Some bucket that the user owns.
async fn owned_bucket(snapshot: &dyn Snapshot, id: &str) -> Result<Option<String>, UsersError> {
    let mut range = KeyRange::prefix(buckets::prefix(""));
    loop {
        let page = scan(snapshot, range.clone(), STEP_ROWS).await?;
        for (key, row) in &page.rows {
            if transaction::decode::<BucketRow>(row)?.row.owner == id {
                return Ok(Some(buckets::name_of(key).map_or_else(String::new, |name| name.to_string())));
            }
        }
        match page.rows.last().filter(|_| page.more) {
            Some((key, _)) => range = range.after(key),
            None => return Ok(None),
        }
    }
}

async fn scan(snapshot: &dyn Snapshot, range: KeyRange, rows: usize) -> Result<ashlar_metadata::Page, Error> {
    snapshot.scan(range, Direction::Forward, rows).await.map_err(|e| Error::internal("reading users", e))
}
