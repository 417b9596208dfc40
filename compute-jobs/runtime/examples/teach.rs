//! Says what a model thinks of given tokens, for others to compare: `ops/models/language_reference check`.
//!
//!     teach MODEL.gguf quantised|full [portable]
//!
//! Takes lines: `tokens TEXT` (a JSON string) is answered by a line with a JSON list; `score N TOKENS` (a JSON list) by
//! the logits behind each of the last N tokens, 32-bit little-endian.

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
    for line in stdin().lock().lines() {
        let line = line?;
        if let Some(text) = line.strip_prefix("tokens ") {
            let text: String = serde_json::from_str(text)?;
            writeln!(out, "{}", serde_json::to_string(&teacher.tokens(&text)?)?)?;
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
