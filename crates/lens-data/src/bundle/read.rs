//! Reading a bundle: every size is held against the manifest and the files before memory is taken.

use super::manifest::damaged;
use super::{
    Bundle, Manifest, NOVELTY_FACTOR, NOVELTY_MEAN, NoveltyRecord, TRAINED_FOLD, TRAINED_KEY,
    TrainedRecord, WEIGHTS,
};
use crate::arrays::ArrayFile;
use crate::dataset::fingerprint::hex;
use crate::error::Error;
use crate::files::Folder;
use crate::trained::Trained;
use lens_core::head::Head;
use lens_core::vae::Vae;
use lens_core::{Novelty, RewardModel, Standardiser};
use sha2::{Digest, Sha256};
use std::path::Path;

impl Bundle {
    /// Reads the bundle in the folder `path`, and checks that its parts belong together. Curves and
    /// reports stay on the disk.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotABundle`], or [`Error::Corrupt`] with what does not fit.
    pub fn read(path: &Path) -> Result<Bundle, Error> {
        let folder = Folder::open(path)?;
        let manifest = Manifest::read_in(&folder, path)?;
        let bad = |detail: String| damaged(path, detail);
        let arrays = weights(&folder, path, &manifest)?;
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
                let vae = Vae::with_parameters(shape, manifest.method.vae.activation, parameters);
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
}

/// The longest file of weights. Those of heads have megabytes.
const MAX_WEIGHTS_BYTES: u64 = 16 << 30;
/// The least that a stored number takes.
const MIN_NUMBER_BYTES: usize = 2;

/// The weights that belong to the manifest, read whole and checked against its hash and its sizes.
fn weights(folder: &Folder, path: &Path, manifest: &Manifest) -> Result<ArrayFile, Error> {
    let file = path.join(WEIGHTS);
    let Some(bytes) = folder.read(WEIGHTS, MAX_WEIGHTS_BYTES)? else {
        return Err(Error::NotFound { path: file });
    };
    let found = sha256(&bytes);
    if let Some(expected) = manifest.weights_sha256.as_ref().filter(|hash| **hash != found) {
        return Err(damaged(
            path,
            format!("`weights_sha256` is {expected}, and {WEIGHTS} has {found}: not its weights"),
        ));
    }
    let vae = manifest.vae.map_or(Some(0), |vae| vae.checked_parameters());
    let expected = manifest.head.checked_parameters().zip(vae).and_then(|(h, v)| h.checked_add(v));
    if expected.is_none_or(|n| n > bytes.len() / MIN_NUMBER_BYTES) {
        return Err(damaged(
            path,
            format!(
                "`head` and `vae` have more parameters than {WEIGHTS}, of {} bytes, can hold",
                bytes.len()
            ),
        ));
    }
    ArrayFile::from_bytes(file, bytes)
}

/// SHA-256 in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}
