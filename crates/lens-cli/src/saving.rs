//! From a finished training to a bundle: which head is kept, what the manifest says, the report.

use crate::error::CliError;
use crate::output::{percent, thousands};
use crate::progress::Reporter;
use crate::report::{self, Evidence};
use crate::settings::{Keep, Settings};
use crate::tuning;
use crate::warm::{Earlier, Keys, Known};
use lens_core::head::folds::Folds;
use lens_core::head::train::HeadEpoch;
use lens_core::novelty::Again;
use lens_core::synthesis::Around;
use lens_core::vae::Vae;
use lens_core::{CoreError, Novelty, Outcome, Progress, RewardModel, Threads};
use lens_data::bundle::{
    Bundle, DataRecord, Kept, Manifest, NoveltyRecord, TrainedRecord, VERSION,
};
use lens_data::{EncoderRecord, Trained};
use lens_eval::tuning::Tuned;
use serde_json::{Value, json};
use std::path::Path;

/// What a bundle says about where it comes from.
pub struct Sources<'a> {
    /// What made the embeddings.
    pub encoder: Option<EncoderRecord>,
    /// The pairs.
    pub data: DataRecord,
    /// What was measured.
    pub figures: Value,
    /// The result table.
    pub lines: Vec<(String, String)>,
    /// Every row left out, with its line and reason, as Markdown.
    pub left_out: String,
    /// What has been trained on, now and before.
    pub history: History<'a>,
    /// What the page of the report shows beside.
    pub evidence: Evidence<'a>,
    /// How the settings were chosen, where they were.
    pub tuned: Option<&'a Tuned>,
}

/// What was saved.
pub struct Saved {
    /// The head in the bundle.
    pub kept: Kept,
    /// Which head it is and why.
    pub advice: String,
    /// Seconds that drawing the report took.
    pub report_seconds: f64,
    /// Seconds that measuring took how far from the seeds is unusual.
    pub novelty_seconds: f64,
}

/// What a bundle was trained on, in this training and in those that it goes on from.
pub struct History<'a> {
    /// The keys of the pairs trained on now.
    pub keys: &'a Keys,
    /// The earlier model.
    pub earlier: Option<&'a Earlier>,
    /// How many of the pairs it knew.
    pub known: Known,
}

impl History<'_> {
    /// The pairs of all trainings, with `folds` those of this one.
    fn trained(&self, folds: &lens_core::head::folds::Folds) -> Trained {
        let mut trained = match self.earlier {
            Some(earlier) => earlier.trained.clone(),
            None => Trained::new(self.keys.by, folds.count()),
        };
        trained.extend(self.keys.of.iter().copied().zip(folds.of_pairs().iter().copied()));
        trained
    }
}

/// Chooses a head, writes the bundle, and says which head it is and why.
pub fn save(
    output: &Path,
    settings: &Settings,
    outcome: Outcome,
    sources: Sources<'_>,
    reporter: &Reporter,
) -> Result<Saved, CliError> {
    let gain = outcome.fold_gain();
    // What was tuned is decided on the outer folds, not on those that the search itself looked at.
    let tuned = sources.tuned.filter(|_| outcome.augmented.is_some());
    let (kept, advice) = match (settings.keep, gain) {
        (Keep::None, _) => (Kept::None, "without augmentation, as asked".to_owned()),
        (Keep::Augmented, _) if outcome.augmented.is_some() => {
            (Kept::Augmented, "augmented, as asked".to_owned())
        }
        (Keep::Auto, _) if let Some(decision) = tuned.and_then(tuning::decision) => decision,
        (_, None) if outcome.augmented.is_some() => {
            let why = "nothing was held out to choose by (head.folds)";
            (Kept::None, format!("without augmentation: {why}"))
        }
        (_, None) => (Kept::None, "without augmentation".to_owned()),
        (_, Some(gain)) => {
            let why = format!(
                "on the seeds' own folds it changes log-loss by {:+.4}, standard error {:.4}",
                -gain.mean, gain.standard_error
            );
            if gain.is_clear() {
                (Kept::Augmented, format!("augmented ({why})"))
            } else {
                let advice = format!("without augmentation, which is no clear gain here ({why})");
                (Kept::None, advice)
            }
        }
    };
    let mut curves = Vec::new();
    let head = |stage: &str, epochs: &[HeadEpoch], curves: &mut Vec<Value>| {
        curves.extend(epochs.iter().map(|e| json!({"stage": stage, "values": e})));
    };
    head("head", &outcome.none.report.epochs, &mut curves);
    if let Some(a) = &outcome.augmented {
        let epochs = a.vae.iter().flat_map(|(_, report)| &report.epochs);
        curves.extend(epochs.map(|e| json!({"stage": "vae", "values": e})));
        head("augmented head", &a.fitted.report.epochs, &mut curves);
    }
    let folds = |r: &lens_core::head::train::HeadReport| {
        json!({"log_loss": r.fold_log_loss, "accuracy": r.fold_accuracy,
            "kept_epoch": r.kept_epoch, "parameters": r.parameters})
    };
    let mut figures = sources.figures.clone();
    figures["folds"] = json!({"none": folds(&outcome.none.report)});
    if let Some(a) = &outcome.augmented {
        figures["folds"]["augmented"] = folds(&a.fitted.report);
        if let Some((_, v)) = &a.vae {
            figures["vae"] = json!({"parameters": v.parameters,
                "latents_used": v.latents_used, "mean_abs_mu": v.mean_abs_mu,
                "unexplained": v.unexplained, "last_epoch": v.epochs.last()});
        }
        figures["order"] = json!(a.order);
        figures["folds"]["gain"] = json!(gain);
    }
    if let Some(tuned) = sources.tuned {
        figures["tuned"] = json!(tuned);
    }
    let mut report = markdown(&sources.lines, &advice, &outcome, settings, &sources.data)?;
    report.push_str(&sources.tuned.map(tuning::listed).unwrap_or_default());
    report.push_str(&sources.left_out);
    let clock = std::time::Instant::now();
    let made = report::Made { outcome: &outcome, kept, advice: &advice, settings };
    let page = report::page(&made, &sources, reporter)?;
    let report_seconds = clock.elapsed().as_secs_f64();
    let History { earlier, known, .. } = sources.history;
    let trained = sources.history.trained(&outcome.folds);
    let folds = outcome.folds.clone();
    let (model, vae) = match (kept, outcome.augmented) {
        (Kept::Augmented, Some(a)) => (a.fitted.model, a.vae),
        (_, augmented) => (outcome.none.model, augmented.and_then(|a| a.vae)),
    };
    let vae = vae.map(|(vae, _)| vae);
    let clock = std::time::Instant::now();
    let novelty = match &vae {
        Some(vae) => novelty(vae, &model, &sources, &folds, settings, reporter)?,
        None => None,
    };
    let novelty_seconds = clock.elapsed().as_secs_f64();
    let manifest = Manifest {
        format: Manifest::format(),
        version: VERSION,
        lens_version: env!("CARGO_PKG_VERSION").to_owned(),
        encoder: sources.encoder,
        data: sources.data,
        method: settings.method(),
        kept,
        head: model.head.shape().clone(),
        vae: vae.as_ref().map(lens_core::vae::Vae::shape),
        reward_mean: model.reward_mean,
        reward_deviation: model.reward_deviation,
        figures,
        trained: Some(TrainedRecord { by: trained.by, folds: trained.fold_count }),
        warm_start: earlier.map(|e| e.record(known)),
        novelty: novelty.as_ref().map(NoveltyRecord::from),
    };
    let (trained, page) = (Some(trained), Some(page));
    let bundle = Bundle { manifest, model, vae, novelty, trained, curves, report, page };
    bundle.write(output, settings.overwrite)?;
    Ok(Saved { kept, advice, report_seconds, novelty_seconds })
}

/// How far from the seeds is unusual; `None` for a single pair, of which nothing can be said, and for a
/// VAE that sees what a response is in its pair, which says nothing of one response.
fn novelty(
    vae: &Vae,
    model: &RewardModel,
    sources: &Sources<'_>,
    folds: &Folds,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Option<Novelty>, CliError> {
    let (standardiser, pairs) = (&model.standardiser, sources.evidence.pairs);
    if pairs.len() < 2 || settings.synthesis.around == Around::Pair {
        return Ok(None);
    }
    let threads = Threads::available();
    let again = Again { folds, settings: &settings.vae, seed: settings.seed };
    match Novelty::held_out(vae, standardiser, pairs, again, threads, reporter) {
        Err(CoreError::Diverged { figures, .. }) => {
            reporter.note(&format!(
                "the VAE cannot be trained without a fold of the pairs ({figures}): what is unlike \
                 them is judged by the pairs themselves, and may be too much"
            ));
            Ok(Some(Novelty::of(vae, standardiser, pairs, threads)?))
        }
        measured => Ok(Some(measured?)),
    }
}

/// The report: what was measured, and every setting needed to measure it again.
fn markdown(
    lines: &[(String, String)],
    advice: &str,
    outcome: &Outcome,
    settings: &Settings,
    data: &DataRecord,
) -> Result<String, CliError> {
    let mut text = format!("# Reward model from {}\n\n| | |\n|---|---|\n", data.file);
    let mut row = |label: &str, value: &str| text.push_str(&format!("| {label} | {value} |\n"));
    for (label, value) in lines {
        row(label, value);
    }
    row("saved head", advice);
    if let Some(accuracy) = outcome.none.report.fold_accuracy {
        row("on the seeds' own folds, without", &percent(accuracy));
    }
    if let Some(a) = &outcome.augmented {
        if let Some(accuracy) = a.fitted.report.fold_accuracy {
            row("on the seeds' own folds, augmented", &percent(accuracy));
        }
        match &a.vae {
            Some((_, v)) => row(
                "VAE",
                &format!(
                    "{} parameters, {} of {} latents used, {} of the variance unexplained",
                    thousands(v.parameters as u64),
                    v.latents_used,
                    settings.vae.latent,
                    percent(v.unexplained)
                ),
            ),
            None => row("source of synthetic responses", settings.source.name()),
        }
        if let Some(o) = &a.order {
            row(
                "order kept, by a head trained on other folds",
                &format!(
                    "{} of synthetic pairs, {} of seed pairs",
                    percent(o.synthetic_kept),
                    percent(o.seeds_kept)
                ),
            );
            row(
                "reward drift of synthetic responses",
                &format!(
                    "mean {:.3}, 95% quantile {:.3}; median seed margin {:.3}",
                    o.drift_mean, o.drift_p95, o.seed_margin_median
                ),
            );
        }
    }
    row("data fingerprint", &data.fingerprint);
    text.push_str("\nIntervals are 95% bootstrap intervals over prompts; ties count one half.\n");
    text.push_str(&format!("\n## Settings\n\n```toml\n{}```\n", reproducible(settings)?));
    Ok(text)
}

/// The settings that decide the result, as a settings file.
pub fn reproducible(settings: &Settings) -> Result<String, CliError> {
    // What decides where results go, not what they are, is left out.
    Settings {
        output: None,
        log_dir: None,
        cache: None,
        threads: None,
        eval: None,
        warm_start: None,
        overwrite: false,
        json: false,
        quiet: false,
        model: lens_encoder::models::public_name(&settings.model),
        ..settings.clone()
    }
    .to_toml()
}
