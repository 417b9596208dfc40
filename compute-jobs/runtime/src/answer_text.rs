//! What a reader sees of an answer while its tokens come.
//!
//! Invariant: text is told in whole characters, once, and ends before the first stop sequence; text that one may begin in
//! is held back until it is known not to. Bytes that are no text become U+FFFD.

/// Text of one choice.
#[derive(Clone, Debug)]
pub(crate) struct AnswerText {
    stop: Vec<String>,
    /// Bytes at the end that are not yet whole characters.
    bytes: Vec<u8>,
    /// Whole characters that were not told.
    held: String,
    is_stopped: bool,
}

impl AnswerText {
    pub(crate) fn new(stop: Vec<String>) -> Self {
        Self { stop, bytes: Vec::new(), held: String::new(), is_stopped: false }
    }

    /// Whether a stop sequence came.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Takes a token's bytes, and returns the text that may be told now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.bytes.extend_from_slice(bytes);
        let mut taken = 0;
        for chunk in self.bytes.utf8_chunks() {
            self.held.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid();
            // At the very end a character may only have begun.
            let may_go_on = taken + invalid.len() == self.bytes.len() && may_begin(invalid);
            if !invalid.is_empty() && !may_go_on {
                self.held.push(char::REPLACEMENT_CHARACTER);
                taken += invalid.len();
            }
        }
        self.bytes.drain(..taken);
        self.told()
    }

    /// The text that is left when no more tokens come.
    pub(crate) fn finish(&mut self) -> String {
        if !self.bytes.is_empty() && !self.is_stopped {
            self.bytes.clear();
            self.held.push(char::REPLACEMENT_CHARACTER);
            let told = self.told();
            return told + &std::mem::take(&mut self.held);
        }
        std::mem::take(&mut self.held)
    }

    fn told(&mut self) -> String {
        let first = self.stop.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(first) = first {
            self.is_stopped = true;
            self.held.truncate(first);
            return std::mem::take(&mut self.held);
        }
        let may_begin = |at: &usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let begins = self.held.char_indices().map(|(at, _)| at).find(may_begin);
        let rest = self.held.split_off(begins.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }
}

/// Whether more bytes can make a character of these.
fn may_begin(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::AnswerText;

    fn told(stop: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut text = AnswerText::new(stop.iter().map(|stop| (*stop).to_owned()).collect());
        let mut told: Vec<String> = pieces.iter().map(|piece| text.push(piece)).collect();
        told.push(text.finish());
        (told, text.is_stopped())
    }

    #[test]
    fn characters_are_told_whole() {
        assert_eq!(told(&[], &[b"a\xe2", b"\x82", b"\xacb"]).0, ["a", "", "€b", ""]);
        assert_eq!(
            told(&[], &[b"a\xe2", b"b\xff", b"\xe2\x82"]).0,
            ["a", "\u{fffd}b\u{fffd}", "", "\u{fffd}"]
        );
    }

    #[test]
    fn text_ends_before_a_stop_sequence() {
        assert_eq!(
            told(&["\n\n"], &[b"one\n", b"two\n", b"\nthree"]),
            (vec!["one".into(), "\ntwo".into(), String::new(), String::new()], true)
        );
        assert_eq!(
            told(&["END"], &[b"the E", b"N"]),
            (vec!["the ".into(), String::new(), "EN".into()], false)
        );
        assert_eq!(told(&["b", "abc"], &[b"xab", b"c"]).0, ["xa", "", ""]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_cut_tells_the_same(text in "[ab€é]{0,30}", stop in "[ab€]{1,3}", cuts in prop::collection::vec(0usize..90, 0..8)) {
            let bytes = text.as_bytes();
            let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (told, is_stopped) = told(&[&stop], &pieces);
            let expected = text.split(stop.as_str()).next().unwrap_or_default();
            prop_assert_eq!(told.concat(), expected);
            prop_assert_eq!(is_stopped, text.contains(&stop));
        }
    }
}
