//! Getting a language model into the cache.

use crate::models::find_model;
use crate::options::RuntimeOptions;
use crate::{Error, Progress};
use serde::Serialize;
use std::path::PathBuf;

/// A model that is in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// Its name.
    pub model: String,
    /// Its file or folder.
    pub path: PathBuf,
}

/// A model with a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamedModel {
    /// Its name.
    pub name: &'static str,
    /// The name of its file.
    pub file: &'static str,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its licence.
    pub licence: &'static str,
}

/// The models that have a name of their own.
pub fn named_models() -> Vec<NamedModel> {
    let named = lens_encoder::models::KNOWN.iter().map(|model| NamedModel {
        name: model.name,
        file: model.file,
        bytes: model.bytes,
        sha256: model.sha256,
        about: model.about,
        licence: model.licence,
    });
    named.collect()
}

/// Fetches the model `name` unless it is in the cache of `runtime`, and says where it is.
///
/// # Errors
/// A name that nothing is known by, or what went wrong on the way.
pub fn pull(
    name: &str,
    runtime: &RuntimeOptions,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let path = find_model(name, runtime, progress)?;
    Ok(Pulled { model: name.to_owned(), path })
}
