//! Says what a model thinks of given tokens, for others to compare: `ops/models/language_reference check`.
//!
//!     teach MODEL.gguf quantised|full [portable]
//!
//! Takes lines: `tokens TEXT` (a JSON string) is answered by a line with a JSON list; `draw N TOKENS` (a JSON list) by a
//! list of so many tokens drawn behind them; `score N TOKENS` by the logits behind each of the last N tokens, 32-bit
//! little-endian.

use std::io::{BufRead, Write, stdin, stdout};

use ashlar_runtime::{Precision, Teacher};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let precision = match arguments.get(1).map(String::as_str) {
        Some("quantised") => Precision::Quantised,
        Some("full") => Precision::Full,
        _ => return Err("teach MODEL.gguf quantised|full [portable]".into()),
    };
    let is_portable = arguments.get(2).is_some_and(|word| word == "portable");
    let mut teacher = Teacher::load(&std::fs::read(&arguments[0])?, precision, is_portable)?;
    let mut out = stdout().lock();
    let mut state = 1u64;
    for line in stdin().lock().lines() {
        let line = line?;
        if let Some(text) = line.strip_prefix("tokens ") {
            let text: String = serde_json::from_str(text)?;
            writeln!(out, "{}", serde_json::to_string(&teacher.tokens(&text)?)?)?;
        } else if let Some((count, tokens)) = line.strip_prefix("draw ").and_then(|rest| rest.split_once(' '))
        {
            let mut next: Vec<u32> = serde_json::from_str(tokens)?;
            let mut drawn = Vec::new();
            teacher.restart();
            for _ in 0..count.parse()? {
                let mut token = 0;
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                teacher.feed(&next, 1, |logits| {
                    token = draw(logits, (state >> 11) as f64 / (1u64 << 53) as f64)
                });
                drawn.push(token);
                next = vec![token];
            }
            writeln!(out, "{}", serde_json::to_string(&drawn)?)?;
        } else if let Some((count, tokens)) =
            line.strip_prefix("score ").and_then(|rest| rest.split_once(' '))
        {
            let tokens: Vec<u32> = serde_json::from_str(tokens)?;
            teacher.restart();
            let mut written = Ok(());
            teacher.feed(&tokens, count.parse()?, |logits| {
                let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
                if written.is_ok() {
                    written = out.write_all(&bytes);
                }
            });
            written?;
        } else {
            return Err(format!("not a request: {line}").into());
        }
        out.flush()?;
    }
    Ok(())
}

/// The token within whose share of all `share` lies, at temperature 1.
fn draw(logits: &[f32], share: f64) -> u32 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = || logits.iter().map(|logit| f64::from(logit - greatest).exp());
    let target = powers().sum::<f64>() * share;
    let mut sum = 0.0;
    let within = powers().position(|power| {
        sum += power;
        sum > target
    });
    u32::try_from(within.unwrap_or(0)).unwrap_or(0)
}
