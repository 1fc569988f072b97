//! How reward models are served.

use lens_server::{ByteSize, Limits};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Settings of the table `serve`. Tokens are not among them: they come from a file or from the
/// environment, so that they stand in no settings file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Address and port to listen on; port 0 takes a free one.
    pub bind: String,
    /// A file of tokens, one a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether an address beyond this machine may go without a token.
    pub insecure_no_token: bool,
    /// Certificate chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Preference pairs among which the nearest to a response are looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PathBuf>,
    /// Whether a model name that is not served stands for the first model.
    pub any_model: bool,
    /// Most bytes of a body.
    pub max_body: usize,
    /// Most texts of a request.
    pub max_texts: usize,
    /// Most tokens of a request, estimated.
    pub max_tokens: usize,
    /// Most near pairs of a request.
    pub max_nearest: usize,
    /// Memory for requests; half of what is free where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Seconds for an answer.
    pub timeout: u64,
    /// Seconds for a request to arrive, and after which a connection is closed that is idle or so far
    /// behind with reading.
    pub read_timeout: u64,
    /// Seconds to answer what is under way after SIGTERM.
    pub drain_timeout: u64,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most texts that wait for an encoder.
    pub queue: usize,
    /// Whether the log holds texts.
    pub log_prompts: bool,
}

impl Default for ServeSettings {
    fn default() -> Self {
        let limits = Limits::default();
        ServeSettings {
            bind: "127.0.0.1:8080".to_owned(),
            token_file: None,
            insecure_no_token: false,
            tls_cert: None,
            tls_key: None,
            pairs: None,
            any_model: false,
            max_body: limits.body,
            max_texts: limits.texts,
            max_tokens: limits.tokens,
            max_nearest: limits.nearest,
            memory: None,
            timeout: limits.timeout.as_secs(),
            read_timeout: limits.read_timeout.as_secs(),
            drain_timeout: limits.drain_timeout.as_secs(),
            max_connections: limits.connections,
            queue: limits.queue,
            log_prompts: false,
        }
    }
}
