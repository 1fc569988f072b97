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

/// Takes the column out of the row; `null` counts as absent.
pub(crate) fn take(fields: &mut Fields, name: &str) -> Option<Value> {
    fields.shift_remove(name).filter(|value| !value.is_null())
}

/// Takes a column that must be there.
pub(crate) fn take_content(fields: &mut Fields, name: &str) -> Result<Content, Problem> {
    match fields.get(name) {
        None => Err(missing(name, CONTENT, fields)),
        Some(_) => content(fields.shift_remove(name).unwrap_or_default(), name),
    }
}

/// Text or messages; text is kept as it stands.
pub(crate) fn content(value: Value, field: &str) -> Result<Content, Problem> {
    match value {
        Value::String(text) => Ok(Content::Text(text)),
        Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| message(item, &format!("{field}[{i}]")))
            .collect::<Result<_, _>>()
            .map(Content::Messages),
        other => Err(Problem::new(field, CONTENT, describe(&other))),
    }
}

fn message(value: Value, field: &str) -> Result<Message, Problem> {
    let Value::Object(mut fields) = value else {
        return Err(Problem::new(field, "a message with role and content", describe(&value)));
    };
    // A tool call is part of what was preferred: leaving it out would change the response.
    let calls = fields.get("tool_calls").filter(|calls| match calls {
        Value::Null => false,
        Value::Array(calls) => !calls.is_empty(),
        _ => true,
    });
    if let Some(calls) = calls {
        let field = format!("{field}.tool_calls");
        return Err(Problem::new(&field, "a message without tool calls", describe(calls)));
    }
    let role = match fields.shift_remove("role") {
        Some(Value::String(role)) => role,
        None => return Err(missing(&format!("{field}.role"), "a role", &fields)),
        Some(other) => {
            return Err(Problem::new(&format!("{field}.role"), "a role", describe(&other)));
        }
    };
    let place = format!("{field}.content");
    let content = match fields.shift_remove("content") {
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
