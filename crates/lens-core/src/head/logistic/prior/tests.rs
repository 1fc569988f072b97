#![allow(clippy::unwrap_used)]
use super::*;
use crate::head::{Combine, HeadKind, HeadSettings, L2};
use crate::matrix::Rows;
use crate::method::Fitted;
use crate::progress::Quiet;
use crate::rng::{Purpose, Stream};
use crate::{EmbeddedPairs, Extras, Matrix, MethodSettings, Threads, fit_with};

/// Pairs of which every dimension tells the sides apart by `shift[j]` deviations, in units of `unit`.
fn pairs(n: usize, shift: &[f32], unit: f32, seed: u64) -> EmbeddedPairs {
    let (d, mut stream) = (shift.len(), Stream::new(seed, Purpose::Splits, 0));
    let mut side = |sign: f32| {
        let value = |i: usize| unit * (stream.normal() + sign * shift[i % d]) + 3.0;
        Matrix::new((0..n * d).map(value).collect(), n, d).unwrap()
    };
    let chosen = side(1.0);
    EmbeddedPairs::new(chosen, side(-1.0)).unwrap()
}

fn settings() -> MethodSettings {
    let head = HeadSettings { kind: HeadKind::Logistic, ..HeadSettings::default() };
    MethodSettings { augment: 1, head, ..MethodSettings::default() }
}

fn trained(pairs: &EmbeddedPairs, settings: &MethodSettings, prior: Option<&Prior>) -> Fitted {
    let extras = Extras { prior, ..Extras::default() };
    fit_with(pairs, settings, extras, Threads::ONE, &Quiet).unwrap().none
}

fn accuracy(fitted: &Fitted, pairs: &EmbeddedPairs) -> f64 {
    let chosen = fitted.model.rewards(&pairs.chosen, Threads::ONE).unwrap();
    let rejected = fitted.model.rewards(&pairs.rejected, Threads::ONE).unwrap();
    crate::metrics::credits(&chosen, &rejected).iter().sum::<f64>() / pairs.len() as f64
}

fn shift() -> Vec<f32> {
    (0..60).map(|j| 0.12 * (j as f32 * 1.7).sin()).collect()
}

#[test]
fn a_prior_that_is_right_makes_few_pairs_go_further() {
    let (seeds, heldout) = (pairs(80, &shift(), 2.5, 1), pairs(2000, &shift(), 2.5, 2));
    // The best direction in embeddings as they are, at a scale that says nothing.
    let prior = Prior { columns: 0..60, weights: shift().iter().map(|w| 40.0 * w).collect() };
    let without = trained(&seeds, &settings(), None);
    let with = trained(&seeds, &settings(), Some(&prior));
    let report = with.report.prior.clone().unwrap();
    assert!(report.share > 0.0 && report.gain.unwrap().is_clear(), "{report:?}");
    let (without, with) = (accuracy(&without, &heldout), accuracy(&with, &heldout));
    assert!(with > without + 0.05, "{without} {with}");
}

#[test]
fn a_prior_that_is_wrong_or_useless_leaves_the_very_same_head() {
    let seeds = pairs(300, &shift(), 1.0, 3);
    let without = trained(&seeds, &settings(), None);
    assert_eq!(without.report.prior, None);
    let wrong = Prior { columns: 0..60, weights: shift().iter().map(|w| -w).collect() };
    let with = trained(&seeds, &settings(), Some(&wrong));
    assert_eq!(with.model, without.model);
    let report = with.report.prior.unwrap();
    assert_eq!(report, PriorReport { weight: 0.0, share: 0.0, gain: None });
    let mut stream = Stream::new(9, Purpose::Splits, 0);
    let useless = Prior { columns: 0..60, weights: (0..60).map(|_| stream.normal()).collect() };
    let with = trained(&seeds, &settings(), Some(&useless));
    assert_eq!((with.model, with.report.l2), (without.model, without.report.l2));
}

/// With a penalty that lets nothing move, the head is the prior, in embeddings as they are.
#[test]
fn under_a_strong_penalty_the_head_is_the_prior() {
    let seeds = pairs(200, &shift(), 2.0, 4);
    let weights: Vec<f32> = shift();
    let prior = Prior { columns: 0..60, weights: weights.clone() };
    let head = HeadSettings { l2: L2::Weight(1e9), ..settings().head };
    let fitted = trained(&seeds, &MethodSettings { head, ..settings() }, Some(&prior));
    let weight = fitted.report.prior.unwrap().weight;
    assert!(weight > 0.0);
    let rewards = fitted.model.rewards(&seeds.chosen, Threads::ONE).unwrap();
    let mut row = vec![0.0; 60];
    let mut wanted = Vec::new();
    for i in 0..200 {
        seeds.chosen.read(i, &mut row);
        let known: f64 = row.iter().zip(&weights).map(|(x, w)| f64::from(x * w)).sum();
        wanted.push(weight * known);
    }
    // Up to a constant, which no comparison knows of.
    let constant = wanted[0] - f64::from(rewards[0]);
    for (reward, wanted) in rewards.iter().zip(&wanted) {
        assert!((f64::from(*reward) + constant - wanted).abs() < 1e-4, "{reward} {wanted}");
    }
}

/// The gradient of the penalised losses by the part that the prior does not explain is 0, in the space
/// in which the views are equal; the prior reads the second of two views, joint and stacked.
#[test]
fn it_is_an_optimum_around_the_prior_of_its_own_view() {
    let both: Vec<f32> = shift().iter().chain(&shift()).copied().collect();
    let seeds = pairs(120, &both, 1.5, 5).with_views(vec![60, 60]).unwrap();
    let prior = Prior { columns: 60..120, weights: shift() };
    for combine in [Combine::Joint, Combine::Stacked] {
        let head = HeadSettings { combine, l2: L2::Weight(3.0), ..settings().head };
        let settings = MethodSettings { head, ..settings() };
        let fitted = trained(&seeds, &settings, Some(&prior));
        let report = fitted.report.prior.clone().unwrap();
        assert!(report.share > 0.0, "{combine:?}: {report:?}");
        if combine == Combine::Stacked {
            continue;
        }
        let context = crate::method::TrainingContext::new(&seeds, &settings, Threads::ONE).unwrap();
        let standard = &context.standardiser;
        let difference = |i: usize| {
            let (mut a, mut b) = (vec![0.0; 120], vec![0.0; 120]);
            seeds.chosen.read(i, &mut a);
            seeds.rejected.read(i, &mut b);
            let both = a.iter().zip(&b).zip(&standard.scale);
            both.map(|((a, b), s)| f64::from((a - b) * s)).collect::<Vec<f64>>()
        };
        let rows: Vec<Vec<f64>> = (0..120).map(difference).collect();
        let scale = |columns: Range<usize>| {
            let square = |row: &Vec<f64>| row[columns.clone()].iter().map(|x| x * x).sum::<f64>();
            (1.0 / (2.0 * rows.iter().map(square).sum::<f64>() / 120.0)).sqrt()
        };
        let scales = [scale(0..60), scale(60..120)];
        let member = 1;
        let w = &fitted.model.head.parameters()[member * 120..(member + 1) * 120];
        let trains = |i: usize| !context.folds.is_held_out(member, i);
        let known = |row: &[f64]| -> f64 {
            let own = row[60..].iter().zip(&prior.weights).zip(&standard.scale[60..]);
            own.map(|((x, p), s)| x * f64::from(*p) / f64::from(*s)).sum()
        };
        let margins: Vec<f64> = rows.iter().map(|row| known(row)).collect();
        let weights: Vec<f64> = (0..120).map(|i| f64::from(u8::from(trains(i)))).collect();
        let form = settings.head.loss(&seeds.labels);
        let factor = report.share * temperature(&margins, &weights, &seeds.labels, form);
        let (mut gradient, mut size) = (0.0f64, 0.0f64);
        for j in 0..120 {
            let unit = scales[j / 60];
            let p = match j {
                0..60 => 0.0,
                _ => f64::from(prior.weights[j - 60]) / f64::from(standard.scale[j]) / unit,
            };
            let v = f64::from(w[j]) / unit - factor * p;
            let (mut g, mut first) = (3.0 * v, 0.0);
            for (i, row) in rows.iter().enumerate().filter(|(i, _)| trains(*i)) {
                let margin: f64 = row.iter().zip(w).map(|(x, w)| x * f64::from(*w)).sum();
                g += unit * row[j] * form.loss_and_slope(margin, seeds.labels[i]).1;
                let before = factor * margins[i];
                first += unit * row[j] * form.loss_and_slope(before, seeds.labels[i]).1;
            }
            gradient += g * g;
            size += first * first;
        }
        assert!(gradient.sqrt() < 5e-3 * size.sqrt(), "{} of {}", gradient.sqrt(), size.sqrt());
    }
}

#[test]
fn a_scale_by_hand_and_none_below_zero() {
    let form = BradleyTerry { smoothing: 0.0, tie_threshold: 0.0 };
    let labels = [Label::default(); 4];
    // Slope: -3 s(-t) + s(t) + t = 0 for three right and one wrong of size 1.
    let t = temperature(&[1.0, 1.0, 1.0, -1.0], &[1.0; 4], &labels, form);
    let s = |x: f64| 1.0 / (1.0 + (-x).exp());
    assert!((-3.0 * s(-t) + s(t) + t).abs() < 1e-9 && t > 0.4, "{t}");
    assert_eq!(temperature(&[-1.0, 0.5, -1.0, 0.0], &[1.0; 4], &labels, form), 0.0);
    assert_eq!(temperature(&[0.0; 4], &[1.0; 4], &labels, form), 0.0);
    // The scale of the prior is not part of the answer.
    let wide = temperature(&[1e3, 1e3, 1e3, -1e3], &[1.0; 4], &labels, form);
    assert!((wide * 1e3 - t).abs() < 1e-9);
}

#[test]
fn a_prior_of_another_width_is_refused() {
    let seeds = pairs(40, &shift(), 1.0, 6);
    for prior in [
        Prior { columns: 0..60, weights: vec![1.0; 59] },
        Prior { columns: 10..70, weights: vec![1.0; 60] },
    ] {
        let extras = Extras { prior: Some(&prior), ..Extras::default() };
        assert!(fit_with(&seeds, &settings(), extras, Threads::ONE, &Quiet).is_err());
    }
}
