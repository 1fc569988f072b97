//! Best-of-n on the page: the curve, its fit, and the gain at every n.

use super::{columns, estimate, percent, row, table};
use lens_eval::figures::best_of_n::BestOfN;
use lens_report::text::thousands;
use lens_report::{Axis, Block, Cell, Chart, ChartKind, Format, LinePoint, Lines, Series};

pub(super) fn best_of_n(found: &BestOfN) -> Vec<Block> {
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
