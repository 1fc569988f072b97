//! JSON lines and JSON arrays.

use super::lines::{Budget, Line, Lines};
use super::records::{Fields, Sink, Text};
use super::source::read_error;
use crate::error::{Error, Problem, WHOLE_ROW};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::{Deserializer as JsonDeserializer, Value};
use std::fmt;
use std::io::BufReader;
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
            Line::TooLong { bytes } => Err(Problem::new(
                WHOLE_ROW,
                format!("a line of at most {max_row_bytes} bytes"),
                format!("{bytes} bytes: {}", String::from_utf8_lossy(&line)),
            )),
            Line::Whole if line.iter().all(u8::is_ascii_whitespace) => continue,
            Line::Whole => object(&line),
        };
        if sink(lines.number(), record).is_break() {
            break;
        }
    }
    Ok(())
}

fn object(line: &[u8]) -> Result<Fields, Problem> {
    let text = std::str::from_utf8(line).map_err(|e| {
        Problem::new(
            WHOLE_ROW,
            "UTF-8 text",
            format!("a wrong byte at {}: {}", e.valid_up_to() + 1, String::from_utf8_lossy(line)),
        )
    })?;
    let value = serde_json::from_str::<Value>(text).map_err(|e| {
        let message = e.to_string();
        let reason = message.split(" at line ").next().unwrap_or(&message);
        Problem::new(WHOLE_ROW, EXPECTED, format!("{reason} at column {}: {text}", e.column()))
    })?;
    fields(value)
}

fn fields(value: Value) -> Result<Fields, Problem> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(Problem::new(WHOLE_ROW, EXPECTED, super::content::describe(&other))),
    }
}

/// Reads the objects of one array without holding the array. What breaks the syntax ends the
/// reading: there is no line to start again at.
pub(crate) fn read_array(text: Text<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
    let Text { path, compression, reader, max_row_bytes } = text;
    let budget = Budget::new(max_row_bytes);
    let reader = BufReader::new(budget.reader(reader));
    let mut json = JsonDeserializer::from_reader(reader);
    let mut elements = Elements { sink, budget: &budget, count: 0, stopped: false };
    let parsed = serde::Deserializer::deserialize_seq(&mut json, &mut elements);
    let (count, stopped) = (elements.count, elements.stopped);
    if stopped {
        return Ok(());
    }
    match parsed.and_then(|()| json.end()) {
        Ok(()) => Ok(()),
        Err(_) if budget.is_spent() => Err(Error::Malformed(
            Problem::new(
                WHOLE_ROW,
                format!("a record of at most {max_row_bytes} bytes"),
                "a longer one",
            )
            .at(path, count + 1),
        )),
        Err(e) if e.is_io() => Err(read_error(path, compression, e.into())),
        Err(e) => Err(Error::corrupt(path, "JSON array", format!("record {}: {e}", count + 1))),
    }
}

struct Elements<'a, 'b> {
    sink: &'a mut Sink<'b>,
    budget: &'a Budget,
    count: u64,
    stopped: bool,
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            self.count += 1;
            self.budget.renew();
            if let ControlFlow::Break(()) = (self.sink)(self.count, fields(value)) {
                self.stopped = true;
                return Err(A::Error::custom("stopped by the reader"));
            }
        }
        Ok(())
    }
}
