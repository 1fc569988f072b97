//! From a finished training to a bundle: which head is kept, what the manifest says, the report.

use crate::earlier::{EarlierModel, PairKeys, WarmStartCounts};
use crate::options::{Keep, MethodOptions};
use crate::report;
use crate::select;
use crate::{Error, Progress};
use lens_core::folds::Folds;
use lens_core::head::{HeadEpoch, HeadReport};
use lens_core::novelty::VaeRecipe;
use lens_core::splits::SplitsReport;
use lens_core::synthesis::Centring;
use lens_core::vae::Vae;
use lens_core::{CoreError, EmbeddedPairs, Novelty, Outcome, PreferencePair, RewardModel, Threads};
use lens_data::bundle::{Bundle, DataRecord, Kept};
use lens_data::{EncoderRecord, Row, Trained, VetReport};
use lens_eval::figures::heldout::HeldOut;
use lens_eval::tuning::Tuned;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// All that is known of a training beside the heads themselves.
pub(crate) struct Finished<'a> {
    /// The encoder of the embeddings.
    pub(crate) encoder: Option<EncoderRecord>,
    /// The pairs, as the manifest names them.
    pub(crate) data: DataRecord,
    /// The measured figures, for the manifest.
    pub(crate) figures: Value,
    /// The result table.
    pub(crate) table: &'a [(String, String)],
    /// The pairs trained on.
    pub(crate) pairs: &'a EmbeddedPairs,
    /// The held-out pairs, where there are any.
    pub(crate) heldout: Option<HeldOutPairs<'a>>,
    /// Figures over several splits, where training was repeated.
    pub(crate) splits: Option<&'a SplitsReport>,
    /// What became of the rows of each file.
    pub(crate) left_out: Vec<(&'static str, &'a VetReport)>,
    /// The keys of the pairs trained on.
    pub(crate) keys: &'a PairKeys,
    /// The earlier model, and how many of the pairs it was trained on.
    pub(crate) earlier: Option<(&'a EarlierModel, &'a WarmStartCounts)>,
    /// How the settings were selected, where they were.
    pub(crate) tuned: Option<&'a Tuned>,
    /// The settings.
    pub(crate) method: &'a MethodOptions,
    /// The command that trains the same model again.
    pub(crate) command: String,
    /// Its settings file.
    pub(crate) settings: String,
}

/// The held-out pairs: their figures and their texts.
pub(crate) struct HeldOutPairs<'a> {
    /// The heads on them.
    pub(crate) figures: &'a HeldOut,
    /// Their rows.
    pub(crate) rows: &'a [Row<PreferencePair>],
}

/// What was saved.
pub(crate) struct Saved {
    /// The reward model.
    pub(crate) bundle: Bundle,
    /// The head in it.
    pub(crate) kept: Kept,
    /// Which head it is and why.
    pub(crate) decision: String,
    /// Seconds that drawing the report took.
    pub(crate) report_seconds: f64,
    /// Seconds that the threshold of novelty took.
    pub(crate) novelty_seconds: f64,
}

/// Decides for a head, draws the report, and writes the bundle into the folder `output`, if one is
/// named.
pub(crate) fn save(
    outcome: Outcome,
    finished: Finished<'_>,
    output: Option<&Path>,
    overwrite: bool,
    progress: &dyn Progress,
) -> Result<Saved, Error> {
    let (kept, decision) = decide(&outcome, &finished);
    let curves = curves(&outcome);
    let figures = figures(&outcome, &finished);
    let clock = Instant::now();
    let document = report::training(&outcome, kept, &decision, &finished, progress)?;
    let (report, page) = (document.to_markdown(), document.to_html());
    let report_seconds = clock.elapsed().as_secs_f64();

    let trained = trained(&finished, &outcome.folds);
    let folds = outcome.folds.clone();
    let (model, vae) = match (kept, outcome.augmented) {
        (Kept::Augmented, Some(a)) => (a.fitted.model, a.vae),
        (_, augmented) => (outcome.none.model, augmented.and_then(|a| a.vae)),
    };
    let vae = vae.map(|(vae, _)| vae);
    let clock = Instant::now();
    let novelty = match &vae {
        Some(vae) => novelty(vae, &model, &finished, &folds, progress)?,
        None => None,
    };
    let novelty_seconds = clock.elapsed().as_secs_f64();
    let Finished { encoder, data, earlier, method, .. } = finished;
    let method = method.settings.clone();
    let trained = Some(trained);
    let mut bundle = Bundle::new(model, vae, novelty, trained, method, kept, data);
    bundle.manifest.encoder = encoder;
    bundle.manifest.figures = figures;
    bundle.manifest.warm_start = earlier.map(|(earlier, counts)| earlier.record(counts));
    let bundle = Bundle { curves, report, page: Some(page), ..bundle };
    if let Some(output) = output {
        bundle.write(output, overwrite)?;
    }
    Ok(Saved { bundle, kept, decision, report_seconds, novelty_seconds })
}

/// Which head is kept, and why.
fn decide(outcome: &Outcome, finished: &Finished<'_>) -> (Kept, String) {
    let trained = outcome.augmented.is_some();
    // A selection decides on its outer folds, not on those that it looked at itself.
    let tuned = finished.tuned.filter(|_| trained);
    match (finished.method.keep, outcome.fold_gain()) {
        (Keep::None, _) => (Kept::None, "without augmentation, as asked".to_owned()),
        (Keep::Augmented, _) if trained => (Kept::Augmented, "augmented, as asked".to_owned()),
        (Keep::Auto, _) if let Some(decision) = tuned.and_then(select::decision) => decision,
        (_, None) if trained => {
            let why = "nothing was held out to choose by (head.folds)";
            (Kept::None, format!("without augmentation: {why}"))
        }
        (_, None) => (Kept::None, "without augmentation".to_owned()),
        (_, Some(gain)) => {
            let why = format!(
                "on the seed pairs' own folds it changes log-loss by {:+.4}, standard error {:.4}",
                -gain.mean, gain.standard_error
            );
            match gain.is_clear() {
                true => (Kept::Augmented, format!("augmented ({why})")),
                false => (
                    Kept::None,
                    format!("without augmentation, which is no clear gain here ({why})"),
                ),
            }
        }
    }
}

/// Every epoch of both heads and of the VAE.
fn curves(outcome: &Outcome) -> Vec<Value> {
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
    curves
}

/// The figures of the manifest: those that were measured before, and those of the training itself.
fn figures(outcome: &Outcome, finished: &Finished<'_>) -> Value {
    let folds = |r: &HeadReport| {
        json!({"log_loss": r.fold_log_loss, "accuracy": r.fold_accuracy,
            "kept_epoch": r.kept_epoch, "parameters": r.parameters})
    };
    let mut figures = finished.figures.clone();
    figures["folds"] = json!({"none": folds(&outcome.none.report)});
    if let Some(a) = &outcome.augmented {
        figures["folds"]["augmented"] = folds(&a.fitted.report);
        if let Some((_, v)) = &a.vae {
            figures["vae"] = json!({"parameters": v.parameters,
                "latents_used": v.latents_used, "mean_abs_mu": v.mean_abs_mu,
                "unexplained": v.unexplained, "last_epoch": v.epochs.last()});
        }
        figures["order"] = json!(a.order);
        figures["folds"]["gain"] = json!(outcome.fold_gain());
    }
    if let Some(tuned) = finished.tuned {
        figures["tuned"] = json!(tuned);
    }
    figures
}

/// The pairs of this training and of those that it goes on from, with `folds` those of this one.
fn trained(finished: &Finished<'_>, folds: &Folds) -> Trained {
    let keys = finished.keys;
    let mut trained = match finished.earlier {
        Some((earlier, _)) => earlier.trained.clone(),
        None => Trained::new(keys.kind, folds.count()),
    };
    trained.extend(keys.keys.iter().copied().zip(folds.of_pairs().iter().copied()));
    trained
}

/// How far from the seeds is unusual; `None` for a single pair, of which nothing can be said, and for a
/// VAE that sees a response relative to its pair, which says nothing of one response.
fn novelty(
    vae: &Vae,
    model: &RewardModel,
    finished: &Finished<'_>,
    folds: &Folds,
    progress: &dyn Progress,
) -> Result<Option<Novelty>, Error> {
    let (standardiser, pairs) = (&model.standardiser, finished.pairs);
    let settings = &finished.method.settings;
    if pairs.len() < 2 || settings.synthesis.around == Centring::Pair {
        return Ok(None);
    }
    let threads = Threads::available();
    let recipe = VaeRecipe { folds, settings: &settings.vae, seed: settings.seed };
    match Novelty::fit_held_out(vae, standardiser, pairs, recipe, threads, progress) {
        Err(CoreError::Diverged { figures, .. }) => {
            progress.note(&format!(
                "the VAE cannot be trained without a fold of the pairs ({figures}): what is unlike \
                 them is judged by the pairs themselves, and may be too much"
            ));
            Ok(Some(Novelty::fit(vae, standardiser, pairs, threads)?))
        }
        measured => Ok(Some(measured?)),
    }
}
