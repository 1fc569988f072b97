//! The report of a training as a page: what came out of it, in words, tables and charts.
//!
//! Nothing in it depends on the clock, on where files lie or on the number of threads, so that a
//! bundle is the same to the byte for the same embeddings.

mod curves;
pub mod evaluation;
mod heldout;
mod map;

use crate::error::CliError;
use crate::evaluation::Accuracy;
use crate::output::{percent, thousands};
use crate::progress::Reporter;
use crate::saving::{Sources, reproducible};
use crate::settings::Settings;
use crate::tuning;
use heldout::Judged;
use lens_core::metrics::Estimate;
use lens_core::splits::SplitsReport;
use lens_core::{EmbeddedPairs, Outcome, PreferencePair};
use lens_data::bundle::Kept;
use lens_data::{Row, VetReport, file_name};
use lens_eval::report::{
    Block, Cell, Column, Format, Headline, Report, Section, Table, TableRow, shortened,
};
use std::path::{Path, PathBuf};

/// Rows that were left out are listed up to this many a reason: the Markdown report has all.
const MOST_LISTED: usize = 100;

/// What a report shows beyond what the bundle's manifest says.
pub struct Evidence<'a> {
    /// The pairs trained on.
    pub pairs: &'a EmbeddedPairs,
    /// The held-out pairs and their texts.
    pub heldout: Option<(&'a EmbeddedPairs, &'a [Row<PreferencePair>])>,
    /// Figures over several splits, where training was repeated.
    pub splits: Option<&'a SplitsReport>,
    /// What became of the rows of each file.
    pub vetted: Vec<(&'static str, &'a VetReport)>,
    /// The command that does it again.
    pub command: String,
}

/// What was trained, and which of it is kept.
pub struct Made<'a> {
    /// Both heads.
    pub outcome: &'a Outcome,
    /// The head in the bundle.
    pub kept: Kept,
    /// Why this one.
    pub advice: &'a str,
    /// The settings.
    pub settings: &'a Settings,
}

impl Made<'_> {
    fn with(&self) -> String {
        format!("with {}x augmentation", self.settings.augment.factor())
    }
}

/// How `lens run` is called to do the same again, its settings being in a file.
pub fn run_command(pairs: &Path, settings: &Settings) -> String {
    let mut command = format!("lens run {}", quoted(&file_name(pairs)));
    if let Some(eval) = &settings.eval {
        command += &format!(" --eval {}", quoted(&file_name(eval)));
    }
    further(command, settings)
}

/// As [`run_command`], of `lens train`.
pub fn train_command(arrays: &[PathBuf], settings: &Settings) -> String {
    let files: Vec<String> = arrays.iter().map(|a| quoted(&file_name(a))).collect();
    further(format!("lens train {}", files.join(" ")), settings)
}

fn further(mut command: String, settings: &Settings) -> String {
    if let Some(earlier) = &settings.warm_start {
        command += &format!(" --warm-start {}", quoted(&file_name(earlier)));
    }
    command + " --config lens.toml -o reward-model"
}

/// A file name as a shell takes it.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+,=@%/".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', "'\\''"))
}

/// Draws the page.
pub fn page(
    made: &Made<'_>,
    sources: &Sources<'_>,
    reporter: &Reporter,
) -> Result<String, CliError> {
    let judged = match sources.evidence.heldout {
        Some((pairs, rows)) => Judged::of(made, sources, pairs, rows)?,
        None => None,
    };
    reporter.go_on()?;
    let mut sections = vec![result(made, sources, judged.as_ref())];
    sections.extend(judged.as_ref().map(heldout::section));
    sections.extend(sources.tuned.map(tuning::section));
    sections.push(curves::section(made.outcome, made.settings));
    sections.push(map::section(made, sources.evidence.pairs, reporter)?);
    sections.extend(judged.as_ref().map(heldout::worst));
    sections.extend(left_out(&sources.evidence.vetted));
    sections.push(again(made, sources)?);
    let report = Report {
        title: format!("Reward model from {}", sources.data.file),
        subtitle: subtitle(sources, made.settings),
        summary: summary(made, sources, judged.as_ref()),
        headlines: headlines(made, sources, judged.as_ref()),
        sections,
    };
    Ok(report.to_html())
}

fn subtitle(sources: &Sources<'_>, settings: &Settings) -> String {
    let model = match &sources.encoder {
        Some(_) => {
            let name = lens_encoder::models::public_name(&settings.model);
            let name =
                Path::new(&name).file_name().map_or(name.clone(), |f| f.to_string_lossy().into());
            format!("embeddings of {name}, ")
        }
        None => String::new(),
    };
    let dim = sources.evidence.pairs.dim();
    format!(
        "Trained on {} pairs; {model}width {dim}; LENS {}",
        thousands(sources.data.used as u64),
        env!("CARGO_PKG_VERSION")
    )
}

/// Whether an interval of differences says anything, in words.
fn verdict(difference: &Estimate) -> &'static str {
    let [low, high] = difference.ci95;
    if low > 0.0 {
        "a clear gain"
    } else if high < 0.0 {
        "a clear loss"
    } else {
        "no more than chance alone does"
    }
}

fn moved(difference: &Estimate) -> String {
    let [low, high] = difference.ci95.map(points);
    format!("{} points (95% interval {low} to {high})", points(difference.value))
}

/// A difference of shares in percentage points, with its sign.
fn points(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference).replace('-', "\u{2212}")
}

/// What came out, in plain words.
fn summary(made: &Made<'_>, sources: &Sources<'_>, judged: Option<&Judged<'_>>) -> Vec<String> {
    let mut said = Vec::new();
    let factor = made.settings.augment.factor();
    match (judged, sources.evidence.splits) {
        (Some(judged), _) => {
            let Accuracy { accuracy, ci95: [low, high] } = judged.kept().accuracy;
            let pairs = judged.margins.len();
            said.push(format!(
                "The saved reward model prefers the better answer in {} of {} held-out pairs; with \
                 95% confidence, in {} to {} of pairs like these.",
                percent(accuracy),
                thousands(pairs as u64),
                percent(low),
                percent(high)
            ));
            if let Some(longer) = judged.longer_wins {
                let against = if low > longer {
                    "clearly worse than the model"
                } else if high < longer {
                    "clearly better than the model"
                } else {
                    "not clearly different from the model"
                };
                said.push(format!(
                    "Always taking the longer answer would be right in {}, {against}.",
                    percent(longer)
                ));
            }
            if let Some(difference) = &judged.difference {
                said.push(format!(
                    "Synthesis ({factor}x) moves held-out accuracy by {}: {}.",
                    moved(difference),
                    verdict(difference)
                ));
            }
            said.push(judged.sureness());
        }
        (None, Some(splits)) => {
            let none = Accuracy::from(splits.none);
            let n = splits.by_split.len();
            let over = if n == 1 { "one split".to_owned() } else { format!("{n} splits") };
            said.push(format!(
                "Without augmentation, the reward model prefers the better answer in {} of held-out \
                 pairs over {over} (95% interval {} to {}).",
                percent(none.accuracy),
                percent(none.ci95[0]),
                percent(none.ci95[1])
            ));
            if let Some(difference) = &splits.difference {
                said.push(format!(
                    "Synthesis ({factor}x) moves that by {}: {}.",
                    moved(difference),
                    verdict(difference)
                ));
            }
            said.push("The saved reward model is trained on all pairs.".to_owned());
        }
        (None, None) => said.push(
            "No pairs were held out: how good the reward model is was not measured.".to_owned(),
        ),
    }
    said.push(format!("The saved head is the one {}.", made.advice));
    let data = &sources.data;
    let left_out: usize = data.left_out.values().sum();
    let rows = thousands(data.read as u64);
    said.push(match left_out {
        0 => format!("All {rows} rows of the training file were used."),
        n => format!(
            "Of {rows} rows in the training file {} were used and {} left out.",
            thousands(data.used as u64),
            thousands(n as u64)
        ),
    });
    said
}

fn headlines(made: &Made<'_>, sources: &Sources<'_>, judged: Option<&Judged<'_>>) -> Vec<Headline> {
    let interval =
        |[low, high]: [f64; 2]| format!("95% interval {} to {}", percent(low), percent(high));
    let headline = |label: &str, value: String, detail: String| Headline {
        label: label.to_owned(),
        value,
        detail,
    };
    let mut out = Vec::new();
    let mut difference = None;
    if let Some(judged) = judged {
        let a = judged.kept().accuracy;
        out.push(headline("Held-out accuracy", percent(a.accuracy), interval(a.ci95)));
        difference = judged.difference;
    } else if let Some(splits) = sources.evidence.splits {
        let a = Accuracy::from(splits.none);
        let n = splits.by_split.len();
        let detail = format!("without augmentation, {n} splits, {}", interval(a.ci95));
        out.push(headline("Held-out accuracy", percent(a.accuracy), detail));
        difference = splits.difference;
    }
    if let Some(d) = difference {
        let [low, high] = d.ci95.map(points);
        let label = format!("Synthesis {}x, in points", made.settings.augment.factor());
        let detail = format!("95% interval {low} to {high}");
        out.push(headline(&label, points(d.value), detail));
    }
    if let Some(longer) = judged.and_then(|j| j.longer_wins) {
        out.push(headline("Longer answer wins", percent(longer), "held-out pairs".into()));
    }
    let used = thousands(sources.data.used as u64);
    let detail = format!("of {} rows", thousands(sources.data.read as u64));
    out.push(headline("Training pairs", used, detail));
    out
}

/// The result, as figures.
fn result(made: &Made<'_>, sources: &Sources<'_>, judged: Option<&Judged<'_>>) -> Section {
    let mut blocks = Vec::new();
    let outcome = made.outcome;
    let folds = |report: &lens_core::head::train::HeadReport| {
        let share = report.fold_accuracy.map_or("not held out".to_owned(), percent);
        let loss = report.fold_log_loss.map_or(String::new(), |l| format!("{l:.4}"));
        [Cell::text(share), Cell::text(loss)]
    };
    let augmented = outcome.augmented.as_ref();
    let mut heads = vec![("without augmentation".to_owned(), &outcome.none.report, Kept::None)];
    heads.extend(augmented.map(|a| (made.with(), &a.fitted.report, Kept::Augmented)));
    let mut columns = vec![Column::text("head")];
    if judged.is_some() {
        columns.push(Column::number("held-out accuracy, 95% interval"));
        columns.push(Column::number("held-out log-loss"));
    }
    columns.push(Column::number("accuracy on own folds"));
    columns.push(Column::number("log-loss on own folds"));
    let accuracy = |a: Accuracy| Cell::Interval {
        value: a.accuracy,
        low: a.ci95[0],
        high: a.ci95[1],
        format: Format::Percent,
    };
    let mut rows = Vec::new();
    if let Some(earlier) = judged.and_then(|j| j.earlier.as_ref()) {
        let log_loss = Cell::text(format!("{:.4}", earlier.log_loss));
        let cells = vec![Cell::text("earlier model"), accuracy(earlier.accuracy), log_loss];
        rows.push(TableRow::plain(cells));
    }
    for (name, report, kept) in heads {
        let saved = kept == made.kept;
        let name = if saved { format!("{name} (saved)") } else { name };
        let mut cells = vec![Cell::text(name)];
        if let Some(scores) = judged.and_then(|j| j.of_head(kept)) {
            cells.push(accuracy(scores.accuracy));
            cells.push(Cell::text(format!("{:.4}", scores.log_loss)));
        }
        cells.extend(folds(report));
        rows.push(TableRow { cells, highlight: saved });
    }
    if let Some(longer) = judged.and_then(|j| j.longer_wins) {
        let point = Accuracy { accuracy: longer, ci95: [longer; 2] };
        rows.push(TableRow::plain(vec![Cell::text("longer answer wins"), accuracy(point)]));
    }
    let caption = match judged {
        Some(judged) => format!(
            "Two heads, trained alike, on the same {} held-out pairs. Intervals are bootstrapped over \
             prompts; ties count one half.",
            thousands(judged.margins.len() as u64)
        ),
        None => {
            "Two heads, trained alike, on the folds that each member was not trained on.".to_owned()
        }
    };
    blocks.push(Block::Table(Table { caption, columns, rows }));
    blocks.extend(sources.evidence.splits.map(|s| Block::Table(splits_table(s, made))));
    // The accuracies among them are in the tables.
    let about = ["training pairs", "held-out pairs", "labels", "warm start", "splits", "accuracy"];
    let lines = sources.lines.iter().filter(|(label, _)| about.contains(&label.as_str()));
    blocks.push(Block::KeyValues(lines.cloned().collect()));
    Section { id: "result".into(), heading: "Result".into(), blocks }
}

fn splits_table(splits: &SplitsReport, made: &Made<'_>) -> Table {
    let cell = |e: &Estimate, format: Format| Cell::Interval {
        value: e.value,
        low: e.ci95[0],
        high: e.ci95[1],
        format,
    };
    let mut columns = vec![Column::text("split"), Column::number("without augmentation")];
    let mut all = vec![Cell::text("all"), cell(&splits.none, Format::Percent)];
    if let Some(augmented) = &splits.augmented {
        columns.push(Column::number(made.with()));
        all.push(cell(augmented, Format::Percent));
    }
    if let Some(difference) = &splits.difference {
        columns.push(Column::number("difference, points"));
        all.push(cell(difference, Format::Points));
    }
    let mut rows = vec![TableRow { cells: all, highlight: true }];
    for (i, (none, augmented)) in splits.by_split.iter().enumerate() {
        let mut cells = vec![Cell::text((i + 1).to_string()), Cell::text(percent(*none))];
        if let Some(augmented) = augmented {
            cells.push(Cell::text(percent(*augmented)));
            cells.push(Cell::text(Format::Points.show(augmented - none, 3)));
        }
        rows.push(TableRow::plain(cells));
    }
    let caption = "Held-out accuracy of every split, and of all with 95% intervals".to_owned();
    Table { caption, columns, rows }
}

/// Rows that were not used, and why.
fn left_out(vetted: &[(&'static str, &VetReport)]) -> Option<Section> {
    if vetted.is_empty() {
        return None;
    }
    let mut columns = vec![Column::text("file")];
    for name in ["read", "used", "left out"] {
        columns.push(Column::number(name));
    }
    let row = |(name, report): &(&str, &VetReport)| {
        let counts = [report.read, report.used, report.left_out_total()];
        let counts = counts.map(|n| Cell::text(thousands(n as u64)));
        TableRow::plain(std::iter::once(Cell::text(*name)).chain(counts).collect())
    };
    let caption = "Every row that was read is either used or left out".to_owned();
    let rows = vetted.iter().map(row).collect();
    let mut blocks = vec![Block::Table(Table { caption, columns, rows })];
    for (name, report) in vetted {
        for (reason, rows) in &report.left_out {
            let listed = rows.iter().take(MOST_LISTED).map(|row| {
                let (detail, more) = shortened(&row.detail, 400);
                let detail = if more > 0 { format!("{detail}\u{2026}") } else { detail.to_owned() };
                TableRow::plain(vec![Cell::text(row.line.to_string()), Cell::text(detail)])
            });
            let more = rows.len().saturating_sub(MOST_LISTED);
            let caption = match more {
                0 => format!("{name} rows: {reason}"),
                _ => format!("{name} rows: {reason}; {more} more are listed in report.md"),
            };
            let table = Table {
                caption,
                columns: vec![Column::number("line"), Column::text("what is the matter")],
                rows: listed.collect(),
            };
            blocks.push(Block::Folded {
                summary: format!("{} {name} rows: {reason}", rows.len()),
                blocks: vec![Block::Table(table)],
            });
        }
    }
    Some(Section { id: "data".into(), heading: "Data".into(), blocks })
}

/// What it takes to do the same again.
fn again(made: &Made<'_>, sources: &Sources<'_>) -> Result<Section, CliError> {
    let data = &sources.data;
    let mut known = vec![
        ("training data".to_owned(), data.file.clone()),
        ("its fingerprint".to_owned(), data.fingerprint.clone()),
    ];
    if let Some(encoder) = &sources.encoder {
        for (name, value) in encoder.identity.listed() {
            known.push((format!("encoder: {}", name.replace('_', " ")), value));
        }
    }
    let blocks = vec![
        Block::Code {
            caption: "In a terminal, with the settings below as lens.toml".into(),
            text: sources.evidence.command.clone(),
        },
        Block::KeyValues(known),
        Block::Code { caption: "lens.toml".into(), text: reproducible(made.settings)? },
    ];
    Ok(Section { id: "again".into(), heading: "The same again".into(), blocks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_hold_no_folders_and_are_safe_to_copy() {
        let settings = Settings { eval: Some("/a/b/held out.jsonl".into()), ..Settings::default() };
        let command = run_command(Path::new("/home/me/it's.jsonl"), &settings);
        assert_eq!(
            command,
            "lens run 'it'\\''s.jsonl' --eval 'held out.jsonl' --config lens.toml -o reward-model"
        );
        let arrays = [PathBuf::from("x/a.npy"), PathBuf::from("x/b.npy")];
        let command = train_command(&arrays, &Settings::default());
        assert_eq!(command, "lens train a.npy b.npy --config lens.toml -o reward-model");
    }
}
