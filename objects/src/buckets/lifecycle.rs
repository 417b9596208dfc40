//! Buckets come and go.
//!
//! DeleteBucket marks the row first and looks afterwards: every write checks the row's version and calls a
//! deletion off before it goes on, so a bucket is never deleted under a write that was acknowledged, and a
//! deletion that was interrupted leaves nothing to clean up.

use ashlar_metadata::namespace::blobs::DeadRow;
use ashlar_metadata::namespace::buckets::{self, BucketId, BucketRow, BucketState, Document, Versioning};
use ashlar_metadata::namespace::heads;
use ashlar_metadata::{Direction, KeyRange, Position};

use crate::Store;
use crate::access::{Acl, AclError, Action, BucketAccess, Principal, PublicAccessBlock, RequestContext};
use crate::error::Error;
use crate::log::{DurableWhen, of_bucket_removed};
use crate::object_lock::ObjectLockRules;
use crate::requests::{BucketChanged, BucketFacts, CreateBucket, CreatedBucket};
use crate::transaction::{ATTEMPTS_MAX, Transaction, Versioned, back_off, decode, read};
use crate::types::BucketName;

use super::documents::json;
use super::{Bucket, BucketRows, writer};

/// Rows handled by one step of a scan.
const STEP_ROWS: usize = 1_000;

/// Names that only the store itself gives: who made such a bucket would be believed for it.
const RESERVED: [&str; 2] = ["ashlar-catalog", "ashlar-jobs"];

impl Store {
    /// Makes a bucket, owned by who asks.
    pub async fn create_bucket(
        &self,
        cx: &RequestContext,
        request: CreateBucket,
    ) -> Result<CreatedBucket, Error> {
        self.authorize_service(cx, Action::CreateBucket)?;
        if RESERVED.contains(&request.bucket.as_str()) && cx.principal != Principal::System {
            return Err(Error::BucketAlreadyExists);
        }
        let owner = writer(cx);
        let ownership = request.ownership.unwrap_or_default();
        let to_be = BucketAccess {
            name: request.bucket.as_str(),
            owner: &owner,
            policy: None,
            acl: None,
            ownership,
            public_access_block: PublicAccessBlock::default(),
        };
        let acl = Acl::of_new_bucket(request.acl.as_ref(), &to_be).map_err(|error| match error {
            AclError::NotSupported => Error::AclAgainstOwnership,
            error => error.into(),
        })?;
        let key = buckets::key(&request.bucket);
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            if let Some(found) = read::<BucketRow>(&*snapshot, &key).await? {
                return Err(if found.row.owner == owner {
                    Error::BucketAlreadyOwnedByYou
                } else {
                    Error::BucketAlreadyExists
                });
            }
            let counter = snapshot
                .get(&buckets::last_id_key())
                .await
                .map_err(|e| Error::internal("giving a bucket its id", e))?;
            let last =
                counter.as_ref().map_or(Some(0), |row| row.value[..].try_into().ok().map(u64::from_be_bytes));
            let id = last
                .ok_or_else(|| Error::internal("giving a bucket its id", "the counter does not read"))?
                + 1;
            let row = BucketRow {
                id: BucketId(id),
                owner: owner.clone(),
                created: self.inner.clock.now(),
                versioning: if request.object_lock { Versioning::Enabled } else { Versioning::Off },
                state: BucketState::Live,
                location: request.location.clone(),
                documents_generation: 0,
            };
            let mut transaction = Transaction::default();
            // A user who is being removed makes no bucket that nobody would own.
            if let Some(check) = self.users().check_may_own(&*snapshot, &cx.principal).await? {
                transaction.check(check);
            }
            transaction.check_absent(key.clone());
            match &counter {
                Some(counter) => transaction.check_at(buckets::last_id_key(), counter.version),
                None => transaction.check_absent(buckets::last_id_key()),
            }
            transaction.put_bytes(buckets::last_id_key(), bytes::Bytes::copy_from_slice(&id.to_be_bytes()));
            let mut rows = BucketRows::new(request.bucket.clone(), row.clone());
            if let Some(ownership) = &request.ownership {
                rows.set(&mut transaction, Document::Ownership, Some(json(ownership)?));
            }
            rows.set(&mut transaction, Document::Acl, Some(json(&acl)?));
            if request.object_lock {
                let rules = json(&ObjectLockRules::default())?;
                rows.set(&mut transaction, Document::ObjectLock, Some(rules));
            }
            rows.finish(&mut transaction, row.clone(), row.created);
            if let Some(logged) = self.commit_logged(transaction, DurableWhen::Quorum).await? {
                return Ok(CreatedBucket { facts: facts(request.bucket, row), receipt: logged.receipt });
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// Deletes an empty bucket. Uploads in progress end with it: nobody finds them any more, and GC takes them.
    pub async fn delete_bucket(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<BucketChanged, Error> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let bucket = self.bucket(&*snapshot, name).await?;
            self.authorize_bucket(cx, Action::DeleteBucket, &bucket)?;
            let Some(version) = self.set_state(&bucket, bucket.version, BucketState::Deleting).await? else {
                continue;
            };
            if !self.is_empty(bucket.id()).await? {
                // Where this fails, a write has called the deletion off already.
                self.set_state(&bucket, version, BucketState::Live).await?;
                return Err(Error::BucketNotEmpty);
            }
            let mut transaction = Transaction::default();
            transaction.check_at(buckets::key(name), version);
            transaction.delete(buckets::key(name));
            for document in Document::ALL {
                transaction.delete(buckets::document_key(bucket.id(), document));
            }
            transaction.bury(DeadRow::Bucket(bucket.id()));
            transaction.announce(&of_bucket_removed(name, self.inner.clock.now()));
            if let Some(logged) = self.commit_logged(transaction, bucket.durable_when).await? {
                self.until_durable(&logged).await?;
                return Ok(BucketChanged { receipt: logged.receipt });
            }
        }
        Err(Error::ConditionalConflict)
    }

    async fn set_state(
        &self,
        bucket: &Bucket,
        version: Position,
        state: BucketState,
    ) -> Result<Option<Position>, Error> {
        let mut transaction = Transaction::default();
        transaction.check_at(buckets::key(&bucket.name), version);
        transaction.put(buckets::key(&bucket.name), &BucketRow { state, ..bucket.row.clone() });
        transaction.commit(&self.inner.kv).await
    }

    async fn is_empty(&self, bucket: BucketId) -> Result<bool, Error> {
        let snapshot = self.snapshot().await?;
        let page = snapshot
            .scan(KeyRange::prefix(heads::prefix(bucket)), Direction::Forward, 1)
            .await
            .map_err(|e| Error::internal("looking whether a bucket is empty", e))?;
        Ok(page.rows.is_empty())
    }

    /// Facts about a bucket, for who may list it.
    pub async fn head_bucket(&self, cx: &RequestContext, name: &BucketName) -> Result<BucketFacts, Error> {
        self.bucket_facts(cx, name, Action::ListBucket).await
    }

    /// Facts about a bucket, for who may do `action` to it.
    pub async fn bucket_facts(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        action: Action,
    ) -> Result<BucketFacts, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, name).await?;
        self.authorize_bucket(cx, action, &bucket)?;
        Ok(facts(name.clone(), bucket.row.clone()))
    }

    /// The caller's buckets by name (root: everybody's), and the name to go on after.
    pub async fn list_buckets(
        &self,
        cx: &RequestContext,
        prefix: &str,
        after: Option<&str>,
        max: u32,
    ) -> Result<(Vec<BucketFacts>, Option<String>), Error> {
        self.authorize_service(cx, Action::ListAllMyBuckets)?;
        let mine = |row: &BucketRow| match &cx.principal {
            Principal::System => true,
            Principal::User(user) => user.root || row.owner == user.id,
            Principal::Anonymous => false,
        };
        let wanted = usize::try_from(max).unwrap_or(usize::MAX);
        let snapshot = self.snapshot().await?;
        let mut range = KeyRange::prefix(buckets::prefix(prefix));
        if let Some(after) = after.and_then(|name| BucketName::new(name).ok()) {
            range = range.after(&buckets::key(&after));
        }
        let mut found: Vec<BucketFacts> = Vec::new();
        loop {
            let page = snapshot
                .scan(range.clone(), Direction::Forward, STEP_ROWS)
                .await
                .map_err(|e| Error::internal("listing buckets", e))?;
            let Some((last, _)) = page.rows.last() else { return Ok((found, None)) };
            range = range.after(last);
            for (key, row) in &page.rows {
                let name = buckets::name_of(key)
                    .ok_or_else(|| Error::internal("listing buckets", "a key does not read"))?;
                let Versioned { row, .. } = decode::<BucketRow>(row)?;
                if !mine(&row) {
                    continue;
                }
                if found.len() == wanted {
                    let next = found.last().map(|facts| facts.name.as_str().to_owned());
                    return Ok((found, next));
                }
                found.push(facts(name, row));
            }
            if !page.more {
                return Ok((found, None));
            }
        }
    }
}

pub(crate) fn facts(name: BucketName, row: BucketRow) -> BucketFacts {
    BucketFacts {
        name,
        owner: row.owner,
        created: row.created,
        versioning: row.versioning,
        location: row.location,
    }
}
