//! The options of a server.

use crate::auth::BearerTokens;
use crate::error::ServeError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The options of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Reward models: a name and a bundle's folder each. The first is the default.
    pub models: Vec<(String, PathBuf)>,
    /// Whether a request that names a model which is not served gets the first one, instead of 404.
    pub any_model: bool,
    /// A file of preference pairs among which the nearest to a response are searched.
    pub pairs: Option<PathBuf>,
    /// The tokens that clients may use. Without any, every client that reaches the address is
    /// admitted.
    pub tokens: BearerTokens,
    /// Whether a server that other machines can reach may have no tokens.
    pub insecure: bool,
    /// Certificate chain and private key, both PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Limits of size, time and number.
    pub limits: Limits,
    /// Whether the log holds the texts of requests.
    pub log_prompts: bool,
}

impl Default for Options {
    /// A server at port 8080 of this machine, with the default limits and without models.
    fn default() -> Options {
        Options {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            models: Vec::new(),
            any_model: false,
            pairs: None,
            tokens: BearerTokens::default(),
            insecure: false,
            tls: None,
            limits: Limits::default(),
            log_prompts: false,
        }
    }
}

/// The least memory for requests, in bytes.
const LEAST_MEMORY: usize = 1 << 20;
/// The longest time limit.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Limits of size, time and number.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Texts of a request.
    pub texts: usize,
    /// Tokens of all texts of a request, at an estimated four bytes each.
    pub tokens: usize,
    /// Near pairs of a request: those of each of its texts or rows, together.
    pub nearest: usize,
    /// Bytes of memory for requests: bodies, what is read from them, texts that are computed and
    /// answers that are sent, of all requests together. `None` takes half of what is free once the
    /// models are loaded.
    pub memory: Option<usize>,
    /// Time for an answer.
    pub timeout: Duration,
    /// Time to send a request: its head, and then its body. A connection that is idle for so long
    /// is closed, and so is one whose client is so far behind with reading its answers, at 16 KiB a
    /// second.
    pub read_timeout: Duration,
    /// Time to answer what is under way when the server is shut down.
    pub drain_timeout: Duration,
    /// Connections at a time; further ones wait.
    pub connections: usize,
    /// Texts that wait in the queue of an encoder.
    pub queue: usize,
    /// Tokens in one call of the encoder.
    pub batch_tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 32 << 20,
            texts: 1024,
            tokens: 1 << 20,
            nearest: 1 << 14,
            memory: None,
            timeout: Duration::from_secs(120),
            read_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(60),
            connections: 4096,
            queue: 4096,
            batch_tokens: 2048,
        }
    }
}

impl Options {
    /// Checks options before any work: what cannot work or is not safe is an error.
    ///
    /// # Errors
    /// [`ServeError::Open`], [`ServeError::Option`].
    pub fn check(&self) -> Result<(), ServeError> {
        let refuse = |option, detail: String| Err(ServeError::Option { option, detail });
        if self.models.is_empty() {
            return refuse("BUNDLE", "name at least one reward model".to_owned());
        }
        for (i, (name, _)) in self.models.iter().enumerate() {
            let letters = |c: char| c.is_alphanumeric() || "-_.:/@+".contains(c);
            if name.is_empty() || name.len() > 128 || !name.chars().all(letters) {
                return refuse("--name", format!("`{name}` cannot be the name of a model"));
            }
            if self.models[..i].iter().any(|(other, _)| other == name) {
                return refuse(
                    "--name",
                    format!("two models are called `{name}`; give one of them a NAME=DIR"),
                );
            }
        }
        let Limits { body, texts, tokens, nearest, connections, queue, batch_tokens, .. } =
            self.limits;
        for (option, value) in [
            ("--max-body", body),
            ("--max-texts", texts),
            ("--max-tokens", tokens),
            ("--max-nearest", nearest),
            ("--max-connections", connections),
            ("--queue", queue),
            ("--batch-tokens", batch_tokens),
        ] {
            if value == 0 {
                return refuse(option, "must be at least 1".to_owned());
            }
        }
        if self.limits.memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            return refuse("--memory", format!("must be at least {LEAST_MEMORY} bytes"));
        }
        let Limits { timeout, read_timeout, drain_timeout, .. } = self.limits;
        for (option, value, may_be_none) in [
            ("--timeout", timeout, false),
            ("--read-timeout", read_timeout, false),
            ("--drain-timeout", drain_timeout, true),
        ] {
            if value.is_zero() && !may_be_none {
                return refuse(option, "must be at least 1 second".to_owned());
            }
            if value > LONGEST {
                let days = LONGEST.as_secs() / (24 * 3600);
                return refuse(option, format!("must be at most {days} days"));
            }
        }
        if !self.bind.ip().is_loopback() && self.tokens.is_empty() && !self.insecure {
            return Err(ServeError::Open { bind: self.bind });
        }
        Ok(())
    }
}
