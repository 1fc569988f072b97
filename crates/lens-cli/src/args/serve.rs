//! The command line of `lens serve`.

use super::values::{self, heading};
use super::{ServerArgs, not_given};
use clap::Args;
use lens_server::ByteSize;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `lens serve`. Settings of its own table, `serve`.
#[derive(Debug, Args, Serialize)]
pub struct ServeArgs {
    /// Reward models' folders; each is served under its folder's name, and the first is the default
    #[arg(required_unless_present = "name")]
    #[serde(skip)]
    pub bundles: Vec<PathBuf>,
    /// Serve a reward model under this name; may be repeated
    #[arg(long, value_name = "NAME=DIR", help_heading = heading::REWARD_MODELS)]
    #[serde(skip)]
    pub name: Vec<String>,
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT", help_heading = heading::ACCESS)]
    pub bind: Option<String>,
    /// A token that requests have to carry; may be repeated. Other users of this machine can see it in
    /// the list of processes, unlike the tokens of --token-file and of $LENS_TOKENS
    #[arg(long, value_name = "TOKEN", help_heading = heading::ACCESS)]
    #[serde(skip)]
    pub token: Vec<String>,
    /// A file of such tokens, one a line
    #[arg(long, value_name = "FILE", help_heading = heading::ACCESS)]
    pub token_file: Option<PathBuf>,
    /// Answer without a token everybody who can reach the address, also from other machines
    #[arg(long, help_heading = heading::ACCESS)]
    #[serde(skip_serializing_if = "not_given")]
    pub insecure_no_token: bool,
    /// Certificate chain (PEM), for https
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = heading::ACCESS)]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = heading::ACCESS)]
    pub tls_key: Option<PathBuf>,
    /// Preference pairs, such as those trained on; requests may ask for the nearest to a response
    #[arg(long, value_name = "FILE", help_heading = heading::REWARD_MODELS)]
    pub pairs: Option<PathBuf>,
    /// Answer with the first model where a request names one that is not served
    #[arg(long, help_heading = heading::REWARD_MODELS)]
    #[serde(skip_serializing_if = "not_given")]
    pub any_model: bool,
    /// Most bytes of a request's body [default: 33554432, 32 MiB]
    #[arg(long, value_name = "BYTES", help_heading = heading::LIMITS)]
    pub max_body: Option<usize>,
    /// Most texts of a request [default: 1024]
    #[arg(long, value_name = "N", help_heading = heading::LIMITS)]
    pub max_texts: Option<usize>,
    /// Most tokens of a request, at an estimated four bytes each [default: 1048576]
    #[arg(long, value_name = "N", help_heading = heading::LIMITS)]
    pub max_tokens: Option<usize>,
    /// Most near training pairs of an answer: rows x nearest [default: 16384]
    #[arg(long, value_name = "N", help_heading = heading::LIMITS)]
    pub max_nearest: Option<usize>,
    /// Memory for requests: bodies, texts and answers of all of them together, such as 512M or 2G
    /// [default: half of what is free once the models are loaded]
    #[arg(long, value_name = "SIZE", help_heading = heading::LIMITS)]
    pub memory: Option<ByteSize>,
    /// Time within which a request is answered [default: 120]
    #[arg(long, value_name = "SECONDS", help_heading = heading::LIMITS)]
    pub timeout: Option<u64>,
    /// Time within which a request has to arrive, for which a connection may be idle, and by which its
    /// client may be behind with reading answers at 16 KiB a second [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = heading::LIMITS)]
    pub read_timeout: Option<u64>,
    /// Time to answer requests under way after SIGTERM, before the server stops [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = heading::LIMITS)]
    pub drain_timeout: Option<u64>,
    /// Most connections at a time; others wait [default: 4096]
    #[arg(long, value_name = "N", help_heading = heading::LIMITS)]
    pub max_connections: Option<usize>,
    /// Most texts that wait for an encoder; beyond it, requests are refused with 429 [default: 4096]
    #[arg(long, value_name = "TEXTS", help_heading = heading::LIMITS)]
    pub queue: Option<usize>,
    /// Write the texts of requests into the log
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub log_prompts: bool,
    /// The encoder.
    #[command(flatten)]
    #[serde(skip)]
    pub encoder: ServeEncoderArgs,
    /// A server that computes the embeddings, where it is not the one that the bundle names.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
}

/// The encoder of served models.
#[derive(Debug, Args, Serialize)]
pub struct ServeEncoderArgs {
    /// Language model to use instead of the one that the reward models name; it has to compute the
    /// same embeddings
    #[arg(long, value_name = "MODEL", help_heading = heading::MODEL)]
    pub model: Option<String>,
    /// How the model's weights are held in memory [default: auto]
    #[arg(long, value_name = "FORM", value_parser = values::weights(), help_heading = heading::MODEL)]
    pub weights: Option<String>,
    /// Most tokens computed in one pass, of as many requests as fit [default: 2048]
    #[arg(long, value_name = "TOKENS", help_heading = heading::MODEL)]
    pub batch_tokens: Option<usize>,
}
