//! An encoder with its queue and its thread, which computes the texts of several requests at a
//! time.
//!
//! Texts of all requests in a call go to the encoder together, which computes equal texts and
//! common beginnings once. A vector does not depend on what else is in the call (to rounding: see
//! `lens-encoder`).

mod queue;
mod worker;

use crate::failure::Failure;
use crate::input::Text;
use crate::memory::Held;
use crate::metrics::{Metrics, QueueLength};
use crate::options::Limits;
use axum::http::StatusCode;
use lens_encoder::{Encoded, EncoderIdentity, TextEncoder};
use queue::Queue;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// Bytes at the beginning of two texts that must be equal for them to be taken to share a prompt.
const BEGINNING: usize = 96;
/// Most tokens in a queue, as a multiple of the most texts.
const TOKENS_PER_TEXT: usize = 1024;

/// The outcome of a job.
pub(crate) type Answer = Result<Vec<Encoded>, Failure>;

/// The texts of one request.
pub(crate) struct Job {
    pub texts: Vec<Text>,
    /// Bytes of all texts.
    pub bytes: usize,
    /// A hash of how the first text begins.
    pub beginning: u64,
    /// What its request holds, also where its client has left.
    pub _held: Arc<Held>,
    pub reply: oneshot::Sender<Answer>,
}

impl Job {
    fn new(texts: Vec<Text>, held: Arc<Held>, reply: oneshot::Sender<Answer>) -> Job {
        let bytes = texts.iter().map(Text::bytes).sum();
        Job { beginning: beginning(&texts), bytes, texts, _held: held, reply }
    }
}

/// The state that an engine shares with its thread.
struct Shared {
    queue: Queue,
    encoder: Box<dyn TextEncoder>,
    metrics: Arc<Metrics>,
    alive: AtomicBool,
    abandoned: AtomicBool,
    budget: usize,
}

/// An encoder, its queue and its thread. When the engine is dropped, the thread answers what is
/// queued, and ends.
pub(crate) struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Starts a thread for an encoder.
    ///
    /// # Errors
    /// The system's, where there can be no further thread.
    pub fn start(
        encoder: Box<dyn TextEncoder>,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Engine> {
        let shared = Arc::new(Shared {
            queue: Queue::new(limits.queue, limits.queue.saturating_mul(TOKENS_PER_TEXT)),
            encoder,
            metrics,
            alive: AtomicBool::new(true),
            abandoned: AtomicBool::new(false),
            budget: limits.batch_tokens,
        });
        let its = Arc::clone(&shared);
        std::thread::Builder::new().name("encoder".to_owned()).spawn(move || worker::work(&its))?;
        Ok(Engine { shared })
    }

    /// Everything that decides the vectors.
    pub fn identity(&self) -> &EncoderIdentity {
        self.shared.encoder.identity()
    }

    /// The address of the server that computes, where one does.
    pub fn server(&self) -> Option<&str> {
        self.shared.encoder.address()
    }

    /// Whether the thread is alive.
    pub fn alive(&self) -> bool {
        self.shared.alive.load(Ordering::SeqCst)
    }

    /// How much waits in the queue.
    pub fn length(&self) -> QueueLength {
        self.shared.queue.length()
    }

    /// Gives up what is queued and, at the next batch, what is computed.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::SeqCst);
        self.shared.queue.abandon();
    }

    /// Vectors of texts, in their order. Texts whose future is dropped are not computed. Their
    /// memory is `held` until then.
    ///
    /// # Errors
    /// 429 if the queue is full; 503 if the server stops; those of the encoder.
    pub async fn encode(&self, texts: Vec<Text>, held: Arc<Held>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(Job::new(texts, held, reply))?;
        answer.await.unwrap_or_else(|_| {
            let message = "the server stopped before the texts were computed";
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message))
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// A hash of how the first text begins.
fn beginning(texts: &[Text]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut left = BEGINNING;
    for part in texts.first().into_iter().flat_map(Text::parts) {
        let taken = &part.as_bytes()[..part.len().min(left)];
        taken.hash(&mut hasher);
        left -= taken.len();
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
