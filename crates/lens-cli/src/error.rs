//! The binary's errors: the libraries' own, and what only the command line can get wrong.

use crate::output::tell;
use lens_core::CoreError;
use lens_encoder::{EncoderError, ServerError};
use lens_eval::EvalError;
use lens_server::ServeError;
use std::error::Error as _;
use std::path::PathBuf;
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// Datasets, arrays, bundles, outputs.
    #[error(transparent)]
    Data(#[from] lens_data::Error),
    /// Models and hidden states.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The method.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Figures, studies, the report.
    #[error(transparent)]
    Eval(EvalError),
    /// The settings file or a --set does not fit.
    #[error("{origin}: {detail}")]
    Settings {
        /// The file, or the flag.
        origin: String,
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
    /// The bundle cannot be trained further on these pairs.
    #[error("{} cannot be trained further: {reason}", bundle.display())]
    NoWarmStart {
        /// The bundle.
        bundle: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Serving.
    #[error(transparent)]
    Serve(lens_server::ServeError),
    /// Two things that do not go together.
    #[error("{0}")]
    Refused(String),
    /// The user asked to stop.
    #[error("stopped")]
    Cancelled,
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
    /// Every pair of a file was left out.
    #[error("{}: no pair is left to train on ({left_out})", path.display())]
    NothingLeft {
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
    /// The curves of a training could not all be written, which did not stop the training.
    #[error("training curves are not complete, but training went on without them: {source}")]
    Curves {
        /// The first failure.
        source: lens_data::Error,
    },
    /// Standard output could not be written.
    #[error("cannot write to standard output: {source}")]
    Output {
        /// The system's report.
        #[from]
        source: std::io::Error,
    },
}

impl From<EvalError> for CliError {
    /// What comes from below is what it was: hints and exit codes know it.
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Core(error) => CliError::Core(error),
            EvalError::Data(error) => CliError::Data(error),
            error => CliError::Eval(error),
        }
    }
}

impl CliError {
    /// Whether the user asked to stop.
    fn is_cancelled(&self) -> bool {
        matches!(
            self,
            CliError::Cancelled
                | CliError::Eval(EvalError::Cancelled)
                | CliError::Core(CoreError::Cancelled { .. })
                | CliError::Data(lens_data::Error::Cancelled)
                | CliError::Encoder(EncoderError::Cancelled)
                | CliError::Eval(EvalError::Core(CoreError::Cancelled { .. }))
        )
    }

    /// 2 for settings that do not fit (as for flags), 130 after Ctrl-C, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Settings { .. }
            | CliError::Serve(ServeError::Open { .. } | ServeError::Option { .. })
            | CliError::Eval(EvalError::StudySyntax { .. } | EvalError::StudyKey { .. })
            | CliError::Core(CoreError::Setting { .. })
            | CliError::Data(lens_data::Error::InvalidOption { .. })
            | CliError::Encoder(
                EncoderError::InvalidOption { .. } | EncoderError::LayerOutOfRange { .. },
            ) => 2,
            e if e.is_cancelled() => 130,
            _ => 1,
        }
    }

    /// Prints the error, what caused it, and what to do about it.
    pub fn print(&self) {
        if self.is_cancelled() {
            tell("stopped: nothing half-written is left, and finished embeddings are kept");
            return;
        }
        let mut said = self.to_string();
        tell(&format!("error: {said}"));
        let mut cause = self.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            // Many messages hold their cause already.
            if !said.contains(&text) {
                tell(&format!("  caused by: {text}"));
                said = text;
            }
            cause = inner.source();
        }
        if let Some(hint) = self.hint() {
            tell(&format!("hint: {hint}"));
        }
    }

    fn hint(&self) -> Option<&'static str> {
        use lens_data::Error as Data;
        match self {
            CliError::Data(Data::TargetExists { .. }) => {
                Some("choose another folder with -o, or replace a reward model with --overwrite")
            }
            CliError::Data(Data::CurvesExist { .. }) => {
                Some("choose another folder with --log-dir, or replace them with --overwrite")
            }
            CliError::Data(Data::CurvesInBundle { .. }) => {
                Some("choose another folder with --log-dir")
            }
            CliError::Data(Data::AllMalformed { .. }) => {
                Some("each row needs chosen and rejected (and a prompt); see `lens run --help`")
            }
            CliError::Data(Data::Malformed(_)) => {
                Some("without --strict malformed rows are counted, listed and left out")
            }
            CliError::Data(Data::DiskFull { .. }) => Some("free some space and run again"),
            CliError::Data(Data::MissingArray { .. }) => {
                Some("name the arrays with --chosen-key and --rejected-key (or --key)")
            }
            CliError::EncoderMismatch { .. } => {
                Some("give the model it was trained with by --model, or train again")
            }
            CliError::Core(CoreError::WarmStart { .. }) => Some(
                "settings that are not named are the earlier model's; others need a training afresh",
            ),
            CliError::NoWarmStart { .. } => Some("train afresh on all pairs, without --warm-start"),
            CliError::Encoder(EncoderError::UnknownArchitecture { .. }) => {
                Some("choose another model with --model; `lens pull` lists those at hand")
            }
            CliError::Encoder(EncoderError::Server(ServerError::Unauthorised { .. })) => {
                Some("set LENS_API_KEY to the server's key (server_key_env names another variable)")
            }
            CliError::Encoder(EncoderError::Server(ServerError::TooLong { .. })) => {
                Some("leave the text out, or serve the model with a longer context")
            }
            CliError::ArraysMismatch { .. } => {
                Some("embed the texts again with the settings of the reward model")
            }
            CliError::Encoder(EncoderError::Cache { .. }) => {
                Some("finished embeddings are kept; another folder is chosen with --cache")
            }
            CliError::TooFewPrompts { .. } => Some(
                "add pairs; --eval FILE or --holdout 0 leave all pairs of this file to training",
            ),
            CliError::Eval(EvalError::OtherStudy { .. }) => {
                Some("choose another folder with -o, or replace the study with --overwrite")
            }
            CliError::Eval(EvalError::NotAStudy { .. }) => Some("choose another folder with -o"),
            CliError::Eval(EvalError::StudyKey { .. } | EvalError::StudySyntax { .. }) => Some(
                "`lens study NAME --show` prints a ready-made study; docs/studies.md says more",
            ),
            CliError::Serve(ServeError::Open { .. }) => Some(
                "set a token (--token-file FILE, or LENS_TOKENS), bind to 127.0.0.1, or let \
                 everybody in with --insecure-no-token",
            ),
            CliError::Serve(ServeError::Bind { .. }) => {
                Some("choose another port with --bind; port 0 takes a free one")
            }
            CliError::NothingLeft { .. } | CliError::NothingToEvaluate { .. } => {
                Some("`lens info` on the file lists the lines and what is wrong with each")
            }
            CliError::Eval(EvalError::WrongRow { .. }) => Some(
                "a file holds rows of one kind; --benchmark says which, where it is told wrongly",
            ),
            CliError::Eval(EvalError::TooFewResponses { .. }) => {
                Some("--n of at most the smallest number of responses; it is the default")
            }
            CliError::Settings { .. } => {
                Some("`lens run PAIRS --show-settings` prints every setting with its value")
            }
            _ => None,
        }
    }
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
