//! Models that are split into files `NAME-00001-of-0000N.gguf`, as llama.cpp names them.

use super::{Value, corrupt};
use crate::error::{EncoderError, Result};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Which part a file is, counted from 0.
const NUMBER: &str = "split.no";
/// How many parts there are.
const COUNT: &str = "split.count";
/// How many tensors all parts hold together.
pub(super) const TENSORS: &str = "split.tensors.count";
/// Digits of a number in a name.
const DIGITS: usize = 5;

/// The name of a part, taken apart.
struct PartName<'a> {
    stem: &'a str,
    count: usize,
}

impl<'a> PartName<'a> {
    /// `None` for a name that is none of a part.
    fn of(path: &'a Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let parse = |digits: &str| -> Option<usize> {
            let fine = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse().ok().filter(|_| fine)
        };
        let (number, count) = (parse(number)?, parse(count)?);
        (1..=count).contains(&number).then_some(Self { stem, count })
    }

    fn all(&self, folder: &Path) -> Vec<PathBuf> {
        let Self { stem, count } = self;
        (1..=*count).map(|i| folder.join(format!("{stem}-{i:05}-of-{count:05}.gguf"))).collect()
    }
}

/// The files of the model of which `path` is one, in their order.
///
/// # Errors
/// [`EncoderError::MissingShards`] that names the parts that are not there.
pub(super) fn parts(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let Some(name) = PartName::of(path).filter(|name| name.count > 1) else {
        return Ok(vec![path.to_owned()]);
    };
    let all = name.all(folder);
    let missing: Vec<String> = all
        .iter()
        .filter(|part| !part.is_file())
        .filter_map(|part| Some(part.file_name()?.to_string_lossy().into_owned()))
        .collect();
    match missing.is_empty() {
        true => Ok(all),
        false => Err(EncoderError::MissingShards { path: path.to_owned(), missing }),
    }
}

/// The names of the files of the model of which `file` is one, in their order: of a model that is not
/// split its own alone.
pub(crate) fn part_names(file: &str) -> Vec<String> {
    let path = Path::new(file);
    match PartName::of(path) {
        Some(name) => {
            let all = name.all(path.parent().unwrap_or(Path::new("")));
            all.iter().map(|part| part.to_string_lossy().into_owned()).collect()
        }
        None => vec![file.to_owned()],
    }
}

/// The first file of the only model in a folder; `None` where there is no GGUF file.
///
/// # Errors
/// [`EncoderError::SeveralModels`], [`EncoderError::Io`].
pub(super) fn only_model(folder: &Path) -> Result<Option<PathBuf>> {
    let io = |source| EncoderError::Io { path: folder.to_owned(), source };
    let mut models: BTreeSet<PathBuf> = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == "gguf") && path.is_file() {
            let first = PartName::of(&path).and_then(|name| name.all(folder).into_iter().next());
            models.insert(first.unwrap_or(path));
        }
    }
    if models.len() > 1 {
        let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let models = models.iter().filter_map(name).collect();
        return Err(EncoderError::SeveralModels { path: folder.to_owned(), models });
    }
    Ok(models.pop_first())
}

/// Checks that a file is the part that its name promises, counted from 0.
pub(super) fn check(
    path: &Path,
    metadata: &HashMap<String, Value>,
    part: usize,
    parts: usize,
) -> Result<()> {
    let int = |key: &str| match metadata.get(key) {
        Some(Value::Int(value)) => Some(*value),
        _ => None,
    };
    let count = int(COUNT).unwrap_or(0).max(1);
    if count != parts as i128 {
        let detail = match parts {
            1 => format!(
                "it is one of the {count} parts of a model, which have to be called \
                 NAME-00001-of-{count:05}.gguf and so on"
            ),
            _ => format!("its name promises {parts} parts, its header {count}"),
        };
        return Err(corrupt(path, detail));
    }
    match int(NUMBER).filter(|number| parts > 1 && *number != part as i128) {
        None => Ok(()),
        Some(number) => {
            let detail =
                format!("it is part {} by its header, {} by its name", number + 1, part + 1);
            Err(corrupt(path, detail))
        }
    }
}
