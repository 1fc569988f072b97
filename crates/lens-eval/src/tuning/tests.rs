#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use lens_core::head::HeadSettings;
use lens_core::rng::{Purpose, Stream};
use lens_core::{Label, Matrix, Quiet};

const D: usize = 8;

/// Pairs told apart along the first `telling` dimensions, by `shift` standard deviations.
fn pairs(n: usize, telling: usize, shift: f32, seed: u64) -> EmbeddedPairs {
    let mut stream = Stream::new(seed, Purpose::Splits, 0);
    let mut side = |sign: f32| {
        let value = |i: usize| stream.normal() + if i % D < telling { sign * shift } else { 0.0 };
        Matrix::new((0..n * D).map(value).collect(), n, D).unwrap()
    };
    let chosen = side(1.0);
    EmbeddedPairs::new(chosen, side(-1.0)).unwrap()
}

fn quick() -> MethodSettings {
    let mut settings = MethodSettings::default();
    settings.vae.epochs = 12;
    settings.vae.latent = 3;
    settings.vae.hidden = 8;
    settings.head = HeadSettings { hidden: vec![8], epochs: 12, batch: 16, ..settings.head };
    settings.head.learning_rate = 0.01;
    settings
}

fn few() -> Choices {
    Choices { weight_decays: vec![3.0], factors: vec![9], ..Choices::default() }
}

fn view(name: &str, pairs: EmbeddedPairs) -> View {
    View { name: name.to_owned(), pairs }
}

#[test]
fn the_view_that_tells_the_sides_apart_is_chosen_and_everything_tried_is_listed() {
    let views = [view("noise", pairs(80, 0, 0.0, 1)), view("telling", pairs(80, 2, 0.8, 2))];
    let tuned = tune(&views, &quick(), &few(), &Quiet).unwrap();
    assert_eq!((tuned.view, tuned.view_name.as_str()), (1, "telling"));
    let count = |what| tuned.tried.iter().filter(|t| t.what == what).count();
    // Two views; the settings' own weight decay and another; four latent sources, two of noise, mixup
    // and the Gaussian; the factor of these and another.
    assert_eq!(
        [What::View, What::WeightDecay, What::Source, What::Factor].map(count),
        [2, 2, 8, 2]
    );
    for what in [What::View, What::WeightDecay, What::Source, What::Factor] {
        let of: Vec<&Tried> = tuned.tried.iter().filter(|t| t.what == what).collect();
        let best = of.iter().filter(|t| t.best).collect::<Vec<_>>();
        assert_eq!(best.len(), 1, "{what:?}");
        let lowest = of.iter().filter_map(|t| t.fold_log_loss).fold(f64::INFINITY, f64::min);
        assert_eq!(best[0].fold_log_loss, Some(lowest), "{what:?}");
    }
    let loss =
        |label: &str| tuned.tried.iter().find(|t| t.label == label).unwrap().fold_log_loss.unwrap();
    // They share a VAE, but not the noise.
    assert_ne!(loss("lens, gamma 0.1, s^2 0.01, 4x"), loss("lens, gamma 0.1, s^2 0.1, 4x"));
    // Untuned is the first view, in which there is nothing to find.
    assert!(tuned.nested.none.value > tuned.nested.untuned.value + 0.15, "{:?}", tuned.nested);
    assert!(tuned.settings.augment > 1);
}

#[test]
fn tuning_twice_says_the_same() {
    let views = [view("one", pairs(40, 2, 0.5, 3))];
    let run = || serde_json::to_string(&tune(&views, &quick(), &few(), &Quiet).unwrap()).unwrap();
    assert_eq!(run(), run());
}

/// Nothing can be learned from labels that a coin decided, so nothing may seem to be won by choosing
/// among many: what the outer folds say is not what the search saw.
#[test]
fn choosing_among_many_does_not_look_like_skill() {
    let views: Vec<View> = (0..4).map(|i| view("coin", pairs(120, 0, 0.0, 10 + i))).collect();
    let tuned = tune(&views, &quick(), &few(), &Quiet).unwrap();
    let seen = tuned.tried.iter().filter_map(|t| t.fold_accuracy).fold(0.0, f64::max);
    let [low, high] = tuned.nested.none.ci95;
    assert!(low < 0.5 && 0.5 < high, "{:?}", tuned.nested);
    assert!(seen > tuned.nested.none.value, "{seen} {:?}", tuned.nested);
}

#[test]
fn a_source_that_runs_away_is_listed_and_not_taken() {
    let mut settings = quick();
    settings.vae.gamma = 50.0;
    settings.vae.epochs = 3000;
    let choices = Choices { gammas: Vec::new(), ..few() };
    let tuned = tune(&[view("one", pairs(60, 2, 0.5, 4))], &settings, &choices, &Quiet).unwrap();
    let lens: Vec<&Tried> = tuned.tried.iter().filter(|t| t.label.starts_with("lens")).collect();
    assert!(lens.iter().all(|t| t.diverged.is_some() && !t.best), "{lens:?}");
    assert_ne!(tuned.settings.source, lens_core::source::SourceKind::Lens);
    let none = Choices { rivals: false, ..choices };
    let tuned = tune(&[view("one", pairs(60, 2, 0.5, 4))], &settings, &none, &Quiet).unwrap();
    assert_eq!((tuned.settings.augment, tuned.augment), (1, false));
}

#[test]
fn too_little_to_choose_by_is_refused() {
    let refused = |pairs: EmbeddedPairs, settings: &MethodSettings| {
        tune(&[view("one", pairs)], settings, &few(), &Quiet).unwrap_err().to_string()
    };
    assert!(refused(pairs(6, 1, 1.0, 1), &quick()).contains("nested cross-validation"));
    let mut settings = quick();
    settings.head.folds = 1;
    assert!(refused(pairs(60, 1, 1.0, 1), &settings).contains("head.folds"));
    let ties = pairs(40, 1, 1.0, 1).with_labels(vec![Label::Tie; 40]).unwrap();
    assert!(refused(ties, &quick()).contains("tie"));
}
