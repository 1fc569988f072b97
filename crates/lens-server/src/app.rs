//! The server's state, which every request shares, and the steps that the routes have in common.

use crate::body;
use crate::failure::Failure;
use crate::input::{Asked, PARSED};
use crate::memory::{Budget, Held, default_budget};
use crate::metrics::Metrics;
use crate::models::{Model, Registry};
use crate::options::Options;
use crate::response::Usage;
use crate::score::{Distance, distances, matrix, score};
use axum::extract::Request;
use axum::http::StatusCode;
use lens_core::{Judged, Matrix};
use lens_encoder::Encoded;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Bytes from which on a body is parsed apart from other requests.
const LARGE_BODY: usize = 256 << 10;
/// Multiplications from which on work on rows of embeddings is done apart from other requests.
const LONG_WORK: usize = 20_000_000;
/// Bytes that a token is taken to have.
const BYTES_PER_TOKEN: usize = 4;
/// Memory that a byte of text takes while it goes through template and tokenizer.
const MEMORY_PER_BYTE: usize = 96;
/// Memory that a text takes beside that, until its line of the answer is written.
const MEMORY_PER_TEXT: usize = 4 << 10;
/// Copies of a text's vector: the encoder's, the matrix's, and the one that is standardised.
const VECTORS_PER_TEXT: usize = 3;

/// The server's state.
pub(crate) struct App {
    pub options: Arc<Options>,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    /// The memory that all requests share.
    pub budget: Arc<Budget>,
    /// Set when the shutdown begins.
    pub draining: AtomicBool,
    /// Requests under way.
    pub under_way: AtomicU64,
    /// Permits for long work on rows, one a core, so that each piece of it is done as fast as it
    /// can be.
    long_work: Semaphore,
    next_id: AtomicU64,
}

/// Texts that were embedded and scored.
pub(crate) struct Scored {
    pub encoded: Vec<Encoded>,
    /// Their vectors, a row a text.
    pub rows: Matrix,
    /// What the model says of them.
    pub judged: Judged,
    /// How far they are from what the model was trained on; `None` where it does not measure that.
    pub distances: Option<Vec<Distance>>,
    pub usage: Usage,
}

impl App {
    pub fn new(options: Arc<Options>, registry: Registry, metrics: Arc<Metrics>) -> App {
        // Now that models are loaded: half of what is left.
        let budget = Budget::new(options.limits.memory.unwrap_or_else(default_budget));
        App {
            options,
            registry: Arc::new(registry),
            metrics,
            budget,
            draining: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
            long_work: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            next_id: AtomicU64::new(RandomState::new().hash_one(std::process::id())),
        }
    }

    /// An identifier for a request, unique within this server.
    pub fn next_request_id(&self) -> String {
        format!("{:016x}", self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Does work on rows of embeddings that takes `per_row` multiplications a row. Much work waits
    /// for a permit and is done apart from other requests; little work is done at once.
    pub async fn work_on_rows<T>(
        &self,
        per_row: usize,
        rows: &Matrix,
        work: impl FnOnce() -> T,
    ) -> T {
        if rows.rows().saturating_mul(per_row) < LONG_WORK {
            return work();
        }
        let _permit = self.long_work.acquire().await;
        long(work)
    }

    /// What a request holds of the memory; the guard gives it to each.
    pub fn held(&self, request: &Request) -> Arc<Held> {
        let held = request.extensions().get::<Arc<Held>>();
        held.map_or_else(|| self.budget.request(), Arc::clone)
    }

    /// The body of a request as JSON, with what the request holds of the memory.
    ///
    /// # Errors
    /// 415 for another type, 400 for what is no JSON, 422 for JSON of another shape; those of
    /// [`body::read`].
    pub async fn json<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<(T, Arc<Held>), Failure> {
        let media_type = body::media_type(request.headers());
        if media_type.as_deref() != Some("application/json") {
            let message = match media_type {
                Some(other) => format!("`Content-Type` is {other}, expected application/json"),
                None => "`Content-Type: application/json` is missing".to_owned(),
            };
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
        }
        let held = self.held(&request);
        let bytes = body::read(request, &self.options.limits, &held).await?;
        held.take_each(bytes.len(), PARSED)?;
        let parse = || serde_json::from_slice(&bytes).map_err(|e| not_json(&e, &bytes));
        let body = if bytes.len() < LARGE_BODY { parse()? } else { long(parse)? };
        Ok((body, held))
    }

    /// Embeds and scores texts.
    ///
    /// # Errors
    /// 413 or 422 for too many, those of [`Held::take`]: before anything is made of them. Those of
    /// the encoder and of the queue; 500 for a reward that is not finite.
    pub async fn score(
        &self,
        model: &Arc<Model>,
        asked: impl Asked,
        held: &Arc<Held>,
    ) -> Result<Scored, Failure> {
        let engine = model.engine()?;
        self.admit(model, &asked, held)?;
        let texts = asked.texts()?;
        if self.options.log_prompts {
            tracing::info!(model = model.name, ?texts, "prompts");
        }
        let encoded = engine.encode(texts, Arc::clone(held)).await?;
        let rows = matrix(model, &encoded)?;
        let judged = score(model, &rows)?;
        let distances = self.distances(model, &rows).await?;
        self.metrics.rewarded(encoded.len());
        let usage = Usage {
            texts: encoded.len(),
            tokens: encoded.iter().map(|e| e.tokens).sum(),
            truncated: encoded.iter().filter(|e| e.truncated).count(),
            out_of_distribution: beyond(distances.as_deref()),
        };
        Ok(Scored { encoded, rows, judged, distances, usage })
    }

    /// The distance of every row from the responses that were trained on, each finite; `None` for a
    /// model that does not measure it.
    ///
    /// # Errors
    /// 500 for a distance that is not finite.
    pub async fn distances(
        &self,
        model: &Model,
        rows: &Matrix,
    ) -> Result<Option<Vec<Distance>>, Failure> {
        let each = model.novelty.as_ref().map_or(0, |(vae, _)| vae.shape().parameters());
        self.work_on_rows(each, rows, || distances(model, rows)).await
    }

    /// The refusal of a request whose answer takes too long.
    pub fn too_late(&self) -> Failure {
        let seconds = self.options.limits.timeout.as_secs_f64();
        let message = format!("no answer within {seconds} s (--timeout)");
        Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    /// Refuses requests with too many texts or tokens, or none, and charges the others.
    fn admit(&self, model: &Model, asked: &impl Asked, held: &Held) -> Result<(), Failure> {
        let limits = &self.options.limits;
        let (count, bytes) = (asked.count(), asked.bytes());
        if count == 0 {
            return Err(Failure::field("input", "there is no text to score"));
        }
        if count > limits.texts {
            let most = limits.texts;
            let message =
                format!("{count} texts in a request; at most {most} are taken (--max-texts)");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_texts", message));
        }
        let tokens = bytes / BYTES_PER_TOKEN;
        if tokens > limits.tokens {
            let most = limits.tokens;
            let message = format!(
                "about {tokens} tokens in a request; at most {most} are taken (--max-tokens)"
            );
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_tokens", message));
        }
        let vectors = model.dim().saturating_mul(VECTORS_PER_TEXT * size_of::<f32>());
        held.take_each(count, MEMORY_PER_TEXT.saturating_add(vectors))?;
        held.take_each(bytes, MEMORY_PER_BYTE)
    }
}

/// How many rows are out of distribution.
pub(crate) fn beyond(distances: Option<&[Distance]>) -> usize {
    distances.unwrap_or_default().iter().filter(|d| d.out_of_distribution).count()
}

/// Does long work without holding up requests on the runtime's other threads; where it has one
/// thread only, that one does the work.
fn long<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// The refusal of a body that cannot be read as JSON. It quotes nothing of the body.
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
