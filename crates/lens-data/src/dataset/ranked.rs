//! Rows to evaluate on: pairs, several responses a side (RewardBench 2, RM-Bench), and responses
//! with scores (best-of-n).

use super::MalformedRows;
use super::content::{content, describe, missing, number, take_content};
use super::exchanges::without_repetition;
use super::pairs::{BestOfN, Judged, Reading, RowProblem, Shape, take_judged_pairs};
use super::records::Fields;
use super::{ColumnNames, Dataset, Layout, Row};
use crate::error::{Problem, WHOLE_ROW};
use crate::prompts::content_key;
use lens_core::{Content, PreferencePair};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// One row of a file to evaluate on.
#[derive(Debug, Clone, PartialEq)]
pub enum JudgedRow {
    /// One response a side, in every shape that [`read_pairs`](super::read_pairs) reads.
    Pair(PreferencePair),
    /// Lists of responses on both sides.
    Ranked(RankedRow),
    /// Responses with a score each.
    Scored(ScoredRow),
}

impl JudgedRow {
    /// The pair, if it is one.
    pub fn into_pair(self) -> Option<PreferencePair> {
        match self {
            JudgedRow::Pair(pair) => Some(pair),
            _ => None,
        }
    }

    /// The lists of responses, if it is some.
    pub fn into_ranked(self) -> Option<RankedRow> {
        match self {
            JudgedRow::Ranked(row) => Some(row),
            _ => None,
        }
    }

    /// The scored responses, if it is some.
    pub fn into_scored(self) -> Option<ScoredRow> {
        match self {
            JudgedRow::Scored(row) => Some(row),
            _ => None,
        }
    }

    /// The prompt.
    pub fn prompt(&self) -> &Content {
        match self {
            JudgedRow::Pair(pair) => &pair.prompt,
            JudgedRow::Ranked(row) => &row.prompt,
            JudgedRow::Scored(row) => &row.prompt,
        }
    }
}

/// Right and wrong responses to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedRow {
    /// Whose shape it is.
    pub shape: BestOfN,
    /// The prompt.
    pub prompt: Content,
    /// The right ones, at least one; in RM-Bench three: concise, detailed, with markdown.
    pub chosen: Vec<Content>,
    /// The wrong ones, at least one; in RM-Bench three, as the right ones.
    pub rejected: Vec<Content>,
}

/// Responses to one prompt, each with the score of a judge: `prompt, responses, scores`, or one
/// of them: `prompt, response, score`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRow {
    /// The prompt.
    pub prompt: Content,
    /// The responses, at least one.
    pub responses: Vec<Content>,
    /// The judge's score of each, finite, higher is better.
    pub scores: Vec<f64>,
}

/// The rows of a file to evaluate on.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedSet {
    /// The file.
    pub path: PathBuf,
    /// The rows that can be read, in the order of the file. Never empty.
    pub rows: Vec<Row<JudgedRow>>,
    /// The rows that cannot, in the order of the file.
    pub malformed: MalformedRows,
    /// How many of them and of malformed rows were read, without blank lines.
    pub read: usize,
    /// Files, format and columns.
    pub layout: Layout,
    /// In which shapes the pairs among them stood, and how many in each.
    pub shapes: BTreeMap<Shape, usize>,
    /// Whether pairs without a prompt are meant to have none.
    pub no_prompt: bool,
}

impl JudgedSet {
    /// The pairs among the rows, to be vetted; other rows are not in it, nor counted as read.
    pub fn into_pairs(self) -> Dataset {
        let others =
            self.rows.iter().filter(|row| !matches!(row.value, JudgedRow::Pair(_))).count();
        let pairs = self.rows.into_iter().filter_map(|row| row.filter_map(JudgedRow::into_pair));
        Dataset {
            pairs: pairs.collect(),
            path: self.path,
            malformed: self.malformed,
            read: self.read - others,
            layout: self.layout,
            shapes: self.shapes,
            no_prompt: self.no_prompt,
        }
    }
}

/// All scored responses to one prompt, from one row or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// The line of the first row with this prompt.
    pub line: u64,
    /// How many rows they stood in.
    pub rows: usize,
    /// The prompt.
    pub prompt: Content,
    /// The responses, in the order of the file.
    pub responses: Vec<Content>,
    /// The judge's score of each.
    pub scores: Vec<f64>,
    /// The other columns of the first row.
    pub metadata: Fields,
}

/// Brings the responses to one prompt together. Prompts are compared without the white space around
/// them, and a single user message is the same prompt as its text; every blank prompt is one of its
/// own. Equal responses stay as often as they stand there: a sampler may well have drawn them twice.
pub fn group_by_prompt(rows: impl IntoIterator<Item = Row<ScoredRow>>) -> Vec<Candidates> {
    let mut at: HashMap<i64, usize> = HashMap::new();
    let mut groups: Vec<Candidates> = Vec::new();
    for Row { line, value, metadata, .. } in rows {
        let next = groups.len();
        let index = content_key(&value.prompt).map_or(next, |key| *at.entry(key).or_insert(next));
        match groups.get_mut(index) {
            Some(group) => {
                group.rows += 1;
                group.responses.extend(value.responses);
                group.scores.extend(value.scores);
            }
            None => {
                let ScoredRow { prompt, responses, scores } = value;
                groups.push(Candidates { line, rows: 1, prompt, responses, scores, metadata });
            }
        }
    }
    groups
}

const EXPECTED: &str = "chosen with rejected (one or lists), prompt with response and score, or prompt with responses \
     and scores";

/// Reads a row: lists on both sides, `chosen` and `rejected`, `responses` with `scores`, `response` with
/// `score`, or any other shape of pairs. What stays in `fields` is metadata.
pub(crate) fn take_judged(
    fields: &mut Fields,
    reading: Reading<'_>,
) -> Result<(Vec<JudgedRow>, Option<Shape>), RowProblem> {
    reading.columns.apply(fields)?;
    if let Some(shape) = lists(fields) {
        return Ok((vec![JudgedRow::Ranked(take_ranked_lists(fields, shape)?)], None));
    }
    let has = |name| fields.contains_key(name);
    let sides = has("chosen") || has("rejected");
    if !sides && has("responses") && has("scores") {
        let prompt = take_content(fields, "prompt")?;
        let responses = take_list(fields, "responses")?;
        let scores = take_scores(fields, responses.len())?;
        let (prompt, responses) = without_repetition(prompt, responses);
        return Ok((vec![JudgedRow::Scored(ScoredRow { prompt, responses, scores })], None));
    }
    if !sides && has("response") && has("score") {
        let prompt = take_content(fields, "prompt")?;
        let response = take_content(fields, "response")?;
        let scores = vec![take_score(fields)?];
        let (prompt, responses) = without_repetition(prompt, vec![response]);
        return Ok((vec![JudgedRow::Scored(ScoredRow { prompt, responses, scores })], None));
    }
    let before = fields.clone();
    let known = Reading { columns: &ColumnNames::default(), ..reading };
    match take_judged_pairs(fields, known) {
        Ok(Judged::Pairs(pairs, shape)) => {
            Ok((pairs.into_iter().map(JudgedRow::Pair).collect(), Some(shape)))
        }
        Ok(Judged::Rating(row)) => Ok((vec![JudgedRow::Scored(row)], None)),
        Err(RowProblem::BestOfN(BestOfN::Responses)) => {
            let n = before.get("responses").and_then(Value::as_array).map_or(0, Vec::len);
            Err(missing("scores", &scores_of(n), &before).into())
        }
        Err(RowProblem::Malformed(problem)) if !sides && problem.field == "chosen" => {
            Err(match before.contains_key("response") {
                true => missing("score", "a finite number", &before),
                false => missing(WHOLE_ROW, EXPECTED, &before),
            }
            .into())
        }
        Err(problem) => Err(problem),
    }
}

/// What is expected of a column of scores.
fn scores_of(responses: usize) -> String {
    format!("a list of {responses} scores, one for each response")
}

/// Whether a side is a list of responses, and in whose shape. (A list of objects is one response of
/// several messages.)
fn lists(fields: &Fields) -> Option<BestOfN> {
    let length = |name| match fields.get(name) {
        Some(Value::Array(items)) if !items.is_empty() => {
            let list = items.iter().all(|item| item.is_string() || item.is_array());
            list.then_some(items.len())
        }
        _ => None,
    };
    match (length("chosen"), length("rejected")) {
        (None, None) => None,
        _ if fields.contains_key("num_correct") || fields.contains_key("total_completions") => {
            Some(BestOfN::RewardBench2)
        }
        (Some(3), Some(3)) if fields.contains_key("domain") => Some(BestOfN::RmBench),
        _ => Some(BestOfN::Lists),
    }
}

fn take_ranked_lists(fields: &mut Fields, shape: BestOfN) -> Result<RankedRow, Problem> {
    let prompt = take_content(fields, "prompt")?;
    let mut chosen = take_list(fields, "chosen")?;
    let rejected = take_list(fields, "rejected")?;
    let split = chosen.len();
    chosen.extend(rejected);
    let (prompt, mut chosen) = without_repetition(prompt, chosen);
    let rejected = chosen.split_off(split);
    Ok(RankedRow { shape, prompt, chosen, rejected })
}

/// A list of responses that must be there and have something in it.
pub(super) fn take_list(fields: &mut Fields, name: &str) -> Result<Vec<Content>, Problem> {
    match fields.shift_remove(name).unwrap_or_default() {
        Value::Array(items) if !items.is_empty() => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| content(item, &format!("{name}[{i}]")))
            .collect(),
        other => Err(Problem::new(name, "a list of responses", describe(&other))),
    }
}

fn take_scores(fields: &mut Fields, responses: usize) -> Result<Vec<f64>, Problem> {
    let expected = scores_of(responses);
    let Some(scores) = fields.shift_remove("scores") else {
        return Err(missing("scores", &expected, fields));
    };
    match scores {
        Value::Array(items) if items.len() == responses => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| score(item, &format!("scores[{i}]")))
            .collect(),
        other => Err(Problem::new("scores", expected, describe(&other))),
    }
}

fn take_score(fields: &mut Fields) -> Result<f64, Problem> {
    match fields.shift_remove("score") {
        Some(value) => score(value, "score"),
        None => Err(missing("score", "a finite number", fields)),
    }
}

fn score(value: Value, field: &str) -> Result<f64, Problem> {
    let found = describe(&value);
    let score = number(value, field)
        .map_err(|problem| Problem { expected: "a finite number".to_owned(), ..problem })?;
    score.ok_or_else(|| Problem::new(field, "a finite number", found))
}
