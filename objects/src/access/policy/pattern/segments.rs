//! A pattern without variables, cut at its `*`, and how text is held against it without backtracking.
//!
//! Invariant: each stretch has one length in characters, so its leftmost place leaves the most for those that
//! follow, and no choice is ever taken back.

use std::collections::HashMap;

/// A pattern cut at its `*`: one stretch more than there are stars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segments(Vec<Segment>);

/// A stretch of certain length in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    /// `None` is any character.
    Masked(Vec<Option<char>>),
}

impl Segments {
    /// One stretch, with nothing in it yet.
    pub(super) fn new() -> Self {
        Self(vec![Segment::Text(String::new())])
    }

    /// Appends certain characters.
    pub(super) fn push_text(&mut self, text: &str) {
        self.last().push_text(text);
    }

    /// Appends any one character.
    pub(super) fn push_any(&mut self) {
        self.last().push_any();
    }

    /// Appends any characters or none.
    pub(super) fn push_many(&mut self) {
        self.0.push(Segment::Text(String::new()));
    }

    fn last(&mut self) -> &mut Segment {
        self.0.last_mut().expect("there is always a stretch: the list began with one")
    }

    /// Whether all of `text` matches.
    pub(super) fn match_whole(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|only| only.strip_prefix(text).is_some_and(str::is_empty));
        };
        let Some(text) = first.strip_prefix(text) else { return false };
        let Some(mut text) = last.strip_suffix(text) else { return false };
        // Each stretch has one length, so its leftmost place leaves the most for those that follow.
        for segment in middle {
            match segment.skip_past(text) {
                Some(rest) => text = rest,
                None => return false,
            }
        }
        true
    }
}

impl Segment {
    fn push_text(&mut self, more: &str) {
        match self {
            Self::Text(text) => text.push_str(more),
            Self::Masked(mask) => mask.extend(more.chars().map(Some)),
        }
    }

    fn push_any(&mut self) {
        if let Self::Text(text) = self {
            *self = Self::Masked(text.chars().map(Some).collect());
        }
        if let Self::Masked(mask) = self {
            mask.push(None);
        }
    }

    fn strip_prefix<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Text(own) => text.strip_prefix(own.as_str()),
            Self::Masked(mask) => {
                let mut characters = text.chars();
                for expected in mask {
                    let found = characters.next()?;
                    if expected.is_some_and(|expected| expected != found) {
                        return None;
                    }
                }
                Some(characters.as_str())
            }
        }
    }

    fn strip_suffix<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Text(own) => text.strip_suffix(own.as_str()),
            Self::Masked(mask) => {
                let mut characters = text.chars();
                for expected in mask.iter().rev() {
                    let found = characters.next_back()?;
                    if expected.is_some_and(|expected| expected != found) {
                        return None;
                    }
                }
                Some(characters.as_str())
            }
        }
    }

    /// What follows the leftmost place where the stretch stands.
    fn skip_past<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Self::Text(own) => text.find(own.as_str()).map(|at| &text[at + own.len()..]),
            Self::Masked(mask) => shift_and(mask, text),
        }
    }
}

/// Bit-parallel search (Baeza-Yates and Gonnet, 1992): bit i says that the stretch's first i + 1 characters
/// end here. One shift of `mask.len() / 64` words a character, whatever the text.
fn shift_and<'t>(mask: &[Option<char>], text: &'t str) -> Option<&'t str> {
    let words = mask.len().div_ceil(64);
    let mut any = vec![0_u64; words];
    let mut places: HashMap<char, Vec<usize>> = HashMap::new();
    for (index, expected) in mask.iter().enumerate() {
        match expected {
            None => any[index / 64] |= 1 << (index % 64),
            Some(character) => places.entry(*character).or_default().push(index),
        }
    }
    let last = mask.len() - 1;
    let mut state = vec![0_u64; words];
    let mut allowed = vec![0_u64; words];
    for (at, character) in text.char_indices() {
        allowed.copy_from_slice(&any);
        for index in places.get(&character).into_iter().flatten() {
            allowed[index / 64] |= 1 << (index % 64);
        }
        let mut carry = 1;
        for (word, allowed) in state.iter_mut().zip(&allowed) {
            let shifted = (*word << 1) | carry;
            carry = *word >> 63;
            *word = shifted & allowed;
        }
        if state[last / 64] >> (last % 64) & 1 == 1 {
            return Some(&text[at + character.len_utf8()..]);
        }
    }
    None
}
