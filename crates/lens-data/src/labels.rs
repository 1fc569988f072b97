//! How many pairs of a set carry more than which response is better.

use lens_core::Label;
use serde::Serialize;

/// Counts of the ties and margins of a set of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LabelCounts {
    /// Pairs whose responses are as good as each other.
    pub ties: usize,
    /// Pairs with a margin other than 0.
    pub margins: usize,
    /// All pairs.
    #[serde(skip)]
    pub pairs: usize,
    /// The smallest and the largest margin other than 0; `None` where there is none.
    #[serde(skip)]
    pub margin_range: Option<(f32, f32)>,
}

impl LabelCounts {
    /// Counts labels.
    pub fn count(labels: impl Iterator<Item = Label>) -> LabelCounts {
        let mut counts = LabelCounts { ties: 0, margins: 0, pairs: 0, margin_range: None };
        for label in labels {
            counts.pairs += 1;
            match label {
                Label::Tie => counts.ties += 1,
                Label::Preferred { margin: 0.0 } => {}
                Label::Preferred { margin } => {
                    counts.margins += 1;
                    let (least, most) = counts.margin_range.unwrap_or((margin, margin));
                    counts.margin_range = Some((least.min(margin), most.max(margin)));
                }
            }
        }
        counts
    }

    /// `3 ties, 20 with a margin of 0.5 to 2`; `None` where there is neither.
    pub fn summary(&self) -> Option<String> {
        let LabelCounts { ties, margins, margin_range, .. } = self;
        let margins = margin_range.map(|(least, most)| match least == most {
            true => format!("{margins} with a margin of {least}"),
            false => format!("{margins} with a margin of {least} to {most}"),
        });
        let ties = match ties {
            0 => None,
            1 => Some("1 tie".to_owned()),
            n => Some(format!("{n} ties")),
        };
        let parts: Vec<String> = ties.into_iter().chain(margins).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_margins_are_counted_and_summed_up() {
        let count = |margins: &[f32], ties: usize| {
            let margins = margins.iter().map(|&margin| Label::Preferred { margin });
            LabelCounts::count(margins.chain((0..ties).map(|_| Label::Tie)))
        };
        assert_eq!(count(&[0.0, 0.0], 0).summary(), None);
        assert_eq!(count(&[0.0], 1).summary().as_deref(), Some("1 tie"));
        let counts = count(&[2.0, 0.0, -0.5], 3);
        assert_eq!((counts.pairs, counts.margin_range), (6, Some((-0.5, 2.0))));
        assert_eq!(counts.summary().as_deref(), Some("3 ties, 2 with a margin of -0.5 to 2"));
        let one = count(&[0.5, 0.5], 0).summary();
        assert_eq!(one.as_deref(), Some("2 with a margin of 0.5"));
    }
}
