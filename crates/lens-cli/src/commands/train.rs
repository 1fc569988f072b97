//! `lens train`: from embeddings, made by `lens embed` or elsewhere, to figures over several
//! splits and, where asked for, a reward model trained on all of them.

use crate::args::TrainArgs;
use crate::commands::embed::PROMPT_KEY;
use crate::curves;
use crate::embedding::stored_encoder;
use crate::error::CliError;
use crate::evaluation::{Accuracy, shown_difference};
use crate::output;
use crate::progress::Reporter;
use crate::saving::{Sources, save};
use crate::settings::Settings;
use lens_core::splits::{SplitsReport, run_splits};
use lens_core::{EmbeddedPairs, Matrix, Progress, Threads, fit};
use lens_data::bundle::{DataRecord, EncoderRecord, check_target};
use lens_data::{Array2, ArrayFile};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn run(args: &TrainArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let start = std::time::Instant::now();
    if let Some(output) = &settings.output {
        check_target(output, settings.overwrite)?;
    }
    curves::start(settings, settings.output.as_deref(), reporter)?;
    let loaded = load(&args.arrays, settings)?;
    if loaded.equal > 0 {
        reporter.note(&format!(
            "left out: {} of {} pairs have equal embeddings on both sides",
            loaded.equal,
            loaded.equal + loaded.pairs.len()
        ));
    }
    let pairs = &loaded.pairs;
    let method = settings.method();
    let seed_pairs = settings.seed_pairs.unwrap_or(pairs.len() * 4 / 5);
    reporter.note(&format!(
        "training on {} splits, each of {seed_pairs} of the {} pairs",
        settings.splits,
        pairs.len()
    ));
    let report = run_splits(pairs, &method, seed_pairs, settings.splits, reporter)?;
    let seconds = start.elapsed().as_secs_f64();

    let saved = match &settings.output {
        None => None,
        Some(output) => {
            let outcome = fit(pairs, &method, Threads::available(), reporter)?;
            reporter.go_on()?;
            let data = DataRecord {
                file: names(&args.arrays),
                fingerprint: loaded.fingerprint.clone(),
                read: pairs.len() + loaded.equal,
                used: pairs.len(),
                left_out: match loaded.equal {
                    0 => BTreeMap::new(),
                    n => BTreeMap::from([("identical-sides".to_owned(), n)]),
                },
            };
            let figures = json!({"splits": &report});
            let lines = vec![
                ("splits".to_owned(), format!("{} of {seed_pairs} pairs", settings.splits)),
                ("without augmentation".to_owned(), Accuracy::from(report.none).shown()),
            ];
            let left_out = String::new();
            let encoder = loaded.encoder.clone();
            let sources = Sources { encoder, data, figures, lines, left_out };
            let (kept, _) = save(output, settings, outcome, sources)?;
            Some((output, kept))
        }
    };
    print(settings, pairs, &report, seed_pairs, seconds, saved)
}

fn print(
    settings: &Settings,
    pairs: &EmbeddedPairs,
    report: &SplitsReport,
    seed_pairs: usize,
    seconds: f64,
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
            "factor": settings.augment,
            "splits": settings.splits,
            "seconds": seconds,
            "pairs": pairs.len(),
            "seed_pairs": seed_pairs,
            "by_split": by_split,
            "bundle": saved.map(|(path, _)| path),
            "kept": saved.map(|(_, kept)| kept),
        }));
    }
    let mut rows = vec![
        ("pairs".to_owned(), format!("{}, width {}", pairs.len(), pairs.dim())),
        (
            "splits".to_owned(),
            format!("{}, each {seed_pairs} to train on, the rest held out", settings.splits),
        ),
        ("without augmentation".to_owned(), Accuracy::from(report.none).shown()),
    ];
    if let (Some(augmented), Some(difference)) = (report.augmented, &report.difference) {
        let label = format!("with {}x, same head", settings.augment);
        rows.push((label, Accuracy::from(augmented).shown()));
        rows.push(("difference".to_owned(), shown_difference(difference)));
    }
    rows.push(("time".to_owned(), format!("{seconds:.1} s")));
    if let Some((path, kept)) = saved {
        rows.push(("reward model".to_owned(), format!("{} (head: {kept:?})", path.display())));
    }
    output::line(&output::aligned(&rows))
}

/// Embedded pairs and where they come from.
pub struct Loaded {
    /// The pairs whose sides differ.
    pub pairs: EmbeddedPairs,
    /// The row of the file that each of them is, counted from 0.
    pub rows: Vec<usize>,
    /// Pairs with equal sides, left out.
    pub equal: usize,
    /// SHA-256 over the arrays.
    pub fingerprint: String,
    /// What made the embeddings, if the file says so.
    pub encoder: Option<EncoderRecord>,
}

/// Reads both sides from one safetensors file, or from two .npy files.
pub fn load(files: &[PathBuf], settings: &Settings) -> Result<Loaded, CliError> {
    let first = ArrayFile::open(&files[0])?;
    let (chosen, rejected) = match files {
        [_, other] => {
            let chosen = first.floats(None)?;
            let rejected = ArrayFile::open(other)?.floats(None)?;
            chosen.require_same_shape(
                &files[0].display().to_string(),
                &rejected,
                &other.display().to_string(),
            )?;
            (chosen, rejected)
        }
        _ => first.float_pair(&settings.chosen_key, &settings.rejected_key)?,
    };
    let fingerprint = lens_data::dataset::fingerprint_arrays(&[&chosen, &rejected]);
    let encoder = stored_encoder(&first);
    let prompts = if files.len() == 1 && first.keys().iter().any(|k| k == PROMPT_KEY) {
        let numbers = first.integers(Some(PROMPT_KEY))?;
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
        (0..chosen.rows as u32).collect()
    };
    let matrix = |a: Array2| Matrix::new(a.data, a.rows, a.dim);
    let all = EmbeddedPairs::with_prompts(matrix(chosen)?, matrix(rejected)?, prompts)?;
    let differ: Vec<usize> = (0..all.len()).filter(|&i| !all.equal_sides(i)).collect();
    let equal = all.len() - differ.len();
    if differ.is_empty() {
        return Err(lens_core::CoreError::NoDifference { pairs: all.len() }.into());
    }
    let pairs = if equal == 0 { all } else { all.select(&differ) };
    Ok(Loaded { pairs, rows: differ, equal, fingerprint, encoder })
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
