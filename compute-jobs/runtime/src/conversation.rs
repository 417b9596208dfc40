//! Conversations in the form that a model was taught, as its template says it.
//!
//! Invariant: what people say stays text: a message that spells a control token does not become one. The template is
//! foreign: its steps and its output are bounded.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ashlar_compute_api::inference::{Message, Role};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value};

use crate::gguf::Gguf;
use crate::vocabulary::Vocabulary;

/// Steps of a template's instructions, for each message and once more.
const FUEL_PER_MESSAGE: u64 = 10_000;
/// Messages of a conversation at most.
pub(crate) const MESSAGES_MAX: usize = 4096;
/// Bytes of a template at most.
const TEMPLATE_BYTES_MAX: usize = 1 << 16;
/// Times that a template may say a message.
const REPEATS_MAX: usize = 4;
/// Bytes that a template may say of itself, for each message and once more.
const OWN_BYTES_MAX: usize = 4096;

/// Stand around what people say while the template is filled in; no text has them, because they are no characters.
const BEGIN: char = '\u{fdd0}';
const END: char = '\u{fdd1}';

const NAME: &str = "chat";

/// Form of conversations.
pub(crate) struct Template {
    environment: Environment<'static>,
}

/// Why a conversation has no form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The model was taught none.
    #[error("the model has no form for conversations")]
    Missing,
    /// The template is none.
    #[error("the model's form for conversations: {reason}")]
    Template {
        /// What is wrong.
        reason: String,
    },
    /// Not what the template is for.
    #[error("{reason}")]
    Messages {
        /// What is wrong.
        reason: String,
    },
}

impl Template {
    /// Of a model that has one.
    pub(crate) fn read(file: &Gguf<'_>) -> Result<Self, TemplateError> {
        let text = file.text("tokenizer.chat_template").map_err(|_| TemplateError::Missing)?;
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::Template { reason: "it is too long".into() });
        }
        let mut environment = Environment::new();
        // As those who write templates for models have it.
        let wrong = |error: minijinja::Error| TemplateError::Template { reason: error.to_string() };
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(wrong)?;
        environment.set_syntax(syntax);
        environment.add_template_owned(NAME, text.to_owned()).map_err(wrong)?;
        Ok(Self { environment })
    }

    /// Tokens of a conversation up to where the model answers.
    pub(crate) fn tokens(
        &self,
        messages: &[Message],
        vocabulary: &Vocabulary,
    ) -> Result<Vec<u32>, TemplateError> {
        let filled = self.fill(messages)?;
        let refused = |reason| TemplateError::Messages { reason };
        let mut tokens = Vec::new();
        // Text that belongs together is cut together, so that no seam shows where a message begins.
        let mut text = String::new();
        let mut rest = filled.as_str();
        let mut is_said = false;
        while let Some(letter) = rest.chars().next() {
            if letter == BEGIN || letter == END {
                is_said = letter == BEGIN;
            } else if !is_said && let Some((control, id)) = vocabulary.control_at(rest) {
                vocabulary.cut(&text, &mut tokens).map_err(refused)?;
                text.clear();
                tokens.push(id);
                rest = &rest[control.len()..];
                continue;
            } else {
                text.push(letter);
            }
            rest = &rest[letter.len_utf8()..];
        }
        vocabulary.cut(&text, &mut tokens).map_err(refused)?;
        Ok(tokens)
    }

    fn fill(&self, messages: &[Message]) -> Result<String, TemplateError> {
        let refused = |reason: &str| TemplateError::Messages { reason: reason.to_owned() };
        if messages.is_empty() || messages.len() > MESSAGES_MAX {
            return Err(refused("a conversation has a message, and 4096 at most"));
        }
        if messages.iter().any(|message| message.text.contains([BEGIN, END])) {
            return Err(refused("U+FDD0 and U+FDD1 are no characters"));
        }
        let of = |message: &Message| {
            let said = format!("{BEGIN}{}{END}", message.text);
            Value::from_pairs([("role", Value::from(role(message.role))), ("content", Value::from(said))])
        };
        let values: Vec<Value> = messages.iter().map(of).collect();
        let context = BTreeMap::from([
            ("messages", Value::from(values)),
            ("add_generation_prompt", Value::from(true)),
            ("bos_token", Value::from("")),
            ("eos_token", Value::from("")),
        ]);
        let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL_PER_MESSAGE * (count + 1)));
        let said: usize = messages.iter().map(|message| message.text.len()).sum();
        let bytes_max = said * REPEATS_MAX + OWN_BYTES_MAX * (messages.len() + 1);
        let mut filled = Bounded { bytes: Vec::new(), bytes_max };
        let failed = |error: minijinja::Error| TemplateError::Messages { reason: error.to_string() };
        let template = environment.get_template(NAME).map_err(failed)?;
        template.render_captured_to(Value::from_pairs(context), &mut filled).map_err(failed)?;
        String::from_utf8(filled.bytes).map_err(|_| refused("the form is not text"))
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::Error::other("the form says more than it may"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ashlar_compute_api::inference::{Message, Role};

    use super::{BEGIN, END, Template};
    use crate::gguf::Gguf;
    use crate::synthetic::{self, Written};

    /// As SmolLM2 has it.
    const SMOLLM: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ \
                          '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + \
                          message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if \
                          add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn a_conversation_is_filled_in_as_it_was_taught() {
        let bytes = synthetic::model(1).with("tokenizer.chat_template", Written::Text(SMOLLM.into())).bytes();
        let template = Template::read(&Gguf::read(&bytes).expect("a file")).expect("a template");
        let say = |role, text: &str| Message { role, text: text.into() };
        let filled = template.fill(&[say(Role::User, "Hi <b>")]).expect("filled");
        let expected = format!(
            "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\n{BEGIN}Hi <b>{END}<|im_end|>\n\
             <|im_start|>assistant\n"
        );
        assert_eq!(filled, expected);
        let filled = template.fill(&[say(Role::System, "Short."), say(Role::User, "Hi")]).expect("filled");
        assert!(
            filled
                .starts_with(&format!("<|im_start|>system\n{BEGIN}Short.{END}<|im_end|>\n<|im_start|>user"))
        );
    }
}
