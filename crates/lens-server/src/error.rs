//! Why a server does not start, or does not end well.

use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// An error of a [`crate::ModelSource`].
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Every failure of this crate before and after requests; those of a request are
/// answered to its client.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Others can reach the address, and there is no token.
    #[error("{bind} can be reached from other machines, and no token is set")]
    Open {
        /// The address.
        bind: SocketAddr,
    },
    /// An option that cannot work.
    #[error("{option}: {detail}")]
    Option {
        /// Its name, as a flag has it.
        option: &'static str,
        /// Why not.
        detail: String,
    },
    /// A reward model or its encoder could not be opened.
    #[error("{0}")]
    Model(BoxedError),
    /// The pairs for "nearest" could not be read or embedded.
    #[error("{}: {detail}", path.display())]
    Pairs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file of the TLS certificate cannot be used.
    #[error("{}: {detail}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {bind}: {source}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// The system's report.
        source: std::io::Error,
    },
    /// The system lets this process open too few files.
    #[error(
        "a server needs at least {needed} further open files, and the system allows {limit} in all \
         (ulimit -n): {source}"
    )]
    Files {
        /// How many are needed.
        needed: usize,
        /// The limit of this process.
        limit: u64,
        /// The system's report.
        source: std::io::Error,
    },
    /// The threads that answer could not be started.
    #[error("cannot start the server: {source}")]
    Start {
        /// The system's report.
        #[from]
        source: std::io::Error,
    },
    /// The server stopped before everything was answered.
    #[error("{left} requests were not answered within the {seconds} s that --drain-timeout gives")]
    NotDrained {
        /// Requests under way.
        left: usize,
        /// The time given.
        seconds: u64,
    },
    /// The drain was cut short.
    #[error("stopped before {left} requests were answered")]
    CutShort {
        /// Requests that were under way.
        left: usize,
    },
    /// The shutdown came before the server listened.
    #[error("stopped")]
    Stopped,
}
