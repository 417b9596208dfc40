//! Foreign bytes as a whole model: it is refused, or it scores tokens.
#![no_main]

use ashlar_runtime::{Precision, Teacher};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut teacher) = Teacher::load(bytes, Precision::Quantised, false) else { return };
    teacher.feed(&[0], 1, |logits| assert!(!logits.is_empty()));
    let tokens = teacher.tokens("some text 12").unwrap_or_default();
    teacher.feed(&tokens, tokens.len(), |logits| assert!(!logits.is_empty()));
});
