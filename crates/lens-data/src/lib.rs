//! Preference datasets in and out, arrays of embeddings, and outputs that appear whole.
//!
//! A dataset goes through three steps. [`read_pairs`] reads JSON, CSV, TSV, Parquet and Arrow, one
//! file or several, in the shapes that people have, and lists every row it could not read. [`vet()`] leaves
//! out what cannot be trained on, and says what and why, line by line. [`Vetted::fingerprint`]
//! names the pairs that remain.
//!
//! ```
//! use lens_data::{ReadOptions, Reason, read_pairs, vet, write_atomic};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("pairs.jsonl");
//! write_atomic(&path, br#"
//! {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
//! {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
//! {"prompt": "3 + 3?", "chosen": "6"}
//! "#)?;
//! let vetted = vet(read_pairs(&path, &ReadOptions::default())?);
//! assert_eq!(vetted.used.len(), 1);
//! assert_eq!(vetted.report.left_out[&Reason::Duplicate][0].detail, "as line 2");
//! assert_eq!(vetted.report.left_out[&Reason::Malformed][0].line, 4);
//! assert_eq!(vetted.fingerprint().len(), 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`read_exchanges`] reads rows to be scored or embedded, [`ArrayFile`] ready-made embeddings, and
//! [`AtomicFile`] and [`AtomicDir`] write files and folders that are never seen half done. A
//! [`CurveLog`] is the other way round: curves that are read while they grow.

pub mod arrays;
pub mod atomic;
pub mod bundle;
pub mod curves;
pub mod dataset;
pub mod encoder;
pub mod error;
pub mod files;
pub mod labels;
pub mod memory;
pub mod panics;
mod positional;
pub mod prompts;
pub mod store;
pub mod table;
pub mod trained;
pub mod transcript;
pub mod turns;
pub mod vet;

use std::path::{Path, PathBuf};

pub use arrays::{
    Array2, ArrayFile, ArrayWriter, FloatType, StoredRows, Tensor, write_safetensors, write_tensors,
};
pub use atomic::{AtomicDir, AtomicFile, Existing, write_atomic, write_atomic_with};
pub use bundle::Bundle;
pub use curves::CurveLog;
pub use dataset::{
    BestOfN, Candidates, ColumnNames, ColumnUse, Compression, DataSource, Dataset, Fingerprint,
    Format, JudgedRow, JudgedSet, Layout, MalformedRows, Place, PromptSet, RankedRow, ReadOptions,
    Row, ScoreRow, ScoreSet, ScoredRow, Shape, WholeRow, fingerprint, fingerprint_arrays,
    fingerprint_rows, group_by_prompt, read_exchanges, read_exchanges_with, read_judged_with,
    read_pairs, read_pairs_with, read_prompts_with, read_whole_rows_with, visit_exchanges,
};
pub use encoder::{EncoderIdentity, EncoderRecord, ServerRecord, TemplateChoice, View, ViewChoice};
pub use error::{Error, MalformedRow};
pub use labels::LabelCounts;
pub use positional::read_exact_at;
pub use prompts::{content_key, prompt_key, prompt_numbers};
pub use store::{EmbeddingsFile, PromptColumn, StoreKeys, StoredPairs, StoredTable, StoredViews};
pub use table::{Table, TableFormat, TableRow};
pub use trained::{KeyKind, Trained, embeddings_key};
pub use vet::{LeftOut, Reason, Survey, VetReport, Vetted, shared_prompts, survey, vet};

/// The name of a file without its folder.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The names of files without their folders: `chosen.npy, rejected.npy`.
pub fn file_names(files: &[PathBuf]) -> String {
    files.iter().map(|path| file_name(path)).collect::<Vec<_>>().join(", ")
}
