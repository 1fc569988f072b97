//! Models by name: where they come from, and how they get into the cache.
//!
//! A name is, in this order: a model known by name (published as Python packages); a path that exists
//! (`./name` where a known model has the name); `http(s)://..` of a GGUF file; `org/name[@revision]` of the Hugging Face Hub, or one
//! GGUF file of a repository there, `org/name/file.gguf[@revision]`. Whatever the source, a model
//! gets its name in the cache only when all of it is there and verified.

mod datasets;
mod download;
mod hub;
mod name;
mod packaged;
mod pip;
mod single;

use crate::error::{EncoderError, FetchError, Result};
use crate::view::check_layers;
use lens_core::Progress;
use lens_data::encoder::ViewChoice;
use name::Name;
use std::path::{Path, PathBuf};

pub use datasets::{DatasetName, dataset_files};
pub use hub::Hub;
pub use name::public_name;
pub use packaged::{DEFAULT, KNOWN, KnownModel, known, pull};

/// The file or folder of a model: a path is taken as it is, but for the bare name of a known model;
/// anything else is looked up in `folder`,
/// and fetched if it is not there. The Hub's address, token and cache are those of the environment
/// ([`Hub::from_env`]).
///
/// # Errors
/// [`EncoderError::UnknownModel`] for what is no name; [`EncoderError::Fetch`],
/// [`EncoderError::Pull`], [`EncoderError::Checksum`]; [`EncoderError::Cancelled`], after which
/// what was fetched is taken up again.
pub fn find_or_pull(name: &str, folder: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    find_or_pull_from(&Hub::from_env(), name, folder, progress)
}

/// [`find_or_pull`] with the Hub given.
///
/// # Errors
/// As [`find_or_pull`].
pub fn find_or_pull_from(
    hub: &Hub,
    name: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    find_or_pull_for(hub, &[], name, folder, progress)
}

/// [`find_or_pull_from`] for these views: where a model is to be fetched and its number of layers is known
/// before its weights are (of a known model, and of a repository of the Hub by its `config.json`), a
/// layer that it does not have is refused before that.
///
/// # Errors
/// As [`find_or_pull`]; [`EncoderError::LayerOutOfRange`].
pub fn find_or_pull_for(
    hub: &Hub,
    views: &[ViewChoice],
    name: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let path = Path::new(name);
    match Name::parse(name) {
        Some(Name::Known(model)) => {
            if path.exists() {
                progress.note(&format!(
                    "{name} is the known model of that name; ./{name} would be what lies here"
                ));
            }
            check_layers(views, model.layers)?;
            pull(model, folder, progress)
        }
        _ if path.exists() => Ok(path.to_owned()),
        Some(Name::Url(url)) => single::find(hub, &url, folder, progress),
        Some(Name::Hub(name)) => hub::find(hub, &name, views, folder, progress),
        None => Err(EncoderError::UnknownModel {
            name: public_name(name),
            known: KNOWN.iter().map(|m| m.name).collect(),
        }),
    }
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> EncoderError + '_ {
    move |source| FetchError::Disk { path: path.to_owned(), source }.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use lens_core::Quiet;

    #[test]
    fn a_path_is_itself_and_an_unknown_name_lists_the_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, b"x").unwrap();
        let found = find_or_pull(path.to_str().unwrap(), folder.path(), &Quiet).unwrap();
        assert_eq!(found, path);
        for name in ["nonesuch", "models/mistyped.gguf", "./org/name", "/no/such/folder"] {
            let error = find_or_pull(name, folder.path(), &Quiet).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(DEFAULT), "{error}");
        }
    }

    #[test]
    fn a_model_in_the_cache_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let model = known(DEFAULT).unwrap();
        std::fs::write(folder.path().join(model.file), b"here").unwrap();
        assert_eq!(pull(model, folder.path(), &Quiet).unwrap(), folder.path().join(model.file));
    }
}
