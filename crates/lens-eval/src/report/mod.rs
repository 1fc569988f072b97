//! The report: one self-contained HTML page, for people who want to see what a training came to.
//!
//! A [`Report`] says what the page holds; [`Report::to_html`] draws it. The page needs no network,
//! runs no script, and is the same to the byte for the same report. Texts are shown as they are, but
//! nothing in them is ever markup.

mod axes;
mod charts;
mod document;
mod escape;
mod html;
mod pca;
pub mod tsne;

pub use document::{
    Axis, Block, Calibration, CalibrationBin, Cell, Chart, ChartKind, Column, Example, Format,
    Headline, Histogram, LinePoint, Lines, PointClass, Report, Scale, Scatter, Section, Series,
    Shape, Table, TableRow, Trend,
};
pub use escape::shortened;

#[cfg(test)]
mod tests;
