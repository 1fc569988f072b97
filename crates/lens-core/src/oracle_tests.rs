//! Every hand-written gradient against two witnesses: finite differences, and automatic
//! differentiation (dual numbers) of the *plain* computation, in which nothing is shared, factored
//! or skipped: reconstructions are formed, synthetic embeddings decoded, every pair materialised.
#![allow(clippy::unwrap_used)]

use crate::activation::Activation;
use crate::bradley_terry::BradleyTerry;
use crate::embedded::Label;
use crate::head::mlp::pair_losses::Comparison;
use crate::head::mlp::step::{Batch, HeadTrainer};
use crate::head::{Head, HeadShape};
use crate::linalg::Threads;
use crate::pairing::{combinations, synthetic_per_side};
use crate::real::Real;
use crate::rng::{Purpose, Stream};
use crate::vae::loss::{LossWeights, VaeBatch, VaeLoss, VaeTrainer};
use crate::vae::{Vae, VaeShape};
use num_dual::{Dual64, DualNum};
use proptest::prelude::*;
use std::ops::Range;

fn normals(n: usize, seed: u64) -> Vec<f64> {
    let mut s = Stream::new(seed, Purpose::Splits, 99);
    (0..n).map(|_| f64::from(s.normal())).collect()
}

/// A constant.
fn constant(x: f64) -> Dual64 {
    Dual64::from_re(x)
}

/// The value of `f`, and its derivative by every parameter in turn.
fn derivatives(parameters: &[f64], f: impl Fn(&[Dual64]) -> Dual64) -> (f64, Vec<f64>) {
    let mut p: Vec<Dual64> = parameters.iter().map(|&x| constant(x)).collect();
    let value = f(&p).re;
    let gradient = (0..p.len())
        .map(|i| {
            p[i] = p[i].derivative();
            let by = f(&p).eps;
            p[i] = constant(p[i].re);
            by
        })
        .collect();
    (value, gradient)
}

/// `W x`, row by row.
fn product(weight: &[Dual64], x: &[Dual64]) -> Vec<Dual64> {
    weight.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

fn sum(a: Vec<Dual64>, b: &[Dual64]) -> Vec<Dual64> {
    assert_eq!(a.len(), b.len());
    a.into_iter().zip(b).map(|(a, b)| a + b).collect()
}

fn activate(x: Vec<Dual64>, activation: Activation) -> Vec<Dual64> {
    let f = |x: Dual64| match activation {
        Activation::Relu if x.re > 0.0 => x,
        Activation::Relu => constant(0.0),
        Activation::Tanh => x.tanh(),
    };
    x.into_iter().map(f).collect()
}

/// Largest difference relative to the largest value, but for values that are rounding alone: where no
/// unit is active, every gradient is a sum that cancels.
fn relative(a: &[f64], b: &[f64]) -> f64 {
    let size = a.iter().chain(b).fold(1e-7f64, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0.0f64, |m, (x, y)| m.max((x - y).abs())) / size
}

/// Central differences of `f` at `at`.
fn differences(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-6;
    let mut p = at.to_vec();
    (0..at.len())
        .map(|i| {
            p[i] = at[i] + step;
            let up = f(&p);
            p[i] = at[i] - step;
            let down = f(&p);
            p[i] = at[i];
            (up - down) / (2.0 * step)
        })
        .collect()
}

/// Copies columns of `x`, rows of width `dim`.
fn columns<T: Copy>(x: &[T], dim: usize, columns: Range<usize>, out: &mut [T]) {
    for (to, row) in out.chunks_exact_mut(columns.len()).zip(x.chunks_exact(dim)) {
        to.copy_from_slice(&row[columns.clone()]);
    }
}

fn vae_step<T: Real>(mut trainer: VaeTrainer<T>, x: &[T], case: &VaeCase) -> (VaeLoss, Vec<T>) {
    let dim = case.vae.shape().dim;
    let eps: Vec<T> = case.eps.iter().map(|&e| T::narrow(e)).collect();
    let load = |c, out: &mut [T]| columns(x, dim, c, out);
    let batch = VaeBatch { pairs: case.pairs, load: &load, eps: &eps, apart: &case.apart };
    let loss = trainer.step(batch, case.weights, None);
    (loss, trainer.gradient())
}

struct VaeCase {
    vae: Vae<f64>,
    x: Vec<f64>,
    eps: Vec<f64>,
    apart: Vec<bool>,
    pairs: usize,
    slabs: usize,
    weights: LossWeights,
}

impl VaeCase {
    fn new(shape: VaeShape, pairs: usize, activation: Activation, seed: u64) -> Self {
        VaeCase {
            vae: Vae::new(shape, activation, seed),
            x: normals(2 * pairs * shape.dim, seed + 1),
            eps: normals(2 * pairs * shape.latent, seed + 2),
            // Now and then a tie, which is not driven apart.
            apart: (0..pairs).map(|p| (p as u64 + seed) % 4 != 3).collect(),
            pairs,
            slabs: 1 + seed as usize % 3,
            // Bounded every other time.
            weights: LossWeights {
                beta: 0.3,
                gamma: 0.2,
                bound: if seed.is_multiple_of(2) { 1.5 } else { f64::INFINITY },
            },
        }
    }

    fn ours(&self, vae: &Vae<f64>) -> (VaeLoss, Vec<f64>) {
        vae_step(VaeTrainer::with_slabs(vae, self.pairs, self.slabs), &self.x, self)
    }

    /// The objective as the method states it, every reconstruction formed.
    fn plain(&self) -> (f64, Vec<f64>) {
        derivatives(self.vae.parameters(), |p| self.objective(p))
    }

    fn objective(&self, parameters: &[Dual64]) -> Dual64 {
        let VaeShape { dim: d, latent: l, hidden } = self.vae.shape();
        let named = self.vae.shape().named();
        let p = |name: &str| {
            let (.., at) = named.iter().find(|part| part.0 == name).unwrap();
            &parameters[at.clone()]
        };
        let linear = |x: &[Dual64], layer: &str| {
            sum(product(p(&format!("{layer}.weight")), x), p(&format!("{layer}.bias")))
        };
        let output = p("vae.decoder.output.weight_transposed");
        let mut total = constant(0.0);
        let mut posteriors = Vec::new();
        for (x, eps) in self.x.chunks_exact(d).zip(self.eps.chunks_exact(l)) {
            let x: Vec<Dual64> = x.iter().map(|&x| constant(x)).collect();
            let u = activate(linear(&x, "vae.encoder.hidden"), self.vae.activation());
            let moments = linear(&u, "vae.encoder.moments");
            let (mu, lv) = moments.split_at(l);
            let sigma: Vec<Dual64> = lv.iter().map(|lv| (*lv * 0.5).exp()).collect();
            let z: Vec<Dual64> = (0..l).map(|i| mu[i] + sigma[i] * eps[i]).collect();
            let u = activate(linear(&z, "vae.decoder.hidden"), self.vae.activation());
            let out: Vec<Dual64> =
                (0..d).map(|j| (0..hidden).map(|i| u[i] * output[i * d + j]).sum()).collect();
            let out = sum(out, p("vae.decoder.output.bias"));
            let recon: Dual64 = out.iter().zip(&x).map(|(out, x)| (out - x).powi(2)).sum();
            let kl: Dual64 = (0..l).map(|i| mu[i].powi(2) + lv[i].exp() - lv[i] - 1.0).sum();
            total += recon / d as f64 + kl * (0.5 * self.weights.beta);
            posteriors.push((mu.to_vec(), sigma));
        }
        let (chosen, rejected) = posteriors.split_at(self.pairs);
        for ((a, b), apart) in chosen.iter().zip(rejected).zip(&self.apart) {
            let gap = |a: &[Dual64], b: &[Dual64]| -> Dual64 {
                a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
            };
            let w2 = (gap(&a.0, &b.0) + gap(&a.1, &b.1)).sqrt();
            let bound = self.weights.bound;
            let w2 = if bound.is_finite() { w2 * bound / (w2 + bound) } else { w2 };
            if *apart {
                total -= w2 * self.weights.gamma;
            }
        }
        total / self.pairs as f64
    }
}

fn activation(tanh: bool) -> Activation {
    if tanh { Activation::Tanh } else { Activation::Relu }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn vae_agrees_with_automatic_differentiation_of_the_plain_objective(
        dim in 1usize..9, hidden in 1usize..7, latent in 1usize..5, pairs in 1usize..6,
        tanh in any::<bool>(), seed in 0u64..1000,
    ) {
        let case = VaeCase::new(VaeShape { dim, hidden, latent }, pairs, activation(tanh), seed);
        let (loss, gradient) = case.ours(&case.vae);
        let (plain, plain_gradient) = case.plain();
        prop_assert!((loss.total - plain).abs() < 1e-9 * plain.abs().max(1.0), "{} {plain}", loss.total);
        prop_assert!(relative(&gradient, &plain_gradient) < 1e-8);
    }

    #[test]
    fn head_agrees_with_decoding_and_materialising_every_pair(
        dim in 1usize..8, h in 1usize..6, pairs in 1usize..5, factor in 1usize..17,
        hidden in proptest::collection::vec(1usize..5, 0..4), members in 1usize..4,
        across in any::<bool>(), tanh in any::<bool>(), dropout in any::<bool>(),
        smoothing in prop_oneof![Just(0.0), Just(0.1)],
        tie_threshold in prop_oneof![Just(0.0), Just(0.6)], seed in 0u64..1000,
    ) {
        let case = HeadCase::new(HeadPlan {
            dim, h, pairs, factor, hidden, members, across, activation: activation(tanh),
            form: BradleyTerry { smoothing, tie_threshold }, dropout, seed,
        });
        let (losses, gradient) = case.ours(&case.head);
        let (plain, plain_gradient) = case.plain();
        let total: f64 = losses.iter().sum();
        prop_assert!((total - plain).abs() < 1e-9 * plain.abs().max(1.0), "{total} {plain}");
        prop_assert!(relative(&gradient, &plain_gradient) < 1e-8);
    }
}

#[test]
fn vae_gradient_agrees_with_finite_differences() {
    let shape = VaeShape { dim: 6, hidden: 4, latent: 3 };
    let case = VaeCase::new(shape, 3, Activation::Tanh, 5);
    let numeric = differences(case.vae.parameters(), |p| {
        case.ours(&Vae::with_parameters(shape, Activation::Tanh, p.to_vec()).unwrap()).0.total
    });
    let error = relative(&case.ours(&case.vae).1, &numeric);
    assert!(error < 1e-7, "{error}");
}

#[test]
fn the_production_precision_agrees_with_f64() {
    let shape = VaeShape { dim: 50, hidden: 16, latent: 4 };
    let case = VaeCase::new(shape, 20, Activation::Relu, 8);
    let (exact, exact_gradient) = case.ours(&case.vae);
    let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let vae = Vae::with_parameters(shape, Activation::Relu, narrow(case.vae.parameters())).unwrap();
    let trainer = VaeTrainer::new(&vae, 20, Threads::ONE);
    let (loss, gradient) = vae_step(trainer, &narrow(&case.x), &case);
    assert!((loss.total - exact.total).abs() < 1e-5 * exact.total.abs());
    let wide: Vec<f64> = gradient.iter().map(|&g| f64::from(g)).collect();
    assert!(relative(&wide, &exact_gradient) < 1e-5);
}

/// The divergence by hand: mu+ = 3, mu- = -1, both sigma 1 gives W2 = 4.
#[test]
fn w2_and_kl_by_hand() {
    let shape = VaeShape { dim: 1, hidden: 1, latent: 1 };
    let mut parameters = vec![0.0f64; shape.parameters()];
    for (name, _, _, at) in shape.named() {
        match name {
            // tanh(1) of the chosen, tanh(0) of the rejected, stretched to 4 tanh(1) / tanh(1).
            "vae.encoder.hidden.weight" => parameters[at.start] = 1.0,
            "vae.encoder.moments.weight" => parameters[at.start] = 4.0 / 1.0f64.tanh(),
            "vae.encoder.moments.bias" => parameters[at.start] = -1.0,
            _ => {}
        }
    }
    let vae = Vae::with_parameters(shape, Activation::Tanh, parameters).unwrap();
    let load = |_, x: &mut [f64]| x.copy_from_slice(&[1.0, 0.0]);
    let batch = VaeBatch { pairs: 1, load: &load, eps: &[0.0, 0.0], apart: &[true] };
    let weights = LossWeights { beta: 0.5, gamma: 0.25, bound: f64::INFINITY };
    let loss = VaeTrainer::new(&vae, 1, Threads::ONE).step(batch, weights, None);
    // A bound of 4 makes half of the same distance.
    let bounded = LossWeights { bound: 4.0, ..weights };
    let bounded = VaeTrainer::new(&vae, 1, Threads::ONE).step(batch, bounded, None);
    assert!((bounded.total - loss.total - 0.25 * 2.0).abs() < 1e-12 && bounded.w2 == loss.w2);
    assert!((loss.w2 - 4.0).abs() < 1e-12);
    // KL of N(3, 1) and N(-1, 1) from N(0, 1): 9/2 + 1/2.
    assert!((loss.kl - 5.0).abs() < 1e-12);
    // The decoder gives 0: squared errors 1 and 0.
    assert!((loss.reconstruction - 1.0).abs() < 1e-12);
    assert!((loss.total - (1.0 + 0.5 * 5.0 - 0.25 * 4.0)).abs() < 1e-12);
}

struct HeadPlan {
    dim: usize,
    h: usize,
    pairs: usize,
    factor: usize,
    hidden: Vec<usize>,
    members: usize,
    across: bool,
    activation: Activation,
    form: BradleyTerry,
    dropout: bool,
    seed: u64,
}

struct HeadCase {
    head: Head<f64>,
    vae: Vae<f64>,
    real: Vec<f64>,
    codes: Vec<f64>,
    comparisons: Vec<Comparison>,
    trains: Vec<bool>,
    masks: Option<Vec<Vec<f64>>>,
    form: BradleyTerry,
    slabs: usize,
}

impl HeadCase {
    fn new(plan: HeadPlan) -> Self {
        let HeadPlan { dim, h, pairs, factor, members, across, activation, form, seed, .. } = plan;
        let latent = 2;
        let k = synthetic_per_side(factor);
        let shape = HeadShape { dim, hidden: plan.hidden, members };
        let row = |pair: usize, side: usize, copy: u16| {
            (if copy == 0 {
                side * pairs + pair
            } else {
                2 * pairs + (side * pairs + pair) * k + usize::from(copy) - 1
            }) as u32
        };
        // Every kind of label: without a margin, with one, and ties where the form knows them.
        let label = |pair: usize| match (pair as u64 + seed) % 3 {
            0 => Label::default(),
            1 if form.tie_threshold > 0.0 => Label::Tie,
            n => Label::Preferred { margin: 0.25 * n as f32 },
        };
        let mut comparisons = Vec::new();
        for pair in 0..pairs {
            for (n, c) in combinations(factor, seed, pair).into_iter().enumerate() {
                let other = if across && n > 0 { (pair + n) % pairs } else { pair };
                comparisons.push(Comparison {
                    chosen: row(pair, 0, c.chosen),
                    rejected: row(other, 1, c.rejected),
                    pairs: [pair as u32, other as u32],
                    label: label(pair),
                });
            }
        }
        let masks = plan.dropout.then(|| {
            let mut stream = Stream::new(seed, Purpose::Dropout, 0);
            let mut unit = || if stream.chance(0.3) { 0.0 } else { 1.0 / 0.7 };
            let rows = 2 * pairs * (1 + k);
            let mut mask = |len| (0..len).map(|_| unit()).collect();
            shape.hidden.iter().map(|w| mask(rows * members * w)).collect()
        });
        HeadCase {
            head: Head::new(shape, activation, seed),
            vae: Vae::new(VaeShape { dim, hidden: h, latent }, activation, seed),
            real: normals(2 * pairs * dim, seed + 1),
            codes: normals(2 * pairs * k * latent, seed + 2),
            comparisons,
            // Every member skips some pair, as in training with folds.
            trains: (0..members * pairs).map(|i| (i / pairs + i % pairs) % 3 != 1).collect(),
            masks,
            form,
            slabs: 1 + seed as usize % 3,
        }
    }

    fn ours(&self, head: &Head<f64>) -> (Vec<f64>, Vec<f64>) {
        let dim = head.shape().dim;
        let real = self.real.len() / dim;
        let vae = (!self.codes.is_empty()).then_some(&self.vae);
        let load = |c, out: &mut [f64]| columns(&self.real, dim, c, out);
        let batch = Batch {
            real,
            load: &load,
            codes: &self.codes,
            comparisons: &self.comparisons,
            trains: &self.trains,
            dropout: self.masks.as_deref(),
        };
        let mut trainer = HeadTrainer::with_slabs(head, vae, real, self.slabs);
        let mut losses = vec![0.0; head.shape().members];
        trainer.step(batch, self.form, &mut losses, None);
        (losses, trainer.gradient())
    }

    /// Decode every synthetic response, materialise every pair, differentiate automatically.
    fn plain(&self) -> (f64, Vec<f64>) {
        let mut rows = self.real.clone();
        rows.extend(self.vae.decode(&self.codes, Threads::ONE));
        derivatives(self.head.parameters(), |p| {
            (0..self.head.shape().members).map(|m| self.loss_of(m, &rows, p)).sum()
        })
    }

    /// The mean loss of one member over the pairs it is trained on.
    fn loss_of(&self, m: usize, rows: &[f64], parameters: &[Dual64]) -> Dual64 {
        let HeadShape { dim, members, .. } = *self.head.shape();
        let layers = self.head.shape().layers();
        let ranges = self.head.shape().member_ranges(m);
        let pairs = self.trains.len() / members;
        let reward = |row: u32| {
            let row = row as usize;
            let mut x: Vec<Dual64> =
                rows[row * dim..][..dim].iter().map(|&x| constant(x)).collect();
            for (j, layer) in layers.iter().enumerate() {
                x = product(&parameters[ranges[2 * j].clone()], &x);
                if j + 1 == layers.len() {
                    break;
                }
                x = sum(x, &parameters[ranges[2 * j + 1].clone()]);
                x = activate(x, self.head.activation());
                if let Some(masks) = &self.masks {
                    let mask = &masks[j][(row * members + m) * layer.outputs..][..layer.outputs];
                    x.iter_mut().zip(mask).for_each(|(x, mask)| *x *= *mask);
                }
            }
            assert_eq!(x.len(), 1);
            x[0]
        };
        // Likelihoods as they are defined, nothing rearranged.
        let sigmoid = |x: Dual64| ((-x).exp() + 1.0).recip();
        let BradleyTerry { smoothing: s, tie_threshold: t } = self.form;
        let losses: Vec<Dual64> = self
            .comparisons
            .iter()
            .filter(|c| c.pairs.iter().all(|&p| self.trains[m * pairs + p as usize]))
            .map(|c| {
                let difference = reward(c.chosen) - reward(c.rejected);
                match c.label {
                    Label::Tie => -(sigmoid(difference + t) - sigmoid(difference - t)).ln(),
                    Label::Preferred { margin } => {
                        let ask = f64::from(margin) + t;
                        let right = sigmoid(difference - ask).ln();
                        let wrong = sigmoid(-difference - ask).ln();
                        -(right * (1.0 - s) + wrong * s)
                    }
                }
            })
            .collect();
        if losses.is_empty() {
            return constant(0.0);
        }
        let n = losses.len() as f64;
        losses.into_iter().sum::<Dual64>() / n
    }
}

#[test]
fn head_gradient_agrees_with_finite_differences() {
    let case = HeadCase::new(HeadPlan {
        dim: 5,
        h: 4,
        pairs: 4,
        factor: 8,
        hidden: vec![3, 2],
        members: 2,
        across: true,
        activation: Activation::Tanh,
        form: BradleyTerry { smoothing: 0.05, tie_threshold: 0.4 },
        dropout: true,
        seed: 3,
    });
    let numeric = differences(case.head.parameters(), |p| {
        let shape = case.head.shape().clone();
        let head = Head::with_parameters(shape, Activation::Tanh, p.to_vec()).unwrap();
        case.ours(&head).0.iter().sum()
    });
    let error = relative(&case.ours(&case.head).1, &numeric);
    assert!(error < 1e-7, "{error}");
}
