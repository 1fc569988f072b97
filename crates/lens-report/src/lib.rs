//! Reports: one document, for people who want to see what a training or a study came to.
//!
//! A [`Report`] is the document: a title, a summary, and sections of paragraphs, tables, charts and
//! examples. [`Report::to_html`] renders it as one self-contained page, which needs no network and runs
//! no script. The same report gives the same bytes. Texts are shown as they are, but nothing in them is
//! ever taken as markup.
//!
//! [`tsne`] places points on a map in two dimensions, for charts of embeddings.

mod axes;
mod charts;
mod document;
pub mod error;
mod escape;
mod html;
mod markdown;
mod pca;
pub mod text;
pub mod tsne;

pub use document::{
    Axis, Block, Calibration, CalibrationBin, Cell, Chart, ChartKind, Column, Example, Format,
    Headline, Histogram, LinePoint, Lines, PointClass, Rendering, Report, Scale, Scatter, Section,
    Series, Shape, Table, TableRow, Trend,
};
pub use error::ReportError;
pub use text::shortened;

#[cfg(test)]
mod tests;
