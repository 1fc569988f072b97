//! Rows of all files of a dataset, one after another, within the bounds of memory.

use super::bounds::{Kept, MemoryBound};
use super::columns::ColumnUses;
use super::pairs::RowProblem;
use super::records::{self, Fields, Opened};
use super::{DataSource, Layout, MalformedRows, ReadOptions, Row};
use crate::error::{Error, MalformedRow};
use lens_core::Progress;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The rows of a dataset, in memory.
pub(super) struct Collected<T> {
    pub rows: Vec<Row<T>>,
    pub malformed: MalformedRows,
    pub layout: Layout,
}

/// Reads all rows into memory; `take` makes of the columns of one what it holds.
pub(super) fn collect<T>(
    input: &DataSource,
    options: &ReadOptions,
    progress: &dyn Progress,
    take: impl FnMut(&mut Fields) -> Result<Vec<T>, RowProblem>,
) -> Result<Collected<T>, Error> {
    let (mut rows, mut malformed) = (Vec::new(), MalformedRows::default());
    let kept = Kept::Row;
    let layout = visit_rows(input, options, kept, progress, take, &mut |row| {
        match row {
            Ok(row) => rows.push(row),
            Err(row) => malformed.push(row),
        }
        ControlFlow::Continue(())
    })?;
    match rows.is_empty() {
        false => Ok(Collected { rows, malformed, layout }),
        true => Err(nothing(input, layout.rows, &malformed)),
    }
}

/// The error of a dataset that gives nothing.
pub(super) fn nothing(input: &DataSource, read: usize, malformed: &MalformedRows) -> Error {
    let path = input.name();
    match malformed.first() {
        None => Error::NoRows { path },
        Some(first) => Error::AllMalformed { path, read, first: Box::new(first.clone()) },
    }
}

/// Hands over one row after another, of which the caller keeps what `kept` says. `visit` ends the
/// reading with `Break`.
pub(super) fn visit_rows<T>(
    input: &DataSource,
    options: &ReadOptions,
    kept: Kept,
    progress: &dyn Progress,
    mut take: impl FnMut(&mut Fields) -> Result<Vec<T>, RowProblem>,
    visit: &mut dyn FnMut(Result<Row<T>, MalformedRow>) -> ControlFlow<()>,
) -> Result<Layout, Error> {
    let files = input.files()?;
    let mut uses = ColumnUses::default();
    let (mut failed, mut stopped, mut rows) = (None, false, 0);
    let mut first: Option<Opened> = None;
    let mut memory = MemoryBound::new(kept);
    for path in &files {
        let file: Option<Arc<str>> = (files.len() > 1).then(|| path.display().to_string().into());
        let max = options.max_row_bytes;
        let opened = records::for_each_record(path, max, progress, &mut |line, record| {
            rows += 1;
            if let Ok(fields) = &record
                && let Err(error) = memory.take(fields, path, rows)
            {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            let values = record.map_err(RowProblem::from).and_then(|mut fields| {
                let before = uses.names(&fields);
                let values = take(&mut fields)?;
                uses.count(before, &fields);
                Ok((values, fields))
            });
            let problem = match values {
                Ok((values, metadata)) => {
                    let mut left = values.len();
                    let mut metadata = Some(metadata);
                    for (part, value) in values.into_iter().enumerate() {
                        left -= 1;
                        let metadata = match left {
                            0 => metadata.take(),
                            _ => metadata.clone(),
                        };
                        let (file, part) = (file.clone(), part as u32);
                        let metadata = metadata.unwrap_or_default();
                        if visit(Ok(Row { line, file, part, value, metadata })).is_break() {
                            stopped = true;
                            return ControlFlow::Break(());
                        }
                    }
                    return ControlFlow::Continue(());
                }
                Err(RowProblem::Malformed(problem)) => problem.at(path, line),
                Err(RowProblem::BestOfN(shape)) => {
                    failed = Some(Error::UnsupportedShape { path: path.clone(), line, shape });
                    return ControlFlow::Break(());
                }
            };
            if options.strict {
                failed = Some(Error::Malformed(problem));
                return ControlFlow::Break(());
            }
            let flow = visit(Err(problem));
            stopped = flow.is_break();
            flow
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        first.get_or_insert(opened);
        if stopped {
            break;
        }
    }
    let Some(Opened { format, compression }) = first else {
        return Err(Error::NoRows { path: input.name() });
    };
    let (columns, with_prompt_column) = uses.finish();
    Ok(Layout { files, format, compression, columns, rows, with_prompt_column })
}
