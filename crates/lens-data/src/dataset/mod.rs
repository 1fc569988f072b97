//! Preference pairs and rows to be scored, out of JSON lines, JSON arrays, CSV, TSV and Parquet.
//!
//! A row that cannot be read is never dropped without a word: it becomes a [`MalformedRow`] that
//! names file, line, field, what was expected and what was found.

mod arrow_blocks;
mod arrow_rows;
mod bounds;
mod columns;
mod content;
mod data_source;
mod delimited;
mod exchanges;
pub(crate) mod fingerprint;
mod frames;
mod guard;
mod json;
mod lines;
mod malformed;
mod pairs;
mod parquet_rows;
mod pieces;
mod ranked;
mod rated;
pub(crate) mod records;
mod repeated;
mod row;
mod source;
#[cfg(test)]
mod tests;
mod verdicts;
mod visit;
mod whole;

use lens_core::{Content, PreferencePair, Progress, Quiet};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use columns::{ColumnNames, ColumnUse};
pub use data_source::{DataSource, STANDARD_INPUT, ending, split_of};
pub use exchanges::ScoreRow;
pub use fingerprint::{Fingerprint, fingerprint, fingerprint_arrays, fingerprint_rows};
pub use malformed::{MAX_DESCRIBED, MalformedRows};
pub use pairs::{BestOfN, Shape};
pub use ranked::{Candidates, JudgedRow, JudgedSet, RankedRow, ScoredRow, group_by_prompt};
pub use row::{Place, Row};
pub use source::{Compression, Format};
pub use whole::{WholeRow, read_whole_rows_with};

use crate::error::{Error, MalformedRow};
use crate::prompts::content_key;
use bounds::Kept;
use pairs::{Judged, Reading};
use records::Fields;
use visit::{Collected, collect, nothing, visit_rows};

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
    /// Names of columns that the reader does not know by itself. Defaults to none.
    pub columns: ColumnNames,
    /// Whether pairs without a prompt are meant to have none. Defaults to `false`: a row with text in a
    /// column that nothing reads is malformed, and a pair with a blank prompt among others that have one
    /// is left out.
    pub no_prompt: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            strict: false,
            max_row_bytes: MAX_ROW_BYTES,
            columns: ColumnNames::default(),
            no_prompt: false,
        }
    }
}

impl ReadOptions {
    fn reading(&self) -> Reading<'_> {
        Reading { columns: &self.columns, no_prompt: self.no_prompt }
    }
}

/// What is known of a dataset as a whole, whatever its rows are.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The files, as their paths were found.
    pub files: Vec<PathBuf>,
    /// How the rows of the first file are laid out.
    pub format: Format,
    /// How the first file is compressed.
    pub compression: Compression,
    /// How each column was used, in the order in which they came.
    pub columns: Vec<ColumnUse>,
    /// How many rows were read, without blank lines. A row may give several pairs.
    pub rows: usize,
    /// In how many rows a column for the prompt stands, even a blank one.
    pub with_prompt_column: usize,
}

impl Layout {
    /// The order of places: file by file, and line by line in each.
    pub fn order(&self, place: &Place) -> (usize, u64, u32) {
        let is = |file: &&PathBuf| {
            place.file.as_deref().is_some_and(|name| file.as_path() == Path::new(name))
        };
        let file = self.files.iter().position(|file| is(&file)).unwrap_or(0);
        (file, place.line, place.part)
    }
}

/// The preference pairs of one file or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file, folder or pattern.
    pub path: PathBuf,
    /// The pairs, in the order of the rows. Never empty.
    pub pairs: Vec<Row<PreferencePair>>,
    /// The rows that are not pairs, in the order of the file.
    pub malformed: MalformedRows,
    /// How many pairs and malformed rows were read: without blank lines.
    pub read: usize,
    /// Files, format and columns.
    pub layout: Layout,
    /// In which shapes the pairs stood, and how many in each.
    pub shapes: BTreeMap<Shape, usize>,
    /// Whether pairs without a prompt are meant to have none.
    pub no_prompt: bool,
}

/// The rows of a file to be scored or embedded.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreSet {
    /// The file.
    pub path: PathBuf,
    /// The rows that can be scored, in the order of the file. Never empty.
    pub rows: Vec<Row<ScoreRow>>,
    /// The rows that cannot, in the order of the file.
    pub malformed: MalformedRows,
    /// How many rows were read, without blank lines.
    pub read: usize,
    /// Files, format and columns.
    pub layout: Layout,
}

/// The prompts of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptSet {
    /// The file.
    pub path: PathBuf,
    /// The rows with a prompt, in the order of the file. Never empty.
    pub rows: Vec<Row<Content>>,
    /// The rows without, in the order of the file.
    pub malformed: MalformedRows,
    /// How many rows were read, without blank lines.
    pub read: usize,
}

/// Reads the preference pairs of a file, or of several; see [`Shape`] for what a row may look like.
///
/// Malformed rows are collected unless [`ReadOptions::strict`] is set. A dataset without a single
/// pair is an error, and so is a row with several responses on both sides
/// ([`Error::UnsupportedShape`]).
pub fn read_pairs(input: impl Into<DataSource>, options: &ReadOptions) -> Result<Dataset, Error> {
    read_pairs_with(input, options, &Quiet)
}

/// As [`read_pairs`], with progress; [`Error::Cancelled`] where that is cancelled.
pub fn read_pairs_with(
    input: impl Into<DataSource>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Dataset, Error> {
    let input = input.into();
    let mut shapes = BTreeMap::new();
    let Collected { rows, mut malformed, layout } = collect(&input, options, progress, |fields| {
        Ok(match pairs::take_judged_pairs(fields, options.reading())? {
            Judged::Pairs(pairs, shape) => {
                *shapes.entry(shape).or_insert(0) += pairs.len();
                pairs.into_iter().map(Taken::Pair).collect()
            }
            Judged::Rating(row) => vec![Taken::Rating(row)],
        })
    })?;
    let mut pairs = Vec::with_capacity(rows.len());
    let mut ratings = Vec::new();
    for row in rows {
        let Row { line, file, part, value, metadata } = row;
        match value {
            Taken::Pair(value) => pairs.push(Row { line, file, part, value, metadata }),
            Taken::Rating(value) => ratings.push(Row { line, file, part, value, metadata }),
        }
    }
    if !ratings.is_empty() {
        let before = pairs.len();
        compare_rows(ratings, &input, &mut pairs, &mut malformed);
        if pairs.len() > before {
            shapes.insert(Shape::RatedRows, pairs.len() - before);
        }
        if pairs.is_empty() {
            return Err(nothing(&input, layout.rows, &malformed));
        }
    }
    if repeated::strip_from_pairs(pairs.iter_mut().map(|row| &mut row.value)) {
        let text = shapes.remove(&Shape::Text).unwrap_or(0);
        *shapes.entry(Shape::RepeatedPrompt).or_insert(0) += text;
    }
    let read = pairs.len() + malformed.len();
    let (path, no_prompt) = (input.name(), options.no_prompt);
    Ok(Dataset { path, pairs, malformed, read, layout, shapes, no_prompt })
}

/// A pair with the shape in which it stood.
pub(crate) type ShapedPair = (Row<PreferencePair>, Shape);

/// Hands over one pair after another with its shape, for datasets that need not fit into memory; the
/// caller keeps `kept_bytes` bytes of each. `None`
/// where that cannot be: pairs are told from several rows at once, and have to be read together.
pub(crate) fn visit_pairs(
    input: &DataSource,
    options: &ReadOptions,
    kept_bytes: u64,
    progress: &dyn Progress,
    visit: &mut dyn FnMut(Result<ShapedPair, MalformedRow>),
) -> Result<Option<Layout>, Error> {
    let (mut together, mut habit) = (false, repeated::Habit::default());
    let take = |fields: &mut Fields| {
        Ok(match pairs::take_judged_pairs(fields, options.reading())? {
            Judged::Pairs(pairs, shape) => {
                pairs.into_iter().map(|pair| Some((pair, shape))).collect()
            }
            Judged::Rating(_) => vec![None],
        })
    };
    let kept = Kept::Bytes(kept_bytes);
    let layout = visit_rows(input, options, kept, progress, take, &mut |row| {
        let row = match row {
            Ok(Row { line, file, part, value: Some((value, shape)), metadata }) => {
                habit.look_at(&value.prompt, [&value.chosen, &value.rejected]);
                Ok((Row { line, file, part, value, metadata }, shape))
            }
            Ok(_) => {
                together = true;
                return ControlFlow::Break(());
            }
            Err(row) => Err(row),
        };
        visit(row);
        ControlFlow::Continue(())
    })?;
    Ok((!together && !habit.is_one()).then_some(layout))
}

/// What a row gave: a pair, or a rating to be compared with those of other rows.
enum Taken {
    Pair(PreferencePair),
    Rating(ScoredRow),
}

/// Makes pairs of rated responses that stood in rows of their own. A response that no other one to its
/// prompt can be compared with is a malformed row. The line of a pair is that of its better response.
fn compare_rows(
    ratings: Vec<Row<ScoredRow>>,
    input: &DataSource,
    pairs: &mut Vec<Row<PreferencePair>>,
    malformed: &mut MalformedRows,
) {
    let mut groups: Vec<Vec<Row<ScoredRow>>> = Vec::new();
    let mut at: HashMap<i64, usize> = HashMap::new();
    for row in ratings {
        let next = groups.len();
        let known =
            content_key(&row.value.prompt).map_or(next, |key| *at.entry(key).or_insert(next));
        match groups.get_mut(known) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    for group in groups {
        let scores: Vec<f64> =
            group.iter().filter_map(|row| row.value.scores.first().copied()).collect();
        let compared = rated::compare_rows(&scores);
        let mut of_line: HashMap<usize, u32> = HashMap::new();
        for &(better, worse) in &compared {
            let (a, b) = (&group[better], &group[worse]);
            let (Some(chosen), Some(rejected)) =
                (a.value.responses.first(), b.value.responses.first())
            else {
                continue;
            };
            let part = of_line.entry(better).or_insert(0);
            let value = PreferencePair {
                prompt: a.value.prompt.clone(),
                chosen: chosen.clone(),
                rejected: rejected.clone(),
                margin: Some(scores[better] - scores[worse]),
                tie: false,
            };
            let (line, file, metadata) = (a.line, a.file.clone(), a.metadata.clone());
            pairs.push(Row { line, file, part: *part, value, metadata });
            *part += 1;
        }
        if compared.is_empty() {
            let alone = group.len() == 1;
            for row in &group {
                let file = row.file.as_deref().map_or(input.name(), PathBuf::from);
                malformed.push(rated::nothing_to_compare(alone).at(&file, row.line));
            }
        }
    }
    pairs.sort_by_cached_key(Row::place);
    malformed.sort();
}

/// Reads the rows of a file to be scored or embedded; see [`ScoreRow`] for what they may look like.
pub fn read_exchanges(
    input: impl Into<DataSource>,
    options: &ReadOptions,
) -> Result<ScoreSet, Error> {
    read_exchanges_with(input, options, &Quiet)
}

/// As [`read_exchanges`], with progress; [`Error::Cancelled`] where that is cancelled.
pub fn read_exchanges_with(
    input: impl Into<DataSource>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<ScoreSet, Error> {
    let input = input.into();
    let Collected { mut rows, malformed, layout } = collect(&input, options, progress, |fields| {
        exchanges::take_row(fields, options.reading())
    })?;
    repeated::strip_from_rows(rows.iter_mut().map(|row| &mut row.value));
    let read = rows.len() + malformed.len();
    Ok(ScoreSet { path: input.name(), rows, malformed, read, layout })
}

/// Reads the rows of a file to evaluate on; see [`JudgedRow`] for what they may look like. Malformed
/// rows are collected unless [`ReadOptions::strict`] is set. [`Error::Cancelled`] where `progress` is
/// cancelled.
pub fn read_judged_with(
    input: impl Into<DataSource>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<JudgedSet, Error> {
    let input = input.into();
    let mut shapes = BTreeMap::new();
    let Collected { mut rows, malformed, layout } = collect(&input, options, progress, |fields| {
        let (rows, shape) = ranked::take_judged(fields, options.reading())?;
        if let Some(shape) = shape {
            *shapes.entry(shape).or_insert(0) += rows.len();
        }
        Ok(rows)
    })?;
    let pairs = rows.iter_mut().filter_map(|row| match &mut row.value {
        JudgedRow::Pair(pair) => Some(pair),
        _ => None,
    });
    if repeated::strip_from_pairs(pairs) {
        let text = shapes.remove(&Shape::Text).unwrap_or(0);
        *shapes.entry(Shape::RepeatedPrompt).or_insert(0) += text;
    }
    let read = rows.len() + malformed.len();
    let (path, no_prompt) = (input.name(), options.no_prompt);
    Ok(JudgedSet { path, rows, malformed, read, layout, shapes, no_prompt })
}

/// Reads the prompt of every row: of a pair in any of its [`Shape`]s, or the column that holds one of
/// whatever else. A row without one, or with a blank one, is malformed. [`Error::Cancelled`] where
/// `progress` is cancelled.
pub fn read_prompts_with(
    input: impl Into<DataSource>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<PromptSet, Error> {
    let input = input.into();
    let Collected { rows, malformed, .. } = collect(&input, options, progress, |fields| {
        Ok(vec![exchanges::take_prompt(fields, options.reading())?])
    })?;
    let read = rows.len() + malformed.len();
    Ok(PromptSet { path: input.name(), rows, malformed, read })
}

/// As [`read_exchanges`], but hands over one row after another, for files that need not fit into
/// memory. `Break` ends the reading without an error. Returns how many rows were handed over.
pub fn visit_exchanges(
    input: impl Into<DataSource>,
    options: &ReadOptions,
    visit: &mut dyn FnMut(Result<Row<ScoreRow>, MalformedRow>) -> ControlFlow<()>,
) -> Result<usize, Error> {
    let input = input.into();
    let mut read = 0;
    let take = |fields: &mut Fields| exchanges::take_row(fields, options.reading());
    visit_rows(&input, options, Kept::Nothing, &Quiet, take, &mut |row| {
        read += 1;
        visit(row)
    })?;
    if read == 0 {
        return Err(Error::NoRows { path: input.name() });
    }
    Ok(read)
}
