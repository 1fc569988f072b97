//! Weights that are in memory: encoders of one model, with other views say, hold them once.

use super::lock;
use crate::forward::Model;
use crate::model::memory::Precision;
use std::sync::{Arc, Mutex, Weak};

/// The key of loaded weights: encoders with equal keys can compute with the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WeightsKey {
    /// SHA-256 of the model's files.
    pub sha256: String,
    /// The form in which weights are held.
    pub precision: Precision,
    /// Tokens of the longest text that positions are prepared for.
    pub longest: usize,
}

struct HeldModel {
    key: WeightsKey,
    /// Blocks that are loaded, from the first one on.
    blocks: usize,
    model: Weak<Model>,
}

/// All that some encoder of this process still uses.
static HELD: Mutex<Vec<HeldModel>> = Mutex::new(Vec::new());

/// A model with at least so many blocks, and in one of the forms that `fits`, if it is in memory.
pub(super) fn find(
    sha256: &str,
    longest: usize,
    blocks: usize,
    fits: impl Fn(Precision) -> bool,
) -> Option<Arc<Model>> {
    let mut all = lock(&HELD);
    all.retain(|held| held.model.strong_count() > 0);
    let same = |held: &&HeldModel| {
        held.key.sha256 == sha256
            && held.key.longest == longest
            && held.blocks >= blocks
            && fits(held.key.precision)
    };
    all.iter().filter(same).find_map(|held| held.model.upgrade())
}

/// Lets others use a model that was just loaded. Whoever loaded the same at the same time gets the
/// first one of them. (No lock is held while weights are loaded: that runs on threads which may take
/// up the loading of another encoder meanwhile.)
pub(super) fn hold(key: WeightsKey, blocks: usize, model: Arc<Model>) -> Arc<Model> {
    let mut all = lock(&HELD);
    let same = |held: &&HeldModel| held.key == key && held.blocks == blocks;
    if let Some(first) = all.iter().filter(same).find_map(|held| held.model.upgrade()) {
        return first;
    }
    all.push(HeldModel { key, blocks, model: Arc::downgrade(&model) });
    model
}
