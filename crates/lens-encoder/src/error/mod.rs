//! The error type of this crate: everything that can fail between a text and its hidden state.

mod fetch;
mod server;

use std::path::PathBuf;

pub use fetch::{FetchError, Listed};
pub use server::ServerError;

/// Shorthand for results of this crate.
pub type Result<T, E = EncoderError> = std::result::Result<T, E>;

/// Every failure of this crate, with the data a caller needs to tell the user what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A file could not be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The model file contradicts itself or ends too early.
    #[error("{path} is not a usable model file: {detail}")]
    CorruptModel {
        /// The model file.
        path: PathBuf,
        /// The contradiction.
        detail: String,
    },
    /// A model of a kind whose forward pass is not built in.
    #[error("{path} holds a model of architecture '{found}'; supported: {}", supported.join(", "))]
    UnknownArchitecture {
        /// The model file.
        path: PathBuf,
        /// The architecture it names.
        found: String,
        /// The architectures that work.
        supported: &'static [&'static str],
    },
    /// A metadata entry that the architecture needs is absent or of a wrong kind.
    #[error("{path}: metadata '{key}' {detail}")]
    Metadata {
        /// The model file.
        path: PathBuf,
        /// The entry.
        key: String,
        /// The problem.
        detail: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("{path}: tensor '{name}' is missing")]
    MissingTensor {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the metadata promises.
    #[error("{path}: tensor '{name}' has shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Shape by the metadata, slowest dimension first.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a format that cannot be decoded.
    #[error("{path}: tensor '{name}' is stored as {found}, which is not supported")]
    TensorType {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The format.
        found: String,
    },
    /// A model that this machine has no room for, refused before anything was loaded.
    #[error(
        "the model needs {} for weights and {} to compute, of {} available; {advice}",
        gigabytes(*weights), gigabytes(*workspace), gigabytes(*available)
    )]
    TooLarge {
        /// Bytes of the weights in the chosen form.
        weights: u64,
        /// Bytes of the buffers of one batch.
        workspace: u64,
        /// Bytes that are free.
        available: u64,
        /// The setting that helps.
        advice: String,
    },
    /// Shards that the index of a model names, or parts of a split one, that are not there.
    #[error("{path}: {} of the model's weight files are missing: {}", missing.len(), missing.join(", "))]
    MissingShards {
        /// The model's folder.
        path: PathBuf,
        /// Their names.
        missing: Vec<String>,
    },
    /// A folder with several models, of which one has to be named.
    #[error("{path} holds several models; name one of them: {}", models.join(", "))]
    SeveralModels {
        /// The folder.
        path: PathBuf,
        /// Their files, of split ones the first.
        models: Vec<String>,
    },
    /// The tokenizer in the model file cannot be built, or failed on a text.
    #[error("tokenizer: {detail}")]
    Tokenizer {
        /// The step that failed, and why.
        detail: String,
    },
    /// A file of the tokenizer in a model folder is missing or cannot be used.
    #[error("tokenizer file {path} {detail}")]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// The problem.
        detail: String,
    },
    /// The tokenizer has tokens for which the model has no embedding.
    #[error(
        "{path} is the tokenizer of another model: it has token ids up to {highest}, the model \
         embeds only {rows} tokens"
    )]
    ForeignTokenizer {
        /// The file of the tokenizer.
        path: PathBuf,
        /// Its highest token id.
        highest: u32,
        /// Rows of the model's embedding table.
        rows: usize,
    },
    /// A chat template was asked for, but the model brings none.
    #[error("{path} has no chat template; use the plain template or pass one")]
    NoChatTemplate {
        /// The model file.
        path: PathBuf,
    },
    /// A template does not parse, or refuses the messages.
    #[error("template '{name}': {detail}")]
    Template {
        /// Which template.
        name: String,
        /// The engine's message.
        detail: String,
    },
    /// A template takes more than rendering may.
    #[error("template '{name}': {detail}")]
    TemplateLimit {
        /// Which template.
        name: String,
        /// The limit.
        detail: String,
    },
    /// There is no process to render a template in.
    #[error("no process for template '{name}': {source}")]
    TemplateProcess {
        /// Which template.
        name: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The template refuses a text.
    #[error("text {index}: template '{name}' refuses it: {detail}")]
    Refused {
        /// Position in the caller's slice.
        index: usize,
        /// Which template.
        name: String,
        /// Its own words, or the engine's message.
        detail: String,
    },
    /// Texts that went through the chat template already, and would be wrapped a second time.
    #[error(
        "{} texts went through a chat template already (the first is text {}); give them as \
         messages, or parse special tokens with the plain template",
        indices.len(), indices.first().copied().unwrap_or_default()
    )]
    AlreadyRendered {
        /// Positions in the caller's slice, in ascending order.
        indices: Vec<usize>,
    },
    /// A text has a token that the tokenizer knows and the model does not.
    #[error(
        "text {index} has the token {token:?} (id {id}), of which the model has no embedding: it \
         embeds {rows} tokens"
    )]
    NotEmbedded {
        /// Position in the caller's slice.
        index: usize,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the model's embedding table.
        rows: usize,
    },
    /// An option has a value that cannot work.
    #[error("option {option}: {detail}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// Why its value cannot work.
        detail: String,
    },
    /// The asked layer does not exist.
    #[error("layer {layer} is out of range: the model has hidden states 0 to {last} (or -{} to -1)", last + 1)]
    LayerOutOfRange {
        /// The asked index.
        layer: i32,
        /// Index of the last hidden state.
        last: usize,
    },
    /// A text that yields no token at all.
    #[error("text {index} is empty: it yields no tokens")]
    EmptyText {
        /// Position in the caller's slice.
        index: usize,
    },
    /// Text was asked of a model that only reads.
    #[error("{path} holds a model of architecture '{architecture}', which generates no text")]
    NotGenerative {
        /// The model.
        path: PathBuf,
        /// Its architecture.
        architecture: String,
    },
    /// A reward model with several labels, none of which was named.
    #[error(
        "{path} scores {} labels; name the one that is the reward: {}", labels.len(), labels.join(", ")
    )]
    SeveralLabels {
        /// The model.
        path: PathBuf,
        /// Their names, in the order of their numbers from 0.
        labels: Vec<String>,
    },
    /// A label that the reward model does not score.
    #[error("{path} has no label '{asked}'; it scores {}", labels.join(", "))]
    UnknownLabel {
        /// The model.
        path: PathBuf,
        /// The label that was asked for.
        asked: String,
        /// Those that there are.
        labels: Vec<String>,
    },
    /// A reward model whose reward is no linear function of the last token's state.
    #[error("{path} cannot be used as a reward model: {detail}")]
    NotLinear {
        /// The model.
        path: PathBuf,
        /// What stands between the state and the reward.
        detail: String,
    },
    /// A model that was to give rewards, and has no score head.
    #[error(
        "{path} is no reward model: it has no score head (a *ForSequenceClassification checkpoint has a \
         tensor score.weight, a GGUF file cls.output.weight)"
    )]
    NoScoreHead {
        /// The model.
        path: PathBuf,
    },
    /// A view at the prompt's end, of a text whose prompt has no tokens.
    #[error("the prompt of text {index} yields no tokens, so that there is no state at its end")]
    NoPrompt {
        /// Position in the caller's slice.
        index: usize,
    },
    /// A hidden state holds NaN or infinity.
    #[error("the hidden state of text {index} is not finite")]
    NonFinite {
        /// Position in the caller's slice.
        index: usize,
    },
    /// The cache could not be read or written.
    #[error("cache file {path}: {source}")]
    Cache {
        /// The file of the cache.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A failure of the tensor library while weights were decoded.
    #[error("cannot decode tensor '{name}': {detail}")]
    Decode {
        /// The tensor.
        name: String,
        /// The library's message.
        detail: String,
    },
    /// Neither a file nor a model known by name.
    #[error(
        "no model file or folder '{name}', and no name of one; a name is one of {}, or org/name of \
         the Hugging Face Hub, org/name/file.gguf of a repository there, or https://../file.gguf",
        known.join(", ")
    )]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The names that can be fetched.
        known: Vec<&'static str>,
    },
    /// A model could not be fetched.
    #[error("cannot fetch model '{model}': {detail}")]
    Pull {
        /// Its name.
        model: String,
        /// The step that failed, and why.
        detail: String,
    },
    /// A model could not be fetched from the Hub or an address.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An embedding server gave no vectors.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A model that transformers cannot hold exactly.
    #[error("the model cannot be exported: {detail}")]
    NotExportable {
        /// What stands in the way.
        detail: String,
    },
    /// A file of an exported model could not be written.
    #[error(transparent)]
    Output(Box<lens_data::Error>),
    /// The fetched file is not the model.
    #[error("model '{model}' arrived damaged: SHA-256 {found}, expected {expected}")]
    Checksum {
        /// Its name.
        model: String,
        /// The hash of the true file.
        expected: String,
        /// The hash of what arrived.
        found: String,
    },
    /// The caller's progress asked to stop; what was done is in the cache.
    #[error("cancelled")]
    Cancelled,
}

impl From<lens_data::Error> for EncoderError {
    fn from(error: lens_data::Error) -> Self {
        Self::Output(Box::new(error))
    }
}

impl EncoderError {
    /// The same about the text at `index`, where it is about a text.
    pub(crate) fn at(self, index: usize) -> Self {
        match self {
            Self::Template { name, detail } | Self::TemplateLimit { name, detail } => {
                Self::Refused { index, name, detail }
            }
            Self::NotEmbedded { token, id, rows, .. } => {
                Self::NotEmbedded { index, token, id, rows }
            }
            other => other,
        }
    }
}

/// `1.1 GB`
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
