//! The bundle: a trained reward model in one folder.
//!
//! - `lens.json`, the manifest: everything that decides a score, and how the model came about;
//! - `model.safetensors`: the standardisation, the head, the VAE where one was trained and where the
//!   seeds lie in its latent space, and which prompts were trained on in which fold;
//! - `curves.jsonl`: the training curves, an epoch a line;
//! - `report.md`: the same for people; and `report.html`, a page of charts, where one was drawn.
//!
//! The manifest holds the SHA-256 of the weights, so that it is never read with those of another
//! training. No address and no key stands in it: where texts go is decided by who uses a bundle.
//!
//! A bundle appears whole or not at all, and the same training gives the same bytes: nothing in it
//! depends on the clock or on where it was trained.

mod manifest;
mod read;

use crate::arrays::{Array2, write_safetensors};
use crate::atomic::{AtomicDir, Existing, write_atomic};
use crate::curves::CURVES;
use crate::error::Error;
use crate::trained::Trained;
use lens_core::vae::Vae;
use lens_core::{MethodSettings, Novelty, RewardModel};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

pub use manifest::{DataRecord, Kept, Manifest, NoveltyRecord, TrainedRecord, WarmStartRecord};

/// The manifest's file name, by which a folder is known as a bundle.
pub const MANIFEST: &str = "lens.json";
/// The name of the weights in a bundle.
pub const WEIGHTS: &str = "model.safetensors";
/// The report's file name.
pub const REPORT: &str = "report.md";
/// The file name of the report as a page.
pub const PAGE: &str = "report.html";
const TRAINED_KEY: &str = "trained.prompt";
const TRAINED_FOLD: &str = "trained.fold";
const NOVELTY_MEAN: &str = "novelty.mean";
const NOVELTY_FACTOR: &str = "novelty.factor";
/// All files of a bundle: a folder with another one in it is not replaced.
const FILES: [&str; 5] = [MANIFEST, WEIGHTS, CURVES, REPORT, PAGE];
/// The version of the layout that this library writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// A bundle in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The manifest.
    pub manifest: Manifest,
    /// The reward model.
    pub model: RewardModel,
    /// The VAE, where one was trained.
    pub vae: Option<Vae>,
    /// Where the seed responses lie in the VAE's latent space; `None` as in the manifest.
    pub novelty: Option<Novelty>,
    /// The pairs trained on; `None` in bundles that do not hold them.
    pub trained: Option<Trained>,
    /// The training curves, an epoch an entry.
    pub curves: Vec<Value>,
    /// The report, in Markdown.
    pub report: String,
    /// The report as an HTML page; bundles of versions that drew none have no such file.
    pub page: Option<String>,
}

impl Bundle {
    /// What was trained: a reward model, with the VAE, the measure of novelty and the record of the
    /// pairs where there are such. The manifest says of these parts what follows from them; the
    /// encoder, the figures, where training started from, curves and reports are added to it.
    pub fn new(
        model: RewardModel,
        vae: Option<Vae>,
        novelty: Option<Novelty>,
        trained: Option<Trained>,
        method: MethodSettings,
        kept: Kept,
        data: DataRecord,
    ) -> Bundle {
        let record =
            |trained: &Trained| TrainedRecord { by: trained.by, folds: trained.fold_count };
        let manifest = Manifest {
            format: Manifest::format(),
            version: VERSION,
            lens_version: env!("CARGO_PKG_VERSION").to_owned(),
            weights_sha256: None,
            encoder: None,
            data,
            method,
            kept,
            head: model.head.shape().clone(),
            vae: vae.as_ref().map(Vae::shape),
            reward_mean: model.reward_mean,
            reward_deviation: model.reward_deviation,
            figures: Value::Null,
            trained: trained.as_ref().map(record),
            warm_start: None,
            novelty: novelty.as_ref().map(NoveltyRecord::from),
        };
        let (curves, report, page) = (Vec::new(), String::new(), None);
        Bundle { manifest, model, vae, novelty, trained, curves, report, page }
    }

    /// Whether `path` is a folder with a manifest in it.
    pub fn is_at(path: &Path) -> bool {
        path.join(MANIFEST).is_file()
    }

    /// Writes the bundle as the folder `path`. An existing folder is replaced only if `overwrite`
    /// is set and it is itself a bundle, with nothing else in it.
    ///
    /// # Errors
    /// [`Error::TargetExists`], [`Error::DiskFull`], or another failure of the system; the old
    /// folder, if any, is then untouched and nothing half-written is left.
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<(), Error> {
        let folder = AtomicDir::create(path, existing(overwrite))?;
        self.write_parts(folder.path()).map_err(|e| at_target(e, path))?;
        folder.commit()
    }

    fn write_parts(&self, folder: &Path) -> Result<(), Error> {
        let arrays = self.arrays()?;
        let named: Vec<(&str, &Array2)> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let metadata = BTreeMap::from([("format".to_owned(), Manifest::format())]);
        let trained = self.trained.as_ref().map(Trained::columns);
        let integers: Vec<(&str, &[i64])> = trained
            .iter()
            .flat_map(|(keys, folds)| [(TRAINED_KEY, &keys[..]), (TRAINED_FOLD, &folds[..])])
            .collect();
        let weights = folder.join(WEIGHTS);
        write_safetensors(&weights, &named, &integers, &metadata)?;
        let weights = std::fs::read(&weights).map_err(|e| Error::io(&weights, "read", e))?;
        let mut curves = Vec::new();
        for epoch in &self.curves {
            curves.extend_from_slice(epoch.to_string().as_bytes());
            curves.push(b'\n');
        }
        write_atomic(folder.join(CURVES), &curves)?;
        write_atomic(folder.join(REPORT), self.report.as_bytes())?;
        if let Some(page) = &self.page {
            write_atomic(folder.join(PAGE), page.as_bytes())?;
        }
        let manifest =
            Manifest { weights_sha256: Some(read::sha256(&weights)), ..self.manifest.clone() };
        let mut manifest = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| Error::corrupt(folder, "manifest", e))?;
        manifest.push(b'\n');
        write_atomic(folder.join(MANIFEST), &manifest)
    }

    fn arrays(&self) -> Result<Vec<(String, Array2)>, Error> {
        let row = |data: &[f32]| Array2::new(1, data.len(), data.to_vec());
        let standardiser = &self.model.standardiser;
        let mut arrays = vec![
            ("standardiser.mean".to_owned(), row(&standardiser.mean)?),
            ("standardiser.scale".to_owned(), row(&standardiser.scale)?),
        ];
        let head = &self.model.head;
        for (j, layer) in head.shape().layers().into_iter().enumerate() {
            let rows = head.shape().members * layer.outputs;
            let weights = head.parameters()[layer.weights].to_vec();
            let weights = Array2::new(rows, layer.inputs, weights)?;
            arrays.push((format!("head.{j}.weight"), weights));
            if !layer.bias.is_empty() {
                arrays.push((format!("head.{j}.bias"), row(&head.parameters()[layer.bias])?));
            }
        }
        if let Some(vae) = &self.vae {
            for (name, rows, cols, range) in vae.shape().named() {
                let array = Array2::new(rows, cols, vae.parameters()[range].to_vec())?;
                arrays.push((name.to_owned(), array));
            }
        }
        if let Some(novelty) = &self.novelty {
            arrays.push((NOVELTY_MEAN.to_owned(), row(novelty.mean())?));
            arrays.push((NOVELTY_FACTOR.to_owned(), row(novelty.factor())?));
        }
        Ok(arrays)
    }
}

/// A failure in the temporary folder, with the folder that the user named in its place.
fn at_target(error: Error, target: &Path) -> Error {
    let path = target.to_owned();
    match error {
        Error::DiskFull { source, .. } => Error::DiskFull { path, source },
        Error::Io { action, source, .. } => Error::Io { path, action, source },
        other => other,
    }
}

/// The rule for a folder that exists where a bundle is to be written.
fn existing(overwrite: bool) -> Existing<'static> {
    if overwrite { Existing::ReplaceOwn(&FILES) } else { Existing::Refuse }
}

/// Whether a bundle may be written as `path`: asked before the work, so that hours of embedding
/// are not lost to a name that is taken.
///
/// # Errors
/// [`Error::TargetExists`] and what else stands in the way.
pub fn check_target(path: &Path, overwrite: bool) -> Result<(), Error> {
    AtomicDir::create(path, existing(overwrite)).map(drop)
}

#[cfg(test)]
mod tests;
