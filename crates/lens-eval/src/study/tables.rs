//! A study's result in words: its table as text, and its findings.

use super::plan::Plan;
use super::summary::{Difference, Entry, Row, Summary, Table, TableRow};
use lens_core::metrics::Estimate;
use lens_report::text::{percent, points_interval};
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

/// `+0.4 (-0.2 to +1.0)`, in percentage points.
fn points(e: &Estimate) -> String {
    points_interval(e.value, e.ci95)
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

/// The findings, one sentence each.
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

    /// The caption of the table.
    pub fn legend(&self) -> String {
        format!(
            "Accuracy on held-out pairs, ties as half; after it the difference to {} on the same pairs, \
             in points, with a star where it is clear (5%, after Holm's correction for {} comparisons).",
            self.baseline, self.comparisons
        )
    }
}
