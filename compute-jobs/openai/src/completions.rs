//! `POST /v1/completions`: a text goes on.

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::Prompt;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::admission::{answered, read_body};
use crate::answer::{Answer, Asker, Whole, collect, room};
use crate::aside::{aside, read};
use crate::audit::{Told, Usage};
use crate::credentials::Route;
use crate::events::{self, Shape};
use crate::gateway::Gateway;
use crate::generation::{Imprint, Wanted, finish_name, hash, usage_json};
use crate::likelihoods;
use crate::limits::Limits;
use crate::models::{self, ModelKind};
use crate::parameters::{Parameters, is_empty};
use crate::refusal::Refusal;

/// Most alternatives of a token, as OpenAI has it.
const TOP_MAX: u64 = 5;
/// Units of an answer whose length was not asked for, as OpenAI has it.
const UNITS_DEFAULT: u64 = 16;

/// A request that was understood.
struct Asked {
    wanted: Wanted,
    prompt: String,
    log_probabilities: Option<u8>,
}

impl Asked {
    fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut parameters = Parameters::parse(bytes)?;
        let prompt = prompt(parameters.take("prompt"))?;
        let mut wanted = Wanted::take(&mut parameters, limits)?;
        let units_max = parameters.integer("max_tokens", 1..=limits.answer_units_max)?;
        wanted.units_max = Some(units_max.unwrap_or(UNITS_DEFAULT));
        let top = parameters.integer("logprobs", 0..=TOP_MAX)?;
        let log_probabilities = top.map(|top| u8::try_from(top).unwrap_or(0));
        parameters.only("echo", is_empty, "an answer does not repeat its prompt.")?;
        parameters.only("suffix", is_empty, "no model fills in.")?;
        let choices = wanted.choices;
        let is_same = |value: &Value| value.as_u64() == Some(choices.into());
        parameters.only("best_of", is_same, "every answer that is made is given.")?;
        parameters.finish()?;
        Ok(Self { wanted, prompt, log_probabilities })
    }
}

fn prompt(value: Option<Value>) -> Result<String, Refusal> {
    let several = "one prompt a request is; send several requests, or a batch.";
    match value {
        None => Err(Refusal::missing("prompt")),
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::Array(mut items)) => match (items.len(), items.pop()) {
            (1, Some(Value::String(text))) if !text.is_empty() => Ok(text),
            (_, Some(Value::Number(_) | Value::Array(_))) => Err(Refusal::unsupported(
                "prompt",
                "prompts are text; the ids of tokens are the model's own.",
            )),
            (_, Some(Value::String(_))) => Err(Refusal::unsupported("prompt", several)),
            _ => Err(Refusal::invalid("prompt", "'prompt' must be a string that is not empty.")),
        },
        Some(_) => Err(Refusal::invalid("prompt", "'prompt' must be a string that is not empty.")),
    }
}

/// `POST /v1/completions`
pub(crate) async fn create(State(gateway): State<Gateway>, request: Request) -> Response {
    answered(gateway, Route::Completions, request, |gateway, admitted, body| async move {
        let body = read_body(&gateway, &admitted.headers, body).await?;
        let limits = gateway.limits().clone();
        let (asked, request_hash) =
            read(body.bytes.clone(), move |bytes| Asked::parse(bytes, &limits)).await?;
        let asker = admitted.asker(&body);
        drop(body);
        let (is_streamed, keep_alive) = (asked.wanted.is_streamed, gateway.limits().keep_alive);
        let (answer, completion) = begin(&gateway, asker, asked, request_hash).await?;
        let imprint = completion.imprint.clone();
        let mut response = if is_streamed {
            events::respond(answer, completion, keep_alive)
        } else {
            Json(completion.whole(answer).await?).into_response()
        };
        imprint.mark(&mut response);
        Ok(response)
    })
    .await
}

/// The answer to a line of a batch.
pub(crate) async fn answer_line(gateway: &Gateway, asker: Asker, body: &[u8]) -> Result<Value, Refusal> {
    let asked = Asked::parse(body, gateway.limits())?;
    if asked.wanted.is_streamed {
        return Err(Refusal::unsupported("stream", "lines of a batch are answered whole."));
    }
    let (answer, completion) = begin(gateway, asker, asked, hash(body)).await?;
    completion.whole(answer).await
}

/// Whether a line of a batch reads; the model that it names.
pub(crate) fn check_line(body: &[u8], limits: &Limits) -> Result<String, Refusal> {
    Asked::parse(body, limits).map(|asked| asked.wanted.model)
}

async fn begin(
    gateway: &Gateway,
    asker: Asker,
    asked: Asked,
    request_hash: ContentRoot,
) -> Result<(Answer, Completion), Refusal> {
    let Asked { wanted, prompt, log_probabilities } = asked;
    let served = models::resolve(gateway, &asker.caller, &wanted.model, ModelKind::Language).await?;
    let prompt = Prompt::Text(prompt);
    let room = room(gateway, &asker, &served, &prompt, wanted.units_max, "prompt").await?;
    let request = wanted.generate(request_hash, prompt, room.units_max, log_probabilities);
    let name = served.facts.name.clone();
    let answer = Answer::begin(gateway, asker, served, request, room.asked, "prompt").await?;
    let completion = Completion {
        imprint: Imprint::new(gateway, "cmpl-", name, &answer.model),
        with_usage: wanted.with_usage,
        with_likelihoods: log_probabilities.is_some(),
        offsets: (0..wanted.choices).map(|_| 0).collect(),
    };
    Ok((answer, completion))
}

/// How the answer is written.
struct Completion {
    imprint: Imprint,
    with_usage: bool,
    with_likelihoods: bool,
    /// Characters of each choice until now, as its tokens have them.
    offsets: Vec<usize>,
}

impl Completion {
    async fn whole(self, answer: Answer) -> Result<Value, Refusal> {
        let count = u32::try_from(self.offsets.len()).unwrap_or(u32::MAX);
        let (wholes, usage) = collect(answer, count).await?;
        aside(self.with_likelihoods, move || self.object(wholes, usage)).await
    }

    fn object(&self, wholes: Vec<Whole>, usage: Usage) -> Value {
        let choices = wholes.into_iter().enumerate().map(|(index, whole)| {
            let likelihoods =
                self.with_likelihoods.then(|| likelihoods::of_completion(&whole.likelihoods, &mut 0));
            json!({
                "index": index,
                "text": whole.text,
                "logprobs": likelihoods,
                "finish_reason": whole.finish.map(finish_name),
            })
        });
        let mut object = self.imprint.object("text_completion", choices.collect());
        object["usage"] = usage_json(usage);
        object
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = self.imprint.object("text_completion", choices);
        if self.with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

impl Shape for Completion {
    fn first(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn told(&mut self, told: Told) -> Vec<Value> {
        if told.text.is_empty() && told.likelihoods.is_empty() && told.finish.is_none() {
            return Vec::new();
        }
        let index = usize::try_from(told.choice).unwrap_or(usize::MAX);
        let offset =
            self.offsets.get_mut(index).filter(|_| self.with_likelihoods && !told.likelihoods.is_empty());
        let likelihoods = offset.map(|offset| likelihoods::of_completion(&told.likelihoods, offset));
        let finish = told.finish.map(finish_name);
        let choice = json!({ "index": told.choice, "text": told.text, "logprobs": likelihoods, "finish_reason": finish });
        vec![self.chunk(vec![choice])]
    }

    fn last(&mut self, usage: Usage) -> Vec<Value> {
        if !self.with_usage {
            return Vec::new();
        }
        let mut chunk = self.chunk(Vec::new());
        chunk["usage"] = usage_json(usage);
        vec![chunk]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_obeyed_is_refused_by_name() {
        let cases = [
            (r#"{"model": "m"}"#, "prompt"),
            (r#"{"model": "m", "prompt": ""}"#, "prompt"),
            (r#"{"model": "m", "prompt": [1, 2]}"#, "prompt"),
            (r#"{"model": "m", "prompt": ["a", "b"]}"#, "prompt"),
            (r#"{"model": "m", "prompt": "a", "echo": true}"#, "echo"),
            (r#"{"model": "m", "prompt": "a", "suffix": "b"}"#, "suffix"),
            (r#"{"model": "m", "prompt": "a", "best_of": 3}"#, "best_of"),
            (r#"{"model": "m", "prompt": "a", "logprobs": 6}"#, "logprobs"),
            (r#"{"model": "m", "prompt": "a", "max_tokens": 0}"#, "max_tokens"),
        ];
        for (text, param) in cases {
            let refusal = Asked::parse(text.as_bytes(), &Limits::default()).map(drop).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param), "{text}");
        }
        let asked =
            Asked::parse(br#"{"model": "m", "prompt": ["a"], "n": 2, "best_of": 2}"#, &Limits::default());
        assert_eq!(asked.unwrap().wanted.units_max, Some(UNITS_DEFAULT));
    }
}
