//! Arrow, as a file or as a stream: what `datasets.save_to_disk` and data frames write.

use super::arrow_blocks::{FileBatches, check_stream};
use super::guard::guarded;
use super::records::{Fields, Sink, float};
use super::source::Table;
use crate::error::{Error, Problem};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{ArrowError, DataType};
use lens_core::Progress;
use serde_json::Value;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

const FORMAT: &str = "Arrow";
const FILE_MAGIC: &[u8] = b"ARROW1";
/// The longest list in a column of lists of nulls.
const MAX_NULLS: usize = 1000;

pub(crate) fn read(
    path: &Path,
    table: Table,
    progress: &dyn Progress,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    match table {
        Table::File(file) => read_from(path, BufReader::new(file), progress, sink),
        Table::Memory(bytes) => read_from(path, Cursor::new(bytes), progress, sink),
    }
}

fn read_from(
    path: &Path,
    mut from: impl Read + Seek,
    progress: &dyn Progress,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let mut magic = [0; FILE_MAGIC.len()];
    let start = from.read_exact(&mut magic).and_then(|()| from.seek(SeekFrom::Start(0)));
    start.map_err(|e| Error::io(path, "read", e))?;
    let damaged = |e: String| Error::corrupt(path, FORMAT, e);
    if magic.as_slice() == FILE_MAGIC {
        let file = guarded(|| FileBatches::open(from)).map_err(damaged)?;
        batches(path, file, progress, sink)
    } else {
        let stream = guarded(|| {
            check_stream(&mut from)?;
            from.seek(SeekFrom::Start(0))?;
            StreamReader::try_new(from, None)
        });
        let stream = stream.map_err(damaged)?;
        batches(path, stream, progress, sink)
    }
}

fn batches(
    path: &Path,
    mut batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    progress: &dyn Progress,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    progress.begin("read", 0, "rows");
    let mut number = 0;
    loop {
        let next = guarded(|| batches.next().transpose());
        let damaged = |e: String| Error::corrupt(path, FORMAT, format!("after row {number}: {e}"));
        let Some(batch) = next.map_err(damaged)? else { return Ok(()) };
        check_rows(&batch).map_err(damaged)?;
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            number += 1;
            progress.advance(1);
            let columns = schema.fields().iter().zip(batch.columns());
            let fields: Result<Fields, Problem> = columns
                .map(|(field, column)| {
                    Ok((field.name().clone(), value(column, row, field.name())?))
                })
                .collect();
            if sink(number, fields).is_break() {
                return Ok(());
            }
        }
    }
}

/// Refuses a batch with more rows than bits: columns of nulls have no bytes, so that a few could
/// stand for any number of rows.
fn check_rows(batch: &RecordBatch) -> Result<(), String> {
    let (rows, bytes) = (batch.num_rows(), batch.get_array_memory_size());
    match rows / 8 > bytes {
        true => Err(format!("{rows} rows in {bytes} bytes")),
        false => Ok(()),
    }
}

/// One value of a column. A type that no dataset of text has is an error only where a value stands.
fn value(column: &dyn Array, row: usize, field: &str) -> Result<Value, Problem> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! integer {
        ($kind:ty) => {
            Value::from(column.as_primitive::<$kind>().value(row))
        };
    }
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::UInt8 => integer!(UInt8Type),
        DataType::UInt16 => integer!(UInt16Type),
        DataType::UInt32 => integer!(UInt32Type),
        DataType::UInt64 => integer!(UInt64Type),
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => list(&column.as_list::<i32>().value(row), field)?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row), field)?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(row), field)?,
        DataType::Struct(inner) => {
            let parts = inner.iter().zip(column.as_struct().columns());
            let fields: Result<Fields, Problem> = parts
                .map(|(part, column)| Ok((part.name().clone(), value(column, row, field)?)))
                .collect();
            fields?.into()
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = value(dictionary.keys(), row, field)?;
            match key.as_u64().and_then(|key| usize::try_from(key).ok()) {
                Some(key) if key < dictionary.values().len() => {
                    value(dictionary.values().as_ref(), key, field)?
                }
                // The reader refuses such a file.
                _ => Value::Null,
            }
        }
        DataType::Binary => bytes(column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(column.as_binary::<i64>().value(row)),
        // Dates, times and decimals: nothing reads them, and their text tells which they are.
        other => Value::String(format!("a value of type {other}")),
    })
}

fn list(items: &dyn Array, field: &str) -> Result<Value, Problem> {
    // Nulls have no bytes, so that a few could stand for any number of them.
    if *items.data_type() == DataType::Null && items.len() > MAX_NULLS {
        let expected = format!("at most {MAX_NULLS} values that are nothing but null");
        return Err(Problem::new(field, expected, format!("{}", items.len())));
    }
    (0..items.len())
        .map(|i| value(items, i, field))
        .collect::<Result<Vec<_>, _>>()
        .map(Value::Array)
}

/// Text that was written as bytes stays text; other bytes are named.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => format!("{} bytes", bytes.len()).into(),
    }
}
