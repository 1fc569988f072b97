//! `lens train`: from embeddings, made by `lens embed` or elsewhere, to figures over several
//! splits and, where asked for, a reward model trained on all of them.

use crate::args::TrainArgs;
use crate::curves;
use crate::embedding::check_arrays;
use crate::error::CliError;
use crate::evaluation::{Accuracy, shown_difference};
use crate::labels;
use crate::output;
use crate::progress::Reporter;
use crate::report::{self, Evidence};
use crate::saving::{History, Sources, save};
use crate::settings::{Augment, Settings, bad};
use crate::tuning::{self, OnStored};
use crate::warm::{Earlier, Keys, Known};
use lens_core::splits::{SplitsReport, run_splits_choosing};
use lens_core::{EmbeddedPairs, Extras, MethodSettings, Progress, Threads, fit_with};
use lens_data::bundle::{DataRecord, check_target};
use lens_data::{LabelCounts, StoreKeys, StoredPairs, file_names};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Runs the command.
pub fn run(args: &TrainArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let clock = std::time::Instant::now();
    if let Some(output) = &settings.output {
        check_target(output, settings.overwrite)?;
    }
    curves::start(settings, settings.output.as_deref(), reporter)?;
    let earlier = Earlier::open(settings, reporter)?;
    let loaded = load(&args.arrays, settings, reporter)?;
    note_equal(&loaded, reporter);
    let pairs = &loaded.pairs;
    let labels = LabelCounts::count(pairs.labels.iter().copied());
    labels::note(&labels, settings, reporter);
    let method = settings.method();
    let keys = Keys::of_arrays(&loaded);
    let folds = match &earlier {
        None => Vec::new(),
        Some(earlier) => known_folds(earlier, &loaded, &keys, args, settings, reporter)?,
    };
    let known = Known::of(&folds);
    let start = earlier.as_ref().map(|e| e.start(&folds));
    let default = known.known + (pairs.len() - known.known) * 4 / 5;
    let seed_pairs = settings.seed_pairs.unwrap_or(default);
    if seed_pairs < known.known {
        let detail = format!(
            "is {seed_pairs}, but {} pairs were trained on before and are in every split",
            known.known
        );
        return Err(bad("seed_pairs", detail));
    }
    reporter.note(&format!(
        "training on {} splits, each of {seed_pairs} of the {} pairs",
        settings.splits,
        pairs.len()
    ));
    // Chosen in every split on its seeds, so that what it holds out is unseen by the choice too.
    let search = settings.chooses().then(|| OnStored::new(pairs.views.len(), settings));
    let by_split = Mutex::new(BTreeMap::new());
    let choose = |seeds: &EmbeddedPairs, method: &MethodSettings, progress: &dyn Progress| {
        let Some(search) = &search else { return Ok(method.clone()) };
        let tuned = search.tune(seeds, method, progress)?;
        let split = method.seed.wrapping_sub(settings.seed);
        by_split.lock().unwrap_or_else(PoisonError::into_inner).insert(split, tuned.in_words());
        Ok(tuning::chosen_method(method, &tuned, settings))
    };
    let report =
        run_splits_choosing(pairs, &method, start, seed_pairs, settings.splits, &choose, reporter);
    loaded.check_reads()?;
    let report = report?;
    let chose: Vec<String> =
        by_split.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    let seconds = clock.elapsed().as_secs_f64();

    let saved = match &settings.output {
        None => None,
        Some(output) => {
            let tuned = search.as_ref().map(|search| search.tune(pairs, &method, reporter));
            loaded.check_reads()?;
            let tuned = tuned.transpose()?;
            let settings = &match &tuned {
                Some(tuned) => tuning::settled_method(settings, tuned),
                None => settings.clone(),
            };
            let extras = Extras { start, watch: None };
            let threads = Threads::available();
            let outcome = fit_with(pairs, &settings.method(), extras, threads, reporter);
            loaded.check_reads()?;
            let outcome = outcome?;
            reporter.go_on()?;
            let data = DataRecord {
                file: file_names(&args.arrays),
                fingerprint: loaded.fingerprint.clone(),
                read: loaded.report.read,
                used: loaded.report.used,
                left_out: loaded.report.counts(),
            };
            let mut figures = json!({"splits": &report});
            if !chose.is_empty() {
                figures["chosen_by_split"] = json!(&chose);
            }
            let mut lines = vec![
                ("splits".to_owned(), format!("{} of {seed_pairs} pairs", settings.splits)),
                ("without augmentation".to_owned(), Accuracy::from(report.none).shown()),
            ];
            lines.extend(labels.summary().map(|summary| ("labels".to_owned(), summary)));
            lines.extend(tuned.as_ref().map(tuning::lines).unwrap_or_default());
            if let Some(earlier) = &earlier {
                lines.insert(0, ("warm start".to_owned(), earlier.shown(known)));
            }
            let left_out = String::new();
            // Arrays that do not say what made them are taken to be the earlier model's, as was said.
            let theirs = earlier.as_ref().and_then(|e| e.bundle.manifest.encoder.clone());
            let encoder = loaded.encoder.clone().or(theirs);
            let history = History { keys: &keys, earlier: earlier.as_ref(), known };
            let evidence = Evidence {
                pairs,
                heldout: None,
                splits: Some(&report),
                vetted: Vec::new(),
                command: report::train_command(&args.arrays, settings),
            };
            let tuned = tuned.as_ref();
            let sources =
                Sources { encoder, data, figures, lines, left_out, history, evidence, tuned };
            let saved = save(output, settings, outcome, sources, reporter);
            loaded.check_reads()?;
            let saved = saved?;
            Some((output, saved.kept))
        }
    };
    let warm = earlier.as_ref().map(|e| (e, known));
    print(settings, pairs, &report, &chose, seed_pairs, seconds, warm, saved)
}

/// The earlier folds of the pairs, if these can be trained further on.
fn known_folds(
    earlier: &Earlier,
    loaded: &StoredPairs,
    keys: &Keys,
    args: &TrainArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Vec<Option<usize>>, CliError> {
    check_arrays(&earlier.bundle, loaded.encoder.as_ref(), &args.arrays[0], reporter)?;
    earlier.require(keys.by)?;
    let mut folds = earlier.folds(keys);
    // A pair on a prompt of known pairs is as good as known: its prompt cannot be held out.
    let prompts = &loaded.pairs.prompts;
    let seen: std::collections::HashMap<u32, usize> =
        prompts.iter().zip(&folds).filter_map(|(&p, f)| Some((p, (*f)?))).collect();
    for (fold, prompt) in folds.iter_mut().zip(prompts) {
        *fold = fold.or_else(|| seen.get(prompt).copied());
    }
    if folds.iter().all(Option::is_some) {
        return Err(CliError::Refused(format!(
            "{}: {} was trained on all {} pairs, or on their prompts: none is left to measure on in \
             {} splits; add new pairs",
            file_names(&args.arrays),
            earlier.path.display(),
            folds.len(),
            settings.splits
        )));
    }
    Ok(folds)
}

/// What was chosen in how many splits, the most frequent first.
fn counted(chose: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    chose.iter().for_each(|what| *counts.entry(what).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let shown = counts.iter().map(|(what, n)| format!("{what} ({n} of {})", chose.len()));
    shown.collect::<Vec<_>>().join("; ")
}

#[allow(clippy::too_many_arguments)] // Everything that is said of a training.
fn print(
    settings: &Settings,
    pairs: &EmbeddedPairs,
    report: &SplitsReport,
    chose: &[String],
    seed_pairs: usize,
    seconds: f64,
    warm: Option<(&Earlier, Known)>,
    saved: Option<(&PathBuf, lens_data::bundle::Kept)>,
) -> Result<(), CliError> {
    if settings.json {
        let by_split: Vec<serde_json::Value> = report
            .by_split
            .iter()
            .map(|(none, augmented)| json!({"none": none, "augmented": augmented}))
            .collect();
        return output::json(&json!({
            "none": Accuracy::from(report.none),
            "augmented": report.augmented.map(Accuracy::from),
            "difference": report.difference,
            "factor": settings.augment.factor(),
            "splits": settings.splits,
            "seconds": seconds,
            "pairs": pairs.len(),
            "labels": LabelCounts::count(pairs.labels.iter().copied()),
            "seed_pairs": seed_pairs,
            "by_split": by_split,
            "chosen": (!chose.is_empty()).then_some(chose),
            "warm_start": warm.map(|(e, n)| json!({"from": e.path, "known": n.known, "new": n.new})),
            "bundle": saved.map(|(path, _)| path),
            "kept": saved.map(|(_, kept)| kept),
        }));
    }
    let mut rows = vec![("pairs".to_owned(), format!("{}, width {}", pairs.len(), pairs.dim()))];
    rows.extend(warm.map(|(e, known)| ("warm start".to_owned(), e.shown(known))));
    rows.extend([(
        "splits".to_owned(),
        format!("{}, each {seed_pairs} to train on, the rest held out", settings.splits),
    )]);
    if !chose.is_empty() {
        rows.push(("chosen on their seeds".to_owned(), counted(chose)));
    }
    rows.push(("without augmentation".to_owned(), Accuracy::from(report.none).shown()));
    if let (Some(augmented), Some(difference)) = (report.augmented, &report.difference) {
        let label = match settings.augment {
            Augment::Auto => "with the best augmentation, same head".to_owned(),
            Augment::Factor(factor) => format!("with {factor}x, same head"),
        };
        rows.push((label, Accuracy::from(augmented).shown()));
        rows.push(("difference".to_owned(), shown_difference(difference)));
    }
    let without = report.by_split.iter().filter(|(_, with)| with.is_none()).count();
    if report.augmented.is_none() && settings.augment == Augment::Auto {
        let said = format!("no source could be trained in {without} of {} splits", settings.splits);
        rows.push(("with augmentation".to_owned(), said));
    }
    rows.push(("time".to_owned(), format!("{seconds:.1} s")));
    if let Some((path, kept)) = saved {
        rows.push(("reward model".to_owned(), format!("{} (head: {kept:?})", path.display())));
    }
    output::line(&output::aligned(&rows))
}

/// Opens stored pairs: both sides from one safetensors file, or from two .npy files.
pub fn load(
    files: &[PathBuf],
    settings: &Settings,
    reporter: &Reporter,
) -> Result<StoredPairs, CliError> {
    let (chosen, rejected) = (settings.chosen_key.clone(), settings.rejected_key.clone());
    let keys = StoreKeys { chosen, rejected };
    Ok(StoredPairs::open(files, &keys, settings.memory_mb << 20, reporter)?)
}

/// Notes how many stored pairs were left out, if any was.
pub fn note_equal(loaded: &StoredPairs, reporter: &Reporter) {
    let (equal, all) = (loaded.report.left_out_total(), loaded.report.read);
    if equal > 0 {
        reporter
            .note(&format!("left out: {equal} of {all} pairs have equal embeddings on both sides"));
    }
}
