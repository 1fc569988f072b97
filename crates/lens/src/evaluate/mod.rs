//! A saved reward model on held-out data: pairs, benchmarks, best-of-n; as text or as embeddings.

mod arrays;
mod controls;
mod gold;
mod outputs;
mod text;

use crate::error::stop_if_cancelled;
use crate::models::{note_server, open_encoder_of_bundle};
use crate::options::BundleModelOptions;
use crate::outputs::{Written, check_new, check_output};
use crate::public::read_reward_model;
use crate::report::evaluation_page;
use crate::{Error, Progress};
use lens_data::{ReadOptions, StoreKeys, VetReport, write_atomic};
use lens_eval::figures::accuracy::Accuracy as PairAccuracy;
use lens_eval::figures::heldout::PairRewards;
use lens_eval::figures::{Benchmark, Evaluation};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What [`evaluate()`] is told.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    /// A reward model's folder; or a public reward model: its folder or GGUF file, or the name that
    /// `encoder` gives.
    pub bundle: PathBuf,
    /// Files of held-out pairs, of RewardBench 1 or 2, of RM-Bench, or of responses with scores; or
    /// safetensors files of embedded pairs.
    pub files: Vec<PathBuf>,
    /// What the files are. Defaults to what their rows say.
    pub benchmark: Option<Benchmark>,
    /// Only rows of these subsets (of RM-Bench: domains). Defaults to all.
    pub subsets: Vec<String>,
    /// The reward model whose rewards are the scores of best-of-n: a bundle's folder or a public reward
    /// model. Defaults to none: the scores stand in the files.
    pub gold: Option<String>,
    /// Best of up to so many responses. Defaults to as many as the prompt with the fewest has.
    pub n: Option<usize>,
    /// How many of the examples that are ranked worst are listed. Defaults to 10.
    pub worst: usize,
    /// The folder for the files of the rewardbench package, where they are wanted.
    pub outputs: Option<PathBuf>,
    /// The HTML file for a page with all figures, where one is wanted.
    pub report: Option<PathBuf>,
    /// Replace a report that is there. Defaults to `false`.
    pub overwrite: bool,
    /// The encoder, where it is not the bundle's own.
    pub encoder: BundleModelOptions,
    /// Names of the arrays in a safetensors file.
    pub keys: StoreKeys,
    /// Stored embeddings of up to so many MB (as float32) are copied into memory. Defaults to 1024.
    pub memory_mb: usize,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
    /// Also measure pairs with prompts shuffled and without prompts, and what readers of length and of
    /// other simple features would score. Defaults to `false`.
    pub controls: bool,
    /// Seed of the intervals' resampling, and of the controls' shuffling. Defaults to 0.
    pub seed: u64,
}

impl EvaluateOptions {
    /// The defaults, for a reward model and files.
    pub fn new(bundle: impl Into<PathBuf>, files: Vec<PathBuf>) -> Self {
        EvaluateOptions {
            bundle: bundle.into(),
            files,
            benchmark: None,
            subsets: Vec::new(),
            gold: None,
            n: None,
            worst: 10,
            outputs: None,
            report: None,
            overwrite: false,
            encoder: BundleModelOptions::default(),
            keys: StoreKeys::default(),
            memory_mb: 1024,
            reading: ReadOptions::default(),
            controls: false,
            seed: 0,
        }
    }

    /// Whether the report may be written.
    fn check_report(&self) -> Result<(), Error> {
        let Some(report) = &self.report else { return Ok(()) };
        for file in &self.files {
            check_output(&file.into(), report)?;
        }
        check_new(report, self.overwrite, "--report", Written::Report)
    }
}

/// What one file says of a reward model. Serialises to the object that `lens eval --json` prints.
#[derive(Debug)]
pub struct EvaluatedFile {
    /// The file.
    pub path: PathBuf,
    /// What became of its rows.
    pub rows: VetReport,
    /// The figures.
    pub evaluation: Evaluation,
    /// Whether these are the very pairs that the model was trained on.
    pub trained_on: bool,
    /// The rewards of better and worse responses: of a file of pairs one of each for every pair; of
    /// lists of responses, all of them; of best-of-n none.
    pub rewards: PairRewards,
    /// The page with all figures, where one was written.
    pub report: Option<PathBuf>,
}

impl EvaluatedFile {
    /// Of pairs, the reward of the better less that of the worse response; of other files none.
    pub fn margins(&self) -> Vec<f64> {
        match self.evaluation.taken_for.is_of_pairs() {
            true => self.rewards.margins(),
            false => Vec::new(),
        }
    }

    /// What the rows of the file are: `pairs` or `rows`.
    pub fn unit(&self) -> &'static str {
        if self.evaluation.taken_for.is_of_pairs() { "pairs" } else { "rows" }
    }
}

impl Serialize for EvaluatedFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let EvaluatedFile { path, rows, evaluation, trained_on, report, .. } = self;
        let accuracy = evaluation.accuracy.get();
        let subset = |(name, a): (&String, &PairAccuracy)| {
            (name.clone(), json!({"pairs": a.pairs, "accuracy": a.half.value, "ci95": a.half.ci95}))
        };
        let subsets = evaluation.subsets.get().into_iter().flatten();
        let subsets: Map<String, Value> = subsets.map(subset).collect();
        let mut answer = json!({
            "file": path,
            "taken_for": evaluation.taken_for,
            (self.unit()): rows,
            "accuracy": accuracy.map(|a| a.half.value),
            "ci95": accuracy.map(|a| a.half.ci95),
            "log_loss": evaluation.calibration.get().map(|c| c.plain.log_loss),
            "longer_wins": evaluation.length.get().map(|l| l.longer_wins),
            "subsets": subsets,
            "trained_on": trained_on,
        });
        if let Some(report) = report {
            answer["report"] = json!(report);
        }
        answer["evaluation"] = json!(evaluation);
        answer.serialize(to)
    }
}

/// Evaluates a reward model on files, each by itself.
///
/// # Errors
/// What is wrong with the options, the bundle, the files, the model or the outputs.
pub fn evaluate(
    options: &EvaluateOptions,
    progress: &dyn Progress,
) -> Result<Vec<EvaluatedFile>, Error> {
    let bundle = read_reward_model(&options.bundle, &options.encoder, progress)?;
    let outputs = outputs::Outputs::check(options)?;
    options.check_report()?;
    // Everything is read, and found fit, before anything is embedded.
    let mut prepared = Vec::new();
    for path in &options.files {
        prepared.push(match is_array(path) {
            true if options.gold.is_some() => {
                let detail = format!("scores texts, and {} holds embeddings", path.display());
                return Err(Error::option("gold", detail));
            }
            true => None,
            false => Some(text::prepare(path, &bundle, options, progress)?),
        });
    }
    let mut encoder = None;
    let mut results = Vec::new();
    for (path, prepared) in options.files.iter().zip(prepared) {
        let result = match prepared {
            None => arrays::evaluate(&bundle, path, options, progress)?,
            Some(prepared) => {
                let encoder = match &mut encoder {
                    Some(encoder) => encoder,
                    None => {
                        let (path, own) = (&options.bundle, &options.encoder);
                        let opened = open_encoder_of_bundle(&bundle, path, own, progress)?;
                        note_server(opened.as_ref(), progress);
                        encoder.insert(opened)
                    }
                };
                let outputs = outputs.as_ref();
                prepared.evaluate(&bundle, encoder.as_ref(), options, outputs, progress)?
            }
        };
        if result.trained_on {
            progress.note(&format!(
                "warning: {} holds the pairs that this model was trained on; its accuracy on them \
                 says nothing",
                path.display()
            ));
        }
        results.push(result);
    }
    stop_if_cancelled(progress)?;
    if let Some(file) = &options.report {
        let page = evaluation_page(&options.bundle, &bundle, &results, options.seed);
        write_atomic(file, page.as_bytes())?;
        results.iter_mut().for_each(|result| result.report = Some(file.clone()));
    }
    Ok(results)
}

fn is_array(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

/// The error of a file of which nothing can be evaluated on.
fn nothing_left(path: &Path, rows: &VetReport) -> Error {
    Error::NothingToEvaluate { path: path.to_owned(), left_out: rows.summary() }
}
