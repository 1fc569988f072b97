//! Training further from an earlier reward model, when more pairs have come in.

use crate::error::CliError;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::{Progress, Rows, WarmStart};
use lens_data::bundle::{Bundle, WarmStartRecord};
use lens_data::{KeyKind, LeftOut, StoredPairs, Trained, Vetted, embeddings_key, file_name};
use lens_encoder::{EncoderIdentity, View};
use std::path::PathBuf;

/// What pairs are known again by, one key each.
pub struct Keys {
    /// What the keys are.
    pub by: KeyKind,
    /// In the order of the pairs.
    pub of: Vec<i64>,
}

impl Keys {
    /// Of pairs of text.
    pub fn of_rows(pairs: &Vetted) -> Keys {
        Keys { by: KeyKind::Prompt, of: pairs.prompt_keys().collect() }
    }

    /// Of embedded pairs: by their prompts, where the file has the keys of those.
    pub fn of_arrays(loaded: &StoredPairs) -> Keys {
        if let Some(keys) = &loaded.prompt_keys {
            return Keys { by: KeyKind::Prompt, of: keys.clone() };
        }
        let pairs = &loaded.pairs;
        let (mut a, mut b) = (vec![0.0; pairs.dim()], vec![0.0; pairs.dim()]);
        let key = |i| {
            pairs.chosen.read(i, &mut a);
            pairs.rejected.read(i, &mut b);
            embeddings_key(&a, &b)
        };
        Keys { by: KeyKind::Embeddings, of: (0..pairs.len()).map(key).collect() }
    }
}

/// The earlier reward model, and what it was trained on.
pub struct Earlier {
    /// Its folder.
    pub path: PathBuf,
    /// The model.
    pub bundle: Bundle,
    /// What it must not be judged on.
    pub trained: Trained,
}

/// How many of some pairs an earlier model knew.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Trained on, or on their prompt.
    pub known: usize,
    /// The others.
    pub new: usize,
}

impl Earlier {
    /// The reward model that the settings name, if it can be trained further with them.
    pub fn open(settings: &Settings, reporter: &Reporter) -> Result<Option<Earlier>, CliError> {
        let Some(path) = settings.warm_start.clone() else { return Ok(None) };
        if settings.chooses() {
            return Err(CliError::Refused(format!(
                "`auto` chooses settings afresh, and a warm start keeps those of {}: \
                 leave out one of the two",
                path.display()
            )));
        }
        let mut bundle = Bundle::read(&path)?;
        let Some(trained) = bundle.trained.take() else {
            let version = &bundle.manifest.lens_version;
            let reason = format!(
                "it does not say which pairs it was trained on (written by lens {version}), so \
                 nothing could be held out from it"
            );
            return Err(CliError::NoWarmStart { bundle: path, reason });
        };
        let vae = bundle.vae.is_some();
        settings.method().check_further(&bundle.manifest.method, vae)?;
        let wants = settings.method().wants_vae();
        if !vae && wants {
            let path = path.display();
            reporter.note(&format!("{path} has no VAE: that of this training starts afresh"));
        }
        if vae && !wants {
            let why =
                if settings.augment.factor() == 1 { "augment is 1" } else { "source is not lens" };
            reporter
                .note(&format!("{why}: the earlier VAE is not trained further, nor saved again"));
        }
        Ok(Some(Earlier { path, bundle, trained }))
    }

    /// Refuses pairs that cannot be told to be known.
    pub fn require(&self, by: KeyKind) -> Result<(), CliError> {
        let reason = match (self.trained.by, by) {
            (KeyKind::Embeddings, KeyKind::Prompt) => {
                "it was trained on embeddings of unknown texts, so it cannot know these pairs again"
            }
            (KeyKind::Prompt, KeyKind::Embeddings) => {
                "it knows its pairs by their prompts, of which these arrays say nothing (those that \
                 `lens embed` writes do)"
            }
            _ => return Ok(()),
        };
        Err(CliError::NoWarmStart { bundle: self.path.clone(), reason: reason.to_owned() })
    }

    /// The earlier fold of every pair.
    pub fn folds(&self, keys: &Keys) -> Vec<Option<usize>> {
        keys.of.iter().map(|&key| self.trained.fold(key)).collect()
    }

    /// What training starts from.
    pub fn start<'a>(&'a self, folds: &'a [Option<usize>]) -> WarmStart<'a> {
        WarmStart {
            model: &self.bundle.model,
            vae: self.bundle.vae.as_ref(),
            folds,
            fold_count: self.trained.fold_count,
        }
    }

    /// Rows whose prompt it was trained on.
    pub fn trained_on(&self, pairs: &Vetted) -> Vec<LeftOut> {
        let known = pairs.used.iter().zip(pairs.prompt_keys()).filter(|(_, key)| self.knows(*key));
        let detail = || format!("{} was trained on the prompt", file_name(&self.path));
        known.map(|(row, _)| LeftOut { line: row.line, detail: detail() }).collect()
    }

    /// Whether it was trained on the prompt with this key.
    pub fn knows(&self, prompt_key: i64) -> bool {
        self.trained.fold(prompt_key).is_some()
    }

    /// What the new manifest says of it.
    pub fn record(&self, known: Known) -> WarmStartRecord {
        let data = &self.bundle.manifest.data;
        WarmStartRecord {
            file: data.file.clone(),
            fingerprint: data.fingerprint.clone(),
            known: known.known,
            new: known.new,
        }
    }

    /// `rm: 320 of 400 pairs known, 80 new`.
    pub fn shown(&self, known: Known) -> String {
        let Known { known, new } = known;
        format!("from {}: {known} of {} pairs known, {new} new", file_name(&self.path), known + new)
    }

    /// The settings of a run that takes its encoder from the earlier model, as a report names them.
    pub fn settled(&self, settings: &Settings, encoder: &EncoderIdentity) -> Settings {
        let mut settled = settings.clone();
        if !encoder.views.is_empty() {
            settled.view = encoder.views.iter().map(View::to_string).collect();
            settled.layers = None;
        }
        settled.template = encoder.template.clone();
        settled.max_length = encoder.max_length;
        settled.special_tokens = encoder.special_tokens.to_string();
        settled
    }
}

impl Known {
    /// Counts the folds that are known.
    pub fn of(folds: &[Option<usize>]) -> Known {
        let known = folds.iter().flatten().count();
        Known { known, new: folds.len() - known }
    }
}
