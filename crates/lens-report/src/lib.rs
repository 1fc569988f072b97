//! Reports: one document, for people who want to see what a training or a study came to.
//!
//! A [`Report`] is the document: a title, a summary, and sections of paragraphs, tables, charts and
//! examples. It has two renderings:
//!
//! - [`Report::to_html`]: one self-contained page, which needs no network and runs no script;
//! - [`Report::to_markdown`]: Markdown with pipe tables. Charts are in words, with their figures where
//!   these are few.
//!
//! The same report gives the same bytes. Texts are shown as they are, but nothing in them is ever taken as
//! markup. What only one rendering should have is put into [`Block::Only`].
//!
//! ```
//! use lens_report::{Block, Cell, Column, Format, Report, Section, Table, TableRow};
//!
//! let accuracy = Cell::Interval { value: 0.645, low: 0.618, high: 0.671, format: Format::Percent };
//! let table = Table {
//!     caption: "Accuracy on 1,000 pairs".into(),
//!     columns: vec![Column::text("head"), Column::number("accuracy")],
//!     rows: vec![TableRow::plain(vec![Cell::text("a <b> | c"), accuracy])],
//! };
//! let blocks = vec![Block::Table(table)];
//! let section = Section { id: "result".into(), heading: "Result".into(), blocks };
//! let report = Report { title: "Heads".into(), sections: vec![section], ..Report::default() };
//!
//! assert!(report.to_html().contains("a &lt;b&gt; | c"));
//! assert_eq!(
//!     report.to_markdown(),
//!     "# Heads\n\n## Result\n\nAccuracy on 1,000 pairs\n\n\
//!      | head | accuracy |\n|---|---:|\n| a &lt;b&gt; \\| c | 64.5% (61.8% to 67.1%) |\n"
//! );
//! ```
//!
//! [`mod@tsne`] places points on a map in two dimensions, for charts of embeddings; [`text`] writes figures
//! as plain text.

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
pub use html::is_page;
pub use text::shortened;

#[cfg(test)]
mod tests;
