//! Ties and margins of pairs: from where they stand to training, and what is said of them.

use crate::error::CliError;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::{Label, Progress};
use lens_data::ArrayFile;
use serde::Serialize;
use std::path::Path;

/// Key of the margins of stored pairs, `[n]`.
pub const MARGIN_KEY: &str = "margin";
/// Key of the ties among stored pairs, `[n]`: 1 where both responses are as good.
pub const TIE_KEY: &str = "tie";

/// How many pairs of a set have a label beyond which response is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Labels {
    /// Pairs whose responses are as good.
    pub ties: usize,
    /// Pairs with a margin other than 0.
    pub margins: usize,
    #[serde(skip)]
    pairs: usize,
    #[serde(skip)]
    least: f32,
    #[serde(skip)]
    most: f32,
}

impl Labels {
    /// Counts.
    pub fn count(labels: impl Iterator<Item = Label>) -> Self {
        let (least, most) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut found = Labels { ties: 0, margins: 0, pairs: 0, least, most };
        for label in labels {
            found.pairs += 1;
            match label {
                Label::Tie => found.ties += 1,
                Label::Preferred { margin: 0.0 } => {}
                Label::Preferred { margin } => {
                    found.margins += 1;
                    found.least = found.least.min(margin);
                    found.most = found.most.max(margin);
                }
            }
        }
        found
    }

    /// `3 ties, 20 with a margin of 0.5 to 2`; nothing where there is neither.
    pub fn shown(&self) -> Option<String> {
        let Labels { ties, margins, least, most, .. } = self;
        let range = match least == most {
            true => format!("{least}"),
            false => format!("{least} to {most}"),
        };
        let parts = [
            (*ties > 0).then(|| format!("{ties} {}", if *ties == 1 { "tie" } else { "ties" })),
            (*margins > 0).then(|| format!("{margins} with a margin of {range}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Says which labels training uses, and by which settings.
    pub fn note(&self, settings: &Settings, reporter: &Reporter) {
        let Some(shown) = self.shown() else { return };
        let head = &settings.head;
        let mut by = Vec::new();
        if self.ties > 0 {
            by.push(format!("head.tie_threshold = {}", head.tie_threshold));
        }
        if self.margins > 0 {
            let ignored = if head.margin_weight == 0.0 { ": margins are ignored" } else { "" };
            by.push(format!("head.margin_weight = {}{ignored}", head.margin_weight));
        }
        reporter.note(&format!(
            "labels of the {} training pairs: {shown} ({})",
            self.pairs,
            by.join(", ")
        ));
    }
}

/// What a file of embedded pairs says of each, beside the embeddings.
pub fn stored(file: &ArrayFile, path: &Path, pairs: usize) -> Result<Option<Vec<Label>>, CliError> {
    let keys = file.keys();
    let has = |key: &str| keys.iter().any(|k| k == key);
    if !has(MARGIN_KEY) && !has(TIE_KEY) {
        return Ok(None);
    }
    let refused = |what: String| CliError::Refused(format!("{}: {what}", path.display()));
    let margins = match has(MARGIN_KEY) {
        true => file.vector(Some(MARGIN_KEY))?,
        false => vec![0.0; pairs],
    };
    let ties = match has(TIE_KEY) {
        true => file.integers(Some(TIE_KEY))?,
        false => vec![0; pairs],
    };
    for (key, found) in [(MARGIN_KEY, margins.len()), (TIE_KEY, ties.len())] {
        if found != pairs {
            return Err(refused(format!("array `{key}` has {found} values for {pairs} pairs")));
        }
    }
    let label = |(row, (margin, tie)): (usize, (f32, i64))| match (tie, margin) {
        (0, margin) => Ok(Label::Preferred { margin }),
        (1, 0.0) => Ok(Label::Tie),
        (1, margin) => {
            Err(refused(format!("row {row} is a tie, but `{MARGIN_KEY}` is {margin} there")))
        }
        (other, _) => {
            Err(refused(format!("array `{TIE_KEY}`, row {row}: expected 0 or 1, found {other}")))
        }
    };
    margins.into_iter().zip(ties).enumerate().map(label).collect::<Result<_, _>>().map(Some)
}
