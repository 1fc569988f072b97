//! Studies: methods compared over a grid of settings on several splits of one pool of pairs, with
//! the same head and the same folds, and what can be said of their differences.
//!
//! - [`mod@file`]: the study file as its user writes it; [`ready`] the ready-made ones; [`rivals`] the
//!   methods that have names.
//! - [`plan`]: every cell of the study, each with the complete settings that decide its result.
//! - [`engine`]: runs the cells, group by group, in parallel; [`runner`] is how one group is trained.
//! - [`store`]: the folder of a study, in which nothing finished is ever done again.
//! - [`mod@analyse`]: means, paired differences, intervals and p-values; [`efficiency`] what a label is
//!   worth; [`statistics`] the formulae.
//! - [`summary`]: the result as data (`summary.json`). As a document ([`Summary::document`]) it is rendered
//!   as Markdown (`summary.md`) and as a page (`report.html`).

pub mod analyse;
mod charts;
pub mod efficiency;
pub mod engine;
pub mod file;
mod page;
mod parquet_file;
pub mod plan;
pub mod ready;
pub mod rivals;
pub mod runner;
pub mod statistics;
pub mod store;
pub mod summary;
mod tables;

pub use analyse::analyse;
pub use engine::{Group, Run, Runner, Seconds, run};
pub use file::{EncoderChoice, StudyFile};
pub use plan::{Arm, Cell, Plan};
pub use runner::MethodRunner;
pub use store::{Identity, Store};
pub use summary::Summary;
