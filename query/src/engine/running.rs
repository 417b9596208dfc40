//! Statements under way: what `system.queries` shows, and how one is cancelled.
//!
//! Invariant: an entry is there exactly while its statement runs or streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Longest text of a statement that is kept to be shown.
const SHOWN_TEXT_BYTES_MAX: usize = 4096;

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Running {
    next: Arc<AtomicU64>,
    all: Arc<Mutex<BTreeMap<u64, Statement>>>,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) user: String,
    pub(crate) user_id: Option<String>,
    pub(crate) text: Arc<str>,
    pub(crate) began: Instant,
    pub(crate) rows: Arc<AtomicU64>,
    pub(crate) cancel: CancellationToken,
}

/// An entry, taken out when dropped.
pub(crate) struct Entry {
    id: u64,
    of: Running,
    pub(crate) statement: Statement,
}

impl Running {
    /// Puts a statement in.
    pub(crate) fn enter(&self, user: String, user_id: Option<String>, text: &str) -> Entry {
        let mut end = text.len().min(SHOWN_TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let statement = Statement {
            user,
            user_id,
            text: Arc::from(&text[..end]),
            began: Instant::now(),
            rows: Arc::default(),
            cancel: CancellationToken::new(),
        };
        self.all.lock().insert(id, statement.clone());
        Entry { id, of: self.clone(), statement }
    }

    /// What is in, oldest first.
    pub(crate) fn all(&self) -> Vec<(u64, Statement)> {
        self.all.lock().iter().map(|(id, statement)| (*id, statement.clone())).collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.of.all.lock().remove(&self.id);
    }
}
