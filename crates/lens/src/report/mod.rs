//! The report of a training as one document, with a rendering in HTML and one in Markdown: what came
//! out of it, in words, tables and charts.
//!
//! Nothing in it depends on the clock, on where files lie or on the number of threads, so that a
//! bundle is the same to the byte for the same embeddings.

mod curves;
mod evaluation;
mod heldout;
mod map;

pub(crate) use evaluation::page as evaluation_page;

use crate::error::stop_if_cancelled;
use crate::save::Finished;
use crate::{Error, Progress};
use heldout::Judged;
use lens_core::Outcome;
use lens_core::head::HeadReport;
use lens_core::metrics::Estimate;
use lens_core::splits::SplitsReport;
use lens_data::bundle::Kept;
use lens_data::{LeftOut, VetReport};
use lens_eval::figures::heldout::PairAccuracy;
use lens_eval::tuning::Tuned;
use lens_report::text::{percent, thousands};
use lens_report::{
    Block, Cell, Column, Format, Headline, Rendering, Report, Section, Table, TableRow, shortened,
};
use std::path::Path;

/// Rows that were left out are listed on the page up to this many a reason: Markdown has all.
const MOST_LISTED: usize = 100;
/// Characters of what is wrong with a row, on the page: Markdown has all.
const LONGEST_ON_PAGE: usize = 400;

/// A finished training, as the report's sections see it.
struct Training<'a> {
    /// Both heads.
    outcome: &'a Outcome,
    /// The head in the bundle.
    kept: Kept,
    /// Why this one.
    decision: &'a str,
    /// All else.
    finished: &'a Finished<'a>,
}

impl Training<'_> {
    fn factor(&self) -> usize {
        self.finished.method.settings.augment
    }

    fn with(&self) -> String {
        format!("with {}x augmentation", self.factor())
    }
}

/// The report of a training.
pub(crate) fn training(
    outcome: &Outcome,
    kept: Kept,
    decision: &str,
    finished: &Finished<'_>,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let training = &Training { outcome, kept, decision, finished };
    let judged = finished.heldout.as_ref().and_then(|pairs| Judged::new(pairs, kept));
    let judged = judged.as_ref();
    stop_if_cancelled(progress)?;
    let mut sections = vec![result(training, judged)];
    sections.extend(judged.map(heldout::section));
    sections.extend(finished.tuned.map(Tuned::section));
    sections.push(curves::section(training));
    sections.push(map::section(training, progress)?);
    sections.extend(judged.map(heldout::worst));
    sections.extend(left_out(&finished.left_out));
    sections.push(again(finished));
    Ok(Report {
        title: format!("Reward model from {}", finished.data.file),
        subtitle: subtitle(finished),
        summary: summary(training, judged),
        headlines: headlines(training, judged),
        sections,
    })
}

fn subtitle(finished: &Finished<'_>) -> String {
    let model = match &finished.encoder {
        Some(record) => {
            format!("embeddings of {}, ", lens_data::file_name(Path::new(&record.model)))
        }
        None => String::new(),
    };
    let dim = finished.pairs.dim();
    format!(
        "Trained on {} pairs; {model}width {dim}; LENS {}",
        thousands(finished.data.used as u64),
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
fn summary(training: &Training<'_>, judged: Option<&Judged<'_>>) -> Vec<String> {
    let mut said = Vec::new();
    let (factor, finished) = (training.factor(), training.finished);
    match (judged, finished.splits) {
        (Some(judged), _) => {
            let PairAccuracy { accuracy, ci95: [low, high] } = judged.saved.accuracy;
            let pairs = judged.margins.len();
            said.push(format!(
                "The saved reward model prefers the better answer in {} of {} held-out pairs; with \
                 95% confidence, in {} to {} of pairs like these.",
                percent(accuracy),
                thousands(pairs as u64),
                percent(low),
                percent(high)
            ));
            if let Some(longer) = judged.figures.longer_wins {
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
            if let Some(difference) = &judged.figures.difference {
                said.push(format!(
                    "Synthesis ({factor}x) moves held-out accuracy by {}: {}.",
                    moved(difference),
                    verdict(difference)
                ));
            }
            said.push(judged.sureness());
        }
        (None, Some(splits)) => {
            let none = PairAccuracy::from(splits.none);
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
    said.push(format!("The saved head is the one {}.", training.decision));
    let data = &finished.data;
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

fn headlines(training: &Training<'_>, judged: Option<&Judged<'_>>) -> Vec<Headline> {
    let finished = training.finished;
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
        let a = judged.saved.accuracy;
        out.push(headline("Held-out accuracy", percent(a.accuracy), interval(a.ci95)));
        difference = judged.figures.difference;
    } else if let Some(splits) = finished.splits {
        let a = PairAccuracy::from(splits.none);
        let n = splits.by_split.len();
        let detail = format!("without augmentation, {n} splits, {}", interval(a.ci95));
        out.push(headline("Held-out accuracy", percent(a.accuracy), detail));
        difference = splits.difference;
    }
    if let Some(d) = difference {
        let [low, high] = d.ci95.map(points);
        let label = format!("Synthesis {}x, in points", training.factor());
        let detail = format!("95% interval {low} to {high}");
        out.push(headline(&label, points(d.value), detail));
    }
    if let Some(longer) = judged.and_then(|j| j.figures.longer_wins) {
        out.push(headline("Longer answer wins", percent(longer), "held-out pairs".into()));
    }
    let used = thousands(finished.data.used as u64);
    let detail = format!("of {} rows", thousands(finished.data.read as u64));
    out.push(headline("Training pairs", used, detail));
    out
}

/// The result, as figures.
fn result(training: &Training<'_>, judged: Option<&Judged<'_>>) -> Section {
    let finished = training.finished;
    let mut blocks = Vec::new();
    let outcome = training.outcome;
    let folds = |report: &HeadReport| {
        let share = report.fold_accuracy.map_or("not held out".to_owned(), percent);
        let loss = report.fold_log_loss.map_or(String::new(), |l| format!("{l:.4}"));
        [Cell::text(share), Cell::text(loss)]
    };
    let augmented = outcome.augmented.as_ref();
    let mut heads = vec![("without augmentation".to_owned(), &outcome.none.report, Kept::None)];
    heads.extend(augmented.map(|a| (training.with(), &a.fitted.report, Kept::Augmented)));
    let mut columns = vec![Column::text("head")];
    if judged.is_some() {
        columns.push(Column::number("held-out accuracy, 95% interval"));
        columns.push(Column::number("held-out log-loss"));
    }
    columns.push(Column::number("accuracy on own folds"));
    columns.push(Column::number("log-loss on own folds"));
    let accuracy = |a: PairAccuracy| Cell::Interval {
        value: a.accuracy,
        low: a.ci95[0],
        high: a.ci95[1],
        format: Format::Percent,
    };
    let mut rows = Vec::new();
    if let Some(earlier) = judged.and_then(|j| j.figures.earlier.as_ref()) {
        let log_loss = Cell::text(format!("{:.4}", earlier.log_loss));
        let cells = vec![Cell::text("earlier model"), accuracy(earlier.accuracy), log_loss];
        rows.push(TableRow::plain(cells));
    }
    for (name, report, kept) in heads {
        let saved = kept == training.kept;
        let name = if saved { format!("{name} (saved)") } else { name };
        let mut cells = vec![Cell::text(name)];
        if let Some(scores) = judged.and_then(|j| j.figures.head(kept)) {
            cells.push(accuracy(scores.accuracy));
            cells.push(Cell::text(format!("{:.4}", scores.log_loss)));
        }
        cells.extend(folds(report));
        rows.push(TableRow { cells, highlight: saved });
    }
    if let Some(longer) = judged.and_then(|j| j.figures.longer_wins) {
        let point = PairAccuracy { accuracy: longer, ci95: [longer; 2] };
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
    blocks.extend(finished.splits.map(|s| Block::Table(splits_table(s, training))));
    // The accuracies among them are in the tables.
    let about = ["training pairs", "held-out pairs", "labels", "warm start", "splits", "accuracy"];
    let lines = finished.table.iter().filter(|(label, _)| about.contains(&label.as_str()));
    blocks.push(Block::KeyValues(lines.cloned().collect()));
    Section { id: "result".into(), heading: "Result".into(), blocks }
}

fn splits_table(splits: &SplitsReport, training: &Training<'_>) -> Table {
    let cell = |e: &Estimate, format: Format| Cell::Interval {
        value: e.value,
        low: e.ci95[0],
        high: e.ci95[1],
        format,
    };
    let mut columns = vec![Column::text("split"), Column::number("without augmentation")];
    let mut all = vec![Cell::text("all"), cell(&splits.none, Format::Percent)];
    if let Some(augmented) = &splits.augmented {
        columns.push(Column::number(training.with()));
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
            let more = rows.len().saturating_sub(MOST_LISTED);
            let caption = match more {
                0 => format!("{name} rows: {reason}"),
                _ => format!("{name} rows: {reason}; {more} more are listed in report.md"),
            };
            let first = &rows[..rows.len() - more];
            let page = listed(caption, first, LONGEST_ON_PAGE);
            let all = match report.count(*reason) - rows.len() {
                0 => format!("{name} rows: {reason}"),
                more => format!("{name} rows: {reason}; {more} more are not described"),
            };
            let all = listed(all, rows, usize::MAX);
            blocks.push(Block::Folded {
                summary: format!("{} {name} rows: {reason}", report.count(*reason)),
                blocks: vec![
                    Block::Only(Rendering::Html, vec![Block::Table(page)]),
                    Block::Only(Rendering::Markdown, vec![Block::Table(all)]),
                ],
            });
        }
    }
    Some(Section { id: "data".into(), heading: "Data".into(), blocks })
}

/// A table of rows that were left out, each with at most `longest` characters of what is wrong with it.
fn listed(caption: String, rows: &[LeftOut], longest: usize) -> Table {
    let row = |row: &LeftOut| {
        let (detail, more) = shortened(&row.detail, longest);
        let detail = if more > 0 { format!("{detail}\u{2026}") } else { detail.to_owned() };
        TableRow::plain(vec![Cell::text(row.line_in_words()), Cell::text(detail)])
    };
    let columns = vec![Column::number("line"), Column::text("what is wrong with it")];
    Table { caption, columns, rows: rows.iter().map(row).collect() }
}

/// All that is needed to train the same model again.
fn again(finished: &Finished<'_>) -> Section {
    let data = &finished.data;
    let mut known = vec![
        ("training data".to_owned(), data.file.clone()),
        ("its fingerprint".to_owned(), data.fingerprint.clone()),
    ];
    if let Some(encoder) = &finished.encoder {
        let fields = encoder.identity.listed();
        known.extend(fields.into_iter().map(|(name, value)| (format!("encoder: {name}"), value)));
    }
    let blocks = vec![
        Block::Code {
            caption: "In a terminal, with the settings below as lens.toml".into(),
            language: "sh".into(),
            text: finished.command.clone(),
        },
        Block::KeyValues(known),
        Block::Code {
            caption: "lens.toml".into(),
            language: "toml".into(),
            text: finished.settings.clone(),
        },
    ];
    Section { id: "again".into(), heading: "The same again".into(), blocks }
}
