//! Why a job failed: the libraries' own errors, and what only a whole job can get wrong.

use lens_core::CoreError;
use lens_encoder::EncoderError;
use lens_eval::EvalError;
use lens_report::ReportError;
use std::path::PathBuf;

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Datasets, arrays, bundles, outputs.
    #[error(transparent)]
    Data(#[from] lens_data::Error),
    /// Models and hidden states.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The method.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Figures and studies.
    #[error(transparent)]
    Eval(EvalError),
    /// The report's charts.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// An option of a job that is out of its range, or does not go with another.
    #[error("{option}: {detail}")]
    Option {
        /// The option, as the settings file names it; or the file it comes from.
        option: String,
        /// What does not fit.
        detail: String,
    },
    /// The bundle was trained with another encoder than the one at hand.
    #[error("{} was trained with another encoder: {differences}", bundle.display())]
    EncoderMismatch {
        /// The bundle.
        bundle: PathBuf,
        /// Field by field: what the bundle has, what the encoder has.
        differences: String,
    },
    /// A reward is no number: the reward model's weights, or the embedding, are far beyond any that
    /// training gives.
    #[error(
        "the reward of text {text} is {reward}: the reward model is damaged, or not made for it"
    )]
    RewardNotFinite {
        /// Which text it is, counted from 1, in the order in which they were given.
        text: usize,
        /// NaN or an infinity.
        reward: f32,
    },
    /// The bundle was trained with an embedding server, and none is named.
    #[error(
        "{} was trained with the embedding server of {model}{}; nothing was sent: name it, or another that \
         serves this model",
        bundle.display(),
        recorded.as_ref().map_or_else(String::new, |url| format!(", and names {url} for it"))
    )]
    ServerNotNamed {
        /// The bundle.
        bundle: PathBuf,
        /// The model's name at the server.
        model: String,
        /// The address that the bundle names. It is no more than what its author wrote.
        recorded: Option<String>,
    },
    /// What a reward model is exported to cannot hold it exactly.
    #[error("this reward model cannot be exported to {target}: {reason}; nearest is {nearest}")]
    NotExportable {
        /// The target.
        target: &'static str,
        /// What it cannot hold.
        reason: String,
        /// What comes nearest.
        nearest: &'static str,
    },
    /// An exported reward model, read back, gives other rewards.
    #[error(
        "the exported model gives other rewards, by up to {difference:.4} where their standard deviation \
         is {deviation:.4}; nothing was written"
    )]
    ExportDiffers {
        /// The largest difference.
        difference: f64,
        /// The standard deviation of rewards in training.
        deviation: f64,
    },
    /// A text becomes other tokens with the exported tokenizer and template.
    #[error(
        "the exported tokenizer and template make {theirs} tokens of the text {text:?}, the encoder {ours}, \
         or others; nothing was written"
    )]
    ExportTokens {
        /// The beginning of the text.
        text: String,
        /// How many tokens the encoder makes of it.
        ours: usize,
        /// How many the exported tokenizer makes of it.
        theirs: usize,
    },
    /// The embeddings come from another encoder than the bundle's.
    #[error(
        "{} holds embeddings of another encoder than the reward model's: {differences}",
        path.display()
    )]
    ArraysMismatch {
        /// The embeddings.
        path: PathBuf,
        /// Field by field: what the bundle has, what the file has.
        differences: String,
    },
    /// A file holds rows of text where embeddings are expected.
    #[error(
        "{}: holds {} as text; here embeddings of them are expected", path.display(),
        if *pairs { "preference pairs" } else { "rows" }
    )]
    TextNotEmbeddings {
        /// The file.
        path: PathBuf,
        /// Whether its first row is a preference pair.
        pairs: bool,
    },
    /// The bundle cannot be trained further on these pairs.
    #[error("{} cannot be trained further: {reason}", bundle.display())]
    NoWarmStart {
        /// The bundle.
        bundle: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Training needs pairs on several prompts, of which holding out takes some.
    #[error(
        "{}: {pairs} usable pair{} on {prompts} prompt{}{heldout}; training needs at least 2 \
         different prompts (left out: {left_out})",
        path.display(), plural(*pairs), plural(*prompts)
    )]
    TooFewPrompts {
        /// The file.
        path: PathBuf,
        /// Pairs that could be trained on.
        pairs: usize,
        /// Distinct prompts of these.
        prompts: usize,
        /// How many pairs were held out of them, as a part of the sentence; may be empty.
        heldout: String,
        /// Counts by reason.
        left_out: String,
    },
    /// Every pair of a file was left out of training.
    #[error("{}: no pair is left to train on ({left_out})", path.display())]
    NothingToTrainOn {
        /// The file.
        path: PathBuf,
        /// Counts by reason.
        left_out: String,
    },
    /// Every pair of a file was left out of evaluation.
    #[error("{}: no pair is left to evaluate on (left out: {left_out})", path.display())]
    NothingToEvaluate {
        /// The file.
        path: PathBuf,
        /// Counts by reason.
        left_out: String,
    },
    /// Rows whose texts went through a chat template before they came here.
    #[error(
        "{rows} row{} went through a chat template already ({places}): control tokens would be \
         spelt in letters, or turns wrapped a second time; {advice}",
        plural(*rows)
    )]
    AlreadyRendered {
        /// How many rows.
        rows: usize,
        /// The first of them by file and line, in words.
        places: String,
        /// How to read them, in words.
        advice: &'static str,
    },
    /// Two things that do not go together, in words.
    #[error("{0}")]
    Refused(String),
    /// The caller's [`Progress`](crate::Progress) asked to stop.
    #[error("stopped")]
    Cancelled,
}

impl From<EvalError> for Error {
    /// An error from below the evaluation keeps its own variant.
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Core(error) => Error::Core(error),
            EvalError::Data(error) => Error::Data(error),
            error => Error::Eval(error),
        }
    }
}

impl Error {
    /// An [`Error::Option`].
    pub fn option(option: &str, detail: impl ToString) -> Error {
        Error::Option { option: option.to_owned(), detail: detail.to_string().trim().to_owned() }
    }

    /// Whether the job ended because the caller asked it to.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Error::Cancelled
                | Error::Report(ReportError::Cancelled)
                | Error::Eval(EvalError::Cancelled)
                | Error::Core(CoreError::Cancelled { .. })
                | Error::Data(lens_data::Error::Cancelled)
                | Error::Encoder(EncoderError::Cancelled)
                | Error::Eval(EvalError::Core(CoreError::Cancelled { .. }))
        )
    }

    /// Whether an option is wrong, not the data or the machine: the caller can mend it by another
    /// call.
    pub fn is_wrong_option(&self) -> bool {
        matches!(
            self,
            Error::Option { .. }
                | Error::Eval(EvalError::StudySyntax { .. } | EvalError::StudyKey { .. })
                | Error::Data(lens_data::Error::InvalidOption { .. })
                | Error::Core(CoreError::Setting { .. })
                | Error::Encoder(
                    EncoderError::InvalidOption { .. } | EncoderError::LayerOutOfRange { .. },
                )
        )
    }
}

/// An error if the caller asked to stop: for work that does not ask by itself.
pub(crate) fn stop_if_cancelled(progress: &dyn crate::Progress) -> Result<(), Error> {
    if progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
