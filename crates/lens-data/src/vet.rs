//! From what was read to the pairs fit for training, with every omission counted and listed.
//!
//! Nothing leaves a dataset without a [`Reason`] and a line: at every stage
//! `read == used + left out`.

mod decide;
mod survey;

pub use survey::{Survey, survey};

use crate::dataset::{Dataset, MalformedRows, Place, Row, fingerprint};
use crate::error::MalformedRow;
use crate::prompts::PromptKey;
use crate::turns::prompt_turns_key;
use decide::{Decided, Entry, Prompts, decide};
use lens_core::{PreferencePair, splits};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Why a row is not trained on. The names are stable: scripts read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The row could not be read as a pair.
    Malformed,
    /// Chosen or rejected is blank.
    EmptySide,
    /// Chosen and rejected are the same but for white space around them.
    IdenticalSides,
    /// The prompt is missing or blank, where other pairs of the dataset have one.
    NoPrompt,
    /// An earlier row compares the same two conversations with the same outcome, in whatever shape, white
    /// space around turns aside; of ties in either order. That one is kept.
    Duplicate,
    /// Another row prefers the other of the same two responses, or calls them a tie where this one
    /// does not; neither is kept.
    Contradiction,
    /// Both responses are as good: no order of them is right or wrong. Left out of evaluation only.
    Tie,
    /// The prompt also occurs in the held-out set.
    Overlap,
    /// The reward model that is trained further was trained on its prompt, so it cannot be held out.
    TrainedOn,
    /// The pair is longer than the encoder takes.
    TooLong,
    /// After shortening, both sides are the same tokens to the encoder.
    EqualAfterTruncation,
    /// Both sides are the same tokens to the encoder, whatever their length: the template leaves out
    /// what differs between them, or the tokenizer makes the same of it.
    EqualTokens,
    /// The template refuses one of the sides.
    TemplateRefused,
}

impl Reason {
    /// The stable name, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::EmptySide => "empty-side",
            Reason::IdenticalSides => "identical-sides",
            Reason::NoPrompt => "no-prompt",
            Reason::Duplicate => "duplicate",
            Reason::Contradiction => "contradiction",
            Reason::Tie => "tie",
            Reason::Overlap => "overlap",
            Reason::TrainedOn => "trained-on",
            Reason::TooLong => "too-long",
            Reason::EqualAfterTruncation => "equal-after-truncation",
            Reason::EqualTokens => "equal-tokens",
            Reason::TemplateRefused => "template-refused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A row that is not trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its line.
    pub line: u64,
    /// Its file, where the dataset has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Arc<str>>,
    /// Which of the pairs of its line it is, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u32,
    /// The details; may be empty where the reason says it all.
    pub detail: String,
}

fn is_first(part: &u32) -> bool {
    *part == 0
}

impl LeftOut {
    /// What stands on a line of a dataset of one file, alone.
    pub fn on_line(line: u64, detail: impl Into<String>) -> LeftOut {
        LeftOut { line, file: None, part: 0, detail: detail.into() }
    }

    /// What stands at a place.
    pub fn at(place: Place, detail: impl Into<String>) -> LeftOut {
        let Place { file, line, part } = place;
        LeftOut { line, file, part, detail: detail.into() }
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line, part: self.part }
    }

    /// The line, behind the name of its file where there are several.
    pub fn line_in_words(&self) -> String {
        self.place().to_string()
    }

    /// A row that could not be read.
    fn malformed(row: &MalformedRow, several: bool) -> LeftOut {
        let MalformedRow { line, field, expected, found, file } = row;
        let detail = format!("{field}: expected {expected}, found {found}");
        let file = several.then(|| file.display().to_string().into());
        LeftOut { line: *line, file, part: 0, detail }
    }
}

/// The rows of a dataset: how many are used, and which are left out for which reason.
///
/// As JSON: `{"read": 5, "used": 3, "left_out": {"duplicate": 2}, "lines": {"duplicate":
/// [{"line": 2, "detail": "as line 1"}, ..]}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReportJson", into = "ReportJson")]
pub struct VetReport {
    /// Rows in the file.
    pub read: usize,
    /// Rows to train on.
    pub used: usize,
    /// The other rows, by reason, each list in the order of the lines: all of them, but of malformed
    /// rows the first [`MAX_DESCRIBED`](crate::dataset::MAX_DESCRIBED).
    pub left_out: BTreeMap<Reason, Vec<LeftOut>>,
    /// How many malformed rows are not in the list.
    pub unlisted: usize,
}

impl VetReport {
    /// The report of a set of `read` rows that are all used.
    pub fn all_used(read: usize) -> VetReport {
        VetReport { read, used: read, left_out: BTreeMap::new(), unlisted: 0 }
    }

    /// The report of a set of which `used` rows are used, and the malformed ones are left out.
    pub fn all_but_malformed(
        used: usize,
        malformed: &MalformedRows,
        several_files: bool,
    ) -> VetReport {
        VetReport::new(used, malformed, several_files, BTreeMap::new())
    }

    /// The report of `pairs` pairs, of which some are left out, and of malformed rows.
    pub(crate) fn new(
        pairs: usize,
        malformed: &MalformedRows,
        several: bool,
        left_out: BTreeMap<Reason, Vec<LeftOut>>,
    ) -> VetReport {
        let mut report = VetReport::all_used(pairs + malformed.len());
        report.unlisted = malformed.undescribed();
        report.used -= report.unlisted;
        let described = malformed.described().iter();
        let described = described.map(|row| LeftOut::malformed(row, several)).collect();
        report.leave_out(Reason::Malformed, described);
        for (reason, rows) in left_out {
            report.leave_out(reason, rows);
        }
        report
    }

    /// Moves rows from those used to those left out.
    pub fn leave_out(&mut self, reason: Reason, rows: Vec<LeftOut>) {
        if rows.is_empty() {
            return;
        }
        self.used -= rows.len();
        let list = self.left_out.entry(reason).or_default();
        list.extend(rows);
        list.sort_by_cached_key(LeftOut::place);
    }

    /// The number of rows left out for each reason, by its name.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.left_out.keys().map(|&reason| (reason.to_string(), self.count(reason))).collect()
    }

    /// The number of rows left out for a reason, listed or not.
    pub fn count(&self, reason: Reason) -> usize {
        let unlisted = if reason == Reason::Malformed { self.unlisted } else { 0 };
        self.left_out.get(&reason).map_or(0, Vec::len) + unlisted
    }

    /// `3 duplicate, 1 malformed`, or `none`.
    pub fn summary(&self) -> String {
        let counted = |&reason: &Reason| format!("{} {reason}", self.count(reason));
        let parts: Vec<String> = self.left_out.keys().map(counted).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    /// Every row left out that is listed, with its reason: by reason, then in the order of the lines.
    pub fn rows_left_out(&self) -> impl Iterator<Item = (Reason, &LeftOut)> {
        self.left_out.iter().flat_map(|(reason, rows)| rows.iter().map(move |row| (*reason, row)))
    }

    /// How many rows were left out, for any reason.
    pub fn left_out_total(&self) -> usize {
        self.left_out.values().map(Vec::len).sum::<usize>() + self.unlisted
    }
}

#[derive(Serialize, Deserialize)]
struct ReportJson {
    read: usize,
    used: usize,
    left_out: BTreeMap<Reason, usize>,
    lines: BTreeMap<Reason, Vec<LeftOut>>,
}

impl From<VetReport> for ReportJson {
    fn from(report: VetReport) -> Self {
        let left_out =
            report.left_out.keys().map(|&reason| (reason, report.count(reason))).collect();
        let VetReport { read, used, left_out: lines, .. } = report;
        ReportJson { read, used, left_out, lines }
    }
}

impl From<ReportJson> for VetReport {
    fn from(json: ReportJson) -> Self {
        let ReportJson { read, used, left_out, lines } = json;
        let malformed = left_out.get(&Reason::Malformed).copied().unwrap_or(0);
        let listed = lines.get(&Reason::Malformed).map_or(0, Vec::len);
        VetReport { read, used, left_out: lines, unlisted: malformed.saturating_sub(listed) }
    }
}

/// The pairs fit for training, and what became of the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Vetted {
    /// The pairs in the order of the file. Their number and order change by the functions of this
    /// type only, which keep `report` and the keys of the prompts in step.
    pub used: Vec<Row<PreferencePair>>,
    /// Every row that was read is accounted for here.
    pub report: VetReport,
    /// The key of the prompt of each pair.
    keys: Vec<PromptKey>,
}

/// Leaves out malformed rows, blank and identical sides, missing prompts, duplicates and contradictions.
///
/// A row is left out for the first reason that holds, in that order; so of a pair that stands
/// twice one way and once the other, the repetition is a duplicate and the rest a contradiction.
/// The sides of a tie have no order.
pub fn vet(dataset: Dataset) -> Vetted {
    let several = dataset.layout.files.len() > 1;
    let entries: Vec<Entry> = dataset.pairs.par_iter().map(Entry::of).collect();
    let prompts = Prompts::wanted(&entries, dataset.layout.with_prompt_column, dataset.no_prompt);
    let Decided { keep, left_out } = decide(&entries, prompts);
    let pairs = dataset.pairs.into_iter().zip(keep);
    let used: Vec<_> = pairs.filter_map(|(row, keep)| keep.then_some(row)).collect();
    let report = VetReport::new(entries.len(), &dataset.malformed, several, left_out);
    Vetted::new(used, report)
}

impl Vetted {
    /// Pairs that were judged elsewhere, with the report of their file.
    pub fn new(used: Vec<Row<PreferencePair>>, report: VetReport) -> Vetted {
        let keys = used.par_iter().map(|row| PromptKey::of_pair(&row.value)).collect();
        Vetted { used, report, keys }
    }

    /// Leaves out more rows, for a reason that only a later stage can find. Lines that are not
    /// (or no longer) used are passed over. Returns how many rows were left out.
    pub fn leave_out(&mut self, reason: Reason, rows: impl IntoIterator<Item = LeftOut>) -> usize {
        let mut details: HashMap<Place, String> =
            rows.into_iter().map(|row| (row.place(), row.detail)).collect();
        let mut left_out = Vec::new();
        let mut keys = std::mem::take(&mut self.keys).into_iter();
        self.used.retain(|row| {
            let key = keys.next();
            let place = row.place();
            match details.remove(&place) {
                Some(detail) => {
                    left_out.push(LeftOut::at(place, detail));
                    false
                }
                None => {
                    self.keys.extend(key);
                    true
                }
            }
        });
        let count = left_out.len();
        self.report.leave_out(reason, left_out);
        count
    }

    /// The [`prompt_key`](crate::prompts::prompt_key) of each used pair.
    pub fn prompt_keys(&self) -> impl ExactSizeIterator<Item = i64> {
        self.keys.iter().map(|k| k.key)
    }

    /// The [`prompt_numbers`](crate::prompts::prompt_numbers) of the used pairs.
    pub fn prompt_numbers(&self) -> Vec<u32> {
        PromptKey::numbers(&self.keys)
    }

    /// The number of distinct prompts of the used pairs.
    pub fn prompt_count(&self) -> usize {
        self.prompt_numbers().into_iter().max().map_or(0, |last| last as usize + 1)
    }

    /// Moves a share of the prompts, drawn with `seed`, to a held-out set; returns what is left and
    /// what is held out. Only prompts for whose key `may_be_held_out` says so are drawn. Both reports
    /// together are that of the file: rows that were left out stay with the first set.
    pub fn hold_out(
        mut self,
        share: f64,
        seed: u64,
        may_be_held_out: impl Fn(i64) -> bool,
    ) -> (Vetted, Vetted) {
        let candidate: Vec<bool> = self.prompt_keys().map(may_be_held_out).collect();
        let numbers = self.prompt_numbers();
        let candidates: Vec<u32> =
            numbers.iter().zip(&candidate).filter(|(_, may)| **may).map(|(&n, _)| n).collect();
        let mut drawn = splits::hold_out(&candidates, share, seed).into_iter();
        let held_out = candidate.into_iter().map(|may| may && drawn.next() == Some(true));
        let rows = std::mem::take(&mut self.used).into_iter().zip(std::mem::take(&mut self.keys));
        let mut held =
            Vetted { used: Vec::new(), report: VetReport::all_used(0), keys: Vec::new() };
        for ((row, key), held_out) in rows.zip(held_out) {
            let set = if held_out { &mut held } else { &mut self };
            set.used.push(row);
            set.keys.push(key);
        }
        held.report = VetReport::all_used(held.used.len());
        self.report.read -= held.used.len();
        self.report.used = self.used.len();
        (self, held)
    }

    /// Leaves out ties, for evaluation. Returns how many there were.
    pub fn leave_out_ties(&mut self) -> usize {
        let ties = self.used.iter().filter(|row| row.value.tie);
        let ties: Vec<LeftOut> = ties.map(|row| LeftOut::at(row.place(), "")).collect();
        self.leave_out(Reason::Tie, ties)
    }

    /// The [`fingerprint`] of the used pairs.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.used.iter().map(|row| &row.value))
    }
}

/// The training rows whose prompt also occurs in a held-out set, each with a held-out line. The
/// result can be counted, or handed to [`Vetted::leave_out`] with [`Reason::Overlap`].
///
/// Prompts are the same where their turns are, in whatever shape, white space around them aside. Blank
/// prompts are never shared.
pub fn shared_prompts(train: &Vetted, heldout: &Vetted) -> Vec<LeftOut> {
    let keys = |set: &Vetted| -> Vec<Option<u128>> {
        set.used.par_iter().map(|row| prompt_turns_key(&row.value.prompt)).collect()
    };
    let mut places = HashMap::with_capacity(heldout.used.len());
    for (key, row) in keys(heldout).into_iter().zip(&heldout.used) {
        if let Some(key) = key {
            places.entry(key).or_insert_with(|| row.place());
        }
    }
    let shared = |(key, row): (Option<u128>, &Row<PreferencePair>)| {
        let other = places.get(&key?)?;
        let detail = format!("the prompt is that of line {other} of the held-out set");
        Some(LeftOut::at(row.place(), detail))
    };
    keys(train).into_iter().zip(&train.used).filter_map(shared).collect()
}

#[cfg(test)]
mod tests;
