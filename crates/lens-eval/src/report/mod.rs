//! The report: one self-contained HTML page.

mod pca;
pub mod tsne;
