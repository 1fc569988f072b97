//! One record after another out of any of the formats, as JSON objects with their place.

use super::bounds::{Unpacked, bytes_of};
use super::source::{Body, Compression, Format, Source};
use super::{arrow_rows, delimited, json, parquet_rows};
use crate::error::{Error, Problem};
use lens_core::Progress;
use serde_json::{Map, Number, Value};
use std::ops::ControlFlow;
use std::path::Path;

/// The columns of one row, in the order of the file.
pub(crate) type Fields = Map<String, Value>;

/// Takes the records one by one, with their line; `Break` ends the reading without an error.
pub(crate) type Sink<'a> = dyn FnMut(u64, Result<Fields, Problem>) -> ControlFlow<()> + 'a;

/// An opened dataset: everything but its records.
pub(crate) struct Opened {
    pub format: Format,
    pub compression: Compression,
}

/// Reads a dataset of any format, one record at a time, until `progress` is cancelled.
pub(crate) fn for_each_record(
    path: &Path,
    max_row_bytes: usize,
    progress: &dyn Progress,
    sink: &mut Sink<'_>,
) -> Result<Opened, Error> {
    let Source { path, format, compression, body, size, read } = Source::open(path)?;
    let mut cancelled = false;
    let mut until_cancelled = |line, record| {
        cancelled = progress.cancelled();
        if cancelled { ControlFlow::Break(()) } else { sink(line, record) }
    };
    let (mut unpacked, mut too_much) = (Unpacked::default(), None);
    let done = match body {
        Body::Table(table) => {
            let mut bounded = |line, record: Result<Fields, Problem>| {
                let bytes = record.as_ref().map_or(0, bytes_of);
                match unpacked.take(bytes, size) {
                    Ok(()) => until_cancelled(line, record),
                    Err(bomb) => {
                        too_much = Some(bomb);
                        ControlFlow::Break(())
                    }
                }
            };
            match format {
                Format::Arrow => arrow_rows::read(&path, table, progress, &mut bounded),
                _ => parquet_rows::read(&path, table, progress, &mut bounded),
            }
        }
        Body::Text { reader, key } => {
            progress.begin("read", size, "bytes");
            let mut said = 0;
            let mut sink = |line, record| {
                let now = read.get();
                if now > said {
                    progress.advance(now - said);
                    said = now;
                }
                until_cancelled(line, record)
            };
            let text = Text { path: &path, compression, reader, max_row_bytes };
            match format {
                Format::JsonArray => json::read_array(text, key.as_deref(), &mut sink),
                Format::JsonObjects => json::read_objects(text, &mut sink),
                Format::Csv => delimited::read(text, b',', &mut sink),
                Format::Tsv => delimited::read(text, b'\t', &mut sink),
                Format::JsonLines | Format::Parquet | Format::Arrow => {
                    json::read_lines(text, &mut sink)
                }
            }
        }
    };
    progress.end();
    done?;
    if let Some(bomb) = too_much {
        return Err(bomb.of(&path));
    }
    if cancelled { Err(Error::Cancelled) } else { Ok(Opened { format, compression }) }
}

/// A stream of text with what its errors need to name it.
pub(crate) struct Text<'a> {
    pub path: &'a Path,
    pub compression: Compression,
    pub reader: Box<dyn std::io::BufRead>,
    pub max_row_bytes: usize,
}

/// A number of a binary table. NaN is how data frames write a missing one.
pub(crate) fn float(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => Value::Null,
        None => Value::String(number.to_string()),
    }
}
