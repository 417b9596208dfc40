//! Whether every line of a batch's file is a request that could be sent alone.
//!
//! Invariant: a batch with a line that is not is refused with the line's number, before anything is made. What is held of lines is a
//! digest of each id and the names of models.

use std::collections::{BTreeMap, HashSet};

use ashlar_objects::Error;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use serde_json::{Map, Value};

use super::Endpoint;
use crate::files::Lines;
use crate::limits::Limits;
use crate::refusal::{LineFault, Refusal};
use crate::{chat, completions, embeddings};

/// Longest id of a line, in bytes.
const ID_BYTES_MAX: usize = 512;

/// What is known of a file that is a batch.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) lines: u64,
    /// Names of models, each with the first line that has it.
    pub(super) models: BTreeMap<String, u64>,
}

/// A line of a batch.
pub(super) struct Line {
    pub(super) id: String,
    /// The request's body as it is asked.
    pub(super) body: Vec<u8>,
}

/// Reads a line; the reason why not is for its writer.
pub(super) fn line(mut map: Map<String, Value>, endpoint: Endpoint) -> Result<Line, String> {
    let id = match map.remove("custom_id") {
        Some(Value::String(id)) if (1..=ID_BYTES_MAX).contains(&id.len()) => id,
        _ => return Err(format!("'custom_id' must be a string of 1 to {ID_BYTES_MAX} bytes")),
    };
    if map.remove("method").as_ref().and_then(Value::as_str) != Some("POST") {
        return Err("'method' must be POST".to_owned());
    }
    if map.remove("url").as_ref().and_then(Value::as_str) != Some(endpoint.path()) {
        return Err(format!("'url' must be the batch's endpoint, {}", endpoint.path()));
    }
    let Some(body @ Value::Object(_)) = map.remove("body") else {
        return Err("'body' must be an object".to_owned());
    };
    match map.keys().next() {
        Some(name) => Err(format!("there is no '{name}' in a line")),
        None => Ok(Line { id, body: body.to_string().into_bytes() }),
    }
}

/// What lines must be beside each other.
struct Rules {
    endpoint: Endpoint,
    limits: Limits,
    ids: HashSet<[u8; 32]>,
    models: BTreeMap<String, u64>,
}

impl Rules {
    fn check(&mut self, number: u64, map: Map<String, Value>) -> Result<(), String> {
        let Line { id, body } = line(map, self.endpoint)?;
        if !self.ids.insert(*blake3::hash(id.as_bytes()).as_bytes()) {
            return Err("its 'custom_id' stands in a line before".to_owned());
        }
        let checked = match self.endpoint {
            Endpoint::Chat => chat::check_line(&body, &self.limits),
            Endpoint::Completions => completions::check_line(&body, &self.limits),
            Endpoint::Embeddings => embeddings::check_line(&body, &self.limits),
        };
        let model = checked.map_err(|refusal| refusal.message)?;
        self.models.entry(model).or_insert(number);
        if self.models.len() > self.limits.batch_models_max {
            return Err(format!("a batch has at most {} models", self.limits.batch_models_max));
        }
        Ok(())
    }
}

/// Reads a file to its end.
pub(super) async fn check(
    mut body: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    endpoint: Endpoint,
    limits: Limits,
) -> Result<Checked, Refusal> {
    let lines = Lines::new(limits.line_bytes_max, limits.batch_lines_max);
    let rules = Rules { endpoint, limits, ids: HashSet::new(), models: BTreeMap::new() };
    let mut state = (lines, rules);
    while let Some(piece) = body.next().await {
        let piece = piece?;
        // A piece of a megabyte is thousands of lines: not on a thread that others wait for.
        let work = move || {
            let (mut lines, mut rules) = state;
            lines.take(&piece, &mut |(number, map)| rules.check(number, map));
            (lines, rules)
        };
        state = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Refusal::internal("reading a batch's lines", &error))?;
        if state.0.is_given_up() {
            break;
        }
    }
    let (lines, mut rules) = state;
    let finished = lines.finish(&mut |(number, map)| rules.check(number, map));
    let lines = finished.map_err(|faults| Refusal::lines("input_file_id", faults))?;
    Ok(Checked { lines, models: rules.models })
}

/// The lines of a file that was checked, as they come.
pub(super) fn lines(
    body: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + 'static,
    endpoint: Endpoint,
    limits: &Limits,
) -> BoxStream<'static, Result<Line, String>> {
    let cutter = Lines::new(limits.line_bytes_max, limits.batch_lines_max);
    let steps = futures::stream::unfold(Some((body, cutter)), move |state| async move {
        let (mut body, mut cutter) = state?;
        let mut found = Vec::new();
        let each = &mut |(_, map): (u64, Map<String, Value>)| {
            found.push(line(map, endpoint));
            Ok(())
        };
        match body.next().await {
            Some(Ok(piece)) => {
                cutter.take(&piece, each);
                Some((found, Some((body, cutter))))
            }
            Some(Err(error)) => Some((vec![Err(error.to_string())], None)),
            None => {
                let finished = cutter.finish(each);
                found.extend(finished.err().map(|_| Err("the file is not what was checked".to_owned())));
                Some((found, None))
            }
        }
    });
    steps.flat_map(futures::stream::iter).boxed()
}

/// What is wrong with a model, said of the line that names it.
pub(super) fn in_line(number: u64, refusal: Refusal) -> Refusal {
    if !refusal.status.is_client_error() {
        return refusal;
    }
    Refusal::lines("input_file_id", vec![LineFault { line: number, reason: refusal.message }])
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(text: String) -> Result<Checked, Refusal> {
        let pieces: Vec<Result<Bytes, Error>> =
            text.as_bytes().chunks(37).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        check(futures::stream::iter(pieces), Endpoint::Chat, Limits::default()).await
    }

    fn line_of(id: &str, model: &str) -> String {
        let messages = r#"[{"role": "user", "content": "hi"}]"#;
        let body = format!(r#"{{"model": "{model}", "messages": {messages}}}"#);
        format!(r#"{{"custom_id": "{id}", "method": "POST", "url": "/v1/chat/completions", "body": {body}}}"#)
    }

    #[tokio::test]
    async fn a_file_of_requests_is_a_batch() {
        let checked = run(format!("{}\n{}\n", line_of("a", "m"), line_of("b", "n"))).await.unwrap();
        assert_eq!(checked.lines, 2);
        assert_eq!(checked.models, BTreeMap::from([("m".to_owned(), 1), ("n".to_owned(), 2)]));
    }

    #[tokio::test]
    async fn every_line_that_is_no_request_is_named() {
        let good = line_of("a", "m");
        let lines = [
            good.clone(),
            good.clone(),
            "{}".to_owned(),
            line_of("b", "m").replace("POST", "GET"),
            line_of("c", "m").replace("/v1/chat", "/v1/nothing"),
            line_of("d", "m").replace("\"user\"", "\"robot\""),
            line_of("e", "m").replace("\"model\"", "\"modell\""),
            line_of("f", "m").replace("\"method\"", "\"more\": 1, \"method\""),
        ];
        let refusal = run(lines.join("\n")).await.unwrap_err();
        let numbers: Vec<u64> = refusal.lines.iter().map(|fault| fault.line).collect();
        assert_eq!(numbers, [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((refusal.code, refusal.param.as_deref()), (Some("invalid_jsonl"), Some("input_file_id")));
    }
}
