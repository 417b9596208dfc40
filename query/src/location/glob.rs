//! Patterns over keys: `*`, `**`, `?`, `[a-z]`, `[!a]`, `{one,two}`, and `\` before what is meant literally.
//!
//! Invariant: matching takes time proportional to pattern times key, whatever either holds. `*` and `?` stay
//! within a folder; `**/` is any number of folders, and `**` elsewhere any text.

use std::hash::{Hash, Hasher};

/// Most patterns that braces may stand for together.
const ALTERNATIVES_MAX: usize = 256;
/// Most characters of all alternatives together.
const TOKENS_MAX: usize = 64 << 10;

/// Why a pattern does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's sentence is its documentation")]
pub enum GlobError {
    #[error("{{ is not closed")]
    OpenBrace,
    #[error("}} closes nothing")]
    CloseBrace,
    #[error("[ is not closed")]
    OpenClass,
    #[error("the class [{0}] holds nothing")]
    EmptyClass(String),
    #[error("\\ stands before nothing")]
    Escape,
    #[error("braces stand for more than {ALTERNATIVES_MAX} patterns")]
    TooMany,
}

/// A pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    prefix: String,
    alternatives: Vec<Vec<Token>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// One character but the slash.
    One,
    /// Any characters but the slash.
    Within,
    /// Any characters.
    Across,
    /// No folder, or any number of them with their slashes.
    Folders,
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl Hash for Glob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Glob {
    /// Whether a text has anything of a pattern.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '{', '\\'])
    }

    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        let mut alternatives = Vec::new();
        let mut tokens_left = TOKENS_MAX;
        for alternative in expand(text)? {
            let tokens = tokenize(&alternative)?;
            tokens_left = tokens_left.checked_sub(tokens.len()).ok_or(GlobError::TooMany)?;
            alternatives.push(tokens);
        }
        let literal = |tokens: &Vec<Token>| -> String {
            let chars = tokens.iter().map_while(|token| match token {
                Token::Char(c) => Some(*c),
                _ => None,
            });
            chars.collect()
        };
        let mut prefix = alternatives.first().map(literal).unwrap_or_default();
        for tokens in &alternatives {
            let other = literal(tokens);
            let same = prefix.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
            let end = same.map_or(prefix.len().min(other.len()), |((at, _), _)| at);
            prefix.truncate(end);
        }
        Ok(Self { text: text.to_owned(), prefix, alternatives })
    }

    /// Matches this key alone.
    pub(crate) fn literal(key: &str) -> Self {
        let tokens = key.chars().map(Token::Char).collect();
        let text: String = key.chars().flat_map(|c| ['\\', c]).collect();
        Self { text, prefix: key.to_owned(), alternatives: vec![tokens] }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every match begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the whole of `key` matches.
    pub fn matches(&self, key: &str) -> bool {
        self.alternatives.iter().any(|tokens| matches(tokens, key))
    }
}

/// Writes braces out. Classes and escapes are left as they are.
fn expand(text: &str) -> Result<Vec<String>, GlobError> {
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(pattern) = open.pop() {
        match first_brace(&pattern)? {
            None => done.push(pattern),
            Some((start, end, commas)) => {
                let mut from = start + 1;
                for to in commas.into_iter().chain([end]) {
                    let (before, choice, after) =
                        (&pattern[..start], &pattern[from..to], &pattern[end + 1..]);
                    open.push(format!("{before}{choice}{after}"));
                    from = to + 1;
                }
            }
        }
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err(GlobError::TooMany);
        }
    }
    Ok(done)
}

/// The first braces with their own commas, as byte offsets.
fn first_brace(text: &str) -> Result<Option<(usize, usize, Vec<usize>)>, GlobError> {
    let (mut depth, mut start, mut commas) = (0_u32, 0, Vec::new());
    let (mut escaped, mut in_class) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' if in_class => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '{' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            '}' if depth == 0 => return Err(GlobError::CloseBrace),
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some((start, at, commas)));
                }
            }
            ',' if depth == 1 => commas.push(at),
            _ => {}
        }
    }
    if depth > 0 { Err(GlobError::OpenBrace) } else { Ok(None) }
}

fn tokenize(text: &str) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let mut at_folder = true;
    while let Some(c) = chars.next() {
        let token = match c {
            '\\' => Token::Char(chars.next().ok_or(GlobError::Escape)?),
            '?' => Token::One,
            '*' if chars.peek() == Some(&'*') => {
                while chars.next_if_eq(&'*').is_some() {}
                if at_folder && chars.next_if_eq(&'/').is_some() {
                    tokens.push(Token::Folders);
                    continue;
                }
                Token::Across
            }
            '*' => Token::Within,
            '[' => class(&mut chars)?,
            c => Token::Char(c),
        };
        at_folder = token == Token::Char('/');
        tokens.push(token);
    }
    Ok(tokens)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, GlobError> {
    let not = chars.next_if(|c| matches!(c, '!' | '^')).is_some();
    let mut members = Vec::new();
    loop {
        match chars.next().ok_or(GlobError::OpenClass)? {
            ']' => break,
            '\\' => members.push(chars.next().ok_or(GlobError::Escape)?),
            c => members.push(c),
        }
    }
    let mut ranges = Vec::new();
    let mut rest = members.as_slice();
    loop {
        rest = match rest {
            [] => break,
            [first, '-', last, rest @ ..] => {
                ranges.push((*first, *last));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
        };
    }
    if ranges.iter().all(|(first, last)| first > last) {
        return Err(GlobError::EmptyClass(members.into_iter().collect()));
    }
    Ok(Token::Class { not, ranges })
}

/// Walks all ways to match at once: `at[i]` says that the first `i` tokens are done, `inside[i]` that a folder
/// of the `i`-th token has begun.
fn matches(tokens: &[Token], key: &str) -> bool {
    let mut at = vec![false; tokens.len() + 1];
    let mut inside = vec![false; tokens.len() + 1];
    at[0] = true;
    skip_empty(tokens, &mut at);
    for c in key.chars() {
        let mut next = vec![false; tokens.len() + 1];
        let mut next_inside = vec![false; tokens.len() + 1];
        for (i, token) in tokens.iter().enumerate() {
            if !at[i] && !inside[i] {
                continue;
            }
            match token {
                Token::Folders if c == '/' => next[i] = true,
                Token::Folders => next_inside[i] = true,
                _ if !at[i] => {}
                Token::Char(wanted) => next[i + 1] |= c == *wanted,
                Token::One => next[i + 1] |= c != '/',
                Token::Within => next[i] |= c != '/',
                Token::Across => next[i] = true,
                Token::Class { not, ranges } => {
                    let within = ranges.iter().any(|(first, last)| (*first..=*last).contains(&c));
                    next[i + 1] |= c != '/' && within != *not;
                }
            }
        }
        skip_empty(tokens, &mut next);
        (at, inside) = (next, next_inside);
    }
    at[tokens.len()]
}

/// Tokens that match nothing at all are done as soon as they are reached.
fn skip_empty(tokens: &[Token], at: &mut [bool]) {
    for (i, token) in tokens.iter().enumerate() {
        if at[i] && matches!(token, Token::Within | Token::Across | Token::Folders) {
            at[i + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn does(pattern: &str, key: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(key)
    }

    #[test]
    fn each_sign_matches_what_it_says() {
        assert!(does("a/*.parquet", "a/x.parquet") && !does("a/*.parquet", "a/b/x.parquet"));
        assert!(does("a/**/x", "a/x") && does("a/**/x", "a/b/x") && does("a/**/x", "a/b/c/x"));
        assert!(!does("a/**/x", "a/bx") && !does("a/**/x", "ax"));
        assert!(does("**/x", "x") && does("**", "a/b") && does("a**b", "a/1/b"));
        assert!(does("a?c", "abc") && !does("a?c", "a/c") && !does("a?c", "ac"));
        assert!(
            does("[a-c]1", "b1") && !does("[a-c]1", "d1") && does("[!a-c]1", "d1") && !does("[!a]1", "/1")
        );
        assert!(does("{a,b{c,d}}.x", "bd.x") && does("{a,b{c,d}}.x", "a.x") && !does("{a,b{c,d}}.x", "b.x"));
        assert!(does("a\\*", "a*") && !does("a\\*", "ab") && does("[\\]]", "]") && does("[,{]{a,b}", "{b"));
    }

    #[test]
    fn the_fixed_part_is_found() {
        let prefix = |pattern| Glob::parse(pattern).unwrap().prefix().to_owned();
        assert_eq!(prefix("a/b*.x"), "a/b");
        assert_eq!(prefix("a/{xy,xz}/*"), "a/x");
        assert_eq!(prefix("{a,b}"), "");
        assert_eq!(prefix("a\\*b?"), "a*b");
    }

    #[test]
    fn what_does_not_parse_says_why() {
        assert_eq!(Glob::parse("{a"), Err(GlobError::OpenBrace));
        assert_eq!(Glob::parse("a}"), Err(GlobError::CloseBrace));
        assert_eq!(Glob::parse("[a"), Err(GlobError::OpenClass));
        assert_eq!(Glob::parse("[]a"), Err(GlobError::EmptyClass(String::new())));
        assert_eq!(Glob::parse("a\\"), Err(GlobError::Escape));
        assert_eq!(Glob::parse(&"{a,b}".repeat(20)), Err(GlobError::TooMany));
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = format!("{}b", "*a".repeat(500));
        assert!(!does(&pattern, &"a".repeat(1000)));
    }

    proptest! {
        #[test]
        fn a_key_matches_itself_escaped(key in "[a-c*?\\[\\]{},\\\\/!-]{0,12}") {
            let escaped: String = key.chars().flat_map(|c| ['\\', c]).collect();
            let glob = Glob::parse(&escaped).unwrap();
            prop_assert!(glob.matches(&key));
            prop_assert_eq!(glob.prefix(), key);
        }

        #[test]
        fn nothing_panics_and_matches_begin_with_the_prefix(
            pattern in "[ab*?\\[\\]{},\\\\/!^-]{0,16}",
            key in "[ab/]{0,10}",
        ) {
            if let Ok(glob) = Glob::parse(&pattern) && glob.matches(&key) {
                prop_assert!(key.starts_with(glob.prefix()));
            }
        }

        #[test]
        fn stars_agree_with_a_search(a in "[ab/]{0,5}", b in "[ab/]{0,5}", key in "[ab/]{0,9}") {
            let within = key.strip_prefix(&a).and_then(|rest| rest.strip_suffix(&b));
            prop_assert_eq!(does(&format!("{a}*{b}"), &key), within.is_some_and(|rest| !rest.contains('/')));
        }
    }
}
