//! Training the VAE: minibatches of pairs, Adam, and a guard against divergence.

use super::loss::{LossWeights, VaeLoss, VaeWorkspace};
use super::{Vae, VaeSettings, VaeShape};
use crate::adam::{Adam, AdamSettings};
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::matrix::{EmbeddedPairs, Standardiser};
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// One epoch of VAE training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VaeEpoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Squared reconstruction error averaged over dimensions, both sides added.
    pub reconstruction: f64,
    /// KL divergence, both sides added, before beta.
    pub kl: f64,
    /// Mean 2-Wasserstein distance of the two sides.
    pub w2: f64,
    /// What is minimised.
    pub total: f64,
}

/// How VAE training went, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VaeReport {
    /// One entry an epoch.
    pub epochs: Vec<VaeEpoch>,
    /// Number of parameters.
    pub parameters: usize,
    /// Latents that carry something: their posterior means vary by more than 0.01 over the seeds.
    pub latents_used: usize,
    /// Mean |mu| over all codes of the seeds.
    pub mean_abs_mu: f64,
    /// Share of the (standardised) variance that decoding the posterior mean leaves unexplained.
    pub unexplained: f64,
}

/// Trains a VAE on `pairs`, standardised by `standardiser`.
///
/// # Errors
/// [`CoreError::Diverged`] when a figure is not finite or W2 passes `settings.w2_limit`;
/// [`CoreError::Cancelled`].
pub fn train(
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    settings: &VaeSettings,
    seed: u64,
    threads: Threads,
    progress: &dyn Progress,
) -> Result<(Vae, VaeReport), CoreError> {
    settings.check()?;
    if pairs.is_empty() {
        return Err(CoreError::TooFewPairs { what: "training the VAE", needed: 1, found: 0 });
    }
    let shape = VaeShape { dim: pairs.dim(), hidden: settings.hidden, latent: settings.latent };
    let mut vae = Vae::<f32>::new(shape, settings.activation, seed);
    let batch = settings.batch.min(pairs.len());
    let mut workspace = VaeWorkspace::new(shape, batch);
    let mut gradient = vec![0.0f32; shape.parameters()];
    let mut adam = Adam::new(shape.parameters());
    let adam_settings = AdamSettings { learning_rate: settings.learning_rate, weight_decay: 0.0 };
    let weights = LossWeights { beta: settings.beta, gamma: settings.gamma };
    let mut x = vec![0.0f32; 2 * batch * shape.dim];
    let mut eps = vec![0.0f32; 2 * batch * shape.latent];
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let mut stream = Stream::new(seed, Purpose::VaeTrain, 0);
    let mut epochs = Vec::with_capacity(settings.epochs);
    let mut step = 0u64;

    progress.begin("train VAE", settings.epochs as u64, "epochs");
    for epoch in 1..=settings.epochs {
        stream.shuffle(&mut order);
        let mut sum = VaeLoss::default();
        for rows in order.chunks(batch) {
            if progress.cancelled() {
                return Err(CoreError::Cancelled { stage: "VAE" });
            }
            step += 1;
            let x = &mut x[..2 * rows.len() * shape.dim];
            gather(pairs, standardiser, rows, x);
            let eps = &mut eps[..2 * rows.len() * shape.latent];
            eps.iter_mut().for_each(|e| *e = stream.normal());
            let loss =
                vae.loss_and_gradient(x, eps, weights, &mut workspace, &mut gradient, threads);
            guard(&loss, settings, step)?;
            adam.step(adam_settings, &mut vae.parameters, &gradient);
            let weight = rows.len() as f64 / pairs.len() as f64;
            sum.reconstruction += weight * loss.reconstruction;
            sum.kl += weight * loss.kl;
            sum.w2 += weight * loss.w2;
            sum.total += weight * loss.total;
        }
        let VaeLoss { reconstruction, kl, w2, total } = sum;
        epochs.push(VaeEpoch { epoch, reconstruction, kl, w2, total });
        progress.advance(1);
    }
    progress.end();
    if vae.parameters.iter().any(|p| !p.is_finite()) {
        return Err(diverged(step, "a weight is not finite".into(), settings));
    }
    let report = report(&vae, pairs, standardiser, epochs, threads);
    Ok((vae, report))
}

/// Copies the standardised embeddings of `rows` to `x`: chosen first, then rejected.
pub(crate) fn gather(
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    rows: &[usize],
    x: &mut [f32],
) {
    let d = pairs.dim();
    let (chosen, rejected) = x.split_at_mut(rows.len() * d);
    for ((&i, c), r) in
        rows.iter().zip(chosen.chunks_exact_mut(d)).zip(rejected.chunks_exact_mut(d))
    {
        standardiser.apply(pairs.chosen.row(i), c);
        standardiser.apply(pairs.rejected.row(i), r);
    }
}

fn guard(loss: &VaeLoss, settings: &VaeSettings, step: u64) -> Result<(), CoreError> {
    let figures = || {
        format!(
            "reconstruction {:.4}, KL {:.4}, mean W2 {:.4}",
            loss.reconstruction, loss.kl, loss.w2
        )
    };
    if !loss.total.is_finite() {
        return Err(diverged(step, figures(), settings));
    }
    if loss.w2 > settings.w2_limit {
        let figures = format!("{} over the limit of {}", figures(), settings.w2_limit);
        return Err(diverged(step, figures, settings));
    }
    Ok(())
}

fn diverged(step: u64, figures: String, settings: &VaeSettings) -> CoreError {
    CoreError::Diverged {
        stage: "VAE",
        step,
        figures,
        advice: format!(
            "the divergence has no lower bound and settles near gamma / beta: try a smaller \
             vae.gamma (now {}), a larger vae.beta (now {}), or a smaller vae.learning_rate (now {})",
            settings.gamma, settings.beta, settings.learning_rate
        ),
    }
}

fn report(
    vae: &Vae,
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    epochs: Vec<VaeEpoch>,
    threads: Threads,
) -> VaeReport {
    let VaeShape { dim: d, latent: l, .. } = vae.shape();
    let mut sum = vec![0.0f64; l];
    let mut squares = vec![0.0f64; l];
    let (mut absolute, mut error, mut variance, mut count) = (0.0, 0.0, 0.0, 0usize);
    let all: Vec<usize> = (0..pairs.len()).collect();
    for rows in all.chunks(256) {
        let mut x = vec![0.0f32; 2 * rows.len() * d];
        gather(pairs, standardiser, rows, &mut x);
        let posterior = vae.encode(&x, threads);
        for mu in posterior.mean.chunks_exact(l) {
            for (j, &m) in mu.iter().enumerate() {
                sum[j] += f64::from(m);
                squares[j] += f64::from(m).powi(2);
                absolute += f64::from(m.abs());
            }
        }
        for (&a, &b) in x.iter().zip(&vae.decode(&posterior.mean, threads)) {
            error += f64::from(a - b).powi(2);
            variance += f64::from(a).powi(2);
        }
        count += 2 * rows.len();
    }
    let n = count as f64;
    let latents_used = (0..l).filter(|&j| squares[j] / n - (sum[j] / n).powi(2) > 0.01).count();
    VaeReport {
        epochs,
        parameters: vae.shape().parameters(),
        latents_used,
        mean_abs_mu: absolute / (n * l as f64),
        unexplained: if variance > 0.0 { error / variance } else { 0.0 },
    }
}
