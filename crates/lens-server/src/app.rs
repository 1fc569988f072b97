//! What every request has at hand, and what the routes have in common.

use crate::body;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::models::{Model, Registry};
use crate::options::Options;
use crate::score::{Scores, matrix, score};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use lens_core::Matrix;
use lens_encoder::{Encoded, Input};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Bodies from here on are parsed where they hold up no other request.
const LARGE: usize = 256 << 10;
/// Multiplications from which on work on rows is long.
const LONG: usize = 20_000_000;
/// Bytes that a token is taken to have where nothing has been measured.
const BYTES_A_TOKEN: usize = 4;

/// The server, as a request sees it.
pub(crate) struct App {
    pub options: Arc<Options>,
    pub registry: Registry,
    pub metrics: Arc<Metrics>,
    /// Set when no new connection is taken any more.
    pub draining: AtomicBool,
    /// Requests under way.
    pub under_way: AtomicU64,
    /// Who may do long work on rows: as many as there are cores, so that the others' answers are not
    /// spread thin.
    heavy: Semaphore,
    ids: AtomicU64,
}

/// What an answer took, for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Texts, or rows of embeddings.
    pub texts: usize,
    /// Tokens of the texts.
    pub tokens: usize,
    /// Texts that were too long and lost their beginning.
    pub truncated: usize,
}

/// Texts that were embedded and scored.
pub(crate) struct Scored {
    pub encoded: Vec<Encoded>,
    /// Their vectors.
    pub rows: Matrix,
    pub scores: Scores,
    pub spent: Spent,
}

impl App {
    pub fn new(options: Arc<Options>, registry: Registry, metrics: Arc<Metrics>) -> App {
        App {
            options,
            registry,
            metrics,
            draining: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
            heavy: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            ids: AtomicU64::new(RandomState::new().hash_one(std::process::id())),
        }
    }

    /// A name for a request, different from all others of this server.
    pub fn id(&self) -> String {
        format!("{:016x}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Does work on rows, of so many multiplications each, where it holds up no other request: at once
    /// if there is little, otherwise in its turn.
    pub async fn apart<T>(&self, each: usize, rows: &Matrix, work: impl FnOnce() -> T) -> T {
        if rows.rows().saturating_mul(each) < LONG {
            return work();
        }
        let _turn = self.heavy.acquire().await;
        long(work)
    }

    /// The body of a request as JSON.
    ///
    /// # Errors
    /// 415 for another type, 400 for what is no JSON, 422 for JSON of another shape; those of
    /// [`body::read`].
    pub async fn json<T: DeserializeOwned>(&self, request: Request) -> Result<T, Failure> {
        let kind = body::kind(request.headers());
        if kind.as_deref() != Some("application/json") {
            let message = match kind {
                Some(kind) => format!("`Content-Type` is {kind}, expected application/json"),
                None => "`Content-Type: application/json` is missing".to_owned(),
            };
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
        }
        let bytes = body::read(request, &self.options.limits).await?;
        let parse = || serde_json::from_slice(&bytes).map_err(|e| not_json(&e, &bytes));
        if bytes.len() < LARGE { parse() } else { long(parse) }
    }

    /// Embeds and scores texts.
    ///
    /// # Errors
    /// 413 or 422 for too many; those of the encoder and of the queue; 500 for a reward that is
    /// not finite.
    pub async fn score(&self, model: &Arc<Model>, inputs: Vec<Input>) -> Result<Scored, Failure> {
        let engine = model.engine()?;
        self.check(&inputs)?;
        if self.options.log_prompts {
            tracing::info!(model = model.name, texts = ?inputs, "prompts");
        }
        let encoded = engine.encode(inputs).await?;
        let rows = matrix(model, &encoded)?;
        let scores = score(model, &rows)?;
        self.metrics.rewarded(encoded.len());
        let spent = Spent {
            texts: encoded.len(),
            tokens: encoded.iter().map(|e| e.tokens).sum(),
            truncated: encoded.iter().filter(|e| e.truncated).count(),
        };
        Ok(Scored { encoded, rows, scores, spent })
    }

    fn check(&self, inputs: &[Input]) -> Result<(), Failure> {
        let limits = &self.options.limits;
        if inputs.is_empty() {
            return Err(Failure::field("input", "there is no text to score"));
        }
        if inputs.len() > limits.texts {
            let (n, most) = (inputs.len(), limits.texts);
            let message = format!("{n} texts in a request; at most {most} are taken (--max-texts)");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_texts", message));
        }
        let tokens = crate::engine::bytes_of(inputs) / BYTES_A_TOKEN;
        if tokens > limits.tokens {
            let most = limits.tokens;
            let message = format!(
                "about {tokens} tokens in a request; at most {most} are taken (--max-tokens)"
            );
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_tokens", message));
        }
        Ok(())
    }
}

/// Does long work without holding up requests on the runtime's other threads; where it has one thread
/// only, that one does the work.
fn long<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// Why a body cannot be read as JSON, without a word of what is in it.
fn not_json(error: &serde_json::Error, bytes: &[u8]) -> Failure {
    if error.classify() == Category::Data {
        let failure = Failure::field("body", error.to_string());
        return Failure { param: None, ..failure };
    }
    let has = |word: &[u8]| bytes.windows(word.len()).any(|w| w == word);
    let hint =
        if has(b"NaN") || has(b"Infinity") { "; JSON has no NaN and no Infinity" } else { "" };
    Failure::syntax(format!("the body is not JSON: {error}{hint}"))
}

/// Seconds since 1970, for `created` and for when a model was loaded.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// 200 with a value as JSON.
///
/// # Errors
/// 500 where it cannot be written.
pub(crate) fn reply(value: &impl Serialize, spent: Spent) -> Result<Response, Failure> {
    let text = serde_json::to_vec(value).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(raw(text, "application/json", spent))
}

/// 200 with bytes of a type.
pub(crate) fn raw(bytes: impl Into<Body>, kind: &'static str, spent: Spent) -> Response {
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if spent.truncated > 0 {
        headers.insert("x-lens-truncated", HeaderValue::from(spent.truncated));
    }
    response.extensions_mut().insert(spent);
    response
}
