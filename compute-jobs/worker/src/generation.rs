//! One row that a model goes on from.
//!
//! Invariant: the answer's texts are what the events' tokens said, and its usage that of the last event. Does not know batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{
    Generate, Inference, InferenceError, Message, Piece, Prompt, Role, Sampling,
};
use ashlar_compute_api::transcript::{Event, FinishReason};
use ashlar_compute_api::unit_data::{
    Finish, Generation, Input, MILLION, Question, QuestionsHeader, Said, Speaker, Usage, Value,
};
use futures::StreamExt;

/// What a row came to: its value, and what is told of it.
pub(crate) struct Generated {
    pub(crate) value: Value,
    pub(crate) usage: Usage,
    pub(crate) events: Vec<Event>,
}

/// BLAKE3 of lines as a transcript's request names them.
pub(crate) fn request_hash(lines: &str) -> ContentRoot {
    ContentRoot(*blake3::hash(lines.as_bytes()).as_bytes())
}

fn millionths(count: f64) -> f32 {
    // Exact in 64 bits, and then the 32-bit float that is nearest to the decimal fraction.
    #[allow(clippy::cast_possible_truncation, reason = "rounding to the nearest is what is wanted")]
    let nearest = (count / f64::from(MILLION)) as f32;
    nearest
}

fn prompt(input: &Input) -> Prompt {
    match input {
        Input::Text(text) => Prompt::Text(text.clone()),
        Input::Chat(lines) => Prompt::Chat(
            lines
                .iter()
                .map(|line| {
                    let role = match line.role {
                        Speaker::System => Role::System,
                        Speaker::User => Role::User,
                        Speaker::Assistant => Role::Assistant,
                        Speaker::Tool => Role::Tool,
                    };
                    Message { role, text: line.text.clone() }
                })
                .collect(),
        ),
    }
}

/// What a runtime is asked for a row.
pub(crate) fn request(header: &QuestionsHeader, question: &Question, of: &Generation) -> Generate {
    Generate {
        request_hash: request_hash(&format!("{}\n{}", header.text(), question.text())),
        prompt: prompt(&question.input),
        choices: of.choices,
        units_max: of.units_max,
        sampling: Sampling {
            temperature: millionths(of.temperature.into()),
            top_p: millionths(of.top_p.into()),
            presence_penalty: millionths(of.presence_penalty.into()),
            frequency_penalty: millionths(of.frequency_penalty.into()),
            seed: of.seed,
        },
        stop: of.stop.clone(),
        log_probabilities: None,
    }
}

/// Has a runtime answer, to the end.
pub(crate) async fn generate(
    inference: &Arc<dyn Inference>,
    request: Generate,
) -> Result<Generated, InferenceError> {
    let failed = |reason: &str| InferenceError::Failed { reason: reason.to_owned() };
    let choices = request.choices;
    let mut stream = inference.generate(request).await?;
    let mut said: BTreeMap<u32, (String, Option<FinishReason>)> = BTreeMap::new();
    let (mut events, mut usage) = (Vec::new(), None);
    while let Some(piece) = stream.next().await {
        let Piece { events: told, text, .. } = piece?;
        let of = told.iter().find_map(|event| match event {
            Event::Token { choice, .. } | Event::Text { choice, .. } | Event::Finish { choice, .. } => {
                Some(*choice)
            }
            _ => None,
        });
        match of {
            Some(choice) => said.entry(choice).or_default().0.push_str(&text),
            None if text.is_empty() => {}
            None => return Err(failed("text came without a choice")),
        }
        for event in &told {
            match *event {
                Event::Finish { choice, reason } => said.entry(choice).or_default().1 = Some(reason),
                Event::Usage { asked, answered } => usage = Some(Usage { asked, answered }),
                _ => {}
            }
        }
        events.extend(told);
    }
    let usage = usage.ok_or_else(|| failed("the answer ended without its usage"))?;
    let mut all = Vec::with_capacity(said.len());
    for choice in 0..choices {
        let (text, reason) = said.remove(&choice).unwrap_or_default();
        let finish = reason.and_then(Finish::of).ok_or_else(|| failed("an answer broke off"))?;
        all.push(Said { text, finish });
    }
    Ok(Generated { value: Value::Said(all), usage, events })
}
