//! `POST /v1/chat/completions`: a conversation goes on.

mod messages;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Message, Prompt};
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
const TOP_MAX: u64 = 20;

/// A request that was understood.
struct Asked {
    wanted: Wanted,
    messages: Vec<Message>,
    log_probabilities: Option<u8>,
}

impl Asked {
    fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut parameters = Parameters::parse(bytes)?;
        let messages = messages::parse(parameters.take("messages"), limits.messages_max)?;
        let mut wanted = Wanted::take(&mut parameters, limits)?;
        wanted.units_max = units_max(&mut parameters, limits)?;
        let log_probabilities = likeliest(&mut parameters)?;
        let is_text = |format: &Value| format.get("type").is_some_and(|kind| kind == "text");
        parameters.only("response_format", is_text, "answers are text; only {\"type\": \"text\"} is.")?;
        let no_tools = "none of the models calls tools.";
        for name in ["tools", "functions"] {
            parameters.only(name, is_empty, no_tools)?;
        }
        for name in ["tool_choice", "function_call"] {
            parameters.only(name, |value| value == "none" || value == "auto", no_tools)?;
        }
        parameters.only("parallel_tool_calls", Value::is_boolean, no_tools)?;
        parameters.only("store", is_empty, "no answer is kept.")?;
        parameters.only("metadata", is_empty, "no answer is kept.")?;
        parameters.only("modalities", |value| *value == json!(["text"]), "answers are text.")?;
        parameters.only(
            "service_tier",
            |value| value == "auto" || value == "default",
            "there is one tier.",
        )?;
        for name in ["audio", "prediction", "reasoning_effort", "verbosity", "web_search_options"] {
            parameters.only(name, is_empty, "no model takes it.")?;
        }
        parameters.finish()?;
        Ok(Self { wanted, messages, log_probabilities })
    }
}

fn units_max(parameters: &mut Parameters, limits: &Limits) -> Result<Option<u64>, Refusal> {
    let old = parameters.integer("max_tokens", 1..=limits.answer_units_max)?;
    let new = parameters.integer("max_completion_tokens", 1..=limits.answer_units_max)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            Err(Refusal::invalid("max_tokens", "'max_tokens' and 'max_completion_tokens' differ."))
        }
        (old, new) => Ok(new.or(old)),
    }
}

fn likeliest(parameters: &mut Parameters) -> Result<Option<u8>, Refusal> {
    let is_wanted = parameters.flag("logprobs")?;
    let top = parameters.integer("top_logprobs", 0..=TOP_MAX)?;
    if top.is_some_and(|top| top > 0) && !is_wanted {
        return Err(Refusal::invalid("top_logprobs", "'top_logprobs' is only allowed with 'logprobs'."));
    }
    let top = top.map_or(0, |top| u8::try_from(top).unwrap_or(0));
    Ok(is_wanted.then_some(top))
}

/// `POST /v1/chat/completions`
pub(crate) async fn create(State(gateway): State<Gateway>, request: Request) -> Response {
    answered(gateway, Route::Chat, request, |gateway, admitted, body| async move {
        let body = read_body(&gateway, &admitted.headers, body).await?;
        let limits = gateway.limits().clone();
        let (asked, request_hash) =
            read(body.bytes.clone(), move |bytes| Asked::parse(bytes, &limits)).await?;
        let asker = admitted.asker(&body);
        drop(body);
        let (is_streamed, keep_alive) = (asked.wanted.is_streamed, gateway.limits().keep_alive);
        let (answer, chat) = begin(&gateway, asker, asked, request_hash).await?;
        let imprint = chat.imprint.clone();
        let mut response = if is_streamed {
            events::respond(answer, chat, keep_alive)
        } else {
            Json(chat.whole(answer).await?).into_response()
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
    let (answer, chat) = begin(gateway, asker, asked, hash(body)).await?;
    chat.whole(answer).await
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
) -> Result<(Answer, Chat), Refusal> {
    let Asked { wanted, messages, log_probabilities } = asked;
    let served = models::resolve(gateway, &asker.caller, &wanted.model, ModelKind::Language).await?;
    let prompt = Prompt::Chat(messages);
    let room = room(gateway, &asker, &served, &prompt, wanted.units_max, "messages").await?;
    let request = wanted.generate(request_hash, prompt, room.units_max, log_probabilities);
    let name = served.facts.name.clone();
    let answer = Answer::begin(gateway, asker, served, request, room.asked, "messages").await?;
    let imprint = Imprint::new(gateway, "chatcmpl-", name, &answer.model);
    let with_likelihoods = log_probabilities.is_some();
    let chat = Chat { imprint, choices: wanted.choices, with_usage: wanted.with_usage, with_likelihoods };
    Ok((answer, chat))
}

/// How the answer is written.
struct Chat {
    imprint: Imprint,
    choices: u32,
    with_usage: bool,
    with_likelihoods: bool,
}

impl Chat {
    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = self.imprint.object("chat.completion.chunk", choices);
        if self.with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn likelihoods(&self, of: &[ashlar_compute_api::inference::TokenLikelihood]) -> Value {
        if self.with_likelihoods { likelihoods::of_chat(of) } else { Value::Null }
    }

    async fn whole(self, answer: Answer) -> Result<Value, Refusal> {
        let (wholes, usage) = collect(answer, self.choices).await?;
        aside(self.with_likelihoods, move || self.object(wholes, usage)).await
    }

    fn object(&self, wholes: Vec<Whole>, usage: Usage) -> Value {
        let choice = |(index, whole): (usize, Whole)| {
            json!({
                "index": index,
                "message": { "role": "assistant", "content": whole.text, "refusal": null },
                "logprobs": self.likelihoods(&whole.likelihoods),
                "finish_reason": whole.finish.map(finish_name),
            })
        };
        let choices = wholes.into_iter().enumerate().map(choice).collect();
        let mut object = self.imprint.object("chat.completion", choices);
        object["usage"] = usage_json(usage);
        object
    }
}

impl Shape for Chat {
    fn first(&mut self) -> Vec<Value> {
        let chunk = |index| {
            let delta = json!({ "role": "assistant", "content": "" });
            self.chunk(vec![
                json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }),
            ])
        };
        (0..self.choices).map(chunk).collect()
    }

    fn told(&mut self, told: Told) -> Vec<Value> {
        let mut chunks = Vec::new();
        let mut chunk = |delta, likelihoods, finish: Option<&str>| {
            let choice = json!({ "index": told.choice, "delta": delta, "logprobs": likelihoods, "finish_reason": finish });
            chunks.push(self.chunk(vec![choice]));
        };
        if !told.text.is_empty() || !told.likelihoods.is_empty() {
            chunk(json!({ "content": told.text }), self.likelihoods(&told.likelihoods), None);
        }
        if let Some(finish) = told.finish {
            chunk(json!({}), Value::Null, Some(finish_name(finish)));
        }
        chunks
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
