//! What is on the page of pairs: calibration, length, and the examples that are ranked worst.

use super::super::heldout::{confidence, shown, signed, trend, wilson};
use super::{columns, count, estimate, percent, row, share, table};
use lens_eval::figures::calibration::{self, Calibration};
use lens_eval::figures::controls::{Control, Controls};
use lens_eval::figures::heldout::difference_in_words;
use lens_eval::figures::length::{Length, Share};
use lens_eval::figures::{Benchmark, Measured, worst};
use lens_report::text::thousands;
use lens_report::{
    Axis, Block, Calibration as Curves, CalibrationBin, Cell, Chart, ChartKind, Example, Format,
    PointClass, Scale, Scatter, Shape, TableRow, Trend,
};

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

pub(super) fn calibrated(found: &Calibration) -> Vec<Block> {
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

pub(super) fn length(found: &Length) -> Vec<Block> {
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

pub(super) fn controls(found: &Controls) -> Vec<Block> {
    let one = |(name, control): (&str, Measured<Control>)| match control {
        Measured::Present(c) => {
            row(name, vec![estimate(&c.accuracy), Cell::text(difference_in_words(&c.difference))])
        }
        Measured::Absent { absent } => row(name, vec![Cell::text("none"), Cell::text(absent)]),
    };
    let rows = found.listed().into_iter().map(one).collect();
    let more = |(name, value): (&String, &f64)| {
        (format!("more {} wins", name.replace('_', " ")), percent(*value))
    };
    vec![
        table(
            "What is left without what the model should read, and what reading something else is \
             worth; the last column is against the model, pair by pair",
            columns("control", &["accuracy, 95% interval", "difference"]),
            rows,
        ),
        Block::KeyValues(found.more_wins.iter().map(more).collect()),
    ]
}

pub(super) fn worst_examples(found: &[worst::Example], kind: Benchmark) -> Vec<Block> {
    if found.is_empty() {
        return vec![Block::Paragraph("None is shown that is ranked against its label.".into())];
    }
    let [better, worse, of_whom] = match kind {
        Benchmark::BestOfN => ["The judge's pick", "The model's pick", "judge"],
        _ => ["Better, by the label", "Worse, which the model prefers", "label"],
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
        "The {} that the model is most sure of against the {of_whom}: errors of the model, or of the \
         {of_whom}.",
        found.len()
    );
    vec![Block::Paragraph(intro), Block::Examples(found.iter().map(example).collect())]
}
