//! Failures while a model is fetched.

use crate::http::HttpError;
use std::path::PathBuf;

/// A file of a repository, with its size where it is known.
pub type Listed = (String, Option<u64>);

/// Why a model could not be fetched. No variant holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The network did not work, also after several tries.
    #[error("cannot fetch {what}: {source}")]
    Network {
        /// The file or listing, in words.
        what: String,
        /// The last failure.
        source: HttpError,
    },
    /// The server wants a token, or a licence accepted.
    #[error(
        "no access to {what} (HTTP {status}: {message}): set HF_TOKEN to a token that may read it, \
         and accept its licence at {page} if it has one"
    )]
    Denied {
        /// The file or listing, in words.
        what: String,
        /// 401 or 403.
        status: u16,
        /// The server's words.
        message: String,
        /// Where a person can accept a licence.
        page: String,
    },
    /// There is nothing of that name.
    #[error("there is no {what}: {message}")]
    NotFound {
        /// The file or listing, in words.
        what: String,
        /// The server's words.
        message: String,
    },
    /// The server refused, also after several tries.
    #[error("cannot fetch {what}: HTTP {status}: {message}")]
    Status {
        /// The file or listing, in words.
        what: String,
        /// The status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The answer is not what the Hub answers.
    #[error("cannot fetch {what}: the answer is not understood: {detail}")]
    Garbage {
        /// The file or listing, in words.
        what: String,
        /// The problem.
        detail: String,
    },
    /// Nothing may be fetched (HF_HUB_OFFLINE), and it is not here.
    #[error("{what} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it")]
    Offline {
        /// The file or listing, in words.
        what: String,
    },
    /// Weights only in formats that can run code.
    #[error(
        "{repo} has its weights only as {}, a format that can run code on loading; only safetensors \
         and GGUF are read. Ask for another revision or a converted repository", files.join(", ")
    )]
    OnlyPickle {
        /// The repository.
        repo: String,
        /// Its weight files.
        files: Vec<String>,
    },
    /// Several GGUF files, of which one is to be named.
    #[error("{repo} holds GGUF files, of which one is to be named:{}", listed(repo, files))]
    OnlyGguf {
        /// The repository.
        repo: String,
        /// Its GGUF files.
        files: Vec<Listed>,
    },
    /// A repository without a file that a model needs.
    #[error("{repo} has no {missing}; it is not a model that can be used here")]
    Incomplete {
        /// The repository.
        repo: String,
        /// The file.
        missing: String,
    },
    /// A dataset in several parts, of which one is to be named, or without the one that was named.
    #[error("{repo} has {there}: name one, as in {example}")]
    NamePart {
        /// The repository.
        repo: String,
        /// The parts, in words.
        there: String,
        /// A name that would do.
        example: String,
    },
    /// A dataset without a file that is read.
    #[error("{repo} holds no data file that is read (Parquet, Arrow, JSON, CSV)")]
    NoData {
        /// The repository.
        repo: String,
    },
    /// A file name that leads out of the model's folder.
    #[error("{repo} names a file '{name}', which leads out of its folder; nothing was fetched")]
    UnsafeName {
        /// The repository.
        repo: String,
        /// The name.
        name: String,
    },
    /// More arrives than was announced, or than such a file can have.
    #[error("{what} is longer than the {limit} bytes it should have; what arrived was removed")]
    TooLong {
        /// The file or listing, in words.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The cache folder does not take it.
    #[error("cannot write {}: {source}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

fn listed(repo: &str, files: &[Listed]) -> String {
    let line = |(file, size): &Listed| {
        let size = size.map_or_else(String::new, |s| format!("  ({} MB)", s.div_ceil(1_000_000)));
        format!("\n  {repo}/{file}{size}")
    };
    files.iter().map(line).collect()
}
