//! Progress of long work: one line on a terminal, replaced as it goes on, and nothing in a pipe.
//!
//! Invariant: the line is gone when the work is over, and a log line never ends up behind it, because it
//! ends with a carriage return.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Work under way.
pub(crate) struct Progress {
    terminal: bool,
    started: Instant,
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn start() -> Self {
        Self { terminal: io::stderr().is_terminal(), started: Instant::now() }
    }

    /// What is being done now.
    pub(crate) fn step(&mut self, what: &str) {
        self.write(&format!("\x1b[2K{what} … ({:.1} s)\r", self.started.elapsed().as_secs_f64()));
    }

    /// It is over.
    pub(crate) fn end(self) {
        self.write("\x1b[2K");
    }

    fn write(&self, text: &str) {
        if self.terminal {
            let mut err = io::stderr().lock();
            // A terminal that went away is no reason to stop.
            let _shown = err.write_all(text.as_bytes()).and_then(|()| err.flush());
        }
    }
}
