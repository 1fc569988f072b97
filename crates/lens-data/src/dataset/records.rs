//! One record after another out of any of the formats, as JSON objects with their place.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value};

use super::source::{Body, Compression, Format, Source};
use super::{delimited, json, parquet_rows};
use crate::error::{Error, Problem};

/// The columns of one row, in the order of the file.
pub(crate) type Fields = Map<String, Value>;

/// Takes the records one by one, with their line; `Break` ends the reading without an error.
pub(crate) type Sink<'a> = dyn FnMut(u64, Result<Fields, Problem>) -> ControlFlow<()> + 'a;

/// What was read, apart from its records.
pub(crate) struct Opened {
    pub format: Format,
    pub compression: Compression,
}

/// Reads a dataset of any format, one record at a time.
pub(crate) fn for_each_record(
    path: &Path,
    max_row_bytes: usize,
    sink: &mut Sink<'_>,
) -> Result<Opened, Error> {
    let Source { path, format, compression, body } = Source::open(path)?;
    match body {
        Body::Parquet(file) => parquet_rows::read(&path, file, sink)?,
        Body::Text(reader) => {
            let text = Text { path: &path, compression, reader, max_row_bytes };
            match format {
                Format::JsonArray => json::read_array(text, sink)?,
                Format::Csv => delimited::read(text, b',', sink)?,
                Format::Tsv => delimited::read(text, b'\t', sink)?,
                Format::JsonLines | Format::Parquet => json::read_lines(text, sink)?,
            }
        }
    }
    Ok(Opened { format, compression })
}

/// A stream of text with what its errors need to name it.
pub(crate) struct Text<'a> {
    pub path: &'a Path,
    pub compression: Compression,
    pub reader: Box<dyn std::io::BufRead>,
    pub max_row_bytes: usize,
}
