//! The report's part on training: how heads and VAE learned.

use super::Training;
use lens_core::head::HeadKind;
use lens_core::head::{HeadEpoch, HeadReport};
use lens_core::vae::train::VaeEpoch;
use lens_report::text::{percent, thousands};
use lens_report::{Axis, Block, Chart, ChartKind, LinePoint, Lines, Section, Series};

/// Learning curves.
pub(super) fn section(training: &Training<'_>) -> Section {
    let (outcome, settings) = (training.outcome, &training.finished.method.settings);
    let with = format!("with {}x", settings.augment);
    let mut heads = vec![("without", &outcome.none.report)];
    heads.extend(outcome.augmented.as_ref().map(|a| (with.as_str(), &a.fitted.report)));
    let curve = |name: &str, report: &HeadReport, value: &dyn Fn(&HeadEpoch) -> Option<f64>| {
        let points = report.epochs.iter();
        Series {
            name: name.to_owned(),
            points: points.filter_map(|e| Some(LinePoint::at(e.epoch as f64, value(e)?))).collect(),
        }
    };
    let mut blocks = Vec::new();
    let mut judged = Vec::new();
    for (name, report) in &heads {
        judged.push(curve(&format!("own folds, {name}"), report, &|e| e.fold_log_loss));
    }
    for (name, report) in &heads {
        judged.push(curve(&format!("held out, {name}"), report, &|e| e.heldout_log_loss));
    }
    judged.retain(|s| !s.points.is_empty());
    // A logistic head has no epochs to draw.
    let logistic = settings.head.kind == HeadKind::Logistic;
    if logistic {
        blocks.push(Block::Paragraph(at_optimum(&heads)));
    }
    if !judged.is_empty() && !logistic {
        blocks.push(lines(
            "Log-loss of the head on pairs it was not trained on",
            &kept_at(&heads),
            "log-loss",
            judged,
        ));
    }
    let losses = heads.iter().map(|(name, r)| curve(name, r, &|e| Some(e.loss)));
    if !logistic {
        blocks.push(lines(
            "Training loss of the head",
            "With augmentation it is the loss on real and synthetic pairs together.",
            "training loss",
            losses.collect(),
        ));
    }
    if let Some((_, report)) = outcome.augmented.as_ref().and_then(|a| a.vae.as_ref()) {
        let vae = |name: &str, value: &dyn Fn(&VaeEpoch) -> f64| Series {
            name: name.to_owned(),
            points: report.epochs.iter().map(|e| LinePoint::at(e.epoch as f64, value(e))).collect(),
        };
        blocks.push(lines(
            "Losses of the VAE",
            &format!(
                "{} parameters, {} of {} latents used; {} of the variance of the embeddings is left \
                 unexplained.",
                thousands(report.parameters as u64),
                report.latents_used,
                settings.vae.latent,
                percent(report.unexplained)
            ),
            "loss, both sides",
            vec![vae("reconstruction", &|e| e.reconstruction), vae("total", &|e| e.total)],
        ));
        blocks.push(lines(
            "Latent codes of the VAE",
            "The divergence from the prior, before beta, and how far the codes of a pair's two sides \
             are apart.",
            "nats, distance",
            vec![vae("KL divergence", &|e| e.kl), vae("Wasserstein distance", &|e| e.w2)],
        ));
    }
    Section { id: "training".into(), heading: "Training".into(), blocks }
}

fn lines(title: &str, note: &str, y: &str, series: Vec<Series>) -> Block {
    let (x, y) = (Axis::linear("epoch"), Axis::linear(y));
    let kind = ChartKind::Lines(Lines { x, y, series, ..Lines::default() });
    Block::Chart(Chart { title: title.into(), note: note.into(), kind })
}

/// How logistic heads were fitted.
fn at_optimum(heads: &[(&str, &HeadReport)]) -> String {
    let list = |values: &[f64]| {
        let shown: Vec<String> = values.iter().map(|v| format!("{v:.3}")).collect();
        shown.join(", ").replace(".000", "")
    };
    let said: Vec<String> = heads
        .iter()
        .map(|(name, report)| {
            let weights = match report.view_weights.is_empty() {
                true => String::new(),
                false => format!(", weights of the views {}", list(&report.view_weights)),
            };
            format!("{name} augmentation {}{weights}", list(&report.l2))
        })
        .collect();
    format!(
        "Each member of the head is logistic regression on the differences of the pairs outside its \
         fold, at its optimum. Weight of the penalty: {}.",
        said.join("; ")
    )
}

/// Which epochs are in the models.
fn kept_at(heads: &[(&str, &HeadReport)]) -> String {
    let said: Vec<String> = heads
        .iter()
        .filter_map(|(name, report)| {
            let first = report.kept_epoch.iter().min()?;
            let last = report.kept_epoch.iter().max()?;
            let epochs = match first == last {
                true => format!("epoch {first}"),
                false => format!("epochs {first} to {last}"),
            };
            Some(format!("{name}: {epochs}"))
        })
        .collect();
    format!("Each member is kept at the epoch that is best on its own fold ({}).", said.join("; "))
}
