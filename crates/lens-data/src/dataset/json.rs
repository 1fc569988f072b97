//! JSON: one object a line, objects over several lines, and lists of objects, alone or inside an
//! object.

use super::frames;
use super::lines::{Line, Lines};
use super::pieces::{Piece, Pieces};
use super::records::{Fields, Sink, Text};
use super::source::read_error;
use crate::error::{Error, Problem, WHOLE_ROW};
use serde_json::Value;
use std::borrow::Cow;
use std::ops::ControlFlow;

const EXPECTED: &str = "a JSON object";

/// Reads one object a line; blank lines count as lines only.
pub(crate) fn read_lines(text: Text<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
    let Text { path, compression, reader, max_row_bytes } = text;
    let mut lines = Lines::new(reader, max_row_bytes);
    let mut line = Vec::new();
    while let Some(kind) =
        lines.next_into(&mut line).map_err(|e| read_error(path, compression, e))?
    {
        let record = match kind {
            Line::TooLong { bytes } => Err(too_long("line", max_row_bytes, bytes, &line)),
            Line::Whole if line.iter().all(u8::is_ascii_whitespace) => continue,
            Line::Whole => object(&line),
        };
        if hand_over(lines.number(), record, sink).is_break() {
            break;
        }
    }
    Ok(())
}

/// Hands over a record; of a table that stands in one, its rows, counted from the record's place.
fn hand_over(place: u64, record: Result<Fields, Problem>, sink: &mut Sink<'_>) -> ControlFlow<()> {
    let Ok(fields) = record else { return sink(place, record) };
    match frames::rows(&fields) {
        None => sink(place, Ok(fields)),
        Some(rows) => (place..).zip(rows).try_for_each(|(place, row)| sink(place, Ok(row))),
    }
}

/// Reads objects that follow each other, however many lines each takes. A record's place is the line
/// on which it begins.
pub(crate) fn read_objects(text: Text<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
    let mut pieces = Pieces::new(text);
    let mut piece = Vec::new();
    while let Some(found) = pieces.next_into(&mut piece)? {
        let line = pieces.line();
        let record = record(found, &piece, pieces.max_row_bytes());
        if hand_over(line, record, sink).is_break() {
            break;
        }
    }
    Ok(())
}

/// Reads the objects of one list without holding the list: the whole file, or what stands under `key`
/// in the object that the file is. A record's place is its number in the list.
pub(crate) fn read_array(
    text: Text<'_>,
    key: Option<&str>,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let mut pieces = Pieces::new(text);
    match key {
        Some(key) => pieces.enter_list_of(key)?,
        None => pieces.enter_list()?,
    }
    let mut piece = Vec::new();
    let mut number = 0;
    while let Some(found) = pieces.next_into(&mut piece)? {
        number += 1;
        if sink(number, record(found, &piece, pieces.max_row_bytes())).is_break() {
            return Ok(());
        }
    }
    match key {
        Some(_) => pieces.leave_object(),
        None => pieces.leave(),
    }
}

fn record(found: Piece, bytes: &[u8], max_row_bytes: usize) -> Result<Fields, Problem> {
    match found {
        Piece::Whole => object(bytes),
        Piece::TooLong { bytes: n } => Err(too_long("record", max_row_bytes, n, bytes)),
    }
}

fn too_long(what: &str, limit: usize, bytes: u64, head: &[u8]) -> Problem {
    Problem::new(
        WHOLE_ROW,
        format!("a {what} of at most {limit} bytes"),
        format!("{bytes} bytes: {}", String::from_utf8_lossy(head)),
    )
}

fn object(bytes: &[u8]) -> Result<Fields, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Problem::new(
            WHOLE_ROW,
            "UTF-8 text",
            format!("a wrong byte at {}: {}", e.valid_up_to() + 1, String::from_utf8_lossy(bytes)),
        )
    })?;
    if let Err(values) = within_values(bytes) {
        let expected = format!("a row of at most {MAX_VALUES} values");
        return Err(Problem::new(WHOLE_ROW, expected, format!("{values} or more: {text}")));
    }
    let parsed = parse(text).map_err(|e| {
        let message = e.to_string();
        let reason = message.split(" at line ").next().unwrap_or(&message);
        Problem::new(WHOLE_ROW, EXPECTED, format!("{reason} at column {}: {text}", e.column()))
    })?;
    match parsed {
        Value::Object(fields) => Ok(inner_row(fields)),
        other => Err(Problem::new(WHOLE_ROW, EXPECTED, super::content::describe(&other))),
    }
}

/// Most values of a row. One takes some 70 bytes in memory, also where it is one digit in the file.
const MAX_VALUES: usize = 1_000_000;

/// Whether a row has at most [`MAX_VALUES`] values; else a number that it surely has. A value is behind
/// a comma, a colon or an opening bracket, outside strings; short rows are not looked through.
fn within_values(bytes: &[u8]) -> Result<(), usize> {
    if bytes.len() <= MAX_VALUES {
        return Ok(());
    }
    let (mut values, mut in_string, mut escaped) = (0, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    if values <= MAX_VALUES { Ok(()) } else { Err(values) }
}

/// JSON, and what Python writes beyond it: a missing number as `NaN`, an endless one as `Infinity`.
fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| match without_python_numbers(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(text) => serde_json::from_str(&text).map_err(|_| error),
    })
}

/// The text with `NaN` outside strings as null, as data frames mean it, and `Infinity` as text, so that
/// it is not taken for a missing number.
fn without_python_numbers(text: &str) -> Cow<'_, str> {
    const WORDS: [(&str, &str); 3] =
        [("NaN", "null"), ("-Infinity", "\"-Infinity\""), ("Infinity", "\"Infinity\"")];
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    let mut in_string = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            _ => {
                let word = WORDS.iter().find(|(word, _)| bytes[at..].starts_with(word.as_bytes()));
                if let Some((word, instead)) = word {
                    out.push_str(&text[copied..at]);
                    out.push_str(instead);
                    copied = at + word.len();
                    at = copied;
                    continue;
                }
            }
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The row itself, where it stands as the Hub's viewer answers it: `{"row_idx": 0, "row": {..}}`.
fn inner_row(mut fields: Fields) -> Fields {
    match (fields.contains_key("row_idx"), fields.get_mut("row")) {
        (true, Some(Value::Object(row))) => std::mem::take(row),
        _ => fields,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_of_a_million_numbers_is_refused_and_one_of_a_million_commas_in_a_text_is_not() {
        let numbers = format!(r#"{{"a": [{}0]}}"#, "0,".repeat(MAX_VALUES));
        let problem = object(numbers.as_bytes()).unwrap_err();
        assert_eq!(problem.expected, "a row of at most 1000000 values");
        let text = format!(r#"{{"a": "{}\", {}"}}"#, "0,".repeat(MAX_VALUES), ",".repeat(9));
        assert!(object(text.as_bytes()).is_ok());
    }

    #[test]
    fn what_python_writes_beyond_json_is_read() {
        let row = parse(r#"{"a": NaN, "b": [-Infinity, Infinity, 1], "c": "NaN \" NaN"}"#).unwrap();
        let expected = json!({"a": null, "b": ["-Infinity", "Infinity", 1], "c": "NaN \" NaN"});
        assert_eq!(row, expected);
        assert!(parse("{\"a\": NaNo}").is_err());
        assert!(parse("{\"a\": nan}").is_err());
    }
}
