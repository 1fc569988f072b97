//! Failures of an embedding server.

use crate::http::HttpError;

/// Why an embedding server gave no vectors. No variant holds the key; addresses are without user and
/// query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The network did not work, also after several tries.
    #[error("embedding server: {0}")]
    Network(#[from] HttpError),
    /// The server wants a key, or another one.
    #[error("embedding server {url} wants a key, or another one (HTTP {status}: {message})")]
    Unauthorised {
        /// Its address.
        url: String,
        /// 401 or 403.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server refused, also after several tries where that could help.
    #[error("embedding server {url}: HTTP {status}: {message}")]
    Refused {
        /// Its address.
        url: String,
        /// The status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server refused one text.
    #[error("embedding server {url} refuses text {index}: HTTP {status}: {message}")]
    RefusedText {
        /// Its address.
        url: String,
        /// Position in the caller's slice.
        index: usize,
        /// The status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// A text is longer than the served model takes. Nothing is shortened silently.
    #[error("text {index} is too long for the model at {url}: {message}")]
    TooLong {
        /// Its address.
        url: String,
        /// Position in the caller's slice.
        index: usize,
        /// The server's words.
        message: String,
    },
    /// The answer is not what such servers answer.
    #[error("embedding server {url}: the answer is not understood: {detail}")]
    Garbage {
        /// Its address.
        url: String,
        /// The problem.
        detail: String,
    },
    /// As many vectors as texts were asked for; others came.
    #[error(
        "embedding server {url} answered {found} vectors to {expected} texts, from text {index} on"
    )]
    Count {
        /// Its address.
        url: String,
        /// Position of the first of these texts in the caller's slice.
        index: usize,
        /// Texts sent.
        expected: usize,
        /// Vectors that came.
        found: usize,
    },
    /// A vector of another width than the others.
    #[error(
        "embedding server {url} answered a vector of width {found} to text {index}, not {expected}"
    )]
    Width {
        /// Its address.
        url: String,
        /// Position in the caller's slice.
        index: usize,
        /// The width of the others.
        expected: usize,
        /// Its width.
        found: usize,
    },
    /// The server offers several models, or not the one that was named.
    #[error("name one of the models of {url} (--model): {}", offered.join(", "))]
    Model {
        /// Its address.
        url: String,
        /// The models it offers; none, if it does not say.
        offered: Vec<String>,
    },
    /// This kind of server cannot do the thing that was asked for.
    #[error("embedding server {url}: {detail}")]
    Unsupported {
        /// Its address.
        url: String,
        /// The thing that it cannot do, and what to do instead.
        detail: String,
    },
    /// Views were asked for, but the server decides which hidden state a vector is.
    #[error(
        "embedding server {url} decides itself which hidden state a vector is: views are for models in this process"
    )]
    Views {
        /// Its address.
        url: String,
    },
    /// The server normalises, and that was not allowed.
    #[error("embedding server {url} normalises its vectors: {advice}")]
    Normalised {
        /// Its address.
        url: String,
        /// How to switch it off.
        advice: String,
    },
}
