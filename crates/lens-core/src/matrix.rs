//! Tables of embeddings: in memory, or wherever else rows can be read from.

use crate::error::CoreError;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// No vector of f32 is longer.
pub(crate) const MAX_VALUES: usize = isize::MAX as usize / size_of::<f32>();

/// A table of embeddings that is read row by row: a [`Matrix`], a mapped file, a selection of
/// either. An implementation must have finite values only.
pub trait Rows: Debug + Send + Sync {
    /// Number of embeddings.
    fn rows(&self) -> usize;
    /// Width d of an embedding.
    fn dim(&self) -> usize;
    /// Writes the columns of row `i` from `start` on to `out`, as many as it takes.
    ///
    /// # Panics
    /// When there is no such row, or no such column: a bug in the caller.
    fn read_part(&self, i: usize, start: usize, out: &mut [f32]);
    /// Writes row `i` to `out`, `[d]`.
    ///
    /// # Panics
    /// As [`Rows::read_part`].
    fn read(&self, i: usize, out: &mut [f32]) {
        self.read_part(i, 0, out);
    }
}

/// A row-major matrix of f32: one embedding a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    data: Vec<f32>,
    rows: usize,
    dim: usize,
}

impl Matrix {
    /// Wraps `data` as `rows` x `dim`.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the length is not `rows * dim`; [`CoreError::NotFinite`] names the
    /// first NaN or infinity.
    pub fn new(data: Vec<f32>, rows: usize, dim: usize) -> Result<Self, CoreError> {
        if Some(data.len()) != rows.checked_mul(dim) {
            return Err(CoreError::Shape {
                what: "embedding matrix",
                expected: (rows, dim),
                found: (data.len().checked_div(dim).unwrap_or(0), dim),
            });
        }
        if let Some(i) = data.iter().position(|x| !x.is_finite()) {
            return Err(CoreError::NotFinite {
                what: "embedding matrix",
                row: i / dim,
                column: i % dim,
                value: data[i],
            });
        }
        Ok(Matrix { data, rows, dim })
    }

    /// Number of embeddings.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// All values, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

impl Rows for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read_part(&self, i: usize, start: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.row(i)[start..start + out.len()]);
    }
}

/// Embeddings by reference: copying one, or selecting rows or columns of it, copies no embedding.
#[derive(Debug, Clone)]
pub struct Embeddings {
    source: Arc<dyn Rows>,
    selected: Option<Arc<[usize]>>,
    columns: Range<usize>,
}

impl Embeddings {
    /// All rows of `source`.
    pub fn new(source: Arc<dyn Rows>) -> Self {
        let columns = 0..source.dim();
        Embeddings { source, selected: None, columns }
    }

    /// The rows named, in that order.
    pub fn select(&self, rows: &[usize]) -> Embeddings {
        let selected = match &self.selected {
            None => rows.into(),
            Some(inner) => rows.iter().map(|&i| inner[i]).collect(),
        };
        Embeddings { selected: Some(selected), ..self.clone() }
    }

    /// A range of columns only, such as one view of several that lie side by side.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when there are no such columns.
    pub fn columns(&self, columns: Range<usize>) -> Result<Embeddings, CoreError> {
        if columns.start >= columns.end || columns.end > self.dim() {
            return Err(CoreError::Shape {
                what: "columns of embeddings",
                expected: (self.rows(), columns.end),
                found: (self.rows(), self.dim()),
            });
        }
        let start = self.columns.start;
        let columns = start + columns.start..start + columns.end;
        Ok(Embeddings { columns, ..self.clone() })
    }

    /// Several ranges of columns side by side.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when there are no such columns.
    pub fn column_ranges(&self, columns: &[Range<usize>]) -> Result<Embeddings, CoreError> {
        if let [only] = columns {
            return self.columns(only.clone());
        }
        for range in columns {
            self.columns(range.clone())?;
        }
        Ok(Embeddings::new(Arc::new(ColumnRanges {
            source: self.clone(),
            columns: columns.to_vec(),
        })))
    }

    /// A copy in memory.
    pub fn to_matrix(&self) -> Matrix {
        let (rows, dim) = (self.rows(), self.dim());
        let mut data = vec![0.0; rows * dim];
        for (i, out) in data.chunks_exact_mut(dim.max(1)).enumerate() {
            self.read(i, out);
        }
        Matrix { data, rows, dim }
    }
}

impl Rows for Embeddings {
    fn rows(&self) -> usize {
        self.selected.as_ref().map_or_else(|| self.source.rows(), |rows| rows.len())
    }

    fn dim(&self) -> usize {
        self.columns.len()
    }

    fn read_part(&self, i: usize, start: usize, out: &mut [f32]) {
        assert!(start + out.len() <= self.columns.len(), "columns of the row");
        let row = self.selected.as_ref().map_or(i, |rows| rows[i]);
        self.source.read_part(row, self.columns.start + start, out);
    }
}

/// Several ranges of columns of a table, side by side.
#[derive(Debug)]
struct ColumnRanges {
    source: Embeddings,
    columns: Vec<Range<usize>>,
}

impl Rows for ColumnRanges {
    fn rows(&self) -> usize {
        self.source.rows()
    }

    fn dim(&self) -> usize {
        self.columns.iter().map(Range::len).sum()
    }

    fn read_part(&self, i: usize, mut start: usize, mut out: &mut [f32]) {
        for range in &self.columns {
            if start >= range.len() {
                start -= range.len();
                continue;
            }
            let (now, rest) = out.split_at_mut(out.len().min(range.len() - start));
            self.source.read_part(i, range.start + start, now);
            (start, out) = (0, rest);
        }
        assert!(out.is_empty(), "columns beyond the table");
    }
}

impl From<Matrix> for Embeddings {
    fn from(matrix: Matrix) -> Self {
        Embeddings::new(Arc::new(matrix))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_the_first_value_that_is_not_finite() {
        let error = Matrix::new(vec![0.0, 1.0, f32::NAN, 2.0], 2, 2).unwrap_err();
        assert!(matches!(error, CoreError::NotFinite { row: 1, column: 0, .. }), "{error}");
    }

    #[test]
    fn columns_of_columns_of_a_selection_are_those_meant() {
        let all: Embeddings = Matrix::new((0..8).map(|i| i as f32).collect(), 2, 4).unwrap().into();
        let some = all.columns(1..4).unwrap().select(&[1]).columns(1..3).unwrap();
        assert_eq!((some.rows(), some.dim()), (1, 2));
        assert_eq!(some.to_matrix().data(), [6.0, 7.0]);
        assert!(some.columns(1..3).is_err() && some.columns(1..1).is_err());
    }

    #[test]
    fn a_selection_of_a_selection_reads_the_rows_meant() {
        let all: Embeddings = Matrix::new((0..8).map(|i| i as f32).collect(), 4, 2).unwrap().into();
        let some = all.select(&[3, 1, 0]).select(&[1, 0]);
        assert_eq!((some.rows(), some.dim()), (2, 2));
        assert_eq!(some.to_matrix().data(), [2.0, 3.0, 6.0, 7.0]);
    }
}
