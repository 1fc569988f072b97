//! What `lens serve` is told.

use super::{ServerArgs, not_given};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `lens serve`. Settings of its own table, `serve`.
#[derive(Debug, Args, Serialize)]
pub struct ServeArgs {
    /// Reward models' folders; each is called as its folder is, and the first is the default
    #[arg(required_unless_present = "name")]
    #[serde(skip)]
    pub bundles: Vec<PathBuf>,
    /// A reward model under another name; may be repeated
    #[arg(long, value_name = "NAME=DIR")]
    #[serde(skip)]
    pub name: Vec<String>,
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub bind: Option<String>,
    /// A token that opens the server; others can see it in the list of processes, unlike those of
    /// --token-file and of $LENS_TOKENS
    #[arg(long, value_name = "TOKEN")]
    #[serde(skip)]
    pub token: Vec<String>,
    /// A file of tokens, one a line
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Let everybody in who can reach the address, also from other machines
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub insecure_no_token: bool,
    /// Certificate chain (PEM), for https
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Preference pairs, such as those trained on, of which the nearest to a response can be asked
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Take the first model where a request names one that is not served
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub any_model: bool,
    /// Most bytes of a request's body [default: 33554432]
    #[arg(long, value_name = "BYTES")]
    pub max_body: Option<usize>,
    /// Most texts of a request [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_texts: Option<usize>,
    /// Most tokens of a request, at an estimated four bytes each [default: 1048576]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Time for an answer [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Time for a request to arrive, and for which a connection may be idle [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub read_timeout: Option<u64>,
    /// Time to answer what is under way after SIGTERM [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub drain_timeout: Option<u64>,
    /// Most connections at a time; others wait [default: 4096]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,
    /// Most texts that wait for an encoder; beyond, requests are answered 429 [default: 4096]
    #[arg(long, value_name = "TEXTS")]
    pub queue: Option<usize>,
    /// Write the texts of requests into the log
    #[arg(long)]
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
    /// The language model, where it is not the one that the bundles name
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// How weights are held: f32, bf16, stored (as in the file), auto (what fits) [default: auto]
    #[arg(long, value_name = "FORM")]
    pub weights: Option<String>,
    /// Tokens computed in one pass, of as many requests as fit [default: 2048]
    #[arg(long, value_name = "TOKENS")]
    pub batch_tokens: Option<usize>,
}
