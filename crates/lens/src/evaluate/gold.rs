//! Best-of-n with a gold reward: the responses of each prompt scored by another reward model, such as a
//! public one, in the place of a judge's scores in the file (the paper's protocol).

use super::EvaluateOptions;
use super::text::{Material, Prepared, scored};
use crate::data_source;
use crate::options::BundleModelOptions;
use crate::score::{Scorer, exchanges_of};
use crate::{Error, Progress};
use lens_data::bundle::Bundle;
use lens_data::{ScoreRow, ScoredRow, VetReport, group_by_prompt, read_exchanges_with};
use lens_eval::figures::Benchmark;
use lens_eval::figures::best_of_n::{Scored, check};
use std::path::Path;

/// Reads a file of prompts with several responses, and scores them by the reward model `gold`: a bundle's
/// folder, or a public reward model.
pub(super) fn prepare(
    path: &Path,
    gold: &str,
    options: &EvaluateOptions,
    progress: &dyn Progress,
) -> Result<Prepared, Error> {
    if let Some(other) = options.benchmark.filter(|b| *b != Benchmark::BestOfN) {
        let detail = format!("scores the responses of best-of-n; the file is taken for {other}");
        return Err(Error::option("gold", detail));
    }
    let input = data_source::resolve(&path.into(), &options.encoder.runtime, progress)?;
    let set = read_exchanges_with(&input, &options.reading, progress)?;
    let refuse = |line: u64, why: &str| {
        Err(Error::Refused(format!(
            "{}, line {line}: {why}: best-of-n by a gold reward needs a prompt with a list `responses` in \
             every row",
            path.display()
        )))
    };
    // Without one of its responses a prompt would have another best one.
    if let Some(bad) = set.malformed.first() {
        return refuse(bad.line, "the row is malformed");
    }
    let several = |value: &ScoreRow| matches!(value, ScoreRow::Candidates { .. });
    if let Some(row) = set.rows.iter().find(|row| !several(&row.value)) {
        return refuse(row.line, "there is one response");
    }
    let own = BundleModelOptions {
        model: (!Bundle::is_at(Path::new(gold))).then(|| gold.to_owned()),
        runtime: options.encoder.runtime.clone(),
        ..BundleModelOptions::default()
    };
    let scorer = Scorer::open(Path::new(gold), &own, progress)?;
    progress.note(&format!("{}: gold rewards by {gold}", path.display()));
    let exchanges: Vec<_> = set.rows.iter().flat_map(|row| exchanges_of(&row.value)).collect();
    let mut rewards = scorer.score(&exchanges, progress)?.into_iter().map(f64::from);
    drop(scorer);
    let report =
        VetReport::all_but_malformed(set.rows.len(), &set.malformed, set.layout.files.len() > 1);
    let rows = set.rows.into_iter().filter_map(|row| {
        row.filter_map(|value| match value {
            ScoreRow::Candidates { prompt, responses } => {
                let scores = rewards.by_ref().take(responses.len()).collect();
                Some(ScoredRow { prompt, responses, scores })
            }
            _ => None,
        })
    });
    let groups = group_by_prompt(rows);
    let all: Vec<Scored> = groups.iter().map(|group| scored(group, &mut || 0.0)).collect();
    check(&all, options.n, path)?;
    Ok(Prepared {
        path: path.to_owned(),
        benchmark: Benchmark::BestOfN,
        material: Material::Scored(groups, report),
        trained_on: false,
    })
}
