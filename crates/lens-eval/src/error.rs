//! The one error type of this crate.

use crate::figures::Benchmark;
use std::path::PathBuf;
use thiserror::Error;

/// Errors of figures, studies and tuning.
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
        /// The message of the parser.
        detail: String,
    },
    /// The value of a key of a study file is not possible.
    #[error("{origin}: `{key}` {detail}")]
    StudyKey {
        /// The file, or the name of the study.
        origin: String,
        /// The key.
        key: String,
        /// The fault.
        detail: String,
    },
    /// The folder holds another study than the one that is asked for.
    #[error("{} holds another study: {differences}", path.display())]
    OtherStudy {
        /// The folder.
        path: PathBuf,
        /// The keys that differ, with both values.
        differences: String,
    },
    /// The folder holds other files, and no study.
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
        /// The fault.
        detail: String,
    },
    /// The embeddings of two encoders are not of the same pairs.
    #[error("the encoders `{first}` and `{second}` do not have the same pairs: {detail}")]
    OtherPairs {
        /// One encoder.
        first: String,
        /// The other.
        second: String,
        /// The difference.
        detail: String,
    },
    /// The table of runs could not be written.
    #[error("{}: cannot write Parquet: {detail}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The message of the Parquet writer.
        detail: String,
    },
    /// A bug of a runner: it left out a cell, or reported one that it was not given.
    #[error("the runner of a study is faulty: {detail}")]
    Runner {
        /// The fault.
        detail: String,
    },
    /// The user asked to stop.
    #[error("stopped")]
    Cancelled,
    // Figures of evaluation.
    /// The file has nothing to evaluate on.
    #[error("{}: there is no {what}", file.display())]
    NoRows {
        /// The file.
        file: PathBuf,
        /// The rows that are needed.
        what: &'static str,
    },
    /// A row that is none of the benchmark's.
    #[error(
        "{}:{line}: {} {expected}, found {found}",
        file.display(),
        needs(*benchmark, *given)
    )]
    WrongRow {
        /// The file.
        file: PathBuf,
        /// The first such line.
        line: u64,
        /// The benchmark.
        benchmark: Benchmark,
        /// The content that its rows have.
        expected: &'static str,
        /// The content of this row.
        found: &'static str,
        /// Whether the user named the benchmark; else it was recognised by the first row.
        given: bool,
    },
    /// A subset that no row is of.
    #[error("{}: no row is of the subset `{asked}`; {}", file.display(), there(present))]
    UnknownSubset {
        /// The file.
        file: PathBuf,
        /// The subset that was named.
        asked: String,
        /// The subsets that there are.
        present: Vec<String>,
    },
    /// A row of RewardBench 2's Ties without a number of its own.
    #[error("{}:{line}: `id`: expected {expected} in the subset Ties, found {found}", file.display())]
    TiesId {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
        /// The value that was found.
        found: String,
        /// The expected value.
        expected: &'static str,
    },
    /// A row of best-of-n without a score for every response.
    #[error("{0} (best-of-n needs the score of every response: without one, another is the best)")]
    MissingScore(Box<lens_data::MalformedRow>),
    /// A prompt with a single response, which nothing can be chosen from.
    #[error(
        "{}:{line}: one response to this prompt: best-of-n needs at least two to each ({prompts} \
         prompts have one only)",
        file.display()
    )]
    OneResponse {
        /// The file.
        file: PathBuf,
        /// The line of the first.
        line: u64,
        /// How many prompts are like this.
        prompts: usize,
    },
    /// A prompt with fewer responses than are to be chosen from.
    #[error("{}:{line}: {found} responses to this prompt, but n = {asked} was asked for", file.display())]
    TooFewResponses {
        /// The file.
        file: PathBuf,
        /// The line of the prompt with the fewest.
        line: u64,
        /// How many it has.
        found: usize,
        /// n.
        asked: usize,
    },
    /// Best-of-n where all responses are as good.
    #[error(
        "{}:{line}: the responses to every prompt ({prompts}) have the same score: no choice is better \
         than another",
        file.display()
    )]
    NothingToChoose {
        /// The file.
        file: PathBuf,
        /// The first line.
        line: u64,
        /// How many prompts there are.
        prompts: usize,
    },
    /// A reward or a score that is not a finite number.
    #[error("{}:{line}: a reward or a score is not a finite number", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
    },
    /// Not one value for each pair.
    #[error("expected {expected} values, one for each, found {found}")]
    Lengths {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

fn needs(benchmark: Benchmark, given: bool) -> String {
    match given {
        true => format!("{benchmark} needs"),
        false => format!("the file begins as {benchmark}, so a row needs"),
    }
}

fn there(present: &[String]) -> String {
    match present {
        [] => "the rows have no subsets".to_owned(),
        present => format!("there are {}", present.join(", ")),
    }
}
