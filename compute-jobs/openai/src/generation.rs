//! What requests for chats and completions have in common: how tokens are drawn, how many, and what is written back.

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Generate, Model, Prompt, Sampling};
use ashlar_compute_api::transcript::FinishReason;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde_json::{Value, json};

use crate::audit::Usage;
use crate::gateway::Gateway;
use crate::limits::Limits;
use crate::parameters::{Parameters, is_empty};
use crate::refusal::Refusal;

/// Most stop sequences, as OpenAI has it, and most bytes of each.
const STOPS_MAX: usize = 4;
const STOP_BYTES_MAX: usize = 256;

/// What was asked beside the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) model: String,
    pub(crate) choices: u32,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) units_max: Option<u64>,
    pub(crate) is_streamed: bool,
    pub(crate) with_usage: bool,
}

impl Wanted {
    pub(crate) fn take(parameters: &mut Parameters, limits: &Limits) -> Result<Self, Refusal> {
        let model = parameters.required_text("model")?;
        let choices = parameters.integer("n", 1..=limits.choices_max.into())?.unwrap_or(1);
        let seed = match parameters.take("seed") {
            None => rand::random(),
            Some(value) => match (value.as_u64(), value.as_i64()) {
                (Some(seed), _) => seed,
                (None, Some(seed)) => seed.cast_unsigned(),
                (None, None) => {
                    return Err(Refusal::invalid("seed", "'seed' must be a whole number of 64 bits."));
                }
            },
        };
        let top_p = parameters.number("top_p", 0.0..=1.0)?.unwrap_or(1.0);
        let sampling = Sampling {
            temperature: parameters.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
            // Nothing is drawn from no share; the smallest one takes the likeliest token.
            top_p: top_p.max(f32::MIN_POSITIVE),
            presence_penalty: parameters.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            frequency_penalty: parameters.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            seed,
        };
        let stop = stops(parameters.take("stop"))?;
        let is_streamed = parameters.flag("stream")?;
        let with_usage = match parameters.take("stream_options") {
            None => false,
            Some(_) if !is_streamed => {
                return Err(Refusal::invalid(
                    "stream_options",
                    "'stream_options' is only allowed with 'stream'.",
                ));
            }
            Some(Value::Object(map)) => {
                let mut options = Parameters::of(map);
                let with_usage = options.flag("include_usage")?;
                // Asks for chunks without padding, as they are here anyway.
                options.flag("include_obfuscation")?;
                options.finish()?;
                with_usage
            }
            Some(_) => return Err(Refusal::invalid("stream_options", "'stream_options' must be an object.")),
        };
        parameters.only("logit_bias", is_empty, "runtimes take no bias.")?;
        // Says who the client's own user is; nothing is done with it.
        parameters.text("user")?;
        let choices = u32::try_from(choices).unwrap_or(u32::MAX);
        Ok(Self { model, choices, sampling, stop, units_max: None, is_streamed, with_usage })
    }

    pub(crate) fn generate(
        &self,
        request_hash: ContentRoot,
        prompt: Prompt,
        units_max: u64,
        log_probabilities: Option<u8>,
    ) -> Generate {
        Generate {
            request_hash,
            prompt,
            choices: self.choices,
            units_max,
            sampling: self.sampling,
            stop: self.stop.clone(),
            log_probabilities,
        }
    }
}

fn stops(value: Option<Value>) -> Result<Vec<String>, Refusal> {
    let wrong = || {
        let message = "'stop' must be a string or a list of up to 4 strings, each of 1 to 256 bytes.";
        Refusal::invalid("stop", message)
    };
    let stops = match value {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(items)) => {
            let texts = items.into_iter().map(|item| match item {
                Value::String(stop) => Ok(stop),
                _ => Err(wrong()),
            });
            texts.collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong()),
    };
    let fits = stops.iter().all(|stop| (1..=STOP_BYTES_MAX).contains(&stop.len()));
    if fits && stops.len() <= STOPS_MAX { Ok(stops) } else { Err(wrong()) }
}

/// What every answer of one request says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Imprint {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) root: ContentRoot,
    /// The determinism class; `None` where none is claimed.
    pub(crate) fingerprint: Option<String>,
}

impl Imprint {
    pub(crate) fn new(gateway: &Gateway, prefix: &str, name: String, model: &Model) -> Self {
        let class = model.determinism_class;
        Self {
            id: format!("{prefix}{:032x}", rand::random::<u128>()),
            created: gateway.now_seconds(),
            model: name,
            root: model.root,
            fingerprint: (!class.is_zero()).then(|| class.to_string()),
        }
    }

    /// An answer, or a piece of one, of some kind.
    pub(crate) fn object(&self, kind: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    /// Says which model it was.
    pub(crate) fn mark(&self, response: &mut Response) {
        mark(response, self.root);
    }
}

/// Says which model it was, by content root.
pub(crate) fn mark(response: &mut Response, root: ContentRoot) {
    if let Ok(value) = HeaderValue::try_from(root.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-ashlar-model-root"), value);
    }
}

/// As OpenAI names reasons to finish; the last two never come to a client as such.
pub(crate) fn finish_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Cancelled => "cancelled",
        FinishReason::Failed => "failed",
    }
}

pub(crate) fn usage_json(usage: Usage) -> Value {
    let total = usage.asked.saturating_add(usage.answered);
    json!({ "prompt_tokens": usage.asked, "completion_tokens": usage.answered, "total_tokens": total })
}

/// BLAKE3 of a request as it came.
pub(crate) fn hash(bytes: &[u8]) -> ContentRoot {
    ContentRoot(*blake3::hash(bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Result<Wanted, Refusal> {
        let mut parameters = Parameters::parse(text.as_bytes())?;
        let wanted = Wanted::take(&mut parameters, &Limits::default())?;
        parameters.finish()?;
        Ok(wanted)
    }

    #[test]
    fn what_is_not_said_is_as_openai_has_it() {
        let wanted = wanted(r#"{"model": "m"}"#).unwrap();
        assert_eq!((wanted.choices, wanted.sampling.temperature, wanted.sampling.top_p), (1, 1.0, 1.0));
        assert!(wanted.stop.is_empty() && !wanted.is_streamed && !wanted.with_usage);
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_by_name() {
        let cases = [
            (r#"{}"#, "model"),
            (r#"{"model": "m", "n": 0}"#, "n"),
            (r#"{"model": "m", "n": 17}"#, "n"),
            (r#"{"model": "m", "temperature": 2.1}"#, "temperature"),
            (r#"{"model": "m", "top_p": -0.1}"#, "top_p"),
            (r#"{"model": "m", "seed": 1.5}"#, "seed"),
            (r#"{"model": "m", "stop": [""]}"#, "stop"),
            (r#"{"model": "m", "stop": ["a","b","c","d","e"]}"#, "stop"),
            (r#"{"model": "m", "logit_bias": {"5": 1}}"#, "logit_bias"),
            (r#"{"model": "m", "stream_options": {"include_usage": true}}"#, "stream_options"),
            (r#"{"model": "m", "stream": true, "stream_options": {"x": 1}}"#, "x"),
            (r#"{"model": "m", "temprature": 1}"#, "temprature"),
        ];
        for (text, param) in cases {
            assert_eq!(wanted(text).unwrap_err().param.as_deref(), Some(param), "{text}");
        }
        let seeded = wanted(r#"{"model": "m", "seed": -1, "top_p": 0, "stop": "x"}"#).unwrap();
        assert_eq!((seeded.sampling.seed, seeded.stop), (u64::MAX, vec!["x".to_owned()]));
        assert!(seeded.sampling.top_p > 0.0);
    }
}
