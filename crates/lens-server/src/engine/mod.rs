//! An encoder with its queue and its thread, which computes the texts of several requests at a
//! time.
//!
//! Texts of all requests in a call go to the encoder together, which computes equal texts and
//! common beginnings once. A vector does not depend on what else is in the call (to rounding: see
//! `lens-encoder`).

mod queue;
mod worker;

use crate::failure::Failure;
use crate::metrics::{Metrics, QueueLength};
use crate::options::Limits;
use axum::http::StatusCode;
use lens_core::Content;
use lens_encoder::{Encoded, EncoderIdentity, Input, TextEncoder};
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
    pub inputs: Vec<Input>,
    /// Bytes of all texts.
    pub bytes: usize,
    /// A hash of how the first text begins.
    pub beginning: u64,
    pub reply: oneshot::Sender<Answer>,
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

    /// Vectors of texts, in their order. Texts whose future is dropped are not computed.
    ///
    /// # Errors
    /// 429 if the queue is full; 503 if the server stops; those of the encoder.
    pub async fn encode(&self, inputs: Vec<Input>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let job = Job { bytes: bytes_of(&inputs), beginning: beginning(&inputs), inputs, reply };
        self.shared.queue.push(job)?;
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

/// The parts of the text of an input, in their order.
fn parts(input: &Input) -> Vec<&str> {
    fn of(content: &Content) -> Vec<&str> {
        match content {
            Content::Text(text) => vec![text],
            Content::Messages(all) => all.iter().map(|m| m.content.as_str()).collect(),
        }
    }
    match input {
        Input::Text(text) | Input::Rendered(text) => vec![text],
        Input::Exchange(exchange) => [of(&exchange.prompt), of(&exchange.response)].concat(),
    }
}

/// Bytes of texts; each counts as at least one.
pub(crate) fn bytes_of(inputs: &[Input]) -> usize {
    let one = |input: &Input| parts(input).iter().map(|p| p.len()).sum::<usize>().max(1);
    inputs.iter().map(one).sum()
}

/// A hash of how the first text begins.
fn beginning(inputs: &[Input]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut left = BEGINNING;
    for part in inputs.first().map(parts).unwrap_or_default() {
        let taken = &part.as_bytes()[..part.len().min(left)];
        taken.hash(&mut hasher);
        left -= taken.len();
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
