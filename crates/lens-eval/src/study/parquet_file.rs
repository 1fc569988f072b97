//! The table of all runs: one row a cell, flat columns, for pandas, DuckDB and the like.

use super::engine::{Run, credit_string};
use super::plan::{Cell, Plan};
use super::store::all_cells;
use crate::error::EvalError;
use lens_core::MethodSettings;
use lens_data::AtomicFile;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Rows of a row group.
const GROUP: usize = 10_000;

/// The values of a column, none where a row has none.
enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Bool(Vec<Option<bool>>),
}

/// Writes the table at `path`, whole or not at all.
pub(super) fn write(path: &Path, plan: &Plan, runs: &[Run]) -> Result<(), EvalError> {
    let cells: Vec<Cell> = all_cells(plan).collect();
    let columns = columns(plan, &cells, runs)?;
    let mut file = AtomicFile::create(path)?;
    match encode(&mut file, &columns, cells.len()) {
        Ok(()) => Ok(file.commit()?),
        // The system's error about a full disk comes wrapped.
        Err(ParquetError::External(e)) => match e.downcast::<std::io::Error>() {
            Ok(e) => Err(file.error(*e).into()),
            Err(e) => Err(failed(path, e)),
        },
        Err(e) => Err(failed(path, e)),
    }
}

fn failed(path: &Path, detail: impl ToString) -> EvalError {
    EvalError::Parquet { path: path.to_owned(), detail: detail.to_string() }
}

/// The columns with their names. Seconds are the only ones that differ from one run of a study to
/// the next.
fn columns(plan: &Plan, cells: &[Cell], runs: &[Run]) -> Result<Vec<(String, Column)>, EvalError> {
    let text = |f: &dyn Fn(&Cell) -> Option<String>| Column::Text(cells.iter().map(f).collect());
    let whole = |f: &dyn Fn(&Cell) -> usize| {
        Column::Integer(cells.iter().map(|c| i64::try_from(f(c)).ok()).collect())
    };
    let real = |f: &dyn Fn(&Run) -> Option<f64>| Column::Real(runs.iter().map(f).collect());
    let named = |n: usize| plan.encoders[n].name.clone();
    let mut columns: Vec<(String, Column)> = Vec::new();
    let mut add = |name: &str, column: Column| columns.push((name.to_owned(), column));
    add("encoder", text(&|c| Some(named(c.encoder)).filter(|n| !n.is_empty())));
    add("seeds", whole(&|c| plan.seeds[c.seeds]));
    add("split", whole(&|c| c.split));
    add("rival", text(&|c| Some(plan.rivals[plan.arms[c.arm].rival].name.clone())));
    add("factor", whole(&|c| plan.arms[c.arm].factor));
    add("tried", text(&|c| plan.arms[c.arm].tried.clone()));
    for (i, axis) in plan.grid.iter().enumerate() {
        add(&format!("grid.{}", axis.name), text(&|c| plan.arms[c.arm].grid[i].clone()));
    }
    add("accuracy", real(&Run::accuracy));
    add("heldout_log_loss", real(&|r| r.heldout_log_loss));
    add("fold_log_loss", real(&|r| r.fold_log_loss));
    add("fold_accuracy", real(&|r| r.fold_accuracy));
    let parameters = |r: &Run| r.generator_parameters.and_then(|n| i64::try_from(n).ok());
    add("generator_parameters", Column::Integer(runs.iter().map(parameters).collect()));
    add("diverged", Column::Text(runs.iter().map(|r| r.diverged.clone()).collect()));
    add("seconds_source", real(&|r| Some(r.seconds.source)));
    add("seconds_head", real(&|r| Some(r.seconds.head)));
    let credits = |r: &Run| Some(credit_string::shown(&r.credits));
    add("credits", Column::Text(runs.iter().map(credits).collect()));
    add("cell", text(&|c| Some(c.key.clone())));
    columns.extend(settings(cells)?);
    Ok(columns)
}

/// Every setting of the method by its dotted name.
fn settings(cells: &[Cell]) -> Result<Vec<(String, Column)>, EvalError> {
    let flat = |settings: &MethodSettings| -> Result<Vec<(String, Value)>, EvalError> {
        let value = serde_json::to_value(settings)
            .map_err(|e| EvalError::Runner { detail: format!("settings as JSON: {e}") })?;
        let mut all = Vec::new();
        flatten("", value, &mut all);
        Ok(all)
    };
    let rows = cells.iter().map(|c| flat(&c.settings)).collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<&String> = Vec::new();
    for row in &rows {
        // Nearly always the same in every row, and then this is quick.
        if row.len() != names.len() || row.iter().zip(&names).any(|((a, _), b)| a != *b) {
            for (name, _) in row {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    let of = |name: &String| {
        let value = |row: &Vec<(String, Value)>| {
            let found = row.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
            found.filter(|v| !v.is_null())
        };
        let values: Vec<Option<Value>> = rows.iter().map(value).collect();
        let all = |is: fn(&Value) -> bool| values.iter().flatten().all(is);
        let each = |v: &Option<Value>| v.clone();
        if all(Value::is_boolean) {
            Column::Bool(values.iter().map(|v| v.as_ref().and_then(Value::as_bool)).collect())
        } else if all(Value::is_i64) {
            Column::Integer(values.iter().map(|v| v.as_ref().and_then(Value::as_i64)).collect())
        } else if all(Value::is_number) {
            Column::Real(values.iter().map(|v| v.as_ref().and_then(Value::as_f64)).collect())
        } else {
            let text = |v: Value| match v {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Column::Text(values.iter().map(|v| each(v).map(text)).collect())
        }
    };
    Ok(names.into_iter().map(|name| (name.clone(), of(name))).collect())
}

fn flatten(prefix: &str, value: Value, all: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, all);
            }
        }
        value => all.push((prefix.to_owned(), value)),
    }
}

fn encode(
    file: &mut AtomicFile,
    columns: &[(String, Column)],
    rows: usize,
) -> Result<(), ParquetError> {
    let field = |(name, column): &(String, Column)| {
        let (physical, logical) = match column {
            Column::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Column::Integer(_) => (Physical::INT64, None),
            Column::Real(_) => (Physical::DOUBLE, None),
            Column::Bool(_) => (Physical::BOOLEAN, None),
        };
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    let schema = Type::group_type_builder("runs").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
    for from in (0..rows).step_by(GROUP) {
        let rows = from..rows.min(from + GROUP);
        let mut group = writer.next_row_group()?;
        for (_, column) in columns {
            let Some(mut writer) = group.next_column()? else { break };
            match column {
                Column::Text(all) => {
                    let (values, levels) = split(&all[rows.clone()]);
                    let values: Vec<ByteArray> =
                        values.into_iter().map(|v| ByteArray::from(v.into_bytes())).collect();
                    writer.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
                }
                Column::Integer(all) => {
                    let (values, levels) = split(&all[rows.clone()]);
                    writer.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
                }
                Column::Real(all) => {
                    let (values, levels) = split(&all[rows.clone()]);
                    writer.typed::<DoubleType>().write_batch(&values, Some(&levels), None)?;
                }
                Column::Bool(all) => {
                    let (values, levels) = split(&all[rows.clone()]);
                    writer.typed::<BoolType>().write_batch(&values, Some(&levels), None)?;
                }
            }
            writer.close()?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

/// The values that are there, and of each row whether it has one.
fn split<T: Clone>(all: &[Option<T>]) -> (Vec<T>, Vec<i16>) {
    let levels = all.iter().map(|v| i16::from(v.is_some())).collect();
    (all.iter().flatten().cloned().collect(), levels)
}
