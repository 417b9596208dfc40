//! RFC 2047 encoded words, in which S3 carries text beyond ASCII in `x-amz-meta-*`.
//!
//! Invariant: `decode(encode(text)) == text` for every text; what is not an encoded word is left as it is.
//! Deliberately knows only UTF-8 and ISO-8859-1, the character sets that S3 clients send.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Text as a header may carry it: itself where it is printable ASCII that no reader would take for an
/// encoded word, else encoded words of at most 75 characters.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().all(|b| (0x20..0x7f).contains(&b)) && !text.contains("=?");
    if plain && text.trim() == text {
        return Cow::Borrowed(text);
    }
    // 45 bytes are 60 characters of base64; with the frame of 12 a word stays below 75.
    let mut words = String::with_capacity(text.len() * 2 + 16);
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(45);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, tail) = rest.split_at(end);
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str("=?UTF-8?B?");
        STANDARD.encode_string(word, &mut words);
        words.push_str("?=");
        rest = tail;
    }
    Cow::Owned(words)
}

/// A header's bytes as text: UTF-8, else ISO-8859-1; then encoded words decoded.
pub(crate) fn decode(raw: &[u8]) -> String {
    let text: Cow<'_, str> = match std::str::from_utf8(raw) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(raw.iter().map(|&b| char::from(b)).collect()),
    };
    if !text.contains("=?") {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    let mut after_word = false;
    while let Some(at) = rest.find("=?") {
        let Some((word, length)) = encoded_word(&rest[at..]) else {
            out.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            after_word = false;
            continue;
        };
        let between = &rest[..at];
        // White space between two encoded words only folds the line.
        if !(after_word && between.chars().all(char::is_whitespace)) {
            out.push_str(between);
        }
        out.push_str(&word);
        rest = &rest[at + length..];
        after_word = true;
    }
    out.push_str(rest);
    out
}

/// Reads `=?charset?encoding?payload?=` at the start of `text`; the decoded word and its length there.
fn encoded_word(text: &str) -> Option<(String, usize)> {
    let body = text.strip_prefix("=?")?;
    let (charset, after) = body.split_once('?')?;
    let (encoding, after) = after.split_once('?')?;
    let (payload, after) = after.split_once("?=")?;
    let length = text.len() - after.len();
    let bytes = match encoding {
        "B" | "b" => STANDARD.decode(payload).ok()?,
        "Q" | "q" => unquote(payload)?,
        _ => return None,
    };
    let word = if charset.eq_ignore_ascii_case("utf-8") {
        String::from_utf8(bytes).ok()?
    } else if charset.eq_ignore_ascii_case("iso-8859-1") || charset.eq_ignore_ascii_case("us-ascii") {
        bytes.into_iter().map(char::from).collect()
    } else {
        return None;
    };
    Some((word, length))
}

fn unquote(payload: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len());
    let mut bytes = payload.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'_' => out.push(b' '),
            b'=' => {
                let pair = [bytes.next()?, bytes.next()?];
                out.extend(hex::decode(pair).ok()?);
            }
            b' ' | b'?' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ascii_is_left_alone() {
        assert_eq!(encode("plain value; 1=2"), "plain value; 1=2");
        assert_eq!(decode(b"plain value; 1=2"), "plain value; 1=2");
    }

    #[test]
    fn the_forms_that_clients_send_are_read() {
        assert_eq!(decode("=?UTF-8?Q?Hello_World=C3=A9?=".as_bytes()), "Hello Worldé");
        assert_eq!(decode("=?utf-8?b?SGVsbG8gV29ybGTDqQ==?=".as_bytes()), "Hello Worldé");
        assert_eq!(decode("=?UTF-8?B?w6k=?= =?UTF-8?B?w6k=?= x".as_bytes()), "éé x");
        assert_eq!(decode("Hello World\u{e9}".as_bytes()), "Hello Worldé");
        assert_eq!(decode(b"Hello World\xe9"), "Hello Worldé");
    }

    #[test]
    fn what_is_no_encoded_word_stays() {
        for text in
            ["=?", "a=?b", "=?UTF-8?X?abc?=", "=?UTF-8?B?***?=", "=?koi8-r?B?YWJj?=", "=?UTF-8?Q?=G1?="]
        {
            assert_eq!(decode(text.as_bytes()), text);
        }
    }

    #[test]
    fn words_are_short_enough() {
        for word in encode(&"é🦀".repeat(60)).split(' ') {
            assert!(word.len() <= 75, "{word}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC*") {
            prop_assert_eq!(decode(encode(&text).as_bytes()), text);
        }

        #[test]
        fn any_bytes_are_read_without_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode(&raw);
        }
    }
}
