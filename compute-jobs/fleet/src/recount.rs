//! How many units a gateway lets a provider count for what was asked.
//!
//! Units of answers a gateway counts itself, token by token. What was asked it counts where it has the model's
//! vocabulary; else a bound holds that needs none. Knows no model.

use ashlar_compute_api::ContentRoot;

/// What may be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many, and no other number.
    Exactly(u64),
    /// As the provider says, up to this.
    AtMost(u64),
}

/// Texts that a model reads for a request, each with how often it reads it.
pub type Texts<'a> = &'a [(&'a str, u64)];

/// Counts what was asked.
pub trait Recount: Send + Sync + 'static {
    /// Units of texts as the model with this root reads them. `is_rows` where each text is a row of its own.
    fn asked(&self, model: ContentRoot, texts: Texts<'_>, is_rows: bool) -> Count;
}

/// The bound that holds for every vocabulary whose tokens have at least a byte: bytes, and what stands around a text.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByBytes;

/// What a model's form of a conversation or a question adds to a text, at most.
const UNITS_AROUND_A_TEXT: u64 = 64;

impl Recount for ByBytes {
    fn asked(&self, _model: ContentRoot, texts: Texts<'_>, _is_rows: bool) -> Count {
        let units = |(text, times): &(&str, u64)| {
            let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
            bytes.saturating_add(UNITS_AROUND_A_TEXT).saturating_mul(*times)
        };
        Count::AtMost(texts.iter().map(units).fold(UNITS_AROUND_A_TEXT, u64::saturating_add))
    }
}
