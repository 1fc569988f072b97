//! Everything that can be said of a reward model on one file.

use super::accuracy::{Accuracy, accuracy, by_subset};
use super::best_of_n::{self, BestOfN, best_of_n};
use super::calibration::{Calibration, calibration};
use super::controls::Controls;
use super::kind::Benchmark;
use super::length::{Length, length};
use super::rewardbench::{RewardBench, rewardbench};
use super::rewardbench2::{Ranked, RewardBench2, rewardbench2};
use super::rm_bench::{RmBench, Styled, rm_bench};
use super::worst::{Example, Texts, worst};
use super::{ScoredPairs, rewardbench2::row_score};
use crate::error::EvalError;
use lens_core::{Content, PreferencePair};
use lens_data::Row;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A figure of an evaluation: measured, or absent for a reason. As JSON it is the figure itself, or
/// `{"absent": "why"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measured<T> {
    /// Not measured.
    Absent {
        /// The reason.
        absent: String,
    },
    /// Measured.
    Present(T),
}

impl<T> Measured<T> {
    /// A figure that was not measured, with the reason.
    pub fn absent(why: impl Into<String>) -> Self {
        Measured::Absent { absent: why.into() }
    }

    /// The figure, if it was measured.
    pub fn get(&self) -> Option<&T> {
        match self {
            Measured::Present(part) => Some(part),
            Measured::Absent { .. } => None,
        }
    }

    pub(super) fn or_absent(part: Option<T>, why: &str) -> Self {
        part.map_or_else(|| Measured::absent(why), Measured::Present)
    }
}

/// The figures of a reward model on one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The benchmark that the file was taken for.
    pub taken_for: Benchmark,
    /// Pair accuracy under the three rules for ties.
    pub accuracy: Measured<Accuracy>,
    /// The same by subset.
    pub subsets: Measured<BTreeMap<String, Accuracy>>,
    /// RewardBench 1: sections and Score.
    pub rewardbench: Measured<RewardBench>,
    /// RewardBench 2: subsets, Ties and Score.
    pub rewardbench2: Measured<RewardBench2>,
    /// RM-Bench: matrices, difficulties and Score.
    pub rm_bench: Measured<RmBench>,
    /// Best-of-n and over-optimisation.
    pub best_of_n: Measured<BestOfN>,
    /// Calibration.
    pub calibration: Measured<Calibration>,
    /// Length.
    pub length: Measured<Length>,
    /// What is left without what the model should read, and what it would be to read something else.
    pub controls: Measured<Controls>,
    /// The examples ranked worst.
    pub worst: Measured<Vec<Example>>,
}

/// Pairs with their rewards, and texts where these are known.
#[derive(Debug, Clone, Copy)]
pub struct PairData<'a> {
    /// The file, for errors.
    pub file: &'a Path,
    /// The rewards.
    pub pairs: ScoredPairs<'a>,
    /// The line of each pair.
    pub lines: &'a [u64],
    /// The pairs themselves; embeddings have no texts.
    pub rows: Option<&'a [Row<PreferencePair>]>,
    /// How many of the worst examples are kept.
    pub worst: usize,
}

impl Evaluation {
    /// Nothing yet.
    fn nothing(taken_for: Benchmark) -> Self {
        let why = format!("the file was taken for {taken_for}");
        Evaluation {
            taken_for,
            accuracy: Measured::absent(&*why),
            subsets: Measured::absent(&*why),
            rewardbench: Measured::absent(&*why),
            rewardbench2: Measured::absent(&*why),
            rm_bench: Measured::absent(&*why),
            best_of_n: Measured::absent(&*why),
            calibration: Measured::absent(&*why),
            length: Measured::absent(&*why),
            controls: Measured::absent(&*why),
            worst: Measured::absent(why),
        }
    }

    /// Evaluates pairs; those of RewardBench 1 with its sections.
    ///
    /// # Errors
    /// [`EvalError::NoRows`] without a pair, [`EvalError::NotFinite`] for a reward that is no number,
    /// [`EvalError::Lengths`] where there is not one of everything for each pair.
    pub fn of_pairs(benchmark: Benchmark, data: PairData<'_>) -> Result<Self, EvalError> {
        let PairData { file, pairs, lines, rows, worst: k } = data;
        let n = pairs.len();
        let others = [pairs.rejected.len(), pairs.prompts.len(), lines.len()];
        let counts = others.into_iter().chain(rows.map(<[_]>::len));
        if let Some(found) = counts.into_iter().find(|&count| count != n) {
            return Err(EvalError::Lengths { expected: n, found });
        }
        let finite = |i: &usize| pairs.chosen[*i].is_finite() && pairs.rejected[*i].is_finite();
        if let Some(bad) = (0..n).find(|i| !finite(i)) {
            return Err(EvalError::NotFinite { file: file.to_owned(), line: lines[bad] });
        }
        let no_rows = || EvalError::NoRows { file: file.to_owned(), what: "pair to evaluate on" };
        let margins = pairs.margins();
        let mut found = Evaluation::nothing(benchmark);
        found.controls = Measured::absent("they were not asked for");
        found.accuracy = Measured::Present(accuracy(&pairs).ok_or_else(no_rows)?);
        found.calibration = Measured::or_absent(calibration(&pairs), "there is no pair");
        let examples = worst(&margins, k).into_iter().map(|i| Example {
            line: lines[i],
            subset: rows.and_then(|rows| rows[i].subset()).map(str::to_owned),
            margin: margins[i],
            reward_chosen: pairs.chosen[i],
            reward_rejected: pairs.rejected[i],
            texts: rows.map(|rows| {
                let PreferencePair { prompt, chosen, rejected, .. } = rows[i].value.clone();
                Texts { prompt, chosen, rejected }
            }),
        });
        found.worst = Measured::Present(examples.collect());
        let Some(rows) = rows else {
            found.length = Measured::absent("embeddings have no texts");
            found.controls = Measured::absent("embeddings have no texts");
            found.subsets = Measured::absent("embeddings have no subsets");
            return Ok(found);
        };
        let subsets: Vec<Option<&str>> = rows.iter().map(Row::subset).collect();
        let texts = rows.iter().map(|row| &row.value);
        found.length = Measured::or_absent(length(&pairs, texts), "there is no pair");
        found.subsets = match by_subset(&pairs, &subsets) {
            none if none.is_empty() => Measured::absent("the rows have no `subset`"),
            subsets => Measured::Present(subsets),
        };
        if benchmark == Benchmark::RewardBench {
            found.rewardbench = Measured::Present(rewardbench(&pairs, &subsets));
        }
        Ok(found)
    }

    /// Evaluates RewardBench 2. `texts(row, chosen, rejected)` are those of the examples ranked worst.
    ///
    /// # Errors
    /// [`EvalError::NoRows`], [`EvalError::NotFinite`], [`EvalError::TiesId`].
    pub fn of_rewardbench2(
        rows: &[Ranked],
        worst: usize,
        seed: u64,
        file: &Path,
        texts: impl Fn(usize, usize, usize) -> Texts,
    ) -> Result<Self, EvalError> {
        check_rows(rows, file)?;
        let mut found = Evaluation::nothing(Benchmark::RewardBench2);
        found.rewardbench2 = Measured::Present(rewardbench2(rows, seed, file)?);
        // A row is wrong if its score is 0: then its best right response is behind.
        let wrong = |row: &Ranked| row_score(&row.chosen, &row.rejected) == 0.0;
        found.worst = Measured::Present(worst_ranked(rows, worst, wrong, texts));
        Ok(found)
    }

    /// Evaluates RM-Bench, as [`Evaluation::of_rewardbench2`] does; the subset of a row is its domain.
    ///
    /// # Errors
    /// [`EvalError::NoRows`], [`EvalError::NotFinite`]; [`EvalError::Lengths`] unless there are three
    /// rewards a side.
    pub fn of_rm_bench(
        rows: &[Ranked],
        worst: usize,
        seed: u64,
        file: &Path,
        texts: impl Fn(usize, usize, usize) -> Texts,
    ) -> Result<Self, EvalError> {
        check_rows(rows, file)?;
        let three = |rewards: &[f32]| {
            let error = EvalError::Lengths { expected: 3, found: rewards.len() };
            <[f32; 3]>::try_from(rewards).map_err(|_| error)
        };
        let styled = |row: &Ranked| {
            Ok(Styled {
                domain: row.subset.clone().unwrap_or_default(),
                chosen: three(&row.chosen)?,
                rejected: three(&row.rejected)?,
                prompt: row.prompt,
            })
        };
        let styled: Vec<Styled> = rows.iter().map(styled).collect::<Result<_, EvalError>>()?;
        let mut found = Evaluation::nothing(Benchmark::RmBench);
        found.rm_bench = Measured::Present(rm_bench(&styled, seed));
        found.worst = Measured::Present(worst_ranked(rows, worst, |_| true, texts));
        Ok(found)
    }

    /// Evaluates responses with gold scores. `texts(prompt, best, picked)` are those of the examples ranked
    /// worst.
    ///
    /// # Errors
    /// Those of [`best_of_n()`].
    pub fn of_best_of_n(
        prompts: &[best_of_n::Scored],
        n: Option<usize>,
        k: usize,
        seed: u64,
        file: &Path,
        texts: impl Fn(usize, usize, usize) -> Texts,
    ) -> Result<Self, EvalError> {
        let mut found = Evaluation::nothing(Benchmark::BestOfN);
        found.best_of_n = Measured::Present(best_of_n(prompts, n, seed, file)?);
        let highest = |score: &dyn Fn(usize) -> f64, n: usize| {
            (1..n).fold(0, |best, i| if score(i) > score(best) { i } else { best })
        };
        let picks: Vec<(usize, usize)> = prompts
            .iter()
            .map(|p| {
                let n = p.gold.len();
                (highest(&|i| p.gold[i], n), highest(&|i| f64::from(p.proxy[i]), n))
            })
            .collect();
        let margins: Vec<f64> = prompts
            .iter()
            .zip(&picks)
            .map(|(p, &(best, picked))| match p.gold[best] > p.gold[picked] {
                true => f64::from(p.proxy[best]) - f64::from(p.proxy[picked]),
                false => 0.0,
            })
            .collect();
        let examples = worst(&margins, k).into_iter().map(|i| {
            let (best, picked) = picks[i];
            Example {
                line: prompts[i].line,
                subset: None,
                margin: margins[i],
                reward_chosen: prompts[i].proxy[best],
                reward_rejected: prompts[i].proxy[picked],
                texts: Some(texts(i, best, picked)),
            }
        });
        found.worst = Measured::Present(examples.collect());
        Ok(found)
    }
}

fn check_rows(rows: &[Ranked], file: &Path) -> Result<(), EvalError> {
    if rows.is_empty() {
        return Err(EvalError::NoRows { file: file.to_owned(), what: "row to evaluate on" });
    }
    let finite = |row: &&Ranked| row.chosen.iter().chain(&row.rejected).all(|r| r.is_finite());
    match rows.iter().find(|row| !finite(row)) {
        Some(row) => Err(EvalError::NotFinite { file: file.to_owned(), line: row.line }),
        None => Ok(()),
    }
}

/// Examples of the rows that are wrong: their lowest right and highest wrong response.
fn worst_ranked(
    rows: &[Ranked],
    k: usize,
    wrong: impl Fn(&Ranked) -> bool,
    texts: impl Fn(usize, usize, usize) -> Texts,
) -> Vec<Example> {
    let at = |rewards: &[f32], better: fn(f32, f32) -> bool| {
        (1..rewards.len())
            .fold(0, |best, i| if better(rewards[i], rewards[best]) { i } else { best })
    };
    let ends: Vec<(usize, usize)> =
        rows.iter().map(|r| (at(&r.chosen, |a, b| a < b), at(&r.rejected, |a, b| a > b))).collect();
    let margin = |(row, &(low, high)): (&Ranked, &(usize, usize))| {
        if wrong(row) { f64::from(row.chosen[low]) - f64::from(row.rejected[high]) } else { 0.0 }
    };
    let margins: Vec<f64> = rows.iter().zip(&ends).map(margin).collect();
    let example = |i: usize| {
        let (low, high) = ends[i];
        Example {
            line: rows[i].line,
            subset: rows[i].subset.clone(),
            margin: margins[i],
            reward_chosen: rows[i].chosen[low],
            reward_rejected: rows[i].rejected[high],
            texts: Some(texts(i, low, high)),
        }
    };
    worst(&margins, k).into_iter().map(example).collect()
}

/// Texts for an example.
impl Texts {
    /// Copies of a prompt and its two responses.
    pub fn new(prompt: &Content, chosen: &Content, rejected: &Content) -> Self {
        Texts { prompt: prompt.clone(), chosen: chosen.clone(), rejected: rejected.clone() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Map, json};

    fn row(line: u64, subset: Option<&str>) -> Row<PreferencePair> {
        let text = |t: &str| Content::Text(t.to_owned());
        let mut metadata = Map::new();
        if let Some(subset) = subset {
            metadata.insert("subset".to_owned(), json!(subset));
        }
        let (prompt, chosen, rejected) = (text("p"), text("longer"), text("short"));
        let value = PreferencePair { prompt, chosen, rejected, margin: None, tie: false };
        Row::new(line, value, metadata)
    }

    fn data<'a>(
        rewards: (&'a [f32], &'a [f32]),
        lines: &'a [u64],
        rows: Option<&'a [Row<PreferencePair>]>,
    ) -> PairData<'a> {
        let pairs =
            ScoredPairs { chosen: rewards.0, rejected: rewards.1, prompts: &[0, 1, 2], seed: 0 };
        PairData { file: Path::new("f.jsonl"), pairs, lines, rows, worst: 1 }
    }

    #[test]
    fn all_parts_of_pairs_and_the_reasons_of_those_that_are_not() {
        let rows = [row(1, Some("a")), row(2, None), row(4, Some("a"))];
        let rewards: (&[f32], &[f32]) = (&[1.0, -2.0, 3.0], &[0.0, 0.0, 4.0]);
        let with = data(rewards, &[1, 2, 4], Some(&rows));
        let found = Evaluation::of_pairs(Benchmark::Pairs, with).unwrap();
        assert!((found.accuracy.get().unwrap().half.value - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.subsets.get().unwrap()["a"].half.value, 0.5);
        assert_eq!(found.length.get().unwrap().longer_wins, 1.0);
        let worst = &found.worst.get().unwrap()[0];
        assert_eq!((worst.line, worst.margin, worst.subset.as_deref()), (2, -2.0, None));
        assert_eq!(worst.texts.as_ref().unwrap().rejected, Content::Text("short".to_owned()));
        let shown = serde_json::to_value(&found).unwrap();
        assert_eq!(shown["taken_for"], "pairs");
        assert_eq!(shown["rewardbench"]["absent"], "the file was taken for preference pairs");
        assert_eq!(serde_json::from_value::<Evaluation>(shown).unwrap(), found);

        let arrays = data(rewards, &[1, 2, 3], None);
        let found = Evaluation::of_pairs(Benchmark::Pairs, arrays).unwrap();
        assert_eq!(found.length, Measured::absent("embeddings have no texts"));
        assert!(found.calibration.get().is_some());
        assert_eq!(found.worst.get().unwrap()[0].texts, None);
    }

    #[test]
    fn what_is_no_number_is_named_by_its_line() {
        let bad = data((&[1.0, f32::NAN, 0.0], &[0.0; 3]), &[1, 5, 6], None);
        let error = Evaluation::of_pairs(Benchmark::Pairs, bad).unwrap_err();
        assert!(error.to_string().starts_with("f.jsonl:5: "), "{error}");
        let short = data((&[1.0, 0.0], &[0.0; 3]), &[1, 2], None);
        let error = Evaluation::of_pairs(Benchmark::Pairs, short).unwrap_err();
        assert!(matches!(error, EvalError::Lengths { expected: 2, found: 3 }));
    }

    #[test]
    fn the_worst_of_lists_is_the_lowest_right_against_the_highest_wrong() {
        let ranked = |line, chosen: &[f32], rejected: &[f32]| Ranked {
            line,
            subset: Some("Math".to_owned()),
            id: None,
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
            prompt: line as u32,
        };
        let rows = [ranked(1, &[2.0, 1.0], &[0.0, 1.5]), ranked(2, &[0.0], &[1.0, 3.0, 2.0])];
        let texts = |row: usize, chosen: usize, rejected: usize| {
            let text = Content::Text(format!("{row} {chosen} {rejected}"));
            Texts::new(&text, &text, &text)
        };
        let file = Path::new("f");
        let found = Evaluation::of_rewardbench2(&rows, 5, 0, file, texts).unwrap();
        // The first row has its credit, although one of its right responses is behind.
        let worst = found.worst.get().unwrap();
        assert_eq!((worst.len(), worst[0].line, worst[0].margin), (1, 2, -3.0));
        assert_eq!(worst[0].texts.as_ref().unwrap().prompt, Content::Text("1 0 1".to_owned()));
    }
}
