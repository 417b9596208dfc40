//! Which connection runs what, so that another one can cancel it.
//!
//! Invariant: only who knows a connection's secret cancels, and only what runs at that moment; a connection that
//! ended is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_query::SqlError;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::credentials::random;

/// The connections of a door; as many as it lets in.
#[derive(Clone, Default)]
pub(super) struct Cancels(Arc<Mutex<HashMap<u32, Slot>>>);

struct Slot {
    secret: u32,
    running: Option<CancellationToken>,
}

/// A connection's place, given back when dropped.
pub(super) struct Registered {
    all: Cancels,
    pub(super) process: u32,
    pub(super) secret: u32,
}

impl Cancels {
    /// A place with a number and secret of its own.
    pub(super) fn register(&self) -> Result<Registered, SqlError> {
        let mut slots = self.0.lock();
        let secret = u32::from_be_bytes(random()?);
        // Clients take it for a signed number.
        let process = loop {
            let process = u32::from_be_bytes(random()?) >> 1;
            if process != 0 && !slots.contains_key(&process) {
                break process;
            }
        };
        slots.insert(process, Slot { secret, running: None });
        Ok(Registered { all: self.clone(), process, secret })
    }

    /// Cancels what a connection runs, if the secret is its. Nobody is told whether it was.
    pub(super) fn cancel(&self, process: u32, secret: u32) {
        if let Some(slot) = self.0.lock().get(&process)
            && slot.secret == secret
            && let Some(running) = &slot.running
        {
            running.cancel();
        }
    }
}

impl Registered {
    /// A statement begins; gives what tells that it is cancelled.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        if let Some(slot) = self.all.0.lock().get_mut(&self.process) {
            slot.running = Some(token.clone());
        }
        token
    }

    /// It ended.
    pub(super) fn end(&self) {
        if let Some(slot) = self.all.0.lock().get_mut(&self.process) {
            slot.running = None;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_cancels_and_only_what_runs() {
        let cancels = Cancels::default();
        let one = cancels.register().expect("random");
        cancels.cancel(one.process, one.secret);
        let running = one.begin();
        cancels.cancel(one.process, one.secret.wrapping_add(1));
        assert!(!running.is_cancelled());
        cancels.cancel(one.process, one.secret);
        assert!(running.is_cancelled());
        one.end();
        assert!(!one.begin().is_cancelled());
        drop(one);
        assert!(cancels.0.lock().is_empty());
    }
}
