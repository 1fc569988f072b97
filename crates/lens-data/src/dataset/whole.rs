//! Rows to be scored beside all columns of the row as it stands in the file.

use super::bounds::Kept;
use super::exchanges::{ScoreRow, take_row};
use super::pairs::RowProblem;
use super::records::Fields;
use super::repeated::strip_from_rows;
use super::visit::visit_rows;
use super::{DataSource, ReadOptions};
use crate::error::{Error, MalformedRow, Problem};
use lens_core::Progress;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// A row of a file, with what there is to score in it.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeRow {
    /// As [`Row::line`](super::Row::line).
    pub line: u64,
    /// Every column with its value, in the order of the file; none of a row that is no object.
    pub columns: Fields,
    /// What there is to score, or why there is nothing.
    pub value: Result<ScoreRow, MalformedRow>,
}

/// A row that was read as an object: its columns, and what could be made of them.
struct Taken {
    columns: Fields,
    value: Result<ScoreRow, Problem>,
}

/// Reads every row of a file to be scored, the malformed ones too, in the order of the file. A row that
/// gives several pairs is there once for each.
///
/// # Errors
/// As [`read_exchanges_with`](super::read_exchanges_with).
pub fn read_whole_rows_with(
    input: impl Into<DataSource>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Vec<WholeRow>, Error> {
    let input = input.into();
    let take = |fields: &mut Fields| {
        let columns = fields.clone();
        match take_row(fields, options.reading()) {
            Ok(rows) => {
                let taken = |row| Taken { columns: columns.clone(), value: Ok(row) };
                Ok(rows.into_iter().map(taken).collect())
            }
            Err(RowProblem::Malformed(problem)) if !options.strict => {
                Ok(vec![Taken { columns, value: Err(problem) }])
            }
            Err(problem) => Err(problem),
        }
    };
    let mut all: Vec<WholeRow> = Vec::new();
    visit_rows(&input, options, Kept::Row, progress, take, &mut |row| {
        all.push(match row {
            Ok(row) => {
                let Taken { columns, value } = row.value;
                let file = row.file.as_deref().map_or_else(|| input.name(), PathBuf::from);
                let value = value.map_err(|problem| problem.at(&file, row.line));
                WholeRow { line: row.line, columns, value }
            }
            Err(row) => WholeRow { line: row.line, columns: Fields::new(), value: Err(row) },
        });
        ControlFlow::Continue(())
    })?;
    strip_from_rows(all.iter_mut().filter_map(|row| row.value.as_mut().ok()));
    let first_problem = all.iter().find_map(|row| row.value.as_ref().err());
    match first_problem {
        _ if all.is_empty() => Err(Error::NoRows { path: input.name() }),
        Some(first) if all.iter().all(|row| row.value.is_err()) => Err(Error::AllMalformed {
            path: input.name(),
            read: all.len(),
            first: Box::new(first.clone()),
        }),
        _ => Ok(all),
    }
}
