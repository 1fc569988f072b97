//! Rows to be scored beside all columns of the row as it stands in the file.

use super::exchanges::{ScoreRow, take_row};
use super::pairs::RowProblem;
use super::records::Fields;
use super::{Collected, ReadOptions, collect};
use crate::error::{Error, MalformedRow, Problem};
use lens_core::Progress;
use std::path::Path;

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

/// Reads every row of a file to be scored, the malformed ones too, in the order of the file.
///
/// # Errors
/// As [`read_exchanges_with`](super::read_exchanges_with).
pub fn read_whole_rows_with(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Vec<WholeRow>, Error> {
    let path = path.as_ref();
    let take = |fields: &mut Fields| {
        let columns = fields.clone();
        match take_row(fields) {
            Ok(row) => Ok(Taken { columns, value: Ok(row) }),
            Err(RowProblem::Malformed(problem)) if !options.strict => {
                Ok(Taken { columns, value: Err(problem) })
            }
            Err(problem) => Err(problem),
        }
    };
    let Collected { rows, malformed, .. } = collect(path, options, progress, take)?;
    let whole = |row: super::Row<Taken>| {
        let Taken { columns, value } = row.value;
        let value = value.map_err(|problem| problem.at(path, row.line));
        WholeRow { line: row.line, columns, value }
    };
    let unread =
        |row: MalformedRow| WholeRow { line: row.line, columns: Fields::new(), value: Err(row) };
    let mut all: Vec<WholeRow> =
        rows.into_iter().map(whole).chain(malformed.into_iter().map(unread)).collect();
    all.sort_by_key(|row| row.line);
    let first_problem = || all.iter().find_map(|row| row.value.as_ref().err());
    match first_problem() {
        Some(first) if all.iter().all(|row| row.value.is_err()) => Err(Error::AllMalformed {
            path: path.to_owned(),
            read: all.len(),
            first: Box::new(first.clone()),
        }),
        _ => Ok(all),
    }
}
