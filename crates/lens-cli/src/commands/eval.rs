//! `lens eval`: a saved reward model on held-out data: pairs, benchmarks, best-of-n; as text or as
//! embeddings.

mod outputs;
mod show;
mod text;

use crate::args::EvalArgs;
use crate::commands::embed::check_output;
use crate::commands::train::{load, note_equal};
use crate::embedding::{check_arrays, encoder_of_bundle};
use crate::error::CliError;
use crate::evaluation::PairRewards;
use crate::output;
use crate::progress::Reporter;
use crate::report;
use crate::settings::{Settings, bad};
use lens_core::Progress;
use lens_data::bundle::Bundle;
use lens_data::{LeftOut, Reason, VetReport, write_atomic};
use lens_eval::figures::{Benchmark, Evaluation, PairData, ScoredPairs};
use std::path::{Path, PathBuf};

/// What one file says of a reward model.
pub struct Evaluated {
    /// The file.
    pub path: PathBuf,
    /// What became of its rows.
    pub rows: VetReport,
    /// The figures.
    pub evaluation: Evaluation,
    /// Whether these are the very pairs that the model was trained on.
    pub trained_on: bool,
    /// The rewards of better and worse responses: a pair each of pairs, all of them of lists; none
    /// of best-of-n.
    pub rewards: PairRewards,
}

impl Evaluated {
    /// Of pairs, the reward of the better less that of the worse response; of others none.
    pub fn margins(&self) -> Vec<f64> {
        if !self.evaluation.taken_for.is_of_pairs() {
            return Vec::new();
        }
        let PairRewards { chosen, rejected } = &self.rewards;
        let margin = |(&a, &b): (&f32, &f32)| f64::from(a) - f64::from(b);
        chosen.iter().zip(rejected).map(margin).collect()
    }
}

/// Runs the command.
pub fn run(args: &EvalArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let bundle = Bundle::read(&args.bundle)?;
    let outputs = outputs::Outputs::check(args)?;
    check_report(args, settings)?;
    // Everything is read, and found fit, before anything is embedded.
    let mut prepared = Vec::new();
    for path in &args.data {
        prepared.push(match is_array(path) {
            true => None,
            false => Some(text::prepare(path, &bundle, args, settings, reporter)?),
        });
    }
    let mut encoder = None;
    let mut results = Vec::new();
    for (path, prepared) in args.data.iter().zip(prepared) {
        let result = match prepared {
            None => arrays(&bundle, path, args, settings, reporter)?,
            Some(prepared) => {
                let encoder = match &mut encoder {
                    Some(encoder) => encoder,
                    None => encoder.insert(encoder_of_bundle(
                        &bundle,
                        &args.bundle,
                        args.model.as_deref(),
                        settings,
                        reporter,
                    )?),
                };
                let outputs = outputs.as_ref();
                prepared.evaluate(&bundle, encoder.as_ref(), args, outputs, settings, reporter)?
            }
        };
        if result.trained_on {
            reporter.note(&format!(
                "warning: {} holds the pairs that this model was trained on; its accuracy on them \
                 says nothing",
                path.display()
            ));
        }
        results.push(result);
    }
    if let Some(file) = &args.report {
        let page = report::evaluation::page(&args.bundle, &bundle, &results, settings.seed);
        write_atomic(file, page.as_bytes())?;
    }
    let report = args.report.as_deref();
    results.iter().try_for_each(|result| show::print(result, report, settings))?;
    match report {
        Some(file) if !settings.json => {
            output::line(&output::aligned(&[("report".to_owned(), file.display().to_string())]))
        }
        _ => Ok(()),
    }
}

/// Whether the report may be written: asked before the work.
fn check_report(args: &EvalArgs, settings: &Settings) -> Result<(), CliError> {
    let Some(file) = &args.report else { return Ok(()) };
    for data in &args.data {
        check_output(data, file)?;
    }
    if !settings.overwrite && std::fs::symlink_metadata(file).is_ok() {
        return Err(CliError::Refused(format!(
            "{}: exists already; choose another name with --report, or replace it with --overwrite",
            file.display()
        )));
    }
    Ok(())
}

fn is_array(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

fn arrays(
    bundle: &Bundle,
    path: &Path,
    args: &EvalArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Evaluated, CliError> {
    if let Some(other) = args.benchmark.filter(|b| *b != Benchmark::Pairs) {
        let detail = format!("{} holds embedded pairs, not {other}", path.display());
        return Err(bad("--benchmark", detail));
    }
    if !args.subset.is_empty() {
        return Err(bad("--subset", format!("{} holds embeddings: no subsets", path.display())));
    }
    let loaded = load(&[path.to_owned()], settings, reporter)?;
    check_arrays(bundle, loaded.encoder.as_ref(), path, reporter)?;
    let (ties, decided): (Vec<usize>, Vec<usize>) =
        (0..loaded.pairs.len()).partition(|&i| loaded.pairs.labels[i].is_tie());
    note_equal(&loaded, reporter);
    // An array has rows, not lines; they are counted from 1 here as lines are.
    let line = |&row: &usize| loaded.rows[row] as u64 + 1;
    let mut rows = loaded.report.clone();
    let tied = ties.iter().map(line).map(|line| LeftOut { line, detail: String::new() });
    rows.leave_out(Reason::Tie, tied.collect());
    if decided.is_empty() {
        return Err(nothing_left(path, &rows));
    }
    let pairs = if ties.is_empty() { loaded.pairs.clone() } else { loaded.pairs.select(&decided) };
    let rewards = PairRewards::of(&bundle.model, &pairs);
    loaded.check_reads()?;
    let PairRewards { chosen, rejected } = rewards?;
    let (prompts, seed) = (&*pairs.prompts, settings.seed);
    let lines: Vec<u64> = decided.iter().map(line).collect();
    let data = PairData {
        file: path,
        pairs: ScoredPairs { chosen: &chosen, rejected: &rejected, prompts, seed },
        lines: &lines,
        rows: None,
        worst: args.worst,
    };
    Ok(Evaluated {
        path: path.to_owned(),
        rows,
        evaluation: Evaluation::of_pairs(Benchmark::Pairs, data)?,
        trained_on: loaded.fingerprint == bundle.manifest.data.fingerprint,
        rewards: PairRewards { chosen, rejected },
    })
}

/// The error of a file of which nothing can be evaluated on.
fn nothing_left(path: &Path, rows: &VetReport) -> CliError {
    CliError::NothingToEvaluate { path: path.to_owned(), left_out: rows.summary() }
}
