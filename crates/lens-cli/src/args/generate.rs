//! The command lines of `lens generate` and `lens likelihood`.

use super::TextArgs;
use super::values::heading;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `lens generate`. Settings of its own table, `generate`.
#[derive(Debug, Args, Serialize)]
pub struct GenerateArgs {
    /// Rows with a prompt, as text or messages; of preference pairs, their prompts
    #[serde(skip)]
    pub file: PathBuf,
    /// The file to write: JSON lines with prompt, responses, log_likelihoods and finish
    #[arg(long, short, value_name = "FILE", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub output: PathBuf,
    /// The model.
    #[command(flatten)]
    #[serde(skip)]
    pub text: TextArgs,
    /// Responses to each prompt [default: 1]
    #[arg(long, value_name = "N", help_heading = heading::SAMPLING)]
    pub samples: Option<usize>,
    /// Most tokens of a response [default: 256]
    #[arg(long, value_name = "TOKENS", help_heading = heading::SAMPLING)]
    pub max_new_tokens: Option<usize>,
    /// How tokens are drawn.
    #[command(flatten)]
    #[serde(skip)]
    pub sampling: SamplingArgs,
    /// End a response before this text; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = heading::SAMPLING)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Seed of all draws [default: 0]
    #[arg(long, value_name = "S", help_heading = heading::SAMPLING)]
    pub seed: Option<u64>,
}

/// How tokens are drawn.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = heading::SAMPLING)]
pub struct SamplingArgs {
    /// Divide the logits by this; 0 takes the likeliest token [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Draw from the smallest set of likeliest tokens that together have this probability
    /// [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Draw from this many of the likeliest tokens; 0 from all [default: 0]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
}

/// Arguments of `lens likelihood`.
#[derive(Debug, Args)]
pub struct LikelihoodArgs {
    /// Rows of prompt and response(s), or of pairs
    pub file: PathBuf,
    /// Write JSON lines into this file instead of standard output
    #[arg(long, short, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub output: Option<PathBuf>,
    /// The model.
    #[command(flatten)]
    pub text: TextArgs,
}
