//! Evaluation on stored embeddings of pairs.

use super::{EvaluateOptions, EvaluatedFile, nothing_left};
use crate::models::check_arrays;
use crate::options::{StoredPairsOptions, unless_unreadable};
use crate::{Error, Progress};
use lens_core::Threads;
use lens_data::bundle::Bundle;
use lens_data::{LeftOut, Reason};
use lens_eval::figures::heldout::PairRewards;
use lens_eval::figures::{Benchmark, Evaluation, PairData, ScoredPairs};
use std::path::Path;

/// Scores the pairs of a safetensors file, and computes the figures.
pub(super) fn evaluate(
    bundle: &Bundle,
    path: &Path,
    options: &EvaluateOptions,
    progress: &dyn Progress,
) -> Result<EvaluatedFile, Error> {
    if let Some(other) = options.benchmark.filter(|b| *b != Benchmark::Pairs) {
        let detail = format!("{} holds embedded pairs, not {other}", path.display());
        return Err(Error::option("--benchmark", detail));
    }
    if !options.subsets.is_empty() {
        let detail = format!("{} holds embeddings: no subsets", path.display());
        return Err(Error::option("--subset", detail));
    }
    let stored = StoredPairsOptions {
        keys: options.keys.clone(),
        memory_mb: options.memory_mb,
        ..StoredPairsOptions::new(vec![path.to_owned()])
    };
    let stored = stored.open(progress)?;
    check_arrays(bundle, stored.encoder.as_ref(), path, progress)?;
    let (ties, decided): (Vec<usize>, Vec<usize>) =
        (0..stored.pairs.len()).partition(|&i| stored.pairs.labels[i].is_tie());
    let equal = stored.report.left_out_total();
    if equal > 0 {
        progress.note(&format!("left out: {equal} pairs with equal embeddings on both sides"));
    }
    // An array has rows, not lines; they are counted from 1 here as lines are.
    let line = |&pair: &usize| stored.rows[pair] as u64 + 1;
    let mut rows = stored.report.clone();
    let tie = |pair| LeftOut::on_line(line(pair), "");
    rows.leave_out(Reason::Tie, ties.iter().map(tie).collect());
    if decided.is_empty() {
        return Err(nothing_left(path, &rows));
    }
    let pairs = if ties.is_empty() { stored.pairs.clone() } else { stored.pairs.select(&decided) };
    let rewards =
        PairRewards::score(&bundle.model, &pairs, Threads::available()).map_err(Error::from);
    let rewards = unless_unreadable(&stored, rewards)?;
    let (prompts, seed) = (&*pairs.prompts, options.seed);
    let lines: Vec<u64> = decided.iter().map(line).collect();
    let PairRewards { chosen, rejected } = &rewards;
    let data = PairData {
        file: path,
        pairs: ScoredPairs { chosen, rejected, prompts, seed },
        lines: &lines,
        rows: None,
        worst: options.worst,
    };
    Ok(EvaluatedFile {
        path: path.to_owned(),
        rows,
        evaluation: Evaluation::of_pairs(Benchmark::Pairs, data)?,
        trained_on: stored.fingerprint == bundle.manifest.data.fingerprint,
        rewards,
        report: None,
    })
}
