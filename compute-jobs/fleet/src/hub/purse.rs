//! The gateway's locks: opened before they are needed, paid from request by request, closed when they are over.
//!
//! Invariants: a lock's record is stored before its coins are locked, and every voucher's before it is signed; session
//! keys follow from one secret and the lock's salt, so nothing secret is in a record; a lock that nobody took is
//! cancelled, and one that is over is closed. Does not know links or requests.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ashlar_compute_api::terms::{BuyerBook, Lock, LockRefusal, Refusal, Shard};
use ashlar_compute_api::transcript::Transcript;
use ashlar_compute_api::vouchers::{Key, KeyError, LockTerms, Receipt, Signature, Voucher};
use ashlar_compute_api::{Address, Amount, JobId, LockId, Salt, Stored, StoredError, TranscriptHead};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::books::{Books, BooksError};
use crate::escrow::{Escrow, EscrowError, LockStage};
use crate::limits::PLACES_MAX;
use crate::wire::OfferedModel;

/// Refusals for want of money after which a lock is given up for a new one.
const MONEY_REFUSALS_MAX: u32 = 8;
/// A shard's first fence.
const FIRST_FENCE: u64 = 1;

/// Under what the gateway opens locks.
#[derive(Clone, Copy, Debug)]
pub struct LockPolicy {
    /// Coins of a lock, in wei; what an offer's limits allow of it.
    pub cap: Amount,
    /// Most that one voucher adds and either side may lose; zero for a hundredth of the cap. A request whose worst case is
    /// worth more is not taken by the provider.
    pub exposure_max: Amount,
    /// The most that a unit may cost; dearer offers get no lock.
    pub unit_price_max: Amount,
    /// How long a provider may take to accept.
    pub accept_seconds: u64,
    /// How long work may go on after that.
    pub work_seconds: u64,
    /// A new lock is opened so long before the old one's work ends.
    pub renew_seconds: u64,
}

/// What is kept of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    buyer: Address,
    terms: LockTerms,
    /// Sent along when it is opened.
    sent: Amount,
    /// Once the acceptance is final.
    book: Option<BuyerBook>,
    /// Shards that were begun.
    shards: BTreeSet<Shard>,
    /// Number of the next shard for requests of their own.
    next_number: u32,
}

impl Stored for Record {
    const VERSION: u8 = 1;
}

/// Why there is no money for something.
#[derive(Debug, thiserror::Error)]
pub(super) enum PurseError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Lock(#[from] LockRefusal),
    #[error(transparent)]
    Books(#[from] BooksError),
    #[error(transparent)]
    Escrow(#[from] EscrowError),
    #[error("a stored record does not read: {0}")]
    Stored(#[from] StoredError),
    #[error("no session key comes of this salt: {0}")]
    Key(#[from] KeyError),
    #[error("a record was not stored; the lock waits for a restart")]
    Uncertain,
    #[error("the lock is not accepted")]
    NotAccepted,
    #[error("the lock was accepted with another key than the link's")]
    OtherKey,
    #[error("the offer is dearer than the policy allows, or too small for it")]
    OfferUnfit,
}

/// A place of a request under a lock, whole up to here.
pub(super) struct Lane {
    pub(super) shard: Shard,
    pub(super) fence: u64,
    pub(super) transcript: Transcript,
    /// Units of the shard before the request.
    pub(super) units: u64,
    /// Signed for the shard.
    pub(super) fee: Amount,
}

/// One lock.
pub(super) struct Account {
    id: LockId,
    terms: LockTerms,
    domain: ashlar_compute_api::vouchers::Domain,
    session: Key,
    record: tokio::sync::Mutex<Record>,
    books: Arc<dyn Books>,
    free: Mutex<Vec<Lane>>,
    is_ready: AtomicBool,
    is_uncertain: AtomicBool,
    money_refusals: AtomicU32,
}

/// All locks of a gateway.
pub(super) struct Purse {
    escrow: Arc<Escrow>,
    books: Arc<dyn Books>,
    policy: LockPolicy,
    secret: [u8; 32],
    accounts: Mutex<HashMap<LockId, Arc<Account>>>,
    /// One lock is opened at a time: each sends what the balance lacks.
    opening: tokio::sync::Mutex<()>,
}

impl Purse {
    pub(super) async fn load(
        escrow: Arc<Escrow>,
        books: Arc<dyn Books>,
        policy: LockPolicy,
        secret: [u8; 32],
    ) -> Result<Self, PurseError> {
        let (accounts, opening) = (Mutex::default(), tokio::sync::Mutex::default());
        let purse = Self { escrow, books: Arc::clone(&books), policy, secret, accounts, opening };
        for (_, value) in books.load().await? {
            purse.take(Record::from_stored(&value)?)?;
        }
        Ok(purse)
    }

    fn session(&self, salt: Salt) -> Result<Key, KeyError> {
        Key::from_secret(blake3::keyed_hash(&self.secret, &salt.0).as_bytes())
    }

    fn take(&self, record: Record) -> Result<Arc<Account>, PurseError> {
        let domain = self.escrow.domain();
        let account = Arc::new(Account {
            id: record.terms.lock_id(&domain, record.buyer),
            terms: record.terms,
            domain,
            session: self.session(record.terms.salt)?,
            record: tokio::sync::Mutex::new(record),
            books: Arc::clone(&self.books),
            free: Mutex::default(),
            is_ready: AtomicBool::new(false),
            is_uncertain: AtomicBool::new(false),
            money_refusals: AtomicU32::new(0),
        });
        self.accounts.lock().insert(account.id, Arc::clone(&account));
        Ok(account)
    }

    /// The lock that requests to this offer are paid from now, if one is ready.
    pub(super) fn ready(&self, provider: Address, offered: &OfferedModel, now: u64) -> Option<Arc<Account>> {
        let accounts = self.accounts.lock();
        let fit = accounts.values().filter(|account| {
            account.is_for(provider, offered)
                && account.is_ready.load(Ordering::SeqCst)
                && account.is_fresh(now, 0)
        });
        fit.max_by_key(|account| account.terms.work_by).cloned()
    }

    /// A lock for this offer that is not ready yet: from before a restart, or opened now. `None` where one is ready that
    /// lasts.
    pub(super) async fn wanting(
        &self,
        provider: Address,
        offered: &OfferedModel,
        now: u64,
    ) -> Result<Option<Arc<Account>>, PurseError> {
        let renew = self.policy.renew_seconds;
        let lasting: Vec<Arc<Account>> = {
            let accounts = self.accounts.lock();
            let fit =
                accounts.values().filter(|one| one.is_for(provider, offered) && one.is_fresh(now, renew));
            fit.cloned().collect()
        };
        for account in &lasting {
            if account.is_ready.load(Ordering::SeqCst) {
                if account.has_room().await {
                    return Ok(None);
                }
                continue;
            }
            let (is_accepted, sent) = {
                let record = account.record.lock().await;
                (record.book.is_some(), record.sent)
            };
            if !is_accepted && now >= account.terms.accept_by {
                continue;
            }
            if !is_accepted {
                // A process that ended meanwhile may have left it half opened.
                self.escrow.open(&account.terms, sent).await?;
            }
            return Ok(Some(Arc::clone(account)));
        }
        self.open(provider, offered, now).await.map(Some)
    }

    /// Opens a lock: its record first, then the coins.
    async fn open(
        &self,
        provider: Address,
        offered: &OfferedModel,
        now: u64,
    ) -> Result<Arc<Account>, PurseError> {
        let _one = self.opening.lock().await;
        let Some((version, offer)) = self.escrow.offer(provider, offered.offer).await? else {
            return Err(PurseError::OfferUnfit);
        };
        let policy = &self.policy;
        let cap = policy.cap.max(offer.cap_min).min(offer.cap_max);
        let is_same = (version, offer.kind, offer.model_root, offer.unit_price)
            == (offered.offer_version, offered.kind, offered.root, offered.unit_price);
        if !is_same || offer.unit_price > policy.unit_price_max || cap > policy.cap {
            return Err(PurseError::OfferUnfit);
        }
        let salt = Salt(rand::random());
        let accept_by = now + policy.accept_seconds;
        // Clocks differ, and the chain's block comes later than now.
        let longest = u64::from(offer.work_seconds_max).saturating_sub(policy.accept_seconds);
        let work_by = accept_by + policy.work_seconds.min(longest).max(1);
        let terms = LockTerms {
            provider,
            offer: offered.offer,
            offer_version: version,
            model_root: offered.root,
            unit_price: offered.unit_price,
            cap,
            exposure_max: policy.exposure_max.min(cap),
            session_key: self.session(salt)?.address(),
            accept_by,
            work_by,
            settle_by: work_by + self.escrow.grace_seconds().await?,
            salt,
        };
        let buyer = self.escrow.account();
        let sent = self.escrow.lacking(cap).await?;
        let record = Record { buyer, terms, sent, book: None, shards: BTreeSet::new(), next_number: 0 };
        let lock = terms.lock_id(&self.escrow.domain(), buyer);
        self.books.store(lock, record.to_stored()).await?;
        let account = self.take(record)?;
        self.escrow.open(&terms, sent).await?;
        Ok(account)
    }

    /// Opens the book of a lock once the chain has it as accepted, or says that it is not.
    pub(super) async fn confirm(&self, account: &Account, signing_key: Address) -> Result<(), PurseError> {
        let mut record = account.certain().await?;
        if record.book.is_none() {
            let found = self.escrow.lock(account.id).await?;
            let Some(LockStage::Accepted { signing_key: accepted }) = found.map(|found| found.stage) else {
                return Err(PurseError::NotAccepted);
            };
            if accepted != signing_key {
                return Err(PurseError::OtherKey);
            }
            let lock =
                Lock { domain: account.domain, buyer: record.buyer, signing_key, terms: account.terms };
            let moved = Record { book: Some(BuyerBook::open(lock)?), ..record.clone() };
            account.store(&mut record, moved).await?;
        }
        Ok(())
    }

    /// Gives a lock up that its provider does not take.
    pub(super) async fn undo(&self, account: &Account) -> Result<(), PurseError> {
        account.is_ready.store(false, Ordering::SeqCst);
        let stage = self.escrow.lock(account.id).await?.map(|lock| lock.stage);
        match stage {
            Some(LockStage::Open) => self.escrow.cancel(account.id).await?,
            // It pays or may pay, or may yet be opened: it is looked after when its time is over.
            Some(LockStage::Accepted { .. }) | None => return Ok(()),
            Some(LockStage::Closed) => {}
        }
        self.forget(account.id).await
    }

    async fn forget(&self, lock: LockId) -> Result<(), PurseError> {
        self.books.remove(lock).await?;
        self.accounts.lock().remove(&lock);
        Ok(())
    }

    /// Takes coins back out of locks that are over.
    pub(super) async fn tidy(&self, now: u64) {
        let all: Vec<Arc<Account>> = self.accounts.lock().values().cloned().collect();
        for account in all {
            let is_opening = account.record.lock().await.book.is_none();
            let is_over = now > account.terms.settle_by || (is_opening && now > account.terms.accept_by);
            if !is_over {
                continue;
            }
            account.is_ready.store(false, Ordering::SeqCst);
            let done = async {
                match self.escrow.lock(account.id).await?.map(|lock| lock.stage) {
                    Some(LockStage::Open) => self.escrow.cancel(account.id).await?,
                    Some(LockStage::Accepted { .. }) if now > account.terms.settle_by => {
                        self.escrow.close(account.id).await?;
                    }
                    Some(LockStage::Accepted { .. }) => return Ok(()),
                    // After acceptBy none is opened any more.
                    Some(LockStage::Closed) | None => {}
                }
                self.forget(account.id).await
            };
            if let Err(error) = done.await {
                let error: PurseError = error;
                tracing::warn!(%error, lock = %account.id, "coins of a lock that is over wait to be taken back");
            }
        }
    }

    /// What was signed over all locks, in wei.
    pub(super) async fn signed_wei(&self) -> u128 {
        let all: Vec<Arc<Account>> = self.accounts.lock().values().cloned().collect();
        let mut sum = 0u128;
        for account in all {
            let signed = account.record.lock().await.book.as_ref().map_or(0, BuyerBook::signed);
            sum = sum.saturating_add(signed);
        }
        sum
    }
}

impl Account {
    pub(super) fn id(&self) -> LockId {
        self.id
    }

    pub(super) fn terms(&self) -> &LockTerms {
        &self.terms
    }

    fn is_for(&self, provider: Address, offered: &OfferedModel) -> bool {
        let terms = &self.terms;
        terms.provider == provider
            && (terms.offer, terms.offer_version) == (offered.offer, offered.offer_version)
    }

    fn is_fresh(&self, now: u64, seconds: u64) -> bool {
        let refusals = self.money_refusals.load(Ordering::SeqCst);
        now.saturating_add(seconds) < self.terms.work_by
            && refusals < MONEY_REFUSALS_MAX
            && !self.is_uncertain.load(Ordering::SeqCst)
    }

    /// Whether more than one increment is left, and places.
    async fn has_room(&self) -> bool {
        let record = self.record.lock().await;
        if record.shards.len() >= PLACES_MAX / 8 * 7 {
            return false;
        }
        let signed = record.book.as_ref().map_or(0, BuyerBook::signed);
        self.terms.cap.wei().saturating_sub(signed) > self.terms.exposure_max().wei()
    }

    /// From now on requests are paid from it.
    pub(super) fn make_ready(&self) {
        self.is_ready.store(true, Ordering::SeqCst);
    }

    /// The provider found too little money in it, or the other way round.
    pub(super) fn note_money(&self, is_enough: bool) {
        match is_enough {
            true => self.money_refusals.store(0, Ordering::SeqCst),
            false => drop(self.money_refusals.fetch_add(1, Ordering::SeqCst)),
        }
    }

    /// Vouchers whose receipts did not arrive, signed again.
    pub(super) async fn unanswered(&self) -> Vec<(Voucher, Signature)> {
        let record = self.record.lock().await;
        let Some(book) = &record.book else { return Vec::new() };
        let awaited = record.shards.iter().filter_map(|shard| book.awaited(*shard));
        awaited.map(|voucher| (*voucher, self.session.sign(&self.domain.voucher_digest(voucher)))).collect()
    }

    /// A place for a request of its own: one that is free, or a new one.
    pub(super) async fn lane(&self) -> Result<Lane, PurseError> {
        if let Some(lane) = self.free.lock().pop() {
            return Ok(lane);
        }
        let mut record = self.certain().await?;
        let shard = Shard { job: JobId(self.id.0), number: record.next_number };
        let mut moved = record.clone();
        moved.next_number += 1;
        self.begin(&mut record, moved, shard, FIRST_FENCE).await
    }

    /// The place of a job's unit, begun under its lease's fence.
    pub(super) async fn place(&self, shard: Shard, fence: u64) -> Result<Lane, PurseError> {
        let mut record = self.certain().await?;
        let moved = record.clone();
        self.begin(&mut record, moved, shard, fence).await
    }

    async fn begin(
        &self,
        record: &mut Record,
        mut moved: Record,
        shard: Shard,
        fence: u64,
    ) -> Result<Lane, PurseError> {
        let book = moved.book.as_mut().ok_or(PurseError::NotAccepted)?;
        book.begin(shard, fence)?;
        let units = book.verified_units(shard).unwrap_or_default();
        let fee = book.signed_fee(shard).unwrap_or_default();
        moved.shards.insert(shard);
        self.store(record, moved).await?;
        let transcript = Transcript::begin(self.id, shard.job, shard.number, fence);
        Ok(Lane { shard, fence, transcript, units, fee })
    }

    /// Puts a place back that stands whole and is paid.
    pub(super) fn put_back(&self, lane: Lane) {
        self.free.lock().push(lane);
    }

    /// Writes down what was heard, and signs for it what is owed: the voucher that waits, or the next, or none.
    pub(super) async fn pay(
        &self,
        lane: &mut Lane,
        head: TranscriptHead,
        units: u64,
        now: u64,
    ) -> Result<Option<(Voucher, Signature)>, PurseError> {
        let mut record = self.certain().await?;
        let mut moved = record.clone();
        let book = moved.book.as_mut().ok_or(PurseError::NotAccepted)?;
        book.received(lane.shard, head, units)?;
        let fee = book.fee_due(lane.shard)?;
        if fee <= lane.fee {
            *record = moved;
            return Ok(None);
        }
        let next = book.check(lane.shard, fee, now)?;
        let voucher = book.advance(&next)?;
        self.store(&mut record, moved).await?;
        lane.fee = fee;
        Ok(Some((voucher, self.session.sign(&self.domain.voucher_digest(&voucher)))))
    }

    /// Takes the receipt of the voucher that waits for one. Durable when it returns.
    pub(super) async fn receipted(
        &self,
        shard: Shard,
        receipt: &Receipt,
        signature: &Signature,
    ) -> Result<(), PurseError> {
        let mut record = self.certain().await?;
        let mut moved = record.clone();
        moved.book.as_mut().ok_or(PurseError::NotAccepted)?.countersigned(shard, receipt, signature)?;
        self.store(&mut record, moved).await
    }

    async fn certain(&self) -> Result<tokio::sync::MutexGuard<'_, Record>, PurseError> {
        let record = self.record.lock().await;
        if self.is_uncertain.load(Ordering::SeqCst) { Err(PurseError::Uncertain) } else { Ok(record) }
    }

    async fn store(&self, record: &mut Record, moved: Record) -> Result<(), PurseError> {
        let doubt = Doubt(&self.is_uncertain);
        self.books.store(self.id, moved.to_stored()).await?;
        std::mem::forget(doubt);
        *record = moved;
        Ok(())
    }
}

/// A store under way: left without its good end, an error or a caller that vanished, it is not known what is stored.
struct Doubt<'a>(&'a AtomicBool);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
