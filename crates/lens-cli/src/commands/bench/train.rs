//! `lens bench train`: VAE, synthesis and heads at several augmentation factors.

use super::{made_up, peak_mb};
use crate::args::BenchTrainArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::StoredPairsOptions;
use lens_core::folds::Folds;
use lens_core::head::HeadSettings;
use lens_core::head::{Augmentation, HeadData, train as train_head};
use lens_core::pairing::{check_factor, synthetic_per_side};
use lens_core::source::Synthetic;
use lens_core::synthesis::{SyntheticCodes, Weighing, synthesise};
use lens_core::vae::train::train as train_vae;
use lens_core::vae::{Vae, VaeSettings};
use lens_core::{EmbeddedPairs, Standardiser, Threads};
use lens_data::StoredPairs;
use lens_report::text::{percent, thousands};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;

/// Everything that is measured at one factor.
struct Point {
    factor: usize,
    head_seconds: f64,
    log_loss: Option<f64>,
    best_log_loss: Option<f64>,
    accuracy: Option<f64>,
}

/// Runs the command.
pub fn run(
    args: &BenchTrainArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(), CliError> {
    args.factors.iter().try_for_each(|&f| check_factor(f))?;
    let (pairs, heldout) = data(args, settings, reporter)?;
    let threads = Threads::available();
    let vae_settings = VaeSettings { epochs: args.vae_epochs, ..settings.vae.clone() };
    // Every pair in every epoch: what a plain training loop does.
    let head_settings = HeadSettings {
        epochs: args.head_epochs,
        members: args.members,
        folds: 1,
        ..settings.head.clone()
    };
    let start = Instant::now();
    let standardiser = Standardiser::fit(&pairs);
    let standardise_seconds = start.elapsed().as_secs_f64();

    let bench =
        Bench { pairs: &pairs, heldout: &heldout, standardiser, settings, threads, reporter };
    let (vae_seconds, (vae, vae_report)) = fastest(args.repeat, || {
        let (pairs, standardiser, seed) = (&pairs, &bench.standardiser, settings.seed);
        train_vae(pairs, standardiser, &vae_settings, None, seed, threads, reporter)
    })?;
    let largest = args.factors.iter().copied().max().unwrap_or(1);
    let (synthesis_seconds, codes) = fastest(args.repeat, || bench.codes(&vae, largest))?;
    let synthetic = 2 * pairs.len() * codes.per_side();
    let points = args
        .factors
        .iter()
        .map(|&factor| bench.head(&vae, factor, &head_settings, args.repeat))
        .collect::<Result<Vec<Point>, CliError>>()?;
    let peak = peak_mb();
    let gflops = lens_encoder::bench::matmul_gflops();
    let operations = vae_operations(&vae) * 2.0 * pairs.len() as f64 * args.vae_epochs as f64;
    let share = operations / vae_seconds / 1e9 / gflops;

    let steps = |epochs: usize, batch: usize| (epochs * pairs.len().div_ceil(batch)) as f64;
    let vae_step = vae_seconds / steps(args.vae_epochs, vae_settings.batch);
    let head_steps = steps(args.head_epochs, head_settings.batch);
    let per_minute = synthetic as f64 / synthesis_seconds * 60.0;
    if settings.json {
        let by_factor = |f: &dyn Fn(&Point) -> Option<f64>| -> Value {
            points.iter().map(|p| (p.factor.to_string(), json!(f(p)))).collect::<Map<_, _>>().into()
        };
        return output::json(&json!({
            "dim": pairs.dim(), "pairs": pairs.len(), "members": args.members,
            "threads": threads.0, "seed": settings.seed,
            "vae_seconds": vae_seconds, "synthesis_seconds": synthesis_seconds,
            "head_seconds": by_factor(&|p| Some(p.head_seconds)), "peak_mb": peak,
            "standardise_seconds": standardise_seconds,
            "vae_step_seconds": vae_step,
            "head_step_seconds": by_factor(&|p| Some(p.head_seconds / head_steps)),
            "synthetic_responses": synthetic, "synthetic_per_minute": per_minute,
            "codes_kept": codes.are_kept(),
            "vae_parameters": vae.shape().parameters(), "vae_last": vae_report.epochs.last(),
            "matmul_gflops": gflops, "vae_matmul_share": share,
            "heldout_pairs": heldout.len(),
            "heldout_log_loss": by_factor(&|p| p.log_loss),
            "heldout_log_loss_best": by_factor(&|p| p.best_log_loss),
            "heldout_accuracy": by_factor(&|p| p.accuracy),
        }));
    }
    let mut rows = vec![
        (
            "pairs".to_owned(),
            format!("{}, width {}, {} threads", pairs.len(), pairs.dim(), threads.0),
        ),
        (
            "VAE".to_owned(),
            format!(
                "{vae_seconds:.2} s: {:.2} ms a step, {} of the {gflops:.0} GFLOP/s of a large \
                 matrix product",
                1e3 * vae_step,
                percent(share)
            ),
        ),
        (
            "synthesis".to_owned(),
            format!(
                "{synthesis_seconds:.3} s: {} responses, {} million a minute",
                thousands(synthetic as u64),
                thousands((per_minute / 1e6) as u64)
            ),
        ),
    ];
    rows.extend(points.iter().map(|p| {
        let mut text =
            format!("{:.3} s: {:.2} ms a step", p.head_seconds, 1e3 * p.head_seconds / head_steps);
        if let (Some(loss), Some(accuracy)) = (p.log_loss, p.accuracy) {
            text += &format!("; held-out log-loss {loss:.4}, accuracy {}", percent(accuracy));
        }
        (format!("head at {}x", p.factor), text)
    }));
    let peak = peak.map_or("unknown".to_owned(), |mb| format!("{} MB at most", thousands(mb)));
    rows.push(("memory".to_owned(), peak));
    output::line(&output::aligned(&rows))
}

fn data(
    args: &BenchTrainArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(EmbeddedPairs, EmbeddedPairs), CliError> {
    let read = |path: &Path| -> Result<EmbeddedPairs, CliError> {
        let StoredPairsOptions { keys, memory_mb, .. } = settings.stored(Vec::new())?;
        let stored = StoredPairs::open(&[path.to_owned()], &keys, memory_mb << 20, reporter);
        Ok(stored?.pairs)
    };
    let made_up = |count, part| made_up::pairs(args.dim, count, settings.seed, part);
    Ok(match (&args.arrays, &args.heldout) {
        (None, _) => (made_up(args.pairs, 0)?, made_up(args.heldout_pairs, 1)?),
        (Some(path), Some(heldout)) => (read(path)?, read(heldout)?),
        // Nothing to measure on but what was trained on: said by the number of held-out pairs, 0.
        (Some(path), None) => {
            let pairs = read(path)?;
            let none = pairs.select(&[]);
            (pairs, none)
        }
    })
}

/// Multiplications and additions of one response in one pass, forward and backward, as they are in
/// the plain computation: two for each weight forward, four backward.
fn vae_operations(vae: &Vae) -> f64 {
    6.0 * vae.shape().parameters() as f64
}

/// The fastest of some runs, and its result.
fn fastest<T, E: Into<CliError>>(
    runs: usize,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<(f64, T), CliError> {
    let mut timed = || -> Result<(f64, T), CliError> {
        let start = Instant::now();
        let result = work().map_err(Into::into)?;
        Ok((start.elapsed().as_secs_f64(), result))
    };
    let mut best = timed()?;
    for _ in 1..runs {
        let next = timed()?;
        if next.0 < best.0 {
            best = next;
        }
    }
    Ok(best)
}

/// What does not change from factor to factor.
struct Bench<'a> {
    pairs: &'a EmbeddedPairs,
    heldout: &'a EmbeddedPairs,
    standardiser: Standardiser,
    settings: &'a Settings,
    threads: Threads,
    reporter: &'a Reporter,
}

impl Bench<'_> {
    fn codes(&self, vae: &Vae, factor: usize) -> Result<SyntheticCodes, lens_core::CoreError> {
        synthesise(
            vae,
            self.pairs,
            &self.standardiser,
            &self.settings.synthesis,
            synthetic_per_side(factor),
            self.settings.seed,
            self.threads,
        )
    }

    fn head(
        &self,
        vae: &Vae,
        factor: usize,
        settings: &HeadSettings,
        repeat: usize,
    ) -> Result<Point, CliError> {
        let codes = self.codes(vae, factor)?;
        let pairing = self.settings.pairing;
        let synthetic = Synthetic::Codes { vae, codes };
        let augmentation =
            Augmentation { factor, pairing, synthetic: &synthetic, weighing: Weighing::default() };
        let folds = Folds::assign(&self.pairs.prompts, 1, self.settings.seed);
        let data = HeadData {
            pairs: self.pairs,
            standardiser: &self.standardiser,
            folds: &folds,
            augmentation: (factor > 1).then_some(&augmentation),
            watch: None,
            prior: None,
        };
        let train = |data| {
            let (seed, threads) = (self.settings.seed, self.threads);
            train_head(data, settings, None, seed, threads, "head", self.reporter)
        };
        let (head_seconds, _) = fastest(repeat, || train(data))?;
        // Once more, off the clock, with a look at the held-out pairs after every epoch.
        let mut heldout = Vec::new();
        if !self.heldout.is_empty() {
            let (_, report) = train(HeadData { watch: Some(self.heldout), ..data })?;
            heldout = report.epochs;
        }
        let last = heldout.last();
        let losses = heldout.iter().filter_map(|e| e.heldout_log_loss);
        Ok(Point {
            factor,
            head_seconds,
            log_loss: last.and_then(|e| e.heldout_log_loss),
            best_log_loss: losses.reduce(f64::min),
            accuracy: last.and_then(|e| e.heldout_accuracy),
        })
    }
}
