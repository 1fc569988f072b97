//! Parquet, through the record interface of the `parquet` crate, nested lists included.

use super::guard::guarded;
use super::records::{Fields, Sink, float};
use super::source::Table;
use crate::error::Error;
use lens_core::Progress;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;
use std::path::Path;

const FORMAT: &str = "Parquet";

pub(crate) fn read(
    path: &Path,
    table: Table,
    progress: &dyn Progress,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    match table {
        Table::File(file) => read_rows(path, file, progress, sink),
        Table::Memory(bytes) => read_rows(path, bytes, progress, sink),
    }
}

fn read_rows<R: ChunkReader + 'static>(
    path: &Path,
    file: R,
    progress: &dyn Progress,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let damaged = |detail: String| Error::corrupt(path, FORMAT, detail);
    let reader = guarded(|| SerializedFileReader::new(file)).map_err(damaged)?;
    let total = reader.metadata().file_metadata().num_rows();
    progress.begin("read", u64::try_from(total).unwrap_or(0), "rows");
    let mut rows = guarded(|| reader.get_row_iter(None)).map_err(damaged)?;
    let mut number = 0;
    loop {
        let next: Result<_, String> = guarded(|| {
            let row = rows.next().transpose()?;
            Ok::<_, ParquetError>(row.map(|row| fields(&row)))
        });
        match next.map_err(|e| damaged(format!("row {}: {e}", number + 1)))? {
            None => return Ok(()),
            Some(fields) => {
                number += 1;
                progress.advance(1);
                if sink(number, Ok(fields)).is_break() {
                    return Ok(());
                }
            }
        }
    }
}

fn fields(row: &Row) -> Fields {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

/// As the crate's own conversion, except that text written without its annotation stays text
/// (instead of base64) and an infinite number is not taken for a missing one.
fn value(field: &Field) -> Value {
    match field {
        Field::Group(row) => Value::Object(fields(row)),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect()),
        Field::MapInternal(map) => map
            .entries()
            .iter()
            .map(|(key, item)| {
                let key = match value(key) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                (key, value(item))
            })
            .collect::<Fields>()
            .into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => field.to_json_value(),
        },
        Field::Float(number) => float(f64::from(*number)),
        Field::Double(number) => float(*number),
        _ => field.to_json_value(),
    }
}
