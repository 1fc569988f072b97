//! From what a user names to the files of a dataset: one or several paths, folders of shards, patterns
//! with `*`, and `-` for standard input.

use crate::error::Error;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The name under which standard input is read.
pub const STANDARD_INPUT: &str = "-";

/// Endings of the files that datasets come in.
const DATA: [&str; 7] = ["parquet", "jsonl", "ndjson", "json", "csv", "tsv", "arrow"];
/// Files with such an ending that describe a dataset instead.
const DESCRIPTIONS: [&str; 6] = [
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "metadata.json",
    "config.json",
];
/// Splits as file names tell them, by what they mean.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation", "heldout"]),
];

/// Where a dataset lies: one or several of a file, a folder of shards, a folder that
/// `datasets.save_to_disk` wrote, a pattern such as `shards/*.parquet`, and `-` for standard input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DataSource {
    parts: Vec<PathBuf>,
    /// What it is called in messages, where that is not told by its parts.
    name: Option<PathBuf>,
}

impl DataSource {
    /// Several parts as one dataset, in this order.
    pub fn new(parts: impl IntoIterator<Item = PathBuf>) -> DataSource {
        DataSource { parts: parts.into_iter().collect(), name: None }
    }

    /// The same files under another name for messages and records.
    pub fn known_as(self, name: PathBuf) -> DataSource {
        DataSource { name: Some(name), ..self }
    }

    /// The path, if it is only one.
    pub fn single(&self) -> Option<&Path> {
        match self.parts.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The parts as they were named.
    pub fn parts(&self) -> &[PathBuf] {
        &self.parts
    }

    /// A name for messages and records: the path, or the first one and how many more.
    pub fn name(&self) -> PathBuf {
        if let Some(name) = &self.name {
            return name.clone();
        }
        match self.parts.as_slice() {
            [] => PathBuf::new(),
            [only] if only.as_os_str() == STANDARD_INPUT => "standard input".into(),
            [only] => only.clone(),
            [first, others @ ..] => {
                format!("{} (and {} more)", first.display(), others.len()).into()
            }
        }
    }

    /// The files, in the order in which they are read: a folder's and a pattern's by name.
    ///
    /// # Errors
    /// A part that does not exist or holds no data; a folder with several splits, or with files in
    /// several formats, of which one has to be named; standard input named twice.
    pub fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let mut files = Vec::new();
        for part in &self.parts {
            files.extend(expand(part)?);
        }
        let piped = files.iter().filter(|file| file.as_os_str() == STANDARD_INPUT).count();
        match piped {
            0 | 1 => Ok(files),
            _ => Err(Error::InputTwice { path: STANDARD_INPUT.into() }),
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().display().fmt(f)
    }
}

impl From<PathBuf> for DataSource {
    fn from(path: PathBuf) -> Self {
        DataSource { parts: vec![path], name: None }
    }
}

impl From<&PathBuf> for DataSource {
    fn from(path: &PathBuf) -> Self {
        path.clone().into()
    }
}

impl From<&Path> for DataSource {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<&str> for DataSource {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<String> for DataSource {
    fn from(path: String) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<Vec<PathBuf>> for DataSource {
    fn from(parts: Vec<PathBuf>) -> Self {
        DataSource { parts, name: None }
    }
}

impl From<&DataSource> for DataSource {
    fn from(input: &DataSource) -> Self {
        input.clone()
    }
}

fn expand(part: &Path) -> Result<Vec<PathBuf>, Error> {
    if part.as_os_str() == STANDARD_INPUT {
        return Ok(vec![part.to_owned()]);
    }
    if part.is_dir() {
        return folder(part);
    }
    let text = part.to_string_lossy();
    if part.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![part.to_owned()]);
    }
    let bad = |detail: String| Error::BadPattern { pattern: text.clone().into_owned(), detail };
    let mut files = Vec::new();
    for found in glob::glob(&text).map_err(|e| bad(e.to_string()))? {
        let path = found.map_err(|e| Error::io(e.path().to_owned(), "read", e.into()))?;
        if path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(bad("no file is named so".to_owned()));
    }
    Ok(files)
}

/// The files of a folder.
fn folder(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if path.join("dataset_dict.json").is_file() {
        let splits = entries(path)?.into_iter().filter(|entry| entry.join("state.json").is_file());
        let names =
            splits.filter_map(|split| Some(split.file_name()?.to_string_lossy().into_owned()));
        return Err(Error::SeveralSplits { path: path.to_owned(), splits: names.collect() });
    }
    let state = path.join("state.json");
    if state.is_file() {
        return saved_to_disk(path, &state);
    }
    let mut files = data_files(path)?;
    if files.is_empty() {
        for inner in entries(path)?.into_iter().filter(|entry| entry.is_dir()) {
            files.extend(data_files(&inner)?);
        }
    }
    if files.is_empty() {
        return Err(Error::NoDataFiles { path: path.to_owned() });
    }
    let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
    let mut endings: BTreeMap<String, usize> = BTreeMap::new();
    for file in &files {
        *splits.entry(split_of(path, file).unwrap_or("no split")).or_insert(0) += 1;
        *endings.entry(ending(file).unwrap_or_default()).or_insert(0) += 1;
    }
    if splits.len() > 1 {
        let splits = splits.into_keys().map(str::to_owned).collect();
        return Err(Error::SeveralSplits { path: path.to_owned(), splits });
    }
    if endings.len() > 1 {
        let formats = endings.into_keys().collect();
        return Err(Error::SeveralFormats { path: path.to_owned(), formats });
    }
    Ok(files)
}

/// The entries of a folder by name, without hidden ones.
fn entries(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| Error::io(path, "read", e))? {
        let entry = entry.map_err(|e| Error::io(path, "read", e))?;
        if !entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn data_files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_data = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.is_file() && ending(file).is_some() && !DESCRIPTIONS.contains(&name.as_str())
    };
    Ok(entries(path)?.into_iter().filter(is_data).collect())
}

/// The ending that tells the format of a data file, without that of its compression.
pub fn ending(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_string_lossy().to_ascii_lowercase();
    let bare = [".gz", ".gzip", ".zst", ".zstd"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(&name);
    let (_, ending) = bare.rsplit_once('.')?;
    DATA.contains(&ending).then(|| ending.to_owned())
}

/// The split that a file's name, or that of a folder between it and `root`, tells.
pub fn split_of(root: &Path, file: &Path) -> Option<&'static str> {
    let inner = file.strip_prefix(root).unwrap_or(file);
    let named = |part: &str| {
        let words = part.split(|c: char| !c.is_ascii_alphabetic());
        words.filter(|word| !word.is_empty()).find_map(|word| {
            let lower = word.to_ascii_lowercase();
            SPLITS
                .iter()
                .find(|(_, names)| names.contains(&lower.as_str()))
                .map(|(split, _)| *split)
        })
    };
    let parts: Vec<String> =
        inner.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    parts.iter().rev().find_map(|part| named(part))
}

/// The shards of a folder that `datasets.save_to_disk` wrote, in the order that it noted.
fn saved_to_disk(path: &Path, state: &Path) -> Result<Vec<PathBuf>, Error> {
    let text = fs::read(state).map_err(|e| Error::io(state, "read", e))?;
    let damaged = |detail: &str| Error::corrupt(state, "state of a saved dataset", detail);
    let state_json: Value = serde_json::from_slice(&text).map_err(|e| damaged(&e.to_string()))?;
    let indices = state_json.get("_indices_data_files").is_some_and(|files| !files.is_null());
    if indices {
        return Err(damaged("it selects rows by an indices file: save it after flatten_indices()"));
    }
    let files = state_json.get("_data_files").and_then(Value::as_array);
    let names: Option<Vec<&str>> = files
        .map(|files| files.iter().map(|f| f.get("filename").and_then(Value::as_str)).collect())
        .unwrap_or_default();
    let names = names.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| damaged("it names no data files"))?;
    let inside = |name: &&str| Path::new(name).components().count() == 1 && *name != "..";
    match names.iter().all(inside) {
        true => Ok(names.into_iter().map(|name| path.join(name)).collect()),
        false => Err(damaged("it names files outside its folder")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn home(files: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for file in files {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        home
    }

    fn names(home: &Path, input: DataSource) -> Vec<String> {
        let files = input.files().unwrap();
        files.iter().map(|f| f.strip_prefix(home).unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_folder_is_its_data_files_by_name() {
        let home =
            home(&["b.parquet", "a.parquet", "README.md", ".x.parquet", "dataset_info.json"]);
        assert_eq!(names(home.path(), home.path().into()), ["a.parquet", "b.parquet"]);
        let pattern = home.path().join("*.parquet").display().to_string();
        assert_eq!(names(home.path(), pattern.into()), [".x.parquet", "a.parquet", "b.parquet"]);
        let both = DataSource::new([home.path().join("b.parquet"), home.path().join("a.parquet")]);
        assert!(both.name().display().to_string().ends_with("b.parquet (and 1 more)"));
        assert_eq!(names(home.path(), both), ["b.parquet", "a.parquet"]);
        assert_eq!(DataSource::from("-").files().unwrap(), [PathBuf::from("-")]);
        assert_eq!(DataSource::from("-").to_string(), "standard input");
        let twice = DataSource::new(["-".into(), "-".into()]).files();
        assert!(matches!(twice, Err(Error::InputTwice { .. })));
    }

    #[test]
    fn what_is_ambiguous_has_to_be_named() {
        let splits = home(&["data/train-0.parquet", "data/train-1.parquet", "data/test-0.parquet"]);
        match DataSource::from(splits.path()).files() {
            Err(Error::SeveralSplits { splits, .. }) => assert_eq!(splits, ["test", "train"]),
            other => panic!("{other:?}"),
        }
        let formats = home(&["a.jsonl.gz", "b.csv"]);
        match DataSource::from(formats.path()).files() {
            Err(Error::SeveralFormats { formats, .. }) => assert_eq!(formats, ["csv", "jsonl"]),
            other => panic!("{other:?}"),
        }
        let empty = home(&["README.md"]);
        assert!(matches!(DataSource::from(empty.path()).files(), Err(Error::NoDataFiles { .. })));
        let none = empty.path().join("*.jsonl").display().to_string();
        assert!(matches!(DataSource::from(none).files(), Err(Error::BadPattern { .. })));
    }

    #[test]
    fn the_split_is_in_the_name_of_the_file_or_folder() {
        let split = |file: &str| split_of(Path::new("/r"), Path::new(file));
        assert_eq!(split("/r/data/train-00000-of-00002.parquet"), Some("train"));
        assert_eq!(split("/r/test/part-1.jsonl"), Some("test"));
        assert_eq!(split("/r/dev.jsonl"), Some("validation"));
        assert_eq!(split("/r/pairs_train.jsonl"), Some("train"));
        assert_eq!(split("/r/latest.jsonl"), None);
    }

    #[test]
    fn a_saved_dataset_lists_its_shards() {
        let home = home(&["data-00000-of-00001.arrow"]);
        let state = |text: &str| {
            fs::write(home.path().join("state.json"), text).unwrap();
            DataSource::from(home.path()).files()
        };
        let files =
            state(r#"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}"#).unwrap();
        assert_eq!(files, [home.path().join("data-00000-of-00001.arrow")]);
        for wrong in [
            "{}",
            r#"{"_data_files": [{"filename": "../a"}]}"#,
            r#"{"_data_files": [{"filename": "a"}], "_indices_data_files": [{"filename": "i"}]}"#,
        ] {
            assert!(matches!(state(wrong), Err(Error::Corrupt { .. })), "{wrong}");
        }
    }
}
