//! The one way onto the network: requests with time limits, size limits and the user's proxy.
//!
//! Tokens go into headers and nowhere else: errors show addresses without user, password and query
//! (which hold keys in signed addresses), and a [`Secret`] does not print itself. A token is not
//! sent on when an answer points to another host.

mod address;

pub(crate) use address::{escaped, has_user, is_loopback, public_url};

use address::{joined, names_this_machine, origin};
use lens_core::Progress;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Between two looks at whether the user wants to stop.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// The longest wait between two attempts, whatever a server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const REDIRECTS: usize = 10;
/// Bytes of a server's error message that are quoted.
const MESSAGE: usize = 600;

/// Why an exchange with a server came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address cannot be used.
    #[error("'{url}' is not a usable address: {detail}")]
    Address {
        /// The address, without what could be secret.
        url: String,
        /// Why.
        detail: String,
    },
    /// Nobody answers there.
    #[error("cannot reach {url}: {detail}")]
    Unreachable {
        /// The address, without what could be secret.
        url: String,
        /// The system's answer.
        detail: String,
    },
    /// The other side is not who it should be, or speaks no TLS.
    #[error("no secure connection to {url}: {detail}")]
    Tls {
        /// The address, without what could be secret.
        url: String,
        /// The result of checking the certificate.
        detail: String,
    },
    /// The answer did not come in time.
    #[error("{url} did not answer in time")]
    TimedOut {
        /// The address, without what could be secret.
        url: String,
    },
    /// The connection ended before the answer did.
    #[error("the connection to {url} broke: {detail}")]
    Broken {
        /// The address, without what could be secret.
        url: String,
        /// The failure.
        detail: String,
    },
    /// The answer comes, but so slowly that it may never end.
    #[error("{url} sends too slowly: less than {bytes} bytes in {seconds} s")]
    TooSlow {
        /// The address, without what could be secret.
        url: String,
        /// The least number of bytes in that time.
        bytes: u64,
        /// The time in seconds.
        seconds: u64,
    },
    /// The answer is larger than any sensible one.
    #[error("{url} answered with more than {limit} bytes")]
    TooLarge {
        /// The address, without what could be secret.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Answers point elsewhere without end, or to where nothing may be asked.
    #[error("{url} redirects {detail}")]
    Redirect {
        /// The address, without what could be secret.
        url: String,
        /// Where to.
        detail: String,
    },
}

impl HttpError {
    /// Whether the same request may work a little later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::TimedOut { .. }
                | Self::TooSlow { .. }
                | Self::Broken { .. }
        )
    }

    fn from_ureq(error: ureq::Error, url: &str) -> Self {
        use ureq::Error as E;
        let url = public_url(url);
        let detail = error.to_string();
        match error {
            E::Timeout(_) => Self::TimedOut { url },
            E::Io(e) => Self::from_io(&e, &url),
            E::HostNotFound | E::ConnectionFailed | E::ConnectProxyFailed(_) => {
                Self::Unreachable { url, detail }
            }
            E::Tls(_) | E::Pem(_) | E::Rustls(_) | E::TlsRequired => Self::Tls { url, detail },
            E::BadUri(_) | E::Http(_) | E::InvalidProxyUrl => {
                Self::Address { url, detail: "it cannot be asked".into() }
            }
            _ => Self::Broken { url, detail },
        }
    }

    fn from_io(error: &std::io::Error, url: &str) -> Self {
        use std::io::ErrorKind as K;
        let url = public_url(url);
        // Errors of the client itself come wrapped while a body is read.
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<ureq::Error>());
        let detail = inner.map_or_else(|| error.to_string(), ToString::to_string);
        match (error.kind(), inner) {
            (K::TimedOut | K::WouldBlock, _) | (_, Some(ureq::Error::Timeout(_))) => {
                Self::TimedOut { url }
            }
            (K::ConnectionRefused | K::NetworkUnreachable | K::HostUnreachable, _) => {
                Self::Unreachable { url, detail }
            }
            (K::InvalidData, _) => Self::Tls { url, detail },
            _ => Self::Broken { url, detail },
        }
    }
}

/// A token or key. It goes into a header; it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret, without the white space around it that files and variables often have. `None` if
    /// there is nothing in it, or what no header can hold.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let usable = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        usable.then(|| Self(text.to_owned()))
    }

    /// The text without the secret, should a server repeat it.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }

    fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// For the beginning of an answer.
    pub answer: Duration,
    /// For the next bytes of an answer.
    pub read: Duration,
    /// For all of a call, to the last byte of its answer; `None` where that depends on its size.
    pub whole: Option<Duration>,
}

/// An answer whose body is still to come.
pub(crate) struct Answer {
    pub status: u16,
    /// Where it came from, after redirects.
    pub url: String,
    headers: HeaderMap,
    /// Headers of the first answer that pointed elsewhere.
    redirect: Option<HeaderMap>,
    body: Body,
    /// For the message of a refusal.
    patience: Duration,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// A header of this answer, or of the one that pointed to it.
    pub fn linked_header(&self, name: &str) -> Option<&str> {
        let first = self.redirect.as_ref().and_then(|h| h.get(name));
        first.or_else(|| self.headers.get(name)).and_then(|v| v.to_str().ok())
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Seconds that the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.trim().parse::<f64>().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// The whole body, if it has at most `limit` bytes.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>, HttpError> {
        let mut out = Vec::new();
        let mut reader = self.body.into_reader().take(limit.saturating_add(1));
        reader.read_to_end(&mut out).map_err(|e| HttpError::from_io(&e, &self.url))?;
        if out.len() as u64 > limit {
            return Err(HttpError::TooLarge { url: public_url(&self.url), limit });
        }
        Ok(out)
    }

    /// The next bytes of the body; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        self.body.as_reader().read(buffer).map_err(|e| HttpError::from_io(&e, &self.url))
    }

    /// The message of a refusal: the one in its JSON, else its beginning.
    pub fn message(self) -> String {
        let until = Instant::now() + self.patience;
        let mut start = Vec::new();
        let mut reader = self.body.into_reader().take(1 << 16);
        let mut buffer = vec![0; 1 << 12];
        // Of a message that breaks off or does not end, what came of it is said.
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            start.extend_from_slice(&buffer[..n]);
            if Instant::now() > until {
                break;
            }
        }
        said(&start)
    }
}

/// The message in the body of a refusal. Servers have many shapes for it.
pub(crate) fn said(body: &[u8]) -> String {
    use serde_json::Value;
    fn find(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Object(map) => ["message", "error", "detail", "msg"]
                .iter()
                .find_map(|key| map.get(*key).and_then(find)),
            Value::Array(all) => all.first().and_then(find),
            _ => None,
        }
    }
    let json = serde_json::from_slice::<Value>(body).ok();
    let text = json.as_ref().and_then(find);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let shown: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    let mut shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    if shown.len() > MESSAGE {
        let end = (0..=MESSAGE).rev().find(|i| shown.is_char_boundary(*i)).unwrap_or(0);
        shown.truncate(end);
        shown.push_str("..");
    }
    if shown.is_empty() { "no message".to_owned() } else { shown }
}

/// Sends requests.
#[derive(Clone)]
pub(crate) struct Client {
    proxied: Agent,
    /// For this machine itself, where no proxy belongs in between.
    direct: Agent,
    /// For the message of a refusal.
    patience: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    pub fn new(limits: Limits) -> Self {
        let build = |direct: bool| {
            let tls = TlsConfig::builder().root_certs(roots()).build();
            let builder = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("lens/", env!("CARGO_PKG_VERSION")))
                .accept_encoding("identity")
                .timeout_global(limits.whole)
                .timeout_resolve(Some(limits.connect))
                .timeout_connect(Some(limits.connect))
                .timeout_per_write(Some(limits.read))
                .timeout_per_read(Some(limits.read.max(limits.answer)))
                .timeout_recv_response(Some(limits.answer))
                .max_idle_connections(64)
                .max_idle_connections_per_host(32)
                .tls_config(tls);
            let builder = if direct { builder.proxy(None) } else { builder };
            Agent::new_with_config(builder.build())
        };
        Self { proxied: build(false), direct: build(true), patience: limits.read }
    }

    fn agent(&self, url: &str) -> Result<&Agent, HttpError> {
        let bad = |detail: &str| HttpError::Address { url: public_url(url), detail: detail.into() };
        if has_user(url) {
            return Err(bad("it names a user or password; keys are given by other means"));
        }
        let uri: Uri = url.parse().map_err(|_| bad("it does not parse"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(bad("only http and https are known"));
        }
        let local = names_this_machine(uri.host().unwrap_or_default());
        Ok(if local { &self.direct } else { &self.proxied })
    }

    /// Asks for what is at an address, following redirects. The token goes to no other host than
    /// the one it is for.
    pub fn get(
        &self,
        url: &str,
        token: Option<&Secret>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, HttpError> {
        let mut at = url.to_owned();
        let mut redirect: Option<HeaderMap> = None;
        for _ in 0..REDIRECTS {
            let mut request = self.agent(&at)?.get(&at);
            if let Some(token) = token.filter(|_| origin(&at) == origin(url)) {
                request = request.header(AUTHORIZATION, token.header());
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.call().map_err(|e| HttpError::from_ureq(e, &at))?;
            let status = response.status().as_u16();
            let next = match status {
                301 | 302 | 303 | 307 | 308 => response.headers().get(LOCATION),
                _ => None,
            };
            let Some(next) = next else { return Ok(self.answer(response, at, redirect)) };
            let next = next.to_str().unwrap_or_default();
            let next = joined(&at, next);
            if at.starts_with("https://") && !next.starts_with("https://") {
                let detail = format!("to {}, which is not secure", public_url(&next));
                return Err(HttpError::Redirect { url: public_url(&at), detail });
            }
            redirect.get_or_insert_with(|| response.headers().clone());
            at = next;
        }
        Err(HttpError::Redirect { url: public_url(url), detail: "without end".into() })
    }

    /// Sends JSON. Redirects are not followed.
    pub fn post(
        &self,
        url: &str,
        token: Option<&Secret>,
        json: &[u8],
    ) -> Result<Answer, HttpError> {
        let mut request = self.agent(url)?.post(url).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.header());
        }
        let response = request.send(json).map_err(|e| HttpError::from_ureq(e, url))?;
        Ok(self.answer(response, url.to_owned(), None))
    }

    fn answer(&self, response: Response<Body>, url: String, redirect: Option<HeaderMap>) -> Answer {
        let (parts, body) = response.into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        Answer { status, url, headers, redirect, body, patience: self.patience }
    }
}

/// Which certificates to trust: the system's. Bare containers have none; there, Mozilla's.
fn roots() -> RootCerts {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let there = |path| std::path::Path::new(path).exists();
    let system = cfg!(not(target_os = "linux"))
        || set("SSL_CERT_FILE")
        || set("SSL_CERT_DIR")
        || ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
            .into_iter()
            .any(there)
        || ["/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"].into_iter().any(there);
    if system { RootCerts::PlatformVerifier } else { RootCerts::WebPki }
}

/// How often to try, and how long to wait in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Retry {
    /// Tries in all.
    pub attempts: u32,
    /// Wait after the first; it doubles with each.
    pub first: Duration,
}

impl Retry {
    /// How long to wait after the attempt of that number (from 0): what the server asks for, else
    /// twice as long each time, and never the same for all who wait.
    pub fn pause(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let jitter = (RandomState::new().build_hasher().finish() % 1000) as f64 / 1000.0;
        let grown = self.first.as_secs_f64() * f64::from(2u32.saturating_pow(attempt.min(16)));
        let own = (grown * (0.5 + jitter)).min(30.0);
        let pause = asked.unwrap_or_default().max(Duration::from_secs_f64(own));
        pause.min(LONGEST_PAUSE)
    }
}

/// Statuses after which the same request may work a little later.
pub(crate) fn passes(status: u16) -> bool {
    matches!(status, 408 | 425 | 429) || status >= 500
}

/// Waits; `false` if the user wants to stop.
pub(crate) fn wait(time: Duration, progress: &dyn Progress) -> bool {
    let end = Instant::now() + time;
    loop {
        if progress.cancelled() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Does something that blocks, aside; `None` as soon as the user wants to stop. What is aside then
/// ends by its own time limits.
pub(crate) fn interruptible<T: Send + 'static>(
    progress: &dyn Progress,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if progress.cancelled() {
        return None;
    }
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let _ = send.send(work());
    });
    loop {
        match receive.recv_timeout(LOOK) {
            Ok(done) => return Some(done),
            Err(RecvTimeoutError::Timeout) if !progress.cancelled() => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
