#![allow(clippy::unwrap_used, clippy::panic)]
use super::gaussian::GaussianSampling;
use super::mixup::Mixup;
use super::perturbation::Perturbation;
use super::*;
use crate::embedded::Label;
use crate::matrix::Matrix;
use crate::rng::{Purpose, Stream};

const D: usize = 3;

/// Pairs whose sides lie apart along the first dimension; the second follows the first.
fn pairs(n: usize) -> EmbeddedPairs {
    let mut stream = Stream::new(5, Purpose::Splits, 0);
    let mut side = |shift: f32| {
        let row = |_| {
            let x = stream.normal();
            [x + shift, 0.8 * x + 0.6 * stream.normal(), stream.normal()]
        };
        Matrix::new((0..n).flat_map(row).collect(), n, D).unwrap()
    };
    let chosen = side(1.0);
    EmbeddedPairs::new(chosen, side(-1.0)).unwrap()
}

/// k responses a side, kept or not.
fn drawn<'a>(
    source: &'a dyn Source,
    seeds: SeedPairs<'a>,
    per_side: usize,
    memory_mb: usize,
) -> Synthetic<'a> {
    let synthesis = SynthesisSettings { memory_mb, ..SynthesisSettings::default() };
    let options = DrawOptions { per_side, synthesis: &synthesis, seed: 3, threads: Threads::ONE };
    source.synthesise(seeds, options).unwrap()
}

fn sources(seeds: SeedPairs<'_>) -> Vec<(&'static str, Box<dyn Source>)> {
    let gaussian = GaussianSampling::fit(seeds, Threads::ONE).unwrap();
    vec![
        ("perturbation", Box::new(Perturbation { variance: 0.04 })),
        ("mixup", Box::new(Mixup { alpha: 0.4 })),
        ("gaussian", Box::new(gaussian)),
        ("neighbour", Box::new(Neighbour(vae()))),
    ]
}

/// Steps in the latent space of a VAE towards other responses, whatever the settings say.
struct Neighbour(crate::vae::Vae);

impl Source for Neighbour {
    fn parameters(&self) -> usize {
        0
    }

    fn synthesise<'a>(
        &'a self,
        seeds: SeedPairs<'a>,
        options: DrawOptions<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        let synthesis = SynthesisSettings {
            noise: crate::synthesis::Noise::Neighbour,
            noise_variance: 0.5,
            ..options.synthesis.clone()
        };
        lens::from_latent(&self.0, seeds, DrawOptions { synthesis: &synthesis, ..options })
    }
}

#[test]
fn responses_are_the_same_kept_or_drawn_again_and_whatever_follows() {
    let (all, standardiser) = (pairs(40), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    for (name, source) in sources(seeds) {
        let source = source.as_ref();
        let kept = drawn(source, seeds, 4, 64);
        let again = drawn(source, seeds, 4, 0);
        let Synthetic::Embeddings(embeddings) = &kept else { panic!("{name}") };
        assert!(embeddings.are_kept());
        for pair in [0, 7, 39] {
            assert_eq!(kept.embeddings(pair, Threads::ONE), again.embeddings(pair, Threads::ONE));
        }
        assert_ne!(kept.embeddings(0, Threads::ONE), kept.embeddings(1, Threads::ONE), "{name}");
        let none = drawn(source, seeds, 0, 64);
        assert_eq!(none.embeddings(3, Threads::ONE), [Vec::<f32>::new(), Vec::new()]);
    }
}

/// What the VAE does not keep of a response is in every copy of it, decoded residually.
#[test]
fn residual_decoding_adds_what_the_vae_does_not_keep() {
    use crate::activation::Activation;
    use crate::synthesis::Decoding;
    use crate::vae::{Vae, VaeShape};
    let (all, standardiser) = (pairs(10), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let vae = Vae::new(VaeShape { dim: D, hidden: 4, latent: 2 }, Activation::Tanh, 7);
    let source = lens::PretrainedVae(&vae);
    let with = |decoding| {
        let synthesis = SynthesisSettings { decoding, ..SynthesisSettings::default() };
        let options =
            DrawOptions { per_side: 3, synthesis: &synthesis, seed: 3, threads: Threads::ONE };
        source.synthesise(seeds, options).unwrap()
    };
    let (plain, residual) = (with(Decoding::Plain), with(Decoding::Residual));
    for pair in 0..10 {
        let (plain, residual) =
            (plain.embeddings(pair, Threads::ONE), residual.embeddings(pair, Threads::ONE));
        for side in 0..2 {
            let mut own = [0.0f32; D];
            read_side(seeds, side, pair, &mut own);
            let mean = vae.encode(&own, Threads::ONE).mean;
            let kept = vae.decode(&mean, Threads::ONE);
            for (x, y) in residual[side].chunks(D).zip(plain[side].chunks(D)) {
                for j in 0..D {
                    assert!((x[j] - y[j] - (own[j] - kept[j])).abs() < 1e-5, "{pair} {side} {j}");
                }
            }
            assert_ne!(residual[side][..D], own);
        }
    }
}

/// A VAE that was trained on nothing, and responses drawn from it.
fn from_vae(
    vae: &crate::vae::Vae,
    seeds: SeedPairs<'_>,
    synthesis: &SynthesisSettings,
    pair: usize,
) -> [Vec<f32>; 2] {
    let options = DrawOptions { per_side: 3, synthesis, seed: 3, threads: Threads::ONE };
    lens::PretrainedVae(vae).synthesise(seeds, options).unwrap().embeddings(pair, Threads::ONE)
}

fn vae() -> crate::vae::Vae {
    let shape = crate::vae::VaeShape { dim: D, hidden: 4, latent: 2 };
    crate::vae::Vae::new(shape, crate::activation::Activation::Tanh, 7)
}

fn side(seeds: SeedPairs<'_>, side: usize, pair: usize) -> [f32; D] {
    let mut own = [0.0f32; D];
    read_side(seeds, side, pair, &mut own);
    own
}

/// With the noise gone, what comes out is the middle of the pair and what the VAE makes of the rest.
#[test]
fn around_the_pair_the_vae_sees_half_the_difference() {
    use crate::synthesis::{Centring, Decoding};
    let (all, standardiser) = (pairs(10), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let vae = vae();
    let synthesis =
        SynthesisSettings { around: Centring::Pair, noise_variance: 0.0, ..Default::default() };
    let residual = SynthesisSettings { decoding: Decoding::Residual, ..synthesis.clone() };
    for pair in 0..10 {
        let [a, b] = [0, 1].map(|s| side(seeds, s, pair));
        let half: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.5 * (a - b)).collect();
        let mean = vae.encode(&half, Threads::ONE).mean;
        let decoded = vae.decode(&mean, Threads::ONE);
        let [chosen, _] = from_vae(&vae, seeds, &synthesis, pair);
        let [kept, _] = from_vae(&vae, seeds, &residual, pair);
        for j in 0..D {
            assert!((chosen[j] - 0.5 * (a[j] + b[j]) - decoded[j]).abs() < 1e-5, "{pair} {j}");
            assert!((kept[j] - a[j]).abs() < 1e-5, "{pair} {j}");
        }
    }
}

/// Each code lies on the way to that of one other response of its side, at most half of it.
#[test]
fn a_neighbour_is_approached_by_no_more_than_was_asked_for() {
    use crate::synthesis::Noise;
    let (all, standardiser) = (pairs(12), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let vae = vae();
    let code =
        |vae: &crate::vae::Vae, s, pair| vae.encode(&side(seeds, s, pair), Threads::ONE).mean;
    let synthesis =
        SynthesisSettings { noise: Noise::Neighbour, noise_variance: 0.25, ..Default::default() };
    for pair in 0..12 {
        for (s, rows) in from_vae(&vae, seeds, &synthesis, pair).iter().enumerate() {
            for row in rows.chunks_exact(D) {
                let from = code(&vae, s, pair);
                let near = (0..12).any(|other| {
                    let to = code(&vae, s, other);
                    (0..=200).any(|step| {
                        let share = 0.5 * step as f32 / 200.0;
                        let z: Vec<f32> =
                            from.iter().zip(&to).map(|(a, b)| a + share * (b - a)).collect();
                        let there = vae.decode(&z, Threads::ONE);
                        there.iter().zip(row).all(|(a, b)| (a - b).abs() < 5e-3)
                    })
                });
                assert!(near, "pair {pair}, side {s}");
            }
        }
    }
    let far = SynthesisSettings { noise_variance: 1.5, ..synthesis };
    assert!(far.check().is_err());
}

/// With noise far beyond the seeds nearly every code is too far, and becomes its response's mean; with
/// next to none, only those of the seeds that lie outermost are.
#[test]
fn what_is_not_plausible_becomes_the_mean_of_its_response() {
    use crate::synthesis::Gate;
    let (all, standardiser) = (pairs(40), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let vae = vae();
    let share_at_mean = |noise_variance| {
        let synthesis =
            SynthesisSettings { gate: Gate::Plausible, noise_variance, ..Default::default() };
        let (mut at_mean, mut count) = (0, 0);
        for pair in 0..40 {
            for (s, rows) in from_vae(&vae, seeds, &synthesis, pair).iter().enumerate() {
                let mean = vae.encode(&side(seeds, s, pair), Threads::ONE).mean;
                let plain = vae.decode(&mean, Threads::ONE);
                let off = |row: &[f32]| row.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 1e-6);
                at_mean += rows.chunks_exact(D).filter(|row| !off(row)).count();
                count += 3;
            }
        }
        f64::from(at_mean as u32) / f64::from(count)
    };
    let (far, near) = (share_at_mean(1e4), share_at_mean(1e-4));
    assert!(far > 0.95 && near < 0.1, "{far} {near}");
}

/// Mean and variance of one dimension over all copies of one side.
fn moments(synthetic: &Synthetic<'_>, pairs: usize, side: usize, dim: usize) -> (f64, f64) {
    let all: Vec<f64> = (0..pairs)
        .flat_map(|i| {
            let rows = synthetic.embeddings(i, Threads::ONE)[side].clone();
            rows.chunks_exact(D).map(|r| f64::from(r[dim])).collect::<Vec<_>>()
        })
        .collect();
    crate::metrics::mean_and_deviation(all.iter().copied())
}

#[test]
fn perturbation_adds_noise_of_the_variance_asked_for() {
    let (all, standardiser) = (pairs(300), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let source = Perturbation { variance: 0.04 };
    let synthetic = drawn(&source, seeds, 20, 64);
    let (mut sum, mut n) = (0.0, 0.0);
    for pair in 0..300 {
        for (side, rows) in synthetic.embeddings(pair, Threads::ONE).iter().enumerate() {
            let mut real = [0.0; D];
            read_side(seeds, side, pair, &mut real);
            for row in rows.chunks_exact(D) {
                sum += row.iter().zip(&real).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                n += D as f64;
            }
        }
    }
    assert!((sum / n - 0.04).abs() < 0.001, "{}", sum / n);
}

#[test]
fn gaussian_sampling_has_the_mean_of_each_side_and_the_covariance_of_both() {
    let (all, standardiser) = (pairs(400), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let source = GaussianSampling::fit(seeds, Threads::ONE).unwrap();
    assert_eq!(source.parameters(), 2 * 3 + 6);
    let synthetic = drawn(&source, seeds, 60, 64);
    for side in 0..2 {
        let real = |dim: usize| {
            let value = |i| {
                let mut row = [0.0; D];
                read_side(seeds, side, i, &mut row);
                f64::from(row[dim])
            };
            crate::metrics::mean_and_deviation((0..400).map(value).collect::<Vec<_>>().into_iter())
        };
        for dim in 0..D {
            let ((mean, deviation), (m, s)) = (moments(&synthetic, 400, side, dim), real(dim));
            // The deviation is that of both sides, which differ by what 400 pairs leave to chance.
            assert!((mean - m).abs() < 0.03 && (deviation - s).abs() < 0.1, "{side} {dim}");
        }
        // The covariance of the first two dimensions is 0.8.
        let mut product = 0.0;
        let (a, b) = (moments(&synthetic, 400, side, 0).0, moments(&synthetic, 400, side, 1).0);
        for pair in 0..400 {
            for row in synthetic.embeddings(pair, Threads::ONE)[side].chunks_exact(D) {
                product += (f64::from(row[0]) - a) * (f64::from(row[1]) - b) / (400.0 * 60.0);
            }
        }
        assert!((product - 0.8).abs() < 0.15, "{product}");
    }
}

#[test]
fn mixup_lies_on_the_way_to_one_other_pair_at_the_same_point_on_both_sides() {
    let (all, standardiser) = (pairs(30), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let source = Mixup { alpha: 1.0 };
    let synthetic = drawn(&source, seeds, 3, 64);
    let real = |side, pair| {
        let mut row = [0.0; D];
        read_side(seeds, side, pair, &mut row);
        row
    };
    for pair in 0..30 {
        let [chosen, rejected] = synthetic.embeddings(pair, Threads::ONE);
        for (c, r) in chosen.chunks_exact(D).zip(rejected.chunks_exact(D)) {
            // Some partner explains both sides with one share of at most a half.
            let explained = (0..30).any(|other| {
                let (e, f) = (real(0, pair), real(0, other));
                let share = if other == pair { 0.0 } else { (c[0] - e[0]) / (f[0] - e[0]) };
                let near = |row: &[f32], side: usize| {
                    let (e, f) = (real(side, pair), real(side, other));
                    (0..D).all(|j| (e[j] + share * (f[j] - e[j]) - row[j]).abs() < 1e-4)
                };
                (-1e-4..=0.5001).contains(&share) && near(c, 0) && near(r, 1)
            });
            assert!(explained, "pair {pair}");
        }
    }
}

#[test]
fn ties_are_mixed_with_nothing_and_nothing_with_ties() {
    let labels = vec![Label::Tie; 4];
    let all = pairs(4).with_labels(labels).unwrap();
    let standardiser = Standardiser::identity(D);
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let source = Mixup { alpha: 1.0 };
    let synthetic = drawn(&source, seeds, 1, 64);
    let mut row = [0.0; D];
    read_side(seeds, 0, 2, &mut row);
    assert_eq!(synthetic.embeddings(2, Threads::ONE)[0], row);
}

#[test]
fn a_gaussian_of_fewer_pairs_than_dimensions_stays_in_their_span() {
    let side = |x: f32| Matrix::new(vec![x, 0.0, 0.0, -x, 0.0, 0.0], 2, D).unwrap();
    let all = EmbeddedPairs::new(side(1.0), side(2.0)).unwrap();
    let standardiser = Standardiser::identity(D);
    let folds = Folds::assign(&all.prompts, 1, 0);
    let seeds = SeedPairs { pairs: &all, standardiser: &standardiser, folds: &folds };
    let source = GaussianSampling::fit(seeds, Threads::ONE).unwrap();
    let synthetic = drawn(&source, seeds, 50, 64);
    for row in synthetic.embeddings(0, Threads::ONE)[1].chunks_exact(D) {
        assert!(row[1].abs() < 0.01 && row[2].abs() < 0.01, "{row:?}");
    }
}

/// What the labels of one fold are must not be seen in synthetic pairs of another.
#[test]
fn no_source_tells_the_labels_of_one_fold_to_the_others() {
    let n = 40;
    let (all, standardiser) = (pairs(n), Standardiser::identity(D));
    let folds = Folds::assign(&all.prompts, 4, 0);
    // The same pairs with the sides of one fold exchanged.
    let first = |i: &usize| folds.of_pairs()[*i] == 0;
    let mut sides =
        [all.chosen.to_matrix().data().to_vec(), all.rejected.to_matrix().data().to_vec()];
    let [a, b] = &mut sides;
    for i in (0..n).filter(first) {
        a[i * D..(i + 1) * D].swap_with_slice(&mut b[i * D..(i + 1) * D]);
    }
    let [a, b] = sides.map(|data| Matrix::new(data, n, D).unwrap());
    let exchanged = EmbeddedPairs::new(a, b).unwrap();
    let seeds = |pairs| SeedPairs { pairs, standardiser: &standardiser, folds: &folds };
    let (before, after) = (sources(seeds(&all)), sources(seeds(&exchanged)));
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let before = drawn(before.as_ref(), seeds(&all), 3, 64);
        let after = drawn(after.as_ref(), seeds(&exchanged), 3, 64);
        // Where the responses lie on average, which is what a head learns from.
        for pair in (0..n).filter(|i| !first(i)) {
            let (x, y) =
                (before.embeddings(pair, Threads::ONE), after.embeddings(pair, Threads::ONE));
            let off =
                x.concat().iter().zip(y.concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3, "{name}: {off}");
        }
        let own = (0..n).find(first).unwrap();
        assert_ne!(before.embeddings(own, Threads::ONE), after.embeddings(own, Threads::ONE));
    }
}
