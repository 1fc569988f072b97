//! Axes: their range, their ticks, and where a value stands on them.

use crate::document::{Axis, Format, Scale};
use crate::escape::escape;

/// Widths are in units of the drawing, whose text is 12 high: what the widest of the usual fonts take.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().map(|c| if c == '%' { 11.6 } else { 7.6 }).sum()
}

/// Whether a value can be drawn on this scale; beyond these limits differences overflow.
pub(super) fn usable(scale: Scale, value: f64) -> bool {
    match scale {
        Scale::Linear => value.abs() < 1e150,
        Scale::Log2 | Scale::Log10 => (1e-150..1e150).contains(&value),
    }
}

/// An axis with its range.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) axis: Axis,
    /// Logarithms, on logarithmic scales.
    low: f64,
    high: f64,
}

impl Range {
    /// The range of the usable ones among `values`; `None` where there is none. `margin` is the
    /// share of the range that is left free at both ends.
    pub(super) fn of(axis: &Axis, values: impl Iterator<Item = f64>, margin: f64) -> Option<Self> {
        let mut range = Range { axis: axis.clone(), low: f64::INFINITY, high: f64::NEG_INFINITY };
        for v in values.filter(|&v| usable(axis.scale, v)) {
            let v = range.inner(v);
            range.low = range.low.min(v);
            range.high = range.high.max(v);
        }
        if range.low > range.high {
            return None;
        }
        let width = range.high - range.low;
        // A range that rounding alone explains is none.
        if width <= 1e-9 * range.low.abs().max(range.high.abs()) || width < 1e-140 {
            let around = match axis.scale {
                Scale::Linear if range.low.abs() < 1e-140 => 1.0,
                Scale::Linear => 0.1 * range.low.abs(),
                Scale::Log2 | Scale::Log10 => 0.5,
            };
            range.low -= around;
            range.high += around;
        } else {
            range.low -= margin * width;
            range.high += margin * width;
        }
        Some(range)
    }

    /// From `low` to `high`, on a linear axis.
    pub(super) fn fixed(axis: Axis, low: f64, high: f64) -> Self {
        Range { axis, low, high }
    }

    fn inner(&self, value: f64) -> f64 {
        match self.axis.scale {
            Scale::Linear => value,
            Scale::Log2 => value.log2(),
            Scale::Log10 => value.log10(),
        }
    }

    fn outer(&self, inner: f64) -> f64 {
        match self.axis.scale {
            Scale::Linear => inner,
            Scale::Log2 => inner.exp2(),
            Scale::Log10 => 10f64.powf(inner),
        }
    }

    /// Where a value stands between 0 and 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        ((self.inner(value) - self.low) / (self.high - self.low)).clamp(-0.1, 1.1)
    }

    /// The width of the range in its own measure.
    pub(super) fn width(&self) -> f64 {
        self.high - self.low
    }

    /// At most about `most` ticks: where they stand between 0 and 1, and their labels.
    pub(super) fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let most = most.max(2) as f64;
        match self.axis.scale {
            Scale::Linear => self.linear_ticks(nice((self.high - self.low) / most)),
            Scale::Log2 => {
                let step = ((self.high - self.low) / most).ceil().max(1.0);
                self.powers(step, &[1.0])
            }
            Scale::Log10 => {
                let decades = self.high - self.low;
                if decades < 0.7 {
                    // Less than a decade: even ticks of the values themselves.
                    let (low, high) = (self.outer(self.low), self.outer(self.high));
                    let axis = Axis { scale: Scale::Linear, ..self.axis.clone() };
                    let even = Range { axis, low, high };
                    let step = nice((high - low) / most);
                    return even
                        .tick_values(step)
                        .into_iter()
                        .map(|v| (self.place(v), even.label(v, step)))
                        .collect();
                }
                let between: &[f64] = match decades * 3.0 <= most {
                    true => &[1.0, 2.0, 5.0],
                    false => &[1.0],
                };
                self.powers((decades / most).ceil().max(1.0), between)
            }
        }
    }

    fn linear_ticks(&self, step: f64) -> Vec<(f64, String)> {
        let values = self.tick_values(step);
        values.into_iter().map(|v| (self.place(v), self.label(v, step))).collect()
    }

    fn tick_values(&self, step: f64) -> Vec<f64> {
        let first = (self.low / step - 1e-9).ceil();
        let last = (self.high / step + 1e-9).floor();
        // Never more than fit, whatever the rounding of extreme ranges.
        (0..64).map(|i| first + f64::from(i)).take_while(|&i| i <= last).map(|i| i * step).collect()
    }

    fn powers(&self, step: f64, between: &[f64]) -> Vec<(f64, String)> {
        let first = (self.low / step).floor();
        (0..64)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|&power| power <= self.high + 1e-9)
            .flat_map(|power| between.iter().map(move |&b| (power, b)))
            .map(|(power, b)| self.outer(power) * b)
            .filter(|&v| (-1e-6..=1.0 + 1e-6).contains(&self.place(v)))
            .map(|v| (self.place(v), self.label(v, v)))
            .collect()
    }

    /// A tick's label, with no more digits than the step needs.
    fn label(&self, value: f64, step: f64) -> String {
        let digits = |step: f64| (-(step * 1.000_001).log10().floor()).clamp(0.0, 12.0) as usize;
        match self.axis.format {
            Format::Percent => format!("{}%", trimmed(100.0 * value, digits(100.0 * step))),
            Format::Points => {
                let text = trimmed(100.0 * value, digits(100.0 * step));
                if value > 0.0 { format!("+{text}") } else { text }
            }
            Format::Number if value != 0.0 && (step < 1e-5 || value.abs() >= 1e7) => {
                format!("{value:.1e}")
            }
            Format::Number => trimmed(value, digits(step)),
        }
    }
}

/// With thousands separated, and without a minus before zero.
fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, format!(".{rest}")),
        None => (text.as_str(), String::new()),
    };
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && whole.len() > 3 {
            grouped.push(',');
        }
        grouped.push(c);
    }
    let zero = text.chars().all(|c| matches!(c, '0' | '.'));
    // A minus sign is as wide as a digit, a hyphen is not.
    format!("{}{grouped}{rest}", if value < 0.0 && !zero { "\u{2212}" } else { "" })
}

/// The next larger of 1, 2, 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = step / power;
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|&n| factor <= n * 1.000_001);
    nice.unwrap_or(10.0) * power
}

/// A coordinate, to a tenth of a unit.
pub(super) fn c(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The part of a drawing between its axes, and the axes drawn.
pub(super) struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    pub(super) x: Range,
    pub(super) y: Range,
    /// Grid, ticks and labels.
    pub(super) drawn: String,
}

impl Frame {
    pub(super) fn new(width: f64, height: f64, x: Range, y: Range) -> Self {
        let rows = y.ticks(6);
        let widest = rows.iter().map(|(_, label)| text_width(label)).fold(0.0, f64::max);
        let (left, right) = ((widest + 10.0).min(width / 3.0), width - 14.0);
        let (top, bottom) = (28.0, height - 44.0);
        let columns = columns(&x, right - left);
        let mut frame = Frame { left, right, top, bottom, x, y, drawn: String::new() };
        let mut out = String::new();
        for (place, label) in &rows {
            let y = bottom - place * (bottom - top);
            out += &format!(
                "<path class=\"grid\" d=\"M{} {}H{}\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
                c(left),
                c(y),
                c(right),
                c(left - 7.0),
                c(y + 4.0)
            );
        }
        for (place, label) in &columns {
            let x = left + place * (right - left);
            // A label at the edge is not cut.
            let half = text_width(label) / 2.0;
            let at = x.min(width - half).max(half);
            out += &format!(
                "<path class=\"mark\" d=\"M{} {}v5\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                c(x),
                c(bottom),
                c(at),
                c(bottom + 18.0)
            );
        }
        out += &format!("<path class=\"base\" d=\"M{} {}H{}\"/>", c(left), c(bottom), c(right));
        out += &format!(
            "<text class=\"axis\" x=\"0\" y=\"12\">{}</text>\
             <text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            escape(&frame.y.axis.label),
            c(right),
            c(height - 6.0),
            escape(&frame.x.axis.label)
        );
        frame.drawn = out;
        frame
    }

    pub(super) fn px(&self, x: f64) -> f64 {
        self.left + self.x.place(x) * (self.right - self.left)
    }

    pub(super) fn py(&self, y: f64) -> f64 {
        self.bottom - self.y.place(y) * (self.bottom - self.top)
    }

    /// `x y`, or nothing where that cannot be drawn.
    pub(super) fn point(&self, x: f64, y: f64) -> Option<String> {
        let fits = usable(self.x.axis.scale, x) && usable(self.y.axis.scale, y);
        fits.then(|| format!("{} {}", c(self.px(x)), c(self.py(y))))
    }

    /// The baseline.
    pub(super) fn bottom(&self) -> f64 {
        self.bottom
    }

    /// A vertical mark with its label, in the `row`th row from the top.
    pub(super) fn vertical(&self, x: f64, label: &str, row: usize) -> String {
        if !usable(self.x.axis.scale, x) || !(0.0..=1.0).contains(&self.x.place(x)) {
            return String::new();
        }
        let at = self.px(x);
        let to_the_right = at + 5.0 + text_width(label) <= self.right;
        let (anchor, dx) = if to_the_right { ("start", 5.0) } else { ("end", -5.0) };
        format!(
            "<path class=\"guide\" d=\"M{} {}V{}\"/>\
             <text class=\"note\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            c(at),
            c(self.top),
            c(self.bottom),
            c(at + dx),
            c(self.top + 9.0 + 15.0 * row as f64),
            escape(label)
        )
    }

    /// A horizontal mark with its label at the right end, above it.
    pub(super) fn horizontal(&self, y: f64, label: &str) -> String {
        if !usable(self.y.axis.scale, y) || !(0.0..=1.0).contains(&self.y.place(y)) {
            return String::new();
        }
        let at = self.py(y);
        format!(
            "<path class=\"guide\" d=\"M{} {}H{}\"/>\
             <text class=\"note\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            c(self.left),
            c(at),
            c(self.right),
            c(self.right - 2.0),
            c(if at - 16.0 > self.top { at - 5.0 } else { at + 14.0 }),
            escape(label)
        )
    }
}

/// As many ticks as their labels leave room for.
fn columns(x: &Range, width: f64) -> Vec<(f64, String)> {
    for most in (3..=9).rev() {
        let ticks = x.ticks(most);
        let needed = |pair: &[(f64, String)]| {
            text_width(&pair[0].1) / 2.0 + text_width(&pair[1].1) / 2.0 + 8.0
        };
        let fits = |pair: &[(f64, String)]| (pair[1].0 - pair[0].0) * width >= needed(pair);
        if ticks.windows(2).all(fits) {
            return ticks;
        }
    }
    let ticks = x.ticks(2);
    let last = ticks.len().saturating_sub(1);
    ticks.into_iter().enumerate().filter(|(i, _)| *i == 0 || *i == last).map(|(_, t)| t).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn labels(axis: &Axis, low: f64, high: f64) -> Vec<String> {
        let range = Range::of(axis, [low, high].into_iter(), 0.0).unwrap();
        range.ticks(6).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_stand_on_round_numbers() {
        let linear = Axis::linear("x");
        assert_eq!(labels(&linear, 0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&linear, 1.0, 100.0), ["20", "40", "60", "80", "100"]);
        assert_eq!(labels(&linear, -2000.0, 2000.0), ["−2,000", "−1,000", "0", "1,000", "2,000"]);
        assert_eq!(
            labels(&Axis::percent("x"), 0.5, 0.6),
            ["50%", "52%", "54%", "56%", "58%", "60%"]
        );
        let log = Axis::linear("F").scaled(Scale::Log2);
        assert_eq!(labels(&log, 1.0, 4096.0), ["1", "4", "16", "64", "256", "1,024", "4,096"]);
        assert_eq!(labels(&log, 1.0, 16.0), ["1", "2", "4", "8", "16"]);
        let log = Axis::linear("n").scaled(Scale::Log10);
        assert_eq!(labels(&log, 10.0, 10_000.0), ["10", "100", "1,000", "10,000"]);
        assert_eq!(labels(&log, 100.0, 1000.0), ["100", "200", "500", "1,000"]);
        assert_eq!(labels(&log, 100.0, 300.0), ["100", "150", "200", "250", "300"]);
    }

    #[test]
    fn no_range_is_too_strange() {
        let linear = Axis::linear("x");
        let none = Range::of(&linear, [f64::NAN, f64::INFINITY].into_iter(), 0.0);
        assert!(none.is_none());
        for (low, high) in
            [(5.0, 5.0), (0.0, 0.0), (-1e149, 1e149), (1e-300, 2e-300), (7.0, 7.0 + 1e-15)]
        {
            let range = Range::of(&linear, [low, high].into_iter(), 0.05).unwrap();
            let ticks = range.ticks(6);
            assert!(!ticks.is_empty() && ticks.len() < 14, "{low} {high} {ticks:?}");
            assert!(ticks.iter().all(|t| t.0.is_finite()));
            assert!((0.0..=1.0).contains(&range.place(low)));
        }
        for scale in [Scale::Log2, Scale::Log10] {
            let axis = Axis::linear("x").scaled(scale);
            assert!(Range::of(&axis, [0.0, -1.0].into_iter(), 0.0).is_none());
            for (low, high) in [(1.0, 1.0), (1e-140, 1e140), (3.0, 3.1)] {
                let range = Range::of(&axis, [low, high].into_iter(), 0.05).unwrap();
                let ticks = range.ticks(6);
                assert!(ticks.len() < 14 && ticks.iter().all(|t| t.0.is_finite()), "{ticks:?}");
            }
        }
    }
}
