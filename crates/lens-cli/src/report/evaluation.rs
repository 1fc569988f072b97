//! What `lens eval` finds, as a page: every file with its figures, charts and worst examples.
//!
//! Nothing in it depends on the clock or on where files lie.

use super::heldout::{confidence, shown, signed, sureness, trend, wilson};
use super::quoted;
use crate::commands::eval::Evaluated;
use crate::commands::train::file_name;
use crate::output::{percent, thousands};
use lens_core::metrics::Estimate;
use lens_data::bundle::Bundle;
use lens_eval::figures::best_of_n::BestOfN;
use lens_eval::figures::calibration::{self, Calibration};
use lens_eval::figures::length::{Length, Share};
use lens_eval::figures::rewardbench::RewardBench;
use lens_eval::figures::rewardbench2::RewardBench2;
use lens_eval::figures::rm_bench::{RmBench, STYLES};
use lens_eval::figures::worst;
use lens_eval::figures::{Benchmark, Part};
use lens_eval::report::{
    Axis, Block, Calibration as Curves, CalibrationBin, Cell, Chart, ChartKind, Column, Example,
    Format, Headline, Histogram, LinePoint, Lines, PointClass, Report, Scale, Scatter, Section,
    Series, Shape, Table, TableRow, Trend, shortened,
};
use std::path::Path;

/// Rows that were left out are listed up to this many a reason.
const MOST_LISTED: usize = 100;

/// Draws the page.
pub fn page(bundle: &Path, model: &Bundle, results: &[Evaluated], seed: u64) -> String {
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

fn main_figure(result: &Evaluated) -> Option<Main> {
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

fn headline(result: &Evaluated, several: bool) -> Option<Headline> {
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
fn in_words(result: &Evaluated, several: bool) -> Vec<String> {
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
fn overview(results: &[Evaluated]) -> Section {
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
    result: &'a Evaluated,
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
        let Evaluated { rows, evaluation: of, .. } = self.result;
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
        absent("worst examples", why(&of.worst));
        let mut blocks = vec![Block::KeyValues(known)];
        for (reason, left_out) in &rows.left_out {
            let listed = left_out.iter().take(MOST_LISTED).map(|row| {
                let (detail, more) = shortened(&row.detail, 400);
                let detail = if more > 0 { format!("{detail}\u{2026}") } else { detail.to_owned() };
                TableRow::plain(vec![Cell::text(row.line.to_string()), Cell::text(detail)])
            });
            let more = match left_out.len().saturating_sub(MOST_LISTED) {
                0 => String::new(),
                more => format!("; {more} more are in the output of --json"),
            };
            let columns = vec![Column::number("line"), Column::text("what is the matter")];
            let caption = format!("Rows left out: {reason}{more}");
            blocks.push(Block::Folded {
                summary: format!("{} rows: {reason}", left_out.len()),
                blocks: vec![table(&caption, columns, listed.collect())],
            });
        }
        blocks
    }
}

/// Why a part is not there.
fn why<T>(part: &Part<T>) -> Option<&str> {
    match part {
        Part::Absent { absent } => Some(absent),
        Part::Present(_) => None,
    }
}

fn rewardbench(found: &RewardBench) -> Vec<Block> {
    let mut rows = Vec::new();
    for section in &found.sections {
        let name = match section.complete {
            true => section.name.clone(),
            false => format!("{} (partial)", section.name),
        };
        let section_row = row(&name, vec![Cell::text(""), share(section.value)]);
        rows.push(TableRow { highlight: true, ..section_row });
        for s in &section.subsets {
            let weight = Cell::text(format!("{:.0}", s.weight));
            rows.push(row(&s.name, vec![count(s.pairs), estimate(&s.accuracy), weight]));
        }
    }
    let columns = columns("section, subset", &["pairs", "accuracy, 95% interval", "weight"]);
    let mut blocks = vec![score("Score", found.score, &found.no_score)];
    blocks.push(table("Sections and their subsets; a tie is wrong", columns, rows));
    // Beside the table: in a narrow column of it a list would be taller than a phone.
    let partial = found.sections.iter().filter(|s| !s.complete);
    let partial: Vec<(String, String)> =
        partial.map(|s| (format!("{} lacks", s.name), s.missing.join(", "))).collect();
    if !partial.is_empty() {
        blocks.push(Block::KeyValues(partial));
    }
    blocks
}

fn score(name: &str, score: Option<f64>, why: &Option<String>) -> Block {
    let shown = match score {
        Some(score) => percent(score),
        None => format!("none: {}", why.as_deref().unwrap_or("not complete")),
    };
    Block::KeyValues(vec![(name.to_owned(), shown)])
}

fn rewardbench2(found: &RewardBench2) -> Vec<Block> {
    let mut rows: Vec<TableRow> = found
        .subsets
        .iter()
        .map(|(name, s)| row(name, vec![count(s.rows), estimate(&s.score)]))
        .collect();
    if let Some(all) = &found.rows {
        let n = found.subsets.values().map(|s| s.rows).sum();
        let all = row("all outside Ties", vec![count(n), estimate(all)]);
        rows.insert(0, TableRow { highlight: true, ..all });
    }
    let mut blocks = vec![score("Score", found.score, &found.no_score)];
    let names = ["rows", "row score, 95% interval"];
    if !rows.is_empty() {
        blocks.push(table("Row scores by subset", columns("subset", &names), rows));
    }
    if let Some(t) = &found.ties {
        blocks.push(Block::KeyValues(vec![
            ("Ties".into(), percent(t.score)),
            (
                "tied rows in order".into(),
                format!("{} of {}", percent(t.tied_accuracy), t.tied_rows),
            ),
            ("ref rows in order".into(), format!("{} of {}", percent(t.ref_accuracy), t.ref_rows)),
            ("gap over spread".into(), percent(t.gap_over_spread)),
            ("both gaps over spread".into(), percent(t.both_gaps_over_spread)),
            ("margin".into(), Format::Number.show(t.margin, 3)),
        ]));
    }
    blocks
}

fn rm_bench(found: &RmBench) -> Vec<Block> {
    let rows = found.domains.iter().map(|(name, d)| {
        row(
            name,
            vec![count(d.rows), share(d.hard), share(d.normal), share(d.easy), estimate(&d.mean)],
        )
    });
    let names = ["rows", "hard", "normal", "easy", "mean, 95% interval"];
    let mut blocks = vec![
        score("Score", found.score, &found.no_score),
        table(
            "By domain: hard is where the wrong answer has the more elaborate style",
            columns("domain", &names),
            rows.collect(),
        ),
    ];
    let matrices = found.domains.iter().map(|(name, d)| {
        let rows = STYLES.iter().zip(&d.matrix);
        let rows = rows.map(|(style, shares)| row(style, shares.map(share).to_vec()));
        let caption = format!("{name}: right answer (rows) above wrong answer (columns)");
        table(&caption, columns("style", &STYLES), rows.collect())
    });
    let matrices = matrices.collect();
    blocks.push(Block::Folded { summary: "style against style".into(), blocks: matrices });
    blocks
}

fn best_of_n(found: &BestOfN) -> Vec<Block> {
    let point = |y: f64, kl: f64, interval| LinePoint { x: kl.max(0.0).sqrt(), y, interval };
    let curve = || found.curve.iter();
    let mut series = vec![
        Series {
            name: "reward model".into(),
            points: curve().map(|p| point(p.gold, p.kl, p.interval)).collect(),
        },
        Series {
            name: "judge's own pick".into(),
            points: curve().map(|p| point(p.oracle, p.kl, None)).collect(),
        },
    ];
    let number = |value: f64| Format::Number.show(value, 4);
    let fitted = match (&found.fit, &found.no_fit) {
        (Some(fit), _) => {
            let points = curve().map(|p| {
                let d = p.kl.max(0.0).sqrt();
                LinePoint::at(d, found.random.value + d * (fit.a - fit.b * d))
            });
            series.push(Series { name: "fit".into(), points: points.collect() });
            let sign = if fit.b < 0.0 { '+' } else { '\u{2212}' };
            let top = fit.peak.map_or(String::new(), |d| format!("; highest at d = {d:.2}"));
            format!(
                "R \u{2212} random = d ({} {sign} {} d), d = \u{221a}KL; residual {}{top}",
                number(fit.a),
                number(fit.b.abs()),
                number(fit.residual)
            )
        }
        (None, why) => format!("none: {}", why.as_deref().unwrap_or_default()),
    };
    let chart = Chart {
        title: "Judge's score of the pick".into(),
        note:
            "The further right, the more responses are chosen from. Where the model's line falls \
               again, its reward is over-optimised. The band is the 95% interval over prompts."
                .into(),
        kind: ChartKind::Lines(Lines {
            x: Axis::linear("\u{221a}KL of best-of-n to the policy"),
            y: Axis::linear("mean score by the judge"),
            series,
            marks: Vec::new(),
            levels: vec![(found.random.value, "random choice".into())],
        }),
    };
    let interval =
        |value: f64, [low, high]: [f64; 2], format| Cell::Interval { value, low, high, format };
    let few = |n: usize| n <= 8 || n.is_power_of_two() || n == found.n;
    let rows = curve().filter(|p| few(p.n)).map(|p| {
        let gold = interval(p.gold, p.interval.unwrap_or([p.gold; 2]), Format::Number);
        let gain = p.gain.as_ref().map_or_else(|| Cell::text(""), estimate);
        let figures = [number(p.oracle), Format::Number.show(p.kl, 3)].map(Cell::text);
        let [oracle, kl] = figures;
        row(&p.n.to_string(), vec![gold, oracle, gain, kl])
    });
    let names = ["score of the pick, 95% interval", "judge's own", "gain, 95% interval", "KL"];
    let caption = "Gain: 0% is random choice, 100% the judge's own pick";
    let [low, high] = found.pair_accuracy.ci95.map(percent);
    let mut known = vec![
        ("prompts".to_owned(), thousands(found.prompts as u64)),
        ("responses".to_owned(), thousands(found.responses as u64)),
    ];
    for (name, n) in [
        ("prompts with more than n", found.prompts_with_more),
        ("prompts of one score only", found.prompts_without_choice),
    ] {
        if n > 0 {
            known.push((name.to_owned(), thousands(n as u64)));
        }
    }
    known.push((
        "pairs ordered as the judge does".to_owned(),
        format!(
            "{} of {} (95% interval {low} to {high})",
            percent(found.pair_accuracy.value),
            thousands(found.pairs as u64)
        ),
    ));
    known.push(("over-optimisation".to_owned(), fitted));
    let mut columns = columns("n", &names);
    columns[0].numeric = true;
    vec![Block::Chart(chart), table(caption, columns, rows.collect()), Block::KeyValues(known)]
}

/// The upper half of the bins: the lower one mirrors it, for every pair is in both.
fn upper(figures: &calibration::Figures) -> Vec<CalibrationBin> {
    let bins = figures.bins.iter().filter(|b| b.from >= 0.5 - 1e-9);
    bins.map(|b| CalibrationBin {
        predicted: b.probability,
        observed: b.observed,
        interval: wilson(b.observed, b.count as f64),
        count: b.count,
    })
    .collect()
}

fn calibrated(found: &Calibration) -> Vec<Block> {
    let mut curves = vec![("as it is".to_owned(), upper(&found.plain))];
    let figures = |name: &str, f: &calibration::Figures| {
        let values = [f.ece, f.brier, f.log_loss].map(|v| Cell::text(format!("{v:.4}")));
        row(name, values.to_vec())
    };
    let mut rows = vec![figures("as it is", &found.plain)];
    let temperature = match (&found.tempered, &found.no_temperature) {
        (Some(t), _) => {
            curves.push(("with a temperature".to_owned(), upper(&t.figures)));
            rows.push(figures("with a temperature", &t.figures));
            let [a, b] = t.temperatures;
            format!("{a:.3} and {b:.3}, each fitted on the other half of the prompts")
        }
        (None, why) => format!("none: {}", why.as_deref().unwrap_or_default()),
    };
    let chart = Chart {
        title: "How sure it is, and how often right".into(),
        note:
            "Pairs in steps of 5% by the probability of the response that the model prefers. Below \
               the diagonal it is too sure. Bars are 95% intervals."
                .into(),
        kind: ChartKind::Calibration(Curves {
            x: "predicted probability".into(),
            y: "share in the right order".into(),
            least: 0.5,
            curves,
        }),
    };
    vec![
        Block::Chart(chart),
        table(
            "The lower the better; a log-loss of 0.6931 is chance",
            columns("rewards", &["ECE", "Brier", "log-loss"]),
            rows,
        ),
        Block::KeyValues(vec![("temperatures".into(), temperature)]),
    ]
}

fn length(found: &Length) -> Vec<Block> {
    let points: Vec<[f64; 2]> =
        found.points.iter().map(|&(n, r)| [n.max(1) as f64, f64::from(r)]).collect();
    let (line, r) = trend(&points);
    let mut note = "The line is fitted by the logarithm of the length".to_owned();
    note += &r.map_or(String::new(), |r| format!(" (correlation {})", signed(r)));
    note += ". A reward that only follows length is no reward.";
    if points.len() < found.responses {
        note += &format!(
            " Drawn: {} of {} responses.",
            thousands(points.len() as u64),
            thousands(found.responses as u64)
        );
    }
    let class =
        |points| PointClass { name: "responses".into(), points, shape: Shape::Circle, colour: 0 };
    let chart = Chart {
        title: "Reward against length".into(),
        note,
        kind: ChartKind::Scatter(Scatter {
            x: Some(Axis::linear("characters of the response").scaled(Scale::Log10)),
            y: Some(Axis::linear("reward")),
            classes: vec![class(points)],
            trends: line
                .map(|points| Trend { name: "trend".into(), colour: 1, points })
                .into_iter()
                .collect(),
        }),
    };
    let side =
        |s: &Share| vec![s.accuracy.map_or_else(|| Cell::text("no pair"), share), count(s.pairs)];
    let mut rows = vec![
        row("better answer longer", side(&found.where_longer)),
        row("better answer shorter", side(&found.where_shorter)),
    ];
    let balanced = found.balanced_accuracy.map_or_else(|| Cell::text("none"), share);
    rows.push(TableRow { highlight: true, ..row("balanced: mean of both", vec![balanced]) });
    let correlation = match &found.correlation {
        Some(e) => {
            let [low, high] = e.ci95.map(signed);
            let without = match found.prompts_without {
                0 => String::new(),
                n => format!("; {n} do not vary"),
            };
            format!(
                "{} (95% interval {low} to {high}), mean of {} prompts{without}",
                signed(e.value),
                found.prompts
            )
        }
        None => "none: no prompt has rewards and lengths that vary".to_owned(),
    };
    vec![
        Block::Chart(chart),
        table(
            "Accuracy by which answer is longer; a preference for length is worth 50% when balanced",
            columns("pairs", &["accuracy", "pairs"]),
            rows,
        ),
        Block::KeyValues(vec![
            ("longer answer wins".into(), percent(found.longer_wins)),
            ("shorter answer wins".into(), percent(found.shorter_wins)),
            ("correlation of reward and length within prompts".into(), correlation),
        ]),
    ]
}

fn worst_examples(found: &[worst::Example], kind: Benchmark) -> Vec<Block> {
    if found.is_empty() {
        return vec![Block::Paragraph("None is shown that is ranked against its label.".into())];
    }
    let (better, worse) = match kind {
        Benchmark::BestOfN => ("The judge's pick", "The model's pick"),
        _ => ("Better, by the label", "Worse, which the model prefers"),
    };
    let example = |e: &worst::Example| {
        let subset = e.subset.as_ref().map_or(String::new(), |s| format!(", {s}"));
        let figure = |value: f64| Format::Number.show(value, 2);
        let facts = [
            ("margin", figure(e.margin)),
            ("reward of better", figure(f64::from(e.reward_chosen))),
            ("of worse", figure(f64::from(e.reward_rejected))),
            ("sure", percent(confidence(e.margin))),
        ];
        let texts = e.texts.as_ref().map(|t| {
            [("Prompt", &t.prompt), (better, &t.chosen), (worse, &t.rejected)]
                .map(|(name, text)| (name.to_owned(), shown(text)))
        });
        Example {
            heading: format!("Line {}{subset}", e.line),
            facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            texts: texts.into_iter().flatten().collect(),
        }
    };
    let intro = format!(
        "The {} that the model is most sure of against the label: errors of the model, or of the \
         labels.",
        found.len()
    );
    vec![Block::Paragraph(intro), Block::Examples(found.iter().map(example).collect())]
}

/// What it takes to do the same again.
fn again(name: &str, model: &Bundle, results: &[Evaluated], seed: u64) -> Section {
    let files: Vec<String> = results.iter().map(|r| quoted(&file_name(&r.path))).collect();
    let manifest = &model.manifest;
    let mut known = vec![
        ("reward model".to_owned(), name.to_owned()),
        ("fingerprint of its training data".to_owned(), manifest.data.fingerprint.clone()),
        ("written by".to_owned(), format!("LENS {}", manifest.lens_version)),
        ("seed of intervals".to_owned(), seed.to_string()),
    ];
    let fields = manifest.encoder.as_ref().and_then(|e| e.identity.as_object());
    for (field, value) in fields.into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        known.push((format!("encoder: {}", field.replace('_', " ")), value));
    }
    let text = format!("lens eval {} {} --report report.html", quoted(name), files.join(" "));
    Section {
        id: "again".into(),
        heading: "The same again".into(),
        blocks: vec![
            Block::Code { caption: "In a terminal".into(), text },
            Block::KeyValues(known),
        ],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::evaluation::PairRewards;
    use lens_core::{Content, PreferencePair};
    use lens_data::{LeftOut, Reason, Row, VetReport};
    use lens_eval::figures::best_of_n::Scored;
    use lens_eval::figures::worst::Texts;
    use lens_eval::figures::{Evaluation, PairData, ScoredPairs};

    const HOSTILE: &str = "</title><script>alert(1)</script>";

    fn drawn(result: &Evaluated, several: bool) -> String {
        let of = Of { result, number: 1, several };
        Report { sections: of.sections(), summary: in_words(result, several), ..Report::default() }
            .to_html()
    }

    fn evaluated(evaluation: Evaluation, rewards: PairRewards) -> Evaluated {
        let detail = HOSTILE.to_owned();
        let left_out = [(Reason::Malformed, vec![LeftOut { line: 3, detail }])].into();
        let rows = VetReport { read: 41, used: 40, left_out };
        let path = "/home/me/f.jsonl".into();
        Evaluated { path, rows, evaluation, trained_on: false, rewards }
    }

    fn pairs(with_texts: bool) -> Evaluated {
        let text = |n: usize| Content::Text(format!("{HOSTILE}{}", "a".repeat(n)));
        let row = |i: usize| {
            let (prompt, chosen, rejected) = (text(0), text(i % 7), text(i % 5));
            let value = PreferencePair { prompt, chosen, rejected, margin: None, tie: false };
            let metadata = [("subset".to_owned(), HOSTILE.into())].into_iter().collect();
            Row { line: i as u64 + 1, value, metadata }
        };
        let rows: Vec<_> = (0..40).map(row).collect();
        let chosen: Vec<f32> = (0..40).map(|i| (i % 4) as f32).collect();
        let rejected = vec![0.5; 40];
        let (prompts, lines): (Vec<u32>, Vec<u64>) = (0..40).map(|i| (i, u64::from(i) + 1)).unzip();
        let data = PairData {
            file: Path::new("f"),
            pairs: ScoredPairs { chosen: &chosen, rejected: &rejected, prompts: &prompts, seed: 0 },
            lines: &lines,
            rows: with_texts.then_some(&*rows),
            worst: 3,
        };
        let evaluation = Evaluation::of_pairs(Benchmark::Pairs, data).unwrap();
        evaluated(evaluation, PairRewards { chosen, rejected })
    }

    #[test]
    fn pairs_have_their_charts_and_the_rest_its_reason() {
        let page = drawn(&pairs(true), false);
        for part in [
            "in 75.0% of 40 pairs",
            "id=\"accuracy\"",
            "Margins of pairs",
            "How sure it is, and how often right",
            "Reward against length",
            "balanced: mean of both",
            "Worse, which the model prefers",
            "no best-of-n</dt><dd>the file was taken for preference pairs",
            "1 rows: malformed",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("<svg role=\"img\"").count(), 4);
        assert!(!page.contains("<script") && !page.contains("/home/me"), "{page}");
        // Embeddings have no texts.
        let page = drawn(&pairs(false), true);
        assert!(page.contains("no length</dt><dd>embeddings have no texts"), "{page}");
        assert!(page.contains("id=\"file-1-accuracy\"") && page.contains("f.jsonl: Accuracy"));
        assert_eq!(page.matches("<svg role=\"img\"").count(), 3);
    }

    #[test]
    fn best_of_n_has_its_curve_and_no_histograms() {
        let prompt = |line: u64| Scored {
            line,
            gold: (0..9).map(f64::from).collect(),
            proxy: (0..9).map(|i| ((i * 5 + line as i32) % 9) as f32).collect(),
        };
        let prompts: Vec<Scored> = (1..20).map(prompt).collect();
        let texts = |_: usize, _: usize, _: usize| {
            let text = Content::Text(HOSTILE.to_owned());
            Texts::of(&text, &text, &text)
        };
        let of = Evaluation::of_best_of_n(&prompts, None, 2, 0, Path::new("f"), texts).unwrap();
        let none = PairRewards { chosen: Vec::new(), rejected: Vec::new() };
        let page = drawn(&evaluated(of, none), false);
        for part in ["R \u{2212} random = d (", "random choice", "The judge&#39;s pick"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("<svg role=\"img\"").count(), 1);
        assert!(page.contains("no calibration") && !page.contains("<script"), "{page}");
    }
}
