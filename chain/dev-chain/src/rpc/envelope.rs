//! JSON-RPC 2.0's frame: one request or a batch, ids echoed as they came, notifications without an answer.
//!
//! Invariant: a batch's length is known to be within bounds before any of it is served, and nothing is parsed deeper
//! than its frame. Deliberately knows no method.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Answer;
use super::failure::Failure;

/// Ids longer than this are answered with null.
const ID_BYTES_MAX: usize = 256;

/// One request.
#[derive(Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) params: Option<&'a RawValue>,
}

/// An id that is there, even if it is null: only where it is missing, the request is a notification.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Serves a body; `None` if nothing is to be answered.
pub(super) fn answer(
    body: &[u8],
    batch_max: usize,
    mut serve: impl FnMut(&Request<'_>) -> Answer,
) -> Option<Vec<u8>> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'[') {
        return match serde_json::from_slice::<&RawValue>(body) {
            Ok(one) => answer_one(one, &mut serve),
            Err(error) => Some(written("null", Err(Failure::parse(&error)))),
        };
    }
    let batch = match parse_batch(body, batch_max) {
        Ok(batch) => batch,
        Err(failure) => return Some(written("null", Err(failure))),
    };
    let mut all = Vec::from(*b"[");
    for one in batch {
        if let Some(answer) = answer_one(one, &mut serve) {
            if all.len() > 1 {
                all.push(b',');
            }
            all.extend_from_slice(&answer);
        }
    }
    all.push(b']');
    (all.len() > 2).then_some(all)
}

fn answer_one(one: &RawValue, serve: &mut impl FnMut(&Request<'_>) -> Answer) -> Option<Vec<u8>> {
    let request = match serde_json::from_str::<Request<'_>>(one.get()) {
        Ok(request) => request,
        Err(_) => {
            let why = Failure::invalid_request("a request is an object with `method`, `params` and `id`");
            return Some(written("null", Err(why)));
        }
    };
    let done = serve(&request);
    let id = request.id?.get();
    let is_id = !id.starts_with(['{', '[']) && id.len() <= ID_BYTES_MAX;
    Some(written(if is_id { id } else { "null" }, done))
}

fn written(id: &str, done: Answer) -> Vec<u8> {
    let (name, value) = match done {
        Ok(value) => ("result", value.get().to_owned()),
        Err(failure) => {
            ("error", serde_json::to_string(&failure).expect("a failure is plain text and numbers"))
        }
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"{name}":{value}}}"#).into_bytes()
}

fn parse_batch(body: &[u8], batch_max: usize) -> Result<Vec<&RawValue>, Failure> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let batch = Capped::<'_> {
        most: batch_max,
        over: std::cell::Cell::new(false),
        _borrow: std::marker::PhantomData,
    };
    let over = &batch.over;
    let parsed = from.deserialize_seq(&batch).and_then(|batch| from.end().map(|()| batch));
    match parsed {
        Ok(batch) if batch.is_empty() => Err(Failure::invalid_request("the batch is empty")),
        Ok(batch) => Ok(batch),
        Err(_) if over.get() => {
            Err(Failure::invalid_request(&format!("a batch has at most {batch_max} requests")))
        }
        Err(error) => Err(Failure::parse(&error)),
    }
}

/// At most so many elements of a JSON array, none of them parsed.
struct Capped<'a> {
    most: usize,
    over: std::cell::Cell<bool>,
    _borrow: std::marker::PhantomData<&'a ()>,
}

impl<'de> Visitor<'de> for &Capped<'de> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "an array of at most {}", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while all.len() < self.most {
            match elements.next_element()? {
                Some(element) => all.push(element),
                None => return Ok(all),
            }
        }
        if elements.next_element::<IgnoredAny>()?.is_some() {
            self.over.set(true);
            return Err(A::Error::custom("too many elements"));
        }
        Ok(all)
    }
}

/// The elements of a JSON array, at most `most`.
pub(super) fn elements(array: &RawValue, most: usize) -> Result<Vec<&RawValue>, serde_json::Error> {
    let mut from = serde_json::Deserializer::from_str(array.get());
    let capped = Capped { most, over: std::cell::Cell::new(false), _borrow: std::marker::PhantomData };
    from.deserialize_seq(&capped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn served(body: &str) -> Option<String> {
        let echo = |request: &Request<'_>| super::super::answer(&request.method);
        answer(body.as_bytes(), 3, echo).map(|answer| String::from_utf8(answer).unwrap())
    }

    #[test]
    fn ids_are_echoed_and_notifications_are_silent() {
        assert_eq!(
            served(r#"{"id":"a\n","method":"m"}"#).unwrap(),
            r#"{"jsonrpc":"2.0","id":"a\n","result":"m"}"#
        );
        assert_eq!(
            served(r#"{"id":null,"method":"m"}"#).unwrap(),
            r#"{"jsonrpc":"2.0","id":null,"result":"m"}"#
        );
        assert_eq!(served(r#"{"method":"m"}"#), None);
        assert_eq!(served(r#"[{"method":"m"},{"method":"n"}]"#), None);
        assert_eq!(
            served(r#" [{"method":"m"},{"id":7,"method":"n"}]"#).unwrap(),
            r#"[{"jsonrpc":"2.0","id":7,"result":"n"}]"#
        );
    }

    #[test]
    fn what_is_no_request_is_told() {
        for (body, code) in [
            ("", -32700),
            ("{", -32700),
            ("[", -32700),
            ("[1,2", -32700),
            ("[]", -32600),
            ("[1,2,3,4]", -32600),
            ("7", -32600),
            (r#"{"id":1}"#, -32600),
            (r#"{"id":{},"method":7}"#, -32600),
            (r#"[{"id":1,"method":"m"}] x"#, -32700),
        ] {
            let answer = served(body).unwrap();
            assert!(answer.contains(&format!("\"code\":{code}")), "{body}: {answer}");
        }
        let deep = "[".repeat(100_000);
        assert!(served(&deep).unwrap().contains("-32700"));
        let deep = format!(r#"{{"id":{}1{},"method":"m"}}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(served(&deep).unwrap().contains("\"id\":null"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_by_json(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(answer) = answer(&body, 3, |request| super::super::answer(&request.method)) {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&answer).is_ok());
            }
        }
    }
}
