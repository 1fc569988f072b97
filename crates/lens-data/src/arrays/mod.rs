//! Two-dimensional float arrays, in memory or row by row, and the numbers beside them, out of
//! `.safetensors` and `.npy`; out to `.safetensors`.
//!
//! Array files come from elsewhere and may be damaged or tampered with: a header is held against
//! the length of the file before anything is allocated.

mod element;
mod file;
mod npy;
mod rows;
mod stream;
#[cfg(test)]
mod tests;
mod write;

pub use file::ArrayFile;
pub use rows::StoredRows;
pub use stream::ArrayWriter;
pub use write::{FloatType, Tensor, write_safetensors, write_tensors};

use crate::error::Error;

/// The longest header of a safetensors file that is read.
pub const MAX_SAFETENSORS_HEADER_BYTES: usize = 16 << 20;

/// The longest header of an `.npy` file that is read. NumPy itself stops at 10,000 bytes.
pub const MAX_NPY_HEADER_BYTES: usize = 1 << 16;

/// Rows of float32 values, one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Array2 {
    /// The number of rows.
    pub rows: usize,
    /// The number of columns: for embeddings, the dimension.
    pub dim: usize,
    /// `rows * dim` values, row by row.
    pub data: Vec<f32>,
}

impl Array2 {
    /// An array over `data`, which must hold `rows * dim` values.
    pub fn new(rows: usize, dim: usize, data: Vec<f32>) -> Result<Array2, Error> {
        if rows.checked_mul(dim) != Some(data.len()) {
            return Err(Error::WrongLength { rows, dim, found: data.len() });
        }
        Ok(Array2 { rows, dim, data })
    }

    /// One row, or none beyond the last.
    pub fn row(&self, row: usize) -> Option<&[f32]> {
        if row >= self.rows {
            return None;
        }
        let start = row.checked_mul(self.dim)?;
        self.data.get(start..start.checked_add(self.dim)?)
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.dim]
    }

    /// An error with both shapes unless `other` has the same. The names are for the error.
    pub fn require_same_shape(
        &self,
        name: &str,
        other: &Array2,
        other_name: &str,
    ) -> Result<(), Error> {
        require_same_shape((name, self.shape()), (other_name, other.shape()))
    }
}

fn require_same_shape(left: (&str, [usize; 2]), right: (&str, [usize; 2])) -> Result<(), Error> {
    if left.1 == right.1 {
        return Ok(());
    }
    Err(Error::ShapeMismatch {
        left: left.0.to_owned(),
        left_shape: left.1,
        right: right.0.to_owned(),
        right_shape: right.1,
    })
}
