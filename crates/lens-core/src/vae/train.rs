//! Training the VAE: minibatches of pairs, Adam, and errors where W2 runs away or the posterior
//! collapses.

use super::loss::{LossWeights, VaeBatch, VaeLoss, VaeTrainer};
use super::{Vae, VaeSettings, VaeShape};
use crate::adam::AdamSettings;
use crate::embedded::EmbeddedPairs;
use crate::error::{CoreError, require_same};
use crate::linalg::Threads;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use crate::standardise::Standardiser;
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
    /// The objective, which is minimised.
    pub total: f64,
    /// Latents in use: their posterior means vary by more than 0.01 over the epoch.
    pub latents_used: usize,
}

/// How VAE training went, and figures of the trained VAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VaeReport {
    /// One entry an epoch.
    pub epochs: Vec<VaeEpoch>,
    /// Number of parameters.
    pub parameters: usize,
    /// Latents in use: their posterior means vary by more than 0.01 over the seed pairs.
    pub latents_used: usize,
    /// Mean |mu| over the codes of the seed pairs. This and the other figures are taken over up to
    /// 4,096 pairs.
    pub mean_abs_mu: f64,
    /// Share of the (standardised) variance that decoding the posterior mean leaves unexplained.
    pub unexplained: f64,
}

/// Fewest epochs after which a VAE without a latent in use counts as collapsed: before, it may not
/// have found them yet.
const COLLAPSE_AFTER: usize = 10;

/// Most pairs that the report's figures are of, spread evenly over all: more would not change the
/// second digit.
const REPORT_PAIRS: usize = 4096;

/// Trains a VAE on `pairs`, standardised by `standardiser`: a fresh one, or `start` further.
///
/// # Errors
/// [`CoreError::Diverged`] when a figure is not finite, W2 passes `settings.w2_limit`, or no latent
/// is in use after half of the epochs (posterior collapse); [`CoreError::WarmStart`] when `start`
/// has other sizes than the settings ask for; [`CoreError::Cancelled`].
pub fn train(
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    settings: &VaeSettings,
    start: Option<&Vae>,
    seed: u64,
    threads: Threads,
    progress: &dyn Progress,
) -> Result<(Vae, VaeReport), CoreError> {
    threads.inside(|| run(pairs, standardiser, settings, start, seed, threads, progress))
}

fn run(
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    settings: &VaeSettings,
    start: Option<&Vae>,
    seed: u64,
    threads: Threads,
    progress: &dyn Progress,
) -> Result<(Vae, VaeReport), CoreError> {
    settings.check()?;
    if pairs.is_empty() {
        return Err(CoreError::TooFewPairs { what: "training the VAE", needed: 1, found: 0 });
    }
    let shape = VaeShape { dim: pairs.dim(), hidden: settings.hidden, latent: settings.latent };
    let vae = match start {
        None => Vae::<f32>::new(shape, settings.activation, seed),
        Some(earlier) => {
            require_same("vae.hidden", earlier.shape.hidden, shape.hidden)?;
            require_same("vae.latent", earlier.shape.latent, shape.latent)?;
            require_same("vae.activation", earlier.activation, settings.activation)?;
            require_same("width of the embeddings", earlier.shape.dim, shape.dim)?;
            earlier.clone()
        }
    };
    let batch = settings.batch.min(pairs.len());
    let mut trainer = VaeTrainer::new(&vae, batch, threads);
    let adam_settings = AdamSettings { learning_rate: settings.learning_rate, weight_decay: 0.0 };
    let bound = if settings.w2_bound > 0.0 { settings.w2_bound } else { f64::INFINITY };
    let mut eps = vec![0.0f32; 2 * batch * shape.latent];
    let mut apart = Vec::with_capacity(batch);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let mut stream = Stream::new(seed, Purpose::VaeTrain, 0);
    let mut epochs = Vec::with_capacity(settings.epochs);
    let mut step = 0u64;

    progress.begin("train VAE", settings.epochs as u64, "epochs");
    for epoch in 1..=settings.epochs {
        stream.shuffle(&mut order);
        let mut sum = VaeLoss::default();
        let mut usage = LatentUsage::new(shape.latent);
        let share = ((epoch - 1) as f64 / settings.warm_up.max(1) as f64).min(1.0);
        let share = if settings.warm_up == 0 { 1.0 } else { share };
        let weights =
            LossWeights { beta: share * settings.beta, gamma: share * settings.gamma, bound };
        for rows in order.chunks(batch) {
            if progress.cancelled() {
                return Err(CoreError::Cancelled { stage: "VAE" });
            }
            step += 1;
            apart.clear();
            apart.extend(rows.iter().map(|&i| !pairs.labels[i].is_tie()));
            let eps = &mut eps[..2 * rows.len() * shape.latent];
            eps.iter_mut().for_each(|e| *e = stream.normal());
            let load =
                |columns, x: &mut [f32]| pairs.gather_columns(standardiser, rows, columns, x);
            let batch = VaeBatch { pairs: rows.len(), load: &load, eps, apart: &apart };
            let loss = trainer.step(batch, weights, Some(adam_settings));
            check_loss(&loss, settings, step)?;
            usage.add(trainer.means(2 * rows.len()));
            let weight = rows.len() as f64 / pairs.len() as f64;
            sum.reconstruction += weight * loss.reconstruction;
            sum.kl += weight * loss.kl;
            sum.w2 += weight * loss.w2;
            sum.total += weight * loss.total;
        }
        let VaeLoss { reconstruction, kl, w2, total } = sum;
        let latents_used = usage.used();
        epochs.push(VaeEpoch { epoch, reconstruction, kl, w2, total, latents_used });
        let values = [
            ("reconstruction", reconstruction),
            ("kl", kl),
            ("w2", w2),
            ("total", total),
            ("latents_used", latents_used as f64),
        ];
        progress.curve("", "vae", epoch as u64, &values);
        if latents_used == 0 && 2 * epoch >= settings.epochs && epoch >= COLLAPSE_AFTER {
            return Err(posterior_collapse(step, &sum, settings));
        }
        progress.advance(1);
    }
    progress.end();
    let vae = trainer.vae();
    if vae.parameters.iter().any(|p| !p.is_finite()) {
        return Err(diverged(step, "a weight is not finite".into(), settings));
    }
    let report = report(&vae, pairs, standardiser, epochs, threads);
    Ok((vae, report))
}

fn check_loss(loss: &VaeLoss, settings: &VaeSettings, step: u64) -> Result<(), CoreError> {
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
    let advice = format!(
        "the divergence has no lower bound and settles near gamma / beta: try a smaller vae.gamma \
         (now {}), a larger vae.beta (now {}), or a smaller vae.learning_rate (now {})",
        settings.gamma, settings.beta, settings.learning_rate
    );
    CoreError::diverged("VAE", step, figures, advice)
}

fn posterior_collapse(step: u64, loss: &VaeLoss, settings: &VaeSettings) -> CoreError {
    let figures = format!(
        "posterior collapse: none of the {} latents depends on the embedding (KL {:.4}, \
         reconstruction {:.4})",
        settings.latent, loss.kl, loss.reconstruction
    );
    let advice = format!(
        "try a smaller vae.beta (now {}), a larger vae.learning_rate (now {}), or more vae.epochs \
         (now {}); augment = 1 trains without synthesis",
        settings.beta, settings.learning_rate, settings.epochs
    );
    CoreError::diverged("VAE", step, figures, advice)
}

/// Sums over responses, from which follows which latents are in use.
struct LatentUsage {
    sum: Vec<f64>,
    squares: Vec<f64>,
    absolute: f64,
    count: usize,
}

impl LatentUsage {
    fn new(latent: usize) -> Self {
        LatentUsage { sum: vec![0.0; latent], squares: vec![0.0; latent], absolute: 0.0, count: 0 }
    }

    fn add<'a>(&mut self, means: impl Iterator<Item = &'a [f32]>) {
        for mu in means {
            for ((sum, square), &m) in self.sum.iter_mut().zip(&mut self.squares).zip(mu) {
                let m = f64::from(m);
                *sum += m;
                *square += m * m;
                self.absolute += m.abs();
            }
            self.count += 1;
        }
    }

    /// Latents whose means vary by more than 0.01 (the active units of Burda et al. 2016).
    fn used(&self) -> usize {
        let n = self.count.max(1) as f64;
        let varies = |(sum, square): (&f64, &f64)| square / n - (sum / n).powi(2) > 0.01;
        self.sum.iter().zip(&self.squares).filter(|&pair| varies(pair)).count()
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
    let mut usage = LatentUsage::new(l);
    let (mut error, mut variance) = (0.0, 0.0);
    let some: Vec<usize> =
        (0..pairs.len()).step_by(pairs.len().div_ceil(REPORT_PAIRS).max(1)).collect();
    let mut x = vec![0.0f32; 2 * 256.min(some.len()) * d];
    for rows in some.chunks(256) {
        let x = &mut x[..2 * rows.len() * d];
        pairs.gather(standardiser, rows, x, threads);
        let posterior = vae.encode(x, threads);
        usage.add(posterior.mean.chunks_exact(l));
        for (&a, &b) in x.iter().zip(&vae.decode(&posterior.mean, threads)) {
            error += f64::from(a - b).powi(2);
            variance += f64::from(a).powi(2);
        }
    }
    VaeReport {
        epochs,
        parameters: vae.shape().parameters(),
        latents_used: usage.used(),
        mean_abs_mu: usage.absolute / (usage.count * l) as f64,
        unexplained: if variance > 0.0 { error / variance } else { 0.0 },
    }
}
