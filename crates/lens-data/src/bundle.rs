//! The bundle: a trained reward model in one folder.
//!
//! - `lens.json`, the manifest: everything that decides a score, and how the model came about;
//! - `model.safetensors`: the standardisation, the head, the VAE where one was trained and where the
//!   seeds lie in its latent space, and which prompts were trained on in which fold;
//! - `curves.jsonl`: the training curves, an epoch a line;
//! - `report.md`: the same for people; and `report.html`, a page of charts, where one was drawn.
//!
//! A bundle appears whole or not at all, and the same training gives the same bytes: nothing in it
//! depends on the clock or on where it was trained.

use crate::arrays::{Array2, ArrayFile, write_safetensors};
use crate::atomic::{AtomicDir, Existing, write_atomic};
use crate::curves::CURVES;
use crate::encoder::EncoderRecord;
use crate::error::Error;
use crate::trained::{KeyKind, Trained};
use lens_core::activation::Activation;
use lens_core::head::{Head, HeadShape};
use lens_core::vae::{Vae, VaeShape};
use lens_core::{MethodSettings, Novelty, RewardModel, Standardiser};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

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
const FORMAT: &str = "lens-reward-model";
/// The version of the layout that this library writes, and the newest that it reads.
pub const VERSION: u32 = 1;

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
        let file = path.join(MANIFEST);
        let folder = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?;
        if !folder.is_dir() {
            return Err(Error::NotAFolder { path: path.to_owned() });
        }
        if !file.exists() {
            return Err(Error::NotABundle { path: path.to_owned(), manifest: MANIFEST });
        }
        let text = std::fs::read(&file).map_err(|e| Error::io(&file, "read", e))?;
        let bad = |detail: String| damaged(path, detail);
        // The version first: a newer layout would fail to parse with a less helpful message.
        let value: Value = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if value["format"] != FORMAT {
            return Err(bad(format!("`format` is {}, expected \"{FORMAT}\"", value["format"])));
        }
        match value["version"].as_u64() {
            Some(v) if v <= u64::from(VERSION) => {}
            _ => {
                let found = &value["version"];
                return Err(bad(format!(
                    "`version` is {found}, this library reads up to {VERSION}"
                )));
            }
        }
        // The encoder by itself, so that the error names it.
        if let Some(encoder) = value.get("encoder") {
            Option::<EncoderRecord>::deserialize(encoder)
                .map_err(|e| bad(format!("encoder: {e}")))?;
        }
        serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))
    }
}

/// The error of a manifest, in the bundle `path`, that contradicts itself or the files beside it.
fn damaged(path: &Path, detail: String) -> Error {
    Error::Corrupt { path: path.join(MANIFEST), format: "reward-model manifest", detail }
}

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
    /// Whether `path` is a folder with a manifest in it.
    pub fn is_at(path: &Path) -> bool {
        path.join(MANIFEST).is_file()
    }

    /// Writes the bundle as the folder `path`. An existing folder is replaced only if `overwrite`
    /// is set and it is itself a bundle.
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
        let metadata = BTreeMap::from([("format".to_owned(), FORMAT.to_owned())]);
        let trained = self.trained.as_ref().map(Trained::columns);
        let integers: Vec<(&str, &[i64])> = trained
            .iter()
            .flat_map(|(keys, folds)| [(TRAINED_KEY, &keys[..]), (TRAINED_FOLD, &folds[..])])
            .collect();
        write_safetensors(folder.join(WEIGHTS), &named, &integers, &metadata)?;
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
        let mut manifest = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|e| Error::corrupt(folder, "manifest", e))?;
        manifest.push(b'\n');
        write_atomic(folder.join(MANIFEST), &manifest)
    }

    /// Reads the bundle in the folder `path`, and checks that its parts belong together. Curves and
    /// reports stay on the disk.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotABundle`], or [`Error::Corrupt`] with what does not fit.
    pub fn read(path: &Path) -> Result<Bundle, Error> {
        let manifest = Manifest::read(path)?;
        let bad = |detail: String| damaged(path, detail);
        let arrays = ArrayFile::open(path.join(WEIGHTS))?;
        let dim = manifest.head.dim;
        let part = |name: &str, rows: usize, cols: usize| -> Result<Vec<f32>, Error> {
            let array = arrays.floats(Some(name))?;
            if array.shape() != [rows, cols] {
                let found = array.shape();
                return Err(bad(format!("`{name}` is {found:?}, expected [{rows}, {cols}]")));
            }
            Ok(array.data)
        };
        let standardiser = Standardiser {
            mean: part("standardiser.mean", 1, dim)?,
            scale: part("standardiser.scale", 1, dim)?,
        };
        let mut parameters = Vec::new();
        for (j, layer) in manifest.head.layers().into_iter().enumerate() {
            let rows = manifest.head.members * layer.outputs;
            parameters.extend(part(&format!("head.{j}.weight"), rows, layer.inputs)?);
            if !layer.bias.is_empty() {
                parameters.extend(part(&format!("head.{j}.bias"), 1, rows)?);
            }
        }
        let head = Head::with_parameters(
            manifest.head.clone(),
            manifest.method.head.activation,
            parameters,
        )
        .map_err(|e| bad(e.to_string()))?;
        let vae = match manifest.vae {
            None => None,
            Some(shape) => {
                let mut parameters = vec![0.0; shape.parameters()];
                for (name, rows, cols, range) in shape.named() {
                    parameters[range].copy_from_slice(&part(name, rows, cols)?);
                }
                let activation: Activation = manifest.method.vae.activation;
                let vae = Vae::with_parameters(shape, activation, parameters);
                Some(vae.map_err(|e| bad(e.to_string()))?)
            }
        };
        let novelty = match (manifest.novelty, manifest.vae) {
            (None, _) => None,
            (Some(_), None) => return Err(bad("`novelty` without a `vae`".to_owned())),
            (Some(NoveltyRecord { responses, judged, shrinkage, threshold }), Some(vae)) => {
                let l = vae.latent;
                let mean = part(NOVELTY_MEAN, 1, l)?;
                let factor = part(NOVELTY_FACTOR, 1, l * (l + 1) / 2)?;
                let novelty = Novelty::with_parameters(
                    (responses, judged),
                    shrinkage,
                    threshold,
                    mean,
                    factor,
                );
                Some(novelty.map_err(|e| bad(e.to_string()))?)
            }
        };
        let model = RewardModel {
            standardiser,
            head,
            reward_mean: manifest.reward_mean,
            reward_deviation: manifest.reward_deviation,
        };
        let trained = match manifest.trained {
            None => None,
            Some(TrainedRecord { by, folds }) => {
                let keys = arrays.integers(Some(TRAINED_KEY))?;
                let of = arrays.integers(Some(TRAINED_FOLD))?;
                let trained = Trained::from_columns(by, folds, keys, of);
                let detail = || bad(format!("`{TRAINED_FOLD}` does not fit `{TRAINED_KEY}`"));
                Some(trained.ok_or_else(detail)?)
            }
        };
        let (curves, report, page) = (Vec::new(), String::new(), None);
        Ok(Bundle { manifest, model, vae, novelty, trained, curves, report, page })
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
    if overwrite { Existing::ReplaceIfHolding(MANIFEST) } else { Existing::Refuse }
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use lens_core::{EmbeddedPairs, Matrix, Quiet, Threads, fit};

    fn bundle() -> Bundle {
        let value = |i: usize, side: f32| ((i * 37 % 101) as f32 * 0.1).sin() + side;
        let side = |s: f32| Matrix::new((0..24 * 5).map(|i| value(i, s)).collect(), 24, 5).unwrap();
        let pairs = EmbeddedPairs::new(side(0.3), side(-0.3)).unwrap();
        let mut method = MethodSettings::default();
        method.vae.epochs = 3;
        let outcome = fit(&pairs, &method, Threads::ONE, &Quiet).unwrap();
        let mut trained = Trained::new(KeyKind::Prompt, outcome.folds.count());
        trained.extend((0..24).zip(outcome.folds.of_pairs().iter().copied()));
        let augmented = outcome.augmented.unwrap();
        let model = augmented.fitted.model;
        let (vae, _) = augmented.vae.unwrap();
        let novelty = Novelty::fit(&vae, &model.standardiser, &pairs, Threads::ONE).unwrap();
        Bundle {
            manifest: Manifest {
                format: Manifest::format(),
                version: VERSION,
                lens_version: "0".into(),
                encoder: None,
                data: DataRecord {
                    file: "x".into(),
                    fingerprint: "f".into(),
                    read: 24,
                    used: 24,
                    left_out: BTreeMap::new(),
                },
                method,
                kept: Kept::Augmented,
                head: model.head.shape().clone(),
                vae: Some(vae.shape()),
                reward_mean: model.reward_mean,
                reward_deviation: model.reward_deviation,
                figures: serde_json::json!({"accuracy": 0.5}),
                trained: Some(TrainedRecord { by: KeyKind::Prompt, folds: trained.fold_count }),
                warm_start: None,
                novelty: Some(NoveltyRecord::from(&novelty)),
            },
            model,
            trained: Some(trained),
            vae: Some(vae),
            novelty: Some(novelty),
            curves: vec![serde_json::json!({"epoch": 1})],
            report: "# Report\n".into(),
            page: Some("<!doctype html>\n".into()),
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        bundle.write(&a, false).unwrap();
        bundle.write(&b, false).unwrap();
        let again = Bundle::read(&a).unwrap();
        assert_eq!(again.model, bundle.model);
        assert_eq!(again.vae, bundle.vae);
        assert_eq!(again.novelty, bundle.novelty);
        assert_eq!(again.trained, bundle.trained);
        assert_eq!(again.manifest, bundle.manifest);
        for name in [MANIFEST, WEIGHTS, CURVES, REPORT, PAGE] {
            assert_eq!(std::fs::read(a.join(name)).unwrap(), std::fs::read(b.join(name)).unwrap());
        }
        // A page is no part of what makes a bundle.
        let without = Bundle { page: None, ..bundle };
        without.write(&b, true).unwrap();
        assert!(!b.join(PAGE).exists());
        assert_eq!(Bundle::read(&b).unwrap().model, without.model);
    }

    #[test]
    fn a_bundle_that_does_not_say_what_it_was_trained_on_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut bundle = bundle();
        (bundle.trained, bundle.manifest.trained) = (None, None);
        let path = folder.path().join("old");
        bundle.write(&path, false).unwrap();
        assert!(!std::fs::read_to_string(path.join(MANIFEST)).unwrap().contains("trained\":"));
        assert_eq!(Bundle::read(&path).unwrap().trained, None);
        // One that says so, but has lost it, is damaged.
        bundle.manifest.trained = Some(TrainedRecord { by: KeyKind::Prompt, folds: 5 });
        bundle.write(&path, true).unwrap();
        assert!(matches!(Bundle::read(&path), Err(Error::MissingArray { .. })));
    }

    #[test]
    fn a_bundle_that_does_not_say_what_is_unusual_is_read_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut bundle = bundle();
        let measured = (bundle.novelty.take(), bundle.manifest.novelty.take());
        let path = folder.path().join("old");
        bundle.write(&path, false).unwrap();
        assert!(!std::fs::read_to_string(path.join(MANIFEST)).unwrap().contains("novelty"));
        assert_eq!(Bundle::read(&path).unwrap().novelty, None);
        // The arrays are lost, the VAE is, the threshold is none.
        bundle.manifest.novelty = measured.1;
        bundle.write(&path, true).unwrap();
        assert!(matches!(Bundle::read(&path), Err(Error::MissingArray { .. })));
        bundle.novelty = measured.0;
        bundle.manifest.novelty.as_mut().unwrap().threshold = -1.0;
        bundle.write(&path, true).unwrap();
        assert!(Bundle::read(&path).unwrap_err().to_string().contains("novelty.threshold"));
        (bundle.vae, bundle.manifest.vae) = (None, None);
        bundle.write(&path, true).unwrap();
        assert!(Bundle::read(&path).unwrap_err().to_string().contains("without a `vae`"));
    }

    #[test]
    fn an_encoder_that_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let identity = serde_json::json!({"model_file": "m", "model_sha256": "0",
            "architecture": "bert", "dim": 4, "layers": 1, "template": "plain",
            "template_sha256": "1", "add_bos": false, "views": [{"layer": 1, "pooling": "mean"}],
            "dtype": "f32", "max_length": 8});
        let record = serde_json::json!({"model": "m", "template": "plain", "identity": identity});
        let mut bundle = bundle();
        bundle.manifest.encoder = Some(serde_json::from_value(record).unwrap());
        bundle.write(&path, false).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), bundle.manifest);
        let manifest = std::fs::read_to_string(path.join(MANIFEST)).unwrap();
        for (from, to) in
            [("\"pooling\": \"mean\"", "\"pooling\": \"most\""), ("\"layers\": 1", "\"l\": 1")]
        {
            std::fs::write(path.join(MANIFEST), manifest.replacen(from, to, 1)).unwrap();
            let error = Manifest::read(&path).unwrap_err();
            let Error::Corrupt { detail, .. } = &error else { panic!("{error}") };
            assert!(detail.starts_with("encoder: "), "{detail}");
        }
    }

    #[test]
    fn an_existing_folder_is_replaced_only_on_request_and_only_if_it_is_a_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle();
        let path = folder.path().join("out");
        bundle.write(&path, false).unwrap();
        assert!(matches!(bundle.write(&path, false), Err(Error::TargetExists { .. })));
        assert!(matches!(check_target(&path, false), Err(Error::TargetExists { .. })));
        check_target(&path, true).unwrap();
        bundle.write(&path, true).unwrap();
        let other = folder.path().join("photos");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("cat.jpg"), b"x").unwrap();
        assert!(matches!(bundle.write(&other, true), Err(Error::TargetExists { .. })));
        assert!(other.join("cat.jpg").exists());
        // Nothing temporary is left beside them.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_damaged_or_newer_bundle_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle();
        let path = folder.path().join("out");
        bundle.write(&path, false).unwrap();
        let manifest = std::fs::read_to_string(path.join(MANIFEST)).unwrap();
        let with = |from: &str, to: &str| {
            std::fs::write(path.join(MANIFEST), manifest.replace(from, to)).unwrap();
            Bundle::read(&path).unwrap_err().to_string()
        };
        assert!(with("\"version\": 1", "\"version\": 9").contains("reads up to 1"));
        assert!(with("lens-reward-model", "other").contains("`format`"));
        assert!(with("\"dim\": 5", "\"dim\": 6").contains("standardiser.mean"));
        std::fs::write(path.join(MANIFEST), &manifest).unwrap();
        let weights = std::fs::read(path.join(WEIGHTS)).unwrap();
        std::fs::write(path.join(WEIGHTS), &weights[..weights.len() / 2]).unwrap();
        assert!(Bundle::read(&path).is_err());
    }
}
