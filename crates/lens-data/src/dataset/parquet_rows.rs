//! Parquet, through the record interface of the `parquet` crate, nested lists included.

use super::records::{Fields, Sink, float};
use super::source::Table;
use crate::error::Error;
use lens_core::Progress;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

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
        let next = guarded(|| rows.next().transpose().map(|row| row.map(|row| fields(&row))));
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

/// Runs one step of the `parquet` crate. Its record interface asserts what a schema or a date may
/// be instead of returning an error, and a damaged file must not end the program. The state behind
/// a panic is never used again: every caller gives up on the file.
fn guarded<T>(step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    quieten();
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(step));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("the decoder gave up")
            .to_owned()),
    }
}

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the report of a panic that becomes an error off the screen: it reads as if this program
/// had failed. All other panics go to the hook that was there before.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                report(panic);
            }
        }));
    });
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
