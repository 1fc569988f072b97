//! Planted priors: how a head that corrects a known reward fares where that reward is right, useless or
//! wrong. The known reward is a linear head, as a public reward model's score head is; it is trained on
//! pairs of the same file that no split uses otherwise, or of another file, and changed.
//!
//! ```sh
//! cargo run --release -p lens-eval --example planted_prior -- \
//!     pairs.safetensors chosen_last rejected_last 300 20 100,200 other.safetensors chosen rejected
//! ```
//!
//! The arguments: a file of embedded pairs and its two arrays, how many of its pairs train the planted
//! head, how many splits, numbers of labels; then the same of another set, or nothing. Each split deals
//! all pairs anew: some train the planted head, some are labels, the rest is held out. A line for each
//! number of labels and prior: mean held-out accuracy of the known reward as it is, of the head from
//! nothing and of the corrected head; their difference with its standard error over the splits and the
//! worst split; how often the folds took the prior.

use lens_core::head::logistic::Prior;
use lens_core::head::{HeadKind, HeadSettings};
use lens_core::metrics::{credits, mean_and_deviation};
use lens_core::rng::{Purpose, Stream};
use lens_core::{
    CoreError, EmbeddedPairs, Extras, MethodSettings, Quiet, RewardModel, Threads, fit_with,
};
use lens_data::{StoreKeys, StoredPairs};
use rayon::prelude::*;
use std::path::Path;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const KINDS: [&str; 7] = [
    "right",
    "right, 10x too large",
    "half right",
    "useless",
    "negated",
    "other set",
    "one column",
];

fn open(file: &str, chosen: &str, rejected: &str) -> Result<EmbeddedPairs, Failure> {
    let keys = StoreKeys { chosen: chosen.to_owned(), rejected: rejected.to_owned() };
    let stored = StoredPairs::open(&[Path::new(file).to_owned()], &keys, 1 << 32, &Quiet)?;
    Ok(stored.pairs)
}

fn settings(seed: u64) -> MethodSettings {
    let head = HeadSettings { kind: HeadKind::Logistic, ..HeadSettings::default() };
    MethodSettings { augment: 1, seed, head, ..MethodSettings::default() }
}

fn train(
    pairs: &EmbeddedPairs,
    seed: u64,
    prior: Option<&Prior>,
) -> Result<(RewardModel, bool), CoreError> {
    let extras = Extras { prior, ..Extras::default() };
    let fitted = fit_with(pairs, &settings(seed), extras, Threads::ONE, &Quiet)?.none;
    Ok((fitted.model, fitted.report.prior.is_some_and(|prior| prior.weight != 0.0)))
}

/// A trained head as one direction in embeddings as they are.
fn direction(model: &RewardModel) -> Vec<f32> {
    let members = model.head.shape().members as f32;
    let scale = &model.standardiser.scale;
    let mut all = vec![0.0; scale.len()];
    for member in model.head.parameters().chunks_exact(scale.len()) {
        for ((sum, w), s) in all.iter_mut().zip(member).zip(scale) {
            *sum += w * s / members;
        }
    }
    all
}

fn accuracy(model: &RewardModel, pairs: &EmbeddedPairs) -> Result<f64, CoreError> {
    let chosen = model.rewards(&pairs.chosen, Threads::ONE)?;
    let rejected = model.rewards(&pairs.rejected, Threads::ONE)?;
    Ok(100.0 * credits(&chosen, &rejected).iter().sum::<f64>() / pairs.len() as f64)
}

/// Accuracy of a direction by itself.
fn alone(weights: &[f32], pairs: &EmbeddedPairs) -> Result<f64, CoreError> {
    let d = weights.len();
    let shape = lens_core::head::HeadShape { dim: d, hidden: Vec::new(), members: 1 };
    let head = lens_core::head::Head::with_parameters(shape, Default::default(), weights.to_vec())?;
    let standardiser = lens_core::Standardiser::identity(d);
    let model = RewardModel { standardiser, head, reward_mean: 0.0, reward_deviation: 1.0 };
    accuracy(&model, pairs)
}

/// What one split says of one prior.
struct Outcome {
    alone: f64,
    nothing: f64,
    corrected: f64,
    taken: bool,
}

fn split(
    pairs: &EmbeddedPairs,
    other: Option<&[f32]>,
    planted: usize,
    labels: usize,
    index: u64,
) -> Result<Vec<Option<Outcome>>, CoreError> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let mut stream = Stream::new(7, Purpose::Splits, index);
    stream.shuffle(&mut order);
    let part = |rows: &[usize]| pairs.select(rows);
    let known = direction(&train(&part(&order[..planted]), index, None)?.0);
    let few = direction(&train(&part(&order[..planted / 8]), index, None)?.0);
    let seeds = part(&order[planted..planted + labels]);
    let heldout = part(&order[planted + labels..]);
    let nothing = accuracy(&train(&seeds, index, None)?.0, &heldout)?;
    let size = (known.iter().map(|w| w * w).sum::<f32>() / known.len() as f32).sqrt();
    let of_kind = |kind: &str, stream: &mut Stream| -> Option<Vec<f32>> {
        Some(match kind {
            "right" => known.clone(),
            "right, 10x too large" => known.iter().map(|w| 10.0 * w).collect(),
            "half right" => few.clone(),
            "useless" => known.iter().map(|_| size * stream.normal()).collect(),
            "negated" => known.iter().map(|w| -w).collect(),
            "other set" => other?.to_vec(),
            _ => (0..known.len()).map(|j| if j == 5 { size } else { 0.0 }).collect(),
        })
    };
    KINDS
        .iter()
        .map(|kind| {
            let Some(weights) = of_kind(kind, &mut stream) else { return Ok(None) };
            let alone = alone(&weights, &heldout)?;
            let prior = Prior { columns: 0..weights.len(), weights };
            let (model, taken) = train(&seeds, index, Some(&prior))?;
            let corrected = accuracy(&model, &heldout)?;
            Ok(Some(Outcome { alone, nothing, corrected, taken }))
        })
        .collect()
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, chosen, rejected, planted, splits, labels, rest @ ..] = &arguments[..] else {
        return Err("FILE CHOSEN REJECTED PLANTED SPLITS LABELS,.. [FILE CHOSEN REJECTED]".into());
    };
    let pairs = open(file, chosen, rejected)?;
    let other = match rest {
        [file, chosen, rejected] => {
            Some(direction(&train(&open(file, chosen, rejected)?, 0, None)?.0))
        }
        _ => None,
    };
    let (planted, splits): (usize, u64) = (planted.parse()?, splits.parse()?);
    println!("{} pairs, {planted} train the planted head, {splits} splits", pairs.len());
    println!(
        "| labels | prior | as it is | from nothing | corrected | difference (s.e.) | worst | taken |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for labels in labels.split(',') {
        let labels: usize = labels.parse()?;
        let all = (0..splits)
            .into_par_iter()
            .map(|index| split(&pairs, other.as_deref(), planted, labels, index))
            .collect::<Result<Vec<_>, CoreError>>()?;
        for (at, kind) in KINDS.iter().enumerate() {
            let own: Vec<&Outcome> = all.iter().filter_map(|split| split[at].as_ref()).collect();
            if own.is_empty() {
                continue;
            }
            let n = own.len() as f64;
            let mean = |f: fn(&Outcome) -> f64| own.iter().map(|o| f(o)).sum::<f64>() / n;
            let gains = || own.iter().map(|o| o.corrected - o.nothing);
            let (gain, deviation) = mean_and_deviation(gains());
            let worst = gains().fold(f64::INFINITY, f64::min);
            let taken = own.iter().filter(|o| o.taken).count();
            println!(
                "| {labels} | {kind} | {:.1} | {:.1} | {:.1} | {gain:+.2} ({:.2}) | {worst:+.1} | {taken} of {n} |",
                mean(|o| o.alone),
                mean(|o| o.nothing),
                mean(|o| o.corrected),
                deviation / (n - 1.0).max(1.0).sqrt(),
            );
        }
    }
    Ok(())
}
