//! Settings of synthesis.

use crate::error::{CoreError, require};
use serde::{Deserialize, Serialize};

/// What the noise is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The posterior mean (O). The default.
    #[default]
    Mean,
    /// A draw from the posterior, a fresh one for every candidate (O).
    Draw,
}

/// In which units the noise is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Noise {
    /// Those of the latent space: the same variance everywhere (P). The default.
    #[default]
    Isotropic,
    /// Those of the posterior: its variance times `noise_variance`, response by response and latent
    /// by latent (O).
    Posterior,
    /// No noise, but a step towards the code of another response of the same side and the same fold: a
    /// share of the way between 0 and the square root of `noise_variance`, all as likely (O).
    Neighbour,
}

/// How a code becomes a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// It is decoded, e' = g(z + eta) (P). The default.
    #[default]
    Plain,
    /// Only what the noise changes is, e' = e + g(z + eta) - g(z), so that whatever the VAE does not
    /// keep of a response stays (O).
    Residual,
}

/// What the VAE sees of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Centring {
    /// Its standardised embedding (P). The default.
    #[default]
    Origin,
    /// How it differs from the middle of its pair, which is added again to what is decoded (O).
    Pair,
}

/// Which synthetic responses and pairs are not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// All are (P). The default.
    #[default]
    None,
    /// A code farther from the middle of all seed codes, by its Mahalanobis distance, than 95% of them
    /// are, becomes the mean of its response (O).
    Plausible,
    /// A synthetic pair whose order is denied by a logistic head that was trained on other folds counts
    /// nothing; what it would have counted goes to its real pair (O).
    Ordered,
}

/// Which pairs get more of their weight from synthetic responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Emphasis {
    /// None (P). The default.
    #[default]
    Even,
    /// Those with a low margin, by a logistic head that was trained on other folds: they count as much
    /// as the slope of the Bradley-Terry loss there (O).
    Uncertain,
}

/// What synthetic pairs count against real ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighing {
    /// What a synthetic pair counts where a real one counts 1.
    pub weight: f64,
    /// Which of them count nothing.
    pub gate: Gate,
    /// Which pairs have synthetic ones that count more.
    pub emphasis: Emphasis,
}

impl Default for Weighing {
    fn default() -> Self {
        Weighing { weight: 1.0, gate: Gate::None, emphasis: Emphasis::Even }
    }
}

impl Weighing {
    /// Whether heads trained on other folds have to judge the pairs first.
    pub fn needs_cross_fitting(&self) -> bool {
        self.gate == Gate::Ordered || self.emphasis == Emphasis::Uncertain
    }
}

/// Settings of synthesis. P marks what the paper fixes, O what is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthesisSettings {
    /// Variance s^2 of the latent noise (P). Defaults to 0.01, the paper's best.
    pub noise_variance: f64,
    /// Candidates drawn for every one that is kept (O). Defaults to 4.
    pub candidates: usize,
    /// What the noise is added to (O). Defaults to the posterior mean.
    pub origin: Origin,
    /// In which units the noise is (O). Defaults to those of the latent space.
    pub noise: Noise,
    /// How a code becomes a response (O). Defaults to plain decoding.
    pub decoding: Decoding,
    /// What the VAE sees of a response (O). Defaults to its embedding.
    pub around: Centring,
    /// What a synthetic pair counts where a real one counts 1 (O); other than 1 with a logistic head
    /// only. Defaults to 1.
    pub weight: f64,
    /// Which synthetic responses and pairs are not trained on (O); `ordered` with a logistic head only.
    /// Defaults to `none`.
    pub gate: Gate,
    /// Which pairs get more weight from synthetic responses (O); `uncertain` with a logistic head only.
    /// Defaults to `even`.
    pub emphasis: Emphasis,
    /// Most memory for codes that are kept, in MB (O); where all of them need more, each step draws
    /// its own again. Either way they are the same. Defaults to 512.
    pub memory_mb: usize,
}

impl Default for SynthesisSettings {
    fn default() -> Self {
        SynthesisSettings {
            noise_variance: 0.01,
            candidates: 4,
            origin: Origin::Mean,
            noise: Noise::Isotropic,
            decoding: Decoding::Plain,
            around: Centring::Origin,
            weight: 1.0,
            gate: Gate::None,
            emphasis: Emphasis::Even,
            memory_mb: 512,
        }
    }
}

impl SynthesisSettings {
    /// Whether every setting is in its permitted range.
    ///
    /// # Errors
    /// [`CoreError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CoreError> {
        require(
            self.noise_variance.is_finite() && self.noise_variance >= 0.0,
            "synthesis.noise_variance",
            self.noise_variance,
            "a finite number of at least 0",
        )?;
        require(
            (1..=1024).contains(&self.candidates),
            "synthesis.candidates",
            self.candidates,
            "from 1 to 1024 (candidates drawn for each one kept)",
        )?;
        require(
            (1e-6..=1e6).contains(&self.weight),
            "synthesis.weight",
            self.weight,
            "from 0.000001 to 1000000 (what a synthetic pair counts against a real one)",
        )?;
        require(
            self.noise != Noise::Neighbour || self.noise_variance <= 1.0,
            "synthesis.noise_variance",
            self.noise_variance,
            "at most 1 with synthesis.noise = \"neighbour\" (1 is all the way)",
        )
    }

    /// What synthetic pairs count against real ones. The gate by plausibility has done its work before.
    pub fn weighing(&self) -> Weighing {
        let gate = if self.gate == Gate::Ordered { Gate::Ordered } else { Gate::None };
        Weighing { weight: self.weight, gate, emphasis: self.emphasis }
    }

    /// Whether what the head trains on is just what is decoded, so that it can train on codes.
    pub fn is_plain(&self) -> bool {
        self.decoding == Decoding::Plain
            && self.around == Centring::Origin
            && self.noise != Noise::Neighbour
            && self.gate != Gate::Plausible
    }
}
