//! The error type of this crate. Rendering never fails; only the map of points can.

use thiserror::Error;

/// Why points could not be mapped.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum ReportError {
    /// The values are not a whole number of rows.
    #[error("points to map: {values} values are no whole number of rows of width {width}")]
    Shape {
        /// Number of values.
        values: usize,
        /// Width of a row, that is the number of dimensions.
        width: usize,
    },
    /// A coordinate is NaN or infinite.
    #[error("points to map: row {row} (0-based), column {column} is {value}, not a finite number")]
    NotFinite {
        /// The row, counted from 0.
        row: usize,
        /// The column, counted from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}
