//! How much of a text file its readers must hold: record by record, before they see it.
//!
//! A reader of CSV or JSON keeps a record until its end, and records until they are a batch; neither counts
//! against a statement's memory. A small packed file can hold an endless record. So text passes through here first,
//! unpacked: what would have to be held is reserved, and what is too much ends the statement.
//!
//! Invariant: never fewer bytes are reserved than the reader holds of unfinished records and unfinished batches.

use bytes::Bytes;
use datafusion::execution::memory_pool::MemoryReservation;

use super::format::{Format, FormatKind};
use crate::error::{SqlError, SqlState};

/// Longest record.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Where records end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Grammar {
    /// At a line end outside of quotes.
    Csv { quote: u8, escape: Option<u8>, newlines_in_values: bool },
    /// At a line end outside of all braces and strings.
    Json,
}

/// A text on its way to its reader.
pub(crate) struct Records {
    grammar: Grammar,
    /// Rows of a batch.
    batch_rows: usize,
    held: MemoryReservation,
    in_quotes: bool,
    escaped: bool,
    depth: usize,
    record: usize,
    /// Of the batch that is being filled.
    rows: usize,
    batch: usize,
}

impl Records {
    /// Of a file in a text format, from its start or the start of a record.
    pub(crate) fn new(format: &Format, batch_rows: usize, held: MemoryReservation) -> Self {
        let grammar = match format.kind {
            FormatKind::Json => Grammar::Json,
            _ => Grammar::Csv {
                quote: format.csv.quote,
                escape: format.csv.escape,
                newlines_in_values: format.csv.newlines_in_values,
            },
        };
        Self {
            grammar,
            batch_rows,
            held,
            in_quotes: false,
            escaped: false,
            depth: 0,
            record: 0,
            rows: 0,
            batch: 0,
        }
    }

    /// Takes the next bytes into account. `OutOfMemory`, `ProgramLimitExceeded`: they may not be read.
    pub(crate) fn pass(&mut self, bytes: &Bytes) -> Result<(), SqlError> {
        // A record that ends here was held while its end was looked for: the most that was held is what counts.
        let mut most = 0;
        for byte in bytes {
            self.record += 1;
            self.batch += 1;
            most = most.max(self.batch);
            if self.ends(*byte) {
                self.record = 0;
                self.rows += 1;
                if self.rows >= self.batch_rows {
                    (self.rows, self.batch) = (0, 0);
                }
            }
            if self.record > RECORD_BYTES_MAX {
                return Err(SqlError::new(
                    SqlState::ProgramLimitExceeded,
                    format!("a record of text is longer than {RECORD_BYTES_MAX} bytes"),
                )
                .hint("is its format right? a quote that is not closed, or another delimiter?"));
            }
        }
        // What is unpacked is itself twice there: as bytes, and as the reader's columns.
        self.held.try_resize(most.saturating_mul(2)).map_err(SqlError::from)
    }

    /// Whether a record ends with this byte.
    fn ends(&mut self, byte: u8) -> bool {
        if std::mem::take(&mut self.escaped) {
            return false;
        }
        match (&self.grammar, byte) {
            (Grammar::Csv { escape: Some(escape), .. }, byte) if byte == *escape => {
                self.escaped = true;
                false
            }
            (Grammar::Csv { quote, .. }, byte) if byte == *quote => {
                // Two of them within quotes are one that stands for itself: closed and opened again.
                self.in_quotes = !self.in_quotes;
                false
            }
            (Grammar::Csv { newlines_in_values, .. }, b'\n') => !self.in_quotes || !newlines_in_values,
            (Grammar::Csv { .. }, _) => false,
            (Grammar::Json, b'\\') => {
                self.escaped = self.in_quotes;
                false
            }
            (Grammar::Json, b'"') => {
                self.in_quotes = !self.in_quotes;
                false
            }
            (Grammar::Json, _) if self.in_quotes => false,
            (Grammar::Json, b'{' | b'[') => {
                self.depth += 1;
                false
            }
            (Grammar::Json, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                false
            }
            (Grammar::Json, b'\n') => self.depth == 0,
            (Grammar::Json, _) => false,
        }
    }
}

/// How many rows a batch takes where records are as long as those of a sample: a record may be a book.
pub(crate) fn batch_rows(sample: &[u8], rows_max: usize) -> usize {
    const BATCH_BYTES_AIM: usize = 16 << 20;
    /// Of records longer than a sample.
    const ROWS_MIN: usize = 8;
    let lines = sample.iter().filter(|byte| **byte == b'\n').count();
    let record = match lines {
        0 if sample.is_empty() => 1,
        0 => usize::MAX,
        lines => sample.len() / lines,
    };
    (BATCH_BYTES_AIM / record.max(1)).clamp(rows_max.min(ROWS_MIN), rows_max)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};

    use super::*;

    fn records(format: &Format, batch_rows: usize, memory: usize) -> Records {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory));
        Records::new(format, batch_rows, MemoryConsumer::new("test").register(&pool))
    }

    /// Records that end in a text.
    fn count(format: &Format, text: &str) -> usize {
        let mut records = records(format, usize::MAX, 1 << 20);
        records.pass(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
        records.rows
    }

    #[test]
    fn records_end_where_their_format_says() {
        let csv = Format::plain(FormatKind::Csv);
        assert_eq!(count(&csv, "a,b\n\"x\ny\",\"\"\"\n\"\n1,2"), 2);
        let mut backslash = csv.clone();
        backslash.csv.escape = Some(b'\\');
        assert_eq!(count(&backslash, "\"a\\\"\n\"\n"), 1);
        let mut split = csv.clone();
        split.csv.newlines_in_values = false;
        assert_eq!(count(&split, "\"x\ny\"\n"), 2);
        let json = Format::plain(FormatKind::Json);
        assert_eq!(count(&json, "{\"a\": [1,\n2], \"b\": \"}\\\"\n\"}\n{}\n"), 2);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let csv = Format::plain(FormatKind::Csv);
        let line = Bytes::from_static(b"0123456789\n");
        let mut lines = records(&csv, 10, 1_000);
        for _ in 0..10_000 {
            lines.pass(&line).unwrap();
        }
        let mut endless = records(&csv, 10, 1_000);
        let quoted = Bytes::from_static(b"\"0123456789\n0123456789\n0123456789");
        let failed = (0..101).find_map(|n| endless.pass(if n == 0 { &quoted } else { &line }).err());
        assert_eq!(failed.unwrap().state, SqlState::OutOfMemory);
        let json = Format::plain(FormatKind::Json);
        let mut nested = records(&json, 10, 1_000);
        let failed = (0..1_000).find_map(|_| nested.pass(&Bytes::from_static(b"[1,\n")).err());
        assert_eq!(failed.unwrap().state, SqlState::OutOfMemory);
    }

    #[test]
    fn batches_are_as_many_rows_as_fit() {
        assert_eq!(batch_rows(&b"0123456789\n".repeat(100), 8_192), 8_192);
        assert_eq!(batch_rows(&[b'x'; 1 << 16], 8_192), 8);
        assert_eq!(batch_rows(b"", 8_192), 8_192);
    }
}
