//! What is remembered of access keys, so that most requests are checked without reading metadata.
//!
//! Invariants: nothing is believed longer than [`REMEMBERED`] after the read that found it began; what was
//! forgotten while it was being read is not remembered again; memory is bounded by [`REMEMBERED_MAX`]
//! entries. Knows nothing of rows or sealing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use ashlar_metadata::Position;
use parking_lot::Mutex;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::{REMEMBERED, REMEMBERED_MAX, SecretKey};
use crate::access::UserIdentity;

/// Access keys are asked for in as many lines at once; one line has one asking at a time, so of many
/// requests with one key one reads. It also bounds the reads that made-up access keys can cause at once.
const TURNS: usize = 64;

/// An access key that was found.
#[derive(Clone)]
pub(super) struct Known {
    identity: Arc<UserIdentity>,
    secret: SecretKey,
    version: Position,
    asked: Instant,
}

impl Known {
    pub(super) fn new(identity: Arc<UserIdentity>, secret: SecretKey, version: Position) -> Self {
        Self { identity, secret, version, asked: Instant::now() }
    }

    pub(super) fn pair(self) -> (Arc<UserIdentity>, SecretKey) {
        (self.identity, self.secret)
    }
}

/// A map that forgets what was not used for long: two halves, of which the older goes when the younger is full.
struct Halves<V> {
    young: HashMap<String, V>,
    old: HashMap<String, V>,
}

impl<V> Default for Halves<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V: Clone> Halves<V> {
    fn get(&mut self, key: &str) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    fn insert(&mut self, key: String, value: V) {
        if self.young.len() >= REMEMBERED_MAX / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    fn remove(&mut self, key: &str) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[derive(Default)]
struct Remembered {
    keys: Halves<Known>,
    names: Halves<Arc<str>>,
    /// Goes up whenever something is forgotten.
    forgotten: u64,
}

/// What is remembered.
pub(super) struct Cache {
    remembered: Mutex<Remembered>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    hasher: RandomState,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            remembered: Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            hasher: RandomState::new(),
        }
    }
}

impl Cache {
    /// The access key, if it may still be believed.
    pub(super) fn fresh(&self, access_key: &str) -> Option<Known> {
        let known = self.remembered.lock().keys.get(access_key)?;
        (known.asked.elapsed() < REMEMBERED).then_some(known)
    }

    /// Waits until nobody else asks for this access key.
    pub(super) async fn turn(&self, access_key: &str) -> MutexGuard<'_, ()> {
        let turns = u64::try_from(TURNS).expect("64 fits");
        let line = self.hasher.hash_one(access_key) % turns;
        let line = usize::try_from(line).expect("it is below 64");
        self.turns[line].lock().await
    }

    /// Begins to ask metadata.
    pub(super) fn ask<'a>(&'a self, access_key: &'a str) -> Asking<'a> {
        let mut remembered = self.remembered.lock();
        let known = remembered.keys.get(access_key);
        Asking { cache: self, access_key, known, forgotten: remembered.forgotten, asked: Instant::now() }
    }

    /// Forgets access keys that were changed or removed, and what is being read of them.
    pub(super) fn forget<'k>(&self, access_keys: impl IntoIterator<Item = &'k str>) {
        let mut remembered = self.remembered.lock();
        remembered.forgotten += 1;
        for access_key in access_keys {
            remembered.keys.remove(access_key);
        }
    }

    /// The name of a user's id.
    pub(super) fn name(&self, id: &str) -> Option<Arc<str>> {
        self.remembered.lock().names.get(id)
    }

    /// Remembers a name.
    pub(super) fn remember_name(&self, id: &str, name: &Arc<str>) {
        self.remembered.lock().names.insert(id.to_owned(), Arc::clone(name));
    }
}

/// A question to metadata under way.
pub(super) struct Asking<'a> {
    cache: &'a Cache,
    access_key: &'a str,
    known: Option<Known>,
    forgotten: u64,
    asked: Instant,
}

impl Asking<'_> {
    /// What was known, if its row still is at `version`; believed anew.
    pub(super) fn unchanged(&self, version: Position) -> Option<Known> {
        let known = self.known.as_ref().filter(|known| known.version == version)?.clone();
        self.found(&known);
        Some(known)
    }

    /// Remembers what was found.
    pub(super) fn found(&self, known: &Known) {
        let mut remembered = self.cache.remembered.lock();
        if remembered.forgotten == self.forgotten {
            let known = Known { asked: self.asked, ..known.clone() };
            remembered.keys.insert(self.access_key.to_owned(), known);
        }
    }

    /// There is no such access key.
    pub(super) fn absent(self) {
        self.cache.remembered.lock().keys.remove(self.access_key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_stay_bounded_and_keep_what_is_used() {
        let mut halves = Halves::default();
        for number in 0..3 * REMEMBERED_MAX {
            halves.insert(number.to_string(), number);
            assert_eq!(halves.get("0"), Some(0));
            assert!(halves.young.len() + halves.old.len() <= REMEMBERED_MAX);
        }
        assert_eq!(halves.get("1"), None);
        halves.remove("0");
        assert_eq!(halves.get("0"), None);
    }
}
