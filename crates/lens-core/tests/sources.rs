//! Where synthetic responses come from must be the only thing in which the compared heads differ.
#![allow(clippy::unwrap_used)]

use lens_core::head::Augmentation;
use lens_core::head::HeadSettings;
use lens_core::method::TrainingContext;
use lens_core::pairing::{Pairing, synthetic_per_side};
use lens_core::rng::{Purpose, Stream};
use lens_core::source::{DrawOptions, SourceKind, Synthetic, SyntheticEmbeddings};
use lens_core::synthesis::{SynthesisSettings, Weighing};
use lens_core::{EmbeddedPairs, Matrix, MethodSettings, Quiet, Threads, fit};

const D: usize = 6;

fn pairs(n: usize) -> EmbeddedPairs {
    let mut stream = Stream::new(2, Purpose::Splits, 0);
    let mut side = |shift: f32| {
        let data = (0..n * D).map(|i| stream.normal() + if i % D < 2 { shift } else { 0.0 });
        Matrix::new(data.collect(), n, D).unwrap()
    };
    let chosen = side(0.5);
    EmbeddedPairs::new(chosen, side(-0.5)).unwrap()
}

fn quick() -> MethodSettings {
    let mut settings = MethodSettings::default();
    settings.vae.epochs = 12;
    settings.vae.latent = 3;
    settings.vae.hidden = 8;
    settings.head = HeadSettings { hidden: vec![8], epochs: 6, batch: 16, ..settings.head };
    settings
}

/// A head that trains on latent codes is the head that trains on the same responses decoded.
#[test]
fn codes_and_their_embeddings_train_the_same_head() {
    let pairs = pairs(60);
    let hidden = [vec![8], vec![5, 4], vec![]];
    let cases = [(4, Pairing::Within), (7, Pairing::Within), (9, Pairing::Across)];
    for ((factor, pairing), hidden) in cases.into_iter().zip(hidden) {
        let mut settings = MethodSettings { augment: factor, pairing, ..quick() };
        settings.head.hidden = hidden;
        let context = TrainingContext::new(&pairs, &settings, Threads::ONE).unwrap();
        let source = context.source(&settings, &Quiet).unwrap();
        let codes = context.synthesise(source.as_ref(), &settings).unwrap();
        let draw = |pair: usize, chosen: &mut [f32], rejected: &mut [f32]| {
            let [a, b] = codes.embeddings(pair, Threads::ONE);
            chosen.copy_from_slice(&a);
            rejected.copy_from_slice(&b);
        };
        let per_side = synthetic_per_side(factor);
        for memory_mb in [0, 64] {
            let synthesis = SynthesisSettings { memory_mb, ..SynthesisSettings::default() };
            let options =
                DrawOptions { per_side, synthesis: &synthesis, seed: 0, threads: Threads::ONE };
            let decoded = SyntheticEmbeddings::new(pairs.len(), D, options, Box::new(draw));
            let decoded = Synthetic::Embeddings(decoded);
            let train = |synthetic| {
                let augmentation =
                    Augmentation { factor, pairing, synthetic, weighing: Weighing::default() };
                context.head(&settings.head, Some(&augmentation), &Quiet).unwrap()
            };
            let (a, b) = (train(&codes), train(&decoded));
            let rewards = |f: &lens_core::method::Fitted| {
                f.model.rewards(&pairs.chosen, Threads::ONE).unwrap()
            };
            let none = context.head(&settings.head, None, &Quiet).unwrap();
            let off = |x: &[f32], y: &[f32]| {
                x.iter().zip(y).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max)
            };
            let (a, b, none) = (rewards(&a), rewards(&b), rewards(&none));
            assert!(off(&a, &b) < 1e-3, "{factor}: {}", off(&a, &b));
            // They would agree, too, if neither saw a synthetic response.
            assert!(off(&a, &none) > 10.0 * off(&a, &b), "{factor}: {}", off(&a, &none));
        }
    }
}

#[test]
fn every_source_trains_a_head_and_the_same_bytes_twice() {
    let pairs = pairs(80);
    let kinds =
        [SourceKind::Lens, SourceKind::Perturbation, SourceKind::Gaussian, SourceKind::Mixup];
    let mut parameters = Vec::new();
    for source in kinds {
        let settings = MethodSettings { source, ..quick() };
        let run = || fit(&pairs, &settings, Threads::ONE, &Quiet).unwrap().augmented.unwrap();
        let (a, b) = (run(), run());
        assert_eq!(a.fitted.model, b.fitted.model);
        assert_eq!(a.vae.is_some(), source == SourceKind::Lens);
        let order = a.order.unwrap();
        assert!(order.pairs == 80 && order.drift_mean > 0.0, "{source:?}: {order:?}");
        parameters.push(a.fitted.model.head.parameters().to_vec());
    }
    for (i, a) in parameters.iter().enumerate() {
        assert!(parameters[..i].iter().all(|b| a != b));
    }
}

/// Synthetic responses that lie on their seeds keep every order that the seeds have, and do not drift;
/// with much noise they lose some of it.
#[test]
fn order_is_kept_where_synthetic_responses_are_their_seeds() {
    let pairs = pairs(80);
    let order = |variance| {
        let mut settings = MethodSettings { source: SourceKind::Perturbation, ..quick() };
        settings.rivals.perturbation_variance = variance;
        (settings.head.epochs, settings.head.learning_rate) = (60, 1e-2);
        let outcome = fit(&pairs, &settings, Threads::ONE, &Quiet).unwrap();
        let reference = outcome.none.report.fold_accuracy.unwrap();
        let order = outcome.augmented.unwrap().order.unwrap();
        // The reference is the member that was not trained on the pair: five folds of 16 pairs.
        assert!((order.seeds_kept - reference).abs() < 1e-12, "{reference} {order:?}");
        order
    };
    let still = order(0.0);
    assert!(still.seeds_kept > 0.65, "there is an order to keep: {still:?}");
    assert_eq!(still.synthetic_kept, still.seeds_kept);
    assert!(still.drift_mean < 1e-5 && still.drift_p95 < 1e-5, "{still:?}");
    let noisy = order(9.0);
    assert_eq!((noisy.seeds_kept, noisy.pairs), (still.seeds_kept, 80));
    assert!(noisy.synthetic_kept < still.synthetic_kept, "{noisy:?}");
    assert!(noisy.drift_mean > noisy.seed_margin_median, "{noisy:?}");
    assert!(noisy.drift_p95 > noisy.drift_mean, "{noisy:?}");
}

#[test]
fn parameters_of_rivals_out_of_range_are_refused_by_name() {
    let mut settings = MethodSettings { source: SourceKind::Mixup, ..quick() };
    settings.rivals.mixup_alpha = 0.0;
    let error = fit(&pairs(20), &settings, Threads::ONE, &Quiet).unwrap_err();
    assert!(error.to_string().contains("rivals.mixup_alpha"), "{error}");
    settings.rivals.mixup_alpha = 1.0;
    settings.rivals.perturbation_variance = f64::NAN;
    let error = fit(&pairs(20), &settings, Threads::ONE, &Quiet).unwrap_err();
    assert!(error.to_string().contains("perturbation_variance"), "{error}");
}
