//! Rewards: of rows of text, and of stored embeddings, in their order; or beside the rows they are of, in
//! a file.

mod file;

use crate::data_source;
use crate::encoded::{EncoderOf, encode_rows};
use crate::models::{check_arrays, matrix, note_server, note_truncated, open_encoder_of_bundle};
use crate::options::BundleModelOptions;
use crate::public::read_reward_model;
use crate::{Error, Progress};
pub use file::{ScoreFileOptions, ScoredFile, score_to_file};
use lens_core::{Exchange, Judged, Rows, Threads};
use lens_data::bundle::Bundle;
use lens_data::{
    DataSource, Place, ReadOptions, ScoreRow, ScoreSet, StoredTable, read_exchanges_with,
};
use lens_encoder::{Encoded, Input, Refused, TextEncoder};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What [`score()`] is told.
#[derive(Debug, Clone)]
pub struct ScoreOptions {
    /// A reward model's folder; or a public reward model: its folder or GGUF file, or the name that
    /// `encoder` gives.
    pub bundle: PathBuf,
    /// Rows of prompt and response(s), of pairs or of text; or a safetensors or .npy file of
    /// embeddings.
    pub file: DataSource,
    /// The encoder, where it is not the bundle's own.
    pub encoder: BundleModelOptions,
    /// Name of the array to score in a safetensors file. Defaults to its only one.
    pub key: Option<String>,
    /// Rewards in standard deviations from the mean of the training responses. Defaults to `false`.
    pub normalise: bool,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
}

impl ScoreOptions {
    /// The defaults, for a reward model and a file.
    pub fn new(bundle: impl Into<PathBuf>, file: impl Into<DataSource>) -> Self {
        ScoreOptions {
            bundle: bundle.into(),
            file: file.into(),
            encoder: BundleModelOptions::default(),
            key: None,
            normalise: false,
            reading: ReadOptions::default(),
        }
    }

    /// The file, if it holds embeddings, not text.
    fn arrays(&self) -> Option<&Path> {
        let is_array =
            |path: &&Path| path.extension().is_some_and(|e| e == "safetensors" || e == "npy");
        self.file.single().filter(is_array)
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
    /// The file, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Arc<str>>,
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

/// What a reward model says of one response.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judgement {
    /// The reward: the mean of the ensemble's members.
    pub reward: f32,
    /// The reward in standard deviations from the mean of the training responses.
    pub normalised: f64,
    /// The standard deviation of the ensemble's members: how far they disagree.
    pub deviation: f64,
    /// The distance from the training responses ([`lens_core::Novelty`]); `None` where the reward model
    /// does not measure it.
    pub novelty: Option<f64>,
    /// Whether that distance is beyond the threshold, so that the response is unlike those.
    pub out_of_distribution: Option<bool>,
}

impl Judgement {
    /// Whether every figure is a finite number.
    pub fn is_finite(&self) -> bool {
        let figures = [f64::from(self.reward), self.normalised, self.deviation];
        figures.into_iter().chain(self.novelty).all(f64::is_finite)
    }
}

/// The rewards of embeddings, all of them finite.
fn rewards(bundle: &Bundle, embeddings: &dyn Rows) -> Result<Vec<f32>, Error> {
    let rewards = bundle.model.rewards(embeddings, Threads::available())?;
    match rewards.iter().position(|reward| !reward.is_finite()) {
        None => Ok(rewards),
        Some(text) => Err(Error::RewardNotFinite { text: text + 1, reward: rewards[text] }),
    }
}

/// What a reward model says of embeddings, a row each.
fn judgements(bundle: &Bundle, embeddings: &dyn Rows) -> Result<Vec<Judgement>, Error> {
    let threads = Threads::available();
    let Judged { rewards, normalised, deviations } = bundle.model.judge(embeddings, threads)?;
    let novelty = bundle.vae.as_ref().zip(bundle.novelty.as_ref());
    let distances = novelty.map(|(vae, novelty)| {
        novelty.distances(vae, &bundle.model.standardiser, embeddings, threads)
    });
    let distances = distances.transpose()?;
    let one = |i: usize| {
        let distance = distances.as_ref().map(|all| all[i]);
        Judgement {
            reward: rewards[i],
            normalised: normalised[i],
            deviation: deviations[i],
            novelty: distance,
            out_of_distribution: novelty.zip(distance).map(|((_, n), d)| n.is_beyond(d)),
        }
    };
    Ok((0..rewards.len()).map(one).collect())
}

/// A reward model and its encoder, opened: for callers that score more than once.
pub struct Scorer {
    bundle: Bundle,
    encoder: Box<dyn TextEncoder>,
}

impl Scorer {
    /// Opens the reward model in the folder `bundle`, or a public one, and the encoder that it was trained
    /// with.
    ///
    /// # Errors
    /// As [`crate::open_encoder_of_bundle`]; a bundle that cannot be read.
    pub fn open(
        bundle: &Path,
        encoder: &BundleModelOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let path = bundle;
        let bundle = read_reward_model(path, encoder, progress)?;
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
    /// An exchange that cannot be encoded; [`Error::RewardNotFinite`]; [`Error::is_cancelled`].
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

    /// All that the reward model says of exchanges, in their order.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn judge(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<Judgement>, Error> {
        let encoded = self.encoder.encode_exchanges(exchanges, progress)?;
        let encoded: Vec<&Encoded> = encoded.iter().collect();
        note_truncated(&encoded, self.encoder.identity().max_length, progress);
        self.judgements(&encoded)
    }

    fn judgements(&self, encoded: &[&Encoded]) -> Result<Vec<Judgement>, Error> {
        judgements(&self.bundle, &matrix(encoded.iter().copied(), self.encoder.dim())?)
    }

    fn rewards(&self, encoded: &[&Encoded]) -> Result<Vec<f32>, Error> {
        let embeddings = matrix(encoded.iter().copied(), self.encoder.dim())?;
        rewards(&self.bundle, &embeddings)
    }
}

/// Scores every row of a file.
///
/// # Errors
/// As [`Scorer::open`]; a file that cannot be read; [`Error::ArraysMismatch`] for embeddings of another
/// encoder.
pub fn score(options: &ScoreOptions, progress: &dyn Progress) -> Result<Scores, Error> {
    if let Some(path) = options.arrays() {
        return arrays(options, path, progress);
    }
    let bundle = read_reward_model(&options.bundle, &options.encoder, progress)?;
    let input = data_source::resolve(&options.file, &options.encoder.runtime, progress)?;
    let set = read_exchanges_with(&input, &options.reading, progress)?;
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
    let file = options.file.name();
    let place = |index: usize| (file.as_path(), lines[index]);
    let encoder = scorer.encoder.as_ref();
    let encoded = encode_rows(encoder, &inputs, place, EncoderOf::Bundle, progress)?;
    let computed: Vec<&Encoded> = encoded.iter().flatten().collect();
    let rewards = in_units(&scorer.bundle, scorer.rewards(&computed)?, options.normalise);
    let mut rewards = rewards.into_iter();
    let answers = encoded.iter().map(|one| match one {
        Ok(_) => Ok(rewards.next().unwrap_or(f64::NAN)),
        Err(refused) => Err(refused),
    });
    let (rows, refused) = in_order(&set, answers);
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
    set: &ScoreSet,
    mut rewards: impl Iterator<Item = Result<f64, &'a Refused>>,
) -> (Vec<ScoredRow>, usize) {
    let mut refused = 0;
    let mut answers: Vec<(Place, RowRewards)> = Vec::with_capacity(set.read);
    for row in &set.rows {
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
        answers.push((row.place(), rewards));
    }
    let malformed = set.malformed.in_words(&set.layout);
    answers.extend(malformed.map(|(place, error)| (place, RowRewards::Error { error })));
    answers.sort_by_key(|(place, _)| set.layout.order(place));
    let row = |(Place { file, line, .. }, rewards)| ScoredRow { rewards, line, file };
    (answers.into_iter().map(row).collect(), refused)
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
fn arrays(options: &ScoreOptions, path: &Path, progress: &dyn Progress) -> Result<Scores, Error> {
    let bundle = read_reward_model(&options.bundle, &options.encoder, progress)?;
    let table = StoredTable::open(path, options.key.as_deref(), progress)?;
    check_arrays(&bundle, table.encoder.as_ref(), path, progress)?;
    let rewards = rewards(&bundle, &*table.rows);
    table.check_reads()?;
    let rewards = rewards?;
    let row = |(i, reward)| ScoredRow {
        rewards: RowRewards::One { reward },
        line: i as u64 + 1,
        file: None,
    };
    let rows = in_units(&bundle, rewards, options.normalise).into_iter().enumerate().map(row);
    Ok(Scores { rows: rows.collect(), malformed: 0, refused: 0 })
}
