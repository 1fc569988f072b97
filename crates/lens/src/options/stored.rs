//! Which stored embeddings a job works on.

use crate::{Error, Progress};
use lens_data::{StoreKeys, StoredPairs, ViewChoice};
use std::path::PathBuf;

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
        let mut stored = StoredPairs::open(&self.files, &self.keys, limit, progress)?;
        stored.select_views(&self.views)?;
        Ok(stored)
    }
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
