//! The word that stands for NULL in a CSV file, taken out before its reader sees it: the reader knows nothing but
//! empty fields for NULL.
//!
//! Invariant: only whole fields are taken out, and none that stand in quotes.

use bytes::Bytes;

/// A CSV file on its way to its reader.
pub(crate) struct NullWords {
    word: Vec<u8>,
    delimiter: u8,
    quote: u8,
    escape: Option<u8>,
    /// The beginning of a field, as long as it may become the word; `None`: it cannot.
    held: Option<Vec<u8>>,
    in_quotes: bool,
    escaped: bool,
}

impl NullWords {
    /// Of files with this word.
    pub(crate) fn new(word: &str, csv: &super::format::Csv) -> Self {
        Self {
            word: word.as_bytes().to_vec(),
            delimiter: csv.delimiter,
            quote: csv.quote,
            escape: csv.escape,
            held: Some(Vec::new()),
            in_quotes: false,
            escaped: false,
        }
    }

    /// The next bytes without the word. What may become one comes with a later call, or [`NullWords::end`].
    pub(crate) fn pass(&mut self, bytes: &Bytes) -> Bytes {
        let mut out = Vec::with_capacity(bytes.len() + self.word.len());
        for byte in bytes {
            let ends = !self.in_quotes && (*byte == self.delimiter || matches!(*byte, b'\n' | b'\r'));
            if ends {
                self.release(&mut out);
                out.push(*byte);
                self.held = Some(Vec::new());
                continue;
            }
            if std::mem::take(&mut self.escaped) {
            } else if Some(*byte) == self.escape {
                self.escaped = self.in_quotes;
            } else if *byte == self.quote {
                self.in_quotes = !self.in_quotes;
            }
            match &mut self.held {
                Some(held) if *byte != self.quote && self.word.get(held.len()) == Some(byte) => {
                    held.push(*byte);
                }
                Some(held) => {
                    out.append(held);
                    out.push(*byte);
                    self.held = None;
                }
                None => out.push(*byte),
            }
        }
        out.into()
    }

    /// What is left at the end of the file.
    pub(crate) fn end(&mut self) -> Bytes {
        let mut out = Vec::new();
        self.release(&mut out);
        out.into()
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.take()
            && held != self.word
        {
            out.extend_from_slice(&held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Csv;
    use super::*;

    fn without(text: &str) -> String {
        // However the text comes in pieces.
        let whole = |size: usize| {
            let mut words = NullWords::new("NA", &Csv::default());
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                out.extend_from_slice(&words.pass(&Bytes::copy_from_slice(piece)));
            }
            out.extend_from_slice(&words.end());
            String::from_utf8(out).unwrap()
        };
        let found = whole(text.len().max(1));
        assert_eq!((whole(1), whole(2)), (found.clone(), found.clone()));
        found
    }

    #[test]
    fn whole_fields_alone_are_taken_out() {
        assert_eq!(
            without("a,b,c\nNA,NAB,xNA\nN,NA,\"NA\"\n\"x,NA,y\",NA,NA"),
            "a,b,c\n,NAB,xNA\nN,,\"NA\"\n\"x,NA,y\",,"
        );
        assert_eq!(without("NA\r\nNA\r\n"), "\r\n\r\n");
        assert_eq!(without(""), "");
    }
}
