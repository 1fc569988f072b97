//! From stored embeddings to figures over several splits and, where asked for, a reward model trained
//! on all of them.

use crate::earlier::{EarlierModel, PairKeys, WarmStartCounts};
use crate::error::stop_if_cancelled;
use crate::models::check_arrays;
use crate::notes;
use crate::options::{
    MethodOptions, StoredPairsOptions, at_least_one, train_command, train_settings,
    unless_unreadable,
};
use crate::save::{Finished, save};
use crate::select::{self, StoredSearch, selected_settings};
use crate::{Error, Progress};
use lens_core::splits::{SplitsReport, run_splits_choosing};
use lens_core::{EmbeddedPairs, Extras, MethodSettings, Threads, fit_with};
use lens_data::bundle::{Bundle, DataRecord, Kept, check_target};
use lens_data::{LabelCounts, StoredPairs, VetReport, file_names};
use lens_eval::figures::heldout::PairAccuracy;
use serde::{Serialize, Serializer};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What [`train()`] is told.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// The embedded pairs.
    pub pairs: StoredPairsOptions,
    /// Pairs to train on in each split; the rest is held out. Defaults to four fifths.
    pub seed_pairs: Option<usize>,
    /// Random splits to measure on. Defaults to 5.
    pub splits: usize,
    /// The method, and which of its settings are selected: in every split on its own seed pairs.
    pub method: MethodOptions,
    /// The folder of an earlier reward model to train further.
    pub warm_start: Option<PathBuf>,
    /// A folder for a reward model trained on all pairs; `None` trains and writes none.
    pub output: Option<PathBuf>,
    /// Replace a reward model that is in that folder. Defaults to `false`.
    pub overwrite: bool,
}

impl TrainOptions {
    /// The defaults, for embedded pairs.
    pub fn new(pairs: StoredPairsOptions) -> Self {
        let views = crate::ViewSelection::Fixed;
        TrainOptions {
            pairs,
            seed_pairs: None,
            splits: 5,
            method: MethodOptions { views, ..MethodOptions::default() },
            warm_start: None,
            output: None,
            overwrite: false,
        }
    }

    /// Checks the options before any work.
    ///
    /// # Errors
    /// [`Error::is_wrong_option`]; an output that cannot be written.
    pub fn check(&self) -> Result<(), Error> {
        self.method.settings.check()?;
        at_least_one("splits", self.splits)?;
        at_least_one("seed_pairs", self.seed_pairs.unwrap_or(1))?;
        match &self.output {
            Some(output) => Ok(check_target(output, self.overwrite)?),
            None => Ok(()),
        }
    }
}

/// What [`train()`] found out. Serialises to what `lens train --json` prints.
#[derive(Debug)]
pub struct TrainResult {
    /// Figures of every split and of all.
    pub splits: SplitsReport,
    /// Training pairs for each real one; with augmentation selected, the factor started from.
    pub factor: usize,
    /// Wall-clock time in seconds, without the reward model on all pairs.
    pub seconds: f64,
    /// Pairs, and the width of their embeddings.
    pub shape: (usize, usize),
    /// Ties and margins among them.
    pub labels: LabelCounts,
    /// Pairs trained on in each split.
    pub seed_pairs: usize,
    /// What was selected in each split, in words; empty where nothing was to be selected.
    pub selected: Vec<String>,
    /// Where training started from, unless afresh.
    pub warm_start: Option<WarmStartCounts>,
    /// The reward model on all pairs, where one was asked for.
    pub saved: Option<SavedModel>,
}

/// A reward model trained on all pairs.
#[derive(Debug)]
pub struct SavedModel {
    /// Its folder.
    pub folder: PathBuf,
    /// Which head is in it.
    pub kept: Kept,
    /// The reward model.
    pub bundle: Bundle,
}

impl Serialize for TrainResult {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let splits = &self.splits;
        let split =
            |(none, augmented): &(f64, Option<f64>)| json!({"none": none, "augmented": augmented});
        json!({
            "none": PairAccuracy::from(splits.none),
            "augmented": splits.augmented.map(PairAccuracy::from),
            "difference": splits.difference,
            "factor": self.factor,
            "splits": splits.by_split.len(),
            "seconds": self.seconds,
            "pairs": self.shape.0,
            "labels": self.labels,
            "seed_pairs": self.seed_pairs,
            "by_split": splits.by_split.iter().map(split).collect::<Vec<_>>(),
            "chosen": (!self.selected.is_empty()).then_some(&self.selected),
            "warm_start": self.warm_start,
            "bundle": self.saved.as_ref().map(|saved| &saved.folder),
            "kept": self.saved.as_ref().map(|saved| saved.kept),
        })
        .serialize(to)
    }
}

/// Trains on several splits of stored embeddings, measures on the rest of each, and trains on all where
/// a reward model is asked for.
///
/// # Errors
/// What is wrong with the options, the arrays or the output; too few pairs.
pub fn train(options: &TrainOptions, progress: &dyn Progress) -> Result<TrainResult, Error> {
    let clock = Instant::now();
    options.check()?;
    let method = &options.method;
    let settings = &method.settings;
    let earlier = match &options.warm_start {
        Some(path) => Some(EarlierModel::open(path, method, progress)?),
        None => None,
    };
    let earlier = earlier.as_ref();
    let stored = options.pairs.open(progress)?;
    notes::equal_embeddings(&stored.report, progress);
    let pairs = &stored.pairs;
    let labels = LabelCounts::count(pairs.labels.iter().copied());
    notes::labels(&labels, &settings.head, progress);
    let keys = PairKeys::of_embeddings(&stored);
    let folds = match earlier {
        None => Vec::new(),
        Some(earlier) => known_folds(earlier, &stored, &keys, options, progress)?,
    };
    let warm_start = earlier.map(|e| e.counts(&folds));
    let start = earlier.map(|e| e.start(&folds));
    let seed_pairs = seed_pairs(options, pairs.len(), warm_start.as_ref().map_or(0, |w| w.known))?;
    progress.note(&format!(
        "training on {} splits, each of {seed_pairs} of the {} pairs",
        options.splits,
        pairs.len()
    ));
    // Selected in every split on its seed pairs, so that the pairs that it holds out are unseen by the
    // selection too.
    let search = method.selects().then(|| StoredSearch::new(pairs.views.len(), method));
    let by_split = Mutex::new(BTreeMap::new());
    let choose = |seeds: &EmbeddedPairs, own: &MethodSettings, progress: &dyn Progress| {
        let Some(search) = &search else { return Ok(own.clone()) };
        let tuned = search.tune(seeds, own, progress)?;
        let split = own.seed.wrapping_sub(settings.seed);
        by_split.lock().unwrap_or_else(PoisonError::into_inner).insert(split, tuned.in_words());
        Ok(selected_settings(own, &tuned, method))
    };
    let splits =
        run_splits_choosing(pairs, settings, start, seed_pairs, options.splits, &choose, progress);
    let splits = unless_unreadable(&stored, splits.map_err(Error::from))?;
    let by_split = by_split.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut result = TrainResult {
        splits,
        factor: settings.augment,
        seconds: clock.elapsed().as_secs_f64(),
        shape: (pairs.len(), pairs.dim()),
        labels,
        seed_pairs,
        selected: by_split.into_values().collect(),
        warm_start,
        saved: None,
    };
    if let Some(output) = &options.output {
        let (kept, bundle) =
            on_all(options, &stored, &keys, earlier, start, search.as_ref(), &result, progress)?;
        result.saved = Some(SavedModel { folder: output.clone(), kept, bundle });
    }
    Ok(result)
}

fn seed_pairs(options: &TrainOptions, pairs: usize, known: usize) -> Result<usize, Error> {
    let default = known + (pairs - known) * 4 / 5;
    let seed_pairs = options.seed_pairs.unwrap_or(default);
    if seed_pairs < known {
        let detail = format!(
            "is {seed_pairs}, but {known} pairs were trained on before and are in every split"
        );
        return Err(Error::option("seed_pairs", detail));
    }
    Ok(seed_pairs)
}

/// Trains on all pairs, and saves the reward model.
#[allow(clippy::too_many_arguments)] // Every part of a training.
fn on_all(
    options: &TrainOptions,
    stored: &StoredPairs,
    keys: &PairKeys,
    earlier: Option<&EarlierModel>,
    start: Option<lens_core::WarmStart<'_>>,
    search: Option<&StoredSearch>,
    result: &TrainResult,
    progress: &dyn Progress,
) -> Result<(Kept, Bundle), Error> {
    let (pairs, method) = (&stored.pairs, &options.method);
    let tuned = search.map(|search| search.tune(pairs, &method.settings, progress));
    let tuned = unless_unreadable(stored, tuned.transpose().map_err(Error::from))?;
    let tuned = tuned.as_ref();
    let method = match tuned {
        Some(tuned) => method.settled(selected_settings(&method.settings, tuned, method)),
        None => method.clone(),
    };
    let extras = Extras { start, ..Extras::default() };
    let outcome = fit_with(pairs, &method.settings, extras, Threads::available(), progress);
    let outcome = unless_unreadable(stored, outcome.map_err(Error::from))?;
    stop_if_cancelled(progress)?;
    let VetReport { read, used, .. } = stored.report;
    let data = DataRecord {
        file: file_names(&options.pairs.files),
        fingerprint: stored.fingerprint.clone(),
        read,
        used,
        left_out: stored.report.counts(),
    };
    let mut figures = json!({"splits": &result.splits});
    if !result.selected.is_empty() {
        figures["chosen_by_split"] = json!(&result.selected);
    }
    let without = PairAccuracy::from(result.splits.none).to_string();
    let mut table = vec![
        ("splits".to_owned(), format!("{} of {} pairs", options.splits, result.seed_pairs)),
        ("without augmentation".to_owned(), without),
    ];
    table.extend(result.labels.summary().map(|words| ("labels".to_owned(), words)));
    table.extend(tuned.map(select::lines).unwrap_or_default());
    if let Some(counts) = &result.warm_start {
        table.insert(0, ("warm start".to_owned(), counts.in_words()));
    }
    // Arrays that do not say what made them are taken to be the earlier model's, as was noted.
    let theirs = earlier.and_then(|e| e.bundle.manifest.encoder.clone());
    let settled = TrainOptions { method, ..options.clone() };
    let finished = Finished {
        encoder: stored.encoder.clone().or(theirs),
        data,
        figures,
        table: &table,
        pairs,
        heldout: None,
        splits: Some(&result.splits),
        left_out: Vec::new(),
        keys,
        earlier: earlier.zip(result.warm_start.as_ref()),
        tuned,
        method: &settled.method,
        command: train_command(&settled),
        settings: train_settings(&settled)?,
    };
    let saved = save(outcome, finished, options.output.as_deref(), options.overwrite, progress);
    let saved = unless_unreadable(stored, saved)?;
    Ok((saved.kept, saved.bundle))
}

/// The earlier folds of the pairs, if these can be trained further on.
fn known_folds(
    earlier: &EarlierModel,
    stored: &StoredPairs,
    keys: &PairKeys,
    options: &TrainOptions,
    progress: &dyn Progress,
) -> Result<Vec<Option<usize>>, Error> {
    let files = &options.pairs.files;
    check_arrays(&earlier.bundle, stored.encoder.as_ref(), &files[0], progress)?;
    earlier.require(keys.kind)?;
    let mut folds = earlier.folds(keys);
    // A pair on a prompt of known pairs is as good as known: its prompt cannot be held out.
    let prompts = &stored.pairs.prompts;
    let seen: HashMap<u32, usize> =
        prompts.iter().zip(&folds).filter_map(|(&p, f)| Some((p, (*f)?))).collect();
    for (fold, prompt) in folds.iter_mut().zip(prompts) {
        *fold = fold.or_else(|| seen.get(prompt).copied());
    }
    if folds.iter().all(Option::is_some) {
        return Err(Error::Refused(format!(
            "{}: {} was trained on all {} pairs, or on their prompts: none is left to measure on in \
             {} splits; add new pairs",
            file_names(files),
            earlier.path.display(),
            folds.len(),
            options.splits
        )));
    }
    Ok(folds)
}
