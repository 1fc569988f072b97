//! Views, head and augmentation chosen without peeking: by cross-validation on the seed pairs alone.
//!
//! The pairs are dealt to outer folds. Every candidate head (see `search`) is trained without each of
//! them in turn, with folds of its own inside for whatever it tunes itself, such as when to stop or how
//! strong its penalty is, and judged by the log-loss of the pairs that it did not see. One head on all
//! views is taken unless another is clearly better, and trained again on all pairs. What is tried next, sources of synthetic pairs, all have the
//! winner's views and head; one is taken only where it lowers the log-loss by more than the standard
//! error of the difference.
//!
//! The lowest of many log-losses is too low, so choosing is itself put to the test: the pairs of each
//! outer fold are judged by what the *other* outer folds would have chosen. Those are the figures that
//! are told.

mod search;

pub use search::{Choices, Tried, What};

use lens_core::folds::Folds;
use lens_core::method::FoldGain;
use lens_core::metrics::{Estimate, bootstrap};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress};
use search::{Candidate, Judged, Search};
use serde::Serialize;

/// What the outer folds say, on pairs that what they judge did not see and was not chosen by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nested {
    /// Outer folds.
    pub folds: usize,
    /// Accuracy of the view and head that the search started from, without augmentation.
    pub asked: Estimate,
    /// Accuracy of the chosen views and head, without augmentation.
    pub chosen: Estimate,
    /// `chosen` minus `asked` on the same pairs.
    pub gained: Estimate,
    /// Accuracy with augmentation; `None` where none was tried, or all of it ran away.
    pub augmented: Option<Estimate>,
    /// `augmented` minus `chosen` on the same pairs.
    pub difference: Option<Estimate>,
    /// By how much augmentation lowers the log-loss.
    pub gain: Option<FoldGain>,
}

/// What tuning chose, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Tuned {
    /// Numbers of the views, in their order.
    pub views: Vec<usize>,
    /// Their names.
    pub view_names: Vec<String>,
    /// The settings, with the best augmentation there was (a factor above 1), taken or not; a factor
    /// of 1 where none was tried.
    pub settings: MethodSettings,
    /// Whether augmentation won on the outer folds, and is taken.
    pub augment: bool,
    /// Everything that was tried, in the order in which it was.
    pub tried: Vec<Tried>,
    /// The evidence.
    pub nested: Nested,
}

impl Tuned {
    /// What was chosen, in words: views and head, and the source of synthetic pairs if one is taken.
    pub fn in_words(&self) -> String {
        let best = self.tried.iter().filter(|t| t.best && (self.augment || t.what == What::Head));
        best.map(|t| t.label.as_str()).collect::<Vec<_>>().join(" + ")
    }
}

/// Chooses views, head and, where `choices` say so, augmentation on the seed pairs. Their views are
/// named `names`, and the first are those that were asked for, along with the settings `base`.
///
/// # Errors
/// [`CoreError::Setting`] when `head.folds` is 1: nothing would be held out to choose by;
/// [`CoreError::TooFewPairs`] below two prompts an outer fold, or where all are ties;
/// [`CoreError::Shape`] where there are not as many names as views; any other [`CoreError`] of
/// training. What diverges is not taken, and listed as such.
pub fn tune(
    pairs: &EmbeddedPairs,
    names: &[String],
    base: &MethodSettings,
    choices: &Choices,
    progress: &dyn Progress,
) -> Result<Tuned, CoreError> {
    base.check()?;
    if base.head.folds < 2 {
        return Err(CoreError::Setting {
            name: "head.folds",
            value: base.head.folds.to_string(),
            expected: "at least 2 with a choice to make (`auto`): nothing else is held out to choose by",
        });
    }
    if names.len() != pairs.views.len() || names.is_empty() {
        return Err(CoreError::Shape {
            what: "names of views",
            expected: (1, pairs.views.len()),
            found: (1, names.len()),
        });
    }
    let outer = Folds::assign(&pairs.prompts, choices.outer_folds.max(2), base.seed);
    let what = "nested cross-validation (auto)";
    let needed = 4 * outer.count().max(2);
    let fold_prompts = |f: usize| {
        let mut own: Vec<u32> = (0..pairs.len())
            .filter(|&i| outer.of_pairs()[i] != f)
            .map(|i| pairs.prompts[i])
            .collect();
        own.sort_unstable();
        own.dedup();
        own.len()
    };
    if pairs.len() < needed || outer.count() < 2 || (0..outer.count()).any(|f| fold_prompts(f) < 2)
    {
        return Err(CoreError::TooFewPairs { what, needed, found: pairs.len() });
    }
    if pairs.labels.iter().all(|l| l.is_tie()) {
        let what = "nested cross-validation: every pair is a tie";
        return Err(CoreError::TooFewPairs { what, needed: 1, found: 0 });
    }
    let search = Search { pairs, outer: &outer, progress };
    let heads = search::heads(names, base, choices);
    let asked_settings = heads[0].settings.clone();
    let sources = if choices.augment { search::sources(base, choices) } else { Vec::new() };
    let fits = (heads.len() + sources.len()) * outer.count();
    progress.begin("tune", fits as u64, "fits");
    let heads = search.judge(heads)?;
    let best = chosen(&heads, |_| true).ok_or_else(|| CoreError::Diverged {
        stage: "head",
        step: 0,
        figures: "no head that was tried could be trained".to_owned(),
        advice: "try a smaller head.learning_rate".to_owned(),
    })?;
    let winner = heads[best].candidate.clone();
    let sources: Vec<Candidate> = sources
        .into_iter()
        .map(|(label, settings)| {
            let head = winner.settings.head.clone();
            let settings = MethodSettings { head, ..settings };
            Candidate { what: What::Source, label, views: winner.views.clone(), settings }
        })
        .collect();
    let sources = search.judge(sources)?;
    progress.end();

    let test = Test { search: &search, heads: &heads, sources: &sources };
    let nested = test.nested(&asked_settings)?;
    let best_source = lowest(&sources, |_| true);
    let augment = best_source.is_some() && nested.gain.is_some_and(|g| g.is_clear());
    let settings = match best_source {
        Some(best) => sources[best].candidate.settings.clone(),
        None => winner.settings.clone(),
    };
    let tried = |all: &[Judged], best: Option<usize>| {
        let one = |(i, judged): (usize, &Judged)| judged.tried(best == Some(i));
        all.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    let mut listed = tried(&heads, Some(best));
    listed.extend(tried(&sources, best_source));
    Ok(Tuned {
        view_names: winner.views.iter().map(|&v| names[v].clone()).collect(),
        views: winner.views,
        settings,
        augment,
        tried: listed,
        nested,
    })
}

/// The one with the lowest log-loss on the pairs that `counts` names, the first of equals.
fn lowest(all: &[Judged], counts: impl Fn(usize) -> bool) -> Option<usize> {
    let loss = |judged: &Judged| judged.log_loss(&counts);
    let finite = all.iter().enumerate().filter_map(|(i, j)| Some((i, loss(j)?)));
    finite.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// The head that is taken, judged by the pairs that `counts` names: the last, on all views, unless
/// another's log-loss is lower by more than the standard error of the difference; of those the lowest.
fn chosen(heads: &[Judged], counts: impl Fn(usize) -> bool) -> Option<usize> {
    let lowest = lowest(heads, &counts)?;
    let last = heads.len() - 1;
    match heads[lowest].gain_over(&heads[last], &counts) {
        Some(gain) if !gain.is_clear() => Some(last),
        _ => Some(lowest),
    }
}

/// Choosing, put to the test.
struct Test<'a> {
    search: &'a Search<'a>,
    heads: &'a [Judged],
    sources: &'a [Judged],
}

impl Test<'_> {
    fn nested(&self, asked: &MethodSettings) -> Result<Nested, CoreError> {
        let Search { pairs, outer, .. } = self.search;
        let seed = asked.seed;
        let but = |f: usize| move |pair: usize| outer.of_pairs()[pair] != f;
        let heads: Vec<Option<usize>> =
            (0..outer.count()).map(|f| chosen(self.heads, but(f))).collect();
        let sources: Vec<Option<usize>> =
            (0..outer.count()).map(|f| lowest(self.sources, but(f))).collect();
        let winner = chosen(self.heads, |_| true);
        let mut prompts = Vec::new();
        let [mut asked, mut taken, mut plain, mut augmented] = [(); 4].map(|()| Vec::new());
        let mut gains = Vec::new();
        for pair in 0..pairs.len() {
            let fold = outer.of_pairs()[pair];
            let of = |all: &[Judged], number: Option<usize>| all[number?].pairs[pair];
            let Some((_, credit)) = of(self.heads, heads[fold]) else { continue };
            prompts.push(pairs.prompts[pair]);
            taken.push(credit);
            asked.push(of(self.heads, Some(0)).map_or(credit, |(_, credit)| credit));
            // Sources have the winner's head, so it is that which they are compared with.
            if let (Some((loss, credit)), Some((with, augmented_credit))) =
                (of(self.heads, winner), of(self.sources, sources[fold]))
            {
                gains.push(loss - with);
                plain.push(credit);
                augmented.push(augmented_credit);
            }
        }
        let estimate = |totals: &[f64]| bootstrap(totals, &vec![1.0; totals.len()], &prompts, seed);
        let minus =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let none = || CoreError::TooFewPairs {
            what: "nested cross-validation: no head could be judged",
            needed: 1,
            found: 0,
        };
        let whole = augmented.len() == prompts.len() && !augmented.is_empty();
        Ok(Nested {
            folds: outer.count(),
            asked: estimate(&asked).ok_or_else(none)?,
            chosen: estimate(&taken).ok_or_else(none)?,
            gained: estimate(&minus(&taken, &asked)).ok_or_else(none)?,
            augmented: if whole { estimate(&augmented) } else { None },
            difference: if whole { estimate(&minus(&augmented, &plain)) } else { None },
            gain: FoldGain::from_gains(gains.into_iter()),
        })
    }
}

#[cfg(test)]
mod tests;
