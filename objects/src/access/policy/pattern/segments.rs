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
    if mask.len() <= 64 { shift_and_narrow(mask, text) } else { shift_and_wide(mask, text) }
}

/// As [`shift_and`], for stretches that fit one word.
fn shift_and_narrow<'t>(mask: &[Option<char>], text: &'t str) -> Option<&'t str> {
    let mut any = 0_u64;
    let mut ascii = [0_u64; 128];
    for (index, expected) in mask.iter().enumerate() {
        match expected {
            None => any |= 1 << index,
            Some(character) => {
                if let Some(places) = ascii.get_mut(code(*character)) {
                    *places |= 1 << index;
                }
            }
        }
    }
    let beyond_ascii = |character: char| {
        let places = mask.iter().enumerate().filter(|(_, own)| **own == Some(character));
        places.fold(0, |bits, (index, _)| bits | 1 << index)
    };
    let last = 1 << (mask.len() - 1);
    let mut state = 0_u64;
    for (at, character) in text.char_indices() {
        let places = ascii.get(code(character)).copied().unwrap_or_else(|| beyond_ascii(character));
        state = (state << 1 | 1) & (places | any);
        if state & last != 0 {
            return Some(&text[at + character.len_utf8()..]);
        }
    }
    None
}

fn code(character: char) -> usize {
    usize::try_from(u32::from(character)).unwrap_or(usize::MAX)
}

/// Where a character stands in a long stretch: a short list, or one bit a place.
enum Places {
    Few(Vec<usize>),
    Many(Vec<u64>),
}

/// Longest list of places; beyond it bits are quicker to add.
const FEW: usize = 8;

fn set(bits: &mut [u64], index: usize) {
    bits[index / 64] |= 1 << (index % 64);
}

/// As [`shift_and`], for stretches of any length.
fn shift_and_wide<'t>(mask: &[Option<char>], text: &'t str) -> Option<&'t str> {
    if text.len() < mask.len() {
        return None;
    }
    let words = mask.len().div_ceil(64);
    let mut any = vec![0_u64; words];
    let mut places: HashMap<char, Places> = HashMap::new();
    for (index, expected) in mask.iter().enumerate() {
        let Some(character) = expected else {
            set(&mut any, index);
            continue;
        };
        match places.entry(*character).or_insert_with(|| Places::Few(Vec::new())) {
            Places::Many(bits) => set(bits, index),
            Places::Few(list) if list.len() < FEW => list.push(index),
            own @ Places::Few(_) => {
                let mut bits = vec![0_u64; words];
                if let Places::Few(list) = &*own {
                    list.iter().for_each(|at| set(&mut bits, *at));
                }
                set(&mut bits, index);
                *own = Places::Many(bits);
            }
        }
    }
    let last = mask.len() - 1;
    let mut state = vec![0_u64; words];
    let mut allowed = vec![0_u64; words];
    for (at, character) in text.char_indices() {
        allowed.copy_from_slice(&any);
        match places.get(&character) {
            None => {}
            Some(Places::Few(list)) => list.iter().for_each(|index| set(&mut allowed, *index)),
            Some(Places::Many(bits)) => allowed.iter_mut().zip(bits).for_each(|(own, more)| *own |= more),
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
