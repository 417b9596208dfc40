//! Lines of JSON as they come: cut, counted, and refused by number.
//!
//! Invariant: at most one line and the faults that are shown are held, however long a file is. Does not know what lines say.

use serde_json::{Map, Value};

use crate::refusal::LineFault;

/// Faults that are shown; the rest would say the same.
const FAULTS_MAX: usize = 10;

/// Cuts bytes into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    line: u64,
    line_bytes_max: usize,
    lines_max: u64,
    faults: Vec<LineFault>,
    is_given_up: bool,
}

/// A line that is an object, and its number from 1.
pub(crate) type Line = (u64, Map<String, Value>);

impl Lines {
    pub(crate) fn new(line_bytes_max: usize, lines_max: u64) -> Self {
        let (rest, faults) = (Vec::new(), Vec::new());
        Self { rest, line: 0, line_bytes_max, lines_max, faults, is_given_up: false }
    }

    /// Takes more bytes and gives the lines that they end to `each`, which may find fault with them.
    pub(crate) fn take(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Line) -> Result<(), String>) {
        while !self.is_given_up {
            let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else { break };
            self.rest.extend_from_slice(&bytes[..at]);
            bytes = &bytes[at + 1..];
            self.end_line(each);
        }
        if !self.is_given_up {
            self.rest.extend_from_slice(bytes);
            if self.rest.len() > self.line_bytes_max {
                self.end_line(each);
            }
        }
    }

    /// The bytes have ended. Says what was wrong, or how many lines there are.
    pub(crate) fn finish(
        mut self,
        each: &mut dyn FnMut(Line) -> Result<(), String>,
    ) -> Result<u64, Vec<LineFault>> {
        if !self.rest.is_empty() && !self.is_given_up {
            self.end_line(each);
        }
        if self.line == 0 {
            self.fault("the file has no line".to_owned(), 1);
        }
        if self.faults.is_empty() { Ok(self.line) } else { Err(self.faults) }
    }

    /// Whether reading on changes nothing.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    fn fault(&mut self, reason: String, line: u64) {
        self.faults.push(LineFault { line, reason });
        self.is_given_up |= self.faults.len() >= FAULTS_MAX;
    }

    fn end_line(&mut self, each: &mut dyn FnMut(Line) -> Result<(), String>) {
        self.line += 1;
        let line = std::mem::take(&mut self.rest);
        if self.line > self.lines_max {
            self.fault(format!("there are more than {} lines", self.lines_max), self.line);
            self.is_given_up = true;
            return;
        }
        if line.len() > self.line_bytes_max {
            self.fault(format!("it has more than {} bytes", self.line_bytes_max), self.line);
            self.is_given_up = true;
            return;
        }
        let verdict = match serde_json::from_slice(line.strip_suffix(b"\r").unwrap_or(&line)) {
            Ok(Value::Object(map)) => each((self.line, map)),
            Ok(_) => Err("it is not a JSON object".to_owned()),
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => Err("it is empty".to_owned()),
            Err(error) => Err(format!("it is not JSON: {error}")),
        };
        if let Err(reason) = verdict {
            self.fault(reason, self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &[u8], piece: usize) -> Result<u64, Vec<LineFault>> {
        let mut lines = Lines::new(40, 5);
        let each = &mut |(_, map): Line| if map.contains_key("bad") { Err("bad".to_owned()) } else { Ok(()) };
        for piece in text.chunks(piece) {
            lines.take(piece, each);
        }
        lines.finish(each)
    }

    #[test]
    fn lines_are_the_same_in_any_pieces() {
        for piece in 1..30 {
            assert_eq!(run(b"{\"a\": 1}\n{\"b\": 2}\r\n{}", piece), Ok(3), "{piece}");
            let faults = run(b"{\"a\": 1}\nnope\n{\"bad\": 1}\n\n[1]\n", piece).unwrap_err();
            let lines: Vec<u64> = faults.iter().map(|fault| fault.line).collect();
            assert_eq!(lines, [2, 3, 4, 5], "{piece}");
            assert!(faults[0].reason.contains("not JSON") && faults[2].reason.contains("empty"));
        }
    }

    #[test]
    fn what_is_too_long_or_too_much_ends_it() {
        let long = format!("{{}}\n{{\"a\": \"{}\"}}\n{{}}\n", "x".repeat(50));
        for piece in [1, 7, 100] {
            let faults = run(long.as_bytes(), piece).unwrap_err();
            assert_eq!((faults.len(), faults[0].line), (1, 2));
            let faults = run(b"{}\n{}\n{}\n{}\n{}\n{}\n{}\n", piece).unwrap_err();
            assert_eq!((faults.len(), faults[0].line), (1, 6));
        }
        assert_eq!(run(b"", 1).unwrap_err()[0].reason, "the file has no line");
        let mut lines = Lines::new(40, 1_000);
        lines.take("x\n".repeat(1_000).as_bytes(), &mut |_| Ok(()));
        assert_eq!(lines.finish(&mut |_| Ok(())).unwrap_err().len(), FAULTS_MAX);
    }
}
