//! `lens eval`: a saved reward model on held-out pairs, as text or as embeddings.

use crate::args::EvalArgs;
use crate::commands::train::{file_name, load};
use crate::embedding::{
    check_arrays, embed_vetted, encode_pairs, encoder_of_bundle, note_truncated,
};
use crate::error::CliError;
use crate::evaluation::{Accuracy, PairRewards, longer_baseline};
use crate::output::{self, percent};
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::{PreferencePair, Progress};
use lens_data::bundle::Bundle;
use lens_data::{KeyKind, LeftOut, Reason, Row, VetReport, prompt_key, read_pairs_with, vet};
use lens_encoder::TextEncoder;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// What one file of held-out pairs says.
struct Evaluated {
    pairs: VetReport,
    figures: Option<(Accuracy, f64)>,
    longer_wins: Option<f64>,
    subsets: BTreeMap<String, (usize, f64)>,
    /// Whether these are the very pairs that the model was trained on.
    trained_on: bool,
}

/// Runs the command.
pub fn run(args: &EvalArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let bundle = Bundle::read(&args.bundle)?;
    let mut encoder = None;
    let mut results = Vec::new();
    for path in &args.data {
        let is_array = path.extension().is_some_and(|e| e == "safetensors");
        let result = if is_array {
            arrays(&bundle, path, settings, reporter)?
        } else {
            let encoder = match &mut encoder {
                Some(encoder) => encoder,
                None => encoder.insert(encoder_of_bundle(
                    &bundle,
                    &args.bundle,
                    args.model.as_deref(),
                    settings,
                    reporter,
                )?),
            };
            text(&bundle, encoder.as_ref(), path, settings, reporter)?
        };
        if result.trained_on {
            reporter.note(&format!(
                "warning: {} holds the pairs that this model was trained on; its accuracy on them \
                 says nothing",
                path.display()
            ));
        }
        results.push((path, result));
    }
    for (path, result) in results {
        print(path, &result, settings)?;
    }
    Ok(())
}

fn text(
    bundle: &Bundle,
    encoder: &dyn TextEncoder,
    path: &Path,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Evaluated, CliError> {
    let options = settings.reading();
    let mut vetted = vet(read_pairs_with(path, &options, reporter)?);
    let fingerprint = vetted.fingerprint();
    vetted.leave_out_ties();
    let pairs: Vec<&PreferencePair> = vetted.used.iter().map(|r| &r.value).collect();
    let encoded = encode_pairs(encoder, &pairs, reporter)?;
    note_truncated(&encoded, encoder.identity().max_length, reporter);
    let pairs = embed_vetted(&mut vetted, &encoded, encoder.dim())?;
    if let Some(trained) = bundle.trained.as_ref().filter(|t| t.by == KeyKind::Prompt) {
        let known = |r: &&Row<PreferencePair>| trained.fold(prompt_key(&r.value)).is_some();
        let n = vetted.used.iter().filter(known).count();
        if n > 0 && fingerprint != bundle.manifest.data.fingerprint {
            reporter.note(&format!(
                "warning: this model was trained on the prompts of {n} of the {} pairs of {}",
                vetted.used.len(),
                path.display()
            ));
        }
    }
    let rewards = PairRewards::of(&bundle.model, &pairs)?;
    let labels: Vec<Option<&str>> = vetted.used.iter().map(|r| r.subset()).collect();
    Ok(Evaluated {
        figures: rewards.figures(&pairs.prompts, settings.seed),
        longer_wins: longer_baseline(vetted.used.iter().map(|r| &r.value)),
        subsets: rewards.by_label(&labels),
        trained_on: fingerprint == bundle.manifest.data.fingerprint,
        pairs: vetted.report.clone(),
    })
}

fn arrays(
    bundle: &Bundle,
    path: &Path,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Evaluated, CliError> {
    let loaded = load(&[path.to_owned()], settings, reporter)?;
    check_arrays(bundle, loaded.encoder.as_ref(), path, reporter)?;
    let (ties, decided): (Vec<usize>, Vec<usize>) =
        (0..loaded.pairs.len()).partition(|&i| loaded.pairs.labels[i].is_tie());
    let pairs = if ties.is_empty() { loaded.pairs.clone() } else { loaded.pairs.select(&decided) };
    let rewards = loaded.sound(PairRewards::of(&bundle.model, &pairs))?;
    let equal = loaded.equal.len();
    if equal > 0 {
        reporter.note(&format!("left out: {equal} pairs with equal embeddings on both sides"));
    }
    // An array has rows, not lines; they are counted from 1 here as lines are.
    let listed = |rows: Vec<usize>, detail: &str| -> Vec<LeftOut> {
        let row = |r: usize| LeftOut { line: r as u64 + 1, detail: detail.to_owned() };
        rows.into_iter().map(row).collect()
    };
    let ties = ties.into_iter().map(|i| loaded.rows[i]).collect();
    let left_out = [
        (Reason::IdenticalSides, listed(loaded.equal.clone(), "the embeddings are equal")),
        (Reason::Tie, listed(ties, "")),
    ];
    let left_out: BTreeMap<_, _> =
        left_out.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
    let used = pairs.len();
    let read = used + left_out.values().map(Vec::len).sum::<usize>();
    Ok(Evaluated {
        figures: rewards.figures(&pairs.prompts, settings.seed),
        longer_wins: None,
        subsets: BTreeMap::new(),
        trained_on: loaded.fingerprint == bundle.manifest.data.fingerprint,
        pairs: VetReport { read, used, left_out },
    })
}

fn print(path: &Path, result: &Evaluated, settings: &Settings) -> Result<(), CliError> {
    let Evaluated { pairs, figures, longer_wins, subsets, trained_on } = result;
    let subsets_json: serde_json::Map<String, serde_json::Value> = subsets
        .iter()
        .map(|(name, (n, accuracy))| (name.clone(), json!({"pairs": n, "accuracy": accuracy})))
        .collect();
    if settings.json {
        return output::json(&json!({
            "file": path,
            "pairs": pairs,
            "accuracy": figures.map(|(a, _)| a.accuracy),
            "ci95": figures.map(|(a, _)| a.ci95),
            "log_loss": figures.map(|(_, loss)| loss),
            "longer_wins": longer_wins,
            "subsets": subsets_json,
            "trained_on": trained_on,
        }));
    }
    let mut rows = vec![(
        "pairs".to_owned(),
        format!("{} read, {} used, {} left out", pairs.read, pairs.used, pairs.left_out_total()),
    )];
    for (reason, lines) in &pairs.left_out {
        let lines: Vec<String> = lines.iter().map(|l| l.line.to_string()).collect();
        rows.push((format!("  {reason}"), format!("lines {}", lines.join(", "))));
    }
    match figures {
        Some((accuracy, loss)) => {
            rows.push(("accuracy".to_owned(), accuracy.shown()));
            rows.push(("log-loss".to_owned(), format!("{loss:.4}")));
        }
        None => rows.push(("accuracy".to_owned(), "no pair is left to evaluate".to_owned())),
    }
    if let Some(longer) = longer_wins {
        rows.push(("longer answer wins".to_owned(), percent(*longer)));
    }
    if subsets.len() > 1 {
        for (name, (n, accuracy)) in subsets {
            rows.push((format!("  {name}"), format!("{} of {n} pairs", percent(*accuracy))));
        }
    }
    output::line(&format!("{}\n{}", file_name(path), output::aligned(&rows)))
}
