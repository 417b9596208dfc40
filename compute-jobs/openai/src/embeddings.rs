//! `POST /v1/embeddings`: texts as vectors.
//!
//! Invariant: vectors are as many as texts, of one length, and finite; the provider's count of units is the gateway's, or
//! there is no answer. Their transcript is the request, the BLAKE3 of each vector's bytes (32-bit floats, little-endian), and the usage.

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Embeddings, Prompt};
use ashlar_compute_api::transcript::{Event, Transcript};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::admission::{answered, read_body};
use crate::answer::{Asker, Charge};
use crate::aside::{LARGE, aside, read};
use crate::audit::{Misdeed, Usage};
use crate::credentials::Route;
use crate::gateway::Gateway;
use crate::generation::{hash, mark};
use crate::limits::Limits;
use crate::models::{self, ModelKind, Served};
use crate::parameters::Parameters;
use crate::refusal::Refusal;
use crate::watch::{Delivered, Misconduct};

/// A request that was understood.
struct Asked {
    model: String,
    texts: Vec<String>,
    is_base64: bool,
}

impl Asked {
    fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut parameters = Parameters::parse(bytes)?;
        let model = parameters.required_text("model")?;
        let texts = texts(parameters.take("input"), limits.texts_max)?;
        let is_base64 = match parameters.text("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                return Err(Refusal::invalid(
                    "encoding_format",
                    "'encoding_format' must be float or base64.",
                ));
            }
        };
        parameters.only("dimensions", |_| false, "vectors have the length that the model gives them.")?;
        parameters.text("user")?;
        parameters.finish()?;
        Ok(Self { model, texts, is_base64 })
    }
}

fn texts(value: Option<Value>, texts_max: usize) -> Result<Vec<String>, Refusal> {
    let wrong = || {
        let message =
            format!("'input' must be a string or a list of 1 to {texts_max} strings, none of them empty.");
        Refusal::invalid("input", message)
    };
    let texts = match value {
        None => return Err(Refusal::missing("input")),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) if (1..=texts_max).contains(&items.len()) => {
            let text = |item| match item {
                Value::String(text) => Ok(text),
                Value::Number(_) | Value::Array(_) => Err(Refusal::unsupported(
                    "input",
                    "inputs are text; the ids of tokens are the model's own.",
                )),
                _ => Err(wrong()),
            };
            items.into_iter().map(text).collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => return Err(wrong()),
    };
    if texts.iter().any(String::is_empty) { Err(wrong()) } else { Ok(texts) }
}

/// `POST /v1/embeddings`
pub(crate) async fn create(State(gateway): State<Gateway>, request: Request) -> Response {
    answered(gateway, Route::Embeddings, request, |gateway, admitted, body| async move {
        let body = read_body(&gateway, &admitted.headers, body).await?;
        let asker = admitted.asker(&body);
        let (value, root) = answer(&gateway, asker, body.bytes).await?;
        let is_much = value["data"].as_array().is_some_and(|data| data.len() > 1);
        // Numbers are written one by one: a megabyte of them takes tens of milliseconds.
        let text = aside(is_much, move || value.to_string()).await?;
        let mut response = ([(CONTENT_TYPE, "application/json")], text).into_response();
        mark(&mut response, root);
        Ok(response)
    })
    .await
}

/// The answer to a line of a batch.
pub(crate) async fn answer_line(gateway: &Gateway, asker: Asker, body: &[u8]) -> Result<Value, Refusal> {
    answer(gateway, asker, Bytes::copy_from_slice(body)).await.map(|(value, _)| value)
}

/// Whether a line of a batch reads; the model that it names.
pub(crate) fn check_line(body: &[u8], limits: &Limits) -> Result<String, Refusal> {
    Asked::parse(body, limits).map(|asked| asked.model)
}

async fn answer(gateway: &Gateway, asker: Asker, body: Bytes) -> Result<(Value, ContentRoot), Refusal> {
    let limits = gateway.limits().clone();
    let (asked, request_hash) = read(body, move |bytes| Asked::parse(bytes, &limits)).await?;
    let Asked { model, texts, is_base64 } = asked;
    let served = models::resolve(gateway, &asker.caller, &model, ModelKind::Embedding).await?;
    let asked = count(&served, &asker, &texts).await?;
    let (root, count) = (served.inference.model().root, texts.len());
    let usage = Usage { asked, answered: 0 };
    let mut charge = Charge::reserve(gateway, &asker, served.facts.price, usage).await?;
    let given = tokio::time::timeout(gateway.limits().piece_wait, served.inference.embed(texts)).await;
    let given =
        given.map_err(|_| Refusal::provider_failed(&asker.request_id, "it was silent for too long"))?;
    let given = given.map_err(|error| Refusal::of_inference(error, "input", &asker.request_id))?;
    let numbers: usize = given.vectors.iter().map(Vec::len).sum();
    let work = move || {
        let mut transcript = served.transcript.clone();
        let checked = check(&served, &given, count, asked);
        let checked = checked.and_then(|()| tell(&mut transcript, request_hash, &given.vectors, usage));
        let value = checked.map(|()| describe(&served.facts.name, given.vectors, is_base64, asked));
        (value, transcript.head())
    };
    let (value, head) = aside(numbers > LARGE / 8, work).await?;
    let (request_id, model_root) = (asker.request_id, root);
    match value {
        Ok(value) => {
            charge.owe(usage);
            gateway.watch().delivered(&Delivered { request_id, model_root, head, usage });
            Ok((value, root))
        }
        Err(misdeed) => {
            gateway.watch().misconduct(&Misconduct { request_id, model_root, request_hash, head, misdeed });
            Err(Refusal::misconduct())
        }
    }
}

/// As OpenAI's.
fn describe(model: &str, vectors: Vec<Vec<f32>>, is_base64: bool, asked: u64) -> Value {
    let datum = |(index, vector): (usize, Vec<f32>)| {
        let embedding = if is_base64 { json!(STANDARD.encode(bytes(&vector))) } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<Value> = vectors.into_iter().enumerate().map(datum).collect();
    let usage = json!({ "prompt_tokens": asked, "total_tokens": asked });
    json!({ "object": "list", "data": data, "model": model, "usage": usage })
}

/// Units of all texts, each of which must fit into the model.
async fn count(served: &Served, asker: &Asker, texts: &[String]) -> Result<u64, Refusal> {
    let maximum = served.inference.model().context_units_max;
    let mut asked = 0_u64;
    for (at, text) in texts.iter().enumerate() {
        let units = served.inference.units(&Prompt::Text(text.clone())).await;
        let units = units.map_err(|error| Refusal::of_inference(error, "input", &asker.request_id))?;
        if units > maximum {
            return Err(Refusal::too_long(units, maximum, &format!("input[{at}]")));
        }
        asked = asked.saturating_add(units);
    }
    Ok(asked)
}

fn check(served: &Served, given: &Embeddings, texts: usize, asked: u64) -> Result<(), Misdeed> {
    let length = given.vectors.first().map_or(0, Vec::len);
    if given.vectors.len() != texts {
        return Err(Misdeed::Vectors("there are not as many vectors as texts"));
    }
    if length == 0 || given.vectors.iter().any(|vector| vector.len() != length) {
        return Err(Misdeed::Vectors("vectors are empty or of several lengths"));
    }
    if given.vectors.iter().flatten().any(|number| !number.is_finite()) {
        return Err(Misdeed::Vectors("a vector has something that is no number"));
    }
    // Nobody can count for an upstream whose model was not checked; it is paid by our count.
    if given.units != asked && !served.inference.model().is_claimed {
        let of = |asked| Usage { asked, answered: 0 };
        return Err(Misdeed::OtherUsage { claimed: of(given.units), counted: of(asked) });
    }
    Ok(())
}

fn tell(
    transcript: &mut Transcript,
    request_hash: ContentRoot,
    vectors: &[Vec<f32>],
    usage: Usage,
) -> Result<(), Misdeed> {
    transcript.push(&Event::Request { request_hash })?;
    for (row, vector) in (0..).zip(vectors) {
        transcript.push(&Event::Output { row, output_hash: hash(&bytes(vector)) })?;
    }
    transcript.push(&Event::Usage { asked: usage.asked, answered: usage.answered })?;
    Ok(())
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}
