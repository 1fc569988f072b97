#![allow(clippy::unwrap_used)]
use super::*;
use crate::head::{Augmentation, HeadKind};
use crate::method::{Fitted, TrainingContext, WarmStart};
use crate::pairing::Pairing;
use crate::progress::Quiet;
use crate::rng::{Purpose, Stream};
use crate::source::SourceKind;
use crate::synthesis::{Emphasis, Gate, Weighing};
use crate::{Extras, Matrix, MethodSettings, fit, fit_with};

/// Pairs whose first `telling` of `d` dimensions tell the sides apart, by `shift` deviations.
fn pairs(n: usize, d: usize, telling: usize, shift: f32, seed: u64) -> EmbeddedPairs {
    let mut stream = Stream::new(seed, Purpose::Splits, 0);
    let mut side = |sign: f32| {
        let value = |i: usize| stream.normal() + if i % d < telling { sign * shift } else { 0.0 };
        Matrix::new((0..n * d).map(value).collect(), n, d).unwrap()
    };
    let chosen = side(1.0);
    EmbeddedPairs::new(chosen, side(-1.0)).unwrap()
}

fn settings() -> MethodSettings {
    let head = HeadSettings { kind: HeadKind::Logistic, ..HeadSettings::default() };
    MethodSettings { augment: 1, head, ..MethodSettings::default() }
}

fn trained(pairs: &EmbeddedPairs, settings: &MethodSettings) -> Fitted {
    fit(pairs, settings, Threads::ONE, &Quiet).unwrap().none
}

fn accuracy(fitted: &Fitted, pairs: &EmbeddedPairs) -> f64 {
    let chosen = fitted.model.rewards(&pairs.chosen, Threads::ONE).unwrap();
    let rejected = fitted.model.rewards(&pairs.rejected, Threads::ONE).unwrap();
    crate::metrics::credits(&chosen, &rejected).iter().sum::<f64>() / pairs.len() as f64
}

#[test]
fn it_learns_what_is_there_and_the_folds_say_how_well() {
    let (seeds, heldout) = (pairs(200, 30, 4, 0.3, 1), pairs(1000, 30, 4, 0.3, 2));
    let fitted = trained(&seeds, &settings());
    let found = accuracy(&fitted, &heldout);
    // The best there is: a difference of 0.6 sqrt(4) against a deviation of sqrt(2).
    assert!((0.72..0.83).contains(&found), "{found}");
    assert!((fitted.report.fold_accuracy.unwrap() - found).abs() < 0.08);
    assert!(fitted.report.fold_losses.iter().all(Option::is_some));
    assert!(PENALTIES.contains(&fitted.report.l2[0]));
    assert_eq!(fitted.model.head.shape().parameters(), 5 * 30);
    let coin = trained(&pairs(200, 30, 0, 0.0, 3), &settings());
    assert!((coin.report.fold_accuracy.unwrap() - 0.5).abs() < 0.15);
    assert!(coin.report.l2[0] > fitted.report.l2[0], "{:?}", coin.report.l2);
}

/// What the report says of a fold is what the member that did not train on it says.
#[test]
fn every_member_is_the_optimum_without_its_fold() {
    let seeds = pairs(60, 10, 3, 0.4, 4);
    let settings = MethodSettings {
        head: HeadSettings { l2: L2::Weight(2.0), ..settings().head },
        ..settings()
    };
    let context = TrainingContext::new(&seeds, &settings, Threads::ONE).unwrap();
    let fitted = context.head(&settings.head, None, &Quiet).unwrap();
    let folds = &context.folds;
    let chosen = fitted.model.member_rewards(&seeds.chosen, Threads::ONE).unwrap();
    let rejected = fitted.model.member_rewards(&seeds.rejected, Threads::ONE).unwrap();
    for i in 0..60 {
        let m = folds.held_out_member(i, 5).unwrap();
        let margin = f64::from(chosen[i * 5 + m]) - f64::from(rejected[i * 5 + m]);
        let reported = fitted.report.fold_losses[i].unwrap();
        assert!((bradley_terry::loss(margin) - reported).abs() < 1e-4, "{i}: {margin} {reported}");
    }
    // The gradient of the penalised losses on the other folds, in the space in which views are equal.
    let m = 2;
    let mut x = vec![0.0f32; 20];
    let difference = |i: usize, x: &mut [f32]| {
        seeds.gather(&context.standardiser, &[i], x, Threads::ONE);
        let (a, b) = x.split_at(10);
        a.iter().zip(b).map(|(a, b)| f64::from(a - b)).collect::<Vec<f64>>()
    };
    let rows: Vec<Vec<f64>> = (0..60).map(|i| difference(i, &mut x)).collect();
    let mean = rows.iter().flatten().map(|v| v * v).sum::<f64>() / 60.0;
    let w: Vec<f64> = fitted.model.head.parameters()[m * 10..(m + 1) * 10]
        .iter()
        .map(|&w| f64::from(w))
        .collect();
    let gradient: Vec<f64> = (0..10)
        .map(|j| {
            let slope = |row: &Vec<f64>| {
                let margin: f64 = row.iter().zip(&w).map(|(x, w)| x * w).sum();
                -row[j] / (1.0 + margin.exp())
            };
            let of = rows.iter().enumerate().filter(|(i, _)| !folds.is_held_out(m, *i));
            // w = scale * v with the penalty on v, and scale^2 = 1 / mean.
            of.map(|(_, row)| slope(row)).sum::<f64>() + 2.0 * mean * w[j]
        })
        .collect();
    let first: f64 = (0..10).map(|j| rows.iter().map(|r| 0.5 * r[j]).sum::<f64>().powi(2)).sum();
    let left = gradient.iter().map(|g| g * g).sum::<f64>().sqrt() / first.sqrt();
    assert!(left < 1e-3, "{left}");
}

fn beside(a: &EmbeddedPairs, b: &EmbeddedPairs) -> EmbeddedPairs {
    let side = |x: &crate::Embeddings, y: &crate::Embeddings| {
        let (x, y) = (x.to_matrix(), y.to_matrix());
        let n = crate::Rows::rows(&x);
        let data = (0..n).flat_map(|i| [x.row(i), y.row(i)].concat()).collect();
        Matrix::new(data, n, a.dim() + b.dim()).unwrap()
    };
    let all = EmbeddedPairs::new(side(&a.chosen, &b.chosen), side(&a.rejected, &b.rejected));
    all.unwrap().with_views(vec![a.dim(), b.dim()]).unwrap()
}

#[test]
fn a_wide_view_does_not_drown_a_narrow_one() {
    // The second view hardly differs between the sides of a pair: it is mostly the prompt.
    let prompts = pairs(150, 40, 0, 0.0, 9).chosen.to_matrix();
    let near = |own: &crate::Embeddings| {
        let own = own.to_matrix();
        let both = own.data().iter().zip(prompts.data()).map(|(x, p)| 0.02 * x + p);
        Matrix::new(both.collect(), 150, 40).unwrap()
    };
    let telling = pairs(150, 40, 8, 0.3, 5);
    let telling = EmbeddedPairs::new(near(&telling.chosen), near(&telling.rejected)).unwrap();
    let noise = pairs(150, 40, 0, 0.0, 6);
    let both = beside(&noise, &telling);
    let joint = trained(&both, &settings()).report.fold_accuracy.unwrap();
    let alone = trained(&telling, &settings()).report.fold_accuracy.unwrap();
    let blind = trained(&both.clone().with_views(vec![80]).unwrap(), &settings());
    assert!(joint > alone - 0.1, "{joint} {alone}");
    assert!(joint > blind.report.fold_accuracy.unwrap() + 0.05, "{joint}");
}

#[test]
fn stacking_weighs_a_view_by_what_it_says() {
    let both = beside(&pairs(200, 10, 0, 0.0, 7), &pairs(200, 10, 3, 0.4, 8));
    let mut settings = settings();
    settings.head.combine = Combine::Stacked;
    let fitted = trained(&both, &settings);
    let weights = &fitted.report.view_weights;
    assert_eq!((weights.len(), fitted.report.l2.len()), (2, 2));
    // The head on noise alone has a strong penalty, so that its rewards hardly differ anyway.
    assert!(weights[1] > weights[0] && fitted.report.l2[0] > fitted.report.l2[1], "{weights:?}");
    let heldout = beside(&pairs(500, 10, 0, 0.0, 17), &pairs(500, 10, 3, 0.4, 18));
    let found = accuracy(&fitted, &heldout);
    assert!((found - fitted.report.fold_accuracy.unwrap()).abs() < 0.1 && found > 0.7, "{found}");
    // Of one view there is nothing to stack.
    let one = both.select_views(&[1]).unwrap();
    assert!(trained(&one, &settings).report.view_weights.is_empty());
}

/// Copies that all lie on their originals change nothing: each pair counts once, however many.
#[test]
fn synthetic_pairs_share_the_weight_of_their_seed() {
    let seeds = pairs(60, 12, 3, 0.4, 10);
    let mut settings =
        MethodSettings { augment: 4, source: SourceKind::Perturbation, ..settings() };
    settings.rivals.perturbation_variance = 0.0;
    let outcome = fit(&seeds, &settings, Threads::ONE, &Quiet).unwrap();
    let augmented = outcome.augmented.unwrap().fitted;
    assert_eq!(augmented.report.l2, outcome.none.report.l2);
    let (a, b) = (augmented.model.head.parameters(), outcome.none.model.head.parameters());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 2e-3, "{a} {b}");
    }
    settings.pairing = Pairing::Across;
    assert!(fit(&seeds, &settings, Threads::ONE, &Quiet).is_err());
}

#[test]
fn an_earlier_head_is_what_the_penalty_holds_on_to() {
    let (many, few) = (pairs(800, 30, 5, 0.2, 11), pairs(30, 30, 5, 0.2, 12));
    let settings = settings();
    let earlier = trained(&many, &settings);
    let start = WarmStart { model: &earlier.model, vae: None, folds: &[None; 30], fold_count: 5 };
    let extras = Extras { start: Some(start), ..Extras::default() };
    let further = fit_with(&few, &settings, extras, Threads::ONE, &Quiet).unwrap().none;
    let heldout = pairs(2000, 30, 5, 0.2, 13);
    let [before, after, afresh] = [
        accuracy(&earlier, &heldout),
        accuracy(&further, &heldout),
        accuracy(&trained(&few, &settings), &heldout),
    ];
    assert!(after > before - 0.03 && after > afresh + 0.02, "{before} {after} {afresh}");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let with = |change: fn(&mut HeadSettings)| {
        let mut settings = settings();
        change(&mut settings.head);
        fit(&pairs(40, 4, 1, 0.5, 14), &settings, Threads::ONE, &Quiet).map(|o| o.none)
    };
    assert!(with(|h| h.folds = 1).unwrap_err().to_string().contains("head.l2"));
    assert!(with(|h| h.l2 = L2::Weight(0.0)).unwrap_err().to_string().contains("head.l2"));
    let whole = with(|h| (h.folds, h.l2) = (1, L2::Weight(1.0))).unwrap();
    assert_eq!(whole.report.fold_log_loss, None);
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads_of_the_study() {
    let seeds = pairs(80, 20, 3, 0.3, 15);
    assert_eq!(trained(&seeds, &settings()).model, trained(&seeds, &settings()).model);
}

/// Heads with synthetic pairs that are noise around the real ones.
fn weighed(pairs: &EmbeddedPairs, weighing: Weighing) -> (Fitted, Folds) {
    let mut settings =
        MethodSettings { augment: 4, source: SourceKind::Perturbation, ..settings() };
    settings.rivals.perturbation_variance = 1.0;
    settings.head.l2 = L2::Weight(1.0);
    let context = TrainingContext::new(pairs, &settings, Threads::ONE).unwrap();
    let source = context.source(&settings, &Quiet).unwrap();
    let synthetic = context.synthesise(source.as_ref(), &settings).unwrap();
    let augmentation = Augmentation { weighing, ..settings.augmentation(&synthetic) };
    (context.head(&settings.head, Some(&augmentation), &Quiet).unwrap(), context.folds.clone())
}

/// With next to no weight synthetic pairs leave the head as it is without them, and with much they are
/// all there is.
#[test]
fn synthetic_pairs_count_what_they_are_asked_to() {
    let seeds = pairs(60, 8, 3, 0.4, 4);
    let plain = MethodSettings {
        head: HeadSettings { l2: L2::Weight(1.0), ..settings().head },
        ..settings()
    };
    let none = trained(&seeds, &plain);
    let off = |weight| {
        let (with, _) = weighed(&seeds, Weighing { weight, ..Weighing::default() });
        let (a, b) = (none.model.head.parameters(), with.model.head.parameters());
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let [little, even, much] = [1e-6, 1.0, 1e3].map(off);
    assert!(little < 1e-3 && 10.0 * little < even && even < much, "{little} {even} {much}");
}

/// What a fold's labels are must not reach, by the weights of synthetic pairs, the head that is judged on
/// that fold.
#[test]
fn judges_do_not_tell_the_labels_of_a_fold_to_its_own_head() {
    let seeds = pairs(60, 8, 3, 0.4, 4);
    let folds = Folds::assign(&seeds.prompts, 5, 0);
    let mut sides =
        [seeds.chosen.to_matrix().data().to_vec(), seeds.rejected.to_matrix().data().to_vec()];
    let [a, b] = &mut sides;
    let own = |i: usize| i * 8..(i + 1) * 8;
    for i in (0..60).filter(|&i| folds.of_pairs()[i] == 1) {
        a[own(i)].swap_with_slice(&mut b[own(i)]);
    }
    let [a, b] = sides.map(|data| Matrix::new(data, 60, 8).unwrap());
    let exchanged = EmbeddedPairs::new(a, b).unwrap();
    let ordered = Weighing { gate: Gate::Ordered, ..Weighing::default() };
    let uncertain = Weighing { emphasis: Emphasis::Uncertain, ..Weighing::default() };
    let (even, _) = weighed(&seeds, Weighing::default());
    for weighing in [ordered, uncertain] {
        let ((before, _), (after, _)) = (weighed(&seeds, weighing), weighed(&exchanged, weighing));
        let head = |fitted: &Fitted, m: usize| fitted.model.head.parameters()[own(m)].to_vec();
        let off = |m: usize| {
            let both = head(&before, m).into_iter().zip(head(&after, m));
            both.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(off(1) < 1e-4 && off(0) > 0.01, "{weighing:?}: {} {}", off(1), off(0));
        // It does something.
        assert_ne!(head(&before, 1), head(&even, 1));
    }
}

#[test]
fn judges_take_three_folds() {
    let seeds = pairs(40, 8, 3, 0.4, 4);
    let mut settings = MethodSettings { augment: 4, source: SourceKind::Mixup, ..settings() };
    settings.synthesis.gate = Gate::Ordered;
    settings.head.folds = 2;
    settings.head.members = 2;
    let refused = fit(&seeds, &settings, Threads::ONE, &Quiet);
    assert!(matches!(refused, Err(CoreError::TooFewPairs { needed: 3, found: 2, .. })));
    settings.head.folds = 5;
    fit(&seeds, &settings, Threads::ONE, &Quiet).unwrap();
    settings.head.kind = HeadKind::Mlp;
    assert!(matches!(settings.check(), Err(CoreError::Setting { .. })));
}
