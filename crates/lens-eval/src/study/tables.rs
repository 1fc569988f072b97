//! A study's result as people read it: its table, its findings, and `summary.md`.

use super::plan::Plan;
use super::summary::{Difference, Entry, Row, Summary, Table, TableRow};
use lens_core::metrics::Estimate;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Most differences that are spelt out.
const SPELT_OUT: usize = 8;

/// The name of a rival's row: `none`, `lens 4x`, `tuned chosen`.
pub(super) fn rival_name(row: &Row) -> String {
    match row.factor {
        Some(1) if row.variant == "1x" => row.rival.clone(),
        _ => format!("{} {}", row.rival, row.variant),
    }
}

pub(super) fn grid_name(grid: &BTreeMap<String, String>) -> String {
    grid.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn joined(parts: Vec<String>) -> String {
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The rows as a table whose columns are the axis that the study is about: encoders are rows against
/// rivals, else seeds, else the longest axis of the grid, else factors are columns.
pub(super) fn pivot(plan: &Plan, rows: &[Row], chosen: &[Row]) -> Table {
    let entries = || {
        // Tries are choices of one rival, not rivals of their own.
        let tried = |r: &Row| r.factor.is_some_and(|f| r.variant != format!("{f}x"));
        let arms = rows.iter().enumerate().filter(move |(_, r)| !tried(r));
        let arms = arms.map(|(i, r)| (Entry::Row(i), r));
        arms.chain(chosen.iter().enumerate().map(|(i, r)| (Entry::Chosen(i), r)))
    };
    let seeds = |r: &Row| match plan.seeds.len() {
        1 => String::new(),
        _ => format!("{} seeds", r.seeds),
    };
    let mut table = Builder::default();
    if plan.encoders.len() > 1 {
        table.head("encoder", "rival", Vec::new());
        for (entry, r) in entries() {
            let name = joined(vec![r.encoder.clone(), seeds(r), grid_name(&r.grid)]);
            table.put(name, Some(rival_name(r)), entry);
        }
    } else if plan.seeds.len() > 1 {
        let columns = plan.seeds.iter().map(usize::to_string).collect();
        table.head("rival", "seed pairs", columns);
        for (entry, r) in entries() {
            let name = joined(vec![rival_name(r), grid_name(&r.grid)]);
            table.put(name, Some(r.seeds.to_string()), entry);
        }
    } else if let Some(axis) = plan.grid.iter().rev().max_by_key(|a| a.values.len()) {
        table.head("rival", &axis.name, axis.values.clone());
        for (entry, r) in entries() {
            let mut rest = r.grid.clone();
            let value = rest.remove(&axis.name);
            table.put(joined(vec![rival_name(r), grid_name(&rest)]), value, entry);
        }
    } else {
        let mut columns: Vec<String> = plan.factors.iter().map(|f| format!("{f}x")).collect();
        if !chosen.is_empty() {
            columns.push("chosen".to_owned());
        }
        table.head("rival", "factor", columns.clone());
        for (entry, r) in entries() {
            // A rival without a choice of factors has one entry, which stands for all of them.
            let own = columns.contains(&r.variant) && r.factor != Some(1);
            let several = chosen.iter().any(|c| c.rival == r.rival);
            let fixed = !own && !several && r.factor.is_some_and(|f| f > 1);
            let name = if fixed { rival_name(r) } else { r.rival.clone() };
            table.put(name, (own || several).then(|| r.variant.clone()), entry);
        }
    }
    table.0
}

#[derive(Default)]
struct Builder(Table);

impl Builder {
    fn head(&mut self, corner: &str, across: &str, columns: Vec<String>) {
        (self.0.corner, self.0.across) = (corner.to_owned(), across.to_owned());
        self.0.columns = columns;
    }

    /// Enters one figure; without a column it stands in all that are free.
    fn put(&mut self, name: String, column: Option<String>, entry: Entry) {
        let Table { columns, rows, .. } = &mut self.0;
        let at = rows.iter().position(|r| r.name == name).unwrap_or_else(|| {
            rows.push(TableRow { name, cells: Vec::new() });
            rows.len() - 1
        });
        let column = column.map(|c| {
            columns.iter().position(|known| *known == c).unwrap_or_else(|| {
                columns.push(c);
                columns.len() - 1
            })
        });
        for row in rows.iter_mut() {
            row.cells.resize(columns.len(), None);
        }
        match column {
            Some(column) => rows[at].cells[column] = Some(entry),
            None => rows[at].cells.iter_mut().for_each(|c| *c = c.or(Some(entry))),
        }
    }
}

/// `78.4%`.
fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// `78.4% (76.0% to 80.9%)`.
fn with_interval(e: &Estimate) -> String {
    format!("{} ({} to {})", percent(e.value), percent(e.ci95[0]), percent(e.ci95[1]))
}

/// `+0.4 (-0.2 to +1.0)`, in points.
fn points(e: &Estimate) -> String {
    let [value, low, high] = [e.value, e.ci95[0], e.ci95[1]].map(|x| 100.0 * x);
    format!("{value:+.1} ({low:+.1} to {high:+.1})")
}

pub(super) fn p_shown(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// An entry of the table: `78.4% +0.4`, with a star where the difference is clear.
fn entry(summary: &Summary, entry: Entry) -> String {
    let row = match entry {
        Entry::Row(i) => summary.rows.get(i),
        Entry::Chosen(i) => summary.chosen.get(i),
    };
    let Some(row) = row else { return String::new() };
    let Some(accuracy) = &row.accuracy else { return "ran away".to_owned() };
    let mut text = percent(accuracy.value);
    if let Some(d) = &row.difference {
        let star = if d.is_clear() { "*" } else { "" };
        let _ = write!(text, " {:+.1}{star}", 100.0 * d.estimate.value);
    }
    if row.ran_away > 0 {
        let _ = write!(text, " ({} ran away)", row.ran_away);
    }
    text
}

/// What can be said, sentence by sentence.
pub(super) fn findings(summary: &Summary) -> Vec<String> {
    let baseline = &summary.baseline;
    let several_encoders = summary.data.encoders.len() > 1;
    let name = |r: &Row| {
        let seeds =
            if summary.seeds.len() > 1 { format!("{} seeds", r.seeds) } else { String::new() };
        let encoder = if several_encoders { r.encoder.clone() } else { String::new() };
        joined(vec![rival_name(r), encoder, seeds, grid_name(&r.grid)])
    };
    let mut said = Vec::new();
    let all = || summary.rows.iter().chain(&summary.chosen);
    let compared: Vec<(&Row, &Difference)> =
        all().filter_map(|r| Some((r, r.difference.as_ref()?))).collect();
    let clear = |sign: f64| {
        compared.iter().filter(move |(_, d)| d.is_clear() && d.estimate.value * sign > 0.0)
    };
    let (better, worse) = (clear(1.0).count(), clear(-1.0).count());
    if !compared.is_empty() {
        said.push(format!(
            "Of {} comparisons with {baseline}, {better} are clearly better and {worse} clearly worse \
             (5%, after Holm's correction); {} cannot be told from no difference.",
            compared.len(),
            compared.len() - better - worse
        ));
    }
    let mut clear: Vec<&(&Row, &Difference)> = clear(1.0).chain(clear(-1.0)).collect();
    clear.sort_by(|a, b| b.1.estimate.value.total_cmp(&a.1.estimate.value));
    for (r, d) in clear.iter().take(SPELT_OUT) {
        said.push(format!(
            "{}: {} points against {baseline}, p {} after correction.",
            name(r),
            points(&d.estimate),
            p_shown(d.p_holm)
        ));
    }
    if clear.len() > SPELT_OUT {
        said.push(format!(
            "{} more clear differences are in the table below.",
            clear.len() - SPELT_OUT
        ));
    }
    let best = compared.iter().max_by(|a, b| a.1.estimate.value.total_cmp(&b.1.estimate.value));
    if let Some((r, d)) = best.filter(|(_, d)| !d.is_clear()) {
        said.push(format!(
            "The largest difference is that of {}, {} points, which chance explains as well \
             (p {}, {} after correction).",
            name(r),
            points(&d.estimate),
            p_shown(d.p),
            p_shown(d.p_holm)
        ));
    }
    if summary.comparisons as f64 / (summary.resamples as f64 + 1.0) >= 0.05 {
        said.push(format!(
            "{} comparisons are too many for {} resamples: after correction none could be clear.",
            summary.comparisons, summary.resamples
        ));
    }
    // One VAE serves several factors, and runs away for all of them at once.
    let mut gone: Vec<(Vec<String>, &Row)> = Vec::new();
    for r in all().filter(|r| r.ran_away > 0) {
        match gone.iter_mut().find(|(_, g)| (g.ran_away, &g.reason) == (r.ran_away, &r.reason)) {
            Some((names, _)) => names.push(name(r)),
            None => gone.push((vec![name(r)], r)),
        }
    }
    for (names, r) in gone.iter().take(SPELT_OUT) {
        let reason = r.reason.as_deref().unwrap_or("no figure on the folds to choose by");
        said.push(format!(
            "{}: no model in {} of {} splits ({reason}).",
            names.join("; "),
            r.ran_away,
            r.by_split.len()
        ));
    }
    for e in &summary.efficiency {
        // One sentence a rival: its choice where it has one.
        let chosen = summary.efficiency.iter().any(|o| o.rival == e.rival && o.variant == "chosen");
        if (e.variant == "chosen") == chosen
            && let Some(point) = e.points.last()
        {
            let encoder = if several_encoders { e.encoder.clone() } else { String::new() };
            let who =
                joined(vec![format!("{} {}", e.rival, e.variant), encoder, grid_name(&e.grid)]);
            said.push(format!("With {who}, {} with {baseline}.", point.shown()));
        }
    }
    said
}

/// A table in Markdown.
fn markdown(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    rows.iter().fold(line(head) + &rule, |text, row| text + &line(row))
}

fn strings(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|c| (*c).to_owned()).collect()
}

impl Summary {
    /// The table as rows of text, its head first.
    pub fn shown_table(&self) -> Vec<Vec<String>> {
        let Table { corner, across, columns, rows } = &self.table;
        let mut head = vec![format!("{corner} \\ {across}")];
        head.extend(columns.iter().cloned());
        let row = |r: &TableRow| {
            let mut cells = vec![r.name.clone()];
            let shown = |c: &Option<Entry>| c.map_or_else(|| "-".to_owned(), |c| entry(self, c));
            cells.extend(r.cells.iter().map(shown));
            cells
        };
        std::iter::once(head).chain(rows.iter().map(row)).collect()
    }

    /// What the figures in the table are.
    pub fn legend(&self) -> String {
        format!(
            "Accuracy on held-out pairs, ties as half; after it the difference to {} on the same pairs, \
             in points, with a star where it is clear (5%, after Holm's correction for {} comparisons).",
            self.baseline, self.comparisons
        )
    }

    /// The result as text: `summary.md`. Only the section on cost depends on how long things took.
    pub fn to_markdown(&self) -> String {
        let mut text =
            format!("# {}\n\n", if self.title.is_empty() { &self.name } else { &self.title });
        if !self.question.is_empty() {
            let _ = write!(text, "{}\n\n", self.question);
        }
        let seeds: Vec<String> = self.seeds.iter().map(usize::to_string).collect();
        let _ = write!(
            text,
            "{}: {} pairs on {} prompts, {} left out. {} splits of {} seed pairs, {:.0} held out, \
             {} trainings, seed {}.\n\n",
            self.data.file,
            self.data.pairs,
            self.data.prompts,
            self.data.left_out.values().sum::<usize>(),
            self.splits,
            seeds.join(", "),
            self.held_out,
            self.cells,
            self.seed,
        );
        let shown = self.shown_table();
        if let Some((head, rows)) = shown.split_first() {
            text += &markdown(head, rows);
        }
        let _ = write!(text, "\n{}\n\n## Findings\n\n", self.legend());
        for finding in &self.findings {
            let _ = writeln!(text, "- {finding}");
        }
        text += "\n## Rivals\n\n";
        for r in &self.rivals {
            let about = if r.about.is_empty() { String::new() } else { format!(": {}", r.about) };
            let tries = if r.tries > 1 { format!(" ({} tries)", r.tries) } else { String::new() };
            let _ = writeln!(text, "- {}{about}{tries}", r.name);
        }
        text += "\n`chosen`: in each split the factor or try with the lowest log-loss on the folds of the seeds.\n";
        text += &self.all_rows();
        text += &self.label_section();
        text += &self.cost_section();
        text
    }

    fn place(&self, r: &Row) -> Vec<String> {
        vec![rival_name(r), r.encoder.clone(), r.seeds.to_string(), grid_name(&r.grid)]
    }

    fn all_rows(&self) -> String {
        let mut head =
            strings(&["rival", "encoder", "seeds", "settings", "accuracy (95% interval)"]);
        head.extend(strings(&["log-loss", "fold log-loss"]));
        head.extend(strings(&["difference (95% interval)", "p", "p, Holm", "chosen"]));
        let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}"));
        let row = |r: &Row| {
            let mut cells = self.place(r);
            cells.push(r.accuracy.as_ref().map_or_else(|| "ran away".to_owned(), with_interval));
            cells.extend([number(r.log_loss), number(r.fold_log_loss)]);
            match &r.difference {
                None => cells.extend(strings(&["", "", ""])),
                Some(d) => {
                    cells.extend([points(&d.estimate), p_shown(d.p), p_shown(d.p_holm)]);
                }
            }
            let picks: Vec<String> = r.picks.iter().map(|(v, n)| format!("{v}: {n}")).collect();
            cells.push(picks.join(", "));
            cells
        };
        let rows: Vec<Vec<String>> = self.rows.iter().chain(&self.chosen).map(row).collect();
        format!("\n## Every comparison with {}\n\n{}", self.baseline, markdown(&head, &rows))
    }

    fn label_section(&self) -> String {
        if self.efficiency.is_empty() {
            return String::new();
        }
        let head =
            strings(&["rival", "encoder", "settings", "labels", "accuracy, monotone", "work like"]);
        let head = [head, strings(&["95% interval"])].concat();
        let mut rows = Vec::new();
        for e in &self.efficiency {
            for p in &e.points {
                let interval = p.ci95.map_or(String::new(), |[low, high]| {
                    format!("{} to {}", low.shown(), high.shown())
                });
                rows.push(vec![
                    format!("{} {}", e.rival, e.variant),
                    e.encoder.clone(),
                    grid_name(&e.grid),
                    p.labels.to_string(),
                    percent(p.accuracy),
                    p.like.shown(),
                    interval,
                ]);
            }
        }
        format!(
            "\n## What labels are worth\n\nSo many labels with a rival work like so many with {}. Nothing \
             is read off beyond the numbers that were measured.\n\n{}",
            self.baseline,
            markdown(&head, &rows)
        )
    }

    fn cost_section(&self) -> String {
        let head = strings(&["rival", "encoder", "seeds", "settings", "parameters of the source"]);
        let rest = ["s, source", "s, head", "synthetic pairs", "s, source, per 1,000"];
        let head = [head, strings(&rest)].concat();
        let row = |c: &super::summary::Cost| {
            let name = if c.variant == "1x" { String::new() } else { format!(" {}", c.variant) };
            vec![
                format!("{}{name}", c.rival),
                c.encoder.clone(),
                c.seeds.to_string(),
                grid_name(&c.grid),
                c.generator_parameters.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                format!("{:.3}", c.seconds_source),
                format!("{:.3}", c.seconds_head),
                c.synthetic_pairs.to_string(),
                c.seconds_per_thousand.map_or_else(|| "-".to_owned(), |s| format!("{s:.4}")),
            ]
        };
        let rows: Vec<Vec<String>> = self.cost.iter().map(row).collect();
        format!(
            "\n## Cost\n\nMeans over the splits, wall clock on one thread.\n\n{}",
            markdown(&head, &rows)
        )
    }
}
