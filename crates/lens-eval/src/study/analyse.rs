//! From runs to means, differences, intervals and p-values.
//!
//! Each prompt counts with its mean credit over the splits that held it out, as in
//! [`lens_core::splits::run_splits`]; differences are taken pair by pair and split by split, between
//! heads that were trained on the same seeds with the same folds.

use super::efficiency::{Curve, interval};
use super::engine::Run;
use super::plan::Plan;
use super::statistics::{Ratio, estimate, holm, p_value, resample};
use super::summary::{
    Cost, DataSummary, Difference, Efficiency, EfficiencyPoint, RivalSummary, Row, Summary,
};
use super::tables;
use lens_core::metrics::RESAMPLES;
use lens_core::splits::Split;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most resamples behind p-values.
const MOST_RESAMPLES: usize = 40_000;
/// Most draws of all differences together, which are held in memory.
const MOST_DRAWS: usize = 20_000_000;

/// The runs behind one row of the result, one of each split.
struct Series<'a> {
    encoder: usize,
    seeds: usize,
    /// All arms of the rival at this point of the grid.
    family: usize,
    /// The arm, or none where the rival chooses.
    arm: Option<usize>,
    runs: Vec<Option<(usize, &'a Run)>>,
    /// Why the first run that is missing ran away.
    reason: Option<&'a str>,
}

/// The index of clusters: of every pair of the pool, the number of its prompt, in the order in which
/// prompts come, as the core's bootstrap has them.
fn clusters(prompts: &[u32]) -> (Vec<usize>, usize) {
    let mut index: HashMap<u32, usize> = HashMap::new();
    let of = prompts
        .iter()
        .map(|p| {
            let next = index.len();
            *index.entry(*p).or_insert(next)
        })
        .collect();
    (of, index.len())
}

/// Analyses a study. `runs` are those of all cells in the order of the plan, `parts` the pairs held
/// out by (seeds, split), `prompts` those of the pool.
pub fn analyse(
    plan: &Plan,
    parts: &[Vec<Arc<Split>>],
    runs: &[Run],
    prompts: &[u32],
    data: DataSummary,
) -> Summary {
    let families = plan.families();
    let series = all_series(plan, &families, runs);
    let (of_pair, n_prompts) = clusters(prompts);
    let sums = Sums { parts, of_pair: &of_pair, prompts: n_prompts };

    // One figure for the accuracy of each series, and one for each difference.
    let mut shared = HashMap::new();
    let accuracies: Vec<Ratio> = series.iter().map(|s| sums.ratio(s, None, &mut shared)).collect();
    let against: Vec<(usize, usize)> = (0..series.len())
        .filter_map(|i| Some((i, baseline_of(plan, &families, &series, i)?)))
        .collect();
    let differences: Vec<Ratio> = against
        .iter()
        .map(|&(i, b)| sums.ratio(&series[i], Some(&series[b]), &mut shared))
        .collect();
    // Holm multiplies the smallest p-value by the number of comparisons: draws must be so many that
    // it can still be small.
    let comparisons = against.len();
    let most = (MOST_DRAWS / comparisons.max(1)).clamp(RESAMPLES, MOST_RESAMPLES);
    let resamples = (40 * comparisons).clamp(RESAMPLES, most);
    let seed = plan.file.seed;
    let accuracy_draws = resample(&accuracies, n_prompts, RESAMPLES, seed);
    let difference_draws = resample(&differences, n_prompts, resamples, seed);
    let p: Vec<f64> = difference_draws.iter().map(|draws| p_value(draws)).collect();
    let corrected = holm(&p);

    let mut rows: Vec<Row> = series
        .iter()
        .zip(accuracies.iter().zip(&accuracy_draws))
        .map(|(s, (figure, draws))| {
            let accuracy = estimate(figure.value(), draws);
            Row { accuracy, ..described(plan, &families, s) }
        })
        .collect();
    for (k, &(i, b)) in against.iter().enumerate() {
        let draws = &difference_draws[k][..RESAMPLES.min(difference_draws[k].len())];
        rows[i].difference = estimate(differences[k].value(), draws).map(|estimate| Difference {
            baseline: rows[b].variant.clone(),
            estimate,
            p: p[k],
            p_holm: corrected[k],
        });
    }
    let efficiency = efficiency(plan, &families, &series, &accuracies, &accuracy_draws, &rows);
    let of_arms: Vec<bool> = series.iter().map(|s| s.arm.is_some()).collect();
    let mut split = (Vec::new(), Vec::new());
    for (row, of_arm) in rows.into_iter().zip(of_arms) {
        if of_arm { split.0.push(row) } else { split.1.push(row) }
    }
    let (rows, chosen) = split;
    let held: Vec<usize> = parts.iter().flatten().map(|p| p.heldout.len()).collect();
    let rivals = plan.rivals.iter().enumerate().map(|(r, rival)| RivalSummary {
        name: rival.name.clone(),
        about: rival.about.clone(),
        tries: families.iter().find(|f| plan.arms[f[0]].rival == r).map_or(0, |f| f.len()),
    });
    let mut summary = Summary {
        name: plan.file.name.clone(),
        title: plan.file.title.clone(),
        question: plan.file.question.clone(),
        data,
        splits: plan.file.splits,
        seed,
        seeds: plan.seeds.clone(),
        held_out: held.iter().sum::<usize>() as f64 / held.len().max(1) as f64,
        factors: plan.factors.clone(),
        grid: plan.grid.clone(),
        baseline: plan.rivals[plan.baseline].name.clone(),
        rivals: rivals.collect(),
        cells: runs.len(),
        comparisons,
        resamples,
        findings: Vec::new(),
        table: tables::pivot(plan, &rows, &chosen),
        rows,
        chosen,
        efficiency,
        cost: cost(plan, runs),
    };
    summary.findings = tables::findings(&summary);
    summary
}

/// The series of each (encoder, seeds): one for every arm, and one for every family that has something to
/// choose from.
fn all_series<'a>(plan: &Plan, families: &[Vec<usize>], runs: &'a [Run]) -> Vec<Series<'a>> {
    let splits = plan.file.splits;
    let mut all = Vec::new();
    for encoder in 0..plan.encoders.len() {
        for seeds in 0..plan.seeds.len() {
            let run = |split, arm| &runs[plan.index(encoder, seeds, split, arm)];
            for (family, arms) in families.iter().enumerate() {
                for &arm in arms {
                    let sound = |split| {
                        let run = run(split, arm);
                        run.diverged.is_none().then_some((arm, run))
                    };
                    let runs = (0..splits).map(sound).collect();
                    let reason = (0..splits).find_map(|split| run(split, arm).diverged.as_deref());
                    all.push(Series { encoder, seeds, family, arm: Some(arm), runs, reason });
                }
                if arms.len() > 1 {
                    let pick = |split| {
                        let sound = arms.iter().map(|&arm| (arm, run(split, arm)));
                        let judged = sound.filter_map(|(a, r)| Some((r.fold_log_loss?, a, r)));
                        // The first of equals.
                        judged
                            .reduce(|best, x| if x.0 < best.0 { x } else { best })
                            .map(|(_, arm, run)| (arm, run))
                    };
                    let runs = (0..splits).map(pick).collect();
                    all.push(Series { encoder, seeds, family, arm: None, runs, reason: None });
                }
            }
        }
    }
    all
}

/// The series that series `i` is compared with.
fn baseline_of(
    plan: &Plan,
    families: &[Vec<usize>],
    series: &[Series<'_>],
    i: usize,
) -> Option<usize> {
    let s = &series[i];
    let family = &families[s.family];
    if plan.arms[family[0]].rival == plan.baseline {
        return None;
    }
    // Tries are what a rival chooses from; only its choice is a claim, to be corrected for.
    if s.arm.is_some_and(|arm| plan.arms[arm].tried.is_some()) && family.len() > 1 {
        return None;
    }
    let theirs = plan.baseline_family(families, family)?;
    // A choice is compared with a choice, where the baseline has one.
    let arm = match (s.arm, theirs.as_slice()) {
        (_, [one]) => Some(*one),
        (Some(arm), many) => match plan.baseline_arm(many, arm) {
            // One that has nothing to choose is compared with the baseline's choice.
            None if family.len() == 1 => None,
            same => Some(same?),
        },
        (None, _) => None,
    };
    let same_place = |b: &Series<'_>| {
        let here = b.encoder == s.encoder && b.seeds == s.seeds && b.arm == arm;
        here && &families[b.family] == theirs
    };
    series.iter().position(same_place)
}

/// Adds up credits by prompt.
struct Sums<'a> {
    parts: &'a [Vec<Arc<Split>>],
    of_pair: &'a [usize],
    prompts: usize,
}

impl Sums<'_> {
    /// Credits of a series, or their difference to another's on the splits that both have. Series
    /// that have the same splits share their counts.
    fn ratio(
        &self,
        s: &Series<'_>,
        minus: Option<&Series<'_>>,
        shared: &mut HashMap<(usize, Vec<bool>), Arc<Vec<f64>>>,
    ) -> Ratio {
        let other = |split: usize| minus.map(|m| m.runs[split].map(|(_, run)| run));
        let there: Vec<bool> = (0..s.runs.len())
            .map(|split| s.runs[split].is_some() && other(split).is_none_or(|m| m.is_some()))
            .collect();
        let mut totals = vec![0.0; self.prompts];
        for (split, run) in s.runs.iter().enumerate() {
            let (true, Some((_, run))) = (there[split], run) else { continue };
            let subtract = other(split).flatten();
            for (at, &pair) in self.parts[s.seeds][split].heldout.iter().enumerate() {
                let less = subtract.map_or(0.0, |m| m.credits[at]);
                totals[self.of_pair[pair]] += run.credits[at] - less;
            }
        }
        let counts = shared.entry((s.seeds, there.clone())).or_insert_with(|| {
            let mut counts = vec![0.0; self.prompts];
            for (split, _) in there.iter().enumerate().filter(|(_, there)| **there) {
                for &pair in &self.parts[s.seeds][split].heldout {
                    counts[self.of_pair[pair]] += 1.0;
                }
            }
            Arc::new(counts)
        });
        Ratio { totals, counts: Arc::clone(counts) }
    }
}

fn grid_of(plan: &Plan, arm: usize) -> BTreeMap<String, String> {
    let values = plan.grid.iter().zip(&plan.arms[arm].grid);
    values.filter_map(|(axis, v)| Some((axis.name.clone(), v.clone()?))).collect()
}

/// A row but for its accuracy and its difference.
fn described(plan: &Plan, families: &[Vec<usize>], s: &Series<'_>) -> Row {
    let first = families[s.family][0];
    let sound: Vec<&Run> = s.runs.iter().flatten().map(|(_, run)| *run).collect();
    let mean = |f: fn(&Run) -> Option<f64>| {
        let values: Vec<f64> = sound.iter().filter_map(|r| f(r)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut picks = BTreeMap::new();
    if s.arm.is_none() {
        for (arm, _) in s.runs.iter().flatten() {
            *picks.entry(plan.arms[*arm].variant()).or_insert(0) += 1;
        }
    }
    Row {
        encoder: plan.encoders[s.encoder].name.clone(),
        seeds: plan.seeds[s.seeds],
        rival: plan.rivals[plan.arms[first].rival].name.clone(),
        factor: s.arm.map(|arm| plan.arms[arm].factor),
        variant: s.arm.map_or_else(|| "chosen".to_owned(), |arm| plan.arms[arm].variant()),
        grid: grid_of(plan, first),
        accuracy: None,
        by_split: s.runs.iter().map(|r| r.and_then(|(_, run)| run.accuracy())).collect(),
        log_loss: mean(|r| r.heldout_log_loss),
        fold_log_loss: mean(|r| r.fold_log_loss),
        ran_away: s.runs.iter().filter(|r| r.is_none()).count(),
        reason: s.reason.map(str::to_owned),
        picks,
        difference: None,
    }
}

/// Label efficiency of each rival, where there are several numbers of labels.
fn efficiency(
    plan: &Plan,
    families: &[Vec<usize>],
    series: &[Series<'_>],
    figures: &[Ratio],
    draws: &[Vec<f64>],
    rows: &[Row],
) -> Vec<Efficiency> {
    // Ascending, whatever the order in the study file.
    let mut order: Vec<usize> = (0..plan.seeds.len()).collect();
    order.sort_by_key(|&i| plan.seeds[i]);
    let labels: Vec<usize> = order.iter().map(|&i| plan.seeds[i]).collect();
    if labels.len() < 2 {
        return Vec::new();
    }
    let along = |i: usize| -> Option<Vec<usize>> {
        let s = &series[i];
        let at = |&n: &usize| {
            series.iter().position(|o| {
                o.seeds == n && o.encoder == s.encoder && o.family == s.family && o.arm == s.arm
            })
        };
        order.iter().map(at).collect()
    };
    let mut all = Vec::new();
    for i in (0..series.len()).filter(|&i| series[i].seeds == 0) {
        let Some(theirs) = baseline_of(plan, families, series, i) else { continue };
        let (Some(ours), Some(theirs)) = (along(i), along(theirs)) else { continue };
        let weights = |of: &[usize]| -> Vec<f64> {
            of.iter().map(|&i| figures[i].counts.iter().sum()).collect()
        };
        let (our_weights, their_weights) = (weights(&ours), weights(&theirs));
        let curves = |value: &dyn Fn(usize) -> f64| {
            let values = |of: &[usize]| of.iter().map(|&i| value(i)).collect::<Vec<f64>>();
            let rival = Curve::new(&labels, &values(&ours), &our_weights)?;
            Some((rival, Curve::new(&labels, &values(&theirs), &their_weights)?))
        };
        let Some((rival, baseline)) = curves(&|i| figures[i].value()) else { continue };
        let drawn: Vec<(Curve, Curve)> =
            (0..draws[i].len()).filter_map(|r| curves(&|i| draws[i][r])).collect();
        let point = |(at, &labels): (usize, &usize)| EfficiencyPoint {
            labels,
            accuracy: rival.at(at),
            like: baseline.reaches(rival.at(at)),
            ci95: interval(drawn.iter().map(|(r, b)| b.reaches(r.at(at))).collect()),
        };
        let Row { encoder, rival: name, variant, grid, .. } = rows[i].clone();
        let points = labels.iter().enumerate().map(point).collect();
        all.push(Efficiency { encoder, rival: name, variant, grid, points });
    }
    all
}

fn cost(plan: &Plan, runs: &[Run]) -> Vec<Cost> {
    let mut all = Vec::with_capacity(plan.points());
    for (e, encoder) in plan.encoders.iter().enumerate() {
        for (n, &seeds) in plan.seeds.iter().enumerate() {
            for (a, arm) in plan.arms.iter().enumerate() {
                let of = (0..plan.file.splits).map(|s| &runs[plan.index(e, n, s, a)]);
                let sound: Vec<&Run> = of.filter(|r| r.diverged.is_none()).collect();
                if sound.is_empty() {
                    continue;
                }
                let mean = |f: fn(&Run) -> f64| {
                    sound.iter().map(|r| f(r)).sum::<f64>() / sound.len() as f64
                };
                let seconds_source = mean(|r| r.seconds.source);
                let synthetic_pairs = seeds * (arm.factor - 1);
                all.push(Cost {
                    encoder: encoder.name.clone(),
                    seeds,
                    rival: plan.rivals[arm.rival].name.clone(),
                    variant: arm.variant(),
                    grid: grid_of(plan, a),
                    generator_parameters: sound[0].generator_parameters,
                    seconds_source,
                    seconds_head: mean(|r| r.seconds.head),
                    synthetic_pairs,
                    seconds_per_thousand: (synthetic_pairs > 0)
                        .then(|| 1000.0 * seconds_source / synthetic_pairs as f64),
                });
            }
        }
    }
    all
}
