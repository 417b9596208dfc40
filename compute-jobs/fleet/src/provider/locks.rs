//! A provider's locks: their books, their receipts, and the places that are worked on.
//!
//! Invariants: nothing is worked that was not reserved in a stored book; a receipt leaves after it was stored with the
//! book that it moved on, and for one seq of a place there is one; a shard of a buyer has receipts under one lock; a
//! place is worked on by one request at a time. Does not know: links, runtimes, transactions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_compute_api::terms::{Claim, HEADS_MAX, Lock, LockRefusal, ProviderBook, Refusal, Shard};
use ashlar_compute_api::transcript::{Event, Transcript, TranscriptError};
use ashlar_compute_api::vouchers::{Key, Level, Settlement, Signature, Voucher};
use ashlar_compute_api::{Address, ContentRoot, LockId, Stored, StoredError, TranscriptHead};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::books::{Books, BooksError};
use crate::limits::{LOCKS_MAX, LOCKS_OF_A_BUYER_MAX, PLACES_MAX};

/// What is kept of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    book: ProviderBook,
    /// The newest of each shard: what settles.
    receipts: Vec<(Shard, Settlement)>,
}

impl Stored for Record {
    const VERSION: u8 = 1;
}

impl Record {
    fn receipt(&self, shard: Shard) -> Option<&Settlement> {
        self.receipts.iter().find(|(of, _)| *of == shard).map(|(_, settlement)| settlement)
    }

    fn replace_receipt(&mut self, shard: Shard, settlement: Settlement) {
        match self.receipts.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, before)) => *before = settlement,
            None => self.receipts.push((shard, settlement)),
        }
    }
}

/// Why no work is done or no receipt given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LocksError {
    #[error("the lock is not one of this provider's")]
    Unknown,
    #[error("no more locks are taken now")]
    TooMany,
    #[error(transparent)]
    Lock(#[from] LockRefusal),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the lock has {PLACES_MAX} places, and no more are begun in it")]
    TooManyPlaces,
    #[error("the place is worked on")]
    Worked,
    #[error("the place stands at another head")]
    OtherHead,
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    #[error(transparent)]
    Books(#[from] BooksError),
    #[error("a book was not stored; the lock waits for a restart")]
    Uncertain,
    #[error("a stored book does not read: {0}")]
    Stored(#[from] StoredError),
}

/// A head that may be paid for, with what was asked and answered up to it.
#[derive(Clone, Copy)]
struct Mark {
    head: TranscriptHead,
    request_hash: ContentRoot,
    response_hash: ContentRoot,
}

struct Place {
    fence: u64,
    /// Gone while a request has it, and for good when that ended badly.
    transcript: Option<Transcript>,
    is_worked: bool,
    marks: VecDeque<Mark>,
}

/// One lock.
pub(super) struct Account {
    lock: Lock,
    id: LockId,
    record: tokio::sync::Mutex<Record>,
    places: Mutex<HashMap<Shard, Place>>,
    /// A store failed: it is not known what is stored, so nothing more is signed.
    is_uncertain: AtomicBool,
}

/// All locks.
pub(super) struct Locks {
    books: Arc<dyn Books>,
    signing_key: Key,
    accounts: Mutex<HashMap<LockId, Arc<Account>>>,
    /// Under which lock each shard of a buyer has receipts.
    receipted: Mutex<HashMap<(Address, Shard), LockId>>,
}

impl Locks {
    pub(super) async fn load(books: Arc<dyn Books>, signing_key: Key) -> Result<Self, LocksError> {
        let locks = Self {
            signing_key,
            accounts: Mutex::default(),
            receipted: Mutex::default(),
            books: Arc::clone(&books),
        };
        for (_, value) in books.load().await? {
            locks.take(Record::from_stored(&value)?);
        }
        Ok(locks)
    }

    fn take(&self, record: Record) {
        let lock = *record.book.lock();
        let id = lock.id();
        let mut receipted = self.receipted.lock();
        for (shard, _) in &record.receipts {
            receipted.insert((lock.buyer, *shard), id);
        }
        let account = Account {
            lock,
            id,
            record: tokio::sync::Mutex::new(record),
            places: Mutex::default(),
            is_uncertain: AtomicBool::new(false),
        };
        self.accounts.lock().insert(id, Arc::new(account));
    }

    pub(super) fn get(&self, lock: LockId) -> Result<Arc<Account>, LocksError> {
        self.accounts.lock().get(&lock).cloned().ok_or(LocksError::Unknown)
    }

    pub(super) fn all(&self) -> Vec<Arc<Account>> {
        self.accounts.lock().values().cloned().collect()
    }

    /// Whether one more lock of this buyer would be taken.
    pub(super) fn has_room_for(&self, buyer: Address) -> Result<(), LocksError> {
        let accounts = self.accounts.lock();
        let of_buyer = accounts.values().filter(|account| account.lock.buyer == buyer).count();
        if accounts.len() >= LOCKS_MAX || of_buyer >= LOCKS_OF_A_BUYER_MAX {
            return Err(LocksError::TooMany);
        }
        Ok(())
    }

    /// Opens the book of a lock whose acceptance is final. Durable when it returns.
    pub(super) async fn adopt(&self, lock: Lock, settle_seconds: u64) -> Result<(), LocksError> {
        let id = lock.id();
        if self.accounts.lock().contains_key(&id) {
            return Ok(());
        }
        let record = Record { book: ProviderBook::open(lock, settle_seconds)?, receipts: Vec::new() };
        self.books.store(id, record.to_stored()).await?;
        // Two that adopt at once stored the same; the first one's is used.
        if !self.accounts.lock().contains_key(&id) {
            self.take(record);
        }
        Ok(())
    }

    /// Forgets a lock that has ended.
    pub(super) async fn forget(&self, id: LockId) -> Result<(), LocksError> {
        self.books.remove(id).await?;
        self.accounts.lock().remove(&id);
        self.receipted.lock().retain(|_, lock| *lock != id);
        Ok(())
    }

    /// Countersigns, or says again what was countersigned.
    pub(super) async fn countersign(
        &self,
        account: &Account,
        voucher: &Voucher,
        buyer: &Signature,
        determinism_class: ContentRoot,
        level: Level,
        now: u64,
    ) -> Result<Settlement, LocksError> {
        let shard = Shard { job: voucher.job, number: voucher.shard };
        let mut record = account.certain().await?;
        if let Some(before) = record.receipt(shard)
            && before.voucher == *voucher
        {
            return Ok(*before);
        }
        let mark = account.mark(shard, voucher.transcript_head);
        let claim = Claim {
            request_hash: mark.map_or(ContentRoot::ZERO, |mark| mark.request_hash),
            response_hash: mark.map_or(ContentRoot::ZERO, |mark| mark.response_hash),
            output_root: ContentRoot::ZERO,
            determinism_class,
            level,
        };
        let place = (account.lock.buyer, shard);
        let elsewhere = self.receipted.lock().get(&place).copied();
        let next = record.book.check(voucher, buyer, &claim, elsewhere, now)?;
        // Taken before anything is signed, so that two locks never both have receipts for it.
        let first = *self.receipted.lock().entry(place).or_insert(account.id);
        if first != account.id {
            return Err(Refusal::ReceiptedElsewhere { lock: first }.into());
        }
        let mut moved = record.clone();
        let receipt = moved.book.advance(&next)?;
        let provider = self.signing_key.sign(&account.lock.domain.receipt_digest(&receipt));
        let settlement = Settlement { voucher: *voucher, receipt, buyer: *buyer, provider };
        moved.replace_receipt(shard, settlement);
        self.store(account, &mut record, moved).await?;
        account.forget_marks_before(shard, voucher.transcript_head);
        Ok(settlement)
    }

    /// Reserves the most that a request may come to. Durable when it returns, so that a crash does not allow it twice.
    pub(super) async fn reserve(
        &self,
        account: &Account,
        shard: Shard,
        units: u64,
        now: u64,
    ) -> Result<(), LocksError> {
        let mut record = account.certain().await?;
        let mut moved = record.clone();
        moved.book.reserve(shard, units, now)?;
        self.store(account, &mut record, moved).await
    }

    /// Takes a place for a request, begun anew where the fence is a new one.
    pub(super) async fn begin(
        &self,
        account: &Arc<Account>,
        shard: Shard,
        fence: u64,
        head: TranscriptHead,
    ) -> Result<Worker, LocksError> {
        {
            let mut places = account.places.lock();
            let is_full = places.len() >= PLACES_MAX;
            match places.get_mut(&shard) {
                Some(place) if place.is_worked => return Err(LocksError::Worked),
                Some(place) if place.fence == fence => {
                    let is_there =
                        place.transcript.as_ref().is_some_and(|transcript| transcript.head() == head);
                    let transcript = place.transcript.take_if(|_| is_there).ok_or(LocksError::OtherHead)?;
                    place.is_worked = true;
                    return Ok(Worker::new(account, shard, fence, transcript));
                }
                None if is_full => return Err(LocksError::TooManyPlaces),
                _ => {}
            }
        }
        let mut record = account.certain().await?;
        let mut moved = record.clone();
        let first = moved.book.begin(shard, fence)?;
        if first != head {
            return Err(LocksError::OtherHead);
        }
        self.store(account, &mut record, moved).await?;
        let transcript = Transcript::begin(account.id, shard.job, shard.number, fence);
        let place = Place { fence, transcript: None, is_worked: true, marks: VecDeque::new() };
        account.places.lock().insert(shard, place);
        Ok(Worker::new(account, shard, fence, transcript))
    }

    async fn store(&self, account: &Account, record: &mut Record, moved: Record) -> Result<(), LocksError> {
        // Not while, and not after, a store that did not return well.
        account.is_uncertain.store(true, Ordering::SeqCst);
        self.books.store(account.id, moved.to_stored()).await?;
        *record = moved;
        account.is_uncertain.store(false, Ordering::SeqCst);
        Ok(())
    }
}

impl Account {
    pub(super) fn id(&self) -> LockId {
        self.id
    }

    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The newest receipts.
    pub(super) async fn receipts(&self) -> Vec<Settlement> {
        self.record.lock().await.receipts.iter().map(|(_, settlement)| *settlement).collect()
    }

    /// What receipts pay, and what is worked and not paid, in wei.
    pub(super) async fn standing(&self) -> (u128, u128) {
        let record = self.record.lock().await;
        (record.book.earned(), record.book.exposed())
    }

    async fn certain(&self) -> Result<tokio::sync::MutexGuard<'_, Record>, LocksError> {
        let record = self.record.lock().await;
        if self.is_uncertain.load(Ordering::SeqCst) { Err(LocksError::Uncertain) } else { Ok(record) }
    }

    fn forget_marks_before(&self, shard: Shard, head: TranscriptHead) {
        if let Some(place) = self.places.lock().get_mut(&shard)
            && let Some(at) = place.marks.iter().position(|mark| mark.head == head)
        {
            place.marks.drain(..at);
        }
    }

    fn mark(&self, shard: Shard, head: TranscriptHead) -> Option<Mark> {
        let places = self.places.lock();
        places.get(&shard)?.marks.iter().find(|mark| mark.head == head).copied()
    }
}

/// One request at a place. Dropped after something was said and before [`Worker::finish`], the place goes on under a new
/// fence only.
pub(super) struct Worker {
    account: Arc<Account>,
    shard: Shard,
    fence: u64,
    transcript: Transcript,
    request_hash: ContentRoot,
    response: blake3::Hasher,
    /// Units that were said since the last mark.
    unmarked: u64,
    /// Nothing was said since the place was taken, or all of it is whole.
    is_whole: bool,
}

impl Worker {
    fn new(account: &Arc<Account>, shard: Shard, fence: u64, transcript: Transcript) -> Self {
        let (request_hash, response) = (ContentRoot::ZERO, blake3::Hasher::new());
        Self {
            account: Arc::clone(account),
            shard,
            fence,
            transcript,
            request_hash,
            response,
            unmarked: 0,
            is_whole: true,
        }
    }

    /// Adds an event to the transcript; what is said from here on can be paid for once it is marked.
    pub(super) fn say(&mut self, event: &Event) -> Result<(), LocksError> {
        self.is_whole = false;
        self.transcript.push(event)?;
        match event {
            Event::Request { request_hash } => self.request_hash = *request_hash,
            event => drop(self.response.update(&event.to_bytes())),
        }
        Ok(())
    }

    /// Units that were said since the last mark.
    pub(super) fn unmarked(&self) -> u64 {
        self.unmarked
    }

    /// What was just said is worth so many units.
    pub(super) fn count(&mut self, units: u64) {
        self.unmarked = self.unmarked.saturating_add(units);
    }

    /// Marks what was said until now as what can be paid for, before it is sent.
    pub(super) async fn mark(&mut self) -> Result<(), LocksError> {
        let head = self.transcript.head();
        self.account.certain().await?.book.worked(self.shard, head, self.unmarked)?;
        self.unmarked = 0;
        let response_hash = ContentRoot(*self.response.finalize().as_bytes());
        let mark = Mark { head, request_hash: self.request_hash, response_hash };
        if let Some(place) = self.account.places.lock().get_mut(&self.shard) {
            if place.marks.len() == HEADS_MAX {
                place.marks.pop_front();
            }
            place.marks.push_back(mark);
        }
        Ok(())
    }

    /// Gives back what was reserved and not worked: no work is under way any more. What was said stays counted.
    pub(super) async fn release(&mut self) -> Result<(), LocksError> {
        if self.unmarked > 0 {
            self.mark().await?;
        }
        self.account.certain().await?.book.release(self.shard)?;
        Ok(())
    }

    /// The request was answered whole: the next one may follow.
    pub(super) fn finish(mut self) {
        self.is_whole = true;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(place) = self.account.places.lock().get_mut(&self.shard)
            && place.fence == self.fence
        {
            place.is_worked = false;
            place.transcript = self.is_whole.then(|| self.transcript.clone());
        }
    }
}
