//! Rewards: of rows of text, and of stored embeddings, in their order.

use crate::encoded::{EncoderOf, encode_rows};
use crate::models::{check_arrays, matrix, note_server, note_truncated, open_encoder_of_bundle};
use crate::options::{BundleModelOptions, reading};
use crate::{Error, Progress};
use lens_core::{Exchange, Threads};
use lens_data::bundle::Bundle;
use lens_data::{MalformedRow, Row, ScoreRow, StoredTable, read_exchanges_with};
use lens_encoder::{Encoded, Input, Refused, TextEncoder};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What [`score()`] is told.
#[derive(Debug, Clone)]
pub struct ScoreOptions {
    /// A reward model's folder.
    pub bundle: PathBuf,
    /// Rows of prompt and response(s), of pairs or of text; or a safetensors or .npy file of
    /// embeddings.
    pub file: PathBuf,
    /// The encoder, where it is not the bundle's own.
    pub encoder: BundleModelOptions,
    /// Name of the array to score in a safetensors file. Defaults to its only one.
    pub key: Option<String>,
    /// Rewards in standard deviations from the mean of the training responses. Defaults to `false`.
    pub normalise: bool,
    /// Stop at the first malformed row. Defaults to `false`: it is answered with an error.
    pub strict: bool,
}

impl ScoreOptions {
    /// The defaults, for a reward model and a file.
    pub fn new(bundle: impl Into<PathBuf>, file: impl Into<PathBuf>) -> Self {
        ScoreOptions {
            bundle: bundle.into(),
            file: file.into(),
            encoder: BundleModelOptions::default(),
            key: None,
            normalise: false,
            strict: false,
        }
    }
}

/// The answer to one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RowRewards {
    /// Of a row with one response, a text or an embedding.
    One {
        /// Its reward.
        reward: f64,
    },
    /// Of a row with several responses.
    Several {
        /// A reward for each, in their order.
        rewards: Vec<f64>,
    },
    /// Of a pair.
    Pair {
        /// Reward of the chosen response.
        chosen: f64,
        /// Reward of the rejected response.
        rejected: f64,
    },
    /// Of a malformed row, or of one that the template refuses.
    Error {
        /// What is wrong with it.
        error: String,
    },
}

/// The answer to one row, with its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredRow {
    /// The rewards.
    #[serde(flatten)]
    pub rewards: RowRewards,
    /// The row's line in the file; of arrays its row, both counted from 1.
    pub line: u64,
}

/// What [`score()`] found: an answer for every row of the file, in its order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// The answers.
    pub rows: Vec<ScoredRow>,
    /// How many of them are malformed rows.
    pub malformed: usize,
    /// How many of them are rows that the template refuses.
    pub refused: usize,
}

/// A reward model and its encoder, opened: for callers that score more than once.
pub struct Scorer {
    bundle: Bundle,
    encoder: Box<dyn TextEncoder>,
}

impl Scorer {
    /// Opens the reward model in the folder `bundle` and the encoder that it was trained with.
    ///
    /// # Errors
    /// As [`crate::open_encoder_of_bundle`]; a bundle that cannot be read.
    pub fn open(
        bundle: &Path,
        encoder: &BundleModelOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let path = bundle;
        let bundle = Bundle::read(path)?;
        let encoder = open_encoder_of_bundle(&bundle, path, encoder, progress)?;
        Ok(Scorer { bundle, encoder })
    }

    /// The reward model.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The rewards of exchanges, in their order.
    ///
    /// # Errors
    /// An exchange that cannot be encoded; [`Error::is_cancelled`].
    pub fn score(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<f32>, Error> {
        let encoded = self.encoder.encode_exchanges(exchanges, progress)?;
        let encoded: Vec<&Encoded> = encoded.iter().collect();
        note_truncated(&encoded, self.encoder.identity().max_length, progress);
        self.rewards(&encoded)
    }

    fn rewards(&self, encoded: &[&Encoded]) -> Result<Vec<f32>, Error> {
        let embeddings = matrix(encoded.iter().copied(), self.encoder.dim())?;
        Ok(self.bundle.model.rewards(&embeddings, Threads::available())?)
    }
}

/// Scores every row of a file.
///
/// # Errors
/// As [`Scorer::open`]; a file that cannot be read; [`Error::ArraysMismatch`] for embeddings of another
/// encoder.
pub fn score(options: &ScoreOptions, progress: &dyn Progress) -> Result<Scores, Error> {
    if options.file.extension().is_some_and(|e| e == "safetensors" || e == "npy") {
        return arrays(options, progress);
    }
    let bundle = Bundle::read(&options.bundle)?;
    let set = read_exchanges_with(&options.file, &reading(options.strict), progress)?;
    let encoder = open_encoder_of_bundle(&bundle, &options.bundle, &options.encoder, progress)?;
    note_server(encoder.as_ref(), progress);
    let scorer = Scorer { bundle, encoder };

    let (mut inputs, mut lines) = (Vec::new(), Vec::new());
    for row in &set.rows {
        match &row.value {
            ScoreRow::Text(text) => inputs.push(Input::Text(text.clone())),
            other => inputs.extend(exchanges_of(other).into_iter().map(Input::Exchange)),
        }
        lines.resize(inputs.len(), row.line);
    }
    let place = |index: usize| (options.file.as_path(), lines[index]);
    let encoder = scorer.encoder.as_ref();
    let encoded = encode_rows(encoder, &inputs, place, EncoderOf::Bundle, progress)?;
    let computed: Vec<&Encoded> = encoded.iter().flatten().collect();
    let rewards = in_units(&scorer.bundle, scorer.rewards(&computed)?, options.normalise);
    let mut rewards = rewards.into_iter();
    let answers = encoded.iter().map(|one| match one {
        Ok(_) => Ok(rewards.next().unwrap_or(f64::NAN)),
        Err(refused) => Err(refused),
    });
    let (rows, refused) = in_order(&set.rows, &set.malformed, answers);
    if !set.malformed.is_empty() {
        let (bad, read) = (set.malformed.len(), set.read);
        progress.note(&format!("{bad} of {read} rows are malformed and have no reward"));
    }
    if refused > 0 {
        let read = set.read;
        let note = format!("{refused} of {read} rows are refused by the template: no reward");
        progress.note(&note);
    }
    Ok(Scores { rows, malformed: set.malformed.len(), refused })
}

/// The exchanges of a row, in the order of its answer; none of a row of text.
pub(crate) fn exchanges_of(row: &ScoreRow) -> Vec<Exchange> {
    match row {
        ScoreRow::Single(exchange) => vec![exchange.clone()],
        ScoreRow::Candidates { prompt, responses } => responses
            .iter()
            .map(|r| Exchange { prompt: prompt.clone(), response: r.clone() })
            .collect(),
        ScoreRow::Pair(pair) => vec![pair.chosen_exchange(), pair.rejected_exchange()],
        ScoreRow::Text(_) => Vec::new(),
    }
}

/// The answers to rows whose texts have these rewards, and how many of them the template refuses.
/// Malformed rows are answered in their place, so that lines never shift.
fn in_order<'a>(
    rows: &[Row<ScoreRow>],
    malformed: &[MalformedRow],
    mut rewards: impl Iterator<Item = Result<f64, &'a Refused>>,
) -> (Vec<ScoredRow>, usize) {
    let mut refused = 0;
    let mut answers: Vec<ScoredRow> = Vec::with_capacity(rows.len() + malformed.len());
    for row in rows {
        let texts = match &row.value {
            ScoreRow::Candidates { responses, .. } => responses.len(),
            ScoreRow::Pair(_) => 2,
            ScoreRow::Single(_) | ScoreRow::Text(_) => 1,
        };
        // All are taken, also where the first is refused.
        let own: Vec<Result<f64, &Refused>> = rewards.by_ref().take(texts).collect();
        let rewards = match own.into_iter().collect::<Result<Vec<f64>, _>>() {
            Ok(rewards) => answer(&row.value, rewards),
            Err(why) => {
                refused += 1;
                RowRewards::Error { error: why.to_string() }
            }
        };
        answers.push(ScoredRow { rewards, line: row.line });
    }
    answers.extend(malformed.iter().map(|bad| ScoredRow {
        rewards: RowRewards::Error { error: bad.to_string() },
        line: bad.line,
    }));
    answers.sort_by_key(|row| row.line);
    (answers, refused)
}

/// The answer to a row whose texts have these rewards.
fn answer(row: &ScoreRow, rewards: Vec<f64>) -> RowRewards {
    match (row, rewards.as_slice()) {
        (ScoreRow::Candidates { .. }, _) => RowRewards::Several { rewards },
        (ScoreRow::Pair(_), [chosen, rejected]) => {
            RowRewards::Pair { chosen: *chosen, rejected: *rejected }
        }
        (_, all) => RowRewards::One { reward: all.first().copied().unwrap_or(f64::NAN) },
    }
}

fn in_units(bundle: &Bundle, rewards: Vec<f32>, normalise: bool) -> Vec<f64> {
    let value = |r: f32| if normalise { bundle.model.normalise(r) } else { f64::from(r) };
    rewards.into_iter().map(value).collect()
}

/// Scores stored embeddings, a row each.
fn arrays(options: &ScoreOptions, progress: &dyn Progress) -> Result<Scores, Error> {
    let bundle = Bundle::read(&options.bundle)?;
    let table = StoredTable::open(&options.file, options.key.as_deref(), progress)?;
    check_arrays(&bundle, table.encoder.as_ref(), &options.file, progress)?;
    let rewards = bundle.model.rewards(&*table.rows, Threads::available());
    table.check_reads()?;
    let rewards = rewards?;
    let row = |(i, reward)| ScoredRow { rewards: RowRewards::One { reward }, line: i as u64 + 1 };
    let rows = in_units(&bundle, rewards, options.normalise).into_iter().enumerate().map(row);
    Ok(Scores { rows: rows.collect(), malformed: 0, refused: 0 })
}
