//! Which stored embeddings a job works on.

use crate::{Error, Progress};
use lens_data::{
    MalformedRow, ReadOptions, Row, ScoreRow, StoreKeys, StoredPairs, ViewChoice, visit_exchanges,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Embedded pairs in files.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPairsOptions {
    /// A safetensors file with both sides, or two .npy files: chosen, then rejected.
    pub files: Vec<PathBuf>,
    /// Names of the arrays in a safetensors file.
    pub keys: StoreKeys,
    /// The views to take of those that the file says it holds. Defaults to none named: all of them.
    pub views: Vec<ViewChoice>,
    /// Embeddings of up to so many MB (as float32) are copied into memory; larger ones stay in the
    /// file. Defaults to 1024.
    pub memory_mb: usize,
}

impl StoredPairsOptions {
    /// The defaults, for files.
    pub fn new(files: Vec<PathBuf>) -> Self {
        StoredPairsOptions { files, keys: StoreKeys::default(), views: Vec::new(), memory_mb: 1024 }
    }

    /// Opens the pairs, with the views that are named.
    pub(crate) fn open(&self, progress: &dyn Progress) -> Result<StoredPairs, Error> {
        let limit = self.memory_mb << 20;
        let stored = StoredPairs::open(&self.files, &self.keys, limit, progress);
        let mut stored = stored.map_err(|error| self.unless_text(error))?;
        stored.select_views(&self.views)?;
        Ok(stored)
    }

    /// Why the files cannot be opened: where one of them is a dataset of text, that is the reason.
    fn unless_text(&self, error: lens_data::Error) -> Error {
        self.files.iter().find_map(|file| text_in(file)).unwrap_or_else(|| error.into())
    }
}

/// The error of a file whose first row is one of text; `None` for what is no dataset.
fn text_in(file: &Path) -> Option<Error> {
    let mut pairs = None;
    let first = &mut |row: Result<Row<ScoreRow>, MalformedRow>| {
        pairs = row.ok().map(|row| matches!(row.value, ScoreRow::Pair(_)));
        ControlFlow::Break(())
    };
    // What is wrong with a dataset is of no interest here.
    visit_exchanges(file, &ReadOptions::default(), first).ok()?;
    Some(Error::TextNotEmbeddings { path: file.to_owned(), pairs: pairs? })
}

/// The result of work on stored pairs, unless the embeddings could not be read meanwhile: then that
/// is the error.
pub(crate) fn unless_unreadable<T>(
    stored: &StoredPairs,
    result: Result<T, Error>,
) -> Result<T, Error> {
    stored.check_reads()?;
    result
}
