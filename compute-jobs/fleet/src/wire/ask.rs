//! What is asked of a model, as it travels: the bytes that a request's hash is of.
//!
//! Invariant: what is asked becomes these bytes and these bytes become what is asked, whole or not at all. The caller's
//! own name of the request is among them, so that two requests with equal words still differ where he says so.

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Classify, Generate, InferenceError, Message, Prompt, Role, Sampling};
use serde::{Deserialize, Serialize};

use super::List;
use super::list::ListTooLong;
use crate::digest::root;
use crate::frame::{FrameError, decode};
use crate::limits::{ASK_BYTES_MAX, LABELS_MAX, STOPS_MAX, TEXTS_MAX};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    Generate(Generated),
    Embed {
        texts: List<String, TEXTS_MAX>,
    },
    Classify {
        texts: List<String, TEXTS_MAX>,
        labels: List<String, LABELS_MAX>,
        instructions: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generated {
    name: ContentRoot,
    prompt: Words,
    choices: u32,
    units_max: u64,
    temperature: f32,
    top_p: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    seed: u64,
    stop: List<String, STOPS_MAX>,
    log_probabilities: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Words {
    Chat(List<(u8, String), TEXTS_MAX>),
    Text(String),
}

const ROLES: [Role; 4] = [Role::System, Role::User, Role::Assistant, Role::Tool];

fn too_many(what: &str) -> impl Fn(ListTooLong) -> InferenceError + '_ {
    move |error| InferenceError::Invalid { reason: format!("{what}: {error}") }
}

impl Ask {
    /// As it travels.
    pub(crate) fn generate(request: &Generate) -> Result<Self, InferenceError> {
        let prompt = match &request.prompt {
            Prompt::Text(text) => Words::Text(text.clone()),
            Prompt::Chat(messages) => {
                let number =
                    |role| (0u8..).zip(ROLES).find(|(_, known)| *known == role).map_or(0, |found| found.0);
                let told = messages.iter().map(|message| (number(message.role), message.text.clone()));
                Words::Chat(told.collect::<Vec<_>>().try_into().map_err(too_many("messages"))?)
            }
        };
        Ok(Self::Generate(Generated {
            name: request.request_hash,
            prompt,
            choices: request.choices,
            units_max: request.units_max,
            temperature: request.sampling.temperature,
            top_p: request.sampling.top_p,
            presence_penalty: request.sampling.presence_penalty,
            frequency_penalty: request.sampling.frequency_penalty,
            seed: request.sampling.seed,
            stop: request.stop.clone().try_into().map_err(too_many("stop sequences"))?,
            log_probabilities: request.log_probabilities,
        }))
    }

    pub(crate) fn embed(texts: Vec<String>) -> Result<Self, InferenceError> {
        Ok(Self::Embed { texts: texts.try_into().map_err(too_many("texts"))? })
    }

    pub(crate) fn classify(request: Classify) -> Result<Self, InferenceError> {
        Ok(Self::Classify {
            texts: request.texts.try_into().map_err(too_many("texts"))?,
            labels: request.labels.try_into().map_err(too_many("labels"))?,
            instructions: request.instructions,
        })
    }

    /// Its bytes, at most [`ASK_BYTES_MAX`].
    pub(crate) fn encode(&self) -> Result<Vec<u8>, InferenceError> {
        let bytes = postcard::to_stdvec(self).map_err(|error| InferenceError::Invalid {
            reason: format!("the request has no bytes: {error}"),
        })?;
        if bytes.len() > ASK_BYTES_MAX {
            let reason = format!("a request of {} bytes, and {ASK_BYTES_MAX} are the most", bytes.len());
            return Err(InferenceError::Invalid { reason });
        }
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > ASK_BYTES_MAX {
            return Err(FrameError::TooLong { found: bytes.len(), maximum: ASK_BYTES_MAX });
        }
        decode(bytes)
    }

    /// Most tokens of its answers together.
    pub(crate) fn answered_units_max(&self) -> u64 {
        match self {
            Self::Generate(asked) => asked.units_max.saturating_mul(asked.choices.into()),
            Self::Embed { .. } | Self::Classify { .. } => 0,
        }
    }

    /// Rows of its answer.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::Generate(_) => 0,
            Self::Embed { texts } | Self::Classify { texts, .. } => {
                u64::try_from(texts.len()).unwrap_or(u64::MAX)
            }
        }
    }

    /// Choices of its answer.
    pub(crate) fn choices(&self) -> u32 {
        if let Self::Generate(asked) = self { asked.choices } else { 0 }
    }

    /// All texts that a model reads for it, each with how often.
    pub(crate) fn texts(&self) -> Vec<(&str, u64)> {
        let rows = self.rows();
        match self {
            Self::Generate(Generated { prompt: Words::Text(text), .. }) => vec![(text, 1)],
            Self::Generate(Generated { prompt: Words::Chat(messages), .. }) => {
                messages.iter().map(|(_, text)| (text.as_str(), 1)).collect()
            }
            Self::Embed { texts } => texts.iter().map(|text| (text.as_str(), 1)).collect(),
            Self::Classify { texts, labels, instructions } => {
                let texts = texts.iter().map(|text| (text.as_str(), 1));
                let labels = labels.iter().map(|label| (label.as_str(), rows + 1));
                let instructions = instructions.iter().map(|text| (text.as_str(), rows + 1));
                texts.chain(labels).chain(instructions).collect()
            }
        }
    }
}

impl Generated {
    /// What a runtime is asked, under the hash of these bytes.
    pub(crate) fn request(&self, bytes: &[u8]) -> Result<Generate, FrameError> {
        Ok(Generate {
            request_hash: root(bytes),
            prompt: self.prompt()?,
            choices: self.choices,
            units_max: self.units_max,
            sampling: Sampling {
                temperature: self.temperature,
                top_p: self.top_p,
                presence_penalty: self.presence_penalty,
                frequency_penalty: self.frequency_penalty,
                seed: self.seed,
            },
            stop: self.stop.to_vec(),
            log_probabilities: self.log_probabilities,
        })
    }

    /// What its answer goes on from.
    pub(crate) fn prompt(&self) -> Result<Prompt, FrameError> {
        match &self.prompt {
            Words::Text(text) => Ok(Prompt::Text(text.clone())),
            Words::Chat(messages) => {
                let message = |(role, text): &(u8, String)| {
                    let role = ROLES.get(usize::from(*role)).ok_or(FrameError::Malformed)?;
                    Ok(Message { role: *role, text: text.clone() })
                };
                messages.iter().map(message).collect::<Result<_, _>>().map(Prompt::Chat)
            }
        }
    }
}
