//! Embedded pairs out of an embeddings file.

use super::labels::stored_labels;
use super::{StoredViews, encoder_of, keys, pairs_of_columns, stored_encoder};
use crate::arrays::{ArrayFile, StoredRows};
use crate::dataset::fingerprint_rows;
use crate::encoder::{EncoderRecord, ViewChoice};
use crate::error::Error;
use crate::vet::{LeftOut, Reason, VetReport};
use lens_core::{CoreError, EmbeddedPairs, Embeddings, Progress, Rows};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The names of the two tables of a file of pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreKeys {
    /// The array of the preferred responses.
    pub chosen: String,
    /// The array of the other responses.
    pub rejected: String,
}

impl Default for StoreKeys {
    fn default() -> Self {
        StoreKeys { chosen: keys::CHOSEN.to_owned(), rejected: keys::REJECTED.to_owned() }
    }
}

/// Embedded pairs, and everything that their file says of them.
#[derive(Debug)]
pub struct StoredPairs {
    /// The pairs whose sides differ. Where they are large their embeddings stay in the file.
    pub pairs: EmbeddedPairs,
    /// The row of each of these pairs in the file, counted from 0.
    pub rows: Vec<usize>,
    /// The rows of the file; those with equal embeddings on both sides are left out. A row is listed
    /// by its number counted from 1, as lines are.
    pub report: VetReport,
    /// SHA-256 over the arrays.
    pub fingerprint: String,
    /// The encoder that made the embeddings, if the file says it.
    pub encoder: Option<EncoderRecord>,
    /// The [`prompt_key`](crate::prompts::prompt_key) of each pair, if the file has them.
    pub prompt_keys: Option<Vec<i64>>,
    /// The views that lie side by side in an embedding, as far as the file says it.
    pub views: StoredViews,
    tables: [Arc<StoredRows>; 2],
}

impl StoredPairs {
    /// Opens pairs: both sides from one safetensors file, or each from an `.npy` file. Tables of up
    /// to `memory_limit` bytes together, as float32, are copied into memory, where a row is nearer
    /// than in a file.
    ///
    /// # Errors
    /// The problem of the file, each by its own [`Error`]; [`Error::Core`] with
    /// [`CoreError::NoDifference`] when every pair has equal embeddings on both sides;
    /// [`Error::Cancelled`].
    pub fn open(
        files: &[PathBuf],
        keys: &StoreKeys,
        memory_limit: usize,
        progress: &dyn Progress,
    ) -> Result<StoredPairs, Error> {
        let (first, tables) = open_tables(files, keys, progress)?;
        let n = tables[0].rows();
        let metadata = first.metadata();
        let (prompts, prompt_keys) = match files.len() {
            1 => stored_prompts(&first, &metadata, n)?,
            _ => (unnumbered(n), None),
        };
        let bytes = 2 * n * tables[0].dim() * size_of::<f32>();
        let [chosen, rejected] = tables.clone().map(|table| {
            let stored = Embeddings::new(table);
            if bytes <= memory_limit { stored.to_matrix().into() } else { stored }
        });
        let mut all = EmbeddedPairs::with_prompts(chosen, rejected, prompts)?;
        let views = StoredViews::read(&first)?;
        let widths = views.widths(all.dim());
        all = all.with_views(widths)?;
        if let Some(labels) = stored_labels(&first, &files[0], n)? {
            all = all.with_labels(labels)?;
        }
        progress.begin("read embeddings", 2 * n as u64, "rows");
        let (fingerprint, rows) = rayon::join(
            || fingerprint_rows(&[&*tables[0], &*tables[1]], &all.labels, progress),
            || {
                let differs = |&i: &usize| progress.cancelled() || !all.equal_sides(i);
                (0..n).into_par_iter().filter(differs).collect::<Vec<usize>>()
            },
        );
        progress.end();
        let fingerprint = fingerprint?;
        if rows.is_empty() {
            return Err(CoreError::NoDifference { pairs: n }.into());
        }
        let mut report = VetReport::all_used(n);
        let mut used = rows.iter().peekable();
        let equal = (0..n).filter(|i| used.next_if_eq(&i).is_none());
        let detail = "the embeddings are equal";
        let line = |row| LeftOut::on_line(row as u64 + 1, detail);
        report.leave_out(Reason::IdenticalSides, equal.map(line).collect());
        let pairs = if rows.len() == n { all } else { all.select(&rows) };
        let prompt_keys = prompt_keys.map(|keys| rows.iter().map(|&i| keys[i]).collect());
        let encoder = encoder_of(&metadata);
        let stored =
            StoredPairs { pairs, rows, report, fingerprint, encoder, prompt_keys, views, tables };
        stored.check_reads()?;
        Ok(stored)
    }

    /// Whether every embedding could be read so far. Rows that could not are NaN, so ask before any
    /// result of work on the pairs is used, also before its error.
    ///
    /// # Errors
    /// The first failure to read.
    pub fn check_reads(&self) -> Result<(), Error> {
        check_tables(&self.tables)
    }

    /// Rows of the file with equal embeddings on both sides, which are left out, counted from 0.
    pub fn equal_rows(&self) -> Vec<usize> {
        let lines = self.report.left_out.get(&Reason::IdenticalSides);
        lines.into_iter().flatten().map(|row| row.line as usize - 1).collect()
    }

    /// Keeps the views that are asked for, in that order; all where none is. The record of the
    /// encoder then names these views.
    ///
    /// # Errors
    /// [`Error::NoSuchView`]; [`Error::BadColumns`].
    pub fn select_views(&mut self, asked: &[ViewChoice]) -> Result<(), Error> {
        if asked.is_empty() {
            return Ok(());
        }
        let chosen = self.views.columns(asked, self.pairs.dim())?;
        self.pairs = pairs_of_columns(&self.pairs, &chosen.columns)?;
        self.views = self.views.cut(&chosen);
        if let Some(encoder) = &mut self.encoder {
            encoder.identity.views = chosen.views;
        }
        Ok(())
    }
}

/// The first file, and the tables of both sides.
fn open_tables(
    files: &[PathBuf],
    keys: &StoreKeys,
    progress: &dyn Progress,
) -> Result<(Arc<ArrayFile>, [Arc<StoredRows>; 2]), Error> {
    let name = |path: &PathBuf| path.display().to_string();
    let (first, chosen, rejected, names) = match files {
        [only] => {
            let file = Arc::new(ArrayFile::open(only)?);
            let StoreKeys { chosen, rejected } = keys;
            let tables = [chosen, rejected].map(|key| file.table_with(Some(key), progress));
            let [a, b] = tables;
            (file, a?, b?, [chosen.clone(), rejected.clone()])
        }
        [a, b] => {
            let (first, second) = (Arc::new(ArrayFile::open(a)?), Arc::new(ArrayFile::open(b)?));
            let chosen = first.table_with(None, progress)?;
            let rejected = second.table_with(None, progress)?;
            (first, chosen, rejected, [name(a), name(b)])
        }
        _ => return Err(Error::WrongFileCount { found: files.len() }),
    };
    chosen.require_same_shape(&names[0], &rejected, &names[1])?;
    Ok((first, [Arc::new(chosen), Arc::new(rejected)]))
}

/// The prompt number of each of `n` pairs, and their keys where the numbers mean the same in every
/// file. Without stored numbers every pair has a prompt of its own.
fn stored_prompts(
    file: &ArrayFile,
    metadata: &BTreeMap<String, String>,
    n: usize,
) -> Result<(Vec<u32>, Option<Vec<i64>>), Error> {
    if !file.keys().iter().any(|key| key == keys::PROMPT) {
        return Ok((unnumbered(n), None));
    }
    let stored = file.integers(Some(keys::PROMPT))?;
    if stored.len() != n {
        let (path, found) = (file.path().to_owned(), stored.len());
        return Err(Error::WrongCount { path, key: keys::PROMPT, expected: n, found });
    }
    // Numbered anew: files from elsewhere may number prompts as they like.
    let prompts = numbered(stored.iter().copied());
    let kind = metadata.get(keys::PROMPT);
    Ok((prompts, kind.is_some_and(|kind| kind == keys::PROMPT_NUMBERS).then_some(stored)))
}

fn unnumbered(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

/// Numbers from 0 in the order of first occurrence; equal values have equal numbers.
fn numbered(values: impl Iterator<Item = i64>) -> Vec<u32> {
    let mut seen = HashMap::new();
    values
        .map(|value| {
            let next = seen.len() as u32;
            *seen.entry(value).or_insert(next)
        })
        .collect()
}

fn check_tables(tables: &[Arc<StoredRows>]) -> Result<(), Error> {
    tables.iter().find_map(|table| table.failure()).map_or(Ok(()), Err)
}

/// One table of embeddings, and the encoder that made it.
#[derive(Debug)]
pub struct StoredTable {
    /// The embeddings, which stay in the file.
    pub rows: Arc<StoredRows>,
    /// The encoder that made them, if the file says it.
    pub encoder: Option<EncoderRecord>,
}

impl StoredTable {
    /// Opens the table `key` of a file; the key may be left out where the file holds one array only.
    ///
    /// # Errors
    /// The problem of the file, each by its own [`Error`]; [`Error::Cancelled`].
    pub fn open(
        file: impl AsRef<Path>,
        key: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<StoredTable, Error> {
        let file = Arc::new(ArrayFile::open(file)?);
        let rows = Arc::new(file.table_with(key, progress)?);
        Ok(StoredTable { rows, encoder: stored_encoder(&file) })
    }

    /// As [`StoredPairs::check_reads`].
    ///
    /// # Errors
    /// The first failure to read.
    pub fn check_reads(&self) -> Result<(), Error> {
        check_tables(std::slice::from_ref(&self.rows))
    }
}
