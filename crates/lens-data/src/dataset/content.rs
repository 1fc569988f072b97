//! From JSON values to text, messages and numbers, with errors that name the place.

use super::records::Fields;
use crate::error::Problem;
use lens_core::{Content, Message};
use serde_json::Value;

/// The forms that a prompt or a response may have, for error messages.
pub(crate) const CONTENT: &str = "text or a list of messages";

/// A value in the words of an error message: its type, or its text.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(items) => {
            format!("a list of {}, the first {}", items.len(), describe(&items[0]))
        }
        Value::Object(fields) => format!("an object with {}", names(fields)),
    }
}

/// The column names, for an error that misses one.
pub(crate) fn names(fields: &Fields) -> String {
    if fields.is_empty() {
        return "nothing".to_owned();
    }
    fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The problem of a column that is not there.
pub(crate) fn missing(field: &str, expected: &str, fields: &Fields) -> Problem {
    Problem::new(field, expected, format!("none among: {}", names(fields)))
}

/// Takes a column that must be there.
pub(crate) fn take_content(fields: &mut Fields, name: &str) -> Result<Content, Problem> {
    match fields.get(name) {
        None => Err(missing(name, CONTENT, fields)),
        Some(_) => content(fields.shift_remove(name).unwrap_or_default(), name),
    }
}

/// Text or messages; text is kept as it stands, unless it is a list of messages written as JSON, as
/// tables have it that know no lists. A single message is a list of one.
pub(crate) fn content(value: Value, field: &str) -> Result<Content, Problem> {
    match value {
        Value::String(text) => match as_json(&text, is_messages) {
            Some(messages) => content(messages, field),
            None if is_python(&text) => Err(Problem::new(
                field,
                format!("{CONTENT}; messages in a column of text as JSON (json.dumps writes it)"),
                format!("messages as Python prints them: {text}"),
            )),
            None => Ok(Content::Text(text)),
        },
        Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| message(item, &format!("{field}[{i}]")))
            .collect::<Result<_, _>>()
            .map(Content::Messages),
        Value::Object(fields) if is_message(&fields) => {
            Ok(Content::Messages(vec![message(Value::Object(fields), field)?]))
        }
        other => Err(Problem::new(field, CONTENT, describe(&other))),
    }
}

/// A text that is JSON of the wanted kind.
pub(crate) fn as_json(text: &str, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    let trimmed = text.trim();
    if !trimmed.starts_with(['[', '{']) || !trimmed.ends_with([']', '}']) {
        return None;
    }
    serde_json::from_str(trimmed).ok().filter(wanted)
}

fn is_message(fields: &Fields) -> bool {
    let has = |name| fields.contains_key(name);
    (has("role") && (has("content") || has("tool_calls"))) || (has("from") && has("value"))
}

/// Whether the value is a message or a list of some.
fn is_messages(value: &Value) -> bool {
    match value {
        Value::Object(fields) => is_message(fields),
        Value::Array(items) => {
            let all = items.iter().all(|item| item.as_object().is_some_and(is_message));
            all && !items.is_empty()
        }
        _ => false,
    }
}

/// Whether a text is a list of messages as Python prints it, which is not JSON.
fn is_python(text: &str) -> bool {
    let inside = text.trim_start().trim_start_matches('[').trim_start().strip_prefix("{'");
    inside.is_some_and(|rest| {
        ["role'", "content'", "from'", "value'"].iter().any(|key| rest.starts_with(key))
    })
}

/// The names of roles beside those of chat templates, as ShareGPT and others write them.
fn role_name(role: String) -> String {
    match role.as_str() {
        "human" => "user".to_owned(),
        "gpt" | "chatgpt" | "bot" | "ai" => "assistant".to_owned(),
        "observation" => "tool".to_owned(),
        _ => role,
    }
}

/// What a message may hold beside role and text that is part of what was said: leaving it out would
/// change the response, and it is not read.
const NOT_READ: [(&str, &str); 6] = [
    ("tool_calls", "a message without tool calls"),
    ("function_call", "a message without a function call"),
    ("reasoning_content", "a message without thoughts apart from its text"),
    ("reasoning", "a message without thoughts apart from its text"),
    ("thinking", "a message without thoughts apart from its text"),
    ("images", "a message of text alone"),
];

fn message(value: Value, field: &str) -> Result<Message, Problem> {
    let Value::Object(mut fields) = value else {
        return Err(Problem::new(field, "a message with role and content", describe(&value)));
    };
    for (name, expected) in NOT_READ {
        if let Some(value) = fields.get(name).filter(|value| !is_nothing(value)) {
            return Err(Problem::new(&format!("{field}.{name}"), expected, describe(value)));
        }
    }
    let (role, text) = match fields.contains_key("from") && !fields.contains_key("role") {
        true => ("from", "value"),
        false => ("role", "content"),
    };
    let place = format!("{field}.{role}");
    let role = match fields.shift_remove(role) {
        Some(Value::String(role)) if role == "function_call" => {
            return Err(Problem::new(&place, "a role that says text", describe(&role.into())));
        }
        Some(Value::String(role)) => role_name(role),
        None => return Err(missing(&place, "a role", &fields)),
        Some(other) => return Err(Problem::new(&place, "a role", describe(&other))),
    };
    let place = format!("{field}.{text}");
    let content = match fields.shift_remove(text) {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(i, part)| text_part(part, &format!("{place}[{i}]")))
            .collect::<Result<_, _>>()?,
        None => return Err(missing(&place, "text", &fields)),
        Some(other) => return Err(Problem::new(&place, "text", describe(&other))),
    };
    Ok(Message { role, content })
}

/// Whether a column or a field says nothing: null, blank text, an empty list or object.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty() || matches!(text.trim(), "[]" | "{}"),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// One part of a content list: `{"type": "text", "text": ..}`.
fn text_part<'a>(part: &'a Value, field: &str) -> Result<&'a str, Problem> {
    let kind = part.get("type").and_then(Value::as_str);
    match (kind, part.get("text").and_then(Value::as_str)) {
        (Some("text") | None, Some(text)) => Ok(text),
        _ => Err(Problem::new(field, "a text part", describe(part))),
    }
}

/// A finite number, or none. Text is read as a number because CSV knows nothing else.
pub(crate) fn number(value: Value, field: &str) -> Result<Option<f64>, Problem> {
    let number = match &value {
        Value::Null => return Ok(None),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number.filter(|number| number.is_finite()) {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::new(field, "a finite number or null", describe(&value))),
    }
}

/// Yes or no; where nothing stands, no. Text and numbers are read as well, because CSV knows no
/// truth values and pandas turns a column with gaps into numbers.
pub(crate) fn truth(value: &Value, field: &str) -> Result<bool, Problem> {
    let known = match value {
        Value::Null => Some(false),
        Value::Bool(is) => Some(*is),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "" | "false" | "no" | "0" | "0.0" => Some(false),
            "true" | "yes" | "1" | "1.0" => Some(true),
            _ => None,
        },
        _ => None,
    };
    known.ok_or_else(|| Problem::new(field, "true or false (or 1 or 0)", describe(value)))
}
