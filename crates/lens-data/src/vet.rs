//! From what was read to the pairs fit for training, with every omission counted and listed.
//!
//! Nothing leaves a dataset without a [`Reason`] and a line: at every stage
//! `read == used + left out`.

use crate::dataset::{Dataset, Row, fingerprint};
use crate::error::MalformedRow;
use crate::prompts::PromptKey;
use lens_core::{Content, PreferencePair, splits};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

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
    /// An earlier row has the same prompt, chosen and rejected, of ties in either order; that one is
    /// kept.
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
    /// The details; may be empty where the reason says it all.
    pub detail: String,
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
    /// The other rows, by reason, each list in the order of the lines.
    pub left_out: BTreeMap<Reason, Vec<LeftOut>>,
}

impl LeftOut {
    /// A row that could not be read.
    fn malformed(row: &MalformedRow) -> LeftOut {
        let MalformedRow { line, field, expected, found, .. } = row;
        let detail = format!("{field}: expected {expected}, found {found}");
        LeftOut { line: *line, detail }
    }
}

impl VetReport {
    /// The report of a set of `read` rows that are all used.
    pub fn all_used(read: usize) -> VetReport {
        VetReport { read, used: read, left_out: BTreeMap::new() }
    }

    /// The report of a set of which `used` rows are used, and the malformed ones are left out.
    pub fn all_but_malformed(used: usize, malformed: &[MalformedRow]) -> VetReport {
        let mut report = VetReport::all_used(used + malformed.len());
        report.leave_out(Reason::Malformed, malformed.iter().map(LeftOut::malformed).collect());
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
        list.sort_by_key(|row| row.line);
    }

    /// The number of rows left out for each reason, by its name.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.left_out.iter().map(|(reason, rows)| (reason.to_string(), rows.len())).collect()
    }

    /// `3 duplicate, 1 malformed`, or `none`.
    pub fn summary(&self) -> String {
        let counted = |(reason, rows): (&Reason, &Vec<LeftOut>)| format!("{} {reason}", rows.len());
        let parts: Vec<String> = self.left_out.iter().map(counted).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    /// Every row left out with its reason: by reason, then in the order of the lines.
    pub fn rows_left_out(&self) -> impl Iterator<Item = (Reason, &LeftOut)> {
        self.left_out.iter().flat_map(|(reason, rows)| rows.iter().map(move |row| (*reason, row)))
    }

    /// How many rows were left out, for any reason.
    pub fn left_out_total(&self) -> usize {
        self.left_out.values().map(Vec::len).sum()
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
        let VetReport { read, used, left_out: lines } = report;
        let left_out = lines.iter().map(|(reason, rows)| (*reason, rows.len())).collect();
        ReportJson { read, used, left_out, lines }
    }
}

impl From<ReportJson> for VetReport {
    fn from(json: ReportJson) -> Self {
        VetReport { read: json.read, used: json.used, left_out: json.lines }
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

/// Leaves out malformed rows, blank and identical sides, duplicates and contradictions.
///
/// A row is left out for the first reason that holds, in that order; so of a pair that stands
/// twice one way and once the other, the repetition is a duplicate and the rest a contradiction.
/// The sides of a tie have no order.
pub fn vet(dataset: Dataset) -> Vetted {
    let mut left_out: BTreeMap<Reason, Vec<LeftOut>> = BTreeMap::new();
    let mut leave_out = |reason: Reason, line: u64, detail: String| {
        left_out.entry(reason).or_default().push(LeftOut { line, detail });
    };
    let mut kept = Vec::with_capacity(dataset.pairs.len());
    for (index, row) in dataset.pairs.iter().enumerate() {
        match fault(&row.value) {
            Some((reason, detail)) => leave_out(reason, row.line, detail.to_owned()),
            None => kept.push(index),
        }
    }

    let pairs = &dataset.pairs;
    let mut first = FirstLines::default();
    kept.retain(|&index| {
        let Row { line, value: pair, .. } = &pairs[index];
        let earlier = first.enter(pair, *line);
        if let Some(earlier) = earlier {
            leave_out(Reason::Duplicate, *line, format!("as line {earlier}"));
        }
        earlier.is_none()
    });
    kept.retain(|&index| {
        let Row { line, value: pair, .. } = &pairs[index];
        let contradiction = first.contradiction(pair);
        let agrees = contradiction.is_none();
        if let Some(detail) = contradiction {
            leave_out(Reason::Contradiction, *line, detail);
        }
        agrees
    });

    let rows = dataset.pairs.len();
    let keep: BTreeSet<usize> = kept.into_iter().collect();
    let used: Vec<_> = dataset
        .pairs
        .into_iter()
        .enumerate()
        .filter_map(|(index, row)| keep.contains(&index).then_some(row))
        .collect();
    let mut report = VetReport::all_but_malformed(rows, &dataset.malformed);
    report.read = dataset.read;
    for (reason, rows) in left_out {
        report.leave_out(reason, rows);
    }
    Vetted::new(used, report)
}

/// Where each judgement stands first.
#[derive(Default)]
struct FirstLines<'a> {
    decided: HashMap<[&'a Content; 3], u64>,
    ties: HashMap<[&'a Content; 3], u64>,
}

impl<'a> FirstLines<'a> {
    /// Enters a judgement, unless it stands on an earlier line, which is returned.
    fn enter(&mut self, pair: &'a PreferencePair, line: u64) -> Option<u64> {
        let known = if pair.tie { self.tie(pair) } else { self.decided.get(&given(pair)).copied() };
        if known.is_none() {
            let lines = if pair.tie { &mut self.ties } else { &mut self.decided };
            lines.insert(given(pair), line);
        }
        known
    }

    fn tie(&self, pair: &'a PreferencePair) -> Option<u64> {
        self.ties.get(&given(pair)).or_else(|| self.ties.get(&swapped(pair))).copied()
    }

    /// The line that says otherwise of the same two responses, in words.
    fn contradiction(&self, pair: &'a PreferencePair) -> Option<String> {
        let other_way = self.decided.get(&swapped(pair));
        if pair.tie {
            let line = self.decided.get(&given(pair)).or(other_way)?;
            return Some(format!("line {line} prefers one of the two"));
        }
        let reversed = other_way.map(|line| format!("line {line} has the sides swapped"));
        reversed.or_else(|| Some(format!("line {} calls the two a tie", self.tie(pair)?)))
    }
}

fn given(pair: &PreferencePair) -> [&Content; 3] {
    [&pair.prompt, &pair.chosen, &pair.rejected]
}

fn swapped(pair: &PreferencePair) -> [&Content; 3] {
    [&pair.prompt, &pair.rejected, &pair.chosen]
}

fn fault(pair: &PreferencePair) -> Option<(Reason, &'static str)> {
    match (pair.chosen.is_blank(), pair.rejected.is_blank()) {
        (true, true) => Some((Reason::EmptySide, "chosen and rejected are blank")),
        (true, false) => Some((Reason::EmptySide, "chosen is blank")),
        (false, true) => Some((Reason::EmptySide, "rejected is blank")),
        (false, false) if same_but_for_space(&pair.chosen, &pair.rejected) => {
            Some((Reason::IdenticalSides, "chosen and rejected are the same"))
        }
        (false, false) => None,
    }
}

fn same_but_for_space(a: &Content, b: &Content) -> bool {
    match (a, b) {
        (Content::Text(a), Content::Text(b)) => a.trim() == b.trim(),
        (Content::Messages(a), Content::Messages(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.role == b.role && a.content.trim() == b.content.trim())
        }
        _ => false,
    }
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
        let mut details: HashMap<u64, String> =
            rows.into_iter().map(|row| (row.line, row.detail)).collect();
        let mut left_out = Vec::new();
        let mut keys = std::mem::take(&mut self.keys).into_iter();
        self.used.retain(|row| {
            let key = keys.next();
            match details.remove(&row.line) {
                Some(detail) => {
                    left_out.push(LeftOut { line: row.line, detail });
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
        let ties: Vec<LeftOut> =
            ties.map(|row| LeftOut { line: row.line, detail: String::new() }).collect();
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
/// Prompts are the same where their [`prompt_key`](crate::prompts::prompt_key)s are. Blank prompts
/// are never shared.
pub fn shared_prompts(train: &Vetted, heldout: &Vetted) -> Vec<LeftOut> {
    let prompts = |set: &Vetted| -> Vec<(i64, u64)> {
        let keyed = set.keys.iter().zip(&set.used).filter(|(key, _)| !key.blank);
        keyed.map(|(key, row)| (key.key, row.line)).collect()
    };
    let mut lines = HashMap::with_capacity(heldout.used.len());
    for (key, line) in prompts(heldout) {
        lines.entry(key).or_insert(line);
    }
    let shared = |(key, line): (i64, u64)| {
        let other = lines.get(&key)?;
        let detail = format!("the prompt is that of line {other} of the held-out set");
        Some(LeftOut { line, detail })
    };
    prompts(train).into_iter().filter_map(shared).collect()
}

#[cfg(test)]
mod tests;
