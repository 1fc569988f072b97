//! The command line of `lens bench`.

use super::EncoderArgs;
use super::values::heading;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure the encoder: tokens and texts a second, what shared prompts save, memory, and the share
    /// of this machine's matrix-product rate that it reaches
    Encode(BenchEncodeArgs),
    /// Measure training at several augmentation factors: seconds of the VAE, of synthesis and of each
    /// head, held-out log-loss, memory
    Train(BenchTrainArgs),
}

/// Arguments of `lens bench encode`.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::WORKLOAD)]
pub struct BenchEncodeArgs {
    /// Preference pairs to embed [default: made-up text]
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Number of pairs to embed
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub n_pairs: u32,
    /// Embed this many responses to one prompt, of random tokens, instead of pairs
    #[arg(long, value_name = "N", conflicts_with = "pairs", value_parser = clap::value_parser!(u32).range(1..))]
    pub best_of: Option<u32>,
    /// With --best-of, tokens of the prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// With --best-of, tokens of each response
    #[arg(long, value_name = "TOKENS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub response_tokens: u32,
    /// Passes over the texts; the fastest counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// How texts become embeddings.
    #[command(flatten)]
    pub encoder: EncoderArgs,
}

/// Arguments of `lens bench train`.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::WORKLOAD)]
pub struct BenchTrainArgs {
    /// Width of made-up embeddings
    #[arg(long, value_name = "D", default_value_t = 4096, value_parser = positive())]
    pub dim: usize,
    /// Number of made-up pairs to train on
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive())]
    pub pairs: usize,
    /// Number of made-up pairs to measure held-out log-loss on
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = positive())]
    pub heldout_pairs: usize,
    /// Embedded pairs, as `lens train` takes them, instead of made-up ones
    #[arg(long, value_name = "FILE")]
    pub arrays: Option<PathBuf>,
    /// Held-out embedded pairs beside them
    #[arg(long, value_name = "FILE", requires = "arrays")]
    pub heldout: Option<PathBuf>,
    /// Passes of the VAE over the pairs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive())]
    pub vae_epochs: usize,
    /// Passes of a head over the pairs, without early stopping
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive())]
    pub head_epochs: usize,
    /// Augmentation factors; a head is trained at each
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,4,16,64")]
    pub factors: Vec<usize>,
    /// Members of each head's ensemble
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = positive())]
    pub members: usize,
    /// Runs of each stage; the fastest counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive())]
    pub repeat: usize,
}

fn positive() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser;
    clap::value_parser!(u32).range(1..).map(|n| n as usize)
}
