//! From what was read to the pairs fit for training, with every omission counted and listed.
//!
//! Nothing leaves a dataset without a [`Reason`] and a line: at every stage
//! `read == used + left out`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use lens_core::{Content, PreferencePair};
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Row, fingerprint};

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
    /// What the encoder keeps of both sides is the same.
    EqualAfterTruncation,
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
    /// What exactly is the matter; may be empty where the reason says it all.
    pub detail: String,
}

/// What became of the rows of a dataset.
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

impl VetReport {
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
    /// In the order of the file.
    pub used: Vec<Row<PreferencePair>>,
    /// Every row that was read is accounted for here.
    pub report: VetReport,
}

/// Leaves out malformed rows, blank and identical sides, duplicates and contradictions.
///
/// A row is left out for the first reason that holds, in that order; so of a pair that stands
/// twice one way and once the other, the repetition is a duplicate and the rest a contradiction.
/// The sides of a tie have no order.
pub fn vet(dataset: Dataset) -> Vetted {
    let malformed = dataset.malformed.iter().map(|row| {
        let what = format!("{}: expected {}, found {}", row.field, row.expected, row.found);
        (row.line, Reason::Malformed, what)
    });
    let mut left_out: Vec<_> = malformed.collect();
    let mut sound = Vec::with_capacity(dataset.pairs.len());
    for (index, row) in dataset.pairs.iter().enumerate() {
        match fault(&row.value) {
            Some((reason, detail)) => left_out.push((row.line, reason, detail.to_owned())),
            None => sound.push(index),
        }
    }

    let pairs = &dataset.pairs;
    let mut first = FirstLines::default();
    sound.retain(|&index| {
        let Row { line, value: pair, .. } = &pairs[index];
        let earlier = first.enter(pair, *line);
        if let Some(earlier) = earlier {
            left_out.push((*line, Reason::Duplicate, format!("as line {earlier}")));
        }
        earlier.is_none()
    });
    sound.retain(|&index| {
        let Row { line, value: pair, .. } = &pairs[index];
        let against = first.against(pair);
        let sound = against.is_none();
        left_out.extend(against.map(|detail| (*line, Reason::Contradiction, detail)));
        sound
    });

    let keep: BTreeSet<usize> = sound.into_iter().collect();
    let used: Vec<_> = dataset
        .pairs
        .into_iter()
        .enumerate()
        .filter_map(|(index, row)| keep.contains(&index).then_some(row))
        .collect();
    let report = VetReport { read: dataset.read, used: used.len(), left_out: BTreeMap::new() };
    let mut vetted = Vetted { used, report };
    for (line, reason, detail) in left_out {
        vetted.report.left_out.entry(reason).or_default().push(LeftOut { line, detail });
    }
    for rows in vetted.report.left_out.values_mut() {
        rows.sort_by_key(|row| row.line);
    }
    vetted
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

    /// Which line says otherwise of the same two responses.
    fn against(&self, pair: &'a PreferencePair) -> Option<String> {
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
    /// Leaves out more rows, for a reason that only a later stage can find. Lines that are not
    /// (or no longer) used are passed over. Returns how many rows were left out.
    pub fn leave_out(&mut self, reason: Reason, rows: impl IntoIterator<Item = LeftOut>) -> usize {
        let mut details: HashMap<u64, String> =
            rows.into_iter().map(|row| (row.line, row.detail)).collect();
        let list = self.report.left_out.entry(reason).or_default();
        let before = self.used.len();
        self.used.retain(|row| match details.remove(&row.line) {
            Some(detail) => {
                list.push(LeftOut { line: row.line, detail });
                false
            }
            None => true,
        });
        list.sort_by_key(|row| row.line);
        if list.is_empty() {
            self.report.left_out.remove(&reason);
        }
        self.report.used = self.used.len();
        before - self.used.len()
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
/// Prompts are compared without the white space around them, and a single user message is the
/// same prompt as its text. Blank prompts are never shared.
pub fn shared_prompts(
    train: &[Row<PreferencePair>],
    heldout: &[Row<PreferencePair>],
) -> Vec<LeftOut> {
    let mut lines = HashMap::with_capacity(heldout.len());
    for row in heldout {
        lines.entry(Prompt::of(&row.value.prompt)).or_insert(row.line);
    }
    train
        .iter()
        .filter(|row| !row.value.prompt.is_blank())
        .filter_map(|row| {
            let other = lines.get(&Prompt::of(&row.value.prompt))?;
            let detail = format!("the prompt is that of line {other} of the held-out set");
            Some(LeftOut { line: row.line, detail })
        })
        .collect()
}

#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Prompt<'a> {
    Text(&'a str),
    Turns(Vec<(&'a str, &'a str)>),
}

impl Prompt<'_> {
    pub(crate) fn of(content: &Content) -> Prompt<'_> {
        match content {
            Content::Text(text) => Prompt::Text(text.trim()),
            Content::Messages(messages) => match messages.as_slice() {
                [only] if only.role == "user" => Prompt::Text(only.content.trim()),
                turns => {
                    Prompt::Turns(turns.iter().map(|t| (&*t.role, t.content.trim())).collect())
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
