//! The binary's errors: the libraries' own, and what only the command line can get wrong.

use crate::output::tell;
use lens::Error;
use lens_core::CoreError;
use lens_encoder::{EncoderError, ServerError};
use lens_eval::EvalError;
use lens_server::ServeError;
use std::error::Error as _;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The job itself.
    #[error(transparent)]
    Job(#[from] Error),
    /// Serving.
    #[error(transparent)]
    Serve(ServeError),
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

impl From<lens_data::Error> for CliError {
    fn from(error: lens_data::Error) -> Self {
        CliError::Job(error.into())
    }
}

impl From<EncoderError> for CliError {
    fn from(error: EncoderError) -> Self {
        CliError::Job(error.into())
    }
}

impl From<CoreError> for CliError {
    fn from(error: CoreError) -> Self {
        CliError::Job(error.into())
    }
}

impl From<EvalError> for CliError {
    fn from(error: EvalError) -> Self {
        CliError::Job(error.into())
    }
}

impl CliError {
    /// Whether the user asked to stop.
    fn is_cancelled(&self) -> bool {
        match self {
            CliError::Job(error) => error.is_cancelled(),
            CliError::Serve(error) => matches!(error, ServeError::Stopped),
            _ => false,
        }
    }

    /// 2 for settings that do not fit (as for flags), 130 after Ctrl-C, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            error if error.is_cancelled() => 130,
            CliError::Job(error) if error.is_wrong_option() => 2,
            CliError::Serve(ServeError::Open { .. } | ServeError::Option { .. }) => 2,
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
        match self {
            CliError::Job(error) => hint(error),
            CliError::Serve(ServeError::Open { .. }) => Some(
                "set a token (--token-file FILE, or LENS_TOKENS), bind to 127.0.0.1, or let \
                 everybody in with --insecure-no-token",
            ),
            CliError::Serve(ServeError::Bind { .. }) => {
                Some("choose another port with --bind; port 0 takes a free one")
            }
            _ => None,
        }
    }
}

/// What to do about the failure of a job.
fn hint(error: &Error) -> Option<&'static str> {
    use lens_data::Error as Data;
    match error {
        Error::Data(Data::TargetExists { .. }) => {
            Some("choose another folder with -o, or replace a reward model with --overwrite")
        }
        Error::Data(Data::CurvesExist { .. }) => {
            Some("choose another folder with --log-dir, or replace them with --overwrite")
        }
        Error::Data(Data::CurvesInBundle { .. }) => Some("choose another folder with --log-dir"),
        Error::Data(Data::AllMalformed { .. }) => Some(
            "each row needs chosen and rejected (and a prompt), or is of another shape in \
                 docs/formats.md; --columns names columns that are called otherwise",
        ),
        Error::Data(Data::Malformed(_)) => {
            Some("without --strict malformed rows are counted, listed and left out")
        }
        Error::Data(Data::DiskFull { .. }) => Some("free some space and run again"),
        Error::Data(Data::MissingArray { .. }) => {
            Some("name the arrays with --chosen-key and --rejected-key (or --key)")
        }
        Error::EncoderMismatch { .. } => {
            Some("give the model it was trained with by --model, or train again")
        }
        Error::Core(CoreError::WarmStart { .. }) => Some(
            "settings that are not named are the earlier model's; others need a training afresh",
        ),
        Error::NoWarmStart { .. } => Some("train afresh on all pairs, without --warm-start"),
        Error::Encoder(EncoderError::UnknownArchitecture { .. }) => {
            Some("choose another model with --model; `lens pull` lists those at hand")
        }
        Error::ServerNotNamed { .. } => Some(
            "pass --server URL if you trust that address with your texts (and with $LENS_API_KEY, if set)",
        ),
        Error::Encoder(EncoderError::Server(ServerError::Unauthorised { .. })) => {
            Some("set LENS_API_KEY to the server's key (server_key_env names another variable)")
        }
        Error::Encoder(EncoderError::Server(ServerError::TooLong { .. })) => {
            Some("leave the text out, or serve the model with a longer context")
        }
        Error::TextNotEmbeddings { pairs: true, .. } => Some(
            "`lens run FILE` embeds pairs of text and trains on them; or embed them once, `lens embed \
             FILE -o pairs.safetensors`, and give that file here",
        ),
        Error::TextNotEmbeddings { pairs: false, .. } => {
            Some("embed them first: `lens embed FILE -o OUT.safetensors`")
        }
        Error::ArraysMismatch { .. } => {
            Some("embed the texts again with the settings of the reward model")
        }
        Error::Encoder(EncoderError::Cache { .. }) => {
            Some("finished embeddings are kept; another folder is chosen with --cache")
        }
        Error::TooFewPrompts { .. } => {
            Some("add pairs; --eval FILE or --holdout 0 leave all pairs of this file to training")
        }
        Error::Eval(EvalError::OtherStudy { .. }) => {
            Some("choose another folder with -o, or replace the study with --overwrite")
        }
        Error::Eval(EvalError::NotAStudy { .. }) => Some("choose another folder with -o"),
        Error::Eval(EvalError::StudyKey { .. } | EvalError::StudySyntax { .. }) => {
            Some("`lens study NAME --show` prints a ready-made study; docs/studies.md says more")
        }
        Error::NothingToTrainOn { .. } | Error::NothingToEvaluate { .. } => {
            Some("`lens info` on the file lists the lines and what is wrong with each")
        }
        Error::Eval(EvalError::WrongRow { .. }) => {
            Some("a file holds rows of one kind; --benchmark says which, where it is told wrongly")
        }
        Error::Eval(EvalError::TooFewResponses { .. }) => {
            Some("--n of at most the smallest number of responses; it is the default")
        }
        Error::Option { .. } => {
            Some("`lens run PAIRS --show-settings` prints every setting with its value")
        }
        _ => None,
    }
}
