//! The MLP head: a small network, trained in minibatches of seed pairs and stopped early.
//!
//! The members are trained together: their first layers are one [M w, d] matrix, so that the data is
//! read once for all of them.
//!
//! - `batches`: the minibatches; [`step`]: what is done with one of them.
//! - [`pair_losses`]: the losses of a step.
//! - `early_stopping`: figures on folds, and the state that each member keeps.

mod batches;
mod early_stopping;
pub(crate) mod pair_losses;
pub(crate) mod step;

use super::data::{HeadData, HeadEpoch, HeadReport, check_pairs};
use super::ensemble::{Head, HeadShape};
use super::evaluate::evaluate;
use super::settings::HeadSettings;
use crate::adam::AdamSettings;
use crate::embedded::Label;
use crate::error::{CoreError, require_same};
use crate::linalg::Threads;
use crate::progress::Progress;
use batches::Batches;
use early_stopping::{EarlyStopping, FoldEvaluator, FoldFigures};
use step::HeadTrainer;

/// Loss beyond which a head counts as diverged.
const LOSS_LIMIT: f64 = 1e4;

/// Trains an ensemble of networks, fresh ones or those of `start` further.
///
/// # Errors
/// As [`super::train()`].
pub(super) fn train(
    data: HeadData<'_>,
    settings: &HeadSettings,
    start: Option<&Head>,
    seed: u64,
    threads: Threads,
    stage: &str,
    progress: &dyn Progress,
) -> Result<(Head, HeadReport), CoreError> {
    settings.check()?;
    let HeadData { pairs, standardiser, folds, augmentation, watch, .. } = data;
    check_pairs(pairs, settings)?;
    let members = settings.members;
    let shape = HeadShape { dim: pairs.dim(), hidden: settings.hidden.clone(), members };
    let mut batches = Batches::new(pairs, standardiser, augmentation, folds, settings, seed)?;
    let mut head = match start {
        None => Head::<f32>::new(shape.clone(), settings.activation, seed),
        Some(earlier) => {
            require_same("head.hidden", &earlier.shape.hidden, &shape.hidden)?;
            require_same("head.members", earlier.shape.members, shape.members)?;
            require_same("head.activation", earlier.activation, settings.activation)?;
            require_same("width of the embeddings", earlier.shape.dim, shape.dim)?;
            earlier.clone()
        }
    };
    let mut evaluator = FoldEvaluator::new(pairs, standardiser, folds, members);

    let mut trainer = HeadTrainer::new(&head, batches.vae(), batches.most_embeddings(), threads);
    let adam_settings =
        AdamSettings { learning_rate: settings.learning_rate, weight_decay: settings.weight_decay };
    let form = settings.loss(&pairs.labels);
    let mut losses = vec![0.0; members];
    let mut best = EarlyStopping::new(&head, members, start.is_some() && folds.count() > 1);
    if start.is_some() {
        best.update(0, &head, &evaluator.figures(&head, threads));
    }
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let mut epochs = Vec::new();
    let mut step = 0u64;

    progress.begin(&format!("train {stage}"), settings.epochs as u64, "epochs");
    for epoch in 1..=settings.epochs {
        batches.shuffle(&mut order);
        let mut loss_sum = 0.0;
        for rows in order.chunks(batches.batch) {
            if progress.cancelled() {
                return Err(CoreError::Cancelled { stage: "head" });
            }
            step += 1;
            batches.step(rows, &mut trainer, form, &mut losses, adam_settings, threads);
            let loss = losses.iter().sum::<f64>() / members as f64;
            if !loss.is_finite() || loss > LOSS_LIMIT {
                return Err(diverged(step, loss, settings, data));
            }
            loss_sum += loss * rows.len() as f64 / pairs.len() as f64;
        }
        trainer.write_parameters(&mut head.parameters);
        let fold = evaluator.figures(&head, threads);
        let heldout = watch.and_then(|w| evaluate(&head, w, standardiser, threads));
        let figures = HeadEpoch {
            epoch,
            loss: loss_sum,
            fold_log_loss: FoldFigures::mean(&fold, |f| f.log_loss),
            fold_accuracy: FoldFigures::mean(&fold, |f| f.accuracy),
            heldout_log_loss: heldout.map(|(loss, _)| loss),
            heldout_accuracy: heldout.map(|(_, accuracy)| accuracy),
        };
        figures.draw(stage, progress);
        epochs.push(figures);
        best.update(epoch, &head, &fold);
        progress.advance(1);
        if best.done(epoch, settings.patience) {
            break;
        }
    }
    progress.end();
    if best.parameters.iter().any(|p| !p.is_finite()) {
        return Err(diverged(step, f64::NAN, settings, data));
    }
    let report = HeadReport {
        epochs,
        kept_epoch: best.epoch.clone(),
        fold_log_loss: FoldFigures::mean(&best.figures, |f| f.log_loss),
        fold_accuracy: FoldFigures::mean(&best.figures, |f| f.accuracy),
        fold_losses: best.pair_losses(pairs.len()),
        parameters: shape.parameters(),
        l2: Vec::new(),
        view_weights: Vec::new(),
        prior: None,
    };
    head.parameters = best.parameters;
    Ok((head, report))
}

fn diverged(step: u64, loss: f64, settings: &HeadSettings, data: HeadData<'_>) -> CoreError {
    let mut advice = format!(
        "try a smaller head.learning_rate (now {}) or a larger head.weight_decay (now {})",
        settings.learning_rate, settings.weight_decay
    );
    if data.augmentation.is_some() {
        advice += ", or a smaller synthesis.noise_variance";
    }
    let margin = |label: &Label| match label {
        Label::Preferred { margin } => f64::from(margin.abs()),
        Label::Tie => 0.0,
    };
    let largest = data.pairs.labels.iter().map(margin).fold(0.0, f64::max);
    // Rewards are of the order of 1 to 10.
    if largest * settings.margin_weight > 100.0 {
        advice += &format!(
            "; a margin of {largest} is asked for: try a smaller head.margin_weight (now {})",
            settings.margin_weight
        );
    }
    let figures = match loss.is_nan() {
        true => "a weight or the loss is not a number".to_owned(),
        false => format!("mean loss {loss:.4}"),
    };
    CoreError::diverged("head", step, figures, advice)
}
