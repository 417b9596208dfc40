//! Positional parameters of a request, each parsed when a method asks for it.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::envelope;
use super::failure::Failure;

/// More than any method takes.
const PARAMS_MAX: usize = 8;

/// Parameters, none of them parsed yet.
pub(super) struct Params<'a>(Vec<&'a RawValue>);

impl<'a> Params<'a> {
    pub(super) fn parse(raw: Option<&'a RawValue>) -> Result<Self, Failure> {
        let Some(raw) = raw else { return Ok(Self(Vec::new())) };
        let why = "they are an array of few elements";
        envelope::elements(raw, PARAMS_MAX).map(Self).map_err(|_| Failure::invalid_params(why))
    }

    /// The parameter at `index`; missing and null are the same.
    pub(super) fn optional<T: DeserializeOwned>(
        &self,
        index: usize,
        name: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(raw) = self.0.get(index) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|error| Failure::invalid_params(format!("{name}: {error}")))
    }

    /// The parameter at `index`.
    pub(super) fn required<T: DeserializeOwned>(&self, index: usize, name: &str) -> Result<T, Failure> {
        self.optional(index, name)?.ok_or_else(|| Failure::invalid_params(format!("{name} is missing")))
    }
}
