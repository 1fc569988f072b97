//! `lens study`: methods compared on several splits of one pool of pairs.

use crate::args::StudyArgs;
use crate::error::CliError;
use crate::output;
use crate::pool::{Pool, pool};
use crate::progress::Reporter;
use crate::settings::{Settings, bad};
use lens_core::{MethodSettings, Progress};
use lens_data::file_name;
use lens_eval::EvalError;
use lens_eval::study::plan::base_settings;
use lens_eval::study::store::{REPORT, SUMMARY_TEXT};
use lens_eval::study::{
    MethodRunner, Plan, Store, StudyFile, Summary, analyse, engine, ready, run as run_study,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// More pairs than any file has: a study that does not fit them fits none.
const UNREAD: usize = 1 << 40;

/// The settings of the method that the study names, over which the settings file and --set go.
pub fn base(args: &StudyArgs) -> Result<MethodSettings, CliError> {
    match args.study.as_deref() {
        Some(name) if !args.list && !args.show => Ok(base_settings(&find(name)?)?),
        _ => Ok(MethodSettings::default()),
    }
}

/// A ready-made study by name, or the study of a file.
fn find(name: &str) -> Result<StudyFile, CliError> {
    if let Some(study) = ready::find(name)? {
        return Ok(study);
    }
    let text = std::fs::read_to_string(name).map_err(|e| {
        let names = ready::names().join(", ");
        CliError::Refused(format!("{name}: no study file ({e}), and no ready-made study ({names})"))
    })?;
    let mut study = StudyFile::parse(&text, name)?;
    if study.name.is_empty() {
        let path = Path::new(name);
        study.name = file_name(Path::new(path.file_stem().unwrap_or(path.as_os_str())));
    }
    Ok(study)
}

/// Runs the command.
pub fn run(args: &StudyArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    if args.list {
        return list(settings);
    }
    let name = args.study.as_deref().ok_or_else(|| {
        CliError::Refused("name a study, or list the ready-made ones with --list".to_owned())
    })?;
    if args.show {
        return match ready::text(name) {
            Some(text) => output::line(text.trim_end()),
            None => {
                output::line(std::fs::read_to_string(name).map_err(|e| bad(name, e))?.trim_end())
            }
        };
    }
    let mut file = find(name)?;
    file.splits = args.splits.unwrap_or(file.splits);
    if !args.seed_pairs.is_empty() {
        let one = |s: &String| s.parse::<i64>().map_or_else(|_| s.as_str().into(), Into::into);
        file.seeds = Some(toml::Value::Array(args.seed_pairs.iter().map(one).collect()));
    }
    file.seed = settings.seed;
    let method = settings.method();
    if method.augment != base(args)?.augment {
        return Err(bad("augment", "is set by the factors of a study"));
    }
    // What is wrong with the study itself is said before anything is read.
    let plan = |pairs: usize| -> Result<Plan, CliError> {
        let encoders = file.encoder_axis(|_| Ok::<_, EvalError>(0))?;
        Ok(Plan::new(&file, &method, encoders, pairs)?)
    };
    plan(UNREAD)?;
    let folder =
        settings.output.clone().unwrap_or_else(|| PathBuf::from(format!("study-{}", file.name)));
    let store = Store::claim(&folder, settings.overwrite)?;
    let check = |pairs: usize| plan(pairs).map(drop);
    let pool = pool(&file, args.data.as_deref(), settings, reporter, &check)?;
    let plan = Plan::new(&file, &method, pool.encoders.clone(), pool.summary.pairs)?;
    let parts = engine::parts(&plan, &pool.pairs[0])?;
    let runner = MethodRunner { pools: &pool.pairs, views: &pool.views };
    runner.check(&plan)?;
    reporter.go_on()?;
    let known = store.begin(&plan, &pool.identity, reporter)?;
    announce(&plan, known.len(), reporter);

    let kept = AtomicUsize::new(known.len());
    let keep = |cell: &_, run: &_| {
        store.append(cell, run)?;
        kept.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let runs = run_study(&plan, &parts, known, &runner, &keep, reporter);
    if matches!(runs, Err(EvalError::Cancelled)) {
        reporter.note(&format!(
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
    print(&summary, &folder, settings)
}

fn announce(plan: &Plan, known: usize, reporter: &Reporter) {
    let seeds: Vec<String> = plan.seeds.iter().map(usize::to_string).collect();
    let mut parts = vec![
        format!("{} splits of {} seed pairs", plan.file.splits, seeds.join(", ")),
        format!("{} rivals", plan.rivals.len()),
    ];
    if plan.encoders.len() > 1 {
        parts.push(format!("{} encoders", plan.encoders.len()));
    }
    let known = if known > 0 { format!(", of which {known} are done") } else { String::new() };
    reporter.note(&format!("{} trainings{known}: {}", plan.len(), parts.join(", ")));
}

fn list(settings: &Settings) -> Result<(), CliError> {
    let mut rows = Vec::new();
    for name in ready::names() {
        let Some(study) = ready::find(name)? else { continue };
        if settings.json {
            output::json(&json!({"name": name, "title": study.title, "question": study.question}))?;
        }
        rows.push((name.to_owned(), study.question));
    }
    if settings.json { Ok(()) } else { output::line(&output::aligned(&rows)) }
}

fn print(summary: &Summary, folder: &Path, settings: &Settings) -> Result<(), CliError> {
    if settings.json {
        let mut value = serde_json::to_value(summary).map_err(std::io::Error::from)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("folder".to_owned(), json!(folder));
            fields.insert("report".to_owned(), json!(folder.join(REPORT)));
        }
        return output::json(&value);
    }
    let rows = summary.shown_table();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        output::line(format!("  {}", cells.join("  ")).trim_end())?;
    }
    output::line("")?;
    output::line(&summary.legend())?;
    for finding in &summary.findings {
        output::line(&format!("- {finding}"))?;
    }
    let files = [("result", SUMMARY_TEXT), ("report", REPORT)];
    let files =
        files.map(|(name, file)| (name.to_owned(), folder.join(file).display().to_string()));
    output::line(&output::aligned(&files))
}
