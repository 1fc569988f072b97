//! Requests: retried where that can help, several at a time.

use super::wire::{AnswerFault, Flavour, Payload, request, vectors};
use crate::error::{EncoderError, Result, ServerError};
use crate::http::{Client, Retry, Secret, passes, wait};
use lens_core::Progress;
use lens_data::encoder::ServerApi;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

/// Bytes of a small answer, and of everything but the numbers in a large one.
const SMALL: u64 = 1 << 20;
/// A number in JSON, with all its digits and some white space.
const NUMBER: u64 = 40;
/// The answer to the probe, whose width is not known yet.
const PROBE: u64 = 1 << 26;

/// A server that was found out about.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub client: Client,
    /// Where vectors are asked for.
    pub url: String,
    pub key: Option<Secret>,
    pub api: ServerApi,
    pub flavour: Flavour,
    pub model: String,
    pub retry: Retry,
    /// Width of the vectors; 0 before it is known.
    pub dim: usize,
}

/// The vectors of some texts, and the tokens of each.
pub(super) type Vectors = Vec<(Vec<f32>, u32)>;

/// A refusal that another try does not change.
struct Refusal {
    status: u16,
    message: String,
}

impl Caller {
    /// Vectors of a few texts. `index` is where in the caller's slice each of them stands.
    pub fn embed(
        &self,
        payloads: &[Payload],
        index: &dyn Fn(usize) -> usize,
        progress: &dyn Progress,
    ) -> Result<Vectors> {
        let refusal = match self.ask(payloads, index, progress)? {
            Ok(vectors) => return Ok(vectors),
            Err(refusal) => refusal,
        };
        let (url, Refusal { status, message }) = (self.url.clone(), refusal);
        if matches!(status, 401 | 403) {
            return Err(ServerError::Unauthorised { url, status, message }.into());
        }
        if !may_be_one_text(status, &message) {
            return Err(ServerError::Refused { url, status, message }.into());
        }
        if payloads.len() == 1 {
            let index = index(0);
            return Err(if is_about_length(&message) || status == 413 {
                ServerError::TooLong { url, index, message }
            } else {
                ServerError::RefusedText { url, index, status, message }
            }
            .into());
        }
        // One of them, or all of them together: each alone tells.
        let mut all = Vec::with_capacity(payloads.len());
        for (i, payload) in payloads.iter().enumerate() {
            let one = std::slice::from_ref(payload);
            all.extend(self.embed(one, &|_| index(i), progress)?);
        }
        Ok(all)
    }

    fn ask(
        &self,
        payloads: &[Payload],
        index: &dyn Fn(usize) -> usize,
        progress: &dyn Progress,
    ) -> Result<std::result::Result<Vectors, Refusal>> {
        let body = request(self.flavour, &self.model, payloads);
        let limit = match self.dim {
            0 => PROBE,
            dim => SMALL + NUMBER * (payloads.len() * dim) as u64,
        };
        for attempt in 0.. {
            if progress.cancelled() {
                return Err(EncoderError::Cancelled);
            }
            let last = attempt + 1 >= self.retry.attempts;
            let asked = match self.client.post(&self.url, self.key.as_ref(), &body) {
                Ok(answer) if answer.is_success() => {
                    let tokens = answer.header("x-compute-tokens").and_then(|t| t.parse().ok());
                    match answer.bytes(limit) {
                        Ok(bytes) => {
                            return self.vectors(&bytes, payloads, tokens, index).map(Ok);
                        }
                        Err(e) if e.is_passing() && !last => None,
                        Err(e) => return Err(ServerError::Network(e).into()),
                    }
                }
                Ok(answer) => {
                    let (status, asked) = (answer.status, answer.retry_after());
                    let message = answer.message();
                    let message = match &self.key {
                        Some(key) => key.hide_in(&message),
                        None => message,
                    };
                    if !passes(status) || is_about_size(&message) {
                        return Ok(Err(Refusal { status, message }));
                    }
                    if last {
                        let url = self.url.clone();
                        return Err(ServerError::Refused { url, status, message }.into());
                    }
                    asked
                }
                Err(e) if e.is_passing() && !last => None,
                Err(e) => return Err(ServerError::Network(e).into()),
            };
            if !wait(self.retry.pause(attempt, asked), progress) {
                break;
            }
        }
        Err(EncoderError::Cancelled)
    }

    fn vectors(
        &self,
        bytes: &[u8],
        payloads: &[Payload],
        tokens: Option<u64>,
        index: &dyn Fn(usize) -> usize,
    ) -> Result<Vectors> {
        let url = || self.url.clone();
        let n = payloads.len();
        let (rows, said) = vectors(self.api, bytes, n).map_err(|fault| match fault {
            AnswerFault::Garbage(detail) => ServerError::Garbage { url: url(), detail }.into(),
            AnswerFault::Count { found } => {
                ServerError::Count { url: url(), index: index(0), expected: n, found }.into()
            }
            AnswerFault::NotFinite { at } => EncoderError::NonFinite { index: index(at) },
        })?;
        let expected = if self.dim > 0 { self.dim } else { rows.first().map_or(0, Vec::len) };
        if expected == 0 {
            return Err(ServerError::Garbage { url: url(), detail: "empty vectors".into() }.into());
        }
        if let Some(at) = rows.iter().position(|r| r.len() != expected) {
            let (index, found) = (index(at), rows[at].len());
            return Err(ServerError::Width { url: url(), index, expected, found }.into());
        }
        let tokens = shares(said.or(tokens).unwrap_or(0), payloads);
        Ok(rows.into_iter().zip(tokens).collect())
    }
}

/// The tokens of all texts, shared out by their lengths: servers tell only the sum.
fn shares(total: u64, payloads: &[Payload]) -> Vec<u32> {
    let bytes: u128 = payloads.iter().map(|p| p.bytes() as u128).sum::<u128>().max(1);
    let (mut seen, mut given) = (0u128, 0u128);
    payloads
        .iter()
        .map(|p| {
            seen += p.bytes() as u128;
            let upto = u128::from(total) * seen / bytes;
            let share = upto - given;
            given = upto;
            u32::try_from(share).unwrap_or(u32::MAX)
        })
        .collect()
}

/// Whether a single text can be why a request was refused.
fn may_be_one_text(status: u16, message: &str) -> bool {
    matches!(status, 400 | 413 | 422 | 424) || is_about_size(message)
}

/// Some servers answer an over-long text as if they were out of order.
fn is_about_size(message: &str) -> bool {
    message.contains("too large to process") || message.contains("exceeds the available context")
}

fn is_about_length(message: &str) -> bool {
    let message = message.to_lowercase();
    ["context length", "context size", "tokens", "too long", "too large", "max_model_len"]
        .iter()
        .any(|word| message.contains(word))
}

/// A progress that is cancelled once its flag is set.
#[derive(Debug, Default)]
pub(super) struct Stop(AtomicBool);

impl Progress for Stop {
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, _line: &str) {}
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests under way. Dropped, it starts no more; those that are out end by their time limit, aside.
pub(super) struct Pool {
    stop: Arc<Stop>,
    /// Finished batches, as they come.
    pub done: Receiver<(Range<usize>, Result<Vectors>)>,
}

impl Pool {
    /// Asks for all texts, `batch` at a time, in at most `concurrency` requests at once. `indexes`
    /// are the places of the texts in the caller's slice.
    pub fn start(
        caller: &Caller,
        payloads: Vec<Payload>,
        indexes: Vec<usize>,
        batch: usize,
        concurrency: usize,
    ) -> Self {
        let batches = payloads.len().div_ceil(batch);
        let shared = Arc::new((caller.clone(), payloads, indexes, AtomicUsize::new(0)));
        let stop = Arc::new(Stop::default());
        let (send, done) = channel();
        for _ in 0..concurrency.min(batches) {
            let (shared, stop, send) = (Arc::clone(&shared), Arc::clone(&stop), send.clone());
            std::thread::spawn(move || {
                let (caller, payloads, indexes, next) = &*shared;
                while !stop.cancelled() {
                    let from = next.fetch_add(1, Ordering::Relaxed) * batch;
                    if from >= payloads.len() {
                        return;
                    }
                    let range = from..(from + batch).min(payloads.len());
                    let index = |i: usize| indexes[from + i];
                    let vectors = caller.embed(&payloads[range.clone()], &index, &*stop);
                    if send.send((range, vectors)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { stop, done }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn token_shares_add_up() {
        let texts = ["a", "bbbb", "", "cc"].map(|t| Payload::Text(t.into()));
        let shares = shares(10, &texts);
        assert_eq!(shares.iter().sum::<u32>(), 10);
        assert_eq!(shares[2], 0);
        assert_eq!(super::shares(5, &[Payload::Text(String::new())]), [0]);
    }
}
