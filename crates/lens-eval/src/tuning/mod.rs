//! Views, head and augmentation chosen by cross-validation on the seed pairs alone.
//!
//! The pairs are divided into outer folds. Every candidate head (see `search`) is trained without each
//! fold in turn, with inner folds of its own for what it tunes itself, such as when to stop or how strong
//! its penalty is, and judged by the log-loss of the pairs of that fold. A head on all views is chosen
//! unless another is clearly better. Then sources of synthetic pairs are tried with the chosen views and
//! head; one is used only where it lowers the log-loss by more than the standard error of the difference.
//!
//! The lowest of many log-losses is too low an estimate, so the choice itself is tested (nested
//! cross-validation): the pairs of each outer fold are judged by what the *other* outer folds would have
//! chosen. These are the figures to report: [`Nested`].

mod search;
mod words;

pub use search::{CandidateKind, CandidateResult, Choices};
pub use words::Figure;

use lens_core::folds::Folds;
use lens_core::method::FoldGain;
use lens_core::metrics::{Estimate, bootstrap};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress};
use search::{Candidate, Evaluated, Search};
use serde::Serialize;

/// Figures of the outer folds. Every pair is judged by heads that were neither trained on it nor chosen
/// by it; with augmentation, views and head are those that all folds chose, and the source is chosen by
/// the other folds. As JSON the fields have shorter names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nested {
    /// Outer folds.
    pub folds: usize,
    /// Accuracy of the views and head that the settings name, without augmentation.
    #[serde(rename = "asked")]
    pub given: Estimate,
    /// Accuracy of the chosen views and head, without augmentation.
    pub chosen: Estimate,
    /// `chosen` minus `given`, on the same pairs.
    #[serde(rename = "gained")]
    pub chosen_minus_given: Estimate,
    /// Accuracy with augmentation; `None` where none was tried, or where training diverged with all of
    /// them.
    pub augmented: Option<Estimate>,
    /// Accuracy with augmentation minus that of the same head without, on the same pairs.
    #[serde(rename = "difference")]
    pub augmented_minus_plain: Option<Estimate>,
    /// By how much augmentation lowers the log-loss of the same head; negative where it raises it.
    #[serde(rename = "gain")]
    pub log_loss_gain: Option<FoldGain>,
}

/// The result of tuning: the choice, and the evidence for it.
#[derive(Debug, Clone, Serialize)]
pub struct Tuned {
    /// Numbers of the chosen views, ascending.
    pub views: Vec<usize>,
    /// Names of the chosen views.
    pub view_names: Vec<String>,
    /// The chosen settings. Their augmentation is the best that was tried, with a factor above 1, also
    /// where `augment` is false; the factor is 1 where none was tried.
    pub settings: MethodSettings,
    /// Whether to train with augmentation: it lowers the log-loss on the outer folds clearly.
    pub augment: bool,
    /// Every candidate with its figures, in the order in which they were trained.
    #[serde(rename = "tried")]
    pub candidates: Vec<CandidateResult>,
    /// Figures on pairs that neither training nor choice has seen.
    pub nested: Nested,
}

impl Tuned {
    /// The choice in words: views and head, and the source of synthetic pairs if one is used.
    pub fn in_words(&self) -> String {
        let used = |c: &&CandidateResult| c.best && (self.augment || c.kind == CandidateKind::Head);
        self.candidates
            .iter()
            .filter(used)
            .map(|c| c.label.as_str())
            .collect::<Vec<_>>()
            .join(" + ")
    }
}

/// Chooses views, head and, where `choices` say so, augmentation on the seed pairs. `names` are the
/// names of their views, of which the first [`Choices::given_views`] are those that the settings name;
/// `base` are the settings that candidates differ from.
///
/// # Errors
/// [`CoreError::Setting`] when `head.folds` is 1: nothing would be held out to choose by;
/// [`CoreError::TooFewPairs`] below two prompts an outer fold, or where all are ties;
/// [`CoreError::Shape`] where there are not as many names as views; any other [`CoreError`] of
/// training. A candidate whose training diverges is no error: it is listed as diverged.
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
            Candidate { kind: CandidateKind::Source, label, views: winner.views.clone(), settings }
        })
        .collect();
    let sources = search.judge(sources)?;
    progress.end();

    let test = Test { search: &search, heads: &heads, sources: &sources };
    let nested = test.nested(base.seed)?;
    let best_source = lowest(&sources, |_| true);
    let augment = best_source.is_some() && nested.log_loss_gain.is_some_and(|g| g.is_clear());
    let settings = match best_source {
        Some(best) => sources[best].candidate.settings.clone(),
        None => winner.settings.clone(),
    };
    let results = |all: &[Evaluated], best: Option<usize>| {
        let one = |(i, evaluated): (usize, &Evaluated)| evaluated.result(best == Some(i));
        all.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    let mut candidates = results(&heads, Some(best));
    candidates.extend(results(&sources, best_source));
    Ok(Tuned {
        view_names: winner.views.iter().map(|&v| names[v].clone()).collect(),
        views: winner.views,
        settings,
        augment,
        candidates,
        nested,
    })
}

/// The candidate with the lowest log-loss on the pairs for which `counts` is true; the first of equals.
fn lowest(all: &[Evaluated], counts: impl Fn(usize) -> bool) -> Option<usize> {
    let loss = |evaluated: &Evaluated| evaluated.log_loss(&counts);
    let finite = all.iter().enumerate().filter_map(|(i, j)| Some((i, loss(j)?)));
    finite.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// The head that is chosen by the pairs for which `counts` is true: the last, which is on all views,
/// unless the lowest log-loss is lower than its by more than the standard error of the difference.
fn chosen(heads: &[Evaluated], counts: impl Fn(usize) -> bool) -> Option<usize> {
    let lowest = lowest(heads, &counts)?;
    let last = heads.len() - 1;
    match heads[lowest].gain_over(&heads[last], &counts) {
        Some(gain) if !gain.is_clear() => Some(last),
        _ => Some(lowest),
    }
}

/// The choice itself, tested: each outer fold is judged by what the others would have chosen.
struct Test<'a> {
    search: &'a Search<'a>,
    heads: &'a [Evaluated],
    sources: &'a [Evaluated],
}

impl Test<'_> {
    fn nested(&self, seed: u64) -> Result<Nested, CoreError> {
        let Search { pairs, outer, .. } = self.search;
        let but = |f: usize| move |pair: usize| outer.of_pairs()[pair] != f;
        let heads: Vec<Option<usize>> =
            (0..outer.count()).map(|f| chosen(self.heads, but(f))).collect();
        let sources: Vec<Option<usize>> =
            (0..outer.count()).map(|f| lowest(self.sources, but(f))).collect();
        let winner = chosen(self.heads, |_| true);
        let mut prompts = Vec::new();
        let [mut given, mut chosen_credits, mut plain, mut augmented] =
            [(); 4].map(|()| Vec::new());
        let mut gains = Vec::new();
        for pair in 0..pairs.len() {
            let fold = outer.of_pairs()[pair];
            let figures = |all: &[Evaluated], number: Option<usize>| all[number?].pairs[pair];
            let Some((_, credit)) = figures(self.heads, heads[fold]) else { continue };
            prompts.push(pairs.prompts[pair]);
            chosen_credits.push(credit);
            given.push(figures(self.heads, Some(0)).map_or(credit, |(_, credit)| credit));
            // Sources are trained with the winner's head, so they are compared with it.
            if let (Some((loss, credit)), Some((with, augmented_credit))) =
                (figures(self.heads, winner), figures(self.sources, sources[fold]))
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
            given: estimate(&given).ok_or_else(none)?,
            chosen: estimate(&chosen_credits).ok_or_else(none)?,
            chosen_minus_given: estimate(&minus(&chosen_credits, &given)).ok_or_else(none)?,
            augmented: if whole { estimate(&augmented) } else { None },
            augmented_minus_plain: if whole { estimate(&minus(&augmented, &plain)) } else { None },
            log_loss_gain: FoldGain::from_gains(gains.into_iter()),
        })
    }
}

#[cfg(test)]
mod tests;
