//! The report's part on held-out pairs: how rewards are distributed, how far they can be believed,
//! and which pairs are ranked worst.

use super::Made;
use crate::error::CliError;
use crate::evaluation::{Accuracy, PairRewards, longer_baseline};
use crate::output::{percent, thousands};
use crate::saving::Sources;
use lens_core::metrics::{Estimate, credit};
use lens_core::{Content, EmbeddedPairs, PreferencePair, RewardModel};
use lens_data::Row;
use lens_data::bundle::Kept;
use lens_report::{
    Axis, Block, Calibration, CalibrationBin, Chart, ChartKind, Example, Format, Histogram,
    PointClass, Scale, Scatter, Section, Shape, Trend, shortened,
};

/// Pairs that are shown with their texts.
const WORST: usize = 10;
/// Characters of a text that the page holds.
const LONGEST: usize = 2000;
/// Most pairs whose rewards are drawn against their lengths.
const MOST_POINTS: usize = 1000;

/// A head on the held-out pairs.
pub struct Scores {
    rewards: PairRewards,
    /// Share of pairs ordered as labelled.
    pub accuracy: Accuracy,
    /// Log-loss.
    pub log_loss: f64,
}

impl Scores {
    fn of(model: &RewardModel, pairs: &EmbeddedPairs, seed: u64) -> Result<Option<Self>, CliError> {
        let rewards = PairRewards::of(model, pairs)?;
        let figures = rewards.figures(&pairs.prompts, seed);
        Ok(figures.map(|(accuracy, log_loss)| Scores { rewards, accuracy, log_loss }))
    }
}

/// What the held-out pairs say.
pub struct Judged<'a> {
    none: Scores,
    augmented: Option<Scores>,
    /// The model that training went on from.
    pub earlier: Option<Scores>,
    kept: Kept,
    /// Accuracy with augmentation less that without.
    pub difference: Option<Estimate>,
    /// Accuracy of preferring the longer answer.
    pub longer_wins: Option<f64>,
    /// Of the saved head: reward of the chosen less that of the rejected response, a pair each.
    pub margins: Vec<f64>,
    rows: &'a [Row<PreferencePair>],
}

impl<'a> Judged<'a> {
    /// Scores the held-out pairs; `None` where there is none.
    pub fn of(
        made: &Made<'_>,
        sources: &Sources<'_>,
        pairs: &EmbeddedPairs,
        rows: &'a [Row<PreferencePair>],
    ) -> Result<Option<Self>, CliError> {
        let seed = made.settings.seed;
        let Some(none) = Scores::of(&made.outcome.none.model, pairs, seed)? else {
            return Ok(None);
        };
        let augmented = match &made.outcome.augmented {
            Some(a) => Scores::of(&a.fitted.model, pairs, seed)?,
            None => None,
        };
        let earlier = match sources.history.earlier {
            Some(e) => Scores::of(&e.bundle.model, pairs, seed)?,
            None => None,
        };
        let difference =
            augmented.as_ref().and_then(|a| a.rewards.minus(&none.rewards, &pairs.prompts, seed));
        let longer_wins = longer_baseline(rows.iter().map(|r| &r.value));
        let kept = made.kept;
        let mut judged = Judged {
            none,
            augmented,
            earlier,
            kept,
            difference,
            longer_wins,
            margins: Vec::new(),
            rows,
        };
        let rewards = &judged.kept().rewards;
        let margin = |(&a, &b): (&f32, &f32)| f64::from(a) - f64::from(b);
        judged.margins = rewards.chosen.iter().zip(&rewards.rejected).map(margin).collect();
        Ok(Some(judged))
    }

    /// A head's scores.
    pub fn of_head(&self, head: Kept) -> Option<&Scores> {
        match head {
            Kept::None => Some(&self.none),
            Kept::Augmented => self.augmented.as_ref(),
        }
    }

    /// The saved head's.
    pub fn kept(&self) -> &Scores {
        self.of_head(self.kept).unwrap_or(&self.none)
    }

    /// How sure the model is, against how often it is right.
    pub fn sureness(&self) -> String {
        format!("On these pairs {}", sureness(&self.margins, self.kept().accuracy.accuracy))
    }
}

/// How sure a model with these margins is, against the share that it has right.
pub(super) fn sureness(margins: &[f64], right: f64) -> String {
    let n = margins.len().max(1) as f64;
    let sure = margins.iter().map(|m| confidence(*m)).sum::<f64>() / n;
    let verdict = match 100.0 * (sure - right) {
        gap if gap > 3.0 => "it is surer than it should be",
        gap if gap < -3.0 => "it is less sure than it could be",
        _ => "its probabilities can be taken at their word on the whole",
    };
    format!(
        "it is {} sure of its choice on average and right in {}: {verdict}.",
        percent(sure),
        percent(right)
    )
}

/// The probability that Bradley-Terry gives to the response with the higher reward.
pub(super) fn confidence(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin.abs()).exp())
}

/// Distributions, calibration and length.
pub fn section(judged: &Judged<'_>) -> Section {
    let rewards = &judged.kept().rewards;
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let charts = vec![
        Chart {
            title: "Rewards of chosen and rejected responses".into(),
            note:
                "The further apart the two, the better the model tells them apart across prompts."
                    .into(),
            kind: ChartKind::Histogram(Histogram {
                x: "reward".into(),
                groups: vec![
                    ("chosen".into(), wide(&rewards.chosen)),
                    ("rejected".into(), wide(&rewards.rejected)),
                ],
                mark: None,
            }),
        },
        Chart {
            title: "Margins of pairs".into(),
            note:
                "Reward of the chosen less that of the rejected response: what lies left of 0 is \
                   ranked against the label."
                    .into(),
            kind: ChartKind::Histogram(Histogram {
                x: "margin".into(),
                groups: vec![("pairs".into(), judged.margins.clone())],
                mark: Some((0.0, "ranked right \u{2192}".into())),
            }),
        },
        Chart {
            title: "How sure it is, and how often right".into(),
            note:
                "Pairs in groups of equal size by the probability of the preferred response. Below \
                   the diagonal the model is too sure. Bars are 95% intervals."
                    .into(),
            kind: ChartKind::Calibration(Calibration {
                x: "predicted probability".into(),
                y: "share in the right order".into(),
                least: 0.5,
                curves: vec![("saved head".into(), bins(&judged.margins))],
            }),
        },
        length_chart(judged),
    ];
    Section {
        id: "heldout".into(),
        heading: "On held-out pairs".into(),
        blocks: charts.into_iter().map(Block::Chart).collect(),
    }
}

/// Reliability in groups of equal size, fewer where there are few pairs.
fn bins(margins: &[f64]) -> Vec<CalibrationBin> {
    let mut sorted: Vec<f64> = margins.iter().copied().filter(|m| m.is_finite()).collect();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let count = (sorted.len() / 25).clamp(1, 10);
    (0..count)
        .map(|i| &sorted[i * sorted.len() / count..(i + 1) * sorted.len() / count])
        .filter(|bin| !bin.is_empty())
        .map(|bin| {
            let n = bin.len() as f64;
            let predicted = bin.iter().map(|m| confidence(*m)).sum::<f64>() / n;
            let observed = bin.iter().map(|m| credit(*m as f32, 0.0)).sum::<f64>() / n;
            CalibrationBin { predicted, observed, interval: wilson(observed, n), count: bin.len() }
        })
        .collect()
}

/// The 95% interval of Wilson 1927 of a share of `n`.
pub(super) fn wilson(share: f64, n: f64) -> [f64; 2] {
    let z = 1.959_964;
    let middle = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    [middle - half, middle + half].map(|end| (end / (1.0 + z * z / n)).clamp(0.0, 1.0))
}

/// Whether reward is length in disguise.
fn length_chart(judged: &Judged<'_>) -> Chart {
    let rewards = &judged.kept().rewards;
    let length = |content: &Content| content.chars().max(1) as f64;
    let points = |side: &dyn Fn(&PreferencePair) -> &Content, rewards: &[f32]| -> Vec<[f64; 2]> {
        let pairs = judged.rows.iter().zip(rewards);
        pairs.map(|(row, &r)| [length(side(&row.value)), f64::from(r)]).collect()
    };
    let chosen = points(&|p| &p.chosen, &rewards.chosen);
    let rejected = points(&|p| &p.rejected, &rewards.rejected);
    let all: Vec<[f64; 2]> = chosen.iter().chain(&rejected).copied().collect();
    let (trend, correlation) = trend(&all);
    let step = chosen.len().div_ceil(MOST_POINTS).max(1);
    let some = |points: Vec<[f64; 2]>| points.into_iter().step_by(step).collect::<Vec<_>>();
    let shown = chosen.len().div_ceil(step);
    let mut note = "The line is fitted to all responses".to_owned();
    if let Some(r) = correlation {
        note += &format!(", by the logarithm of their length (correlation {})", signed(r));
    }
    note += ". A reward that only follows length is no reward.";
    if step > 1 {
        note += &format!(" Drawn: {} of {} pairs.", thousands(shown as u64), chosen.len());
    }
    let class =
        |name: &str, points, shape, colour| PointClass { name: name.into(), points, shape, colour };
    Chart {
        title: "Reward against length".into(),
        note,
        kind: ChartKind::Scatter(Scatter {
            x: Some(Axis::linear("characters of the response").scaled(Scale::Log10)),
            y: Some(Axis::linear("reward")),
            classes: vec![
                class("rejected", some(rejected), Shape::Triangle, 1),
                class("chosen", some(chosen), Shape::Circle, 0),
            ],
            trends: trend
                .map(|points| Trend { name: "trend of both".into(), colour: 2, points })
                .into_iter()
                .collect(),
        }),
    }
}

/// With its sign.
pub(super) fn signed(value: f64) -> String {
    format!("{value:+.2}").replace('-', "\u{2212}")
}

/// Least squares on the logarithm of the length: two points of the line, and the correlation.
pub(super) fn trend(points: &[[f64; 2]]) -> (Option<Vec<[f64; 2]>>, Option<f64>) {
    let logs: Vec<[f64; 2]> = points.iter().map(|[x, y]| [x.ln(), *y]).collect();
    let mean = |axis: usize| logs.iter().map(|p| p[axis]).sum::<f64>() / logs.len().max(1) as f64;
    let (mx, my) = (mean(0), mean(1));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| logs.iter().map(|p| f(p[0] - mx, p[1] - my)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    let r = xy / (xx * yy).sqrt();
    if !r.is_finite() {
        return (None, None);
    }
    let ends = logs.iter().map(|p| p[0]);
    let (low, high) = (ends.clone().fold(f64::INFINITY, f64::min), ends.fold(0.0, f64::max));
    let at = |x: f64| [x.exp(), my + xy / xx * (x - mx)];
    (Some(vec![at(low), at(high)]), Some(r))
}

/// The pairs that the model ranks most wrongly.
pub fn worst(judged: &Judged<'_>) -> Section {
    let wrong = judged.margins.iter().filter(|m| **m < 0.0).count();
    let mut order: Vec<usize> =
        (0..judged.margins.len()).filter(|&i| judged.margins[i] < 0.0).collect();
    order.sort_by(|&a, &b| judged.margins[a].total_cmp(&judged.margins[b]).then(a.cmp(&b)));
    order.truncate(WORST);
    let mut blocks = Vec::new();
    if order.is_empty() {
        blocks.push(Block::Paragraph("No held-out pair is ranked against its label.".into()));
    } else {
        blocks.push(Block::Paragraph(format!(
            "{} of {} held-out pairs are ranked against their label. These are the {} that the model \
             is most sure of: errors of the model, or of the labels.",
            thousands(wrong as u64),
            thousands(judged.margins.len() as u64),
            order.len()
        )));
        let examples = order.iter().map(|&i| example(judged, i)).collect();
        blocks.push(Block::Examples(examples));
    }
    Section { id: "worst".into(), heading: "Ranked worst".into(), blocks }
}

fn example(judged: &Judged<'_>, i: usize) -> Example {
    let rewards = &judged.kept().rewards;
    let Row { line, value: pair, .. } = &judged.rows[i];
    let figure = |value: f64| Format::Number.show(value, 2);
    let facts = vec![
        ("margin".to_owned(), figure(judged.margins[i])),
        ("reward of chosen".to_owned(), figure(f64::from(rewards.chosen[i]))),
        ("of rejected".to_owned(), figure(f64::from(rewards.rejected[i]))),
        ("sure".to_owned(), percent(confidence(judged.margins[i]))),
    ];
    let text = |name: &str, content: &Content| (name.to_owned(), shown(content));
    Example {
        heading: format!("Line {line}"),
        facts,
        texts: vec![
            text("Prompt", &pair.prompt),
            text("Chosen, by the label", &pair.chosen),
            text("Rejected, which the model prefers", &pair.rejected),
        ],
    }
}

/// A text as the page holds it: turns under their roles, cut where it is long.
pub(super) fn shown(content: &Content) -> String {
    let text = match content {
        Content::Text(text) => text.clone(),
        Content::Messages(messages) => messages
            .iter()
            .map(|m| format!("{}: {}", m.role, m.content))
            .collect::<Vec<_>>()
            .join("\n\n"),
    };
    match shortened(&text, LONGEST) {
        (_, 0) => text,
        (beginning, more) => {
            format!("{beginning}\u{2026}\n[{} more characters]", thousands(more as u64))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reliability_by_hand() {
        // Fifty pairs: the 25 with the smaller margins are right by half, the others always.
        let margins: Vec<f64> = (0..50)
            .map(|i| if i < 25 { if i % 2 == 0 { 0.1 } else { -0.1 } } else { 2.0 })
            .collect();
        let bins = bins(&margins);
        assert_eq!(bins.len(), 2);
        assert!((bins[0].observed - 13.0 / 25.0).abs() < 1e-12);
        assert!((bins[0].predicted - 1.0 / (1.0 + (-0.1f64).exp())).abs() < 1e-12);
        assert_eq!((bins[1].observed, bins[1].count), (1.0, 25));
        // Wilson 1927, as in tables: 25 of 25 gives 86.7% to 100%.
        assert!((bins[1].interval[0] - 0.8668).abs() < 1e-4 && bins[1].interval[1] == 1.0);
        assert!(super::bins(&[]).is_empty());
    }

    #[test]
    fn a_trend_is_that_of_the_logarithm() {
        let points: Vec<[f64; 2]> =
            (1..100).map(|x| [f64::from(x), 2.0 * f64::from(x).ln()]).collect();
        let (line, r) = trend(&points);
        assert!((r.unwrap() - 1.0).abs() < 1e-9);
        assert!((line.unwrap()[1][1] - 2.0 * 99f64.ln()).abs() < 1e-9);
        assert_eq!(trend(&[[5.0, 1.0]; 4]), (None, None));
        assert_eq!(trend(&[]), (None, None));
    }

    #[test]
    fn long_texts_are_cut_with_a_note() {
        let text = shown(&Content::Text("ä".repeat(3500)));
        assert!(text.ends_with("…\n[1,500 more characters]"), "{text}");
        assert_eq!(shown(&Content::Text("short".into())), "short");
    }
}
