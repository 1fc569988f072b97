//! The method at its edges, as its users meet them: each a clear refusal or a correct result.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::method::TrainingContext;
use lens_core::metrics::pair_accuracy;
use lens_core::pairing::{Pairing, synthetic_per_side};
use lens_core::rng::{Purpose, Stream};
use lens_core::vae::VaeSettings;
use lens_core::vae::train::{VaeEpoch, train as train_vae};
use lens_core::{
    CoreError, EmbeddedPairs, Embeddings, Label, Matrix, MethodSettings, Outcome, Quiet,
    RewardModel, Standardiser, Threads, fit,
};

/// `n` pairs in `d` dimensions: noise of deviation `size` and a preference along all of them.
fn sized(n: usize, d: usize, size: f32, seed: u64) -> EmbeddedPairs {
    let mut stream = Stream::new(seed, Purpose::Splits, 11);
    let mut side = |sign: f32| {
        let data = (0..n * d).map(|_| size * (stream.normal() + sign)).collect();
        Matrix::new(data, n, d).unwrap()
    };
    let chosen = side(0.7);
    EmbeddedPairs::new(chosen, side(-0.7)).unwrap()
}

fn pairs(n: usize, d: usize) -> EmbeddedPairs {
    sized(n, d, 1.0, 1)
}

/// Both sides, each value changed by its row, its column and itself.
fn changed(pairs: &EmbeddedPairs, change: impl Fn(usize, usize, f32) -> f32) -> EmbeddedPairs {
    let side = |m: &Embeddings| {
        let m = m.to_matrix();
        let d = m.dim();
        let data = m.data().iter().enumerate().map(|(i, &x)| change(i / d, i % d, x)).collect();
        Matrix::new(data, m.rows(), d).unwrap()
    };
    EmbeddedPairs::new(side(&pairs.chosen), side(&pairs.rejected)).unwrap()
}

fn quick() -> MethodSettings {
    let mut settings = MethodSettings::default();
    settings.vae.epochs = 6;
    settings.head.epochs = 10;
    settings.head.learning_rate = 3e-3;
    settings
}

fn with(change: impl FnOnce(&mut MethodSettings)) -> MethodSettings {
    let mut settings = quick();
    change(&mut settings);
    settings
}

fn run(pairs: &EmbeddedPairs, settings: &MethodSettings) -> Result<Outcome, CoreError> {
    fit(pairs, settings, Threads::ONE, &Quiet)
}

fn models(outcome: &Outcome) -> Vec<&RewardModel> {
    let augmented = outcome.augmented.iter().map(|a| &a.fitted.model);
    std::iter::once(&outcome.none.model).chain(augmented).collect()
}

/// Accuracy of every model of a run on its own seed pairs; all rewards must be numbers.
fn accuracies(outcome: &Outcome, pairs: &EmbeddedPairs) -> Vec<f64> {
    let accuracy = |model: &RewardModel| {
        let rewards = |side: &Embeddings| model.rewards(side, Threads::ONE).unwrap();
        let (a, b) = (rewards(&pairs.chosen), rewards(&pairs.rejected));
        assert!(a.iter().chain(&b).all(|r| r.is_finite()));
        assert!(model.reward_mean.is_finite() && model.reward_deviation.is_finite());
        pair_accuracy(&a, &b, &pairs.prompts, 0).unwrap().value
    };
    models(outcome).into_iter().map(accuracy).collect()
}

/// Trains, and asks of every model that it gets nearly all of its seed pairs right.
fn learns(pairs: &EmbeddedPairs, settings: &MethodSettings) -> Outcome {
    let outcome = run(pairs, settings).unwrap();
    for accuracy in accuracies(&outcome, pairs) {
        assert!(accuracy > 0.8, "{accuracy} with {settings:?}");
    }
    outcome
}

#[test]
fn one_pair_trains_only_where_nothing_is_held_out() {
    let error = run(&pairs(1, 4), &quick()).unwrap_err();
    assert!(matches!(error, CoreError::TooFewPairs { needed: 2, found: 1, .. }), "{error}");
    assert!(error.to_string().contains("head.folds = 1"), "{error}");
    let outcome = learns(&pairs(1, 4), &with(|s| s.head.folds = 1));
    // Nothing was held out to tell by.
    assert_eq!((outcome.none.report.fold_log_loss, outcome.fold_gain()), (None, None));
    assert_eq!(outcome.augmented.unwrap().order, None);
}

#[test]
fn no_pair_and_no_dimension_are_refused() {
    let none = EmbeddedPairs::new(Matrix::default(), Matrix::default()).unwrap();
    let empty = Matrix::new(Vec::new(), 0, 4).unwrap();
    let empty = EmbeddedPairs::new(empty.clone(), empty).unwrap();
    let thin = Matrix::new(Vec::new(), 9, 0).unwrap();
    let thin = EmbeddedPairs::new(thin.clone(), thin).unwrap();
    for folds in [1, 5] {
        for standardise in [true, false] {
            let settings = with(|s| (s.head.folds, s.standardise) = (folds, standardise));
            for pairs in [&none, &empty] {
                let error = run(pairs, &settings).unwrap_err();
                assert!(matches!(error, CoreError::TooFewPairs { found: 0, .. }), "{error}");
            }
            assert_eq!(run(&thin, &settings).unwrap_err(), CoreError::NoDifference { pairs: 9 });
        }
    }
    let error = Matrix::new(Vec::new(), usize::MAX, 2).unwrap_err();
    assert!(matches!(error, CoreError::Shape { .. }), "{error}");
}

#[test]
fn two_pairs_and_one_dimension_are_learned_from() {
    for folds in [1, 2, 5] {
        let settings = with(|s| s.head.folds = folds);
        let outcome = run(&pairs(2, 5), &settings).unwrap();
        accuracies(&outcome, &pairs(2, 5));
        learns(&pairs(60, 1), &settings);
    }
}

#[test]
fn constant_dimensions_carry_nothing_and_nothing_else_is_refused() {
    let plain = pairs(60, 3);
    let flat = changed(&plain, |_, j, x| if j == 1 { 7.5 } else { x });
    let outcome = learns(&flat, &quick());
    assert_eq!(outcome.none.model.standardiser.constant_dimensions(), 1);
    // Whatever new embeddings have there moves no reward.
    let moved = changed(&flat, |_, j, x| if j == 1 { -3.0 } else { x });
    for model in models(&outcome) {
        let rewards = |p: &EmbeddedPairs| model.rewards(&p.chosen, Threads::ONE).unwrap();
        assert_eq!(rewards(&flat), rewards(&moved));
    }

    let constant = changed(&plain, |_, _, _| 2.0);
    assert_eq!(run(&constant, &quick()).unwrap_err(), CoreError::NoDifference { pairs: 60 });
    // Sides that differ by no more than rounding.
    let rounding = changed(&plain, |_, _, x| if x > 0.0 { 1e6 } else { 1e6 + 0.0625 });
    let error = run(&rounding, &quick()).unwrap_err();
    assert_eq!(error, CoreError::AllConstant { dim: 3, pairs: 60 });
    assert!(error.to_string().contains("nothing to learn from"), "{error}");
}

#[test]
fn equal_pairs_among_others_do_no_harm() {
    let plain = pairs(80, 4);
    let chosen = plain.chosen.to_matrix();
    let mut rejected = plain.rejected.to_matrix().data().to_vec();
    for i in (0..80).step_by(4) {
        rejected[i * 4..(i + 1) * 4].copy_from_slice(chosen.row(i));
    }
    let some = EmbeddedPairs::new(chosen, Matrix::new(rejected, 80, 4).unwrap()).unwrap();
    let outcome = run(&some, &quick()).unwrap();
    // A quarter of the pairs are ties of rewards, which count one half.
    assert!(accuracies(&outcome, &some).iter().all(|&a| a > 0.75 * 0.85 + 0.125));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let data = pairs(20, 3);
    let refused = |name: &str, settings: MethodSettings| {
        let error = run(&data, &settings).unwrap_err();
        assert!(matches!(&error, CoreError::Setting { name: n, .. } if *n == name), "{error}");
    };
    for factor in [0, 4097, usize::MAX] {
        refused("augment", with(|s| s.augment = factor));
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused("vae.beta", with(|s| s.vae.beta = bad));
        refused("vae.gamma", with(|s| s.vae.gamma = bad));
        refused("vae.learning_rate", with(|s| s.vae.learning_rate = bad));
        refused("synthesis.noise_variance", with(|s| s.synthesis.noise_variance = bad));
        refused("head.learning_rate", with(|s| s.head.learning_rate = bad));
        refused("head.dropout", with(|s| s.head.dropout = bad));
        refused("head.label_smoothing", with(|s| s.head.label_smoothing = bad));
        refused("head.margin_weight", with(|s| s.head.margin_weight = bad));
        refused("head.tie_threshold", with(|s| s.head.tie_threshold = bad));
        refused("head.weight_decay", with(|s| s.head.weight_decay = bad));
    }
    refused("head.dropout", with(|s| s.head.dropout = 1.0));
    refused("vae.w2_limit", with(|s| s.vae.w2_limit = f64::NAN));
    refused("synthesis.candidates", with(|s| s.synthesis.candidates = 0));
    refused("head.hidden", with(|s| s.head.hidden = vec![8, 0]));
    refused("head.members", with(|s| s.head.members = 0));
    refused("head.folds", with(|s| s.head.folds = 0));
    refused("head.batch", with(|s| s.head.batch = 0));
    refused("vae.batch", with(|s| s.vae.batch = 0));
}

#[test]
fn extreme_weights_of_the_vae_give_figures_or_the_step_where_they_ended() {
    let data = pairs(60, 6);
    let mut ended = 0;
    for beta in [0.0, 1e-9, 0.1, 1e6] {
        for gamma in [0.0, 1e-9, 0.1, 1e6] {
            let settings = with(|s| (s.vae.beta, s.vae.gamma, s.vae.epochs) = (beta, gamma, 400));
            match run(&data, &settings) {
                Ok(outcome) => {
                    accuracies(&outcome, &data);
                    let report = &outcome.augmented.unwrap().vae.unwrap().1;
                    let finite = |x: f64| assert!(x.is_finite(), "{beta} {gamma}");
                    report.epochs.iter().for_each(|e| finite(e.total + e.kl + e.w2));
                    finite(report.mean_abs_mu + report.unexplained);
                }
                Err(CoreError::Diverged { stage: "VAE", step, figures, advice }) => {
                    ended += 1;
                    assert!(step >= 1 && figures.contains("KL"), "{figures}");
                    assert!(advice.contains("vae.beta (now "), "{advice}");
                }
                Err(error) => panic!("beta {beta}, gamma {gamma}: {error}"),
            }
        }
    }
    assert!((1..16).contains(&ended), "{ended}");
}

#[test]
fn a_collapsed_posterior_is_caught_with_what_to_try() {
    let settings = with(|s| (s.vae.beta, s.vae.gamma, s.vae.epochs) = (1e3, 0.0, 400));
    let error = run(&pairs(60, 6), &settings).unwrap_err();
    let CoreError::Diverged { stage: "VAE", step, figures, advice } = &error else {
        panic!("{error}");
    };
    // One step an epoch, and half of the epochs are its chance.
    assert!((200..=400).contains(step), "{error}");
    assert!(figures.starts_with("posterior collapse: none of the 16 latents"), "{error}");
    assert!(advice.contains("vae.beta (now 1000)") && advice.contains("augment = 1"), "{error}");
}

#[test]
fn a_divergence_that_runs_away_is_caught_before_it_is_no_number() {
    let settings = VaeSettings { beta: 1e-9, gamma: 10.0, epochs: 3000, ..quick().vae };
    let error = run(&pairs(60, 6), &with(|s| s.vae = settings)).unwrap_err();
    let CoreError::Diverged { stage: "VAE", step, figures, advice } = &error else {
        panic!("{error}");
    };
    assert!(*step > 1 && figures.contains("over the limit of 100"), "{error}");
    assert!(advice.contains("vae.gamma (now 10)"), "{error}");
}

#[test]
fn noise_from_none_to_far_too_much() {
    let data = pairs(60, 6);
    for variance in [0.0, 1e-30, 1.0] {
        learns(&data, &with(|s| s.synthesis.noise_variance = variance));
    }
    for variance in [1e12, 1e77, 1e300] {
        match run(&data, &with(|s| s.synthesis.noise_variance = variance)) {
            Ok(outcome) => drop(accuracies(&outcome, &data)),
            Err(error) => {
                assert!(matches!(error, CoreError::Diverged { stage: "head", .. }), "{error}");
                assert!(error.to_string().contains("synthesis.noise_variance"), "{error}");
            }
        }
    }
}

#[test]
fn as_many_synthetic_responses_as_asked_for_however_few_are_drawn() {
    for (factor, candidates) in [(64, 1), (4096, 1), (2, 1024)] {
        let settings = with(|s| {
            (s.augment, s.synthesis.candidates) = (factor, candidates);
            (s.head.epochs, s.head.folds) = (2, 1);
        });
        let data = pairs(6, 4);
        let context = TrainingContext::new(&data, &settings, Threads::ONE).unwrap();
        let source = context.source(&settings, &Quiet).unwrap();
        let synthetic = context.synthesise(source.as_ref(), &settings).unwrap();
        assert_eq!(synthetic.per_side(), synthetic_per_side(factor));
        for pair in 0..6 {
            for side in synthetic.embeddings(pair, Threads::ONE) {
                let mut different: Vec<Vec<u32>> =
                    side.chunks_exact(4).map(|e| e.iter().map(|x| x.to_bits()).collect()).collect();
                different.sort_unstable();
                different.dedup();
                assert_eq!(different.len(), synthetic_per_side(factor), "{factor} {candidates}");
            }
        }
        accuracies(&run(&data, &settings).unwrap(), &data);
    }
}

#[test]
fn values_that_are_no_numbers_are_named_by_row_and_column() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![0.5; 12];
        values[7] = bad;
        let error = Matrix::new(values, 4, 3).unwrap_err();
        assert!(matches!(error, CoreError::NotFinite { row: 2, column: 1, .. }), "{error}");
    }
}

#[test]
fn the_unit_of_the_embeddings_does_not_matter() {
    for size in [1e-30, 1e-12, 1e12, 1e30] {
        let outcome = learns(&sized(60, 4, size, 1), &quick());
        assert_eq!(outcome.none.model.standardiser.constant_dimensions(), 0, "{size}");
    }
    // Too small for an inverse: that they do not vary is said.
    let error = run(&sized(60, 4, 1e-42, 1), &quick()).unwrap_err();
    assert_eq!(error, CoreError::AllConstant { dim: 4, pairs: 60 });
    // At the very end of the range differences are no numbers any more.
    match run(&changed(&pairs(60, 4), |_, _, x| x.clamp(-1.0, 1.0) * f32::MAX), &quick()) {
        Ok(outcome) => drop(accuracies(&outcome, &pairs(60, 4))),
        Err(error) => assert!(matches!(error, CoreError::Diverged { .. }), "{error}"),
    }
    // As they are, large values are more than a head of this learning rate can take.
    let raw = with(|s| s.standardise = false);
    let error = run(&sized(60, 4, 1e30, 1), &raw).unwrap_err();
    assert!(matches!(error, CoreError::Diverged { stage: "head", .. }), "{error}");
    accuracies(&run(&sized(60, 4, 1e-30, 1), &raw).unwrap(), &sized(60, 4, 1e-30, 1));
}

#[test]
fn ties_and_margins_are_learned_from_together() {
    let data = pairs(90, 4);
    let label = |i: usize| match i % 3 {
        0 => Label::Tie,
        1 => Label::Preferred { margin: 1.5 },
        _ => Label::default(),
    };
    let labels: Vec<Label> = (0..90).map(label).collect();
    let mixed = data.clone().with_labels(labels.clone()).unwrap();
    for pairing in [Pairing::Within, Pairing::Across] {
        learns(&mixed, &with(|s| s.pairing = pairing));
    }

    let ties = data.clone().with_labels(vec![Label::Tie; 90]).unwrap();
    let error = run(&ties, &quick()).unwrap_err();
    assert!(matches!(error, CoreError::TooFewPairs { found: 0, .. }), "{error}");
    assert!(error.to_string().contains("every pair is a tie"), "{error}");
    // One pair that is none is enough, also where it is held out from some.
    let mut labels = vec![Label::Tie; 90];
    labels[4] = Label::default();
    let nearly = data.clone().with_labels(labels).unwrap();
    accuracies(&run(&nearly, &quick()).unwrap(), &nearly);
    assert!(matches!(data.with_labels(vec![Label::Tie; 89]), Err(CoreError::Shape { .. })));
}

#[test]
fn margins_without_measure() {
    let data = pairs(60, 4);
    let with_margin = |margin| {
        let mut labels = vec![Label::default(); 60];
        labels[17] = Label::Preferred { margin };
        data.clone().with_labels(labels)
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = with_margin(bad).unwrap_err();
        assert!(matches!(error, CoreError::Margin { pair: 17, .. }), "{error}");
    }
    // A margin below 0 asks for less than a better side; it is not ours to forbid.
    learns(&with_margin(-0.5).unwrap(), &quick());
    for (margin, weight) in [(1e30, 1.0), (f32::MAX, 10.0)] {
        let settings = with(|s| s.head.margin_weight = weight);
        let error = run(&with_margin(margin).unwrap(), &settings).unwrap_err();
        assert!(matches!(error, CoreError::Diverged { stage: "head", step: 1, .. }), "{error}");
        assert!(error.to_string().contains("head.margin_weight (now "), "{error}");
    }
    learns(&with_margin(f32::MAX).unwrap(), &with(|s| s.head.margin_weight = 0.0));
}

#[test]
fn every_shape_of_head_trains() {
    let data = pairs(70, 5);
    for hidden in [vec![], vec![1], vec![16, 8, 4], vec![2; 16]] {
        for dropout in [0.0, 0.9] {
            let settings = with(|s| {
                (s.head.hidden, s.head.dropout) = (hidden.clone(), dropout);
                s.head.epochs = 30;
            });
            let outcome = run(&data, &settings).unwrap();
            let accuracies = accuracies(&outcome, &data);
            // Those that can: a wide enough layer, and most of it there.
            if hidden.is_empty() || (hidden[0] == 16 && dropout == 0.0) {
                assert!(accuracies.iter().all(|&a| a > 0.8), "{hidden:?} {dropout} {accuracies:?}");
            }
        }
    }
}

#[test]
fn steps_of_one_pair_and_steps_larger_than_the_data() {
    let data = pairs(30, 4);
    for batch in [1, 29, 30, 31, 100_000, usize::MAX] {
        let settings = with(|s| (s.head.batch, s.vae.batch, s.head.epochs) = (batch, batch, 20));
        learns(&data, &settings);
    }
}

#[test]
fn folds_and_members_need_not_match() {
    let data = pairs(7, 3);
    let prompts = vec![0, 0, 1, 2, 2, 3, u32::MAX];
    let shared = EmbeddedPairs::with_prompts(data.chosen, data.rejected, prompts).unwrap();
    for (members, folds) in [(1, 5), (5, 1), (7, 2), (3, 1000), (8, 1000), (1, 1)] {
        let settings = with(|s| (s.head.members, s.head.folds) = (members, folds));
        let outcome = run(&shared, &settings).unwrap();
        accuracies(&outcome, &shared);
        assert_eq!(outcome.none.report.kept_epoch.len(), members);
        // Five prompts: with at least five members of as many folds every pair is judged.
        let judged = outcome.none.report.fold_losses.iter().flatten().count();
        assert_eq!(judged > 0, folds > 1, "{members} {folds}");
        assert_eq!(judged == 7, folds > 1 && members >= folds.min(5), "{members} {folds}");
    }
}

#[test]
fn any_number_of_threads_agrees_and_repeats_to_the_bit() {
    let data = pairs(150, 70);
    let settings = with(|s| (s.augment, s.head.epochs) = (9, 5));
    let weights = |threads: usize| -> Vec<Vec<f32>> {
        let outcome = fit(&data, &settings, Threads(threads), &Quiet).unwrap();
        let vae = outcome.augmented.as_ref().unwrap().vae.as_ref().unwrap().0.parameters().to_vec();
        let heads = models(&outcome).into_iter().map(|m| m.head.parameters().to_vec());
        heads.chain([vae]).collect()
    };
    let one = weights(1);
    for threads in [1, 2, 7] {
        let first = weights(threads);
        assert!(first == weights(threads), "{threads} threads do not repeat");
        for (a, b) in first.iter().flatten().zip(one.iter().flatten()) {
            assert!((a - b).abs() < 1e-3, "{threads} threads: {a} {b}");
        }
    }
}

/// While beta and gamma are still nought, reconstruction is all that is minimised.
#[test]
fn a_warm_up_begins_with_reconstruction_alone() {
    let all = pairs(40, 6);
    let standardiser = Standardiser::fit(&all);
    let settings = VaeSettings { epochs: 6, warm_up: 2, ..VaeSettings::default() };
    let train = |settings: &VaeSettings| {
        let trained = train_vae(&all, &standardiser, settings, None, 1, Threads::ONE, &Quiet);
        trained.unwrap().1.epochs
    };
    let warm = train(&settings);
    let weighted = |e: &VaeEpoch, share: f64| {
        e.reconstruction + share * (settings.beta * e.kl - settings.gamma * e.w2)
    };
    for (epoch, share) in warm.iter().zip([0.0, 0.5, 1.0, 1.0, 1.0, 1.0]) {
        assert!((epoch.total - weighted(epoch, share)).abs() < 1e-9, "{epoch:?}");
    }
    let cold = train(&VaeSettings { warm_up: 0, ..settings.clone() });
    assert!((cold[0].total - weighted(&cold[0], 1.0)).abs() < 1e-9);
    assert!(VaeSettings { warm_up: 6, ..settings }.check().is_err());
}
