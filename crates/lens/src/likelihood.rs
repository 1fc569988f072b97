//! How likely responses are to a language model.

use crate::data_source;
use crate::error::stop_if_cancelled;
use crate::models::open_generator;
use crate::options::ModelOptions;
use crate::outputs::check_output;
use crate::score::exchanges_of;
use crate::{Error, Progress};
use lens_core::Exchange;
use lens_data::{
    DataSource, Place, ReadOptions, Row, ScoreRow, read_exchanges_with, write_atomic_with,
};
use lens_encoder::LogLikelihood;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// What [`likelihood()`] is told.
#[derive(Debug, Clone)]
pub struct LikelihoodOptions {
    /// Rows of prompt and response(s), or of pairs.
    pub file: DataSource,
    /// JSON lines are written into this file, where one is named.
    pub output: Option<PathBuf>,
    /// The language model.
    pub model: ModelOptions,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
}

impl LikelihoodOptions {
    /// The defaults, for a file.
    pub fn new(file: impl Into<DataSource>) -> Self {
        LikelihoodOptions {
            file: file.into(),
            output: None,
            model: ModelOptions::default(),
            reading: ReadOptions::default(),
        }
    }
}

/// The answer to one row: natural logarithms of the likelihood of all tokens of a response, given the
/// prompt, and how many tokens these are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RowLikelihood {
    /// Of a row with one response.
    One {
        /// Sum over its tokens.
        log_likelihood: f64,
        /// Its tokens.
        tokens: usize,
    },
    /// Of a row with several responses.
    Several {
        /// A sum for each, in their order.
        log_likelihoods: Vec<f64>,
        /// Tokens of each.
        tokens: Vec<usize>,
    },
    /// Of a pair.
    Pair {
        /// Of the chosen response.
        chosen: f64,
        /// Of the rejected response.
        rejected: f64,
        /// Tokens of the chosen response.
        chosen_tokens: usize,
        /// Tokens of the rejected response.
        rejected_tokens: usize,
    },
    /// Of a row without a response, or a malformed one.
    Error {
        /// What is wrong with it.
        error: String,
    },
}

/// The answer to one row, with its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LikelihoodRow {
    /// The likelihoods.
    #[serde(flatten)]
    pub answer: RowLikelihood,
    /// The row's line in the file, counted from 1.
    pub line: u64,
    /// The file, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Arc<str>>,
}

/// In which share of some pairs the chosen response is likelier; a tie counts one half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LikelierChosen {
    /// How many pairs.
    pub pairs: usize,
    /// By the sums of log-likelihoods.
    pub by_sum: f64,
    /// By the means over tokens.
    pub by_token: f64,
}

/// What [`likelihood()`] found: an answer for every row of the file, in its order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Likelihoods {
    /// The answers.
    pub rows: Vec<LikelihoodRow>,
    /// What the pairs among the rows say; `None` where there is none.
    pub chosen_likelier: Option<LikelierChosen>,
}

const NO_RESPONSE: &str = "a row of text has no response whose likelihood could be asked";

/// Asks how likely the responses of a file are.
///
/// # Errors
/// What is wrong with the options, the file, the model or the output.
pub fn likelihood(
    options: &LikelihoodOptions,
    progress: &dyn Progress,
) -> Result<Likelihoods, Error> {
    options.model.check()?;
    if let Some(output) = &options.output {
        check_output(&options.file, output)?;
    }
    let input = data_source::resolve(&options.file, &options.model.runtime, progress)?;
    let set = read_exchanges_with(&input, &options.reading, progress)?;
    if options.reading.strict
        && let Some(row) = set.rows.iter().find(|r| matches!(r.value, ScoreRow::Text(_)))
    {
        return Err(Error::Refused(format!("line {}: {NO_RESPONSE}", row.line)));
    }
    let exchanges: Vec<Exchange> = set.rows.iter().flat_map(|r| exchanges_of(&r.value)).collect();
    if exchanges.is_empty() {
        return Err(Error::Refused(format!("{}: {NO_RESPONSE}", options.file)));
    }
    let generator = open_generator(&options.model, progress)?;
    let likely = generator.log_likelihoods(&exchanges, progress)?;
    stop_if_cancelled(progress)?;

    // Malformed rows are answered in their place, so that lines never shift.
    let mut next = likely.iter();
    let answers = set.rows.iter().map(|row| (row.place(), answer(&row.value, &mut next)));
    let mut answers: Vec<(Place, RowLikelihood)> = answers.collect();
    let malformed = set.malformed.in_words(&set.layout);
    answers.extend(malformed.map(|(place, error)| (place, RowLikelihood::Error { error })));
    answers.sort_by_key(|(place, _)| set.layout.order(place));
    let row = |(Place { file, line, .. }, answer)| LikelihoodRow { answer, line, file };
    let rows: Vec<LikelihoodRow> = answers.into_iter().map(row).collect();
    if let Some(path) = &options.output {
        write_atomic_with(path, |file| {
            rows.iter().try_for_each(|row| {
                serde_json::to_writer(&mut *file, row)?;
                file.write_all(b"\n")
            })
        })?;
    }

    let shortened = likely.iter().filter(|l| l.truncated).count();
    if shortened > 0 {
        progress.note(&format!(
            "{shortened} of {} texts are longer than {} tokens and lost the beginning of the \
             prompt (max_length)",
            likely.len(),
            options.model.max_length.min(generator.spec().context),
        ));
    }
    let errors = rows.iter().filter(|r| matches!(r.answer, RowLikelihood::Error { .. })).count();
    if errors > 0 {
        progress.note(&format!("{errors} of {} rows have no likelihood", set.read));
    }
    Ok(Likelihoods { rows, chosen_likelier: chosen_likelier(&set.rows, &likely) })
}

fn answer<'a>(
    row: &ScoreRow,
    likely: &mut impl Iterator<Item = &'a LogLikelihood>,
) -> RowLikelihood {
    let mut next = || likely.next().map_or((f64::NAN, 0), |l| (l.sum, l.tokens));
    match row {
        ScoreRow::Single(_) => {
            let (log_likelihood, tokens) = next();
            RowLikelihood::One { log_likelihood, tokens }
        }
        ScoreRow::Candidates { responses, .. } => {
            let (log_likelihoods, tokens) = responses.iter().map(|_| next()).unzip();
            RowLikelihood::Several { log_likelihoods, tokens }
        }
        ScoreRow::Pair(_) => {
            let ((chosen, chosen_tokens), (rejected, rejected_tokens)) = (next(), next());
            RowLikelihood::Pair { chosen, rejected, chosen_tokens, rejected_tokens }
        }
        ScoreRow::Text(_) => RowLikelihood::Error { error: NO_RESPONSE.to_owned() },
    }
}

fn chosen_likelier(rows: &[Row<ScoreRow>], likely: &[LogLikelihood]) -> Option<LikelierChosen> {
    let (mut pairs, mut by_sum, mut by_token, mut at) = (0, 0.0, 0.0, 0);
    let wins = |a: f64, b: f64| if a == b { 0.5 } else { f64::from(u8::from(a > b)) };
    for row in rows {
        let n = exchanges_of(&row.value).len();
        if let (ScoreRow::Pair(_), Some([c, r])) = (&row.value, likely.get(at..at + n)) {
            pairs += 1;
            by_sum += wins(c.sum, r.sum);
            by_token += wins(c.sum / c.tokens as f64, r.sum / r.tokens as f64);
        }
        at += n;
    }
    let share = |x: f64| x / pairs as f64;
    (pairs > 0).then(|| LikelierChosen { pairs, by_sum: share(by_sum), by_token: share(by_token) })
}
