//! A study's result as one document, rendered twice: as a page (`report.html`) and as Markdown
//! (`summary.md`). Only the section on cost depends on the clock.

use super::charts;
use super::summary::{Cost, Difference, Entry, Row, Summary};
use super::tables::{grid_name, joined, p_shown, rival_name};
use lens_core::metrics::Estimate;
use lens_report::{
    Block, Cell, Column, Format, Headline, Rendering, Report, Section, Table, TableRow,
};
use std::collections::BTreeMap;

/// Rows of a table that are seen without unfolding it.
const UNFOLDED: usize = 24;

impl Summary {
    /// The result as a page: `report.html`. `study` is the study file as resolved.
    pub fn to_html(&self, study: &str) -> String {
        self.document(Some(study)).to_html()
    }

    /// The result as Markdown: `summary.md`, beside which the study file lies.
    pub fn to_markdown(&self) -> String {
        self.document(None).to_markdown()
    }

    /// The result as a document, with the study file as resolved where it is to be part of it.
    pub fn document(&self, study: Option<&str>) -> Report {
        let charts = charts::section(self);
        // The figures of the charts are those of the tables.
        let charts =
            Section { blocks: vec![Block::Only(Rendering::Html, charts.blocks)], ..charts };
        let sections = vec![
            self.result(),
            charts,
            self.comparisons(),
            self.labels(),
            self.costs(),
            self.again(study),
        ];
        let title = if self.title.is_empty() { &self.name } else { &self.title };
        Report {
            title: title.clone(),
            subtitle: self.subtitle(),
            summary: self.in_words(),
            headlines: self.headlines(),
            sections,
        }
    }

    fn subtitle(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(usize::to_string).collect();
        format!(
            "{}: {} pairs on {} prompts; {} splits of {} seed pairs, {:.0} held out; LENS {}",
            self.data.file,
            self.data.pairs,
            self.data.prompts,
            self.splits,
            seeds.join(", "),
            self.held_out,
            env!("CARGO_PKG_VERSION")
        )
    }

    /// All rows: those of arms, then the choices.
    fn all(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().chain(&self.chosen)
    }

    /// The rows that are compared with the baseline.
    fn compared(&self) -> impl Iterator<Item = (&Row, &Difference)> {
        self.all().filter_map(|r| Some((r, r.difference.as_ref()?)))
    }

    /// `lens 4x, 200 seeds, vae.gamma=0.1`: with as much as tells it from the others.
    pub(super) fn full_name(&self, r: &Row) -> String {
        joined(vec![rival_name(r), self.place_name(&r.encoder, r.seeds), grid_name(&r.grid)])
    }

    /// The encoder and the number of seeds, where there are several.
    pub(super) fn place_name(&self, encoder: &str, seeds: usize) -> String {
        let several = self.data.encoders.len() > 1;
        let encoder = if several { encoder.to_owned() } else { String::new() };
        let seeds = if self.seeds.len() > 1 { format!("{seeds} seeds") } else { String::new() };
        joined(vec![encoder, seeds])
    }

    /// The summary: the question, then the findings.
    fn in_words(&self) -> Vec<String> {
        let mut said = Vec::new();
        if !self.question.is_empty() {
            said.push(format!("The question: {}", self.question));
        }
        said.extend(self.findings.iter().cloned());
        let clear = |name: &str| self.compared().any(|(r, d)| r.rival == name && d.is_clear());
        let unclear = self.rivals.iter().map(|r| &*r.name);
        let unclear = unclear.filter(|name| *name != self.baseline && !clear(name));
        let unclear: Vec<&str> = unclear.collect();
        if !unclear.is_empty() {
            let (baseline, named) = (&self.baseline, unclear.join(", "));
            said.push(format!("Without any clear difference to {baseline}: {named}."));
        }
        if self.all().all(|r| r.ran_away == 0) {
            said.push("No training ran away.".to_owned());
        }
        said
    }

    fn headlines(&self) -> Vec<Headline> {
        let mut out = Vec::new();
        let interval = |e: &Estimate, format: Format| {
            let [low, high] = e.ci95.map(|end| format.show(end, 3));
            format!("95% interval {low} to {high}")
        };
        let mut baselines = self.all().filter(|r| r.rival == self.baseline);
        if let (Some(Row { accuracy: Some(a), .. }), None) = (baselines.next(), baselines.next()) {
            out.push(Headline {
                label: format!("Accuracy of {}", self.baseline),
                value: Format::Percent.show(a.value, 3),
                detail: interval(a, Format::Percent),
            });
        }
        let largest =
            self.compared().max_by(|a, b| a.1.estimate.value.total_cmp(&b.1.estimate.value));
        if let Some((r, d)) = largest {
            let verdict = if d.is_clear() { "clear" } else { "not clear" };
            out.push(Headline {
                label: "Largest gain, in points".into(),
                value: Format::Points.show(d.estimate.value, 3),
                detail: format!(
                    "{}; {}; {verdict}",
                    self.full_name(r),
                    interval(&d.estimate, Format::Points)
                ),
            });
        }
        let clear = self.compared().filter(|(_, d)| d.is_clear()).count();
        out.push(Headline {
            label: "Clear differences".into(),
            value: format!("{clear} of {}", self.comparisons),
            detail: "at 5%, after Holm's correction".into(),
        });
        out.push(Headline {
            label: "Trainings".into(),
            value: self.cells.to_string(),
            detail: format!("{} splits", self.splits),
        });
        out
    }

    /// The table of the study, once with accuracies and once with differences.
    fn result(&self) -> Section {
        let table = |caption: String, cell: &dyn Fn(&Row) -> Cell| {
            let pivot = &self.table;
            let mut columns = vec![Column::text(format!("{} \\ {}", pivot.corner, pivot.across))];
            columns.extend(pivot.columns.iter().map(Column::number));
            let rows = pivot.rows.iter().map(|row| {
                let entry = |at: &Option<Entry>| {
                    let found = match at {
                        Some(Entry::Row(i)) => self.rows.get(*i),
                        Some(Entry::Chosen(i)) => self.chosen.get(*i),
                        None => None,
                    };
                    found.map_or_else(|| Cell::text(""), cell)
                };
                let name = std::iter::once(Cell::text(row.name.clone()));
                TableRow::plain(name.chain(row.cells.iter().map(entry)).collect())
            });
            // The baseline has no difference to itself.
            let says = |row: &TableRow| row.cells[1..].iter().any(|c| *c != Cell::text(""));
            Block::Table(Table { caption, columns, rows: rows.filter(says).collect() })
        };
        let accuracy = |r: &Row| shown(r.accuracy.as_ref(), Format::Percent, "ran away");
        let difference = |r: &Row| {
            let estimate = r.difference.as_ref().map(|d| &d.estimate);
            let none = if r.accuracy.is_none() { "ran away" } else { "" };
            shown(estimate, Format::Points, none)
        };
        let mut tables = vec![table(
            "Accuracy on held-out pairs, ties as half, with 95% intervals over prompts".into(),
            &accuracy,
        )];
        if self.compared().next().is_some() {
            let caption = format!(
                "Difference to {} on the same held-out pairs, in points, with 95% intervals before \
                 correction",
                self.baseline
            );
            tables.push(table(caption, &difference));
        }
        // Without colours and intervals drawn, one table is easier to read than two.
        let mut blocks = vec![
            Block::Only(Rendering::Html, tables),
            Block::Only(Rendering::Markdown, vec![self.both_in_one_table()]),
        ];
        let about = self.rivals.iter().map(|r| {
            let tries = if r.tries > 1 { format!(" ({} tries)", r.tries) } else { String::new() };
            (r.name.clone(), format!("{}{tries}", r.about))
        });
        blocks.push(Block::KeyValues(about.collect()));
        if !self.chosen.is_empty() {
            blocks.push(Block::Paragraph(
                "chosen: in each split the factor or try with the lowest log-loss on the folds of the \
                 seeds; nothing held out is looked at."
                    .into(),
            ));
        }
        Section { id: "result".into(), heading: "Result".into(), blocks }
    }

    /// The table of the study, each accuracy with its difference.
    fn both_in_one_table(&self) -> Block {
        let mut rows = self.shown_table().into_iter();
        let mut names = rows.next().unwrap_or_default().into_iter();
        let mut columns: Vec<Column> = names.next().map(Column::text).into_iter().collect();
        columns.extend(names.map(Column::number));
        let rows = rows.map(|row| TableRow::plain(row.into_iter().map(Cell::Text).collect()));
        Block::Table(Table { caption: self.legend(), columns, rows: rows.collect() })
    }

    /// Every row with its figures.
    fn comparisons(&self) -> Section {
        let place = Place::new(self.all().map(|r| (&*r.encoder, r.seeds, &r.grid)));
        let names = ["accuracy", "log-loss", "fold log-loss", "difference, points", "p", "p, Holm"];
        let mut columns = place.columns.clone();
        columns.extend(names.map(Column::number));
        columns.extend(["ran away", "chosen"].map(Column::text));
        let number = |x: Option<f64>| Cell::text(x.map_or(String::new(), |x| format!("{x:.4}")));
        let rows = self.all().map(|r| {
            let mut cells = place.cells(rival_name(r), &r.encoder, r.seeds, &r.grid);
            cells.push(shown(r.accuracy.as_ref(), Format::Percent, "none"));
            cells.extend([number(r.log_loss), number(r.fold_log_loss)]);
            match &r.difference {
                None => cells.extend(["", "", ""].map(Cell::text)),
                Some(d) => {
                    cells.push(shown(Some(&d.estimate), Format::Points, ""));
                    cells.extend([p_shown(d.p), p_shown(d.p_holm)].map(Cell::text));
                }
            }
            cells.push(Cell::text(match r.ran_away {
                0 => String::new(),
                n => format!("{n} of {} splits", r.by_split.len()),
            }));
            let picks: Vec<String> = r.picks.iter().map(|(v, n)| format!("{v}: {n}")).collect();
            cells.push(Cell::text(picks.join(", ")));
            TableRow { cells, highlight: r.difference.as_ref().is_some_and(Difference::is_clear) }
        });
        let caption = format!(
            "Every row, against {}; what is clear after Holm's correction for {} comparisons stands out",
            self.baseline, self.comparisons
        );
        let table = Table { caption, columns, rows: rows.collect() };
        let blocks = folded(table, "rows with their p-values");
        Section { id: "comparisons".into(), heading: "Every comparison".into(), blocks }
    }

    fn labels(&self) -> Section {
        let mut blocks = Vec::new();
        if self.efficiency.is_empty() {
            let why = match self.seeds.len() {
                0 | 1 => "Not measured: the study has one number of seed pairs.",
                _ => "Not measured: there is nothing to compare the baseline with.",
            };
            blocks.push(Block::Paragraph(why.into()));
        } else {
            blocks.push(Block::Paragraph(format!(
                "So many labels with a rival work like so many with {}. Nothing is read off beyond the \
                 numbers that were measured.",
                self.baseline
            )));
            let place = Place::new(self.efficiency.iter().map(|e| (&*e.encoder, 0, &e.grid)));
            let mut columns = place.columns.clone();
            columns.extend(
                ["labels", "accuracy, monotone", "work like", "95% interval"].map(Column::number),
            );
            let rows = self.efficiency.iter().flat_map(|e| {
                let place = &place;
                e.points.iter().map(move |p| {
                    let name = format!("{} {}", e.rival, e.variant);
                    let mut cells = place.cells(name, &e.encoder, 0, &e.grid);
                    let interval = p.ci95.map_or(String::new(), |[low, high]| {
                        format!("{} to {}", low.shown(), high.shown())
                    });
                    let accuracy = Format::Percent.show(p.accuracy, 3);
                    let figures = [p.labels.to_string(), accuracy, p.like.shown(), interval];
                    cells.extend(figures.map(Cell::text));
                    TableRow::plain(cells)
                })
            });
            let caption =
                format!("Labels with a rival, and as good a number with {}", self.baseline);
            let table = Table { caption, columns, rows: rows.collect() };
            blocks.extend(folded(table, "readings"));
        }
        Section { id: "labels".into(), heading: "What labels are worth".into(), blocks }
    }

    fn costs(&self) -> Section {
        let place = Place::new(self.cost.iter().map(|c| (&*c.encoder, c.seeds, &c.grid)));
        let mut columns = place.columns.clone();
        columns.extend(
            [
                "parameters of the source",
                "s, source",
                "s, head",
                "synthetic pairs",
                "s, source, per 1,000",
            ]
            .map(Column::number),
        );
        let rows = self.cost.iter().map(|c: &Cost| {
            let name = if c.variant == "1x" { String::new() } else { format!(" {}", c.variant) };
            let mut cells = place.cells(format!("{}{name}", c.rival), &c.encoder, c.seeds, &c.grid);
            let figures = [
                c.generator_parameters.map_or(String::new(), |n| n.to_string()),
                format!("{:.3}", c.seconds_source),
                format!("{:.3}", c.seconds_head),
                c.synthetic_pairs.to_string(),
                c.seconds_per_thousand.map_or(String::new(), |s| format!("{s:.4}")),
            ];
            cells.extend(figures.map(Cell::text));
            TableRow::plain(cells)
        });
        let caption = "Means over the splits, wall clock on one thread".to_owned();
        let table = Table { caption, columns, rows: rows.collect() };
        Section { id: "cost".into(), heading: "Cost".into(), blocks: folded(table, "costs") }
    }

    /// The data, and the study file with which to repeat the study.
    fn again(&self, study: Option<&str>) -> Section {
        let left_out: Vec<String> =
            self.data.left_out.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let left_out = if left_out.is_empty() { "none".to_owned() } else { left_out.join(", ") };
        let mut known = vec![
            ("data".to_owned(), self.data.file.clone()),
            ("pairs read".to_owned(), self.data.read.to_string()),
            ("left out".to_owned(), left_out),
            ("seed".to_owned(), self.seed.to_string()),
            ("bootstrap resamples behind p-values".to_owned(), self.resamples.to_string()),
        ];
        for e in &self.data.encoders {
            let name = if e.name.is_empty() { "encoder" } else { &*e.name };
            known.push((name.to_owned(), format!("{}; width {}", e.about, e.dim)));
            known.push((format!("{name}: fingerprint of the pairs"), e.fingerprint.clone()));
        }
        let mut blocks = vec![Block::KeyValues(known)];
        blocks.extend(study.map(|study| Block::Code {
            caption: "study.toml, which lens study takes with the same data".into(),
            language: "toml".into(),
            text: study.to_owned(),
        }));
        Section { id: "again".into(), heading: "The same again".into(), blocks }
    }
}

/// An estimate, or a word in its place.
fn shown(estimate: Option<&Estimate>, format: Format, none: &str) -> Cell {
    match estimate {
        None => Cell::text(none),
        Some(e) => Cell::Interval { value: e.value, low: e.ci95[0], high: e.ci95[1], format },
    }
}

/// A table, folded away where it is long.
fn folded(table: Table, what: &str) -> Vec<Block> {
    if table.rows.len() <= UNFOLDED {
        return vec![Block::Table(table)];
    }
    let summary = format!("{} {what}", table.rows.len());
    vec![Block::Folded { summary, blocks: vec![Block::Table(table)] }]
}

/// The columns that say where a row stands: only those in which rows differ.
struct Place {
    columns: Vec<Column>,
    encoder: bool,
    seeds: bool,
    grid: bool,
}

impl Place {
    fn new<'a>(
        places: impl Iterator<Item = (&'a str, usize, &'a BTreeMap<String, String>)>,
    ) -> Place {
        let places: Vec<_> = places.collect();
        let encoder = places.windows(2).any(|p| p[0].0 != p[1].0);
        let seeds = places.windows(2).any(|p| p[0].1 != p[1].1);
        let grid = places.iter().any(|p| !p.2.is_empty());
        let mut columns = vec![Column::text("rival")];
        if encoder {
            columns.push(Column::text("encoder"));
        }
        if seeds {
            columns.push(Column::number("seeds"));
        }
        if grid {
            columns.push(Column::text("settings"));
        }
        Place { columns, encoder, seeds, grid }
    }

    fn cells(
        &self,
        name: String,
        encoder: &str,
        seeds: usize,
        grid: &BTreeMap<String, String>,
    ) -> Vec<Cell> {
        let mut cells = vec![Cell::text(name)];
        if self.encoder {
            cells.push(Cell::text(encoder));
        }
        if self.seeds {
            cells.push(Cell::text(seeds.to_string()));
        }
        if self.grid {
            cells.push(Cell::text(grid_name(grid)));
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::study::efficiency::Reading;
    use crate::study::plan::{Plan, base_settings};
    use crate::study::summary::{DataSummary, Efficiency, EfficiencyPoint, RivalSummary};
    use crate::study::{StudyFile, tables};

    const HOSTILE: &str = "</title><script>alert(1)</script>";

    fn row(rival: &str, seeds: usize, factor: usize, accuracy: Option<f64>) -> Row {
        let estimate = |value: f64| Estimate { value, ci95: [value - 0.02, value + 0.02] };
        let difference = accuracy.filter(|_| rival != "none").map(|a| Difference {
            baseline: "1x".into(),
            estimate: estimate(a - 0.6),
            p: 0.001,
            p_holm: if a > 0.65 { 0.01 } else { 0.3 },
        });
        Row {
            encoder: String::new(),
            seeds,
            rival: rival.into(),
            factor: Some(factor),
            variant: format!("{factor}x"),
            grid: BTreeMap::new(),
            accuracy: accuracy.map(estimate),
            by_split: vec![accuracy; 2],
            log_loss: accuracy,
            fold_log_loss: accuracy,
            ran_away: if accuracy.is_none() { 2 } else { 0 },
            reason: accuracy.is_none().then(|| HOSTILE.to_owned()),
            picks: BTreeMap::new(),
            difference,
        }
    }

    /// A summary of these rows, in the shape of a study file.
    fn summary(text: &str, rows: Vec<Row>) -> Summary {
        let file = StudyFile::parse(text, "s.toml").unwrap();
        let encoders = file.encoder_axis(|_| Ok::<_, crate::EvalError>(2)).unwrap();
        let plan = Plan::new(&file, &base_settings(&file).unwrap(), encoders, 900).unwrap();
        let rival = |r: &crate::study::rivals::Rival| RivalSummary {
            name: r.name.clone(),
            about: HOSTILE.to_owned(),
            tries: 1,
        };
        let mut summary = Summary {
            name: "s".into(),
            title: HOSTILE.into(),
            question: HOSTILE.into(),
            data: DataSummary { file: HOSTILE.into(), ..DataSummary::default() },
            splits: 2,
            seed: 0,
            seeds: plan.seeds.clone(),
            held_out: 100.0,
            factors: plan.factors.clone(),
            grid: plan.grid.clone(),
            baseline: "none".into(),
            rivals: plan.rivals.iter().map(rival).collect(),
            cells: 4,
            comparisons: rows.iter().filter(|r| r.difference.is_some()).count(),
            resamples: 2000,
            findings: Vec::new(),
            table: tables::pivot(&plan, &rows, &[]),
            rows,
            chosen: Vec::new(),
            efficiency: Vec::new(),
            cost: Vec::new(),
        };
        summary.findings = tables::findings(&summary);
        summary
    }

    #[test]
    fn several_factors_are_a_chart_and_what_is_not_there_has_its_reason() {
        let rows = vec![
            row("none", 100, 1, Some(0.6)),
            row("lens", 100, 4, Some(0.61)),
            row("lens", 100, 8, Some(0.66)),
        ];
        let page = summary("seeds = [100]\nfactors = [4, 8]", rows).to_html("splits = 2");
        for part in [
            "Accuracy against the factor",
            "No chart against the number of seed pairs: the study has one number of them.",
            "No chart against a setting: the study varies none.",
            "Not measured: the study has one number of seed pairs.",
            "lens 8x: +6.0 (+4.0 to +8.0) points against none",
            "No training ran away.",
            "<code>splits = 2</code>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("<svg role=\"img\"").count(), 1);
        // The clear one of two stands out, and the baseline has no row of differences.
        assert_eq!(page.matches("<tr class=\"highlight\">").count(), 1);
        assert!(!page.contains("Without any clear difference"));
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn bands_are_drawn_only_of_a_few_lines() {
        let chart = |rivals: &[&str]| {
            let rows = rivals
                .iter()
                .flat_map(|r| [(4, 0.61), (8, 0.66)].map(|(f, a)| row(r, 100, f, Some(a))))
                .collect();
            let page = summary("seeds = [100]\nfactors = [4, 8]", rows).to_html("");
            let chart = page.split("<svg role=\"img\"").nth(1).unwrap();
            let said = page.contains("Every point is uncertain by up to 2.0 points");
            (chart.matches("class=\"band").count(), said)
        };
        assert_eq!(chart(&["a", "b", "c"]), (3, false));
        assert_eq!(chart(&["a", "b", "c", "d"]), (0, true));
    }

    #[test]
    fn several_numbers_of_seeds_have_what_labels_are_worth() {
        let mut rows = Vec::new();
        for (seeds, a) in [(100, 0.55), (400, 0.6)] {
            rows.extend([row("none", seeds, 1, Some(a)), row("lens", seeds, 4, Some(a + 0.01))]);
        }
        let mut summary = summary("seeds = [100, 400]", rows);
        summary.efficiency = vec![Efficiency {
            encoder: String::new(),
            rival: "lens".into(),
            variant: "4x".into(),
            grid: BTreeMap::new(),
            points: vec![EfficiencyPoint {
                labels: 100,
                accuracy: 0.56,
                like: Reading::Labels(150.0),
                ci95: Some([Reading::AtMost(100.0), Reading::MoreThan(400.0)]),
            }],
        }];
        let page = summary.to_html("");
        assert!(page.contains("Accuracy against the number of seed pairs"), "{page}");
        assert!(page.contains("100 or fewer to more than 400"), "{page}");
        assert!(page.contains("Without any clear difference to none: lens."), "{page}");
    }

    #[test]
    fn a_setting_is_an_axis_with_zero_as_a_level_and_what_ran_away_is_said() {
        let at = |value: &str, accuracy| {
            let grid = [("vae.gamma".to_owned(), value.to_owned())].into();
            Row { grid, ..row("lens", 100, 4, accuracy) }
        };
        let rows = vec![
            row("none", 100, 1, Some(0.6)),
            at("0", Some(0.61)),
            at("0.01", Some(0.62)),
            at("1", Some(0.63)),
            at("1000", None),
        ];
        let text = "seeds = [100]\n[grid]\nvae.gamma = [0, 0.01, 1, 1000]";
        let page = summary(text, rows).to_html("");
        assert!(page.contains("Accuracy against vae.gamma"), "{page}");
        assert!(page.contains("lens 4x at 0") && page.contains("ran away"), "{page}");
        assert!(page.contains("no model in 2 of 2 splits") && !page.contains("<script"), "{page}");
        assert!(page.contains("No chart against the factor: the study has one factor."));
    }
}
