//! What an encoder says of texts, of itself and of its work.

use crate::error::EncoderError;
use std::sync::Arc;

/// One text's vector, and what became of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The hidden states of all views side by side, as the model has them: not normalised.
    pub vector: Arc<[f32]>,
    /// Tokens the vector was computed from; of several views, those of the first.
    pub tokens: usize,
    /// Whether the text was longer than the limit and lost a part.
    pub truncated: bool,
    /// A hash of the token ids: two sides of a pair with equal hashes are the same to the model.
    pub ids_hash: u128,
}

/// Why a text has no vector while others of the same call have theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The template that refuses it: `chat`, `plain` or `custom`.
    pub template: String,
    /// The template's own words, or the engine's message.
    pub detail: String,
}

impl Refused {
    /// The error of the text at `index`.
    pub(super) fn error(self, index: usize) -> EncoderError {
        EncoderError::Refused { index, name: self.template, detail: self.detail }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "template '{}' refuses it: {}", self.template, self.detail)
    }
}

/// How far two exchanges are the same to an encoder, before they are shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The template writes the same text of both.
    Text,
    /// The texts differ, their tokens do not.
    Tokens,
    /// The tokens differ, or are not known.
    None,
}

/// Counts and times of all encoding since the encoder was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EncodeStats {
    /// Texts asked for.
    pub texts: usize,
    /// Tokens of all texts asked for; a text with a suffix counts as a text of its own.
    pub tokens: u64,
    /// Tokens that went through the model.
    pub computed: u64,
    /// Tokens saved because texts begin alike.
    pub shared: u64,
    /// Tokens saved because texts are equal.
    pub repeated: u64,
    /// Tokens saved because their vectors were in the cache.
    pub cached: u64,
    /// Seconds spent, loading included.
    pub seconds: f64,
    /// Seconds of these in the forward pass.
    pub forward_seconds: f64,
}

/// Bytes an encoder will need, known before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights, in the form they are held in.
    pub weights: u64,
    /// Buffers of the forward pass, for one batch.
    pub workspace: u64,
    /// The model file, which the system keeps in memory as long as it has room.
    pub mapped: u64,
}

/// A hash of token ids.
pub(super) fn hash_ids(ids: &[u32]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

impl EncodeStats {
    pub(super) fn add(&mut self, other: &Self) {
        self.texts += other.texts;
        self.tokens += other.tokens;
        self.computed += other.computed;
        self.shared += other.shared;
        self.repeated += other.repeated;
        self.cached += other.cached;
        self.seconds += other.seconds;
        self.forward_seconds += other.forward_seconds;
    }
}
