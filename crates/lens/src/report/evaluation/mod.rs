//! What `lens eval` finds, as a page: every file with its figures, charts and worst examples.
//!
//! Nothing in it depends on the clock or on where files lie.

mod benchmarks;
mod best_of_n;
mod pairs;

use super::heldout::sureness;
use crate::evaluate::EvaluatedFile;
use crate::options::quoted;
use benchmarks::{rewardbench, rewardbench2, rm_bench};
use best_of_n::best_of_n;
use lens_core::metrics::Estimate;
use lens_data::bundle::Bundle;
use lens_data::file_name;
use lens_eval::figures::Measured;
use lens_report::text::thousands;
use lens_report::{
    Block, Cell, Chart, ChartKind, Column, Format, Headline, Histogram, Report, Section, Table,
    TableRow, shortened,
};
use pairs::{calibrated, controls, length, worst_examples};
use std::path::Path;

/// Rows that were left out are listed up to this many a reason.
const MOST_LISTED: usize = 100;

/// A share as the page's tables have it.
fn percent(share: f64) -> String {
    Format::Percent.show(share, 3)
}

/// Draws the page.
pub(crate) fn page(bundle: &Path, model: &Bundle, results: &[EvaluatedFile], seed: u64) -> String {
    let name = file_name(bundle);
    let several = results.len() > 1;
    let mut sections = Vec::new();
    if several {
        sections.push(overview(results));
    }
    for (i, result) in results.iter().enumerate() {
        let of = Of { result, number: i + 1, several };
        sections.extend(of.sections());
    }
    sections.push(again(&name, model, results, seed));
    let files: Vec<String> = results.iter().map(|r| file_name(&r.path)).collect();
    let on = match &*files {
        [one] => one.clone(),
        many => format!("{} files", many.len()),
    };
    Report {
        title: format!("{name} on {on}"),
        subtitle: format!(
            "A reward model trained on {} pairs of {}; LENS {}",
            thousands(model.manifest.data.used as u64),
            model.manifest.data.file,
            env!("CARGO_PKG_VERSION")
        ),
        summary: results.iter().flat_map(|r| in_words(r, several)).collect(),
        headlines: results.iter().filter_map(|r| headline(r, several)).collect(),
        sections,
    }
    .to_html()
}

/// The figure that stands for a file: what it is, its value, its interval, what it is of.
struct Main {
    label: &'static str,
    value: f64,
    interval: Option<[f64; 2]>,
    detail: String,
}

fn main_figure(result: &EvaluatedFile) -> Option<Main> {
    let of = &result.evaluation;
    let bare = |label, value, detail: &str| {
        Some(Main { label, value, interval: None, detail: detail.to_owned() })
    };
    if let Some(score) = of.rewardbench.get().and_then(|found| found.score) {
        return bare("RewardBench Score", score, "mean of the four sections");
    }
    if let Some(found) = of.rewardbench2.get() {
        return match (found.score, found.rows) {
            (Some(score), _) => bare("RewardBench 2 Score", score, "mean of the six subsets"),
            (None, Some(rows)) => Some(Main {
                label: "Row score outside Ties",
                value: rows.value,
                interval: Some(rows.ci95),
                detail: "no Score: not all of RewardBench 2".to_owned(),
            }),
            (None, None) => bare("Ties", found.ties?.score, "no Score: not all of RewardBench 2"),
        };
    }
    if let Some(found) = of.rm_bench.get() {
        if let Some(score) = found.score {
            return bare("RM-Bench Score", score, "mean of the four domains");
        }
        let (name, domain) = found.domains.iter().next()?;
        return Some(Main {
            label: "RM-Bench, one domain",
            value: domain.mean.value,
            interval: Some(domain.mean.ci95),
            detail: format!("{name}; no Score: not all domains"),
        });
    }
    if let Some(found) = of.best_of_n.get() {
        let gain = found.curve.last()?.gain?;
        return Some(Main {
            label: "Gain of best-of-n",
            value: gain.value,
            interval: Some(gain.ci95),
            detail: format!("best of {}; 0% is chance, 100% the judge", found.n),
        });
    }
    let accuracy = of.accuracy.get()?;
    Some(Main {
        label: "Accuracy",
        value: accuracy.half.value,
        interval: Some(accuracy.half.ci95),
        detail: format!("{} pairs", thousands(accuracy.pairs as u64)),
    })
}

fn headline(result: &EvaluatedFile, several: bool) -> Option<Headline> {
    let main = main_figure(result)?;
    let interval = main
        .interval
        .map(|[low, high]| format!("95% interval {} to {}; ", percent(low), percent(high)));
    let file = if several { format!("{}: ", file_name(&result.path)) } else { String::new() };
    Some(Headline {
        label: format!("{file}{}", main.label),
        value: percent(main.value),
        detail: format!("{}{}", interval.unwrap_or_default(), main.detail),
    })
}

/// What came out, in plain words.
fn in_words(result: &EvaluatedFile, several: bool) -> Vec<String> {
    let of = &result.evaluation;
    let on = if several { format!("{}: ", file_name(&result.path)) } else { String::new() };
    let mut said = Vec::new();
    if result.trained_on {
        said.push(format!(
            "{on}these are the very pairs that the model was trained on; what follows of them says \
             nothing of other pairs."
        ));
    }
    if let Some(a) = of.accuracy.get() {
        let [low, high] = a.half.ci95;
        said.push(format!(
            "{on}the reward model prefers the better answer in {} of {} pairs; with 95% confidence, \
             in {} to {} of pairs like these.",
            percent(a.half.value),
            thousands(a.pairs as u64),
            percent(low),
            percent(high)
        ));
        if let Some(l) = of.length.get() {
            let against = if low > l.longer_wins {
                "clearly worse than the model"
            } else if high < l.longer_wins {
                "clearly better than the model"
            } else {
                "not clearly different from the model"
            };
            said.push(format!(
                "{on}always taking the longer answer would be right in {}, {against}.",
                percent(l.longer_wins)
            ));
        }
        if let Some(found) = of.controls.get() {
            said.extend(found.findings().into_iter().map(|finding| format!("{on}{finding}.")));
        }
        said.push(format!("{on}on these pairs {}", sureness(&result.margins(), a.half.value)));
    }
    let score = |name: &str, score: Option<f64>, why: &Option<String>| match score {
        Some(score) => format!("{on}its {name} Score is {}.", percent(score)),
        None => {
            let why = why.as_deref().unwrap_or("the file is not complete");
            format!("{on}there is no {name} Score: {why}.")
        }
    };
    said.extend(of.rewardbench.get().map(|b| score("RewardBench", b.score, &b.no_score)));
    said.extend(of.rewardbench2.get().map(|b| score("RewardBench 2", b.score, &b.no_score)));
    said.extend(of.rm_bench.get().map(|b| score("RM-Bench", b.score, &b.no_score)));
    if let Some((found, last)) = of.best_of_n.get().and_then(|b| Some((b, b.curve.last()?))) {
        let number = |value: f64| Format::Number.show(value, 3);
        let gain = last.gain.map_or(String::new(), |g| {
            let [low, high] = g.ci95.map(percent);
            format!(": {} of what can be gained (95% interval {low} to {high})", percent(g.value))
        });
        said.push(format!(
            "{on}of {} responses to a prompt the model's pick has a judge's score of {} on average, \
             against {} by chance and {} of the judge's own pick{gain}.",
            found.n,
            number(last.gold),
            number(found.random.value),
            number(last.oracle)
        ));
    }
    let first_letter_up = |text: String| {
        let mut letters = text.chars();
        letters.next().map_or(String::new(), |c| c.to_uppercase().chain(letters).collect())
    };
    if several { said } else { said.into_iter().map(first_letter_up).collect() }
}

fn estimate(e: &Estimate) -> Cell {
    Cell::Interval { value: e.value, low: e.ci95[0], high: e.ci95[1], format: Format::Percent }
}

fn share(value: f64) -> Cell {
    Cell::text(percent(value))
}

fn count(n: usize) -> Cell {
    Cell::text(thousands(n as u64))
}

fn table(caption: &str, columns: Vec<Column>, rows: Vec<TableRow>) -> Block {
    Block::Table(Table { caption: caption.to_owned(), columns, rows })
}

fn columns(first: &str, rest: &[&str]) -> Vec<Column> {
    std::iter::once(Column::text(first)).chain(rest.iter().map(|n| Column::number(*n))).collect()
}

fn row(name: &str, cells: Vec<Cell>) -> TableRow {
    TableRow::plain(std::iter::once(Cell::text(name)).chain(cells).collect())
}

/// All files, a line each.
fn overview(results: &[EvaluatedFile]) -> Section {
    let rows = results.iter().map(|r| {
        let mut cells = vec![
            Cell::text(file_name(&r.path)),
            Cell::text(r.evaluation.taken_for.to_string()),
            count(r.rows.used),
        ];
        match main_figure(r) {
            None => cells.extend(["", ""].map(Cell::text)),
            Some(Main { label, value, interval, .. }) => {
                cells.push(Cell::text(label));
                let ci95 = interval.unwrap_or([value; 2]);
                cells.push(estimate(&Estimate { value, ci95 }));
            }
        }
        TableRow::plain(cells)
    });
    let columns = vec![
        Column::text("file"),
        Column::text("taken for"),
        Column::number("rows used"),
        Column::text("figure"),
        Column::number("value, 95% interval"),
    ];
    Section {
        id: "overview".into(),
        heading: "All files".into(),
        blocks: vec![table("The figure that stands for each file", columns, rows.collect())],
    }
}

/// One file of the page.
struct Of<'a> {
    result: &'a EvaluatedFile,
    number: usize,
    several: bool,
}

impl Of<'_> {
    fn section(&self, id: &str, heading: &str, blocks: Vec<Block>) -> Section {
        let (id, heading) = match self.several {
            true => (
                format!("file-{}-{id}", self.number),
                format!("{}: {heading}", file_name(&self.result.path)),
            ),
            false => (id.to_owned(), heading.to_owned()),
        };
        Section { id, heading, blocks }
    }

    fn sections(&self) -> Vec<Section> {
        let of = &self.result.evaluation;
        let mut out = Vec::new();
        let mut add = |id, heading, blocks| out.push(self.section(id, heading, blocks));
        if let Some(found) = of.rewardbench.get() {
            add("rewardbench", "RewardBench", rewardbench(found));
        }
        if let Some(found) = of.rewardbench2.get() {
            add("rewardbench2", "RewardBench 2", rewardbench2(found));
        }
        if let Some(found) = of.rm_bench.get() {
            add("rm-bench", "RM-Bench", rm_bench(found));
        }
        if let Some(found) = of.best_of_n.get() {
            add("best-of-n", "Best-of-n", best_of_n(found));
        }
        if of.accuracy.get().is_some() {
            add("accuracy", "Accuracy", self.accuracy());
        }
        let rewards = self.rewards();
        if !rewards.is_empty() {
            add("rewards", "Rewards", rewards);
        }
        if let Some(found) = of.calibration.get() {
            add("calibration", "Calibration", calibrated(found));
        }
        if let Some(found) = of.length.get() {
            add("length", "Length", length(found));
        }
        if let Some(found) = of.controls.get() {
            add("controls", "Controls", controls(found));
        }
        if let Some(found) = of.worst.get() {
            add("worst", "Ranked worst", worst_examples(found, of.taken_for));
        }
        add("rows", "Rows, and what is not there", self.rows());
        out
    }

    fn accuracy(&self) -> Vec<Block> {
        let of = &self.result.evaluation;
        let Some(all) = of.accuracy.get() else { return Vec::new() };
        let ties = all.tied > 0;
        let mut names = vec!["pairs", "accuracy, 95% interval"];
        if ties {
            names.extend(["of these tied", "with ties as wrong"]);
        }
        let one = |name: &str, a: &lens_eval::figures::accuracy::Accuracy| {
            let mut cells = vec![count(a.pairs), estimate(&a.half)];
            if ties {
                cells.extend([count(a.tied), estimate(&a.wrong)]);
            }
            row(name, cells)
        };
        let mut rows = vec![TableRow { highlight: true, ..one("all", all) }];
        rows.extend(of.subsets.get().into_iter().flatten().map(|(name, a)| one(name, a)));
        if let Some(l) = of.length.get() {
            let point = Estimate { value: l.longer_wins, ci95: [l.longer_wins; 2] };
            rows.push(row("longer answer wins", vec![Cell::text(""), estimate(&point)]));
        }
        let caption = "Share of pairs in the right order, ties as half; intervals over prompts";
        vec![table(caption, columns("subset", &names), rows)]
    }

    fn rewards(&self) -> Vec<Block> {
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let rewards = &self.result.rewards;
        let (chosen, rejected) = (wide(&rewards.chosen), wide(&rewards.rejected));
        if chosen.is_empty() {
            return Vec::new();
        }
        let mut charts = vec![Block::Chart(Chart {
            title: "Rewards of better and worse responses".into(),
            note:
                "The further apart the two, the better the model tells them apart across prompts."
                    .into(),
            kind: ChartKind::Histogram(Histogram {
                x: "reward".into(),
                groups: vec![("better".into(), chosen), ("worse".into(), rejected)],
                mark: None,
            }),
        })];
        let margins = self.result.margins();
        if !margins.is_empty() {
            charts.push(Block::Chart(Chart {
                title: "Margins of pairs".into(),
                note:
                    "Reward of the better less that of the worse response: what lies left of 0 is \
                       ranked against the label."
                        .into(),
                kind: ChartKind::Histogram(Histogram {
                    x: "margin".into(),
                    groups: vec![("pairs".into(), margins)],
                    mark: Some((0.0, "ranked right \u{2192}".into())),
                }),
            }));
        }
        charts
    }

    /// What became of the rows, and why parts are absent.
    fn rows(&self) -> Vec<Block> {
        let EvaluatedFile { rows, evaluation: of, .. } = self.result;
        let mut known = vec![
            ("taken for".to_owned(), of.taken_for.to_string()),
            ("rows read".to_owned(), thousands(rows.read as u64)),
            ("used".to_owned(), thousands(rows.used as u64)),
            ("left out".to_owned(), thousands(rows.left_out_total() as u64)),
        ];
        let mut absent = |name: &str, why: Option<&str>| {
            known.extend(why.map(|why| (format!("no {name}"), why.to_owned())));
        };
        absent("accuracy", why(&of.accuracy));
        absent("subsets", why(&of.subsets));
        absent("RewardBench", why(&of.rewardbench));
        absent("RewardBench 2", why(&of.rewardbench2));
        absent("RM-Bench", why(&of.rm_bench));
        absent("best-of-n", why(&of.best_of_n));
        absent("calibration", why(&of.calibration));
        absent("length", why(&of.length));
        absent("controls", why(&of.controls));
        absent("worst examples", why(&of.worst));
        let mut blocks = vec![Block::KeyValues(known)];
        for (reason, left_out) in &rows.left_out {
            let listed = left_out.iter().take(MOST_LISTED).map(|row| {
                let (detail, more) = shortened(&row.detail, 400);
                let detail = if more > 0 { format!("{detail}\u{2026}") } else { detail.to_owned() };
                TableRow::plain(vec![Cell::text(row.line_in_words()), Cell::text(detail)])
            });
            let count = rows.count(*reason);
            let more = match count.saturating_sub(MOST_LISTED) {
                0 => String::new(),
                more => format!("; {more} more are in the output of --json"),
            };
            let columns = vec![Column::number("line"), Column::text("what is the matter")];
            let caption = format!("Rows left out: {reason}{more}");
            blocks.push(Block::Folded {
                summary: format!("{count} rows: {reason}"),
                blocks: vec![table(&caption, columns, listed.collect())],
            });
        }
        blocks
    }
}

/// Why a part is not there.
fn why<T>(part: &Measured<T>) -> Option<&str> {
    match part {
        Measured::Absent { absent } => Some(absent),
        Measured::Present(_) => None,
    }
}

/// What it takes to do the same again.
fn again(name: &str, model: &Bundle, results: &[EvaluatedFile], seed: u64) -> Section {
    let files: Vec<String> = results.iter().map(|r| quoted(&file_name(&r.path))).collect();
    let manifest = &model.manifest;
    let mut known = vec![
        ("reward model".to_owned(), name.to_owned()),
        ("fingerprint of its training data".to_owned(), manifest.data.fingerprint.clone()),
        ("written by".to_owned(), format!("LENS {}", manifest.lens_version)),
        ("seed of intervals".to_owned(), seed.to_string()),
    ];
    if let Some(encoder) = &manifest.encoder {
        let fields = encoder.identity.listed();
        known.extend(fields.into_iter().map(|(name, value)| (format!("encoder: {name}"), value)));
    }
    let controls = results.iter().any(|r| r.evaluation.controls.get().is_some());
    let text = format!(
        "lens eval {} {}{} --report report.html",
        quoted(name),
        files.join(" "),
        if controls { " --controls" } else { "" }
    );
    Section {
        id: "again".into(),
        heading: "The same again".into(),
        blocks: vec![
            Block::Code { caption: "In a terminal".into(), language: "sh".into(), text },
            Block::KeyValues(known),
        ],
    }
}

#[cfg(test)]
mod tests;
