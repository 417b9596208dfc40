//! Text of policies with `*`, `?` and `${variables}`, and how it is held against what a request says.
//!
//! Invariants: what a variable stands for is text and never a wildcard; matching takes time linear in the
//! text, times pattern length ÷ 64 for stretches with `?`, and never backtracks. `?` is one character.

mod segments;

use std::borrow::Cow;

use super::PolicyError;
use super::key::Key;
use segments::Segments;

/// What stands for a variable in one request.
pub(super) trait Lookup {
    /// The single value of a key, `None` where the request has none.
    fn value(&self, key: &Key) -> Option<Cow<'_, str>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Variable { key: Key, default: Option<String> },
    AnyChar,
    AnySequence,
}

/// How to read text of a policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Whether `${…}` is a variable: from version 2012-10-17 on.
    pub(super) variables: bool,
    /// Whether `*` and `?` are wildcards.
    pub(super) wildcards: bool,
}

/// Text, possibly with wildcards and variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// Set where there are no variables.
    fixed: Option<Segments>,
}

impl Pattern {
    /// Reads the text. A variable that is not known is an error, as is one that is not closed.
    pub(super) fn parse(text: &str, reading: Reading) -> Result<Self, PolicyError> {
        let mut tokens = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let special = match character {
                '*' if reading.wildcards => Some((Token::AnySequence, 1)),
                '?' if reading.wildcards => Some((Token::AnyChar, 1)),
                '$' if reading.variables && rest.starts_with("${") => Some(parse_variable(rest)?),
                _ => None,
            };
            let Some((token, bytes)) = special else {
                plain.push(character);
                rest = &rest[character.len_utf8()..];
                continue;
            };
            rest = &rest[bytes..];
            if let Token::Text(escaped) = token {
                plain.push_str(&escaped);
                continue;
            }
            if !plain.is_empty() {
                tokens.push(Token::Text(std::mem::take(&mut plain)));
            }
            tokens.push(token);
        }
        if !plain.is_empty() {
            tokens.push(Token::Text(plain));
        }
        let variables = tokens.iter().any(|token| matches!(token, Token::Variable { .. }));
        let fixed = (!variables).then(|| bind(&tokens, &Nothing)).flatten();
        Ok(Self { tokens, fixed })
    }

    /// Whether the whole of `text` matches. A variable without value matches nothing.
    pub(super) fn matches(&self, text: &str, lookup: &impl Lookup) -> bool {
        match &self.fixed {
            Some(segments) => segments.match_whole(text),
            None => bind(&self.tokens, lookup).is_some_and(|segments| segments.match_whole(text)),
        }
    }

    /// Whether the whole of `text` matches, for patterns read without variables.
    pub(super) fn matches_plain(&self, text: &str) -> bool {
        self.matches(text, &Nothing)
    }

    /// The text with variables replaced, for patterns read without wildcards.
    pub(super) fn expand(&self, lookup: &impl Lookup) -> Option<String> {
        let mut out = String::new();
        for token in &self.tokens {
            match token {
                Token::Text(text) => out.push_str(text),
                Token::Variable { key, default } => out.push_str(&variable_value(key, default, lookup)?),
                Token::AnyChar => out.push('?'),
                Token::AnySequence => out.push('*'),
            }
        }
        Some(out)
    }

    /// The one text that it is in every request, if it is.
    pub(super) fn fixed_text(&self) -> Option<&str> {
        match &self.tokens[..] {
            [] => Some(""),
            [Token::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it could match `name`, or `name` followed by `/` and something, in some request.
    pub(super) fn could_name(&self, name: &str) -> bool {
        // One set of positions inside the pattern, moved over the name character by character. A variable
        // may stand for anything.
        let mut glyphs = Vec::new();
        for token in &self.tokens {
            match token {
                Token::Text(text) => glyphs.extend(text.chars().map(Glyph::Char)),
                Token::AnyChar => glyphs.push(Glyph::One),
                Token::AnySequence | Token::Variable { .. } => glyphs.push(Glyph::Many),
            }
        }
        let mut positions = vec![false; glyphs.len() + 1];
        positions[0] = true;
        skip_many(&glyphs, &mut positions);
        for character in name.chars() {
            step(&glyphs, &mut positions, character);
        }
        if positions[glyphs.len()] {
            return true;
        }
        step(&glyphs, &mut positions, '/');
        positions.contains(&true)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Glyph {
    Char(char),
    One,
    Many,
}

fn skip_many(glyphs: &[Glyph], positions: &mut [bool]) {
    for (index, glyph) in glyphs.iter().enumerate() {
        if positions[index] && *glyph == Glyph::Many {
            positions[index + 1] = true;
        }
    }
}

fn step(glyphs: &[Glyph], positions: &mut Vec<bool>, character: char) {
    let mut next = vec![false; positions.len()];
    for (index, glyph) in glyphs.iter().enumerate() {
        if !positions[index] {
            continue;
        }
        match glyph {
            Glyph::Char(own) if *own == character => next[index + 1] = true,
            Glyph::One => next[index + 1] = true,
            Glyph::Many => next[index] = true,
            Glyph::Char(_) => {}
        }
    }
    skip_many(glyphs, &mut next);
    *positions = next;
}

/// Reads `${key}`, `${key, 'default'}`, `${*}`, `${?}` or `${$}` at the beginning of `text`; answers how long
/// it is in bytes.
fn parse_variable(text: &str) -> Result<(Token, usize), PolicyError> {
    let Some(end) = text.find('}') else {
        return Err(PolicyError::new(format!("the variable {} is not closed", super::quoted(text))));
    };
    let body = &text[2..end];
    let token = match body {
        "*" | "?" | "$" => Token::Text(body.to_owned()),
        _ => {
            let (name, default) = match body.split_once(',') {
                None => (body, None),
                Some((name, default)) => {
                    let text = default.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
                    let Some(text) = text else {
                        return Err(PolicyError::new(format!(
                            "the default of the variable {} is not in single quotes",
                            super::quoted(body)
                        )));
                    };
                    (name, Some(text.to_owned()))
                }
            };
            let key = Key::parse(name.trim())?;
            if key.is_many() {
                return Err(PolicyError::new(format!(
                    "{} has several values and cannot be a variable",
                    super::quoted(name)
                )));
            }
            Token::Variable { key, default }
        }
    };
    Ok((token, end + 1))
}

fn variable_value<'a>(
    key: &Key,
    default: &'a Option<String>,
    lookup: &'a impl Lookup,
) -> Option<Cow<'a, str>> {
    lookup.value(key).or_else(|| default.as_deref().map(Cow::Borrowed))
}

/// The pattern for one request, `None` where a variable has no value.
fn bind(tokens: &[Token], lookup: &impl Lookup) -> Option<Segments> {
    let mut out = Segments::new();
    for token in tokens {
        match token {
            Token::Text(text) => out.push_text(text),
            Token::Variable { key, default } => out.push_text(&variable_value(key, default, lookup)?),
            Token::AnyChar => out.push_any(),
            Token::AnySequence => out.push_many(),
        }
    }
    Some(out)
}

struct Nothing;

impl Lookup for Nothing {
    fn value(&self, _: &Key) -> Option<Cow<'_, str>> {
        None
    }
}

#[cfg(test)]
mod tests;
