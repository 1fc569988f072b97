//! Scores beside what they are of: every row of a file with all its columns, and behind them what the
//! reward model says of its responses.

use super::{Judgement, ScoreOptions, Scorer, exchanges_of, judgements};
use crate::data_source;
use crate::encoded::{EncoderOf, encode_rows};
use crate::error::stop_if_cancelled;
use crate::models::{check_arrays, note_server, open_encoder_of_bundle};
use crate::outputs::{Written, check_new, check_output};
use crate::public::read_reward_model;
use crate::{Error, Progress};
use lens_core::metrics::sigmoid;
use lens_data::bundle::Bundle;
use lens_data::table::Kind;
use lens_data::{
    ScoreRow, StoredTable, Table, TableFormat, TableRow, WholeRow, read_whole_rows_with,
};
use lens_encoder::Input;
use lens_eval::EvalError;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The column with what is wrong with a row that cannot be scored.
const ERROR: &str = "error";
/// The column with the probability that the chosen response of a pair is preferred.
const PROBABILITY: &str = "probability";
/// The column with the place of an embedding, which has no columns of its own.
const LINE: &str = "line";

/// What [`score_to_file`] is told.
#[derive(Debug, Clone)]
pub struct ScoreFileOptions {
    /// What is scored, and with which reward model. [`ScoreOptions::normalise`] must not be set: the
    /// file has both units.
    pub score: ScoreOptions,
    /// The file to write: `.jsonl`, `.csv`, `.tsv` (each also with `.gz` or `.zst`) or `.parquet`.
    pub output: PathBuf,
    /// What the names of the new columns begin with. Defaults to nothing.
    pub prefix: String,
    /// Replace a file that is there. Defaults to `false`.
    pub overwrite: bool,
}

impl ScoreFileOptions {
    /// The defaults, for what is scored and the file to write.
    pub fn new(score: ScoreOptions, output: impl Into<PathBuf>) -> Self {
        ScoreFileOptions { score, output: output.into(), prefix: String::new(), overwrite: false }
    }
}

/// What [`score_to_file`] wrote. Serialises to what `lens score -o FILE --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredFile {
    /// Rows of the file: those that were scored, and the malformed ones.
    pub rows: usize,
    /// How many of them are malformed, and have an error instead of rewards.
    pub malformed: usize,
    /// Responses that were scored.
    pub responses: usize,
    /// How many of these are unlike the training responses; `None` where the reward model does not
    /// measure that.
    pub out_of_distribution: Option<usize>,
    /// The columns that were added, in their order.
    pub columns: Vec<String>,
    /// The file.
    pub output: PathBuf,
}

/// A figure of a response.
struct Figure {
    /// Its column, where a row has one response.
    one: &'static str,
    /// Its column, where a row has several: a list.
    several: &'static str,
    kind: Kind,
    of: fn(&Judgement) -> Value,
}

/// Every figure of a response, in the order of the columns.
static FIGURES: [Figure; 5] = [
    Figure { one: "reward", several: "rewards", kind: Kind::REAL, of: |j| json!(j.reward) },
    Figure {
        one: "normalised_reward",
        several: "normalised_rewards",
        kind: Kind::REAL,
        of: |j| json!(j.normalised),
    },
    Figure {
        one: "deviation",
        several: "deviations",
        kind: Kind::REAL,
        of: |j| json!(j.deviation),
    },
    Figure { one: "novelty", several: "novelties", kind: Kind::REAL, of: |j| json!(j.novelty) },
    Figure {
        one: "out_of_distribution",
        several: "out_of_distributions",
        kind: Kind::Bool,
        of: |j| json!(j.out_of_distribution),
    },
];

/// Which of its responses a row's column is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Only,
    All,
    Chosen,
    Rejected,
}

/// What the reward model says of a row.
enum Answer {
    One(Judgement),
    Several(Vec<Judgement>),
    Pair([Judgement; 2]),
    Error(String),
}

impl Place {
    fn column(self, figure: &Figure) -> (String, Kind) {
        match self {
            Place::Only => (figure.one.to_owned(), figure.kind.clone()),
            Place::All => (figure.several.to_owned(), Kind::list(figure.kind.clone())),
            Place::Chosen => (format!("chosen_{}", figure.one), figure.kind.clone()),
            Place::Rejected => (format!("rejected_{}", figure.one), figure.kind.clone()),
        }
    }

    /// The value of a row; null where it has no such response.
    fn value(self, figure: &Figure, answer: &Answer) -> Value {
        match (self, answer) {
            (Place::Only, Answer::One(one)) => (figure.of)(one),
            (Place::All, Answer::Several(all)) => all.iter().map(figure.of).collect(),
            (Place::Chosen, Answer::Pair([chosen, _])) => (figure.of)(chosen),
            (Place::Rejected, Answer::Pair([_, rejected])) => (figure.of)(rejected),
            _ => Value::Null,
        }
    }
}

/// What a new column holds of a row; null where the row has none of it.
enum Holds {
    /// A figure of a response.
    Figure(Place, &'static Figure),
    /// The probability that the chosen response is preferred (Bradley and Terry).
    Probability,
    /// What is wrong with the row.
    Error,
}

impl Holds {
    fn value(&self, answer: &Answer) -> Value {
        match (self, answer) {
            (Holds::Figure(place, figure), answer) => place.value(figure, answer),
            (Holds::Probability, Answer::Pair([chosen, rejected])) => {
                json!(sigmoid(f64::from(chosen.reward) - f64::from(rejected.reward)))
            }
            (Holds::Error, Answer::Error(error)) => json!(error),
            _ => Value::Null,
        }
    }
}

/// A column that is added.
struct NewColumn {
    name: String,
    kind: Kind,
    holds: Holds,
}

/// The columns that are added, in their order.
struct Added(Vec<NewColumn>);

impl Added {
    /// The columns for the kinds of rows that there are.
    fn new(places: &[Place], prefix: &str) -> Added {
        let mut columns = Vec::new();
        let mut add = |name: &str, kind: Kind, holds: Holds| {
            columns.push(NewColumn { name: format!("{prefix}{name}"), kind, holds });
        };
        for &place in places {
            for figure in &FIGURES {
                let (name, kind) = place.column(figure);
                add(&name, kind, Holds::Figure(place, figure));
            }
        }
        if places.contains(&Place::Chosen) {
            add(PROBABILITY, Kind::REAL, Holds::Probability);
        }
        add(ERROR, Kind::Text, Holds::Error);
        Added(columns)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|column| column.name.clone()).collect()
    }

    /// Refuses names that the table has already.
    fn check(&self, table: &Table, file: &Path) -> Result<(), Error> {
        let taken = |name: &str| table.names().any(|known| known == name);
        match self.0.iter().find(|column| taken(&column.name)) {
            None => Ok(()),
            Some(NewColumn { name, .. }) => Err(Error::option(
                "prefix",
                format!(
                    "{} has a column `{name}` already; --prefix NAME_ puts NAME_ before the names \
                     of the new columns",
                    file.display()
                ),
            )),
        }
    }

    fn add_to(&self, table: &mut Table, answers: &[Answer]) -> Result<(), Error> {
        for NewColumn { name, kind, holds } in &self.0 {
            let values = answers.iter().map(|answer| holds.value(answer)).collect();
            table.add(name, kind.clone(), values)?;
        }
        Ok(())
    }
}

/// Scores every row of a file, and writes all of them with their columns and their figures into
/// another, which appears whole or not at all.
///
/// # Errors
/// As [`score`](super::score()). [`Error::Option`] for the name of an output that asks for no format,
/// and for a column of the file that has the name of a new one; these, and an output that cannot be
/// written, are found before any model is opened.
pub fn score_to_file(
    options: &ScoreFileOptions,
    progress: &dyn Progress,
) -> Result<ScoredFile, Error> {
    let ScoreFileOptions { score, output, prefix, overwrite } = options;
    TableFormat::of_name(output)?;
    if score.normalise {
        let detail = "must not be set with -o: the file has rewards in both units";
        return Err(Error::option("normalise", detail));
    }
    check_output(&score.file, output)?;
    check_new(output, *overwrite, "-o", Written::Rows)?;
    let bundle = read_reward_model(&score.bundle, &score.encoder, progress)?;
    if bundle.novelty.is_none() {
        progress.note("this reward model does not measure novelty: those columns are null");
    }
    let (mut table, added, answers) = match score.arrays() {
        Some(path) => of_arrays(&bundle, score, path, prefix, progress)?,
        None => of_texts(bundle, score, prefix, progress)?,
    };
    added.add_to(&mut table, &answers)?;
    stop_if_cancelled(progress)?;
    table.write(output)?;
    let judged = || {
        answers.iter().flat_map(|answer| match answer {
            Answer::One(one) => std::slice::from_ref(one),
            Answer::Several(all) => all,
            Answer::Pair(both) => both,
            Answer::Error(_) => &[],
        })
    };
    let beyond = judged().map(|one| one.out_of_distribution.map(usize::from));
    Ok(ScoredFile {
        rows: answers.len(),
        malformed: answers.iter().filter(|answer| matches!(answer, Answer::Error(_))).count(),
        responses: judged().count(),
        out_of_distribution: beyond.sum(),
        columns: added.names(),
        output: output.clone(),
    })
}

type Filled = (Table, Added, Vec<Answer>);

fn of_texts(
    bundle: Bundle,
    options: &ScoreOptions,
    prefix: &str,
    progress: &dyn Progress,
) -> Result<Filled, Error> {
    let input = data_source::resolve(&options.file, &options.encoder.runtime, progress)?;
    let file = &options.file.name();
    let rows = read_whole_rows_with(&input, &options.reading, progress)?;
    let places = places(rows.iter().filter_map(|row| row.value.as_ref().ok()));
    let added = Added::new(&places, prefix);
    let (columns, values): (Vec<TableRow>, Vec<_>) =
        rows.into_iter().map(|WholeRow { line, columns, value }| (columns, (line, value))).unzip();
    let table = Table::new(columns);
    added.check(&table, file)?;

    let encoder = open_encoder_of_bundle(&bundle, &options.bundle, &options.encoder, progress)?;
    note_server(encoder.as_ref(), progress);
    let scorer = Scorer { bundle, encoder };
    let (mut inputs, mut lines) = (Vec::new(), Vec::new());
    for (line, value) in &values {
        match value {
            Ok(ScoreRow::Text(text)) => inputs.push(Input::Text(text.clone())),
            Ok(other) => inputs.extend(exchanges_of(other).into_iter().map(Input::Exchange)),
            Err(_) => {}
        }
        lines.resize(inputs.len(), *line);
    }
    let place = |index: usize| (file.as_path(), lines[index]);
    let encoder = scorer.encoder.as_ref();
    let encoded = encode_rows(encoder, &inputs, place, EncoderOf::Bundle, progress)?;
    let computed =
        || encoded.iter().zip(&lines).filter_map(|(one, line)| Some((one.as_ref().ok()?, *line)));
    let judged = scorer.judgements(&computed().map(|(one, _)| one).collect::<Vec<_>>())?;
    let computed_lines: Vec<u64> = computed().map(|(_, line)| line).collect();
    check_finite(&judged, file, |i| computed_lines[i])?;
    let mut judged = judged.into_iter();
    // A text that the template refuses has its words instead of figures.
    let mut each = encoded.iter().map(|one| match one {
        Ok(_) => judged.next().ok_or_else(too_few).map(Ok),
        Err(refused) => Ok(Err(refused.to_string())),
    });
    let answers = values.into_iter().map(|(_, value)| {
        let texts = match &value {
            Ok(ScoreRow::Candidates { responses, .. }) => responses.len(),
            Ok(ScoreRow::Pair(_)) => 2,
            Ok(ScoreRow::Single(_) | ScoreRow::Text(_)) => 1,
            Err(_) => 0,
        };
        // All are taken, also where the first is refused.
        let own =
            each.by_ref().take(texts).collect::<Result<Vec<Result<Judgement, String>>, Error>>()?;
        let own: Vec<Judgement> = match own.into_iter().collect() {
            Ok(own) => own,
            Err(refused) => return Ok(Answer::Error(refused)),
        };
        Ok(match (value, own.as_slice()) {
            (Err(bad), _) => Answer::Error(bad.to_string()),
            (Ok(ScoreRow::Candidates { .. }), _) => Answer::Several(own),
            (Ok(ScoreRow::Pair(_)), [chosen, rejected]) => Answer::Pair([*chosen, *rejected]),
            (Ok(_), [one]) => Answer::One(*one),
            (Ok(_), _) => return Err(too_few()),
        })
    });
    let answers = answers.collect::<Result<Vec<_>, Error>>()?;
    let malformed = answers.iter().filter(|a| matches!(a, Answer::Error(_))).count();
    if malformed > 0 {
        let rows = answers.len();
        progress.note(&format!(
            "{malformed} of {rows} rows are malformed or refused: they have no reward, and say why in `{prefix}{ERROR}`"
        ));
    }
    Ok((table, added, answers))
}

/// What there are columns about, of rows of these kinds.
fn places<'a>(rows: impl Iterator<Item = &'a ScoreRow> + Clone) -> Vec<Place> {
    let has = |is: fn(&ScoreRow) -> bool| rows.clone().any(is);
    let mut places = Vec::new();
    if has(|row| matches!(row, ScoreRow::Single(_) | ScoreRow::Text(_))) {
        places.push(Place::Only);
    }
    if has(|row| matches!(row, ScoreRow::Candidates { .. })) {
        places.push(Place::All);
    }
    if has(|row| matches!(row, ScoreRow::Pair(_))) {
        places.extend([Place::Chosen, Place::Rejected]);
    }
    places
}

/// The error of an encoder that answered fewer vectors than it was asked for.
fn too_few() -> Error {
    Error::Refused("the encoder answered fewer embeddings than there are responses".to_owned())
}

/// Stored embeddings, a row each: of their file there is nothing but their place.
fn of_arrays(
    bundle: &Bundle,
    options: &ScoreOptions,
    path: &Path,
    prefix: &str,
    progress: &dyn Progress,
) -> Result<Filled, Error> {
    let stored = StoredTable::open(path, options.key.as_deref(), progress)?;
    check_arrays(bundle, stored.encoder.as_ref(), path, progress)?;
    let judged = judgements(bundle, &*stored.rows);
    stored.check_reads()?;
    let judged = judged?;
    let line = |i: usize| i as u64 + 1;
    check_finite(&judged, path, line)?;
    let row = |i: usize| TableRow::from_iter([(LINE.to_owned(), json!(line(i)))]);
    let table = Table::new((0..judged.len()).map(row).collect());
    let added = Added::new(&[Place::Only], prefix);
    added.check(&table, path)?;
    Ok((table, added, judged.into_iter().map(Answer::One).collect()))
}

/// Refuses a figure that is NaN or infinite, which no file of numbers could hold.
fn check_finite(
    judged: &[Judgement],
    file: &Path,
    line: impl Fn(usize) -> u64,
) -> Result<(), Error> {
    match judged.iter().position(|one| !one.is_finite()) {
        None => Ok(()),
        Some(i) => Err(EvalError::NotFinite { file: file.to_owned(), line: line(i) }.into()),
    }
}
