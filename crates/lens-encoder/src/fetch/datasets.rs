//! Datasets of the Hugging Face Hub: which files of a repository are meant, and how they get here.

use super::disk;
use super::hub::{Hub, Repository, listing, megabytes};
use super::name::{HubName, Kind, is_commit, is_inside, is_revision, is_word};
use crate::error::{EncoderError, FetchError, Result};
use lens_core::Progress;
use lens_data::dataset::{ending, split_of};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a dataset's name may begin with.
const SCHEME: &str = "hf://datasets/";
/// The split that is meant where none is named.
const TRAIN: &str = "train";

/// A dataset of the Hub: `org/name[@revision][:config][/split]`, also behind `hf://datasets/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetName {
    hub: HubName,
    config: Option<String>,
    split: Option<String>,
}

impl DatasetName {
    /// Reads a name; `None` for what cannot be one.
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(SCHEME).unwrap_or(name);
        let mut parts = rest.splitn(3, '/');
        let (org, repo, split) = (parts.next()?, parts.next()?, parts.next());
        let (repo, config) = match repo.split_once(':') {
            Some((repo, config)) => (repo, Some(config)),
            None => (repo, None),
        };
        let (repo, revision) = match repo.split_once('@') {
            Some((repo, revision)) => (repo, revision),
            None => (repo, "main"),
        };
        let words = is_word(org) && is_word(repo) && config.is_none_or(is_word);
        // Two words of which the second ends as files do: a path, mistyped.
        let mistyped = !name.starts_with(SCHEME) && ending(Path::new(repo)).is_some();
        let fits = words && split.is_none_or(is_word) && is_revision(revision) && !mistyped;
        fits.then(|| DatasetName {
            hub: HubName {
                kind: Kind::Dataset,
                repo: format!("{org}/{repo}"),
                revision: revision.to_owned(),
                file: None,
            },
            config: config.map(str::to_owned),
            split: split.map(str::to_owned),
        })
    }

    /// Whether the name can mean nothing but a dataset of the Hub.
    pub fn is_explicit(name: &str) -> bool {
        name.starts_with(SCHEME)
    }
}

/// The files of a dataset in `folder`, fetched where they are not there. Without a split, those of
/// `train`.
///
/// # Errors
/// [`EncoderError::Fetch`], also where a configuration or a split has to be named;
/// [`EncoderError::Cancelled`], after which what was fetched is taken up again.
pub fn dataset_files(
    hub: &Hub,
    name: &DatasetName,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    let hub_name = &name.hub;
    let net = hub.net();
    if hub.offline {
        return before(name, folder, progress);
    }
    let listing = listing(hub, &net, hub_name, progress)?;
    let place = folder.join("hub").join(hub_name.folder(&listing.sha));
    let files: Vec<String> =
        listing.files().filter(|file| is_data(file)).map(str::to_owned).collect();
    let chosen = choose(&files, name)?;
    let repo = Repository { hub, net, name: hub_name, listing, progress };
    repo.check_names()?;
    let missing: Vec<&String> = chosen.iter().filter(|file| !place.join(file).exists()).collect();
    if !missing.is_empty() {
        let size = missing.iter().map(|file| repo.size(file)).sum::<Option<u64>>();
        progress.note(&format!(
            "fetching {} at {} ({} files, {})",
            hub_name.shown(),
            &repo.listing.sha[..12],
            missing.len(),
            megabytes(size)
        ));
        progress.begin("fetch dataset", size.unwrap_or(0), "bytes");
        let done = missing.iter().try_for_each(|file| repo.file(file, &place.join(file)));
        progress.end();
        done?;
    }
    let memory = folder.join("hub").join("refs").join(hub_name.folder(&hub_name.revision));
    if let Some(parent) = memory.parent() {
        std::fs::create_dir_all(parent).map_err(disk(parent))?;
    }
    std::fs::write(&memory, &repo.listing.sha).map_err(disk(&memory))?;
    Ok(chosen.iter().map(|file| place.join(file)).collect())
}

/// What was fetched before, where nothing may be fetched now.
fn before(name: &DatasetName, folder: &Path, progress: &dyn Progress) -> Result<Vec<PathBuf>> {
    let hub_name = &name.hub;
    let offline = || FetchError::Offline { what: hub_name.shown() };
    let memory = folder.join("hub").join("refs").join(hub_name.folder(&hub_name.revision));
    let commit = match is_commit(&hub_name.revision) {
        true => hub_name.revision.clone(),
        false => std::fs::read_to_string(memory).map_err(|_| offline())?,
    };
    let place = folder.join("hub").join(hub_name.folder(commit.trim()));
    let mut files = Vec::new();
    collect(&place, &place, &mut files);
    let files: Vec<String> = files.into_iter().filter(|file| is_data(file)).collect();
    if files.is_empty() {
        return Err(offline().into());
    }
    progress.note(&format!(
        "{}: using what was fetched before (HF_HUB_OFFLINE is set)",
        hub_name.shown()
    ));
    Ok(choose(&files, name)?.iter().map(|file| place.join(file)).collect())
}

/// The files below a folder, by their paths in it.
fn collect(at: &Path, root: &Path, files: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(at) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, root, files);
        } else if let Ok(inside) = path.strip_prefix(root) {
            files.push(inside.to_string_lossy().into_owned());
        }
    }
}

/// Whether a file of a repository holds rows.
fn is_data(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    let described = ["dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"];
    is_inside(file)
        && !name.starts_with('.')
        && !described.contains(&name)
        && ending(Path::new(file)).is_some()
}

/// The configuration that a file belongs to: the folder at the top, unless that is named for data as
/// such or for a split.
fn config_of(file: &str) -> &str {
    match file.split_once('/') {
        Some((top, _)) if top != "data" && split_of(Path::new(""), Path::new(top)).is_none() => top,
        _ => "default",
    }
}

/// The split that a file belongs to: its name without shard and ending, such as `train_prefs`; where
/// that names none, the folder's.
fn split_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.split('.').next().unwrap_or(name);
    let shard = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut words: Vec<&str> = stem.split('-').collect();
    while words.len() > 1 && words.last().is_some_and(|w| shard(w) || *w == "of") {
        words.pop();
    }
    let stem = words.join("-");
    match split_of(Path::new(""), Path::new(&stem)) {
        Some(_) => stem,
        None => split_of(Path::new(""), Path::new(file)).unwrap_or(&stem).to_owned(),
    }
}

/// The files that a name means, in their order.
fn choose(files: &[String], name: &DatasetName) -> Result<Vec<String>> {
    let repo = name.hub.repo.clone();
    if files.is_empty() {
        return Err(FetchError::NoData { repo }.into());
    }
    let part = |what: &str, there: BTreeSet<&str>, example: String| -> EncoderError {
        let there: Vec<&str> = there.into_iter().collect();
        let there = format!("the {what} {}", there.join(", "));
        FetchError::NamePart { repo: repo.clone(), there, example }.into()
    };
    let configs: BTreeSet<&str> = files.iter().map(|file| config_of(file)).collect();
    let config = match &name.config {
        Some(config) => config.as_str(),
        None if configs.len() == 1 || configs.contains("default") => {
            configs.iter().find(|c| **c == "default" || configs.len() == 1).unwrap_or(&"default")
        }
        None => {
            let first = configs.first().unwrap_or(&"");
            let example = format!("{repo}:{first}");
            return Err(part("configurations", configs, example));
        }
    };
    let of_config: Vec<&String> = files.iter().filter(|file| config_of(file) == config).collect();
    if of_config.is_empty() {
        let first = configs.first().unwrap_or(&"");
        let example = format!("{repo}:{first}");
        return Err(part("configurations", configs, example));
    }
    let names: Vec<String> = of_config.iter().map(|file| split_name(file)).collect();
    let splits: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let asked = name.split.as_deref();
    let is_train = |split: &str| split_of(Path::new(""), Path::new(split)) == Some(TRAIN);
    let wanted: BTreeSet<&str> = match asked {
        Some(asked) => splits.iter().copied().filter(|split| *split == asked).collect(),
        None if splits.iter().any(|split| is_train(split)) => {
            splits.iter().copied().filter(|split| is_train(split)).collect()
        }
        None => splits.clone(),
    };
    if wanted.len() != 1 {
        let first = splits.first().unwrap_or(&TRAIN);
        let config = name.config.as_ref().map_or(String::new(), |config| format!(":{config}"));
        let example = format!("{repo}{config}/{first}");
        return Err(part("splits", splits, example));
    }
    let chosen = of_config.iter().zip(&names).filter(|(_, split)| wanted.contains(split.as_str()));
    let mut chosen: Vec<String> = chosen.map(|(file, _)| (*file).clone()).collect();
    chosen.sort();
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn chosen(files: &[&str], name: &str) -> std::result::Result<Vec<String>, String> {
        let files: Vec<String> =
            files.iter().map(|f| (*f).to_owned()).filter(|f| is_data(f)).collect();
        choose(&files, &DatasetName::parse(name).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn names_have_a_revision_a_configuration_and_a_split() {
        let name = DatasetName::parse("hf://datasets/org/name@v1:sub/test").unwrap();
        assert_eq!((name.hub.repo.as_str(), name.hub.revision.as_str()), ("org/name", "v1"));
        assert_eq!((name.config.as_deref(), name.split.as_deref()), (Some("sub"), Some("test")));
        assert_eq!(DatasetName::parse("org/name").unwrap().split, None);
        for wrong in ["name", "org/pairs.jsonl", "a/b/c/d", "../x", "org/na me", "hf://datasets/x"]
        {
            assert_eq!(DatasetName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_files_of_the_training_split_are_meant_unless_another_is_named() {
        let files = [
            "README.md",
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
            "dataset_infos.json",
        ];
        let train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
        assert_eq!(chosen(&files, "o/n").unwrap(), train);
        assert_eq!(chosen(&files, "o/n/test").unwrap(), ["data/test-00000-of-00001.parquet"]);
        let error = chosen(&files, "o/n/validation").unwrap_err();
        assert_eq!(error, "o/n has the splits test, train: name one, as in o/n/test");
    }

    #[test]
    fn several_configurations_or_training_splits_have_to_be_named() {
        let files = ["helpful/train.jsonl.gz", "harmless/train.jsonl.gz", "harmless/test.jsonl.gz"];
        assert!(chosen(&files, "o/n").unwrap_err().contains("configurations harmless, helpful"));
        assert_eq!(chosen(&files, "o/n:helpful").unwrap(), ["helpful/train.jsonl.gz"]);
        assert_eq!(chosen(&files, "o/n:harmless/test").unwrap(), ["harmless/test.jsonl.gz"]);
        let prefs =
            ["data/train_prefs-00000-of-00001.parquet", "data/train_sft-00000-of-00001.parquet"];
        assert!(chosen(&prefs, "o/n").unwrap_err().contains("splits train_prefs, train_sft"));
        assert_eq!(chosen(&prefs, "o/n/train_prefs").unwrap(), prefs[..1]);
        assert_eq!(chosen(&["pairs.jsonl"], "o/n").unwrap(), ["pairs.jsonl"]);
        assert!(chosen(&["README.md"], "o/n").unwrap_err().contains("no data file"));
    }
}
