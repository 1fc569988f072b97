//! The method as its users meet it: data that can be learned from, and data that cannot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::method::Fitted;
use lens_core::metrics::pair_accuracy;
use lens_core::pairing::Pairing;
use lens_core::rng::{Purpose, Stream};
use lens_core::splits::{hold_out, run_splits, run_splits_choosing, split};
use lens_core::synthesis::Origin;
use lens_core::{
    CoreError, EmbeddedPairs, Embeddings, Matrix, MethodSettings, Outcome, Progress, Quiet,
    Threads, fit,
};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `n` pairs in `d` dimensions: noise, and a preference along the first two dimensions.
fn pairs(n: usize, d: usize, strength: f32, seed: u64) -> EmbeddedPairs {
    let mut stream = Stream::new(seed, Purpose::Splits, 7);
    let mut side = |sign: f32| {
        let mut data: Vec<f32> = (0..n * d).map(|_| stream.normal()).collect();
        for row in data.chunks_exact_mut(d) {
            for x in row.iter_mut().take(2) {
                *x += sign * strength;
            }
        }
        Matrix::new(data, n, d).unwrap()
    };
    let (chosen, rejected) = (side(0.5), side(-0.5));
    EmbeddedPairs::new(chosen, rejected).unwrap()
}

/// Few epochs: these tests are about behaviour, not about accuracy.
fn quick() -> MethodSettings {
    let mut settings = MethodSettings::default();
    settings.vae.epochs = 5;
    settings.head.epochs = 20;
    settings.head.learning_rate = 3e-3;
    settings
}

fn run(pairs: &EmbeddedPairs, settings: &MethodSettings) -> Result<Outcome, CoreError> {
    fit(pairs, settings, Threads::ONE, &Quiet)
}

fn heldout_accuracy(fitted: &Fitted, heldout: &EmbeddedPairs) -> f64 {
    let rewards = |m: &Embeddings| fitted.model.rewards(m, Threads::ONE).unwrap();
    let (chosen, rejected) = (rewards(&heldout.chosen), rewards(&heldout.rejected));
    pair_accuracy(&chosen, &rejected, &heldout.prompts, 0).unwrap().value
}

#[test]
fn learns_a_preference_with_and_without_synthesis_and_on_unseen_pairs() {
    let outcome = run(&pairs(300, 8, 1.0, 1), &quick()).unwrap();
    let heldout = pairs(400, 8, 1.0, 2);
    let augmented = outcome.augmented.unwrap();
    for (name, fitted) in [("none", &outcome.none), ("augmented", &augmented.fitted)] {
        let accuracy = heldout_accuracy(fitted, &heldout);
        // The best possible rule, the sum of two dimensions, reaches 84%.
        assert!(accuracy > 0.78, "{name}: {accuracy}");
    }
    let order = augmented.order.unwrap();
    assert!(order.seeds_kept > 0.75 && order.pairs == 300);
}

#[test]
fn every_reading_of_the_method_trains() {
    let (data, heldout) = (pairs(60, 5, 1.4, 1), pairs(400, 5, 1.4, 2));
    let mut found = Vec::new();
    for factor in [1, 2, 4, 9, 64] {
        for pairing in [Pairing::Within, Pairing::Across] {
            let mut settings = MethodSettings { augment: factor, pairing, ..quick() };
            settings.synthesis.origin = Origin::Draw;
            settings.standardise = factor != 2;
            let outcome = run(&data, &settings).unwrap();
            assert_eq!(outcome.augmented.is_some(), factor > 1);
            let augmented = outcome.augmented.as_ref().map(|a| &a.fitted);
            for fitted in std::iter::once(&outcome.none).chain(augmented) {
                let accuracy = heldout_accuracy(fitted, &heldout);
                // The best possible rule, the sum of two dimensions, reaches 92%.
                assert!(accuracy > 0.8, "F = {factor}, {pairing:?}: {accuracy}");
                assert!(fitted.report.fold_log_loss.unwrap() < 2.0f64.ln(), "better than a coin");
            }
            // A reading of its own, and not another one's result.
            let heads: Vec<&[f32]> = std::iter::once(&outcome.none)
                .chain(augmented)
                .map(|f| f.model.head.parameters())
                .collect();
            for head in heads {
                if !found.iter().any(|other: &Vec<f32>| other == head) {
                    found.push(head.to_vec());
                }
            }
        }
    }
    // Without synthesis: with and without standardisation. With it: four factors, two pairings.
    assert_eq!(found.len(), 2 + 4 * 2);
}

#[test]
fn the_same_seed_gives_the_same_model_and_another_seed_another() {
    let data = pairs(50, 6, 0.5, 1);
    let with_seed = |seed| run(&data, &MethodSettings { seed, ..quick() }).unwrap();
    let (a, b, c) = (with_seed(3), with_seed(3), with_seed(4));
    let weights = |o: &Outcome| {
        let augmented = o.augmented.as_ref().unwrap();
        [o.none.model.head.parameters(), augmented.fitted.model.head.parameters()].concat()
    };
    assert_eq!(weights(&a), weights(&b));
    assert_ne!(weights(&a), weights(&c));
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    // Wide enough for several slabs, and enough responses in a step for several chunks.
    let data = pairs(96, 800, 0.5, 5);
    let mut settings = MethodSettings { augment: 8, ..quick() };
    (settings.vae.epochs, settings.head.epochs) = (2, 2);
    settings.head.batch = 96;
    let alone = fit(&data, &settings, Threads(1), &Quiet).unwrap();
    for threads in [2, 3, 8] {
        let together = fit(&data, &settings, Threads(threads), &Quiet).unwrap();
        assert_eq!(alone.none.model, together.none.model, "{threads} threads");
        let (a, b) = (alone.augmented.as_ref().unwrap(), together.augmented.as_ref().unwrap());
        assert_eq!(a.fitted.model, b.fitted.model, "{threads} threads");
        assert_eq!(a.vae.as_ref().unwrap().0, b.vae.as_ref().unwrap().0, "{threads} threads");
    }
}

#[test]
fn rewards_are_normalised_to_mean_0_and_deviation_1_on_the_seeds() {
    let data = pairs(80, 6, 1.0, 1);
    let model = run(&data, &MethodSettings { augment: 1, ..quick() }).unwrap().none.model;
    let rewards = [&data.chosen, &data.rejected].map(|m| model.rewards(m, Threads::ONE).unwrap());
    let all: Vec<f64> = rewards.concat().iter().map(|&r| model.normalise(r)).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
    assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
}

#[test]
fn one_pair_and_pairs_without_difference_are_refused() {
    let one = pairs(1, 4, 1.0, 1);
    assert!(matches!(run(&one, &quick()), Err(CoreError::TooFewPairs { needed: 2, found: 1, .. })));
    let same = pairs(10, 4, 1.0, 1).chosen;
    let same = EmbeddedPairs::new(same.clone(), same).unwrap();
    assert_eq!(run(&same, &quick()).unwrap_err(), CoreError::NoDifference { pairs: 10 });
}

#[test]
fn two_pairs_one_dimension_and_constant_dimensions_train() {
    run(&pairs(2, 3, 1.0, 1), &quick()).unwrap();
    run(&pairs(20, 1, 1.0, 1), &quick()).unwrap();
    let data = pairs(20, 3, 1.0, 1);
    let flat = |m: &Embeddings| {
        let m = m.to_matrix();
        let mut values = m.data().to_vec();
        values.iter_mut().skip(2).step_by(3).for_each(|x| *x = 5.0);
        Matrix::new(values, m.rows(), m.dim()).unwrap()
    };
    let data = EmbeddedPairs::new(flat(&data.chosen), flat(&data.rejected)).unwrap();
    let outcome = run(&data, &quick()).unwrap();
    assert_eq!(outcome.none.model.standardiser.constant_dimensions(), 1);
    let rewards = outcome.none.model.rewards(&data.chosen, Threads::ONE).unwrap();
    assert!(rewards.iter().all(|r| r.is_finite()));
}

#[test]
fn a_divergence_that_runs_away_stops_with_the_step_the_figures_and_what_to_try() {
    let mut settings = quick();
    settings.vae.gamma = 50.0;
    settings.vae.epochs = 2000;
    let error = run(&pairs(100, 6, 1.0, 1), &settings).unwrap_err();
    let CoreError::Diverged { stage: "VAE", step, figures, advice } = &error else {
        panic!("{error}");
    };
    assert!(*step > 1 && figures.contains("W2") && advice.contains("vae.gamma"), "{error}");
}

#[test]
fn an_exploding_head_stops_with_what_to_try() {
    let mut settings = MethodSettings { augment: 1, ..quick() };
    settings.head.learning_rate = 1e6;
    settings.head.weight_decay = 0.0;
    let error = run(&pairs(100, 6, 0.1, 1), &settings).unwrap_err();
    assert!(matches!(&error, CoreError::Diverged { stage: "head", .. }), "{error}");
    assert!(error.to_string().contains("head.learning_rate"), "{error}");
}

#[test]
fn embeddings_of_another_width_are_not_scored() {
    let model = run(&pairs(20, 4, 1.0, 1), &quick()).unwrap().none.model;
    let other = Matrix::new(vec![0.0; 6], 2, 3).unwrap();
    assert!(matches!(model.rewards(&other, Threads::ONE), Err(CoreError::Shape { .. })));
}

/// Stops after a number of looks.
struct StopAfter(AtomicUsize);

impl Progress for StopAfter {
    fn begin(&self, _: &str, _: u64, _: &str) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err()
    }
}

#[test]
fn a_wish_to_stop_is_heard_in_both_trainings() {
    let data = pairs(50, 4, 1.0, 1);
    let stop = |looks| fit(&data, &quick(), Threads::ONE, &StopAfter(AtomicUsize::new(looks)));
    assert_eq!(stop(3).unwrap_err(), CoreError::Cancelled { stage: "head" });
    // The first head takes at most 20 looks, and fewer if it stops early; the VAE five more.
    let vae = (4..25).any(|n| stop(n) == Err(CoreError::Cancelled { stage: "VAE" }));
    assert!(vae);
}

#[test]
fn splits_hold_out_whole_prompts_and_repeat_by_seed() {
    let data = pairs(100, 3, 1.0, 1);
    let prompts: Vec<u32> = (0..100).map(|i| i / 4).collect();
    let data = EmbeddedPairs::with_prompts(data.chosen, data.rejected, prompts).unwrap();
    let s = split(&data, 60, 1, 0).unwrap();
    assert_eq!((s.seeds.len(), s.heldout.len()), (60, 40));
    let prompt = |rows: &[usize]| rows.iter().map(|&i| data.prompts[i]).collect::<Vec<_>>();
    assert!(prompt(&s.seeds).iter().all(|p| !prompt(&s.heldout).contains(p)));
    assert_eq!(s, split(&data, 60, 1, 0).unwrap());
    assert_ne!(s, split(&data, 60, 1, 1).unwrap());
    assert!(matches!(split(&data, 100, 1, 0), Err(CoreError::TooFewPairs { .. })));
    assert!(split(&data, 0, 1, 0).is_err());
}

#[test]
fn splits_report_both_heads_on_the_same_pairs() {
    let data = pairs(150, 6, 1.0, 1);
    let report = run_splits(&data, &quick(), None, 100, 3, &Quiet).unwrap();
    assert_eq!(report.by_split.len(), 3);
    let mean = report.by_split.iter().map(|s| s.0).sum::<f64>() / 3.0;
    assert!((mean - report.none.value).abs() < 1e-12);
    let augmented = report.augmented.unwrap().value;
    let difference = report.difference.unwrap().value;
    assert!((augmented - report.none.value - difference).abs() < 1e-12);
    assert_eq!(report, run_splits(&data, &quick(), None, 100, 3, &Quiet).unwrap());
}

#[test]
fn what_is_chosen_in_a_split_is_chosen_on_its_seeds_alone() {
    let data = pairs(150, 6, 1.0, 1);
    let settings = MethodSettings { seed: 40, ..quick() };
    let shown = Mutex::new(BTreeMap::new());
    // No augmentation in the second split, another head in all.
    let choose = |seeds: &EmbeddedPairs, settings: &MethodSettings, _: &dyn Progress| {
        shown.lock().unwrap().insert(settings.seed, seeds.prompts.clone());
        let mut chosen = settings.clone();
        chosen.head.hidden = vec![];
        chosen.augment = if settings.seed == 41 { 1 } else { 4 };
        Ok(chosen)
    };
    let report = run_splits_choosing(&data, &settings, None, 100, 3, &choose, &Quiet).unwrap();
    for (index, (seed, prompts)) in shown.into_inner().unwrap().into_iter().enumerate() {
        assert_eq!(seed, 40 + index as u64);
        assert_eq!(
            prompts,
            data.select(&split(&data, 100, 40, index as u64).unwrap().seeds).prompts
        );
    }
    // The figures are of what was chosen; there are none over all splits where one has none.
    let mut linear = settings.clone();
    linear.head.hidden = vec![];
    let asked = run_splits(&data, &linear, None, 100, 3, &Quiet).unwrap();
    assert_eq!(report.none, asked.none);
    assert_ne!(report.none, run_splits(&data, &settings, None, 100, 3, &Quiet).unwrap().none);
    assert_eq!((report.augmented, report.difference), (None, None));
    let with: Vec<bool> = report.by_split.iter().map(|split| split.1.is_some()).collect();
    assert_eq!(with, [true, false, true]);
    let fails = |_: &EmbeddedPairs, _: &MethodSettings, _: &dyn Progress| {
        Err(CoreError::TooFewPairs { what: "choosing", needed: 9, found: 8 })
    };
    let error = run_splits_choosing(&data, &settings, None, 100, 3, &fails, &Quiet).unwrap_err();
    assert!(matches!(error, CoreError::TooFewPairs { needed: 9, .. }), "{error}");
}

#[test]
fn holding_out_takes_the_share_of_prompts_asked_for_and_never_all() {
    let prompts: Vec<u32> = (0..100).map(|i| i / 2).collect();
    let drawn = |share| hold_out(&prompts, share, 1).iter().filter(|&&h| h).count();
    assert_eq!([0.0, 0.001, 0.3, 0.999].map(drawn), [0, 2, 30, 98]);
    let held = hold_out(&prompts, 0.3, 1);
    assert!(held.chunks(2).all(|pair| pair[0] == pair[1]));
    assert_ne!(held, hold_out(&prompts, 0.3, 2));
    assert_eq!(hold_out(&[7], 0.5, 1), [false]);
}

#[test]
fn the_gain_of_augmentation_is_a_paired_difference_on_folds_with_its_error() {
    let outcome = run(&pairs(100, 6, 1.0, 1), &quick()).unwrap();
    let gain = outcome.fold_gain().unwrap();
    let with = &outcome.augmented.as_ref().unwrap().fitted.report;
    let none = &outcome.none.report;
    // Five folds of twenty pairs: the mean over pairs is the mean over folds.
    assert!((gain.mean - (none.fold_log_loss.unwrap() - with.fold_log_loss.unwrap())).abs() < 1e-9);
    let differences: Vec<f64> = none
        .fold_losses
        .iter()
        .zip(&with.fold_losses)
        .map(|(a, b)| a.unwrap() - b.unwrap())
        .collect();
    let n = differences.len() as f64;
    assert_eq!(n, 100.0);
    let sum: f64 = differences.iter().map(|d| (d - gain.mean).powi(2)).sum();
    assert!((gain.standard_error - (sum / (n - 1.0) / n).sqrt()).abs() < 1e-12);
    assert_eq!(gain.is_clear(), gain.mean > gain.standard_error);
    let none = run(&pairs(20, 4, 1.0, 1), &MethodSettings { augment: 1, ..quick() }).unwrap();
    assert_eq!(none.fold_gain(), None);
}
