//! What keys spend: counted durably before it is spent, and cheaply.
//!
//! A gateway takes an allowance out of a key's cap in one commit, which counts it as spent, and gives it to requests
//! from memory. A request reserves the most that it can cost before it runs and settles what it did cost; what is left of the
//! reservation goes back to the allowance, and what is left of that goes back to the key in an orderly end.
//!
//! Invariant: the durable count is never below what was spent, so no crash lets a key exceed its cap. What a crash costs is
//! that up to one allowance of each gateway counts as spent which was not: at most [`ALLOWANCE_RESERVATIONS`] times the
//! largest reservation, and what was reserved. Does not know what is bought.

use std::sync::Arc;

use ashlar_metadata::namespace::api_keys::{self as rows, ApiKeyRow, ApiKeySpendRow};
use parking_lot::Mutex;

use super::{ApiKeys, ApiKeysError};
use crate::error::Error;
use crate::transaction::{self, ATTEMPTS_MAX, Transaction, back_off};

/// Reservations of the size asked for that an allowance is taken for at once.
pub const ALLOWANCE_RESERVATIONS: u128 = 16;
/// No more than this share of what is left of a cap is taken ahead, so that little lies about when it runs out.
const REST_SHARE: u128 = 8;

/// A key's allowance in this process.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Taken out, neither reserved nor spent, in wei.
    available: Mutex<u128>,
    /// One at a time takes an allowance out; the others wait for it.
    turn: tokio::sync::Mutex<()>,
}

impl Meter {
    fn take(&self, amount: u128) -> bool {
        let mut available = self.available.lock();
        let rest = available.checked_sub(amount);
        if let Some(rest) = rest {
            *available = rest;
        }
        rest.is_some()
    }

    fn put(&self, amount: u128) {
        *self.available.lock() += amount;
    }
}

/// What a request may spend. What it did not spend goes back when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    meter: Arc<Meter>,
    reserved: u128,
    spent: u128,
}

impl Reservation {
    /// What is reserved, in wei.
    pub fn reserved(&self) -> u128 {
        self.reserved
    }

    /// Says what was spent until now, in wei; no more than was reserved counts.
    pub fn spend(&mut self, spent: u128) {
        self.spent = spent.min(self.reserved);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.meter.put(self.reserved - self.spent);
    }
}

impl ApiKeys {
    /// Sets aside what a request of this key may cost at most, in wei, before it runs.
    ///
    /// Most calls touch memory alone. Cancel-safe: what was taken out meanwhile stays the key's allowance.
    pub async fn reserve(&self, id: &str, amount: u128) -> Result<Reservation, ApiKeysError> {
        let meter = self.meter(id);
        let reserved =
            |meter: &Arc<Meter>| Reservation { meter: Arc::clone(meter), reserved: amount, spent: 0 };
        if meter.take(amount) {
            return Ok(reserved(&meter));
        }
        let _turn = meter.turn.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            if meter.take(amount) {
                return Ok(reserved(&meter));
            }
            let missing = amount.saturating_sub(*meter.available.lock());
            let (keys, id, into) = (self.clone(), id.to_owned(), Arc::clone(&meter));
            let taking =
                self.inner.tasks.spawn(async move { keys.take_out(&id, amount, missing, &into).await });
            taking.await.map_err(|e| Error::internal("taking out an allowance", e))??;
            // Others, who do not wait here, may have been given of it meanwhile.
        }
        Err(Error::ConditionalConflict.into())
    }

    /// Counts an allowance as spent and puts it into the meter.
    async fn take_out(
        &self,
        id: &str,
        amount: u128,
        missing: u128,
        meter: &Arc<Meter>,
    ) -> Result<(), ApiKeysError> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let key = transaction::read::<ApiKeyRow>(&*snapshot, &rows::key(id)).await?;
            let spend = transaction::read::<ApiKeySpendRow>(&*snapshot, &rows::spend_key(id)).await?;
            let (Some(key), Some(spend)) = (key, spend) else {
                return Err(ApiKeysError::NoSuchKey { id: id.to_owned() });
            };
            let spent = spend.row.spent;
            let cap = key.row.spend_cap.unwrap_or(u128::MAX);
            let rest = cap.saturating_sub(spent);
            if missing > rest {
                return Err(ApiKeysError::AboveSpendCap { cap, spent, wanted: amount });
            }
            let ahead = amount.saturating_mul(ALLOWANCE_RESERVATIONS - 1).min(rest / REST_SHARE);
            let taken = missing.saturating_add(ahead).min(rest);
            let mut transaction = Transaction::default();
            transaction.check_at(rows::key(id), key.version);
            transaction.check_at(rows::spend_key(id), spend.version);
            transaction.put(rows::spend_key(id), &ApiKeySpendRow { spent: spent + taken });
            if transaction.commit(&self.inner.kv).await?.is_some() {
                meter.put(taken);
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict.into())
    }

    /// What this process took out of a key's cap and has not spent.
    pub(super) fn unused(&self, id: &str) -> u128 {
        self.inner.meters.lock().get(id).map_or(0, |meter| *meter.available.lock())
    }

    /// Gives back to their keys what was taken out and not spent: in an orderly end, and now and then, so that no gateway sits
    /// on what another could spend.
    pub async fn give_back(&self) -> Result<(), ApiKeysError> {
        let meters: Vec<(String, Arc<Meter>)> =
            self.inner.meters.lock().iter().map(|(id, meter)| (id.clone(), Arc::clone(meter))).collect();
        for (id, meter) in meters {
            let _turn = meter.turn.lock().await;
            let unused = std::mem::take(&mut *meter.available.lock());
            if unused == 0 {
                continue;
            }
            if let Err(error) = self.return_to(&id, unused).await {
                // Whether it was written is not known after some failures: then it stays counted as spent.
                if !matches!(error, Error::OutcomeUnknown) {
                    meter.put(unused);
                }
                return Err(error.into());
            }
        }
        // Nobody can have one in hand that is not counted here: hands are given out under this lock.
        self.inner
            .meters
            .lock()
            .retain(|_, meter| Arc::strong_count(meter) > 1 || *meter.available.lock() > 0);
        Ok(())
    }

    async fn return_to(&self, id: &str, unused: u128) -> Result<(), Error> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let spend_key = rows::spend_key(id);
            let Some(spend) = transaction::read::<ApiKeySpendRow>(&*snapshot, &spend_key).await? else {
                return Ok(());
            };
            let spent = spend.row.spent.saturating_sub(unused);
            let mut transaction = Transaction::default();
            transaction.check_at(spend_key.clone(), spend.version);
            transaction.put(spend_key, &ApiKeySpendRow { spent });
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict)
    }

    fn meter(&self, id: &str) -> Arc<Meter> {
        Arc::clone(self.inner.meters.lock().entry(id.to_owned()).or_default())
    }
}
