//! `lens study`: methods compared on several splits of one pool of pairs.

use crate::args::StudyArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{StudyOptions, StudyResult, find_study, study};
use lens_core::MethodSettings;
use lens_data::files::read_text;
use lens_eval::study::plan::base_settings;
use lens_eval::study::ready;
use lens_eval::study::store::{REPORT, SUMMARY_TEXT};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The settings of the method that the study names, over which the settings file and --set go.
pub fn base(args: &StudyArgs) -> Result<MethodSettings, CliError> {
    match args.study.as_deref() {
        Some(name) if !args.list && !args.show => Ok(base_settings(&find_study(name)?)?),
        _ => Ok(MethodSettings::default()),
    }
}

/// Runs the command.
pub fn run(args: &StudyArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    if args.list {
        return list(settings);
    }
    let name = args.study.as_deref().ok_or_else(|| {
        let said = "name a study, or list the ready-made ones with --list";
        lens::Error::Refused(said.to_owned())
    })?;
    if args.show {
        let text = match ready::text(name) {
            Some(text) => text.to_owned(),
            None => read_text(Path::new(name)).map_err(lens::Error::from)?,
        };
        return output::line(text.trim_end());
    }
    let mut file = find_study(name)?;
    file.splits = args.splits.unwrap_or(file.splits);
    if !args.seed_pairs.is_empty() {
        let one = |s: &String| s.parse::<i64>().map_or_else(|_| s.as_str().into(), Into::into);
        file.seeds = Some(toml::Value::Array(args.seed_pairs.iter().map(one).collect()));
    }
    file.seed = settings.seed;
    let folder = PathBuf::from(format!("study-{}", file.name));
    let options = StudyOptions {
        study: file,
        data: args.data.clone(),
        settings: settings.method(),
        model: settings.model()?,
        stored: settings.stored(Vec::new())?,
        reading: settings.reading()?,
        output: settings.output.clone().unwrap_or(folder),
        overwrite: settings.overwrite,
    };
    let result = study(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    print(&result)
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

fn print(result: &StudyResult) -> Result<(), CliError> {
    let StudyResult { summary, folder } = result;
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
