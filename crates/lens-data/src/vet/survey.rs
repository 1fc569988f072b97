//! What vetting finds in a dataset that need not fit into memory: of each pair a few bytes are kept.

use super::decide::{Decided, Entry, Prompts, decide};
use super::{VetReport, vet};
use crate::dataset::{
    DataSource, Dataset, Fingerprint, Layout, MalformedRows, ReadOptions, Row, STANDARD_INPUT,
    Shape, read_pairs_with, visit_pairs,
};
use crate::error::Error;
use crate::labels::LabelCounts;
use lens_core::{Label, PreferencePair, Progress};
use std::collections::BTreeMap;

/// Bytes that are kept of a pair, about.
const ENTRY_BYTES: u64 = 256;

/// A dataset of pairs, described.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Files, format and columns.
    pub layout: Layout,
    /// In which shapes the pairs stood, and how many in each.
    pub shapes: BTreeMap<Shape, usize>,
    /// What became of the pairs.
    pub report: VetReport,
    /// Ties and margins of the used pairs.
    pub labels: LabelCounts,
    /// Lengths of chosen and rejected of the used pairs, in characters.
    pub lengths: Vec<(usize, usize)>,
    /// The [`fingerprint`](crate::fingerprint) of the used pairs.
    pub fingerprint: String,
}

/// Describes a dataset as [`vet()`] would vet it. It is read twice, row by row; only a pipe, and pairs that
/// are told from several rows at once (a rated response a row, prompts that all responses repeat), are
/// held in memory.
///
/// # Errors
/// As [`read_pairs_with`].
pub fn survey(
    input: &DataSource,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Survey, Error> {
    if !can_be_read_twice(input)? {
        return Ok(Survey::in_memory(read_pairs_with(input, options, progress)?));
    }
    let mut entries = Vec::new();
    let mut malformed = MalformedRows::default();
    let mut shapes = BTreeMap::new();
    let layout = visit_pairs(input, options, ENTRY_BYTES, progress, &mut |row| match row {
        Ok((row, shape)) => {
            *shapes.entry(shape).or_insert(0) += 1;
            entries.push(Entry::of(&row));
        }
        Err(row) => malformed.push(row),
    })?;
    let Some(layout) = layout else {
        return Ok(Survey::in_memory(read_pairs_with(input, options, progress)?));
    };
    if entries.is_empty() {
        // The error is that of reading.
        read_pairs_with(input, options, progress)?;
    }
    let prompts = Prompts::wanted(&entries, layout.with_prompt_column, options.no_prompt);
    let Decided { keep, left_out } = decide(&entries, prompts);
    let report = VetReport::new(entries.len(), &malformed, layout.files.len() > 1, left_out);
    drop(entries);
    let mut found = Found::default();
    let mut keep = keep.into_iter();
    visit_pairs(input, options, 0, progress, &mut |row| {
        if let Ok((row, _)) = row
            && keep.next() == Some(true)
        {
            found.add(&row);
        }
    })?;
    Ok(found.into_survey(layout, shapes, report))
}

/// Whether all parts are files; standard input is kept while it is read, and a pipe flows once.
fn can_be_read_twice(input: &DataSource) -> Result<bool, Error> {
    let files = input.files()?;
    Ok(files
        .iter()
        .all(|file| file.as_os_str() == STANDARD_INPUT || file.is_file() || !file.exists()))
}

impl Survey {
    fn in_memory(data: Dataset) -> Survey {
        let (layout, shapes) = (data.layout.clone(), data.shapes.clone());
        let vetted = vet(data);
        let mut found = Found::default();
        vetted.used.iter().for_each(|row| found.add(row));
        found.into_survey(layout, shapes, vetted.report)
    }
}

/// What is gathered of the used pairs.
#[derive(Default)]
struct Found {
    labels: Vec<Label>,
    lengths: Vec<(usize, usize)>,
    fingerprint: Fingerprint,
}

impl Found {
    fn add(&mut self, row: &Row<PreferencePair>) {
        let pair = &row.value;
        self.labels.push(pair.label());
        self.lengths.push((pair.chosen.chars(), pair.rejected.chars()));
        self.fingerprint.add(pair);
    }

    fn into_survey(
        self,
        layout: Layout,
        shapes: BTreeMap<Shape, usize>,
        report: VetReport,
    ) -> Survey {
        let Found { labels, lengths, fingerprint } = self;
        let labels = LabelCounts::count(labels.into_iter());
        let fingerprint = fingerprint.finish();
        Survey { layout, shapes, report, labels, lengths, fingerprint }
    }
}
