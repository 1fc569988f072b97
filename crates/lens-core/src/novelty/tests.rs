#![allow(clippy::unwrap_used)]
use super::*;
use crate::activation::Activation;
use crate::matrix::Matrix;
use crate::progress::Quiet;
use crate::rng::{Purpose, Stream};
use crate::vae::VaeShape;
use proptest::prelude::*;

/// n rows of l standard normal numbers, of which `half` of a column is shared by a pair's sides.
fn normals(n: usize, l: usize, seed: u64) -> [Vec<f64>; 2] {
    let mut stream = Stream::new(seed, Purpose::Rivals, 1);
    let mut rows = |_| (0..n * l).map(|_| f64::from(stream.normal())).collect();
    [rows(0), rows(1)]
}

/// (x - m)' A^-1 (x - m) of the definition, for what is left of the rows without pair `without`.
fn plain(
    sides: &[Vec<f64>; 2],
    l: usize,
    without: Option<usize>,
    s: f64,
    v: f64,
    x: &[f64],
) -> f64 {
    let pairs = sides[0].len() / l;
    let rows: Vec<&[f64]> = (0..pairs)
        .filter(|&i| Some(i) != without)
        .flat_map(|i| sides.iter().map(move |side| &side[i * l..(i + 1) * l]))
        .collect();
    let n = rows.len() as f64;
    let mean: Vec<f64> = (0..l).map(|j| rows.iter().map(|r| r[j]).sum::<f64>() / n).collect();
    let mut a = vec![0.0; l * l];
    for row in rows {
        for i in 0..l {
            for j in 0..l {
                a[i * l + j] += (1.0 - s) * (row[i] - mean[i]) * (row[j] - mean[j]) / n;
            }
        }
    }
    (0..l).for_each(|i| a[i * l + i] += s * v);
    let u: Vec<f64> = x.iter().zip(&mean).map(|(x, m)| x - m).collect();
    let y = solve_lower(&cholesky_definite(a, l).unwrap(), &u);
    dot_in_order(&y, &y).sqrt()
}

/// Rows times the matrix `map`, [l, l], plus `shift`.
fn mapped(rows: &[f64], map: &[f64], shift: f64, l: usize) -> Vec<f64> {
    rows.chunks_exact(l)
        .flat_map(|r| {
            (0..l).map(|j| shift + dot_in_order(r, &map[j * l..(j + 1) * l])).collect::<Vec<_>>()
        })
        .collect()
}

fn trained(pairs: &EmbeddedPairs, standardiser: &Standardiser, settings: &VaeSettings) -> Vae {
    train(pairs, standardiser, settings, None, 1, Threads::ONE, &Quiet).unwrap().0
}

/// What is measured with so many folds held out in turn.
fn of_folds(
    vae: &Vae,
    standardiser: &Standardiser,
    pairs: &EmbeddedPairs,
    folds: usize,
    settings: &VaeSettings,
) -> Novelty {
    let folds = Folds::assign(&pairs.prompts, folds, 1);
    let again = VaeRecipe { folds: &folds, settings, seed: 1 };
    Novelty::fit_held_out(vae, standardiser, pairs, again, Threads::ONE, &Quiet).unwrap()
}

#[test]
fn distances_by_hand() {
    // (2, 0), (-2, 0), (0, 1), (0, -1), each twice: mean 0, covariance diag(2, 1/2), v = 5/4.
    let chosen = [2.0, 0.0, -2.0, 0.0, 2.0, 0.0, -2.0, 0.0];
    let rejected = [0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0];
    let novelty = Novelty::fit_means(&chosen, &rejected, 2, Some(0.0)).unwrap();
    assert!((novelty.distance(&[3.0, 0.0]) - 4.5f64.sqrt()).abs() < 1e-6);
    assert!((novelty.distance(&[0.0, 3.0]) - 18f64.sqrt()).abs() < 1e-6);
    assert_eq!(novelty.distance(&[0.0, 0.0]), 0.0);
    // |row|^4 = 16, 16, 1, 1; |S|^2 = 4.25: the weight is (34/4 - 4.25) / 8 / (4.25 - 2 * 25/16).
    let novelty = Novelty::fit_means(&chosen, &rejected, 2, None).unwrap();
    let s = 0.53125 / 1.125;
    assert!((f64::from(novelty.shrinkage()) - s).abs() < 1e-6);
    let along = (1.0 - s) * 2.0 + s * 1.25;
    assert!((novelty.distance(&[3.0, 0.0]) - (9.0 / along).sqrt()).abs() < 1e-6);
    assert_eq!(novelty.responses(), 8);
}

#[test]
fn the_threshold_is_the_seed_that_one_in_a_hundred_is_beyond_with_its_pair_left_out() {
    for (pairs, l) in [(2, 3), (30, 4), (200, 3)] {
        let sides = normals(pairs, l, 5);
        let novelty = Novelty::fit_means(&sides[0], &sides[1], l, None).unwrap();
        let all: Vec<f64> = sides.concat();
        let n = 2.0 * pairs as f64;
        let v = (0..l)
            .map(|j| {
                let column: Vec<f64> = all.chunks_exact(l).map(|r| r[j]).collect();
                let mean = column.iter().sum::<f64>() / n;
                column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n
            })
            .sum::<f64>()
            / l as f64;
        let s = f64::from(novelty.shrinkage());
        let mut own: Vec<f64> = (0..pairs)
            .flat_map(|i| {
                let row = |side: &'_ Vec<f64>| side[i * l..(i + 1) * l].to_vec();
                [&sides[0], &sides[1]].map(|side| plain(&sides, l, Some(i), s, v, &row(side)))
            })
            .collect();
        own.sort_unstable_by(f64::total_cmp);
        // Ranks ceil(0.99 * 5), ceil(0.99 * 61), ceil(0.99 * 401), but not beyond the last.
        let rank = [4, 60, 397][[2, 30, 200].iter().position(|&p| p == pairs).unwrap()];
        let expected = own[rank - 1];
        assert!((novelty.threshold() / expected - 1.0).abs() < 1e-4, "{pairs} {l}");
    }
}

#[test]
fn of_a_hundred_pairs_about_one_new_response_in_a_hundred_is_beyond() {
    // 16 latents: a threshold from distances with the pair in would be passed by 3 in 100.
    let (mut beyond, mut drawn) = (0, 0);
    for seed in 0..40 {
        let sides = normals(100, 16, seed);
        let novelty = Novelty::fit_means(&sides[0], &sides[1], 16, None).unwrap();
        let new = normals(100, 16, 1000 + seed).concat();
        let far = |x: &&[f64]| novelty.distance(x) > novelty.threshold();
        beyond += new.chunks_exact(16).filter(far).count();
        drawn += 200;
    }
    let share = f64::from(u32::try_from(beyond).unwrap()) / f64::from(drawn);
    assert!((0.004..0.014).contains(&share), "{share}");
}

#[test]
fn latents_that_have_collapsed_do_not_make_rounding_look_far() {
    let mut sides = normals(50, 4, 3);
    for (i, x) in sides.iter_mut().flatten().enumerate() {
        match i % 4 {
            2 => *x = 0.25,
            3 => *x *= 1e-9,
            _ => {}
        }
    }
    let novelty = Novelty::fit_means(&sides[0], &sides[1], 4, None).unwrap();
    let near = novelty.distance(&[0.5, 0.5, 0.25, 0.0]);
    let rounded = novelty.distance(&[0.5, 0.5, 0.25 + 1e-6, 1e-6]);
    assert!((near - rounded).abs() < 1e-4, "{near} {rounded}");
    assert!(novelty.distance(&[9.0, 0.0, 0.25, 0.0]) > novelty.threshold());
    // All of them: nothing is far that is where the seeds are.
    let same = vec![0.5; 50 * 4];
    let novelty = Novelty::fit_means(&same, &same, 4, None).unwrap();
    assert_eq!(novelty.distance(&[0.5; 4]), 0.0);
    assert!(novelty.threshold() < 1e-6);
    assert!(novelty.distance(&[0.6; 4]).is_finite());
}

#[test]
fn fewer_responses_than_latents_are_enough_and_one_pair_is_not() {
    let sides = normals(3, 16, 1);
    let novelty = Novelty::fit_means(&sides[0], &sides[1], 16, None).unwrap();
    assert!(novelty.threshold() > 0.0 && novelty.shrinkage() > 0.1);
    assert!(novelty.distance(&[50.0; 16]) > novelty.threshold());
    let one = Novelty::fit_means(&sides[0][..16], &sides[1][..16], 16, None).unwrap_err();
    assert!(matches!(one, CoreError::TooFewPairs { needed: 2, found: 1, .. }), "{one}");
}

#[test]
fn embeddings_are_measured_as_the_vae_encodes_them() {
    let (d, l) = (5, 2);
    let vae = Vae::new(VaeShape { dim: d, hidden: 7, latent: l }, Activation::Tanh, 3);
    let [chosen, rejected] = normals(40, d, 9)
        .map(|side| Matrix::new(side.iter().map(|&x| 3.0 + x as f32).collect(), 40, d).unwrap());
    let pairs = EmbeddedPairs::new(chosen.clone(), rejected).unwrap();
    let standardiser = Standardiser::fit(&pairs);
    let novelty = Novelty::fit(&vae, &standardiser, &pairs, Threads::ONE).unwrap();
    let near = novelty.distances(&vae, &standardiser, &chosen, Threads::ONE).unwrap();
    assert_eq!(near.len(), 40);
    let mut row = chosen.row(7).to_vec();
    standardiser.apply(&mut row);
    let code: Vec<f64> =
        vae.encode(&row, Threads::ONE).mean.iter().map(|&m| f64::from(m)).collect();
    assert!((near[7] - novelty.distance(&code)).abs() < 1e-4);
    let far = Matrix::new(vec![60.0; d], 1, d).unwrap();
    let far = novelty.distances(&vae, &standardiser, &far, Threads::ONE).unwrap();
    assert!(far[0] > novelty.threshold(), "{far:?} {}", novelty.threshold());
    let narrow = Matrix::new(vec![0.0; 4], 1, 4).unwrap();
    let refused = novelty.distances(&vae, &standardiser, &narrow, Threads::ONE);
    assert!(matches!(refused, Err(CoreError::Shape { .. })));
}

#[test]
fn a_threshold_of_held_out_pairs_admits_their_like_though_the_vae_has_seen_the_seeds() {
    // 100 pairs of pure noise in 60 dimensions, which the VAE learns by heart.
    let d = 60;
    let matrix =
        |side: &Vec<f64>| Matrix::new(side.iter().map(|&x| x as f32).collect(), 100, d).unwrap();
    let [chosen, rejected] = normals(100, d, 1).map(|side| matrix(&side));
    let pairs = EmbeddedPairs::new(chosen, rejected).unwrap();
    let standardiser = Standardiser::fit(&pairs);
    let settings = VaeSettings { beta: 0.01, epochs: 150, ..VaeSettings::default() };
    let vae = trained(&pairs, &standardiser, &settings);
    let seen = Novelty::fit(&vae, &standardiser, &pairs, Threads::ONE).unwrap();
    let held = of_folds(&vae, &standardiser, &pairs, 5, &settings);
    assert_eq!((seen.judged(), held.judged(), held.responses()), (0, 200, 200));
    assert_eq!((seen.mean(), seen.factor()), (held.mean(), held.factor()));
    let new: Vec<f64> = (2..12)
        .flat_map(|seed| normals(100, d, seed))
        .flat_map(|side| held.distances(&vae, &standardiser, &matrix(&side), Threads::ONE).unwrap())
        .collect();
    let beyond =
        |threshold: f64| new.iter().filter(|&&x| x > threshold).count() as f64 / new.len() as f64;
    let (by_seen, by_held) = (beyond(seen.threshold()), beyond(held.threshold()));
    // Asked for 1 in 100; the seeds, which such a VAE pulls apart, would let everything pass.
    assert!((0.003..0.04).contains(&by_held) && by_seen < 0.002, "{by_seen} {by_held}");
    // Nothing to hold out: one fold.
    assert_eq!(of_folds(&vae, &standardiser, &pairs, 1, &settings), seen);
}

#[test]
fn a_fold_that_is_held_out_has_no_part_in_the_standardisation_either() {
    // Many dimensions that move together, as those of embeddings do. From a common standardisation the VAE
    // learns on which side of the mean the fold lies: the threshold is then twice as high.
    let (n, d, factors) = (100, 2500, 300);
    let mut stream = Stream::new(3, Purpose::Rivals, 1);
    let loadings: Vec<f64> = (0..d * factors).map(|_| f64::from(stream.normal())).collect();
    let matrix = |codes: &[f64]| {
        let rows = codes.chunks_exact(factors);
        let x =
            rows.flat_map(|z| loadings.chunks_exact(factors).map(|l| dot_in_order(z, l) as f32));
        let x: Vec<f32> = x.collect();
        let n = x.len() / d;
        Matrix::new(x, n, d).unwrap()
    };
    let [chosen, rejected] = normals(n, factors, 1).map(|side| matrix(&side));
    let pairs = EmbeddedPairs::new(chosen, rejected).unwrap();
    let standardiser = Standardiser::fit(&pairs);
    let settings = VaeSettings::default();
    let vae = trained(&pairs, &standardiser, &settings);
    let held = of_folds(&vae, &standardiser, &pairs, 5, &settings);
    let mut new: Vec<f64> = normals(500, factors, 9)
        .iter()
        .flat_map(|side| held.distances(&vae, &standardiser, &matrix(side), Threads::ONE).unwrap())
        .collect();
    let beyond = new.iter().filter(|&&x| x > held.threshold()).count() as f64 / new.len() as f64;
    let expected = conformal_threshold(&mut new);
    assert!((0.8..1.2).contains(&(held.threshold() / expected)), "{} {expected}", held.threshold());
    assert!((0.001..0.04).contains(&beyond), "{beyond}");
}

#[test]
fn what_was_measured_is_taken_up_again_and_nonsense_is_not() {
    let sides = normals(20, 3, 2);
    let novelty = Novelty::fit_means(&sides[0], &sides[1], 3, None).unwrap();
    let again = |threshold: f32, mean: &[f32], factor: &[f32]| {
        let (counts, shrinkage) = ((novelty.responses(), novelty.judged()), novelty.shrinkage());
        Novelty::with_parameters(counts, shrinkage, threshold, mean.into(), factor.into())
    };
    let (t, mean, factor) = (novelty.threshold() as f32, novelty.mean(), novelty.factor());
    assert_eq!(again(t, mean, factor).unwrap(), novelty);
    assert!(again(t, mean, &factor[1..]).is_err());
    assert!(again(f32::NAN, mean, factor).is_err());
    let mut singular = factor.to_vec();
    singular[2] = 0.0;
    assert!(again(t, mean, &singular).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_affine_map_changes_the_distance_without_shrinkage_nor_a_turn_and_a_scale_with_it(
        l in 2usize..6, seed in 0u64..1000, scale in 0.05f64..20.0, shift in -30.0f64..30.0,
        angle in 0.0f64..6.2,
    ) {
        let sides = normals(40, l, seed);
        let x: Vec<f64> = normals(1, l, seed + 5000)[0].iter().map(|x| 2.0 * x).collect();
        // A rotation of the first two axes, scaled; and a map that is neither.
        let mut turn: Vec<f64> = (0..l * l).map(|i| f64::from(u8::from(i % (l + 1) == 0))).collect();
        (turn[0], turn[1]) = (angle.cos(), -angle.sin());
        (turn[l], turn[l + 1]) = (angle.sin(), angle.cos());
        let turn: Vec<f64> = turn.iter().map(|t| scale * t).collect();
        let mut any = turn.clone();
        (0..l).for_each(|j| { any[j * l] += scale * 0.5 * j as f64; any[l * l - 1] += scale; });
        for (map, s) in [(&turn, None), (&any, Some(0.0))] {
            let to = |rows: &[f64]| mapped(rows, map, shift, l);
            let before = Novelty::fit_means(&sides[0], &sides[1], l, s).unwrap();
            let after = Novelty::fit_means(&to(&sides[0]), &to(&sides[1]), l, s).unwrap();
            let (d, e) = (before.distance(&x), after.distance(&to(&x)));
            prop_assert!((d - e).abs() < 2e-3 * d.max(1.0), "{} {}", d, e);
            prop_assert!((before.threshold() / after.threshold() - 1.0).abs() < 1e-3);
        }
    }
}
