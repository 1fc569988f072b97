//! How long the stages of a job took.

use lens_core::Outcome;
use lens_encoder::EncodeStats;
use serde::Serialize;

/// Time, and tokens where there are any, of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTime {
    /// `embed`, `train vae`, ..
    pub name: &'static str,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Tokens of all texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Tokens that went through the model: not cached, not shared between texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed: Option<u64>,
}

/// The stages so far.
#[derive(Default)]
pub(crate) struct Stages {
    pub(crate) list: Vec<StageTime>,
}

impl Stages {
    /// Adds a stage.
    pub(crate) fn push(&mut self, name: &'static str, seconds: f64) {
        self.list.push(StageTime { name, seconds, tokens: None, computed: None });
    }

    /// Adds the embedding of texts.
    pub(crate) fn push_embedding(&mut self, seconds: f64, stats: &EncodeStats) {
        let (tokens, computed) = (Some(stats.tokens), Some(stats.computed));
        self.list.push(StageTime { name: "embed", seconds, tokens, computed });
    }

    /// Adds the stages of a training.
    pub(crate) fn push_training(&mut self, outcome: &Outcome) {
        self.push("train head", outcome.none.seconds);
        if let Some(augmented) = &outcome.augmented {
            let learning = if augmented.vae.is_some() { "train vae" } else { "fit source" };
            self.push(learning, augmented.source_seconds);
            self.push("synthesise", augmented.synthesis_seconds);
            self.push("train augmented head", augmented.fitted.seconds);
        }
    }
}
