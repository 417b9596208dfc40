//! How keys are laid out: tags, escaping, and how they read back.
//!
//! Invariant: byte order of encoded keys is field order, and no encoded key is a prefix of another.
//! Text fields are escaped (00 becomes 00 FF) and ended by 00 00, which sorts before any continuation.

use bytes::Bytes;

/// First byte of each key type. Engines keep 0x80 and above for themselves. Rows of jobs (0x30 to 0x3f) are owned by
/// compute-jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is documented by the module that owns its rows")]
pub enum Tag {
    Bucket = 0x01,
    Head = 0x02,
    Current = 0x03,
    Version = 0x04,
    Manifest = 0x05,
    ManifestParts = 0x06,
    Blob = 0x07,
    ChunkPage = 0x08,
    Upload = 0x09,
    Part = 0x0a,
    CompletedUpload = 0x0b,
    User = 0x0c,
    AccessKey = 0x0d,
    Session = 0x0e,
    Lease = 0x0f,
    Cluster = 0x10,
    Outbox = 0x11,
    Dead = 0x12,
    BucketDocument = 0x13,
    Counter = 0x14,
    Staged = 0x15,
    PublishGroup = 0x16,
    LifecyclePass = 0x17,
    Scrub = 0x18,
    ApiKey = 0x19,
    Log = 0x20,
    LogBatch = 0x21,
    LogPlace = 0x22,
    LogBlob = 0x23,
    LogLeaves = 0x24,
    LogWalk = 0x25,
    LogGeneration = 0x26,
    Job = 0x30,
    JobSpec = 0x31,
    JobFamily = 0x32,
    JobOpen = 0x33,
    JobOfPrincipal = 0x34,
    JobPrincipal = 0x35,
    JobUnit = 0x36,
    JobUnitOpen = 0x37,
    JobResult = 0x38,
    JobTerm = 0x39,
    JobProvider = 0x3a,
    JobEnded = 0x3b,
}

/// Builds one key.
#[derive(Debug)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// Begins with a tag.
    pub fn new(tag: Tag) -> Self {
        let mut out = Vec::with_capacity(64);
        out.push(tag as u8);
        Self(out)
    }

    /// Appends a number, ascending.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a number, ascending.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a number, descending: larger ones sort first.
    pub fn u64_descending(self, value: u64) -> Self {
        self.u64(!value)
    }

    /// Appends a number, ascending.
    pub fn u128(mut self, value: u128) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends bytes of a fixed number, ascending.
    pub fn bytes<const N: usize>(mut self, value: [u8; N]) -> Self {
        self.0.extend_from_slice(&value);
        self
    }

    /// Appends one byte.
    pub fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Appends a whole text field: escaped and ended.
    pub fn text(self, text: &str) -> Self {
        let mut out = self.text_prefix(text);
        out.0.extend_from_slice(&[0, 0]);
        out
    }

    /// Appends the beginning of a text field: escaped, not ended. What begins so sorts inside
    /// [`crate::ordered_kv::KeyRange::prefix`] of it.
    pub fn text_prefix(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        if bytes.contains(&0) {
            for &byte in bytes {
                self.0.push(byte);
                if byte == 0 {
                    self.0.push(0xff);
                }
            }
        } else {
            self.0.extend_from_slice(bytes);
        }
        self
    }

    /// The key.
    pub fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// Reads one key back, field by field. Every method gives `None` where the bytes end or do not fit.
#[derive(Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Begins after the tag, if it is the expected one.
    pub fn new(key: &'a [u8], tag: Tag) -> Option<Self> {
        key.split_first().filter(|(first, _)| **first == tag as u8).map(|(_, rest)| Self(rest))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    /// A number.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// A number.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// A number written descending.
    pub fn u64_descending(&mut self) -> Option<u64> {
        self.u64().map(|value| !value)
    }

    /// A number.
    pub fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_be_bytes)
    }

    /// Bytes of a fixed number.
    pub fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take()
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// A whole text field.
    pub fn text(&mut self) -> Option<String> {
        let mut out = Vec::with_capacity(self.0.len());
        loop {
            let zero = self.0.iter().position(|byte| *byte == 0)?;
            out.extend_from_slice(&self.0[..zero]);
            let escape = *self.0.get(zero + 1)?;
            self.0 = &self.0[zero + 2..];
            match escape {
                0xff => out.push(0),
                0 => return String::from_utf8(out).ok(),
                _ => return None,
            }
        }
    }

    /// Succeeds when nothing is left.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ordered_kv::prefix_end;
    use proptest::prelude::*;

    fn encode(number: u64, text: &str, descending: u64) -> Bytes {
        KeyWriter::new(Tag::Version).u64(number).text(text).u64_descending(descending).finish()
    }

    proptest! {
        #[test]
        fn order_of_bytes_is_order_of_fields(
            a in (0u64..3, "[\u{0}\u{1}a\u{ff}]{0,4}", any::<u64>()),
            b in (0u64..3, "[\u{0}\u{1}a\u{ff}]{0,4}", any::<u64>()),
        ) {
            let fields = (a.0, a.1.as_bytes(), !a.2).cmp(&(b.0, b.1.as_bytes(), !b.2));
            prop_assert_eq!(encode(a.0, &a.1, a.2).cmp(&encode(b.0, &b.1, b.2)), fields);
        }

        #[test]
        fn keys_read_back_and_none_is_a_prefix_of_another(
            number in any::<u64>(), text in "\\PC{0,20}|[\u{0}\u{ff}]{0,9}", descending in any::<u64>(), other in "[\u{0}a]{0,5}",
        ) {
            let key = encode(number, &text, descending);
            let mut reader = KeyReader::new(&key, Tag::Version).expect("own tag");
            prop_assert_eq!(reader.u64(), Some(number));
            prop_assert_eq!(reader.text(), Some(text.clone()));
            prop_assert_eq!(reader.u64_descending(), Some(descending));
            prop_assert!(reader.end().is_some());
            let second = encode(number, &other, descending);
            prop_assert!(text == other || !second.starts_with(&key));
        }

        #[test]
        fn a_prefix_range_holds_what_begins_so_and_nothing_else(prefix in "[\u{0}a\u{10ffff}]{0,3}", text in "[\u{0}a\u{10ffff}]{0,5}") {
            let start = KeyWriter::new(Tag::Current).text_prefix(&prefix).finish();
            let end = prefix_end(&start).expect("the tag is not FF");
            let key = KeyWriter::new(Tag::Current).text(&text).finish();
            prop_assert_eq!(start <= key && key < end, text.starts_with(&prefix));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(mut reader) = KeyReader::new(&bytes, Tag::Bucket) {
                let _ = (reader.text(), reader.u128(), reader.u32(), reader.byte());
            }
        }
    }
}
