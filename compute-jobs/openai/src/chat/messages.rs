//! The messages of a conversation, as far as they are text.
//!
//! Invariant: what a model would not be shown is refused, with the place where it stands.

use ashlar_compute_api::inference::{Message, Role};
use serde_json::{Map, Value};

use crate::parameters::is_empty;
use crate::refusal::Refusal;

/// Reads them, at least one and at most `messages_max`.
pub(super) fn parse(value: Option<Value>, messages_max: usize) -> Result<Vec<Message>, Refusal> {
    let items = match value {
        None => return Err(Refusal::missing("messages")),
        Some(Value::Array(items)) if (1..=messages_max).contains(&items.len()) => items,
        Some(_) => {
            let message = format!("'messages' must be a list of 1 to {messages_max} messages.");
            return Err(Refusal::invalid("messages", message));
        }
    };
    items.into_iter().enumerate().map(|(at, item)| message(at, item)).collect()
}

fn message(at: usize, item: Value) -> Result<Message, Refusal> {
    let place = |field: &str| format!("messages[{at}].{field}");
    let Value::Object(mut map) = item else {
        return Err(Refusal::invalid(format!("messages[{at}]"), "A message must be an object."));
    };
    let role = match map.remove("role").as_ref().and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => {
            return Err(Refusal::unsupported(place("role"), "none of the models calls tools."));
        }
        _ => return Err(Refusal::invalid(place("role"), "A role is system, developer, user or assistant.")),
    };
    let text = content(&place("content"), map.remove("content"))?;
    leftover(map, place)?;
    Ok(Message { role, text })
}

fn content(place: &str, value: Option<Value>) -> Result<String, Refusal> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) if !parts.is_empty() => parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| part_text(&format!("{place}[{at}]"), part))
            .collect(),
        _ => Err(Refusal::invalid(place, "A content must be a string or a list of text parts.")),
    }
}

fn part_text(place: &str, part: Value) -> Result<String, Refusal> {
    let Value::Object(mut map) = part else {
        return Err(Refusal::invalid(place, "A part must be an object."));
    };
    match map.remove("type").as_ref().and_then(Value::as_str) {
        Some("text") => {}
        Some(_) => return Err(Refusal::unsupported(place, "messages are text.")),
        None => return Err(Refusal::invalid(place, "A part must have a type.")),
    }
    let Some(Value::String(text)) = map.remove("text") else {
        return Err(Refusal::invalid(format!("{place}.text"), "A text part must have a text."));
    };
    leftover(map, |field| format!("{place}.{field}"))?;
    Ok(text)
}

/// Fields that hold nothing come from answers that were sent back whole.
fn leftover(map: Map<String, Value>, place: impl Fn(&str) -> String) -> Result<(), Refusal> {
    match map.into_iter().find(|(_, value)| !is_empty(value)) {
        Some((field, _)) => {
            Err(Refusal::unsupported(place(&field), "messages have a role and text, and no more."))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_and_parts_are_messages() {
        let messages = parse(
            Some(json!([
                { "role": "developer", "content": "be brief" },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
                { "role": "assistant", "content": "c", "refusal": null, "tool_calls": null, "annotations": [] },
            ])),
            3,
        );
        let of = |role, text: &str| Message { role, text: text.into() };
        let expected = vec![of(Role::System, "be brief"), of(Role::User, "ab"), of(Role::Assistant, "c")];
        assert_eq!(messages.unwrap(), expected);
    }

    #[test]
    fn what_a_model_would_not_be_shown_is_refused_with_its_place() {
        let image = json!({ "type": "image_url", "image_url": { "url": "x" } });
        let cases = [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!([1, 2, 3, 4]), "messages"),
            (json!(["hi"]), "messages[0]"),
            (json!([{ "role": "user" }]), "messages[0].content"),
            (json!([{ "role": "user", "content": [] }]), "messages[0].content"),
            (json!([{ "role": "robot", "content": "x" }]), "messages[0].role"),
            (json!([{ "role": "tool", "content": "x", "tool_call_id": "1" }]), "messages[0].role"),
            (json!([{ "role": "user", "content": "x", "name": "ann" }]), "messages[0].name"),
            (json!([{ "role": "user", "content": [{ "type": "text" }] }]), "messages[0].content[0].text"),
            (json!([{ "role": "user", "content": [image] }]), "messages[0].content[0]"),
        ];
        for (value, param) in cases {
            let refusal = parse(Some(value.clone()), 3).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param), "{value}");
        }
    }
}
