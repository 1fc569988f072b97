//! The one error type of this crate.

use std::path::PathBuf;
use thiserror::Error;

/// What can go wrong between rewards and figures.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The method itself refused or was interrupted.
    #[error(transparent)]
    Core(#[from] lens_core::CoreError),
    /// A file could not be read or written.
    #[error(transparent)]
    Data(#[from] lens_data::Error),

    // Studies.
    /// The study file is no TOML, or has a key that is not known.
    #[error("{origin}: {detail}")]
    StudySyntax {
        /// The file, or the name of the study.
        origin: String,
        /// What the parser says.
        detail: String,
    },
    /// One key of a study file asks for what cannot be.
    #[error("{origin}: `{key}` {detail}")]
    StudyKey {
        /// The file, or the name of the study.
        origin: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The folder holds another study than the one that is asked for.
    #[error("{} holds another study: {differences}", path.display())]
    OtherStudy {
        /// The folder.
        path: PathBuf,
        /// What it has, and what is asked for.
        differences: String,
    },
    /// The folder holds something that is no study.
    #[error("{} holds other files and no study, so it is left alone", path.display())]
    NotAStudy {
        /// The folder.
        path: PathBuf,
    },
    /// Another process works in the folder.
    #[error("{}: another process is working on this study", path.display())]
    StudyBusy {
        /// The folder.
        path: PathBuf,
    },
    /// The log of a study is damaged elsewhere than at its end.
    #[error("{}: line {line} is damaged: {detail}", path.display())]
    DamagedLog {
        /// The log.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// The embeddings of two encoders are not of the same pairs.
    #[error("the encoders `{first}` and `{second}` do not have the same pairs: {detail}")]
    OtherPairs {
        /// One encoder.
        first: String,
        /// The other.
        second: String,
        /// What differs.
        detail: String,
    },
    /// The table of runs could not be written.
    #[error("{}: cannot write Parquet: {detail}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the encoder says.
        detail: String,
    },
    /// A bug of a runner: it left a cell undone, or did another.
    #[error("a runner is not true to its word: {detail}")]
    Runner {
        /// What it did.
        detail: String,
    },
    /// The user asked to stop.
    #[error("stopped")]
    Cancelled,
}
