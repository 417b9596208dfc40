//! What lapses with time and is then removed: answers of completed uploads, groups left alone, leases not
//! renewed, transaction ids that nobody will ask for.
//!
//! Clocks decide when to try, never whether it is safe: each removal is a transaction on the row as read.

use ashlar_metadata::namespace::publish::{self, GroupRow};
use ashlar_metadata::namespace::sessions::{self, LeaseRow};
use ashlar_metadata::namespace::uploads::{self, CompletedRow};
use ashlar_metadata::namespace::{NamespaceRow, keys::Tag};
use ashlar_metadata::{Direction, KeyRange, Position};
use bytes::Bytes;

use crate::Store;
use crate::error::Error;
use crate::multipart::COMPLETED_KEPT_MILLIS;
use crate::publish::GroupId;
use crate::transaction::{Transaction, decode};

/// How long a group may be left alone, in milliseconds: a day.
const GROUP_KEPT_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// Rows looked at by one step.
const STEP_ROWS: usize = 1_000;
/// Positions for which transaction ids are kept: an unknown outcome is asked for within seconds.
const TRANSACTION_POSITIONS_KEPT: u64 = 200_000;

impl Store {
    /// Removes everything that has lapsed. Safe to run at any time, by any number of processes.
    pub async fn expire(&self) -> Result<(), Error> {
        let now = self.inner.clock.now().0;
        self.expire_rows::<CompletedRow>(uploads::completed_prefix(), |row| {
            now - row.completed.0 > COMPLETED_KEPT_MILLIS
        })
        .await?;
        self.expire_rows::<LeaseRow>(sessions::leases_prefix(), |row| row.expires.0 < now).await?;
        self.expire_groups(now).await?;
        let below = Position(self.inner.kv.stable_position().0.saturating_sub(TRANSACTION_POSITIONS_KEPT));
        while self
            .inner
            .kv
            .expire_transactions(below, STEP_ROWS)
            .await
            .map_err(|e| Error::internal("forgetting transactions", e))?
            == STEP_ROWS
        {}
        Ok(())
    }

    async fn expire_rows<R: NamespaceRow>(
        &self,
        prefix: Bytes,
        lapsed: impl Fn(&R) -> bool,
    ) -> Result<(), Error> {
        let mut range = KeyRange::prefix(prefix);
        loop {
            let snapshot = self.snapshot().await?;
            let page = snapshot
                .scan(range.clone(), Direction::Forward, STEP_ROWS)
                .await
                .map_err(|e| Error::internal("looking for what has lapsed", e))?;
            let Some((last, _)) = page.rows.last() else { return Ok(()) };
            range = range.after(last);
            let mut transaction = Transaction::default();
            for (key, row) in &page.rows {
                if lapsed(&decode::<R>(row)?.row) {
                    transaction.check_at(key.clone(), row.version);
                    transaction.delete(key.clone());
                }
            }
            if !transaction.is_empty() {
                // Lost to whoever renewed one meanwhile: the next run looks again.
                transaction.commit(&self.inner.kv).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn expire_groups(&self, now: i64) -> Result<(), Error> {
        const LOOKING: &str = "looking for groups left alone";
        let mut range = KeyRange::prefix(publish::prefix());
        loop {
            let snapshot = self.snapshot().await?;
            let page = snapshot
                .scan(range.clone(), Direction::Forward, STEP_ROWS)
                .await
                .map_err(|e| Error::internal(LOOKING, e))?;
            drop(snapshot);
            for (key, row) in &page.rows {
                let group = publish::parse_key(key).ok_or_else(|| {
                    Error::internal(LOOKING, format!("a {:?} key does not read", Tag::PublishGroup))
                })?;
                if now - decode::<GroupRow>(row)?.row.begun.0 > GROUP_KEPT_MILLIS {
                    self.drop_group(GroupId(group)).await?;
                }
            }
            match page.rows.last() {
                Some((last, _)) if page.more => range = range.after(last),
                _ => return Ok(()),
            }
        }
    }
}
