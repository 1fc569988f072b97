//! The main job: from a file of preference pairs to a saved reward model.

use crate::data_source;
use crate::earlier::{EarlierModel, PairKeys, WarmStartCounts};
use crate::encoded::{EncoderOf, encode_pairs, keep_usable};
use crate::error::stop_if_cancelled;
use crate::models::{encoder_record, matrix, note_encoder, open_encoder, open_encoder_of_bundle};
use crate::notes;
use crate::options::{BundleModelOptions, MethodOptions, ModelOptions, run_command, run_settings};
use crate::public::{self, PublicFigures};
use crate::save::{Finished, HeldOutPairs, Saved, save};
use crate::select::{self, set_candidate_views};
use crate::stages::{StageTime, Stages};
use crate::{Error, Progress};
use lens_core::{EmbeddedPairs, Extras, Threads, fit_with};
use lens_data::bundle::{Bundle, DataRecord, Kept, PAGE, REPORT, check_target};
use lens_data::{
    DataSource, KeyKind, LabelCounts, ReadOptions, Reason, VetReport, Vetted, file_name,
    read_pairs_with, shared_prompts, vet,
};
use lens_encoder::{Encoded, TextEncoder, ViewChoice};
use lens_eval::figures::heldout::{HeldOut, HeldOutModels, difference_in_words, response_lengths};
use lens_eval::tuning::Tuned;
use lens_report::text::percent;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What [`run()`] is told.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The preference pairs: a file, several, a folder, a dataset of the Hub.
    pub pairs: DataSource,
    /// Held-out pairs to evaluate on. Defaults to a share of the prompts of `pairs`.
    pub eval: Option<DataSource>,
    /// The share of the prompts to hold out where there is no `eval`. Defaults to 0.2; 0 holds out
    /// nothing, and measures nothing.
    pub holdout: f64,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
    /// The language model and its views. A warm start takes the earlier model's instead.
    pub model: ModelOptions,
    /// The method, and which of its settings are selected.
    pub method: MethodOptions,
    /// An earlier reward model to train further.
    pub warm_start: Option<WarmStartOptions>,
    /// The folder for the reward model; `None` writes nothing.
    pub output: Option<PathBuf>,
    /// Replace a reward model that is in that folder. Defaults to `false`.
    pub overwrite: bool,
}

/// An earlier reward model to train further: only pairs that it was not trained on are held out, and
/// its encoder is kept.
#[derive(Debug, Clone, Default)]
pub struct WarmStartOptions {
    /// Its folder.
    pub bundle: PathBuf,
    /// Its encoder, where something of it is named.
    pub encoder: BundleModelOptions,
}

impl RunOptions {
    /// The defaults, for a file of pairs.
    pub fn new(pairs: impl Into<DataSource>) -> Self {
        RunOptions {
            pairs: pairs.into(),
            eval: None,
            holdout: 0.2,
            reading: ReadOptions::default(),
            model: ModelOptions::default(),
            method: MethodOptions::default(),
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
        if !(0.0..1.0).contains(&self.holdout) {
            return Err(Error::option("holdout", "must be at least 0 and below 1"));
        }
        if self.warm_start.is_none() {
            self.model.check()?;
        }
        match &self.output {
            Some(output) => Ok(check_target(output, self.overwrite)?),
            None => Ok(()),
        }
    }
}

/// What [`run()`] found out. Serialises to what `lens run --json` prints.
#[derive(Debug, Serialize)]
pub struct RunResult {
    /// What became of the rows of the training file.
    pub pairs: VetReport,
    /// Ties and margins among the training pairs.
    pub labels: LabelCounts,
    /// What became of the held-out rows.
    pub heldout_pairs: VetReport,
    /// The heads on the held-out pairs.
    pub heldout: HeldOut,
    /// Where training started from, unless afresh.
    pub warm_start: Option<WarmStartCounts>,
    /// The public reward model that was corrected, where the language model is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_model: Option<PublicFigures>,
    /// Training pairs for each real one, the original included.
    pub factor: usize,
    /// How views, head and augmentation were selected, where they were.
    pub tuned: Option<Tuned>,
    /// Which head is in the bundle.
    pub kept: Kept,
    /// Which head it is and why, in words.
    #[serde(skip)]
    pub decision: String,
    /// The time that each stage took.
    pub stages: Vec<StageTime>,
    /// The reward model's folder, where one was written.
    #[serde(rename = "bundle")]
    pub folder: Option<PathBuf>,
    /// The report as Markdown.
    pub report: Option<PathBuf>,
    /// The report as an HTML page.
    pub page: Option<PathBuf>,
    /// The result as lines of label and value, less what the clock decides.
    #[serde(skip)]
    pub table: Vec<(String, String)>,
    /// The reward model.
    #[serde(skip)]
    pub reward_model: Bundle,
}

/// Trains a reward model on a file of preference pairs: reads and vets them, holds some out, embeds
/// all, selects views and head, trains with and without synthesis, compares both on the held-out pairs,
/// and saves the head that the folds of the training pairs decide for.
///
/// # Errors
/// What is wrong with the options, the pairs, the model or the output. Finished embeddings are kept,
/// and nothing half-written is left.
pub fn run(options: &RunOptions, progress: &dyn Progress) -> Result<RunResult, Error> {
    options.check()?;
    let earlier = open_earlier(options, progress)?;
    let earlier = earlier.as_ref();
    let Pairs { mut train, mut heldout } = read(options, earlier, progress)?;

    let (mut encoder, mut options) = open(options, earlier, progress)?;
    let public = public::find(encoder.as_mut(), &mut options, earlier.is_some(), progress)?;
    let asked = encoder.identity().views.len().max(1);
    let mut candidates = None;
    if options.method.selects() {
        let (views, selection) = (&options.model.views, options.method.views);
        candidates = Some(set_candidate_views(encoder.as_mut(), views, selection, progress)?);
    }
    note_encoder(encoder.as_ref(), progress);

    let mut stages = Stages::default();
    let (mut train_pairs, mut heldout_pairs) =
        embed(&options, encoder.as_ref(), &mut train, &mut heldout, &mut stages, progress)?;
    if train_pairs.is_empty() {
        return Err(nothing_left(&options.pairs.name(), &train));
    }

    let mut tuned = None;
    if let Some(candidates) = candidates {
        let start = Instant::now();
        tuned = select::search(&train_pairs, &candidates, asked, &options.method, progress)?;
        let kept = tuned.as_ref().map_or(vec![0], |tuned| tuned.views.clone());
        options.select(&candidates, &kept, tuned.as_ref());
        train_pairs = train_pairs.select_views(&kept)?;
        heldout_pairs = match heldout_pairs.is_empty() {
            true => train_pairs.select(&[]),
            false => heldout_pairs.select_views(&kept)?,
        };
        stages.push("choose", start.elapsed().as_secs_f64());
        if candidates.len() > kept.len() {
            // The bundle is used with these views alone.
            encoder.set_views(&options.model.views)?;
        }
    }

    let settings = &options.method.settings;
    let watch = (!heldout_pairs.is_empty()).then_some(&heldout_pairs);
    let keys = PairKeys::of_texts(&train);
    let folds = earlier.map_or(Vec::new(), |e| e.folds(&keys));
    let warm_start = earlier.map(|e| e.counts(&folds));
    let public = public.and_then(|public| Some((public.prior(encoder.identity())?, public)));
    let prior = public.as_ref().map(|(prior, _)| prior);
    let extras = Extras { start: earlier.map(|e| e.start(&folds)), watch, prior };
    let outcome = fit_with(&train_pairs, settings, extras, Threads::available(), progress)?;
    stages.push_training(&outcome);

    let start = Instant::now();
    let rows = &heldout.used;
    let before = earlier.map(|e| &e.bundle.model);
    let models = HeldOutModels::new(&outcome, before);
    let lengths = response_lengths(rows.iter().map(|row| &row.value));
    let figures = HeldOut::measure(models, &heldout_pairs, &lengths, settings.seed)?;
    let public = public.map(|(prior, public)| {
        public.measure(&prior, [&train_pairs, &heldout_pairs], &outcome, settings, progress)
    });
    let public = public.transpose()?;
    stages.push("evaluate", start.elapsed().as_secs_f64());
    stop_if_cancelled(progress)?;

    let start = Instant::now();
    let mut table =
        table(&train, &heldout, &figures, warm_start.as_ref(), tuned.as_ref(), settings.augment);
    table.extend(public.as_ref().map(PublicFigures::lines).unwrap_or_default());
    let finished = Finished {
        encoder: Some(encoder_record(encoder.as_ref(), &options.model.model)),
        data: data_record(&options.pairs.name(), &train),
        figures: public::record(
            public.as_ref(),
            serde_json::json!({
                "heldout": &figures,
                "heldout_file": options.eval.as_ref().map(|eval| file_name(&eval.name())),
                "heldout_fingerprint": heldout.fingerprint(),
            }),
        ),
        table: &table,
        pairs: &train_pairs,
        heldout: watch.map(|_| HeldOutPairs { figures: &figures, rows }),
        splits: None,
        left_out: vec![("training", &train.report), ("held-out", &heldout.report)],
        keys: &keys,
        earlier: earlier.zip(warm_start.as_ref()),
        tuned: tuned.as_ref(),
        method: &options.method,
        command: run_command(&options),
        settings: run_settings(&options)?,
    };
    let Saved { bundle, kept, decision, report_seconds, novelty_seconds } =
        save(outcome, finished, options.output.as_deref(), options.overwrite, progress)?;
    stages.push("report", report_seconds);
    if settings.augment > 1 {
        stages.push("measure novelty", novelty_seconds);
    }
    let others = report_seconds + novelty_seconds;
    stages.push("save", start.elapsed().as_secs_f64() - others);
    Ok(RunResult {
        labels: labels(&train),
        pairs: train.report,
        heldout_pairs: heldout.report,
        heldout: figures,
        warm_start,
        public_model: public,
        factor: settings.augment,
        tuned,
        kept,
        decision,
        stages: stages.list,
        report: options.output.as_ref().map(|folder| folder.join(REPORT)),
        page: options.output.as_ref().map(|folder| folder.join(PAGE)),
        folder: options.output,
        table,
        reward_model: bundle,
    })
}

impl RunOptions {
    /// Puts what was selected in the place of what was asked for: of the candidate views those numbered
    /// `kept`, and the settings of `tuned`, if there was a choice.
    fn select(&mut self, candidates: &[ViewChoice], kept: &[usize], tuned: Option<&Tuned>) {
        self.model.views = kept.iter().map(|&view| candidates[view].clone()).collect();
        let settings = &self.method.settings;
        let selected = match tuned {
            Some(tuned) => select::selected_settings(settings, tuned, &self.method),
            None => settings.clone(),
        };
        self.method = self.method.settled(selected);
    }
}

fn open_earlier(
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Option<EarlierModel>, Error> {
    let Some(warm_start) = &options.warm_start else { return Ok(None) };
    let earlier = EarlierModel::open(&warm_start.bundle, &options.method, progress)?;
    earlier.require(KeyKind::Prompt)?;
    Ok(Some(earlier))
}

/// Opens the encoder, that of the earlier model if there is one. The options that come back name what
/// the encoder does.
fn open(
    options: &RunOptions,
    earlier: Option<&EarlierModel>,
    progress: &dyn Progress,
) -> Result<(Box<dyn TextEncoder>, RunOptions), Error> {
    let mut options = options.clone();
    let (Some(earlier), Some(warm_start)) = (earlier, &options.warm_start) else {
        return Ok((open_encoder(&options.model, progress)?, options));
    };
    let (bundle, named) = (&earlier.bundle, &warm_start.encoder);
    let encoder = open_encoder_of_bundle(bundle, &earlier.path, named, progress)?;
    let recorded = bundle.manifest.encoder.as_ref().map(|record| record.model.clone());
    let identity = encoder.identity();
    let own = ModelOptions::default();
    options.model = ModelOptions {
        model: named.model.clone().or(recorded).unwrap_or(own.model),
        views: match identity.views.is_empty() {
            true => own.views,
            false => identity.views.iter().map(ViewChoice::from).collect(),
        },
        template: identity.template.clone(),
        max_length: identity.max_length,
        add_bos: named.add_bos.unwrap_or(own.add_bos),
        special_tokens: identity.special_tokens,
        runtime: named.runtime.clone(),
    };
    Ok((encoder, options))
}

fn labels(pairs: &Vetted) -> LabelCounts {
    LabelCounts::count(pairs.used.iter().map(|row| row.value.label()))
}

fn data_record(path: &Path, vetted: &Vetted) -> DataRecord {
    DataRecord {
        file: file_name(path),
        fingerprint: vetted.fingerprint(),
        read: vetted.report.read,
        used: vetted.report.used,
        left_out: vetted.report.counts(),
    }
}

fn nothing_left(path: &Path, vetted: &Vetted) -> Error {
    Error::NothingToTrainOn { path: path.to_owned(), left_out: vetted.report.summary() }
}

/// Training and held-out pairs, vetted, without a prompt in common.
struct Pairs {
    train: Vetted,
    heldout: Vetted,
}

fn read(
    options: &RunOptions,
    earlier: Option<&EarlierModel>,
    progress: &dyn Progress,
) -> Result<Pairs, Error> {
    let load = |input: &DataSource| -> Result<Vetted, Error> {
        let input = data_source::resolve(input, &options.model.runtime, progress)?;
        let data = read_pairs_with(&input, &options.reading, progress)?;
        notes::malformed(&data.malformed, progress);
        notes::layout(&data, progress);
        let vetted = vet(data);
        notes::no_prompt(&vetted, progress);
        Ok(vetted)
    };
    let path = &options.pairs.name();
    let mut train = load(&options.pairs)?;
    if train.used.is_empty() {
        return Err(nothing_left(path, &train));
    }
    let mut heldout;
    match &options.eval {
        Some(file) => {
            heldout = load(file)?;
            let file = &file.name();
            leave_out_ties(&mut heldout, progress);
            if heldout.used.is_empty() {
                return Err(nothing_left(file, &heldout));
            }
            if let Some(earlier) = earlier {
                leave_out_trained_on(&mut heldout, file, earlier, progress)?;
            }
            let shared = shared_prompts(&train, &heldout);
            train.leave_out(Reason::Overlap, shared);
        }
        None => {
            (train, heldout) = hold_out(train, options, earlier)?;
            let n = heldout.used.len();
            progress.note(&format!(
                "no --eval given: {n} of the pairs ({} of the prompts) are held out",
                percent(options.holdout)
            ));
            leave_out_ties(&mut heldout, progress);
        }
    }
    check_prompts(options, &train, &heldout)?;
    if train.used.iter().all(|row| row.value.tie) {
        return Err(Error::Refused(format!(
            "{}: every pair to train on is a tie: none says which response is better",
            path.display()
        )));
    }
    notes::labels(&labels(&train), &options.method.settings.head, progress);
    Ok(Pairs { train, heldout })
}

/// Leaves out held-out pairs that have no order to get right.
fn leave_out_ties(heldout: &mut Vetted, progress: &dyn Progress) {
    let ties = heldout.leave_out_ties();
    if ties > 0 {
        progress.note(&format!(
            "{ties} of the held-out pairs are ties, which have no order to get right: left out"
        ));
    }
}

/// Leaves out held-out pairs of the file `path` on whose prompts the earlier model was trained.
fn leave_out_trained_on(
    heldout: &mut Vetted,
    path: &Path,
    earlier: &EarlierModel,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let known = earlier.trained_on(heldout);
    let n = heldout.leave_out(Reason::TrainedOn, known);
    let name = earlier.path.display();
    if heldout.used.is_empty() {
        return Err(Error::Refused(format!(
            "{}: {name} was trained on the prompts of all {n} held-out pairs: none is left to \
             evaluate on",
            path.display()
        )));
    }
    if n > 0 {
        progress
            .note(&format!("{n} held-out pairs are left out: {name} was trained on their prompts"));
    }
    Ok(())
}

/// Whether there is enough to train on: asked before the pairs are embedded.
fn check_prompts(options: &RunOptions, train: &Vetted, heldout: &Vetted) -> Result<(), Error> {
    if train.used.is_empty() && options.eval.is_some() {
        return Err(nothing_left(&options.pairs.name(), train));
    }
    if train.prompt_count() >= 2 {
        return Ok(());
    }
    let (mut pairs, mut prompts) = (train.used.len(), train.prompt_count());
    let mut said = String::new();
    if options.eval.is_none() && !heldout.used.is_empty() {
        // They come from the same file, whose user counts them all.
        pairs += heldout.used.len();
        prompts += heldout.prompt_count();
        said = format!(", {} of them to be held out", heldout.used.len());
    }
    Err(Error::TooFewPrompts {
        path: options.pairs.name(),
        pairs,
        prompts,
        heldout: said,
        left_out: train.report.summary(),
    })
}

/// Moves a share of the prompts to a held-out set, only of prompts that an earlier model was not
/// trained on. Returns the rest and the held-out pairs.
fn hold_out(
    train: Vetted,
    options: &RunOptions,
    earlier: Option<&EarlierModel>,
) -> Result<(Vetted, Vetted), Error> {
    let is_new = |key: i64| earlier.is_none_or(|e| !e.knows(key));
    if let Some(earlier) = earlier
        && options.holdout > 0.0
        && !train.prompt_keys().any(is_new)
    {
        return Err(Error::Refused(format!(
            "{}: {} was trained on the prompts of all {} pairs: none is left to hold out; add new \
             pairs, or name held-out ones with --eval (--holdout 0 measures nothing)",
            options.pairs,
            earlier.path.display(),
            train.used.len()
        )));
    }
    let seed = options.method.settings.seed;
    Ok(train.hold_out(options.holdout, seed, is_new))
}

/// Embeds both sets in one go, so that their texts share batches. Pairs that the template refuses, or
/// whose sides the encoder cannot tell apart, are left out.
fn embed(
    options: &RunOptions,
    encoder: &dyn TextEncoder,
    train: &mut Vetted,
    heldout: &mut Vetted,
    stages: &mut Stages,
    progress: &dyn Progress,
) -> Result<(EmbeddedPairs, EmbeddedPairs), Error> {
    let start = Instant::now();
    let (path, heldout_path) = (options.pairs.name(), options.eval.as_ref().map(DataSource::name));
    let heldout_path = heldout_path.as_deref().unwrap_or(&path);
    let files = [(path.as_path(), &*train.used), (heldout_path, &*heldout.used)];
    let of = match options.warm_start {
        Some(_) => EncoderOf::Bundle,
        None => EncoderOf::Options,
    };
    let mut encoded = encode_pairs(encoder, &files, of, progress)?.into_iter();
    let mut embedded = |vetted: &mut Vetted| {
        let sides = keep_usable(vetted, encoded.next().unwrap_or_default());
        embedded(vetted, &sides, encoder)
    };
    let pairs = (embedded(train)?, embedded(heldout)?);
    stages.push_embedding(start.elapsed().as_secs_f64(), &encoder.stats());
    Ok(pairs)
}

/// The pairs of vetted rows with the vectors of their sides.
fn embedded(
    vetted: &Vetted,
    sides: &[[Encoded; 2]],
    encoder: &dyn TextEncoder,
) -> Result<EmbeddedPairs, Error> {
    let dim = encoder.dim();
    let pairs = EmbeddedPairs::with_prompts(
        matrix(sides.iter().map(|[chosen, _]| chosen), dim)?,
        matrix(sides.iter().map(|[_, rejected]| rejected), dim)?,
        vetted.prompt_numbers(),
    )?;
    let pairs = pairs.with_labels(vetted.used.iter().map(|row| row.value.label()).collect())?;
    let identity = encoder.identity();
    // A server says nothing of views.
    if pairs.is_empty() || identity.views.len() < 2 {
        return Ok(pairs);
    }
    Ok(pairs.with_views(vec![identity.dim; identity.views.len()])?)
}

/// The result table, less what the clock decides.
fn table(
    train: &Vetted,
    heldout: &Vetted,
    figures: &HeldOut,
    warm_start: Option<&WarmStartCounts>,
    tuned: Option<&Tuned>,
    factor: usize,
) -> Vec<(String, String)> {
    let set = |report: &VetReport| {
        let VetReport { read, used, .. } = report;
        format!("{read} read, {used} used, left out: {}", report.summary())
    };
    let mut rows = vec![
        ("training pairs".to_owned(), set(&train.report)),
        ("held-out pairs".to_owned(), set(&heldout.report)),
    ];
    rows.extend(labels(train).summary().map(|words| ("labels".to_owned(), words)));
    rows.extend(warm_start.map(|counts| ("warm start".to_owned(), counts.in_words())));
    rows.extend(tuned.map(select::lines).unwrap_or_default());
    let Some(none) = &figures.none else {
        rows.push(("accuracy".to_owned(), "not measured: no held-out pairs".into()));
        return rows;
    };
    if let Some(earlier) = &figures.earlier {
        rows.push(("earlier model".to_owned(), earlier.accuracy.to_string()));
    }
    rows.push(("without augmentation".to_owned(), none.accuracy.to_string()));
    if let (Some(augmented), Some(difference)) = (&figures.augmented, &figures.difference) {
        let label = format!("with {factor}x augmentation");
        rows.push((label, format!("{}, same head", augmented.accuracy)));
        rows.push(("difference".to_owned(), difference_in_words(difference)));
    }
    if let Some(longer) = figures.longer_wins {
        rows.push(("longer answer wins".to_owned(), percent(longer)));
    }
    rows
}
