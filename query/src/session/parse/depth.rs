//! How deep a statement's tree may become, judged before it is one.
//!
//! The parser bounds nesting, but builds `1+1+1+…` in a loop: a tree as deep as the text is long, and whatever
//! walks it recurses until the process dies of its stack. So chains are counted by tokens: each sign or word
//! may add a level, until a comma on the same level begins anew.
//!
//! Invariant: what passes is a tree of bounded depth, which the stack of every thread of SQL holds.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::error::{SqlError, SqlState};

/// Longest text of one call.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most levels that chains of operators may come to.
const CHAIN_MAX: usize = 2_000;
/// Most joins and set operations: each is a level of the plan, commas or not.
const JOINS_MAX: usize = 250;

/// A text's tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SqlError::new(
            SqlState::ProgramLimitExceeded,
            format!("a statement has at most {TEXT_BYTES_MAX} bytes"),
        ));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
    tokens.map_err(|e| SqlError::syntax(e.to_string()))
}

/// Refuses what would become too deep.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let (mut open, mut all, mut joins) = (vec![0_usize], 0_usize, 0_usize);
    for token in tokens {
        match &token.token {
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_) => {}
            Token::SemiColon => {
                (open, all, joins) = (vec![0], 0, 0);
            }
            Token::LParen | Token::LBracket | Token::LBrace => {
                open.push(0);
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if open.len() > 1 {
                    all -= open.pop().unwrap_or(0);
                }
                // A subscript is a level, too.
                if let (Token::RBracket, Some(top)) = (&token.token, open.last_mut()) {
                    *top += 1;
                    all += 1;
                }
            }
            Token::Comma => {
                if let Some(top) = open.last_mut() {
                    all -= std::mem::take(top);
                }
            }
            Token::Word(word) => {
                if matches!(
                    word.keyword,
                    Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN
                ) {
                    joins += 1;
                }
                if word.keyword != Keyword::NoKeyword
                    && let Some(top) = open.last_mut()
                {
                    *top += 1;
                    all += 1;
                }
            }
            _ => {
                if let Some(top) = open.last_mut() {
                    *top += 1;
                    all += 1;
                }
            }
        }
        if all > CHAIN_MAX || joins > JOINS_MAX {
            return Err(SqlError::new(SqlState::StatementTooComplex, "the statement is too complex")
                .hint("write long chains of OR as IN (…), and long UNIONs or joins in parts"));
        }
    }
    Ok(())
}

/// Where statements end, as byte offsets. Tokens name lines and characters, in order, so one pass over the text finds all.
pub(super) fn semicolons(tokens: &[TokenWithSpan], text: &str) -> Vec<usize> {
    let ends = tokens.iter().filter(|token| token.token == Token::SemiColon);
    let mut wanted = ends.map(|token| (token.span.start.line, token.span.start.column)).peekable();
    let (mut line, mut column) = (1, 1);
    let mut found = Vec::new();
    for (at, char) in text.char_indices() {
        if wanted.next_if_eq(&(line, column)).is_some() {
            found.push(at);
        }
        (line, column) = if char == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;

    fn passes(text: &str) -> bool {
        check(&tokens(text).unwrap()).is_ok()
    }

    #[test]
    fn chains_are_bounded_and_lists_are_not() {
        assert!(!passes(&"1+".repeat(CHAIN_MAX + 1)));
        assert!(!passes(&"a AND ".repeat(CHAIN_MAX + 1)));
        assert!(!passes(&"f(1,2)||".repeat(CHAIN_MAX + 1)));
        assert!(!passes(&"x::int".repeat(CHAIN_MAX + 1)));
        assert!(!passes(&format!("a{}", "[1]".repeat(CHAIN_MAX + 1))));
        assert!(!passes(&"SELECT a,b UNION ".repeat(JOINS_MAX + 1)));
        assert!(passes(&format!("INSERT INTO t VALUES {}", "(-1, 'x', 2 - 3),".repeat(20_000))));
        assert!(passes(&format!("x IN ({})", "-1,".repeat(20_000))));
        assert!(passes(&"SELECT 1+1;".repeat(20_000)));
    }

    #[test]
    fn statements_are_split_where_they_end_and_nowhere_else() {
        let text = "SELECT ';é';\n-- a; comment\nSELECT \"a;b\"; SELECT $$;$$ ;;";
        assert_eq!(split(text).unwrap(), ["SELECT ';é'", "-- a; comment\nSELECT \"a;b\"", "SELECT $$;$$"]);
    }
}
