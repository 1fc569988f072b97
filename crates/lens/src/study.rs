//! Studies: methods compared on several splits of one pool of pairs.

mod pool;

use crate::error::stop_if_cancelled;
use crate::options::{ModelOptions, StoredPairsOptions};
use crate::{Error, Progress};
use lens_core::MethodSettings;
use lens_data::files::read_text;
use lens_data::{ReadOptions, file_name};
use lens_encoder::ViewChoice;
use lens_eval::EvalError;
use lens_eval::study::plan::base_settings;
use lens_eval::study::store::REPORT;
use lens_eval::study::{
    MethodRunner, Plan, Store, StudyFile, Summary, analyse, engine, ready, run as run_study,
};
use pool::{Pool, pool};
use serde::{Serialize, Serializer};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// More pairs than any file has: a study that does not fit them fits none.
const UNREAD: usize = 1 << 40;

/// What [`study()`] is told.
#[derive(Debug, Clone)]
pub struct StudyOptions {
    /// The study: rivals, factors, splits, encoders. See [`find_study`].
    pub study: StudyFile,
    /// Preference pairs, or a safetensors file of embedded pairs. May be left out where every encoder
    /// of the study names arrays of its own.
    pub data: Option<PathBuf>,
    /// The settings of the method that the study's go over. Defaults to those that it names itself.
    pub settings: MethodSettings,
    /// The language model that the study's encoders go over.
    pub model: ModelOptions,
    /// The arrays that the study's encoders go over: their names, how much is held in memory, and the
    /// views to take. No files are named here.
    pub stored: StoredPairsOptions,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
    /// The folder for the study; one that holds it already is gone on with.
    pub output: PathBuf,
    /// Replace another study that is in that folder. Defaults to `false`.
    pub overwrite: bool,
}

impl StudyOptions {
    /// The defaults, for a study and its data. Results go into the folder `study-NAME`.
    ///
    /// # Errors
    /// Settings of the study that are out of their range.
    pub fn new(study: StudyFile, data: Option<PathBuf>) -> Result<Self, Error> {
        Ok(StudyOptions {
            data,
            settings: base_settings(&study)?,
            model: ModelOptions::default(),
            stored: StoredPairsOptions::new(Vec::new()),
            reading: ReadOptions::default(),
            output: PathBuf::from(format!("study-{}", study.name)),
            overwrite: false,
            study,
        })
    }

    /// The views that are taken of stored embeddings where an encoder of the study names none.
    fn stored_views(&self) -> &[ViewChoice] {
        &self.stored.views
    }
}

/// What [`study()`] found. Serialises to what `lens study --json` prints.
#[derive(Debug)]
pub struct StudyResult {
    /// Its figures.
    pub summary: Summary,
    /// The folder with all of it.
    pub folder: PathBuf,
}

impl Serialize for StudyResult {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut value = serde_json::to_value(&self.summary).map_err(serde::ser::Error::custom)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("folder".to_owned(), json!(self.folder));
            fields.insert("report".to_owned(), json!(self.folder.join(REPORT)));
        }
        value.serialize(to)
    }
}

/// A ready-made study by name, or the study of a file.
///
/// # Errors
/// A name that is neither; a file that does not fit, with the key that does not.
pub fn find_study(name: &str) -> Result<StudyFile, Error> {
    if let Some(study) = ready::find(name)? {
        return Ok(study);
    }
    let text = read_text(Path::new(name)).map_err(|e| {
        let names = ready::names().join(", ");
        Error::Refused(format!("{name}: no study file ({e}), and no ready-made study ({names})"))
    })?;
    let mut study = StudyFile::parse(&text, name)?;
    if study.name.is_empty() {
        let path = Path::new(name);
        study.name = file_name(Path::new(path.file_stem().unwrap_or(path.as_os_str())));
    }
    Ok(study)
}

/// Runs a study, or goes on with one that was interrupted.
///
/// # Errors
/// What is wrong with the study, the options, the pairs, the model or the folder. Finished trainings
/// are kept in the folder.
pub fn study(options: &StudyOptions, progress: &dyn Progress) -> Result<StudyResult, Error> {
    let (file, settings) = (&options.study, &options.settings);
    if settings.augment != base_settings(file)?.augment {
        return Err(Error::option("augment", "is set by the factors of a study"));
    }
    // What is wrong with the study itself is said before anything is read.
    let plan = |pairs: usize| -> Result<Plan, Error> {
        let encoders = file.encoder_axis(|_| Ok::<_, EvalError>(0))?;
        Ok(Plan::new(file, settings, encoders, pairs)?)
    };
    plan(UNREAD)?;
    let folder = &options.output;
    let store = Store::claim(folder, options.overwrite)?;
    let check = |pairs: usize| plan(pairs).map(drop);
    let pool = pool(options, &check, progress)?;
    let plan = Plan::new(file, settings, pool.encoders.clone(), pool.summary.pairs)?;
    let parts = engine::parts(&plan, &pool.pairs[0])?;
    let runner = MethodRunner { pools: &pool.pairs, views: &pool.views };
    runner.check(&plan)?;
    stop_if_cancelled(progress)?;
    let known = store.begin(&plan, &pool.identity, progress)?;
    announce(&plan, known.len(), progress);

    let kept = AtomicUsize::new(known.len());
    let keep = |cell: &_, run: &_| {
        store.append(cell, run)?;
        kept.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let runs = run_study(&plan, &parts, known, &runner, &keep, progress);
    if matches!(runs, Err(EvalError::Cancelled)) {
        progress.note(&format!(
            "{} of {} trainings are kept in {}; the same command goes on with them",
            kept.load(Ordering::Relaxed),
            plan.len(),
            folder.display()
        ));
    }
    pool.check_reads()?;
    let runs = runs?;
    let Pool { pairs, summary: data, identity, .. } = pool;
    let summary = analyse(&plan, &parts, &runs, &pairs[0].prompts, data);
    store.finish(&plan, &identity, &runs, &summary)?;
    Ok(StudyResult { summary, folder: folder.clone() })
}

fn announce(plan: &Plan, known: usize, progress: &dyn Progress) {
    let seeds: Vec<String> = plan.seeds.iter().map(usize::to_string).collect();
    let mut parts = vec![
        format!("{} splits of {} seed pairs", plan.file.splits, seeds.join(", ")),
        format!("{} rivals", plan.rivals.len()),
    ];
    if plan.encoders.len() > 1 {
        parts.push(format!("{} encoders", plan.encoders.len()));
    }
    let known = if known > 0 { format!(", of which {known} are done") } else { String::new() };
    progress.note(&format!("{} trainings{known}: {}", plan.len(), parts.join(", ")));
}
