//! Models that are broken, tampered with or contradictory: nothing panics, no header is believed
//! about how much memory to take, and the error says what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contradictions;
mod memory;
mod mutations;

use std::path::{Path, PathBuf};

use lens_core::Quiet;
use lens_encoder::{
    Encoded, Encoder, EncoderError, EncoderOptions, LayerChoice, Pooling, Precision, ViewChoice,
};
use serde_json::Value;
use tempfile::TempDir;

/// The reference models: `name` of the folder in which they are.
pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

/// Folders of all reference models, sorted.
pub fn references() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(reference("")).unwrap();
    let mut folders: Vec<PathBuf> = folders.map(|f| f.unwrap().path()).collect();
    folders.sort();
    folders
}

/// A copy of a reference model's folder, to break.
pub fn copy(from: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let name = file.file_name();
        if !["model.gguf", "reference.json"].contains(&name.to_str().unwrap()) {
            std::fs::copy(file.path(), dir.path().join(name)).unwrap();
        }
    }
    dir
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes a JSON file.
pub fn write(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

/// Every layer of the model, last and mean.
pub fn every_layer(weights: Precision) -> EncoderOptions {
    let view = |pooling| ViewChoice { layer: LayerChoice::All, pooling, suffix: None };
    let views = vec![view(Pooling::Last), view(Pooling::Mean)];
    EncoderOptions { views, weights, ..Default::default() }
}

/// Opens a model and computes lists of ids at every layer.
pub fn ids(path: &Path, weights: Precision) -> Result<Vec<Encoded>, EncoderError> {
    let encoder = Encoder::open(path, &every_layer(weights))?;
    encoder.encode_ids(&[vec![5, 9, 7, 3, 11, 4, 8], vec![5, 9, 2], vec![1]], &Quiet)
}

/// Opens a model and computes a text at every layer.
pub fn text(path: &Path) -> Result<Vec<Encoded>, EncoderError> {
    let encoder = Encoder::open(path, &every_layer(Precision::F32))?;
    encoder.encode_texts(&["Hello there, 12 <bos> ünï 漢".to_owned()], &Quiet)
}
