//! Making, listing and removing API keys: root's for everybody, a user's for himself.
//!
//! Invariant: the list of a user's keys names exactly the rows that there are, because all change in one commit; none is
//! made for a user who is gone or going.

use ashlar_metadata::namespace::api_keys::{self as rows, ApiKeyRow, ApiKeySpendRow, UserApiKeysRow};
use ashlar_metadata::namespace::users::{self, UserNameRow, UserRow, UserState};
use ashlar_metadata::{Direction, KeyRange, Snapshot};

use super::{
    API_KEYS_MAX, ApiKeySpec, ApiKeys, ApiKeysError, ListedApiKey, NAME_CHARS_MAX, NewApiKey,
    SCOPE_ITEMS_MAX, facts, secret,
};
use crate::access::{Principal, RequestContext};
use crate::error::Error;
use crate::transaction::{self, ATTEMPTS_MAX, Transaction, Versioned, back_off};

/// Most keys of one page.
pub(super) const PAGE_MAX: usize = 1_000;

impl ApiKeys {
    /// Makes a key for a user. Its secret is answered this once.
    pub async fn create(
        &self,
        cx: &RequestContext,
        user: &str,
        spec: ApiKeySpec,
    ) -> Result<NewApiKey, ApiKeysError> {
        self.check(&spec)?;
        let key = secret::random()?;
        let digest = secret::digest_of(key.expose())
            .ok_or_else(|| Error::internal("making an API key", "it does not read"))?;
        let id = secret::id_of(&digest);
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let (user_id, owner) = named(&*snapshot, user).await?;
            may_manage(cx, &user_id)?;
            if owner.row.state != UserState::Active {
                return Err(ApiKeysError::BeingRemoved { name: owner.row.name });
            }
            let list_key = rows::of_user_key(&user_id);
            let list = transaction::read::<UserApiKeysRow>(&*snapshot, &list_key).await?;
            let mut ids = list.as_ref().map(|list| list.row.ids.clone()).unwrap_or_default();
            if ids.len() >= API_KEYS_MAX {
                return Err(ApiKeysError::TooManyKeys { name: owner.row.name });
            }
            ids.push(id.clone());
            let ApiKeySpec { name, expires, routes, models, spend_cap } = spec.clone();
            let row = ApiKeyRow {
                name,
                digest,
                user: user_id.clone(),
                user_name: owner.row.name,
                root: owner.row.root,
                created: self.inner.clock.now(),
                expires,
                routes,
                models,
                spend_cap,
            };
            let mut transaction = Transaction::default();
            transaction.check_at(users::key(&user_id), owner.version);
            transaction.check_as_read(list_key.clone(), list.as_ref());
            transaction.check_absent(rows::key(&id));
            transaction.put(rows::key(&id), &row);
            transaction.put(rows::spend_key(&id), &ApiKeySpendRow::default());
            transaction.put(list_key, &UserApiKeysRow { ids });
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(NewApiKey { facts: facts(id, row), secret: key });
            }
        }
        Err(Error::ConditionalConflict.into())
    }

    /// Keys of a user, oldest first; without a user everybody's, which is root's, after `after` and at most 1,000, with where
    /// to go on.
    pub async fn list(
        &self,
        cx: &RequestContext,
        user: Option<&str>,
        after: Option<&str>,
    ) -> Result<(Vec<ListedApiKey>, Option<String>), ApiKeysError> {
        let snapshot = self.snapshot().await?;
        let (ids, next) = match user {
            Some(user) => {
                let (user_id, _) = named(&*snapshot, user).await?;
                may_manage(cx, &user_id)?;
                let list =
                    transaction::read::<UserApiKeysRow>(&*snapshot, &rows::of_user_key(&user_id)).await?;
                (list.map(|list| list.row.ids).unwrap_or_default(), None)
            }
            None => {
                may_manage(cx, "")?;
                let mut range = KeyRange::prefix(rows::prefix());
                if let Some(after) = after {
                    range = range.after(&rows::key(after));
                }
                let page = snapshot.scan(range, Direction::Forward, PAGE_MAX).await;
                let page = page.map_err(|e| Error::internal("reading API keys", e))?;
                let ids: Vec<String> = page.rows.iter().filter_map(|(key, _)| rows::id_of(key)).collect();
                let next = ids.last().filter(|_| page.more).cloned();
                (ids, next)
            }
        };
        let mut keys = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(found) = transaction::read::<ApiKeyRow>(&*snapshot, &rows::key(&id)).await? else {
                continue;
            };
            let spent = transaction::read::<ApiKeySpendRow>(&*snapshot, &rows::spend_key(&id)).await?;
            let spent = spent.map_or(0, |spent| spent.row.spent).saturating_sub(self.unused(&id));
            keys.push(ListedApiKey { facts: facts(id, found.row), spent });
        }
        Ok((keys, next))
    }

    /// Removes a key. From then on nobody signs in with it; answers under way end as they would have.
    pub async fn remove(&self, cx: &RequestContext, id: &str) -> Result<(), ApiKeysError> {
        let missing = || ApiKeysError::NoSuchKey { id: id.chars().take(80).collect() };
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let found = transaction::read::<ApiKeyRow>(&*snapshot, &rows::key(id)).await?;
            let Some(found) = found else {
                // Whether another's key exists is not told to who may not manage it.
                may_manage(cx, "").map_err(|_| missing())?;
                return Err(missing());
            };
            may_manage(cx, &found.row.user).map_err(|_| missing())?;
            let list_key = rows::of_user_key(&found.row.user);
            let list = transaction::read::<UserApiKeysRow>(&*snapshot, &list_key).await?;
            let mut ids = list.as_ref().map(|list| list.row.ids.clone()).unwrap_or_default();
            ids.retain(|own| own != id);
            let mut transaction = Transaction::default();
            transaction.check_at(rows::key(id), found.version);
            transaction.check_as_read(list_key.clone(), list.as_ref());
            transaction.delete(rows::key(id));
            transaction.delete(rows::spend_key(id));
            transaction.put(list_key, &UserApiKeysRow { ids });
            if transaction.commit(&self.inner.kv).await?.is_some() {
                self.inner.meters.lock().remove(id);
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict.into())
    }

    fn check(&self, spec: &ApiKeySpec) -> Result<(), ApiKeysError> {
        let refuse = |reason| Err(ApiKeysError::Invalid { reason });
        let is_printable = !spec.name.chars().any(char::is_control);
        if spec.name.is_empty() || spec.name.chars().count() > NAME_CHARS_MAX || !is_printable {
            return refuse("its name has 1 to 100 printable characters");
        }
        if spec.expires.is_some_and(|expires| expires <= self.inner.clock.now()) {
            return refuse("it would have expired already");
        }
        for items in [&spec.routes, &spec.models].into_iter().flatten() {
            let fits = items.iter().all(|item| (1..=256).contains(&item.len()));
            if items.is_empty() || items.len() > SCOPE_ITEMS_MAX || !fits {
                return refuse("a scope has 1 to 100 routes and models, each of 1 to 256 bytes");
            }
        }
        Ok(())
    }
}

/// What a transaction that removes a user must also do, so that none of his keys is left.
pub(crate) async fn remove_all_of(
    snapshot: &dyn Snapshot,
    user: &str,
    transaction: &mut Transaction,
) -> Result<(), Error> {
    let list_key = rows::of_user_key(user);
    let list = transaction::read::<UserApiKeysRow>(snapshot, &list_key).await?;
    transaction.check_as_read(list_key.clone(), list.as_ref());
    if let Some(list) = list {
        for id in &list.row.ids {
            transaction.delete(rows::key(id));
            transaction.delete(rows::spend_key(id));
        }
        transaction.delete(list_key);
    }
    Ok(())
}

async fn named(snapshot: &dyn Snapshot, name: &str) -> Result<(String, Versioned<UserRow>), ApiKeysError> {
    let missing = || ApiKeysError::NoSuchUser { name: name.chars().take(80).collect() };
    let named =
        transaction::read::<UserNameRow>(snapshot, &users::name_key(name)).await?.ok_or_else(missing)?;
    let user =
        transaction::read::<UserRow>(snapshot, &users::key(&named.row.id)).await?.ok_or_else(missing)?;
    Ok((named.row.id, user))
}

fn may_manage(cx: &RequestContext, user_id: &str) -> Result<(), ApiKeysError> {
    match &cx.principal {
        Principal::System => Ok(()),
        Principal::User(user) if user.root || user.id == user_id => Ok(()),
        Principal::User(_) | Principal::Anonymous => Err(ApiKeysError::AccessDenied),
    }
}
