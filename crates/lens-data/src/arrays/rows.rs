//! Tables of embeddings that stay in their file: for stores larger than memory.

use super::element::{Element, Endian, widen};
use super::file::{ArrayFile, EXPECTED_FLOATS};
use crate::error::Error;
use crate::positional::read_exact_at;
use lens_core::{Progress, Quiet, Rows};
use rayon::prelude::*;
use std::cell::RefCell;
use std::io;
use std::sync::{Arc, OnceLock};

/// Bytes read at a time where they are not float32 already. Most rows are shorter.
const PIECE_BYTES: usize = 1 << 16;
/// Values checked by one thread at a time.
const BLOCK_VALUES: usize = 1 << 20;
/// Blocks checked side by side: threads stay near each other in the file, which a disk reads ahead.
const BLOCKS_TOGETHER: usize = 64;

/// A table of embeddings whose rows are read from the file as they are asked for, and converted
/// to float32. Every value was found finite when it was opened.
///
/// Rows are read, not mapped: mapped pages count towards the size of the process until they are
/// given back, and a page that is not in memory would cost a wait of its own, several for each
/// row. So nothing but a piece of 64 kB a thread is held, however large the file. Which parts of
/// it stay in memory is the system's business.
///
/// Arrays in column order (Fortran's), which has no rows to read, are held in memory as a whole.
#[derive(Debug)]
pub struct StoredRows {
    rows: usize,
    dim: usize,
    key: String,
    file: Arc<ArrayFile>,
    source: RowData,
    failure: OnceLock<io::Error>,
}

#[derive(Debug)]
enum RowData {
    File { start: u64, element: Element, endian: Endian },
    Memory(Vec<f32>),
}

impl ArrayFile {
    /// A two-dimensional float array that stays in the file, after one pass over it that finds
    /// every value finite. The key is as for [`ArrayFile::floats`], and so are the errors.
    pub fn table(self: &Arc<Self>, key: Option<&str>) -> Result<StoredRows, Error> {
        self.table_with(key, &Quiet)
    }

    /// As [`ArrayFile::table`], with progress; [`Error::Cancelled`] where that is cancelled.
    pub fn table_with(
        self: &Arc<Self>,
        key: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<StoredRows, Error> {
        let view = self.view(key)?;
        let (rows, dim) = self.rows_and_columns(&view)?;
        let (element, endian) = view
            .element
            .filter(|(element, _)| element.is_float())
            .ok_or_else(|| self.wrong_element(&view, EXPECTED_FLOATS))?;
        let file = Arc::clone(self);
        let (key, failure) = (view.key, OnceLock::new());
        if view.fortran {
            let source = RowData::Memory(self.floats(None)?.data);
            return Ok(StoredRows { rows, dim, key, file, source, failure });
        }
        let source = RowData::File { start: view.start as u64, element, endian };
        let table = StoredRows { rows, dim, key, file, source, failure };
        progress.begin("check embeddings", rows as u64, "rows");
        let checked = table.check(progress);
        progress.end();
        checked.map(|()| table)
    }
}

impl StoredRows {
    /// Why a row could not be read after the table was opened, if that has happened: the file was
    /// shortened, or its disk has failed. Such rows are read as NaN, which no training or scoring
    /// survives, so that whoever uses the table asks here when it ends.
    pub fn failure(&self) -> Option<Error> {
        let error = self.failure.get()?;
        Some(self.error(io::Error::new(error.kind(), error.to_string())))
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.dim]
    }

    /// An error with both shapes unless `other` has the same. The names are for the error.
    pub fn require_same_shape(
        &self,
        name: &str,
        other: &StoredRows,
        other_name: &str,
    ) -> Result<(), Error> {
        super::require_same_shape((name, self.shape()), (other_name, other.shape()))
    }

    fn error(&self, source: io::Error) -> Error {
        let source = match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(source.kind(), "the file became shorter while it was in use")
            }
            _ => source,
        };
        Error::io(self.file.path(), "read", source)
    }

    /// Looks for the first value that is not finite.
    fn check(&self, progress: &dyn Progress) -> Result<(), Error> {
        let block_rows = (BLOCK_VALUES / self.dim).max(1);
        let starts: Vec<usize> = (0..self.rows).step_by(block_rows).collect();
        for starts in starts.chunks(BLOCKS_TOGETHER) {
            let first = starts.par_iter().map_init(Vec::new, |values, &start| {
                if progress.cancelled() {
                    return Err(Error::Cancelled);
                }
                let n = block_rows.min(self.rows - start);
                values.resize(n * self.dim, 0.0);
                self.fill(start * self.dim, values).map_err(|e| self.error(e))?;
                self.file.require_finite(&self.key, values, start, self.dim)?;
                progress.advance(n as u64);
                Ok(())
            });
            first.find_map_first(Result::err).map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Reads as many values as `out` holds, from value `first` of the table on.
    fn fill(&self, first: usize, out: &mut [f32]) -> io::Result<()> {
        let (start, element, endian) = match &self.source {
            RowData::Memory(values) => {
                out.copy_from_slice(&values[first..first + out.len()]);
                return Ok(());
            }
            &RowData::File { start, element, endian } => (start, element, endian),
        };
        let size = element.bytes();
        // No overflow: the whole array was found inside the file.
        let mut at = start + (first * size) as u64;
        if element == Element::F32 && endian == Endian::Little && cfg!(target_endian = "little") {
            return read_exact_at(self.file.file(), bytemuck::cast_slice_mut(out), at);
        }
        thread_local! {
            static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        PIECE.with_borrow_mut(|piece| {
            piece.resize(PIECE_BYTES, 0);
            for out in out.chunks_mut(PIECE_BYTES / size) {
                let bytes = &mut piece[..out.len() * size];
                read_exact_at(self.file.file(), bytes, at)?;
                widen(bytes, element, endian, out);
                at += bytes.len() as u64;
            }
            Ok(())
        })
    }
}

impl Rows for StoredRows {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read_part(&self, i: usize, start: usize, out: &mut [f32]) {
        let inside = i < self.rows && start + out.len() <= self.dim;
        assert!(inside, "no such row of a table of embeddings");
        if let Err(e) = self.fill(i * self.dim + start, out) {
            out.fill(f32::NAN);
            // The first failure is reported; others follow from it.
            let _ = self.failure.set(e);
        }
    }
}

#[cfg(test)]
mod tests;
