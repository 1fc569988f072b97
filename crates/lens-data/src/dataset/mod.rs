//! Preference pairs and rows to be scored, out of JSON lines, JSON arrays, CSV, TSV and Parquet.
//!
//! A row that cannot be read is never dropped without a word: it becomes a [`MalformedRow`] that
//! names file, line, field, what was expected and what was found.

mod content;
mod delimited;
mod exchanges;
pub(crate) mod fingerprint;
mod json;
mod lines;
mod pairs;
mod parquet_rows;
mod ranked;
pub(crate) mod records;
mod source;
#[cfg(test)]
mod tests;
mod whole;

use lens_core::{Content, PreferencePair, Progress, Quiet};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use exchanges::ScoreRow;
pub use fingerprint::{fingerprint, fingerprint_arrays, fingerprint_rows};
pub use pairs::{BestOfN, Shape};
pub use ranked::{Candidates, JudgedRow, JudgedSet, RankedRow, ScoredRow, group_by_prompt};
pub use source::{Compression, Format};
pub use whole::{WholeRow, read_whole_rows_with};

use crate::error::{Error, MalformedRow};
use pairs::RowProblem;
use records::{Fields, Opened};

/// The longest line, and the longest record of a JSON array or CSV file, that is read.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// How a dataset is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether the first malformed row is an error at once. Defaults to `false`: malformed rows
    /// are collected.
    pub strict: bool,
    /// Longer rows are malformed. Defaults to [`MAX_ROW_BYTES`].
    pub max_row_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { strict: false, max_row_bytes: MAX_ROW_BYTES }
    }
}

/// A value with the place it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<T> {
    /// One-based line; in Parquet, CSV and JSON arrays the one-based record.
    pub line: u64,
    /// The value that was read.
    pub value: T,
    /// All columns that are not part of the value, in the order of the file.
    pub metadata: Map<String, Value>,
}

impl<T> Row<T> {
    /// The `subset` column, where it is text.
    pub fn subset(&self) -> Option<&str> {
        self.metadata.get("subset").and_then(Value::as_str)
    }
}

/// The preference pairs of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file.
    pub path: PathBuf,
    /// The rows that are pairs, in the order of the file. Never empty.
    pub pairs: Vec<Row<PreferencePair>>,
    /// The rows that are not, in the order of the file.
    pub malformed: Vec<MalformedRow>,
    /// How many rows were read: pairs and malformed rows, without blank lines.
    pub read: usize,
    /// How the rows are laid out.
    pub format: Format,
    /// How the file is compressed.
    pub compression: Compression,
    /// In which shapes the pairs stood, and how many in each.
    pub shapes: BTreeMap<Shape, usize>,
}

/// The rows of a file to be scored or embedded.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreSet {
    /// The file.
    pub path: PathBuf,
    /// The rows that can be scored, in the order of the file. Never empty.
    pub rows: Vec<Row<ScoreRow>>,
    /// The rows that cannot, in the order of the file.
    pub malformed: Vec<MalformedRow>,
    /// How many rows were read, without blank lines.
    pub read: usize,
    /// How the rows are laid out.
    pub format: Format,
    /// How the file is compressed.
    pub compression: Compression,
}

/// The prompts of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptSet {
    /// The file.
    pub path: PathBuf,
    /// The rows with a prompt, in the order of the file. Never empty.
    pub rows: Vec<Row<Content>>,
    /// The rows without, in the order of the file.
    pub malformed: Vec<MalformedRow>,
    /// How many rows were read, without blank lines.
    pub read: usize,
}

/// Reads the preference pairs of a file; see [`Shape`] for what a row may look like.
///
/// Malformed rows are collected unless [`ReadOptions::strict`] is set. A file without a single
/// pair is an error, and so is a row with several responses a side ([`Error::UnsupportedShape`]).
pub fn read_pairs(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Dataset, Error> {
    read_pairs_with(path, options, &Quiet)
}

/// As [`read_pairs`], with progress; [`Error::Cancelled`] where that is cancelled.
pub fn read_pairs_with(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Dataset, Error> {
    let path = path.as_ref();
    let mut shapes = BTreeMap::new();
    let rows = collect(path, options, progress, |fields| {
        let (pair, shape) = pairs::take_pair(fields)?;
        *shapes.entry(shape).or_insert(0) += 1;
        Ok(pair)
    })?;
    let Collected { rows: pairs, malformed, read, opened } = rows;
    let Opened { format, compression } = opened;
    Ok(Dataset { path: path.to_owned(), pairs, malformed, read, format, compression, shapes })
}

/// Reads the rows of a file to be scored or embedded; see [`ScoreRow`] for what they may look like.
pub fn read_exchanges(path: impl AsRef<Path>, options: &ReadOptions) -> Result<ScoreSet, Error> {
    read_exchanges_with(path, options, &Quiet)
}

/// As [`read_exchanges`], with progress; [`Error::Cancelled`] where that is cancelled.
pub fn read_exchanges_with(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<ScoreSet, Error> {
    let path = path.as_ref();
    let Collected { rows, malformed, read, opened } =
        collect(path, options, progress, exchanges::take_row)?;
    let Opened { format, compression } = opened;
    Ok(ScoreSet { path: path.to_owned(), rows, malformed, read, format, compression })
}

/// Reads the rows of a file to evaluate on; see [`JudgedRow`] for what they may look like. Malformed
/// rows are collected unless [`ReadOptions::strict`] is set. [`Error::Cancelled`] where `progress` is
/// cancelled.
pub fn read_judged_with(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<JudgedSet, Error> {
    let path = path.as_ref();
    let mut shapes = BTreeMap::new();
    let rows = collect(path, options, progress, |fields| {
        let (row, shape) = ranked::take_judged(fields)?;
        if let Some(shape) = shape {
            *shapes.entry(shape).or_insert(0) += 1;
        }
        Ok(row)
    })?;
    let Collected { rows, malformed, read, opened } = rows;
    let Opened { format, compression } = opened;
    Ok(JudgedSet { path: path.to_owned(), rows, malformed, read, format, compression, shapes })
}

/// Reads the prompt of every row: of a pair in any of its [`Shape`]s, or the `prompt` column of
/// whatever else. A row without one, or with a blank one, is malformed. [`Error::Cancelled`] where
/// `progress` is cancelled.
pub fn read_prompts_with(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<PromptSet, Error> {
    let path = path.as_ref();
    let Collected { rows, malformed, read, .. } =
        collect(path, options, progress, exchanges::take_prompt)?;
    Ok(PromptSet { path: path.to_owned(), rows, malformed, read })
}

/// As [`read_exchanges`], but hands over one row after another, for files that need not fit into
/// memory. `Break` ends the reading without an error. Returns how many rows were handed over.
pub fn visit_exchanges(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    visit: &mut dyn FnMut(Result<Row<ScoreRow>, MalformedRow>) -> ControlFlow<()>,
) -> Result<usize, Error> {
    let path = path.as_ref();
    let mut read = 0;
    visit_rows(path, options, &Quiet, exchanges::take_row, &mut |row| {
        read += 1;
        visit(row)
    })?;
    if read == 0 {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    Ok(read)
}

struct Collected<T> {
    rows: Vec<Row<T>>,
    malformed: Vec<MalformedRow>,
    read: usize,
    opened: Opened,
}

fn collect<T>(
    path: &Path,
    options: &ReadOptions,
    progress: &dyn Progress,
    take: impl FnMut(&mut Fields) -> Result<T, RowProblem>,
) -> Result<Collected<T>, Error> {
    let (mut rows, mut malformed) = (Vec::new(), Vec::new());
    let opened = visit_rows(path, options, progress, take, &mut |row| {
        match row {
            Ok(row) => rows.push(row),
            Err(row) => malformed.push(row),
        }
        ControlFlow::Continue(())
    })?;
    let read = rows.len() + malformed.len();
    match malformed.first() {
        _ if !rows.is_empty() => Ok(Collected { rows, malformed, read, opened }),
        None => Err(Error::NoRows { path: path.to_owned() }),
        Some(first) => {
            Err(Error::AllMalformed { path: path.to_owned(), read, first: Box::new(first.clone()) })
        }
    }
}

fn visit_rows<T>(
    path: &Path,
    options: &ReadOptions,
    progress: &dyn Progress,
    mut take: impl FnMut(&mut Fields) -> Result<T, RowProblem>,
    visit: &mut dyn FnMut(Result<Row<T>, MalformedRow>) -> ControlFlow<()>,
) -> Result<Opened, Error> {
    let mut failed = None;
    let max = options.max_row_bytes;
    let opened = records::for_each_record(path, max, progress, &mut |line, record| {
        let value = record.map_err(RowProblem::from).and_then(|mut fields| {
            let value = take(&mut fields)?;
            Ok(Row { line, value, metadata: fields })
        });
        let problem = match value {
            Ok(row) => return visit(Ok(row)),
            Err(RowProblem::Malformed(problem)) => problem.at(path, line),
            Err(RowProblem::BestOfN(shape)) => {
                failed = Some(Error::UnsupportedShape { path: path.to_owned(), line, shape });
                return ControlFlow::Break(());
            }
        };
        if options.strict {
            failed = Some(Error::Malformed(problem));
            return ControlFlow::Break(());
        }
        visit(Err(problem))
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(opened),
    }
}
