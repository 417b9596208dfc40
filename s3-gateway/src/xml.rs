//! XML by hand: escaped text into a string, and the guard that foreign XML passes before it is parsed.
//!
//! Invariant: whatever bytes a key has, what is written is well-formed to the parsers that S3 clients use;
//! control characters become character references as S3 writes them. A document with a DTD, too deep or
//! not well-formed never reaches a parser that builds anything. Deliberately knows no document type.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::failure::{Code, Failure};

/// Appends `<name>text</name>`.
pub(crate) fn element(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    escape(out, text);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Appends text with markup and control characters escaped.
pub(crate) fn escape(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let reference = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            0x00..=0x1f | 0x7f => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if reference.is_empty() {
            use std::fmt::Write;
            write!(out, "&#x{byte:x};").expect("writing to a string cannot fail");
        } else {
            out.push_str(reference);
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
}

/// Most elements of a document. Parsed, each takes far more room than its tag: ten thousand parts with all that can
/// be said of them stay well below.
const ELEMENTS_MAX: usize = 100_000;

/// Rejects what must not reach a parser: a DTD, nesting beyond `depth_max`, more than [`ELEMENTS_MAX`] elements, text
/// that is not XML.
pub(crate) fn guard(document: &[u8], depth_max: usize) -> Result<(), Failure> {
    let malformed = |why: &'static str| {
        Failure::new(
            Code::MalformedXML,
            format!("The XML you provided was not well-formed or did not validate: {why}."),
        )
    };
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    let mut reader = Reader::from_reader(document);
    let mut depth = 0_usize;
    let mut elements = 0_usize;
    loop {
        if elements > ELEMENTS_MAX {
            return Err(malformed("it has too many elements"));
        }
        match reader.read_event().map_err(|_| malformed("it is not well-formed"))? {
            Event::Start(_) => {
                depth += 1;
                elements += 1;
                if depth > depth_max {
                    return Err(malformed("it is nested too deep"));
                }
            }
            Event::Empty(_) => elements += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::DocType(_) => return Err(malformed("a document type is not allowed")),
            Event::Eof if depth > 0 => return Err(malformed("it ends early")),
            Event::Eof if elements == 0 => return Err(malformed("it has no element")),
            Event::Eof => return Ok(()),
            Event::Text(text) if depth == 0 && !text.trim_ascii().is_empty() => {
                return Err(malformed("text stands outside its element"));
            }
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_markup_and_controls_and_leaves_the_rest() {
        let mut out = String::new();
        element(&mut out, "Key", "a&b<c>\"d\"\u{0}\u{1f}é🦀'\u{7f}");
        assert_eq!(out, "<Key>a&amp;b&lt;c&gt;&quot;d&quot;&#x0;&#x1f;é🦀'&#x7f;</Key>");
    }

    #[test]
    fn guard_lets_plain_documents_through() {
        guard(b"<?xml version=\"1.0\"?><Delete><Object><Key>a&amp;b</Key></Object></Delete>", 8)
            .expect("plain XML");
    }

    #[test]
    fn guard_lets_control_characters_through_as_text() {
        // Clients write them raw when they delete keys that have some, and must be able to.
        guard(b"\xef\xbb\xbf<Delete><Object><Key>\x01</Key></Object></Delete>\n", 8).expect("a key");
    }

    #[test]
    fn guard_counts_elements() {
        let parts = |count| format!("<C>{}</C>", "<Part/>".repeat(count));
        guard(parts(ELEMENTS_MAX - 1).as_bytes(), 8).expect("as many as may be");
        assert_eq!(guard(parts(ELEMENTS_MAX).as_bytes(), 8).expect_err("more").code(), "MalformedXML");
    }

    #[test]
    fn guard_stops_bombs() {
        let bomb = b"<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><x>&b;</x>";
        assert_eq!(guard(bomb, 8).expect_err("DTD").code(), "MalformedXML");
        let deep = "<a>".repeat(9);
        assert_eq!(guard(deep.as_bytes(), 8).expect_err("depth").code(), "MalformedXML");
        for broken in ["", "plain", "x<a/>", "<a/>x", "\0<a/>", "<a>", "<a></b>", "<a", "</a>"] {
            assert_eq!(guard(broken.as_bytes(), 8).expect_err(broken).code(), "MalformedXML");
        }
    }
}
