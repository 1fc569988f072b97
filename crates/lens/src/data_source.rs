//! From what a user names as a dataset to files that are here: paths stay, and datasets of the Hugging
//! Face Hub are fetched.

use crate::options::RuntimeOptions;
use crate::{Error, Progress};
use lens_data::DataSource;
use lens_encoder::models::{DatasetName, Hub, dataset_files};
use std::path::PathBuf;

/// The dataset with every part that is a name of the Hub replaced by the files that it means, which are
/// kept in the cache of `runtime`. A path that exists is a path, whatever its name.
///
/// # Errors
/// A dataset that cannot be fetched, or of which a configuration or a split has to be named.
pub fn resolve(
    input: &DataSource,
    runtime: &RuntimeOptions,
    progress: &dyn Progress,
) -> Result<DataSource, Error> {
    let mut parts: Vec<PathBuf> = Vec::new();
    let mut fetched = false;
    for part in input.parts() {
        let text = part.to_string_lossy();
        let explicit = DatasetName::is_explicit(&text);
        let name = match explicit || !part.exists() {
            true => DatasetName::parse(&text),
            false => None,
        };
        match name {
            Some(name) => {
                let folder = runtime.cache_folder()?.join("datasets");
                parts.extend(dataset_files(&Hub::from_env(), &name, &folder, progress)?);
                fetched = true;
            }
            None if explicit => {
                let expected =
                    "hf://datasets/ORG/NAME, with @REVISION, :CONFIG and /SPLIT where needed";
                return Err(Error::Refused(format!("{text}: expected {expected}")));
            }
            None => parts.push(part.clone()),
        }
    }
    match fetched {
        true => Ok(DataSource::new(parts).known_as(input.name())),
        false => Ok(input.clone()),
    }
}
