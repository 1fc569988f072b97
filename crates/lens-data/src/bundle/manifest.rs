//! The manifest of a bundle, `lens.json`: its records, and reading it.

use super::{MANIFEST, VERSION};
use crate::encoder::EncoderRecord;
use crate::error::Error;
use crate::files::Folder;
use crate::trained::KeyKind;
use lens_core::head::HeadShape;
use lens_core::vae::VaeShape;
use lens_core::{MethodSettings, Novelty};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const FORMAT: &str = "lens-reward-model";
/// The longest manifest: those of long trainings have a thousandth.
const MAX_BYTES: u64 = 32 << 20;

/// Which of the two heads of a run is in the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// The one trained on the seed pairs alone.
    None,
    /// The one trained with synthetic pairs.
    Augmented,
}

/// The data that a model was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// File name, without folders.
    pub file: String,
    /// SHA-256 over the pairs used, in canonical form, or over the arrays.
    pub fingerprint: String,
    /// Rows read.
    pub read: usize,
    /// Pairs trained on.
    pub used: usize,
    /// Rows left out, by reason.
    pub left_out: BTreeMap<String, usize>,
}

/// The record of the pairs trained on: their keys are an array beside the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedRecord {
    /// The kind of the keys.
    pub by: KeyKind,
    /// How many folds they were dealt to.
    pub folds: usize,
}

/// The earlier reward model that this one was trained further from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmStartRecord {
    /// The file of its own training.
    pub file: String,
    /// The fingerprint of the pairs of its own training.
    pub fingerprint: String,
    /// Pairs, of those trained on now, that it knew: it was trained on them or on their prompt.
    pub known: usize,
    /// The others.
    pub new: usize,
}

/// How far from the seed responses is unusual, in the VAE's latent space: their mean and the factor of
/// their covariance are arrays beside the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoveltyRecord {
    /// How many seed responses were measured.
    pub responses: usize,
    /// How many held-out responses the threshold is from; 0 where it is from the seeds themselves.
    pub judged: usize,
    /// The weight of the identity in their covariance.
    pub shrinkage: f32,
    /// The distance beyond which a response is unlike them.
    pub threshold: f32,
}

impl From<&Novelty> for NoveltyRecord {
    fn from(novelty: &Novelty) -> Self {
        NoveltyRecord {
            responses: novelty.responses(),
            judged: novelty.judged(),
            shrinkage: novelty.shrinkage(),
            threshold: novelty.threshold() as f32,
        }
    }
}

/// The manifest of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `lens-reward-model`.
    pub format: String,
    /// Layout of the bundle.
    pub version: u32,
    /// The library that wrote it.
    pub lens_version: String,
    /// SHA-256 of the file with the weights, in hex: set when the bundle is written. Bundles of
    /// versions that did not record it have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// `None` for a model trained on arrays of unknown origin: it scores arrays only.
    pub encoder: Option<EncoderRecord>,
    /// The data that the model was trained on.
    pub data: DataRecord,
    /// Every setting of the method.
    pub method: MethodSettings,
    /// Which head is in the bundle.
    pub kept: Kept,
    /// Sizes of the head.
    pub head: HeadShape,
    /// Sizes of the VAE, where one was trained.
    pub vae: Option<VaeShape>,
    /// Mean reward of the seed responses.
    pub reward_mean: f64,
    /// Standard deviation of the rewards of the seed responses.
    pub reward_deviation: f64,
    /// Held-out and fold figures, order preservation: what the run measured.
    pub figures: Value,
    /// The record of the pairs trained on, which later trainings and evaluations set apart; `None` in
    /// bundles that do not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<TrainedRecord>,
    /// Where training started from, unless afresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_start: Option<WarmStartRecord>,
    /// How far from the seed responses is unusual; `None` without a VAE, and in bundles of versions
    /// that did not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<NoveltyRecord>,
}

impl Manifest {
    /// The value of [`Manifest::format`].
    pub fn format() -> String {
        FORMAT.to_owned()
    }

    /// Reads the manifest of the bundle in the folder `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotABundle`], or [`Error::Corrupt`] with what does not fit.
    pub fn read(path: &Path) -> Result<Manifest, Error> {
        Manifest::read_in(&Folder::open(path)?, path)
    }

    /// Reads the manifest in an opened folder, whose path is `path`.
    pub(super) fn read_in(folder: &Folder, path: &Path) -> Result<Manifest, Error> {
        let Some(text) = folder.read(MANIFEST, MAX_BYTES)? else {
            return Err(Error::NotABundle { path: path.to_owned(), manifest: MANIFEST });
        };
        let bad = |detail: String| damaged(path, detail);
        // The version first: a newer layout would fail to parse with a less helpful message.
        let value: Value = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if value["format"] != FORMAT {
            return Err(bad(format!("`format` is {}, expected \"{FORMAT}\"", value["format"])));
        }
        match value["version"].as_u64() {
            Some(v) if (1..=u64::from(VERSION)).contains(&v) => {}
            _ => {
                let found = &value["version"];
                return Err(bad(format!(
                    "`version` is {found}, this library reads 1 to {VERSION}"
                )));
            }
        }
        // The encoder by itself, so that the error names it.
        if let Some(encoder) = value.get("encoder") {
            Option::<EncoderRecord>::deserialize(encoder)
                .map_err(|e| bad(format!("encoder: {e}")))?;
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        manifest.check().map_err(bad)?;
        Ok(manifest)
    }

    /// Whether sizes and figures make sense by themselves: what is wrong in words, if not.
    fn check(&self) -> Result<(), String> {
        let figure = |ok: bool, name: &str, value: f64, expected: &str| match ok {
            true => Ok(()),
            false => Err(format!("`{name}` is {value}, expected {expected}")),
        };
        let (mean, deviation) = (self.reward_mean, self.reward_deviation);
        figure(mean.is_finite(), "reward_mean", mean, "a finite number")?;
        let usable = deviation.is_finite() && deviation >= 0.0;
        figure(usable, "reward_deviation", deviation, "a finite number of at least 0")?;
        if self.head.checked_parameters().is_none() {
            return Err(format!("`head` has impossible sizes: {:?}", self.head));
        }
        match self.vae {
            Some(vae) if vae.checked_parameters().is_none() => {
                Err(format!("`vae` has impossible sizes: {vae:?}"))
            }
            Some(vae) if vae.dim != self.head.dim => {
                Err(format!("`vae` is for width {}, the head for {}", vae.dim, self.head.dim))
            }
            _ => self.method.check().map_err(|e| format!("method: {e}")),
        }
    }
}

/// The error of a manifest, in the bundle `path`, that contradicts itself or the files beside it.
pub(super) fn damaged(path: &Path, detail: String) -> Error {
    Error::Corrupt { path: path.join(MANIFEST), format: "reward-model manifest", detail }
}
