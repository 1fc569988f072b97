//! The files that the `rewardbench` package writes, for the scripts that read them.

use super::EvaluateOptions;
use crate::Error;
use lens_core::PreferencePair;
use lens_data::bundle::Bundle;
use lens_data::{AtomicFile, RankedRow, Row, write_atomic, write_atomic_with};
use lens_eval::figures::accuracy::{TieRule, credit};
use lens_eval::figures::rewardbench2::{Ranked, TIES, row_score};
use lens_eval::figures::{Benchmark, Evaluation};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the files go.
pub struct Outputs {
    model: String,
    rows: PathBuf,
    summary: PathBuf,
}

impl Outputs {
    /// Whether they can be written, before the work.
    pub fn check(options: &EvaluateOptions) -> Result<Option<Outputs>, Error> {
        let Some(folder) = &options.outputs else { return Ok(None) };
        if options.files.len() > 1 || options.files.iter().any(|path| super::is_array(path)) {
            let detail = "takes one file of text: its files are named after the model alone";
            return Err(Error::option("--outputs", detail));
        }
        std::fs::create_dir_all(folder)
            .map_err(|e| lens_data::Error::io(folder, "create the folder", e))?;
        let bundle =
            std::fs::canonicalize(&options.bundle).unwrap_or_else(|_| options.bundle.clone());
        let name = bundle.file_name().unwrap_or(bundle.as_os_str());
        let model = name.to_string_lossy().into_owned();
        let rows = folder.join(format!("{model}_outputs.jsonl"));
        let summary = folder.join(format!("{model}.json"));
        AtomicFile::check(&rows)?;
        AtomicFile::check(&summary)?;
        Ok(Some(Outputs { model, rows, summary }))
    }

    /// The error of data that `rewardbench` has no files for.
    pub fn not_for(benchmark: Benchmark) -> Error {
        Error::option("--outputs", format!("is for pairs and RewardBench, not for {benchmark}"))
    }

    /// Of pairs; ties are wrong, as there.
    pub fn write_pairs(
        &self,
        bundle: &Bundle,
        rows: &[Row<PreferencePair>],
        chosen: &[f32],
        rejected: &[f32],
    ) -> Result<(), Error> {
        let mut sums = Sums::default();
        let lines = rows.iter().zip(chosen.iter().zip(rejected)).map(|(row, (&a, &b))| {
            let right = credit(TieRule::Wrong, a, b);
            sums.add(row.subset(), right);
            let mut line = Map::new();
            line.insert("prompt".to_owned(), json!(row.value.prompt));
            line.extend(row.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
            line.insert("results".to_owned(), json!(right as u8));
            line.insert("scores_chosen".to_owned(), json!(a));
            line.insert("scores_rejected".to_owned(), json!(b));
            Value::Object(line)
        });
        let lines: Vec<Value> = lines.collect();
        self.write(bundle, &lines, &sums, sums.mean(), Map::new())
    }

    /// Of RewardBench 2: `results` is the row score, none in Ties, and scores are lists.
    pub fn write_ranked(
        &self,
        bundle: &Bundle,
        rows: &[Row<RankedRow>],
        ranked: &[Ranked],
        evaluation: &Evaluation,
    ) -> Result<(), Error> {
        let Some(figures) = evaluation.rewardbench2.get() else {
            return Err(Outputs::not_for(evaluation.taken_for));
        };
        let mut sums = Sums::default();
        let lines = rows.iter().zip(ranked).map(|(row, rewards)| {
            let score = row_score(&rewards.chosen, &rewards.rejected);
            let ties = row.subset() == Some(TIES);
            if !ties {
                sums.add(row.subset(), score);
            }
            let mut line = Map::new();
            line.insert("prompt".to_owned(), json!(row.value.prompt));
            line.extend(row.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
            line.insert("results".to_owned(), if ties { Value::Null } else { json!(score) });
            line.insert("scores_chosen".to_owned(), json!(rewards.chosen));
            line.insert("scores_rejected".to_owned(), json!(rewards.rejected));
            Value::Object(line)
        });
        let lines: Vec<Value> = lines.collect();
        let ties = figures.ties.map(|ties| (TIES.to_owned(), json!(ties.score)));
        self.write(bundle, &lines, &sums, sums.mean(), ties.into_iter().collect())
    }

    fn write(
        &self,
        bundle: &Bundle,
        lines: &[Value],
        sums: &Sums,
        accuracy: Option<f64>,
        more: Map<String, Value>,
    ) -> Result<(), Error> {
        let mut extra = more;
        extra.extend(
            sums.by_subset.iter().map(|(name, (right, n))| (name.clone(), json!(right / n))),
        );
        let template = bundle.manifest.encoder.as_ref().map(|e| e.identity.template.clone());
        let summary = json!({
            "accuracy": accuracy,
            "num_prompts": lines.len(),
            "model": self.model,
            "chat_template": template,
            "extra_results": if extra.is_empty() { Value::Null } else { Value::Object(extra) },
        });
        write_atomic_with(&self.rows, |file| {
            lines.iter().try_for_each(|line| writeln!(file, "{line}"))
        })?;
        Ok(write_atomic(&self.summary, format!("{summary:#}\n").as_bytes())?)
    }
}

/// Right and all, together and by subset.
#[derive(Default)]
struct Sums {
    all: (f64, f64),
    by_subset: BTreeMap<String, (f64, f64)>,
}

impl Sums {
    fn add(&mut self, subset: Option<&str>, right: f64) {
        self.all.0 += right;
        self.all.1 += 1.0;
        if let Some(subset) = subset {
            let sum = self.by_subset.entry(subset.to_owned()).or_default();
            sum.0 += right;
            sum.1 += 1.0;
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.all.1 > 0.0).then(|| self.all.0 / self.all.1)
    }
}
