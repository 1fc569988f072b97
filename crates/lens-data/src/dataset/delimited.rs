//! CSV and TSV under a header.

use super::lines::Budget;
use super::records::{Fields, Sink, Text};
use super::source::read_error;
use crate::error::{Error, Problem, WHOLE_ROW};
use csv::{ByteRecord, ReaderBuilder};
use serde_json::Value;
use std::collections::BTreeSet;

/// Reads records separated by `delimiter`; quotes and line breaks inside them as RFC 4180 has it.
pub(crate) fn read(text: Text<'_>, delimiter: u8, sink: &mut Sink<'_>) -> Result<(), Error> {
    let Text { path, compression, reader, max_row_bytes } = text;
    // A quote that is never closed would otherwise take the rest of the file into one field.
    let budget = Budget::new(max_row_bytes);
    let mut records =
        ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(budget.reader(reader));
    let failed = |e: csv::Error, record: u64| match e.into_kind() {
        csv::ErrorKind::Io(_) if budget.is_spent() => Error::Malformed(
            Problem::new(
                WHOLE_ROW,
                format!("a record of at most {max_row_bytes} bytes"),
                "a longer one (a quote may be open)",
            )
            .at(path, record),
        ),
        csv::ErrorKind::Io(e) => read_error(path, compression, e),
        other => Error::corrupt(path, "CSV", format!("record {record}: {other:?}")),
    };

    let header = records.byte_headers().map_err(|e| failed(e, 0))?;
    let names: Vec<String> =
        header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        let detail = format!("the header names the column `{twice}` twice");
        return Err(Error::corrupt(path, "CSV", detail));
    }

    let mut record = ByteRecord::new();
    let mut number = 0;
    while {
        budget.renew();
        records.read_byte_record(&mut record).map_err(|e| failed(e, number + 1))?
    } {
        number += 1;
        if sink(number, fields(&names, &record)).is_break() {
            break;
        }
    }
    Ok(())
}

fn fields(names: &[String], record: &ByteRecord) -> Result<Fields, Problem> {
    if record.len() != names.len() {
        return Err(Problem::new(
            WHOLE_ROW,
            format!("{} fields, as the header has", names.len()),
            format!("{} fields", record.len()),
        ));
    }
    names
        .iter()
        .zip(record)
        .map(|(name, bytes)| match std::str::from_utf8(bytes) {
            Ok(text) => Ok((name.clone(), Value::String(text.to_owned()))),
            Err(_) => Err(Problem::new(name, "UTF-8 text", String::from_utf8_lossy(bytes))),
        })
        .collect()
}
