//! The page as somebody with hostile texts and strange figures gets it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

mod markdown;

const HOSTILE: &str = "</style></title></svg><script>alert(1)</script>\0\u{202e}\" onload='x' <!--";

fn chart(kind: ChartKind) -> Block {
    Block::Chart(Chart { title: HOSTILE.into(), note: HOSTILE.into(), kind })
}

fn lines(points: Vec<LinePoint>, scale: Scale) -> ChartKind {
    let axis = Axis::linear(HOSTILE).scaled(scale);
    let series = vec![
        Series { name: HOSTILE.into(), points: points.clone() },
        Series { name: "empty".into(), points: Vec::new() },
    ];
    ChartKind::Lines(Lines {
        x: axis,
        y: Axis::percent("share"),
        series,
        marks: vec![(2.0, HOSTILE.into()), (f64::NAN, "nowhere".into())],
        levels: vec![(0.5, HOSTILE.into())],
    })
}

fn everything() -> Report {
    let band = |x: f64| LinePoint { x, y: x / 9.0, interval: Some([x / 10.0, x / 8.0]) };
    let bin = |p: f64| CalibrationBin {
        predicted: p,
        observed: p * p,
        interval: [p * p - 0.1, p * p + 0.1],
        count: 30,
    };
    let class = |shape, colour| PointClass {
        name: HOSTILE.into(),
        points: (0..50).map(|i| [f64::from(i), f64::from(i * i % 37)]).collect(),
        shape,
        colour,
    };
    let classes: Vec<PointClass> = [Shape::Circle, Shape::Triangle, Shape::Plus, Shape::Cross]
        .into_iter()
        .enumerate()
        .map(|(i, s)| class(s, i))
        .collect();
    let axes = Scatter {
        x: Some(Axis::linear("length").scaled(Scale::Log10)),
        y: Some(Axis::linear("reward")),
        classes: classes.clone(),
        trends: vec![Trend {
            name: HOSTILE.into(),
            colour: 0,
            points: vec![[1.0, 1.0], [40.0, 9.0]],
        }],
    };
    let interval =
        |v: f64| Cell::Interval { value: v, low: v - 0.1, high: v + 0.1, format: Format::Percent };
    let row = |v: f64| TableRow { cells: vec![Cell::text(HOSTILE), interval(v)], highlight: true };
    let blocks = vec![
        Block::Paragraph(HOSTILE.into()),
        Block::KeyValues(vec![(HOSTILE.into(), HOSTILE.into())]),
        Block::Table(Table {
            caption: HOSTILE.into(),
            columns: vec![Column::text(HOSTILE), Column::number("accuracy")],
            rows: vec![row(0.5), row(0.7), TableRow::default()],
        }),
        chart(lines((1..9).map(f64::from).map(band).collect(), Scale::Log2)),
        chart(ChartKind::Calibration(Calibration {
            x: HOSTILE.into(),
            y: "observed".into(),
            least: 0.5,
            curves: vec![(HOSTILE.into(), vec![bin(0.55), bin(0.7), bin(0.95)])],
        })),
        chart(ChartKind::Histogram(Histogram {
            x: HOSTILE.into(),
            groups: vec![
                (HOSTILE.into(), (0..100).map(f64::from).collect()),
                ("other".into(), (50..150).map(f64::from).collect()),
            ],
            mark: Some((60.0, HOSTILE.into())),
        })),
        chart(ChartKind::Scatter(Scatter { classes, ..Scatter::default() })),
        chart(ChartKind::Scatter(axes)),
        Block::Examples(vec![Example {
            heading: HOSTILE.into(),
            facts: vec![(HOSTILE.into(), HOSTILE.into())],
            texts: vec![
                (HOSTILE.into(), HOSTILE.into()),
                ("long".into(), HOSTILE.repeat(200)),
                ("one line".into(), "x".repeat(100_000)),
            ],
        }]),
        Block::Folded {
            summary: HOSTILE.into(),
            blocks: vec![Block::Code {
                caption: HOSTILE.into(),
                language: String::new(),
                text: HOSTILE.into(),
            }],
        },
    ];
    let section = Section { id: HOSTILE.into(), heading: HOSTILE.into(), blocks };
    Report {
        title: HOSTILE.into(),
        subtitle: HOSTILE.into(),
        summary: vec![HOSTILE.into()],
        headlines: vec![Headline {
            label: HOSTILE.into(),
            value: HOSTILE.into(),
            detail: HOSTILE.into(),
        }],
        sections: vec![section, Section { id: "b".into(), heading: "B".into(), blocks: vec![] }],
    }
}

/// Elements that are opened and not closed, or closed and not opened.
fn unbalanced(html: &str) -> Vec<String> {
    let void = ["meta", "link", "path", "rect", "!doctype"];
    let (mut open, mut wrong): (Vec<String>, Vec<String>) = Default::default();
    let (_, body) = html.split_once("</style>").unwrap();
    for part in body.split('<').skip(1) {
        let tag = part.split_once('>').expect("a tag that ends").0;
        let name = tag.split_whitespace().next().unwrap().trim_end_matches('/');
        if let Some(closed) = name.strip_prefix('/') {
            if open.pop().as_deref() != Some(closed) {
                wrong.push(tag.to_owned());
            }
        } else if !void.contains(&name) {
            open.push(name.to_owned());
        }
    }
    wrong.extend(open.into_iter().filter(|o| o != "html" && o != "head"));
    wrong.retain(|w| w != "/head" && w != "/html");
    wrong
}

#[test]
fn a_page_of_hostile_texts_is_well_formed_and_runs_nothing() {
    let html = everything().to_html();
    assert_eq!(unbalanced(&html), Vec::<String>::new());
    assert!(!html.contains("<script") && !html.contains("onload='"));
    assert!(!html.contains(['\0', '\u{202e}']));
    assert!(html.contains("Content-Security-Policy\" content=\"default-src 'none'"));
    for outside in ["http:", "https:", "url(", "@import", "src="] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<svg role=\"img\"").count(), 5);
    assert!(!html.contains(" d=\"\"") && !html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn the_same_report_is_the_same_page() {
    assert_eq!(everything().to_html(), everything().to_html());
}

#[test]
fn identifiers_are_used_once() {
    let html = everything().to_html();
    let mut ids: Vec<&str> =
        html.split(" id=\"").skip(1).map(|s| s.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn strange_figures_are_drawn_or_said_to_be_missing() {
    let strange =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 0.0, -0.0, 5e-324, 3.0];
    let mut blocks = Vec::new();
    for scale in [Scale::Linear, Scale::Log2, Scale::Log10] {
        for &x in &strange {
            let points = strange.iter().map(|&y| LinePoint { x, y, interval: Some([y, x]) });
            blocks.push(chart(lines(points.collect(), scale)));
            let points = strange.iter().map(|&y| [x, y]).collect::<Vec<_>>();
            let axis = || Some(Axis::linear("a").scaled(scale));
            let class = PointClass { points, ..PointClass::default() };
            let scatter = |axes: bool| Scatter {
                x: axes.then(axis).flatten(),
                y: axes.then(axis).flatten(),
                classes: vec![class.clone()],
                trends: vec![],
            };
            blocks.push(chart(ChartKind::Scatter(scatter(true))));
            blocks.push(chart(ChartKind::Scatter(scatter(false))));
        }
    }
    for values in [vec![], vec![1.0], vec![2.0; 50], strange.to_vec(), vec![-1e149, 1e149]] {
        let groups = vec![("a".to_owned(), values.clone()), ("b".to_owned(), vec![])];
        blocks.push(chart(ChartKind::Histogram(Histogram { x: "x".into(), groups, mark: None })));
        let bin =
            |&p: &f64| CalibrationBin { predicted: p, observed: p, interval: [p, p], count: 0 };
        blocks.push(chart(ChartKind::Calibration(Calibration {
            curves: vec![("a".into(), values.iter().map(bin).collect())],
            ..Calibration::default()
        })));
    }
    let html = Report {
        sections: vec![Section { id: "s".into(), heading: "S".into(), blocks }],
        ..Report::default()
    }
    .to_html();
    assert_eq!(unbalanced(&html), Vec::<String>::new());
    let drawn: String = html.split(" d=\"").skip(1).map(|s| s.split('"').next().unwrap()).collect();
    assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "a path that is not a number");
    assert!(html.contains("There is nothing to draw."));
}

#[test]
fn figures_are_written_as_people_write_them() {
    assert_eq!(Format::Percent.show(0.6437, 3), "64.4%");
    assert_eq!(Format::Points.show(-0.0021, 3), "−0.2");
    assert_eq!(Format::Number.show(-0.00001, 2), "0.00");
    assert_eq!(Format::Number.show(3.0, 0), "3");
    assert_eq!(Format::Number.show(f64::NAN, 2), "not a number");
}

#[test]
fn many_columns_of_intervals_are_set_closer() {
    let page = |n: usize| {
        let interval = Cell::Interval { value: 0.5, low: 0.4, high: 0.6, format: Format::Percent };
        let table = Table {
            columns: vec![Column::number("accuracy"); n],
            rows: vec![TableRow::plain(vec![interval; n])],
            ..Table::default()
        };
        let section = Section { blocks: vec![Block::Table(table)], ..Section::default() };
        Report { sections: vec![section], ..Report::default() }.to_html()
    };
    assert!(page(3).contains("<table>") && page(4).contains("<table class=\"dense\">"));
}

#[test]
fn thousands_of_points_are_a_small_drawing() {
    let points: Vec<[f64; 2]> =
        (0..4000).map(|i| [f64::from(i).sin() * 90.0, f64::from(i).cos() * 60.0]).collect();
    let class = PointClass { name: "a".into(), points, ..PointClass::default() };
    let kind = ChartKind::Scatter(Scatter { classes: vec![class], ..Scatter::default() });
    let report = Report {
        sections: vec![Section { blocks: vec![chart(kind)], ..Section::default() }],
        ..Report::default()
    };
    let size = report.to_html().len();
    assert!(size < 80_000, "{size}");
}
