//! The options of an encoder on a server.

use crate::error::{EncoderError, Result};
use crate::http::{Secret, has_user, is_loopback, public_url};
use lens_data::encoder::{ServerApi, TemplateChoice};
use std::path::PathBuf;
use std::time::Duration;

/// How to turn texts into vectors on a server.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// The server's address, without `/v1`: `http://localhost:8000`.
    pub url: String,
    /// Defaults to [`ServerApi::Auto`].
    pub api: ServerApi,
    /// The model's name at the server. Defaults to the only one it offers.
    pub model: Option<String>,
    /// Sent as `Authorization: Bearer`.
    pub key: Option<Secret>,
    /// Whether the key may cross a network in the clear: by http, to another machine. Defaults to
    /// `false`.
    pub plain_key: bool,
    /// Plain text, or [`TemplateChoice::Chat`]: messages, for which the server uses the model's chat
    /// template (vLLM only). Defaults to [`TemplateChoice::Auto`], which is plain.
    pub template: TemplateChoice,
    /// Requests at a time. Defaults to 8.
    pub concurrency: usize,
    /// Texts in a request. Defaults to 16.
    pub batch: usize,
    /// The time for a whole call: connection, request and all of the answer. Defaults to two minutes.
    pub timeout: Duration,
    /// Tries after the first, where another can help. Defaults to 5.
    pub retries: u32,
    /// Wait before the second try; it doubles with each. Defaults to half a second.
    pub first_pause: Duration,
    /// Whether vectors of length 1 are accepted, with a warning. Defaults to `true`.
    pub allow_normalised: bool,
    /// Where finished vectors are kept; `None` keeps none. Defaults to `None`.
    pub cache_dir: Option<PathBuf>,
}

impl RemoteOptions {
    /// The defaults, for a server.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api: ServerApi::Auto,
            model: None,
            key: None,
            plain_key: false,
            template: TemplateChoice::Auto,
            concurrency: 8,
            batch: 16,
            timeout: Duration::from_secs(120),
            retries: 5,
            first_pause: Duration::from_millis(500),
            allow_normalised: true,
            cache_dir: None,
        }
    }

    /// Checks what can be checked without asking the server.
    ///
    /// # Errors
    /// [`EncoderError::InvalidOption`].
    pub fn check(&self) -> Result<()> {
        let base = self.base()?;
        let refuse = |option, detail: &str| -> Result<()> {
            Err(EncoderError::InvalidOption { option, detail: detail.to_owned() })
        };
        let plain = base.starts_with("http://") && !is_loopback(&base);
        if self.key.is_some() && plain && !self.plain_key {
            return refuse(
                "server",
                "would get the key in the clear: use https://, or allow it (server_plain_key)",
            );
        }
        if self.concurrency == 0 || self.concurrency > 1024 {
            return refuse("server_concurrency", "must be from 1 to 1024");
        }
        if self.batch == 0 {
            return refuse("server_batch", "must be at least 1");
        }
        if matches!(self.template, TemplateChoice::Custom(_)) {
            return refuse(
                "template",
                "a server knows only `plain`, or `chat` with its own chat template",
            );
        }
        Ok(())
    }

    /// The address to which `/v1/embeddings` or `/embed` is added.
    pub(super) fn base(&self) -> Result<String> {
        let refuse = |detail: &str| {
            let detail = format!("'{}' {detail}", public_url(&self.url));
            Err(EncoderError::InvalidOption { option: "server", detail })
        };
        let url = self.url.trim();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return refuse("does not begin with http:// or https://");
        }
        if has_user(url) {
            return refuse("was given with a user or password; a key is read from the environment");
        }
        if url.contains(['?', '#']) {
            return refuse("was given with a query; a key is read from the environment");
        }
        let mut base = url.trim_end_matches('/');
        for end in ["/v1/embeddings", "/embeddings", "/embed", "/v1"] {
            if let Some(rest) = base.strip_suffix(end) {
                base = rest.trim_end_matches('/');
                break;
            }
        }
        match base.split_once("://") {
            Some((_, host)) if !host.is_empty() => Ok(base.to_owned()),
            _ => refuse("names no host"),
        }
    }
}
