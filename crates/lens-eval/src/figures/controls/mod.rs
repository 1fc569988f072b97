//! Controls: how much of the accuracy is left when the model is not given what it should read, and how
//! far a reader would come that reads only what it should not.
//!
//! A control is an accuracy on the same pairs, the mean of [`credit`](lens_core::metrics::credit), and
//! the difference of its credits from those of the model, pair by pair; both have 95% intervals from
//! resampling prompts.
//!
//! - Sides swapped: what was preferred stands as the other. It is 1 - accuracy, or something reads the
//!   order of the sides.
//! - Prompts shuffled ([`other_prompts`]): every pair has the prompt of another. A model that judges the
//!   response as an answer loses by it.
//! - Responses alone: every prompt is empty.
//! - Prompts alone: both sides are the same text, so that every pair is a tie. It is not measured.
//! - Longer and shorter response wins; and, by a logistic fit that is judged on prompts which it was not
//!   fitted to, what any preference for a length, or for simple [`FEATURES`] of the text, comes to.
//!
//! Where the model is not clearly better than such a reader ([`Control::is_clearly_worse`]), the
//! pairs can be told apart by that alone: a leak, or a bias of whoever labelled them.

mod readers;

use super::Measured;
use super::heldout::PairRewards;
use lens_core::metrics::{Estimate, bootstrap, credits};
use lens_core::rng::{Purpose, Stream};
use lens_core::{Content, PreferencePair};
use lens_data::content_key;
pub use readers::{FEATURES, Feature};
use readers::{Reader, by_length, by_shortness, fitted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The accuracy of a control, and how it compares with the model's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Its accuracy, ties as half.
    pub accuracy: Estimate,
    /// Its accuracy minus that of the model, pair by pair.
    pub difference: Estimate,
}

impl Control {
    /// Whether the interval of the difference lies below 0.
    pub fn is_clearly_worse(&self) -> bool {
        self.difference.ci95[1] < 0.0
    }
}

/// The controls of a reward model on some pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Controls {
    /// The sides swapped.
    pub swapped: Control,
    /// Whether the swapped sides have 1 minus the accuracy.
    pub mirrored: bool,
    /// The prompts shuffled.
    pub shuffled_prompts: Measured<Control>,
    /// The responses without their prompts.
    pub responses_alone: Measured<Control>,
    /// The prompts without their responses: never measured, for the reason it has.
    pub prompts_alone: Measured<Control>,
    /// Preferring the longer response.
    pub longer_wins: Control,
    /// Preferring the shorter response.
    pub shorter_wins: Control,
    /// The best preference for a length that was found on other prompts.
    pub length_alone: Measured<Control>,
    /// The best preference for simple features that was found on other prompts.
    pub features_alone: Measured<Control>,
    /// Accuracy of preferring the response with more of each feature, equal ones as half.
    pub more_wins: BTreeMap<String, f64>,
}

/// Rewards of the same pairs, with other texts.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlRewards {
    /// As they are.
    pub real: PairRewards,
    /// With the prompts of [`other_prompts`], or why there are none.
    pub shuffled: Result<PairRewards, String>,
    /// With empty prompts, or why there are none.
    pub alone: Result<PairRewards, String>,
}

/// For each pair the pair whose prompt it gets when prompts are shuffled: one of another prompt, drawn
/// with `seed`; pairs of one prompt get the same. `None` unless there are two different prompts.
///
/// Prompts are equal as [`content_key`] has it; all blank ones are. The different prompts are put in a
/// random order, and each hands its place to the next, the last to the first.
pub fn other_prompts<'a>(
    prompts: impl IntoIterator<Item = &'a Content>,
    seed: u64,
) -> Option<Vec<usize>> {
    // The pairs with which each prompt is first met.
    let mut first: Vec<usize> = Vec::new();
    let mut numbers: BTreeMap<Option<i64>, usize> = BTreeMap::new();
    let number_of = |(pair, prompt): (usize, &Content)| {
        *numbers.entry(content_key(prompt)).or_insert_with(|| {
            first.push(pair);
            first.len() - 1
        })
    };
    let of: Vec<usize> = prompts.into_iter().enumerate().map(number_of).collect();
    if first.len() < 2 {
        return None;
    }
    let mut order: Vec<usize> = (0..first.len()).collect();
    Stream::new(seed, Purpose::Controls, 0).shuffle(&mut order);
    let mut next = vec![0; order.len()];
    for (i, &number) in order.iter().enumerate() {
        next[number] = order[(i + 1) % order.len()];
    }
    Some(of.into_iter().map(|number| first[next[number]]).collect())
}

/// The controls of pairs with their rewards. `prompts` has a number for each pair, equal for equal
/// prompts, which `seed` resamples. `None` without a pair.
pub fn controls(
    rewards: &ControlRewards,
    pairs: &[&PreferencePair],
    prompts: &[u32],
    seed: u64,
) -> Option<Controls> {
    let ControlRewards { real, shuffled, alone } = rewards;
    let against = Against { credits: credits(&real.chosen, &real.rejected), prompts, seed };
    let of_rewards = |found: &Result<PairRewards, String>| match found {
        Ok(PairRewards { chosen, rejected }) => {
            Measured::or_absent(against.control(&credits(chosen, rejected)), "there is no pair")
        }
        Err(why) => Measured::absent(why.as_str()),
    };
    let of_reader = |reader: &Reader| against.control(&reader.credits(pairs));
    let of_fit = |features: fn(&Content) -> Vec<f64>| match fitted(pairs, features, prompts, seed) {
        Ok(credits) => Measured::or_absent(against.control(&credits), "there is no pair"),
        Err(why) => Measured::absent(why),
    };
    let swapped = against.control(&credits(&real.rejected, &real.chosen))?;
    let accuracy = against.control(&against.credits)?.accuracy.value;
    let more = |feature: &Feature| {
        let credits = Reader::more(feature.count).credits(pairs);
        (feature.name.to_owned(), credits.iter().sum::<f64>() / credits.len() as f64)
    };
    Some(Controls {
        mirrored: (accuracy + swapped.accuracy.value - 1.0).abs() < 1e-9,
        swapped,
        shuffled_prompts: of_rewards(shuffled),
        responses_alone: of_rewards(alone),
        prompts_alone: Measured::absent(
            "without its responses a pair has the same text on both sides: every pair is a tie, 50%",
        ),
        longer_wins: of_reader(&by_length())?,
        shorter_wins: of_reader(&by_shortness())?,
        length_alone: of_fit(readers::length),
        features_alone: of_fit(readers::features),
        more_wins: FEATURES.iter().map(more).collect(),
    })
}

/// What controls are compared with: the model's credits.
struct Against<'a> {
    credits: Vec<f64>,
    prompts: &'a [u32],
    seed: u64,
}

impl Against<'_> {
    fn control(&self, credits: &[f64]) -> Option<Control> {
        let ones = vec![1.0; credits.len()];
        let estimate = |totals: &[f64]| bootstrap(totals, &ones, self.prompts, self.seed);
        let difference: Vec<f64> = credits.iter().zip(&self.credits).map(|(a, b)| a - b).collect();
        Some(Control { accuracy: estimate(credits)?, difference: estimate(&difference)? })
    }
}

impl Controls {
    /// Every control with its name in words, in the order in which they are shown.
    pub fn listed(&self) -> [(&'static str, Measured<Control>); 8] {
        let present = |control: &Control| Measured::Present(*control);
        [
            ("sides swapped", present(&self.swapped)),
            ("prompts shuffled", self.shuffled_prompts.clone()),
            ("responses alone", self.responses_alone.clone()),
            ("prompts alone", self.prompts_alone.clone()),
            ("longer answer wins", present(&self.longer_wins)),
            ("shorter answer wins", present(&self.shorter_wins)),
            ("length alone", self.length_alone.clone()),
            ("simple features alone", self.features_alone.clone()),
        ]
    }

    /// What is to be thought of them, in sentences; none where every control is as it should be.
    pub fn findings(&self) -> Vec<String> {
        let mut said = Vec::new();
        if !self.mirrored {
            said.push("with the sides swapped the accuracy is not mirrored".to_owned());
        }
        let as_good =
            |found: &Measured<Control>| found.get().is_some_and(|c| !c.is_clearly_worse());
        if as_good(&self.shuffled_prompts) {
            said.push(
                "with the prompts of other pairs the model is not clearly worse: on these pairs it \
                 judges the response, not whether it answers the prompt"
                    .to_owned(),
            );
        }
        if as_good(&self.responses_alone) {
            said.push(
                "without any prompt the model is not clearly worse: the responses alone tell which \
                 is preferred"
                    .to_owned(),
            );
        }
        let readers = [
            ("preferring the longer answer", Measured::Present(self.longer_wins)),
            ("preferring the shorter answer", Measured::Present(self.shorter_wins)),
            ("a preference for a length", self.length_alone.clone()),
            ("a preference for simple features of the text", self.features_alone.clone()),
        ];
        for (reader, _) in readers.iter().filter(|(_, found)| as_good(found)) {
            said.push(format!("{reader} is not clearly worse than the model"));
        }
        said
    }
}

#[cfg(test)]
mod tests;
