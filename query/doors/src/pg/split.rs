//! A text with several statements, cut at its semicolons.
//!
//! Invariant: what is quoted or commented is not cut, and every statement keeps its text as it was written. Pure.

/// The statements of a text, without empty ones.
pub(super) fn split(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut statements = Vec::new();
    let (mut begin, mut at, mut has_words) = (0, 0, false);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let escapes = matches!(bytes.get(at), Some(b'e' | b'E'))
            && bytes.get(at + 1) == Some(&b'\'')
            && (at == 0 || !is_word(bytes[at - 1]));
        at = match rest {
            [b'-', b'-', ..] => until(bytes, at, b'\n'),
            [b'/', b'*', ..] => after_comment(bytes, at),
            [b';', ..] => {
                if has_words {
                    statements.push(text[begin..at].trim());
                }
                (begin, has_words) = (at + 1, false);
                at + 1
            }
            [b'\'' | b'"', ..] => after_quoted(bytes, at, false),
            _ if escapes => after_quoted(bytes, at + 1, true),
            [b'$', ..] if at == 0 || !is_word(bytes[at - 1]) => after_dollars(bytes, at),
            _ => at + 1,
        };
        has_words |= !matches!(rest, [b';', ..] | [b'-', b'-', ..] | [b'/', b'*', ..])
            && !rest[0].is_ascii_whitespace();
    }
    if has_words {
        statements.push(text[begin..].trim());
    }
    statements
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn until(bytes: &[u8], at: usize, end: u8) -> usize {
    bytes[at..].iter().position(|byte| *byte == end).map_or(bytes.len(), |found| at + found + 1)
}

/// Comments nest.
fn after_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// A doubled quote ends one quoted text and begins the next, which is as good as staying within.
fn after_quoted(bytes: &[u8], begin: usize, escapes: bool) -> usize {
    let mut at = begin + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == bytes[begin] => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `$tag$ … $tag$`; a parameter such as `$1` has no second dollar.
fn after_dollars(bytes: &[u8], begin: usize) -> usize {
    let name = bytes[begin + 1..].iter().take_while(|byte| is_word(**byte) && **byte != b'$').count();
    let tag = &bytes[begin..(begin + name + 2).min(bytes.len())];
    if tag.last() != Some(&b'$') || tag.len() < 2 || tag[1].is_ascii_digit() {
        return begin + 1;
    }
    let body = begin + tag.len();
    bytes[body..]
        .windows(tag.len())
        .position(|window| window == tag)
        .map_or(bytes.len(), |found| body + found + tag.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_semicolons_between_statements_cut() {
        assert_eq!(split("SELECT 1; SELECT 2;"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(split(" ; -- nothing; here\n /* ; */ ;"), Vec::<&str>::new());
        for whole in [
            "SELECT ';'",
            "SELECT 'a'';'",
            "SELECT \";\"",
            "SELECT E'\\';'",
            "SELECT $$;$$",
            "SELECT $a$;$$;$a$, $1",
            "SELECT /* ; /* ; */ ; */ 1",
            "SELECT 1 -- ;\n+ 1",
            "SELECT $1 + $2",
        ] {
            assert_eq!(split(whole), [whole]);
            assert_eq!(split(&format!("{whole};SELECT 2")), [whole, "SELECT 2"]);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_nothing_is_added(text in "[-a;'\"$*/\\\\ \nE1é]{0,40}") {
            let statements = split(&text);
            prop_assert!(statements.iter().map(|statement| statement.len()).sum::<usize>() <= text.len());
        }
    }
}
