//! Parameters of a request in JSON: each is taken by name, and what is left over is refused by name.
//!
//! Invariant: no parameter that a client sent is ignored without its being said in docs/guide/openai.md. Does not know what
//! parameters mean.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// What of a request was not taken yet.
pub(crate) struct Parameters(Map<String, Value>);

impl Parameters {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(Refusal::malformed("The request's body must be a JSON object.")),
            Err(error) => Err(Refusal::malformed(format!("The request's body is not JSON: {error}."))),
        }
    }

    pub(crate) fn of(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// A parameter, if it is there and not null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::invalid(name, format!("'{name}' must be a string."))),
        }
    }

    pub(crate) fn required_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| Refusal::missing(name))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(Refusal::invalid(name, format!("'{name}' must be true or false."))),
        }
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| range.contains(number));
        // Nothing between 0 and 2 is lost but digits that no sampling sees.
        number.map(|number| Some(number as f32)).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            Refusal::invalid(name, format!("'{name}' must be a number from {first} to {last}."))
        })
    }

    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            Refusal::invalid(name, format!("'{name}' must be a whole number from {first} to {last}."))
        })
    }

    /// Refuses a parameter unless it says what is the case anyway.
    pub(crate) fn only(
        &mut self,
        name: &str,
        is_fine: impl FnOnce(&Value) -> bool,
        why: &str,
    ) -> Result<(), Refusal> {
        match self.take(name) {
            Some(value) if !is_fine(&value) => Err(Refusal::unsupported(name, why)),
            _ => Ok(()),
        }
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(Refusal::unknown_parameter(&name)),
            None => Ok(()),
        }
    }
}

/// Whether a value holds nothing: an empty list, object or string, false, or 0.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_once_and_the_rest_is_named() {
        let text = br#"{"a": "x", "t": 0.5, "n": 3, "f": true, "none": null, "odd": 1, "logit_bias": {}}"#;
        let mut parameters = Parameters::parse(text).unwrap();
        assert_eq!(parameters.text("a").unwrap().as_deref(), Some("x"));
        assert_eq!(parameters.number("t", 0.0..=2.0).unwrap(), Some(0.5));
        assert_eq!(parameters.integer("n", 1..=3).unwrap(), Some(3));
        assert!(parameters.flag("f").unwrap());
        parameters.only("logit_bias", is_empty, "no").unwrap();
        assert_eq!(parameters.required_text("a").unwrap_err().code, Some("missing_required_parameter"));
        let refusal = parameters.finish().unwrap_err();
        assert_eq!((refusal.param.as_deref(), refusal.code), (Some("odd"), Some("unknown_parameter")));
    }

    #[test]
    fn wrong_values_name_their_parameter() {
        let of = |text: &str| Parameters::parse(text.as_bytes()).unwrap();
        let refusals = [
            of(r#"{"x": 1}"#).text("x").map(drop).unwrap_err(),
            of(r#"{"x": "1"}"#).number("x", 0.0..=1.0).map(drop).unwrap_err(),
            of(r#"{"x": 1.5}"#).number("x", 0.0..=1.0).map(drop).unwrap_err(),
            of(r#"{"x": 1.5}"#).integer("x", 0..=9).map(drop).unwrap_err(),
            of(r#"{"x": -1}"#).integer("x", 0..=9).map(drop).unwrap_err(),
            of(r#"{"x": 1}"#).flag("x").map(drop).unwrap_err(),
            of(r#"{"x": [1]}"#).only("x", is_empty, "why").unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!((refusal.status.as_u16(), refusal.param.as_deref()), (400, Some("x")));
        }
        for text in ["", "[]", "{", "{\"a\": 1}}"] {
            assert!(Parameters::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
