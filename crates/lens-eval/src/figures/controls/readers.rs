//! Readers that read only what a reward should not hang on: length, and marks that can be counted.

use lens_core::folds::Folds;
use lens_core::head::{HeadKind, HeadSettings, L2};
use lens_core::{
    Content, CoreError, EmbeddedPairs, Matrix, MethodSettings, PreferencePair, Quiet, Threads, fit,
};
use std::cmp::Ordering;

/// Folds of the prompts: each is judged by a fit to the others.
const FOLDS: usize = 5;
/// Weight of the fit's penalty: small, for there are few features, and each goes with the others.
const PENALTY: f64 = 0.01;

/// Something that can be counted in a text.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// How much of it there is.
    pub count: fn(&str) -> usize,
}

/// The simple features: of messages, the sum over all turns.
pub const FEATURES: [Feature; 5] = [
    Feature { name: "characters", count: |text| text.chars().count() },
    Feature { name: "words", count: |text| text.split_whitespace().count() },
    Feature { name: "lines", count: |text| text.lines().count() },
    Feature { name: "markdown", count: markdown },
    Feature { name: "question_marks", count: |text| text.matches('?').count() },
];

/// Marks of markdown: the characters `*`, `` ` ``, `#` and `|`, and lines that begin as an item of a
/// list does, with `- `, `+ ` or a number and `. `.
fn markdown(text: &str) -> usize {
    let item = |line: &str| match line.trim_start().split_once(' ') {
        Some(("-" | "+", _)) => true,
        Some((first, _)) => first
            .strip_suffix('.')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    };
    text.matches(['*', '`', '#', '|']).count() + text.lines().filter(|line| item(line)).count()
}

/// How much of something is in a response.
fn count(of: fn(&str) -> usize, content: &Content) -> usize {
    match content {
        Content::Text(text) => of(text),
        Content::Messages(turns) => turns.iter().map(|turn| of(&turn.content)).sum(),
    }
}

/// Prefers the response of which it counts more, or less.
pub(super) struct Reader {
    count: fn(&str) -> usize,
    less: bool,
}

impl Reader {
    /// Prefers more.
    pub fn more(count: fn(&str) -> usize) -> Reader {
        Reader { count, less: false }
    }

    /// Credit of each pair: 1 if the preferred response is chosen, 1/2 if both have as much, else 0.
    pub fn credits(&self, pairs: &[&PreferencePair]) -> Vec<f64> {
        let right = if self.less { Ordering::Less } else { Ordering::Greater };
        let credit = |pair: &&PreferencePair| match count(self.count, &pair.chosen)
            .cmp(&count(self.count, &pair.rejected))
        {
            Ordering::Equal => 0.5,
            found if found == right => 1.0,
            _ => 0.0,
        };
        pairs.iter().map(credit).collect()
    }
}

/// Prefers the longer response.
pub(super) fn by_length() -> Reader {
    Reader::more(FEATURES[0].count)
}

/// Prefers the shorter response.
pub(super) fn by_shortness() -> Reader {
    Reader { less: true, ..by_length() }
}

/// l = ln(1 + characters) and its square, in which any single most preferred length is a maximum.
pub(super) fn length(content: &Content) -> Vec<f64> {
    let l = (content.chars() as f64).ln_1p();
    vec![l, l * l]
}

/// ln(1 + count) of every feature, and the square of the first.
pub(super) fn features(content: &Content) -> Vec<f64> {
    let of = |feature: &Feature| (count(feature.count, content) as f64).ln_1p();
    let mut all: Vec<f64> = FEATURES.iter().map(of).collect();
    all.push(all[0] * all[0]);
    all
}

/// Credits of a linear reward on features of the response, fitted by logistic regression on the
/// differences of pairs: the logistic head of this program, on standardised features instead of
/// embeddings. The prompts are dealt to [`FOLDS`] folds; the pairs of each are judged by the fit to the
/// others.
///
/// # Errors
/// Why there is no fit, in words.
pub(super) fn fitted(
    pairs: &[&PreferencePair],
    features: fn(&Content) -> Vec<f64>,
    prompts: &[u32],
    seed: u64,
) -> Result<Vec<f64>, String> {
    let folds = Folds::assign(prompts, FOLDS, seed);
    if folds.count() < FOLDS {
        return Err(format!("a fit to other prompts needs {FOLDS} different ones"));
    }
    let embedded = embedded(pairs, features, prompts).map_err(|e| e.to_string())?;
    let settings = MethodSettings {
        augment: 1,
        seed,
        head: HeadSettings {
            kind: HeadKind::Logistic,
            l2: L2::Weight(PENALTY),
            members: 1,
            folds: 1,
            ..HeadSettings::default()
        },
        ..MethodSettings::default()
    };
    let mut credits = vec![0.0; pairs.len()];
    for fold in 0..folds.count() {
        let (own, others): (Vec<usize>, Vec<usize>) =
            (0..pairs.len()).partition(|&pair| folds.of_pairs()[pair] == fold);
        let judged = match fit(&embedded.select(&others), &settings, Threads::ONE, &Quiet) {
            Ok(outcome) => {
                let model = outcome.none.model;
                super::PairRewards::score(&model, &embedded.select(&own), Threads::ONE)
                    .map(|rewards| lens_core::metrics::credits(&rewards.chosen, &rewards.rejected))
            }
            // Nothing differs in any pair: nothing can be told apart by these features.
            Err(CoreError::NoDifference { .. } | CoreError::AllConstant { .. }) => {
                Ok(vec![0.5; own.len()])
            }
            Err(e) => Err(e),
        };
        let judged = judged.map_err(|e| e.to_string())?;
        own.into_iter().zip(judged).for_each(|(pair, credit)| credits[pair] = credit);
    }
    Ok(credits)
}

/// The features of both sides, as embeddings.
fn embedded(
    pairs: &[&PreferencePair],
    features: fn(&Content) -> Vec<f64>,
    prompts: &[u32],
) -> Result<EmbeddedPairs, CoreError> {
    let side = |of: fn(&PreferencePair) -> &Content| {
        let rows = pairs.iter().map(|pair| features(of(pair)));
        let values: Vec<f32> = rows.flatten().map(|value| value as f32).collect();
        let width = values.len().checked_div(pairs.len()).unwrap_or(0);
        Matrix::new(values, pairs.len(), width)
    };
    let (chosen, rejected) = (side(|pair| &pair.chosen)?, side(|pair| &pair.rejected)?);
    EmbeddedPairs::with_prompts(chosen, rejected, prompts.to_vec())
}
