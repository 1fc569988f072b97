//! Reward models from their folders.

use crate::scratch::in_folder;
use lens_core::{Matrix, Threads};
use lens_data::Bundle;

/// The files of a bundle that are read.
const FILES: [&str; 2] = ["lens.json", "model.safetensors"];
/// The reward model that others than [`bundle`] need, in the form of an input.
const MADE: &[u8] = include_bytes!("../corpus/bundle/mlp");

/// A bundle, to the rewards of two rows.
pub fn bundle(bytes: &[u8]) {
    in_folder(bytes, &FILES, |folder| {
        let Ok(bundle) = Bundle::read(folder) else { return };
        let dim = bundle.model.standardiser.mean.len();
        let rows: Vec<f32> = (0..2 * dim).map(|i| (i % 7) as f32 - 3.0).collect();
        let Ok(rows) = Matrix::new(rows, 2, dim) else { return };
        let _ = bundle.model.judge(&rows, Threads::ONE);
        if let (Some(vae), Some(novelty)) = (&bundle.vae, &bundle.novelty) {
            let _ = novelty.distances(vae, &bundle.model.standardiser, &rows, Threads::ONE);
        }
    });
}

/// A reward model for embeddings of width 3.
pub fn made() -> Bundle {
    in_folder(MADE, &FILES, |folder| Bundle::read(folder).expect("the corpus holds a bundle"))
}
