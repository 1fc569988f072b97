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
    Choices { gammas: Vec::new(), outer_folds: 3, ..Choices::default() }
}

/// Views side by side, with names.
fn views(all: &[(&str, EmbeddedPairs)]) -> (EmbeddedPairs, Vec<String>) {
    let n = all[0].1.len();
    let side = |of: fn(&EmbeddedPairs) -> &lens_core::Embeddings| {
        let parts: Vec<Matrix> = all.iter().map(|(_, p)| of(p).to_matrix()).collect();
        let data =
            (0..n).flat_map(|i| parts.iter().flat_map(|p| p.row(i).to_vec()).collect::<Vec<_>>());
        Matrix::new(data.collect(), n, D * all.len()).unwrap()
    };
    let pairs = EmbeddedPairs::new(side(|p| &p.chosen), side(|p| &p.rejected)).unwrap();
    let names = all.iter().map(|(name, _)| (*name).to_owned()).collect();
    (pairs.with_views(vec![D; all.len()]).unwrap(), names)
}

fn candidates(tuned: &Tuned, kind: CandidateKind) -> Vec<&CandidateResult> {
    tuned.candidates.iter().filter(|c| c.kind == kind).collect()
}

#[test]
fn the_view_that_tells_the_sides_apart_is_chosen_and_everything_tried_is_listed() {
    let (pairs, names) =
        views(&[("noise", pairs(100, 0, 0.0, 1)), ("telling", pairs(100, 2, 0.8, 2))]);
    let tuned = tune(&pairs, &names, &quick(), &few(), &Quiet).unwrap();
    assert!(tuned.views.contains(&1), "{:?}", tuned.view_names);
    // The head of the settings, a logistic head on that view, and on both; two latent sources and one of
    // them residual, two of noise, mixup and the Gaussian.
    assert_eq!(
        (
            candidates(&tuned, CandidateKind::Head).len(),
            candidates(&tuned, CandidateKind::Source).len()
        ),
        (3, 7)
    );
    for kind in [CandidateKind::Head, CandidateKind::Source] {
        let of = candidates(&tuned, kind);
        let best = of.iter().filter(|t| t.best).collect::<Vec<_>>();
        assert_eq!(best.len(), 1, "{kind:?}");
        let lowest = of.iter().filter_map(|t| t.log_loss).fold(f64::INFINITY, f64::min);
        assert_eq!(best[0].log_loss, Some(lowest), "{kind:?}");
    }
    let loss =
        |label: &str| tuned.candidates.iter().find(|t| t.label == label).unwrap().log_loss.unwrap();
    // They share a VAE, but not the noise.
    assert_ne!(loss("lens, gamma 0.1, s^2 0.01, 4x"), loss("lens, gamma 0.1, s^2 0.1, 4x"));
    // The settings name the first view, in which there is nothing to find.
    assert!(tuned.nested.chosen_minus_given.value > 0.15, "{:?}", tuned.nested);
    assert!(tuned.settings.augment > 1 && tuned.nested.log_loss_gain.is_some());
}

#[test]
fn without_augmentation_none_is_tried() {
    let (pairs, names) = views(&[("one", pairs(60, 2, 0.5, 3))]);
    let choices = Choices { augment: false, ..few() };
    let tuned = tune(&pairs, &names, &quick(), &choices, &Quiet).unwrap();
    assert!(candidates(&tuned, CandidateKind::Source).is_empty());
    assert_eq!(
        (tuned.settings.augment, tuned.augment, tuned.nested.log_loss_gain),
        (1, false, None)
    );
}

#[test]
fn tuning_twice_says_the_same() {
    let (pairs, names) = views(&[("one", pairs(40, 2, 0.5, 3)), ("two", pairs(40, 1, 0.5, 4))]);
    let run =
        || serde_json::to_string(&tune(&pairs, &names, &quick(), &few(), &Quiet).unwrap()).unwrap();
    assert_eq!(run(), run());
}

/// Other views of nothing cost a little; the given head is only kept where that is clear.
#[test]
fn the_given_head_stays_where_it_is_clearly_better() {
    let telling = ("telling", pairs(150, 3, 0.8, 21));
    let mut all = vec![telling];
    all.extend((0..12).map(|i| ("noise", pairs(150, 0, 0.0, 30 + i))));
    let (pairs, names) = views(&all);
    let choices = Choices { augment: false, ..few() };
    let tuned = tune(&pairs, &names, &quick(), &choices, &Quiet).unwrap();
    assert_eq!(tuned.views, [0], "{:?}", tuned.candidates);
}

/// Nothing can be learned from labels that a coin decided, so nothing may seem to be won by choosing
/// among many: the gain that is reported is not that of the best of many.
#[test]
fn choosing_among_many_does_not_look_like_skill() {
    let coins: Vec<(&str, EmbeddedPairs)> =
        (0..6).map(|i| ("coin", pairs(120, 0, 0.0, 10 + i))).collect();
    let (pairs, names) = views(&coins);
    let choices = Choices { augment: false, ..few() };
    let tuned = tune(&pairs, &names, &quick(), &choices, &Quiet).unwrap();
    let seen = tuned.candidates.iter().filter_map(|t| t.accuracy).fold(0.0, f64::max);
    let [low, high] = tuned.nested.chosen.ci95;
    assert!(low < 0.5 && 0.5 < high, "{:?}", tuned.nested);
    assert!(seen >= tuned.nested.chosen.value, "{seen} {:?}", tuned.nested);
}

#[test]
fn a_source_that_runs_away_is_listed_and_not_taken() {
    let mut settings = quick();
    settings.vae.gamma = 50.0;
    settings.vae.epochs = 3000;
    let (pairs, names) = views(&[("one", pairs(60, 2, 0.5, 4))]);
    let tuned = tune(&pairs, &names, &settings, &few(), &Quiet).unwrap();
    let lens: Vec<&CandidateResult> =
        tuned.candidates.iter().filter(|t| t.label.starts_with("lens")).collect();
    assert!(lens.iter().all(|t| t.diverged.is_some() && !t.best), "{lens:?}");
    assert_ne!(tuned.settings.source, lens_core::source::SourceKind::Lens);
    let none = Choices { rivals: false, ..few() };
    let tuned = tune(&pairs, &names, &settings, &none, &Quiet).unwrap();
    assert_eq!((tuned.settings.augment, tuned.augment), (1, false));
}

#[test]
fn too_little_to_choose_by_is_refused() {
    let refused = |pairs: EmbeddedPairs, settings: &MethodSettings| {
        let (pairs, names) = (pairs, vec!["one".to_owned()]);
        tune(&pairs, &names, settings, &few(), &Quiet).unwrap_err().to_string()
    };
    assert!(refused(pairs(6, 1, 1.0, 1), &quick()).contains("nested cross-validation"));
    let mut settings = quick();
    settings.head.folds = 1;
    assert!(refused(pairs(60, 1, 1.0, 1), &settings).contains("head.folds"));
    let ties = pairs(40, 1, 1.0, 1).with_labels(vec![Label::Tie; 40]).unwrap();
    assert!(refused(ties, &quick()).contains("tie"));
    let two = pairs(40, 1, 1.0, 1).with_views(vec![D / 2; 2]).unwrap();
    assert!(refused(two, &quick()).contains("names of views"));
}
