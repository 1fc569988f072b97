//! Training further from an earlier reward model, when more pairs have come in.

use crate::options::MethodOptions;
use crate::{Error, Progress};
use lens_core::{Rows, WarmStart};
use lens_data::bundle::{Bundle, WarmStartRecord};
use lens_data::{KeyKind, LeftOut, StoredPairs, Trained, Vetted, embeddings_key, file_name};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One key for each pair, by which an earlier model tells whether it was trained on the pair.
pub(crate) struct PairKeys {
    /// What the keys are made of.
    pub(crate) kind: KeyKind,
    /// In the order of the pairs.
    pub(crate) keys: Vec<i64>,
}

impl PairKeys {
    /// The keys of pairs of text: those of their prompts.
    pub(crate) fn of_texts(vetted: &Vetted) -> PairKeys {
        PairKeys { kind: KeyKind::Prompt, keys: vetted.prompt_keys().collect() }
    }

    /// The keys of embedded pairs: those of their prompts where the file has them, else of the
    /// embeddings.
    pub(crate) fn of_embeddings(stored: &StoredPairs) -> PairKeys {
        if let Some(keys) = &stored.prompt_keys {
            return PairKeys { kind: KeyKind::Prompt, keys: keys.clone() };
        }
        let pairs = &stored.pairs;
        let (mut chosen, mut rejected) = (vec![0.0; pairs.dim()], vec![0.0; pairs.dim()]);
        let key = |i| {
            pairs.chosen.read(i, &mut chosen);
            pairs.rejected.read(i, &mut rejected);
            embeddings_key(&chosen, &rejected)
        };
        PairKeys { kind: KeyKind::Embeddings, keys: (0..pairs.len()).map(key).collect() }
    }
}

/// The earlier reward model, and the pairs it was trained on.
pub(crate) struct EarlierModel {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// The model.
    pub(crate) bundle: Bundle,
    /// The pairs that it must not be judged on.
    pub(crate) trained: Trained,
}

/// Where a training started from, and how many of its pairs the earlier model was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarmStartCounts {
    /// The earlier model's folder.
    pub from: PathBuf,
    /// Pairs that it was trained on, or on whose prompt.
    pub known: usize,
    /// The other pairs.
    pub new: usize,
}

impl WarmStartCounts {
    /// `from rm: 320 of 400 pairs known, 80 new`.
    pub fn in_words(&self) -> String {
        let WarmStartCounts { from, known, new } = self;
        format!("from {}: {known} of {} pairs known, {new} new", file_name(from), known + new)
    }
}

impl EarlierModel {
    /// Opens the reward model in the folder `path`, if it can be trained further with these settings.
    pub(crate) fn open(
        path: &Path,
        method: &MethodOptions,
        progress: &dyn Progress,
    ) -> Result<EarlierModel, Error> {
        if method.selects() {
            return Err(Error::Refused(format!(
                "`auto` chooses settings afresh, and a warm start keeps those of {}: \
                 leave out one of the two",
                path.display()
            )));
        }
        let mut bundle = Bundle::read(path)?;
        let Some(trained) = bundle.trained.take() else {
            let version = &bundle.manifest.lens_version;
            let reason = format!(
                "it does not say which pairs it was trained on (written by lens {version}), so \
                 nothing could be held out from it"
            );
            return Err(Error::NoWarmStart { bundle: path.to_owned(), reason });
        };
        let has_vae = bundle.vae.is_some();
        let settings = &method.settings;
        settings.check_warm_start(&bundle.manifest.method, has_vae)?;
        let wants_vae = settings.trains_vae();
        if !has_vae && wants_vae {
            let path = path.display();
            progress.note(&format!("{path} has no VAE: that of this training starts afresh"));
        }
        if has_vae && !wants_vae {
            let why = if settings.augment == 1 { "augment is 1" } else { "source is not lens" };
            progress
                .note(&format!("{why}: the earlier VAE is not trained further, nor saved again"));
        }
        Ok(EarlierModel { path: path.to_owned(), bundle, trained })
    }

    /// Refuses pairs of which it cannot be told whether the model was trained on them.
    pub(crate) fn require(&self, kind: KeyKind) -> Result<(), Error> {
        let reason = match (self.trained.by, kind) {
            (KeyKind::Embeddings, KeyKind::Prompt) => {
                "it was trained on embeddings of unknown texts, so it cannot know these pairs again"
            }
            (KeyKind::Prompt, KeyKind::Embeddings) => {
                "it knows its pairs by their prompts, of which these arrays say nothing (those that \
                 `lens embed` writes do)"
            }
            _ => return Ok(()),
        };
        Err(Error::NoWarmStart { bundle: self.path.clone(), reason: reason.to_owned() })
    }

    /// The fold that each pair was in; `None` where the model was not trained on it.
    pub(crate) fn folds(&self, keys: &PairKeys) -> Vec<Option<usize>> {
        keys.keys.iter().map(|&key| self.trained.fold(key)).collect()
    }

    /// The state that training starts from.
    pub(crate) fn start<'a>(&'a self, folds: &'a [Option<usize>]) -> WarmStart<'a> {
        WarmStart {
            model: &self.bundle.model,
            vae: self.bundle.vae.as_ref(),
            folds,
            fold_count: self.trained.fold_count,
        }
    }

    /// The rows whose prompt it was trained on.
    pub(crate) fn trained_on(&self, vetted: &Vetted) -> Vec<LeftOut> {
        let detail = format!("{} was trained on the prompt", file_name(&self.path));
        let rows = vetted.used.iter().zip(vetted.prompt_keys());
        let known = rows.filter(|(_, key)| self.knows(*key));
        known.map(|(row, _)| LeftOut::at(row.place(), detail.clone())).collect()
    }

    /// Whether it was trained on the prompt with this key.
    pub(crate) fn knows(&self, prompt_key: i64) -> bool {
        self.trained.fold(prompt_key).is_some()
    }

    /// How many of the pairs with these folds it was trained on.
    pub(crate) fn counts(&self, folds: &[Option<usize>]) -> WarmStartCounts {
        let known = folds.iter().flatten().count();
        WarmStartCounts { from: self.path.clone(), known, new: folds.len() - known }
    }

    /// The entry of the new manifest about it.
    pub(crate) fn record(&self, counts: &WarmStartCounts) -> WarmStartRecord {
        let data = &self.bundle.manifest.data;
        WarmStartRecord {
            file: data.file.clone(),
            fingerprint: data.fingerprint.clone(),
            known: counts.known,
            new: counts.new,
        }
    }
}
