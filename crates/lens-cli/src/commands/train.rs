//! `lens train`: from embeddings, made by `lens embed` or elsewhere, to figures over several
//! splits and, where asked for, a reward model trained on all of them.

use crate::args::TrainArgs;
use crate::commands::embed::{PROMPT_KEY, PROMPT_NUMBERS};
use crate::curves;
use crate::embedding::{check_arrays, stored_encoder};
use crate::error::CliError;
use crate::evaluation::{Accuracy, shown_difference};
use crate::labels::{self, Labels};
use crate::output;
use crate::progress::Reporter;
use crate::report::{self, Evidence};
use crate::saving::{History, Sources, save};
use crate::settings::{Augment, Settings, bad};
use crate::stored_views::{stored_views, widths};
use crate::tuning::{self, OnStored};
use crate::warm::{Earlier, Keys, Known};
use lens_core::splits::{SplitsReport, run_splits_choosing};
use lens_core::{
    EmbeddedPairs, Embeddings, Extras, MethodSettings, Progress, Rows, Threads, fit_with,
};
use lens_data::bundle::{DataRecord, EncoderRecord, check_target};
use lens_data::{ArrayFile, StoredRows, fingerprint_rows};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs the command.
pub fn run(args: &TrainArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let clock = std::time::Instant::now();
    if let Some(output) = &settings.output {
        check_target(output, settings.overwrite)?;
    }
    curves::start(settings, settings.output.as_deref(), reporter)?;
    let earlier = Earlier::open(settings, reporter)?;
    let loaded = load(&args.arrays, settings, reporter)?;
    let equal = loaded.equal.len();
    let pairs = &loaded.pairs;
    if equal > 0 {
        reporter.note(&format!(
            "left out: {equal} of {} pairs have equal embeddings on both sides",
            equal + pairs.len()
        ));
    }
    let labels = Labels::count(pairs.labels.iter().copied());
    labels.note(settings, reporter);
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
    let report = loaded.sound(report)?;
    let chose: Vec<String> =
        by_split.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    let seconds = clock.elapsed().as_secs_f64();

    let saved = match &settings.output {
        None => None,
        Some(output) => {
            let tuned = search.as_ref().map(|search| search.tune(pairs, &method, reporter));
            let tuned = loaded.sound(tuned.transpose())?;
            let settings = &match &tuned {
                Some(tuned) => tuning::settled_method(settings, tuned),
                None => settings.clone(),
            };
            let extras = Extras { start, watch: None };
            let threads = Threads::available();
            let outcome = fit_with(pairs, &settings.method(), extras, threads, reporter);
            let outcome = loaded.sound(outcome)?;
            reporter.go_on()?;
            let data = DataRecord {
                file: names(&args.arrays),
                fingerprint: loaded.fingerprint.clone(),
                read: pairs.len() + equal,
                used: pairs.len(),
                left_out: match equal {
                    0 => BTreeMap::new(),
                    n => BTreeMap::from([("identical-sides".to_owned(), n)]),
                },
            };
            let mut figures = json!({"splits": &report});
            if !chose.is_empty() {
                figures["chosen_by_split"] = json!(&chose);
            }
            let mut lines = vec![
                ("splits".to_owned(), format!("{} of {seed_pairs} pairs", settings.splits)),
                ("without augmentation".to_owned(), Accuracy::from(report.none).shown()),
            ];
            lines.extend(labels.shown().map(|shown| ("labels".to_owned(), shown)));
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
            let saved = loaded.sound(save(output, settings, outcome, sources, reporter))?;
            Some((output, saved.kept))
        }
    };
    let warm = earlier.as_ref().map(|e| (e, known));
    print(settings, pairs, &report, &chose, seed_pairs, seconds, warm, saved)
}

/// The earlier folds of the pairs, if these can be trained further on.
fn known_folds(
    earlier: &Earlier,
    loaded: &Loaded,
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
            names(&args.arrays),
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
            "labels": Labels::count(pairs.labels.iter().copied()),
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

/// Embedded pairs and where they come from.
pub struct Loaded {
    /// The pairs whose sides differ; where they are large their embeddings stay in the file.
    pub pairs: EmbeddedPairs,
    /// The row of each in the file, counted from 0.
    pub rows: Vec<usize>,
    /// Rows of pairs with equal sides, left out.
    pub equal: Vec<usize>,
    /// SHA-256 over the arrays.
    pub fingerprint: String,
    /// What made the embeddings, if the file says so.
    pub encoder: Option<EncoderRecord>,
    /// The keys of the pairs' prompts, if the file has them.
    pub prompt_keys: Option<Vec<i64>>,
    tables: [Arc<StoredRows>; 2],
}

impl Loaded {
    /// What came of work on the pairs, unless the embeddings could not be read meanwhile.
    pub fn sound<T, E: Into<CliError>>(&self, result: Result<T, E>) -> Result<T, CliError> {
        match self.tables.iter().find_map(|table| table.failure()) {
            Some(failure) => Err(failure.into()),
            None => result.map_err(E::into),
        }
    }
}

/// Reads both sides from one safetensors file, or from two .npy files.
pub fn load(
    files: &[PathBuf],
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Loaded, CliError> {
    let first = Arc::new(ArrayFile::open(&files[0])?);
    let name = |path: &PathBuf| path.display().to_string();
    let (chosen, rejected, names) = match files {
        [_, other] => {
            let second = Arc::new(ArrayFile::open(other)?);
            let tables = (first.table_with(None, reporter)?, second.table_with(None, reporter)?);
            (tables.0, tables.1, [name(&files[0]), name(other)])
        }
        _ => {
            let [a, b] = [&settings.chosen_key, &settings.rejected_key];
            let chosen = first.table_with(Some(a), reporter)?;
            (chosen, first.table_with(Some(b), reporter)?, [a.clone(), b.clone()])
        }
    };
    chosen.require_same_shape(&names[0], &rejected, &names[1])?;
    let tables = [Arc::new(chosen), Arc::new(rejected)];
    let n = tables[0].rows();
    let encoder = stored_encoder(&first);
    let mut prompt_keys = None;
    let prompts = if files.len() == 1 && first.keys().iter().any(|k| k == PROMPT_KEY) {
        let numbers = first.integers(Some(PROMPT_KEY))?;
        if first.metadata().get(PROMPT_KEY).is_some_and(|kind| kind == PROMPT_NUMBERS) {
            prompt_keys = Some(numbers.clone());
        }
        // Renumbered: files from elsewhere may number prompts as they like.
        let mut seen = std::collections::HashMap::new();
        numbers
            .into_iter()
            .map(|n| {
                let next = seen.len() as u32;
                *seen.entry(n).or_insert(next)
            })
            .collect()
    } else {
        (0..n as u32).collect()
    };
    // Small ones are copied into memory, where a row is nearer than in a file.
    let bytes = 2 * n * tables[0].dim() * size_of::<f32>();
    let held = bytes <= settings.memory_mb << 20;
    let [chosen, rejected] = tables.clone().map(|table| {
        let stored = Embeddings::new(table);
        if held { stored.to_matrix().into() } else { stored }
    });
    let mut all = EmbeddedPairs::with_prompts(chosen, rejected, prompts)?;
    let views = widths(&stored_views(&first, &files[0])?.0, all.dim());
    all = all.with_views(views)?;
    if let Some(labels) = labels::stored(&first, &files[0], n)? {
        all = all.with_labels(labels)?;
    }
    reporter.begin("read embeddings", 2 * n as u64, "rows");
    let (fingerprint, differ) = rayon::join(
        || fingerprint_rows(&[&*tables[0], &*tables[1]], &all.labels, reporter),
        || {
            let differs = |&i: &usize| reporter.cancelled() || !all.equal_sides(i);
            (0..n).into_par_iter().filter(differs).collect::<Vec<usize>>()
        },
    );
    reporter.end();
    let fingerprint = fingerprint?;
    if differ.is_empty() {
        return Err(lens_core::CoreError::NoDifference { pairs: all.len() }.into());
    }
    let (pairs, equal) = if differ.len() == n {
        (all, Vec::new())
    } else {
        let mut differing = differ.iter().peekable();
        let equal = (0..n).filter(|i| differing.next_if_eq(&i).is_none()).collect();
        (all.select(&differ), equal)
    };
    let prompt_keys = prompt_keys.map(|keys| differ.iter().map(|&i| keys[i]).collect());
    let loaded = Loaded { pairs, rows: differ, equal, fingerprint, encoder, prompt_keys, tables };
    loaded.sound(Ok::<(), CliError>(()))?;
    Ok(loaded)
}

/// File names without folders.
pub fn names(files: &[PathBuf]) -> String {
    let name = |p: &PathBuf| file_name(p);
    files.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A file's name without its folder.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
