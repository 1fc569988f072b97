//! A study's charts: accuracy against the axis that it varies.

use super::summary::{Row, Summary};
use super::tables::{grid_name, joined, rival_name};
use lens_report::{Axis, Block, Chart, ChartKind, LinePoint, Lines, Scale, Section, Series};

/// Most charts of one kind; the tables have all.
const MOST: usize = 6;
/// Lines that are told apart.
const LINES: usize = 8;
/// Lines whose bands are told apart.
const BANDS: usize = 3;
/// Values that span more than this are drawn on a logarithmic axis.
const SPAN: f64 = 30.0;

/// A kind of chart: its charts, or why there is none.
type Kind = Result<Vec<Chart>, String>;

/// All charts, and of those that are not there the reason.
pub(super) fn section(summary: &Summary) -> Section {
    let mut blocks = Vec::new();
    let mut reasons = Vec::new();
    for (what, kind) in [
        ("the factor", by_factor(summary)),
        ("the number of seed pairs", by_seeds(summary)),
        ("a setting", by_setting(summary)),
    ] {
        match kind {
            Ok(mut charts) => {
                if charts.len() > MOST {
                    reasons.push(format!(
                        "{} of {} charts against {what} are shown; the tables have all.",
                        MOST,
                        charts.len()
                    ));
                    charts.truncate(MOST);
                }
                blocks.extend(charts.into_iter().map(Block::Chart));
            }
            Err(why) => reasons.push(format!("No chart against {what}: {why}.")),
        }
    }
    if !reasons.is_empty() {
        blocks.push(Block::Paragraph(reasons.join(" ")));
    }
    Section { id: "charts".into(), heading: "Charts".into(), blocks }
}

/// Points of one line by what they are called, in the order in which names were first met.
#[derive(Default)]
struct Collected(Vec<Series>);

impl Collected {
    fn add(&mut self, name: String, x: f64, row: &Row) {
        let Some(a) = &row.accuracy else { return };
        let point = LinePoint { x, y: a.value, interval: Some(a.ci95) };
        match self.0.iter_mut().find(|s| s.name == name) {
            Some(series) => series.points.push(point),
            None => self.0.push(Series { name, points: vec![point] }),
        }
    }

    /// One chart, if there is a line.
    fn chart(
        mut self,
        what: &str,
        place: &str,
        x: Axis,
        levels: Vec<(f64, String)>,
    ) -> Option<Chart> {
        for series in &mut self.0 {
            series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        }
        self.0.retain(|s| s.points.len() > 1);
        if self.0.is_empty() {
            return None;
        }
        let mut note = if self.0.len() > BANDS {
            // Bands of many lines that lie close together are one grey field.
            let points = || self.0.iter().flat_map(|s| &s.points);
            let halves = points().filter_map(|p| p.interval.map(|[low, high]| (high - low) / 2.0));
            let widest = halves.fold(0.0, f64::max);
            self.0.iter_mut().flat_map(|s| &mut s.points).for_each(|p| p.interval = None);
            format!(
                "Every point is uncertain by up to {:.1} points (half of its 95% interval), \
                 differences on the same pairs mostly by less: the tables have both.",
                100.0 * widest
            )
        } else {
            "Bands are 95% intervals over prompts; of differences on the same pairs they say little: \
             the tables have those."
                .to_owned()
        };
        if self.0.len() > LINES {
            note += &format!(" Shown: {LINES} of {} lines.", self.0.len());
            self.0.truncate(LINES);
        }
        let place = if place.is_empty() { String::new() } else { format!(": {place}") };
        Some(Chart {
            title: format!("Accuracy against {what}{place}"),
            note,
            kind: ChartKind::Lines(Lines {
                x,
                y: Axis::percent("accuracy"),
                series: self.0,
                marks: Vec::new(),
                levels,
            }),
        })
    }
}

/// Different values, in the order in which they are met.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// An arm that is no try of a tuned rival.
fn is_factor(r: &Row) -> bool {
    r.factor.is_some_and(|f| r.variant == format!("{f}x"))
}

fn level(r: &Row, name: String) -> Option<(f64, String)> {
    Some((r.accuracy.as_ref()?.value, name))
}

fn by_factor(summary: &Summary) -> Kind {
    if summary.factors.len() < 2 {
        return Err("the study has one factor".to_owned());
    }
    let arms = || summary.rows.iter().filter(|r| is_factor(r) && r.factor != Some(1));
    let mut charts = Vec::new();
    for (encoder, seeds, grid) in distinct(arms().map(|r| (&r.encoder, r.seeds, &r.grid))) {
        let here = |r: &Row| r.encoder == *encoder && r.seeds == seeds;
        let mut lines = Collected::default();
        for r in arms().filter(|r| here(r) && r.grid == *grid) {
            lines.add(r.rival.clone(), r.factor.unwrap_or(1) as f64, r);
        }
        // A rival that does not augment has the same accuracy at every factor.
        let fits = |r: &&Row| r.grid.iter().all(|(name, v)| grid.get(name).is_none_or(|g| g == v));
        let levels = summary.rows.iter().filter(|r| r.rival == summary.baseline && here(r));
        let levels = levels.filter(|r| r.factor == Some(1)).filter(fits);
        let levels = levels.filter_map(|r| level(r, rival_name(r))).collect();
        let place = joined(vec![summary.place_name(encoder, seeds), grid_name(grid)]);
        let x = Axis::linear("factor").scaled(Scale::Log2);
        charts.extend(lines.chart("the factor", &place, x, levels));
    }
    some(charts, "no rival has a model at two factors")
}

fn by_seeds(summary: &Summary) -> Kind {
    if summary.seeds.len() < 2 {
        return Err("the study has one number of them".to_owned());
    }
    let rows = of_rivals(summary);
    let mut charts = Vec::new();
    let grids = distinct(rows.iter().map(|r| (&r.encoder, &r.grid)));
    // Rivals that depend on no setting belong to every point of the grid.
    let points = grids.iter().filter(|(_, g)| !g.is_empty()).copied().collect::<Vec<_>>();
    let points = if points.is_empty() { grids } else { points };
    for (encoder, grid) in points {
        let mut lines = Collected::default();
        let fits = |r: &Row| r.grid.iter().all(|(name, v)| grid.get(name) == Some(v));
        for r in rows.iter().filter(|r| r.encoder == *encoder && fits(r)) {
            lines.add(rival_name(r), r.seeds as f64, r);
        }
        let encoder = if summary.data.encoders.len() > 1 { encoder.clone() } else { String::new() };
        let place = joined(vec![encoder, grid_name(grid)]);
        let x = Axis::linear("seed pairs").scaled(Scale::Log10);
        charts.extend(lines.chart("the number of seed pairs", &place, x, Vec::new()));
    }
    some(charts, "no rival has a model at two of them")
}

fn by_setting(summary: &Summary) -> Kind {
    let [axis] = &*summary.grid else {
        let several = if summary.grid.is_empty() { "varies none" } else { "varies several" };
        return Err(format!("the study {several}"));
    };
    if axis.values.len() < 2 {
        return Err(format!("{} has one value", axis.name));
    }
    let values: Option<Vec<f64>> = axis.values.iter().map(|v| v.parse().ok()).collect();
    let Some(values) = values.filter(|v| v.iter().all(|x| x.is_finite())) else {
        return Err(format!("the values of {} are no numbers", axis.name));
    };
    let least = values.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    let is_log = values.iter().all(|v| *v >= 0.0) && most > SPAN * least;
    let rows = of_rivals(summary);
    let mut charts = Vec::new();
    for (encoder, seeds) in distinct(rows.iter().map(|r| (&r.encoder, r.seeds))) {
        let mut lines = Collected::default();
        let mut levels = Vec::new();
        for r in rows.iter().filter(|r| r.encoder == *encoder && r.seeds == seeds) {
            match r.grid.get(&axis.name).and_then(|v| v.parse::<f64>().ok()) {
                // Zero has no place on a logarithmic axis.
                Some(0.0) if is_log => {
                    levels.extend(level(r, format!("{} at 0", rival_name(r))));
                }
                Some(value) => lines.add(rival_name(r), value, r),
                None if r.rival == summary.baseline => levels.extend(level(r, rival_name(r))),
                None => {}
            }
        }
        let scale = if is_log { Scale::Log10 } else { Scale::Linear };
        let x = Axis::linear(axis.name.clone()).scaled(scale);
        let place = summary.place_name(encoder, seeds);
        charts.extend(lines.chart(&axis.name, &place, x, levels));
    }
    some(charts, "no rival has a model at two values")
}

/// One row a rival at every place: its choice where it has one, else its only arm.
fn of_rivals(summary: &Summary) -> Vec<&Row> {
    let chooses = |r: &Row| summary.chosen.iter().any(|c| c.rival == r.rival);
    let mut rows: Vec<&Row> = summary.rows.iter().filter(|r| !chooses(r)).collect();
    rows.extend(&summary.chosen);
    // In the order of the study.
    let place = |r: &&Row| summary.rivals.iter().position(|known| known.name == r.rival);
    rows.sort_by_key(place);
    rows
}

fn some(charts: Vec<Chart>, why: &str) -> Kind {
    if charts.is_empty() { Err(why.to_owned()) } else { Ok(charts) }
}
