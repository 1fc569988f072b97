//! Charts as drawings: each with a legend, a description and a table of what it shows.

use crate::axes::{Frame, Range, c, usable};
use crate::document::{
    Axis, Calibration, Cell, Column, Format, Histogram, Lines, Scale, Scatter, Shape, Table,
    TableRow,
};

/// Width of every drawing: text keeps a readable size from a phone's width to half a desk's.
const WIDTH: f64 = 392.0;
const HEIGHT: f64 = 262.0;
/// Series that are told apart; further ones begin again.
const STYLES: usize = 8;
/// Dashes of the series, so that colour is not all that tells them apart.
const DASHES: [&str; STYLES] = ["", "7 4", "2 3", "9 3 2 3", "5 2", "1 4", "12 4", "4 4 1 4"];
/// Most points of a line that are drawn, and most rows of the table beside it.
const MOST_POINTS: usize = 800;
const MOST_ROWS: usize = 40;

/// A chart, drawn.
pub(super) struct Drawing {
    /// Width and height.
    pub(super) size: [f64; 2],
    /// The content of the `<svg>`.
    pub(super) content: String,
    /// A sample of each style, and its name.
    pub(super) legend: Vec<(String, String)>,
    /// The chart in words.
    pub(super) description: String,
    /// The chart in figures.
    pub(super) table: Table,
}

fn style(index: usize) -> usize {
    index % STYLES
}

fn dash(index: usize) -> String {
    match DASHES[style(index)] {
        "" => String::new(),
        dash => format!(" stroke-dasharray=\"{dash}\""),
    }
}

fn line_sample(index: usize) -> String {
    format!("<path class=\"line s{}\"{} d=\"M1 6H23\"/>", style(index), dash(index))
}

fn number(value: f64) -> Cell {
    Cell::text(Format::Number.show(value, 4))
}

/// Every `step`th of `n` things such that at most `most` remain, and always the last.
fn thinned(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let step = n.div_ceil(most).max(1);
    (0..n).filter(move |i| i % step == 0 || i + 1 == n)
}

pub(super) fn lines(chart: &Lines) -> Option<Drawing> {
    let points = || chart.series.iter().flat_map(|s| &s.points);
    let x = Range::of(&chart.x, points().map(|p| p.x), 0.0)?;
    let heights = points()
        .flat_map(|p| [Some(p.y), p.interval.map(|i| i[0]), p.interval.map(|i| i[1])])
        .flatten()
        .chain(chart.levels.iter().map(|l| l.0));
    let y = Range::of(&chart.y, heights, 0.06)?;
    let mut frame = Frame::new(WIDTH, HEIGHT, x, y);
    let mut out = std::mem::take(&mut frame.drawn);
    for (y, label) in &chart.levels {
        out += &frame.horizontal(*y, label);
    }
    for (row, (x, label)) in chart.marks.iter().enumerate() {
        out += &frame.vertical(*x, label, row % 3);
    }
    for (i, series) in chart.series.iter().enumerate() {
        out += &band(&frame, i, series);
    }
    for (i, series) in chart.series.iter().enumerate() {
        let mut path = String::new();
        let mut pen_down = false;
        let mut single = Vec::new();
        for at in thinned(series.points.len(), MOST_POINTS) {
            let p = series.points[at];
            match frame.point(p.x, p.y) {
                Some(place) => {
                    path += &format!("{}{place}", if pen_down { "L" } else { "M" });
                    pen_down = true;
                    single.push(place);
                }
                None => pen_down = false,
            }
        }
        if path.is_empty() {
            continue;
        }
        out += &format!("<path class=\"line s{}\"{} d=\"{path}\"/>", style(i), dash(i));
        if single.len() <= 16 {
            let dots: String = single.iter().map(|place| format!("M{place}h0")).collect();
            out += &format!("<path class=\"dots s{}\" d=\"{dots}\"/>", style(i));
        }
    }
    let named = |i: usize| (line_sample(i), chart.series[i].name.clone());
    Some(Drawing {
        size: [WIDTH, HEIGHT],
        content: out,
        legend: (0..chart.series.len()).map(named).collect(),
        description: described(chart),
        table: lines_table(chart),
    })
}

fn band(frame: &Frame, index: usize, series: &crate::document::Series) -> String {
    let mut upper = Vec::new();
    let mut lower = Vec::new();
    for at in thinned(series.points.len(), MOST_POINTS) {
        let p = series.points[at];
        let Some([low, high]) = p.interval else { continue };
        if let (Some(low), Some(high)) = (frame.point(p.x, low), frame.point(p.x, high)) {
            upper.push(high);
            lower.push(low);
        }
    }
    if upper.len() < 2 {
        // One interval is a bar, not a band.
        return match (upper.first(), lower.first()) {
            (Some(high), Some(low)) => {
                format!("<path class=\"bar s{}\" d=\"M{high}L{low}\"/>", style(index))
            }
            _ => String::new(),
        };
    }
    lower.reverse();
    format!(
        "<path class=\"band s{}\" d=\"M{}L{}Z\"/>",
        style(index),
        upper.join("L"),
        lower.join("L")
    )
}

/// Digits behind the point that tell whole numbers from others.
fn digits_of(mut places: impl Iterator<Item = f64>) -> usize {
    if places.all(|x| x.fract() == 0.0) { 0 } else { 4 }
}

fn described(chart: &Lines) -> String {
    let digits = digits_of(chart.series.iter().flat_map(|s| &s.points).map(|p| p.x));
    let mut said = format!("{} over {}. ", chart.y.label, chart.x.label);
    for series in &chart.series {
        let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else {
            continue;
        };
        let show = |v: f64| chart.y.format.show(v, 4);
        let at = |v: f64| chart.x.format.show(v, digits);
        said += &format!(
            "{}: from {} at {} to {} at {}. ",
            series.name,
            show(first.y),
            at(first.x),
            show(last.y),
            at(last.x)
        );
    }
    said.trim_end().to_owned()
}

/// The horizontal coordinates at which any of the lines has a point, ascending, each once.
pub(super) fn places(chart: &Lines) -> Vec<f64> {
    let mut places: Vec<f64> = chart.series.iter().flat_map(|s| &s.points).map(|p| p.x).collect();
    places.retain(|x| x.is_finite());
    places.sort_unstable_by(f64::total_cmp);
    places.dedup();
    places
}

fn lines_table(chart: &Lines) -> Table {
    let places = places(chart);
    let mut columns = vec![Column::number(chart.x.label.clone())];
    columns.extend(chart.series.iter().map(|s| Column::number(s.name.clone())));
    let digits = digits_of(places.iter().copied());
    let row = |at: usize| {
        let x = places[at];
        let mut cells = vec![Cell::text(chart.x.format.show(x, digits))];
        for series in &chart.series {
            cells.push(match series.points.iter().find(|p| p.x == x) {
                None => Cell::text(""),
                Some(p) => match p.interval {
                    None => Cell::text(chart.y.format.show(p.y, 4)),
                    Some([low, high]) => {
                        Cell::Interval { value: p.y, low, high, format: chart.y.format }
                    }
                },
            });
        }
        TableRow::plain(cells)
    };
    let shown: Vec<usize> = thinned(places.len(), MOST_ROWS).collect();
    let caption = match shown.len() < places.len() {
        true => format!("{} of {} places, evenly spread", shown.len(), places.len()),
        false => String::new(),
    };
    Table { caption, columns, rows: shown.into_iter().map(row).collect() }
}

pub(super) fn calibration(chart: &Calibration) -> Option<Drawing> {
    let bins = || chart.curves.iter().flat_map(|c| &c.1).filter(|b| b.predicted.is_finite());
    let most = bins().map(|b| b.count).max()?;
    // Whole tenths, so that the ends are labelled.
    let lowest = bins().map(|b| b.interval[0].min(b.predicted)).fold(chart.least, f64::min);
    let lowest = ((lowest.clamp(0.0, 1.0) * 10.0 + 1e-9).floor() / 10.0).min(0.9);
    let x = Range::fixed(Axis::percent(chart.x.clone()), chart.least, 1.0);
    let y = Range::fixed(Axis::percent(chart.y.clone()), lowest, 1.0);
    let mut frame = Frame::new(WIDTH, 310.0, x, y);
    let mut out = std::mem::take(&mut frame.drawn);
    if let (Some(from), Some(to)) = (frame.point(chart.least, chart.least), frame.point(1.0, 1.0)) {
        out += &format!("<path class=\"guide\" d=\"M{from}L{to}\"/>");
    }
    let mut table = Table {
        caption: String::new(),
        columns: vec![
            Column::text(""),
            Column::number(chart.x.clone()),
            Column::number(chart.y.clone()),
            Column::number("count"),
        ],
        rows: Vec::new(),
    };
    for (i, (name, bins)) in chart.curves.iter().enumerate() {
        let mut bars = String::new();
        let mut places = Vec::new();
        let mut dots = String::new();
        for bin in bins {
            let Some(place) = frame.point(bin.predicted, bin.observed) else { continue };
            let [low, high] = bin.interval;
            if let (Some(a), Some(b)) =
                (frame.point(bin.predicted, low), frame.point(bin.predicted, high))
            {
                bars += &format!("M{a}L{b}");
            }
            // The area shows the count.
            let width = 6.0 + 9.0 * (bin.count as f64 / most.max(1) as f64).sqrt();
            dots += &format!(
                "<path class=\"dots s{}\" style=\"stroke-width:{}\" d=\"M{place}h0\"/>",
                style(i),
                c(width)
            );
            places.push(place);
            table.rows.push(TableRow::plain(vec![
                Cell::text(name.clone()),
                Cell::text(Format::Percent.show(bin.predicted, 3)),
                Cell::Interval { value: bin.observed, low, high, format: Format::Percent },
                Cell::text(bin.count.to_string()),
            ]));
        }
        if places.is_empty() {
            continue;
        }
        let k = style(i);
        out += &format!("<path class=\"bar s{k}\" d=\"{bars}\"/>");
        if places.len() > 1 {
            let path = places.join("L");
            out += &format!("<path class=\"thin s{k}\"{} d=\"M{path}\"/>", dash(i));
        }
        out += &dots;
    }
    let sample = |i: usize| {
        let k = style(i);
        format!(
            "<path class=\"thin s{k}\"{} d=\"M1 6H23\"/><path class=\"dots s{k}\" d=\"M12 6h0\"/>",
            dash(i)
        )
    };
    Some(Drawing {
        size: [WIDTH, 310.0],
        content: out,
        legend: chart.curves.iter().enumerate().map(|(i, c)| (sample(i), c.0.clone())).collect(),
        description: format!(
            "{} against {}: on the diagonal they agree. The larger a point, the more it stands for.",
            chart.y, chart.x
        ),
        table,
    })
}

pub(super) fn histogram(chart: &Histogram) -> Option<Drawing> {
    let usable = |v: &&f64| usable(Scale::Linear, **v);
    let mut all: Vec<f64> =
        chart.groups.iter().flat_map(|g| g.1.iter().filter(usable).copied()).collect();
    all.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| all[((all.len() - 1) as f64 * q).round() as usize];
    let (&first, &last) = (all.first()?, all.last()?);
    // A few far values must not squeeze the rest into one bin: they are counted in the last one.
    let (quarter, three) = (quantile(0.25), quantile(0.75));
    let reach = 4.0 * (three - quarter);
    let (low, high) = match reach > 0.0 {
        true => (first.max(quarter - reach), last.min(three + reach)),
        false => (first, last),
    };
    let beyond = all.iter().filter(|&&v| v < low || v > high).count();
    let range = Range::of(&Axis::linear(chart.x.clone()), [low, high].into_iter(), 0.0)?;
    let low = if low < high { low } else { low - range.width() / 2.0 };
    let width = if low < high { high - low } else { range.width() };
    // The rule of Freedman and Diaconis 1981, within what can be seen.
    let groups = chart.groups.len().max(1);
    let rule = 2.0 * (three - quarter) / (all.len() as f64 / groups as f64).cbrt();
    let bins = if rule > 0.0 { (width / rule).ceil().clamp(8.0, 48.0) as usize } else { 8 };
    let counts: Vec<Vec<usize>> = chart
        .groups
        .iter()
        .map(|(_, values)| {
            let mut counts = vec![0usize; bins];
            for v in values.iter().filter(usable) {
                let bin = ((v - low) / width * bins as f64).floor().clamp(0.0, (bins - 1) as f64);
                counts[bin as usize] += 1;
            }
            counts
        })
        .collect();
    let most = counts.iter().flatten().max().copied().unwrap_or(0).max(1);
    let edge = |bin: usize| low + width * bin as f64 / bins as f64;
    let x = Range::fixed(Axis::linear(chart.x.clone()), low, low + width);
    // The label of a mark stands above the bars.
    let room = if chart.mark.is_some() { 1.2 } else { 1.05 };
    let y = Range::fixed(Axis::linear("count"), 0.0, room * most as f64);
    let mut frame = Frame::new(WIDTH, HEIGHT, x, y);
    let mut out = std::mem::take(&mut frame.drawn);
    for (i, counts) in counts.iter().enumerate() {
        let mut path = format!("M{} {}", c(frame.px(low)), c(frame.bottom()));
        for (bin, &n) in counts.iter().enumerate() {
            path += &format!("V{}H{}", c(frame.py(n as f64)), c(frame.px(edge(bin + 1))));
        }
        path += &format!("V{}", c(frame.bottom()));
        out += &format!("<path class=\"area s{}\"{} d=\"{path}\"/>", style(i), dash(i));
    }
    if let Some((at, label)) = &chart.mark {
        out += &frame.vertical(*at, label, 0);
    }
    let mut columns = vec![Column::number(chart.x.clone())];
    columns.extend(chart.groups.iter().map(|g| Column::number(g.0.clone())));
    let row = |bin: usize| {
        let span = format!(
            "{} to {}",
            Format::Number.show(edge(bin), 3),
            Format::Number.show(edge(bin + 1), 3)
        );
        let counts = counts.iter().map(|c| Cell::text(c[bin].to_string()));
        TableRow::plain(std::iter::once(Cell::text(span)).chain(counts).collect())
    };
    let mut caption = String::new();
    if beyond > 0 {
        caption = format!("{beyond} values further out are counted in the first and last row");
    }
    let mean = |values: &[f64]| {
        let (n, sum) = values.iter().filter(usable).fold((0.0, 0.0), |(n, s), v| (n + 1.0, s + v));
        if n > 0.0 { Format::Number.show(sum / n, 3) } else { "none".to_owned() }
    };
    let means: Vec<String> =
        chart.groups.iter().map(|(name, v)| format!("{name}: mean {}", mean(v))).collect();
    let sample =
        |i: usize| format!("<path class=\"area s{}\"{} d=\"M2 11V2H22V11\"/>", style(i), dash(i));
    Some(Drawing {
        size: [WIDTH, HEIGHT],
        content: out,
        legend: (0..chart.groups.len()).map(|i| (sample(i), means[i].clone())).collect(),
        description: format!("How often each {} occurs. {}.", chart.x, means.join("; ")),
        table: Table { caption, columns, rows: (0..bins).map(row).collect() },
    })
}

/// The place in the drawing of a point; `None` where it cannot be drawn.
type Place = dyn Fn(&[f64; 2]) -> Option<[f64; 2]>;

pub(super) fn scatter(chart: &Scatter) -> Option<Drawing> {
    let is_map = chart.x.is_none();
    let axis = |axis: &Option<Axis>| axis.clone().unwrap_or_default();
    let (x, y) = (axis(&chart.x), axis(&chart.y));
    let points = || chart.classes.iter().flat_map(|class| &class.points);
    let x = Range::of(&x, points().map(|p| p[0]), 0.03)?;
    let y = Range::of(&y, points().map(|p| p[1]), 0.03)?;
    let height = match is_map {
        true => (WIDTH * y.width() / x.width()).clamp(240.0, 400.0).round(),
        false => 280.0,
    };
    let mut out = String::new();
    let place: Box<Place> = if is_map {
        // Distances are the same in all directions.
        let unit = (x.width() / (WIDTH - 8.0)).max(y.width() / (height - 8.0));
        let (w, h) = (x.width() / unit, y.width() / unit);
        out += &format!(
            "<rect class=\"plain\" x=\"1\" y=\"1\" width=\"{}\" height=\"{}\" rx=\"6\"/>",
            c(WIDTH - 2.0),
            c(height - 2.0)
        );
        Box::new(move |p: &[f64; 2]| {
            let fits = usable(Scale::Linear, p[0]) && usable(Scale::Linear, p[1]);
            fits.then(|| {
                [(WIDTH - w) / 2.0 + x.place(p[0]) * w, (height + h) / 2.0 - y.place(p[1]) * h]
            })
        })
    } else {
        let mut frame = Frame::new(WIDTH, height, x, y);
        out += &std::mem::take(&mut frame.drawn);
        Box::new(move |p: &[f64; 2]| {
            let fits = usable(frame.x.axis.scale, p[0]) && usable(frame.y.axis.scale, p[1]);
            fits.then(|| [frame.px(p[0]), frame.py(p[1])])
        })
    };
    let total = points().count();
    let size = match total {
        0..=300 => 3.0,
        301..=1500 => 2.3,
        _ => 1.7,
    };
    for class in &chart.classes {
        let places = class.points.iter().filter_map(&place);
        let path: String = places.map(|[x, y]| symbol(class.shape, x, y, size)).collect();
        out += &points_path(class.shape, class.colour, size, &path);
    }
    for trend in &chart.trends {
        let places: Vec<String> = trend
            .points
            .iter()
            .filter_map(&place)
            .map(|[x, y]| format!("{} {}", c(x), c(y)))
            .collect();
        if places.len() > 1 {
            let path = places.join("L");
            out += &format!("<path class=\"halo\" d=\"M{path}\"/>");
            out += &format!("<path class=\"line s{}\" d=\"M{path}\"/>", style(trend.colour));
        }
    }
    // The class that is drawn last lies on top, and is named first.
    let mut legend: Vec<(String, String)> = chart
        .classes
        .iter()
        .rev()
        .map(|class| {
            let path = symbol(class.shape, 12.0, 6.0, 4.0);
            let name = format!("{} ({})", class.name, class.points.len());
            (points_path(class.shape, class.colour, 4.0, &path), name)
        })
        .collect();
    let solid = |k: usize| format!("<path class=\"line s{}\" d=\"M1 6H23\"/>", style(k));
    legend.extend(chart.trends.iter().map(|t| (solid(t.colour), t.name.clone())));
    let names: Vec<String> =
        chart.classes.iter().map(|c| format!("{} {}", c.points.len(), c.name)).collect();
    Some(Drawing {
        size: [WIDTH, height],
        content: out,
        legend,
        description: format!("Points of {} classes: {}.", chart.classes.len(), names.join(", ")),
        table: scatter_table(chart),
    })
}

/// A symbol as a part of a path: thousands of them are one element.
fn symbol(shape: Shape, x: f64, y: f64, r: f64) -> String {
    let (x0, y0) = (c(x), c(y));
    let d = |v: f64| c(v * r);
    match shape {
        // A line of no length with a round end.
        Shape::Circle => format!("M{x0} {y0}h0"),
        Shape::Triangle => {
            format!("M{x0} {}l{} {}h-{}z", c(y - 1.15 * r), d(1.1), d(1.95), d(2.2))
        }
        Shape::Plus => {
            format!("M{} {y0}h{}M{x0} {}v{}", c(x - r), d(2.0), c(y - r), d(2.0))
        }
        Shape::Cross => {
            let (left, top, side) = (c(x - 0.8 * r), c(y - 0.8 * r), d(1.6));
            let bottom = c(y + 0.8 * r);
            format!("M{left} {top}l{side} {side}M{left} {bottom}l{side}-{side}")
        }
    }
}

fn points_path(shape: Shape, colour: usize, size: f64, path: &str) -> String {
    let k = style(colour);
    match shape {
        Shape::Circle => {
            let width = c(2.0 * size);
            format!("<path class=\"spots s{k}\" style=\"stroke-width:{width}\" d=\"{path}\"/>")
        }
        Shape::Triangle => format!("<path class=\"filled s{k}\" d=\"{path}\"/>"),
        Shape::Plus | Shape::Cross => {
            let width = c(0.45 * size + 0.2);
            format!("<path class=\"strokes s{k}\" style=\"stroke-width:{width}\" d=\"{path}\"/>")
        }
    }
}

/// Mean and deviation of each class: a table of thousands of points is of no use.
fn scatter_table(chart: &Scatter) -> Table {
    let label = |axis: &Option<Axis>, other: &str| match axis {
        Some(axis) => axis.label.clone(),
        None => other.to_owned(),
    };
    let (x, y) = (label(&chart.x, "across"), label(&chart.y, "up"));
    let columns = vec![
        Column::text("class"),
        Column::number("points"),
        Column::number(format!("{x}: mean")),
        Column::number("deviation"),
        Column::number(format!("{y}: mean")),
        Column::number("deviation"),
    ];
    let row = |class: &crate::document::PointClass| {
        let mut cells =
            vec![Cell::text(class.name.clone()), Cell::text(class.points.len().to_string())];
        for axis in 0..2 {
            let values: Vec<f64> =
                class.points.iter().map(|p| p[axis]).filter(|v| v.is_finite()).collect();
            let (mean, deviation) = lens_core::metrics::mean_and_deviation(values.iter().copied());
            cells.push(number(mean));
            cells.push(number(deviation));
        }
        TableRow::plain(cells)
    };
    Table { caption: String::new(), columns, rows: chart.classes.iter().map(row).collect() }
}
