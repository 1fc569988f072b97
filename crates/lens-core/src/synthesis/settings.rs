//! Settings of synthesis.

use super::variants::{Centring, Decoding, Emphasis, Gate, Noise, Variant, Weighing};
use crate::error::{CoreError, require};
use serde::{Deserialize, Serialize};

/// The latent code that noise is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The posterior mean (O). The default.
    #[default]
    Mean,
    /// A draw from the posterior, a fresh one for every candidate (O).
    Draw,
}

/// Settings of synthesis. P marks what the paper fixes, O what is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthesisSettings {
    /// Variance s^2 of the latent noise (P). Defaults to 0.01, the paper's best.
    pub noise_variance: f64,
    /// Candidates drawn for every one that is kept (O). Defaults to 4.
    pub candidates: usize,
    /// The latent code that noise is added to (O). Defaults to the posterior mean.
    pub origin: Origin,
    /// The unit of the noise (O). Defaults to that of latent space.
    pub noise: Noise,
    /// How a code becomes a response (O). Defaults to plain decoding.
    pub decoding: Decoding,
    /// Whether the VAE sees responses as they are, or their differences from the middle of the pair
    /// (O). Defaults to the former.
    pub around: Centring,
    /// The weight of a synthetic pair, where a real one has weight 1 (O); other than 1 with a logistic
    /// head only. Defaults to 1.
    pub weight: f64,
    /// Which synthetic responses and pairs are left out (O); `ordered` with a logistic head only.
    /// Defaults to `none`.
    pub gate: Gate,
    /// Which pairs get more weight from synthetic responses (O); `uncertain` with a logistic head only.
    /// Defaults to `even`.
    pub emphasis: Emphasis,
    /// Most memory for synthetic codes that are kept, in MB (O). Where all of them need more, each
    /// step draws its own again, the same to the bit. Defaults to 512.
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

    /// The weight of synthetic pairs against real ones. The gate by plausibility is no part of it: it
    /// acts on codes, before there are pairs.
    pub fn weighing(&self) -> Weighing {
        let gate = if self.gate == Gate::Ordered { Gate::Ordered } else { Gate::None };
        Weighing { weight: self.weight, gate, emphasis: self.emphasis }
    }

    /// How codes become responses, where not by decoding alone.
    pub(crate) fn variant(&self) -> Variant {
        Variant {
            neighbour_share: (self.noise == Noise::Neighbour)
                .then(|| self.noise_variance.sqrt() as f32),
            plausible_only: self.gate == Gate::Plausible,
            decoding: self.decoding,
            centring: self.around,
        }
    }

    /// Whether synthetic responses are decoded codes and nothing else, so that the head can train on
    /// the codes.
    pub fn is_plain(&self) -> bool {
        self.decoding == Decoding::Plain
            && self.around == Centring::Origin
            && self.noise != Noise::Neighbour
            && self.gate != Gate::Plausible
    }
}
