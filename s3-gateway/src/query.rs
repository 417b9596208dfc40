//! The query string, decoded once, in its order.
//!
//! Invariant: names and values are UTF-8 after percent-decoding; what is not is an error, so a key named in
//! a query is exactly the bytes that the client encoded. Deliberately knows no parameter's meaning but those
//! that signing adds.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What SigV4 leaves unencoded: unreserved characters of RFC 3986.
pub(crate) const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As [`UNRESERVED`], for paths and the listings' `encoding-type=url`: slashes stay.
pub(crate) const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Decoded name and value pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

/// Percent-decoding gave bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotText;

impl Query {
    /// Reads a query string; `+` is a space.
    pub(crate) fn parse(text: &str) -> Result<Self, NotText> {
        let mut pairs = Vec::new();
        for piece in text.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All pairs in order.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// All pairs in order.
    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// Headers that a presigned URL carries in its query (`x-amz-acl`, `x-amz-checksum-*`, …): every parameter
    /// named as S3's own headers are, but for those of signing. Names are in lower case.
    pub(crate) fn hoisted(&self) -> impl Iterator<Item = (String, &str)> {
        let own = self.0.iter().filter(|(name, _)| is_of_signature(name) && name != "Signature");
        own.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
            .filter(|(name, _)| !OF_SIGNING.contains(&&name[..]))
    }

    /// The query that s3s is given: without what signing added, and of each name the value that
    /// [`Query::get`] gives, so that nobody reads another.
    pub(crate) fn without_signature(&self) -> String {
        let mut out = String::new();
        let first = |at: usize, name: &str| !self.0[..at].iter().any(|(earlier, _)| earlier == name);
        let pairs =
            self.0.iter().enumerate().filter(|(at, (name, _))| !is_of_signature(name) && first(*at, name));
        for (_, (name, value)) in pairs {
            if !out.is_empty() {
                out.push('&');
            }
            out.extend(utf8_percent_encode(name, UNRESERVED));
            out.push('=');
            out.extend(utf8_percent_encode(value, UNRESERVED));
        }
        out
    }
}

/// Parameters of a presigned URL that are no headers.
const OF_SIGNING: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

fn is_of_signature(name: &str) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-")) || name == "Signature"
}

/// Decodes one component; `+` is a space.
fn decode(text: &str) -> Result<String, NotText> {
    let spaced;
    let text = if text.contains('+') {
        spaced = text.replace('+', " ");
        &spaced
    } else {
        text
    };
    percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| NotText)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_decoded_in_order() {
        let query = Query::parse("uploads&prefix=a%2Fb+c&x=1=2&&x=3").expect("query");
        let want = [("uploads", ""), ("prefix", "a/b c"), ("x", "1=2"), ("x", "3")];
        assert_eq!(query.pairs().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
        assert_eq!(query.get("x"), Some("1=2"));
        assert!(query.has("uploads") && !query.has("upload"));
        assert_eq!(Query::parse("a=%ff"), Err(NotText));
    }

    #[test]
    fn what_signing_added_is_taken_out() {
        let query = Query::parse("a=b%20c&X-Amz-Signature=0&x-amz-date=1&versionId=v").expect("query");
        assert_eq!(query.without_signature(), "a=b%20c&versionId=v");
        let twice = Query::parse("prefix=a&prefix=b&max-keys=1").expect("query");
        assert_eq!(twice.without_signature(), "prefix=a&max-keys=1");
    }

    #[test]
    fn hoisted_headers_are_told_from_signing() {
        let query =
            Query::parse("X-Amz-Signature=0&X-Amz-Acl=private&x-amz-meta-a=1&x-id=PutObject&X-Amz-Expires=9")
                .expect("query");
        let hoisted: Vec<_> = query.hoisted().collect();
        assert_eq!(hoisted, [("x-amz-acl".to_owned(), "private"), ("x-amz-meta-a".to_owned(), "1")]);
    }

    proptest! {
        #[test]
        fn any_text_survives(name in "\\PC+", value in "\\PC*") {
            let mut text = utf8_percent_encode(&name, UNRESERVED).to_string();
            text.push('=');
            text.extend(utf8_percent_encode(&value, UNRESERVED));
            prop_assert_eq!(Query::parse(&text).expect("query").into_pairs(), vec![(name, value)]);
        }
    }
}
