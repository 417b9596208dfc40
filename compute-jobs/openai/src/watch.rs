//! What the gateway tells whoever pays providers and judges them.
//!
//! Deliberately decides nothing: vouchers, suspension and reputation are the listener's.

use std::sync::Arc;

use ashlar_compute_api::{ContentRoot, TranscriptHead};

use crate::audit::{Misdeed, Usage};

/// An answer that reached its end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The id that the client was shown.
    pub request_id: Arc<str>,
    /// Content root of the model.
    pub model_root: ContentRoot,
    /// Head of the transcript that was computed from what was passed on.
    pub head: TranscriptHead,
    /// As the gateway counted it.
    pub usage: Usage,
}

/// An answer that was ended because of its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misconduct {
    /// The id that the client was shown.
    pub request_id: Arc<str>,
    /// Content root of the model.
    pub model_root: ContentRoot,
    /// BLAKE3 of the request.
    pub request_hash: ContentRoot,
    /// Head of the transcript of what was passed on.
    pub head: TranscriptHead,
    /// What was wrong.
    pub misdeed: Misdeed,
}

/// Hears of answers. Called from requests under way, so it must not block.
pub trait Watch: Send + Sync {
    /// An answer reached its end.
    fn delivered(&self, answer: &Delivered);

    /// A provider's answer was not what it must be.
    fn misconduct(&self, misconduct: &Misconduct);
}

/// Hears nothing but what the log is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignored;

impl Watch for Ignored {
    fn delivered(&self, _: &Delivered) {}

    fn misconduct(&self, misconduct: &Misconduct) {
        let Misconduct { request_id, model_root, misdeed, .. } = misconduct;
        tracing::error!(%request_id, %model_root, %misdeed, "a provider's answer was ended");
    }
}
