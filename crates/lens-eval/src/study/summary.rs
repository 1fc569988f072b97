//! The result of a study, as data. Nothing in it but `cost` depends on how long anything took.

use super::efficiency::Reading;
use super::plan::GridAxis;
use lens_core::metrics::Estimate;
use serde::Serialize;
use std::collections::BTreeMap;

/// A study's result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Its headline.
    pub title: String,
    /// The question it answers.
    pub question: String,
    /// The data it is run on.
    pub data: DataSummary,
    /// Number of splits.
    pub splits: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Numbers of seed pairs.
    pub seeds: Vec<usize>,
    /// Pairs held out of each split, on average over the splits.
    pub held_out: f64,
    /// Augmentation factors.
    pub factors: Vec<usize>,
    /// Varied settings.
    pub grid: Vec<GridAxis>,
    /// The rival that others are compared with.
    pub baseline: String,
    /// The rivals.
    pub rivals: Vec<RivalSummary>,
    /// Number of trainings.
    pub cells: usize,
    /// Comparisons that Holm's correction is for.
    pub comparisons: usize,
    /// Bootstrap resamples behind p-values; intervals have the first 2,000 of them.
    pub resamples: usize,
    /// The findings, one sentence each.
    pub findings: Vec<String>,
    /// Every rival at every factor or try, and at every point of the grid.
    pub rows: Vec<Row>,
    /// Every rival with the factor or try that it chose on the folds of each split.
    pub chosen: Vec<Row>,
    /// Label efficiency; empty unless there are several numbers of seed pairs.
    pub efficiency: Vec<Efficiency>,
    /// The rows as a table, in the shape that the study's axes suggest.
    pub table: Table,
    /// Parameters and wall-clock seconds.
    pub cost: Vec<Cost>,
}

/// The data of a study.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct DataSummary {
    /// The file, without folders.
    pub file: String,
    /// Pairs that were read.
    pub read: usize,
    /// Pairs of the pool.
    pub pairs: usize,
    /// Different prompts of these.
    pub prompts: usize,
    /// Pairs that were left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// The encoders.
    pub encoders: Vec<EncoderSummary>,
}

/// One encoder of a study.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderSummary {
    /// Its name; empty where the study has but one.
    pub name: String,
    /// Its description: model, layer and so on.
    pub about: String,
    /// Width of its embeddings.
    pub dim: usize,
    /// Fingerprint of the pairs as it has them.
    pub fingerprint: String,
}

/// One rival of a study.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RivalSummary {
    /// Its name.
    pub name: String,
    /// Its description.
    pub about: String,
    /// Factors or tries that it chooses from.
    pub tries: usize,
}

/// One rival on all splits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The encoder; empty where the study has but one.
    pub encoder: String,
    /// Number of seed pairs.
    pub seeds: usize,
    /// The rival.
    pub rival: String,
    /// Training pairs for each seed pair; none for a choice.
    pub factor: Option<usize>,
    /// `4x`, what is tried, or `chosen`.
    pub variant: String,
    /// Values of the varied settings by name; those it does not depend on are left out.
    pub grid: BTreeMap<String, String>,
    /// Mean accuracy with its interval over prompts; none where all splits ran away.
    pub accuracy: Option<Estimate>,
    /// Accuracy of every split.
    pub by_split: Vec<Option<f64>>,
    /// Mean log-loss on held-out pairs, over the splits that did not run away.
    pub log_loss: Option<f64>,
    /// Mean log-loss on the folds of the seeds, likewise.
    pub fold_log_loss: Option<f64>,
    /// Splits in which training ran away.
    pub ran_away: usize,
    /// The message of the first of them.
    pub reason: Option<String>,
    /// The variants that the rival chose, each with its number of splits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub picks: BTreeMap<String, usize>,
    /// Against the baseline; none for the baseline itself, and where none of its rows fits.
    pub difference: Option<Difference>,
}

/// A row against the baseline's on the same held-out pairs of the same splits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The baseline's variant.
    pub baseline: String,
    /// Mean difference in accuracy, with its interval over prompts.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Two-sided bootstrap p-value.
    pub p: f64,
    /// The same after Holm's correction over all comparisons of the study.
    pub p_holm: f64,
}

impl Difference {
    /// Whether it is told from 0 at 5%, after correction.
    pub fn is_clear(&self) -> bool {
        self.p_holm < 0.05
    }
}

/// Label efficiency of a rival.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Efficiency {
    /// The encoder.
    pub encoder: String,
    /// The rival.
    pub rival: String,
    /// `4x`, what is tried, or `chosen`.
    pub variant: String,
    /// Values of the varied settings.
    pub grid: BTreeMap<String, String>,
    /// By number of labels.
    pub points: Vec<EfficiencyPoint>,
}

/// Label efficiency of a rival with `labels` labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EfficiencyPoint {
    /// Labels with the rival.
    pub labels: usize,
    /// Accuracy with the rival, made monotone.
    pub accuracy: f64,
    /// So many labels with the baseline are as good.
    pub like: Reading,
    /// 95% bootstrap interval of that.
    pub ci95: Option<[Reading; 2]>,
}

impl EfficiencyPoint {
    /// `400 labels work like 620 without (95% interval 480 to more than 800)`.
    pub fn shown(&self) -> String {
        let interval = self.ci95.map_or(String::new(), |[low, high]| {
            format!(" (95% interval {} to {})", low.shown(), high.shown())
        });
        format!("{} labels work like {}{interval}", self.labels, self.like.shown())
    }
}

/// Rows of a study as a table.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Table {
    /// The axis of its rows.
    pub corner: String,
    /// The axis of its columns.
    pub across: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<TableRow>,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableRow {
    /// Its name.
    pub name: String,
    /// Where each entry stands: a number in `rows`, or in `chosen`; none where there is none.
    pub cells: Vec<Option<Entry>>,
}

/// Where the figures of a table's entry stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// In `rows`.
    Row(usize),
    /// In `chosen`.
    Chosen(usize),
}

/// Parameters and seconds of a rival, on average over the splits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The encoder.
    pub encoder: String,
    /// Number of seed pairs.
    pub seeds: usize,
    /// The rival.
    pub rival: String,
    /// `4x`, or what is tried.
    pub variant: String,
    /// Values of the varied settings.
    pub grid: BTreeMap<String, String>,
    /// Parameters of the source of synthetic pairs.
    pub generator_parameters: Option<u64>,
    /// Seconds of making the source and drawing from it.
    pub seconds_source: f64,
    /// Seconds of training the head.
    pub seconds_head: f64,
    /// Synthetic pairs in training.
    pub synthetic_pairs: usize,
    /// Seconds of source for 1,000 of them; none where there are none.
    pub seconds_per_thousand: Option<f64>,
}
