//! The thread of an encoder.

use super::{Job, Shared};
use crate::failure::{Failure, faulty_text};
use crate::input::Text;
use crate::printable::{message_of_panic, printable};
use lens_core::Progress;
use lens_encoder::{Encoded, EncoderError, Input};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Takes from the queue until it is closed and empty. A panic ends a call, not the thread: the
/// encoder's locks guard nothing that can be left half done.
pub(super) fn work(shared: &Shared) {
    let _last = MarkEnded(shared);
    while let Some(batch) = shared.queue.take(shared.budget) {
        shared.metrics.vanished(batch.vanished);
        if !batch.jobs.is_empty() {
            Call { shared, jobs: batch.jobs }.run();
        }
    }
}

/// Marks the thread as ended when it is dropped, also by a panic.
struct MarkEnded<'a>(&'a Shared);

impl Drop for MarkEnded<'_> {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::SeqCst);
        self.0.queue.abandon();
    }
}

/// The jobs of one call of the encoder.
struct Call<'a> {
    shared: &'a Shared,
    jobs: Vec<Job>,
}

/// Cancels a call when no client waits for it any more.
struct StopWhenAbandoned<'a>(&'a Shared, &'a [Job]);

impl Progress for StopWhenAbandoned<'_> {
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, line: &str) {
        tracing::info!("{}", printable(line));
    }
    fn cancelled(&self) -> bool {
        self.0.abandoned.load(Ordering::Relaxed) || self.1.iter().all(|j| j.reply.is_closed())
    }
}

impl Call<'_> {
    fn run(mut self) {
        // A text that cannot be computed is answered, and the others are computed without it.
        while !self.jobs.is_empty() {
            let sizes: Vec<usize> = self.jobs.iter().map(|job| job.texts.len()).collect();
            // Here prompts are copied; texts that wait share them.
            let texts = self.jobs.iter().flat_map(|job| &job.texts);
            let inputs: Vec<Input> = texts.map(Text::input).collect();
            match self.compute(&inputs) {
                Ok(encoded) => return self.answer(encoded, &sizes),
                Err(failed) => {
                    let at = failed.error.as_ref().and_then(faulty_text);
                    let Some((faulty, offset)) = at.and_then(|index| job_of_text(&sizes, index))
                    else {
                        let failure = failed.failure(0);
                        return self.fail(&failure);
                    };
                    let job = self.jobs.remove(faulty);
                    let _ = job.reply.send(Err(failed.failure(offset)));
                }
            }
        }
    }

    fn compute(&self, inputs: &[Input]) -> Result<Vec<Encoded>, CallError> {
        let Shared { encoder, metrics, queue, .. } = self.shared;
        let (before, start) = (encoder.stats(), Instant::now());
        let progress = StopWhenAbandoned(self.shared, &self.jobs);
        let done = catch_unwind(AssertUnwindSafe(|| encoder.encode_inputs(inputs, &progress)));
        let time = start.elapsed();
        let after = encoder.stats();
        metrics.encoded(self.jobs.len(), inputs.len(), &before, &after, time);
        match done {
            Ok(Ok(encoded)) if encoded.len() == inputs.len() => {
                let tokens = encoded.iter().map(|e| e.tokens as u64).sum();
                queue.measured(self.jobs.iter().map(|job| job.bytes).sum(), tokens, time);
                Ok(encoded)
            }
            Ok(Ok(encoded)) => {
                let (asked, got) = (inputs.len(), encoded.len());
                Err(CallError { error: None, message: format!("{got} vectors of {asked} texts") })
            }
            Ok(Err(error)) => {
                let said = printable(&error.to_string());
                tracing::warn!(texts = inputs.len(), "the encoder failed: {said}");
                Err(CallError { message: String::new(), error: Some(error) })
            }
            Err(panic) => {
                let message = printable(message_of_panic(&*panic));
                metrics.panicked();
                tracing::error!(texts = inputs.len(), "the encoder panicked: {message}");
                // What panicked may name texts; the client learns only that it did.
                Err(CallError {
                    error: None,
                    message: "the encoder failed; see the log".to_owned(),
                })
            }
        }
    }

    fn answer(self, encoded: Vec<Encoded>, sizes: &[usize]) {
        let mut encoded = encoded.into_iter();
        for (job, size) in self.jobs.into_iter().zip(sizes) {
            let own: Vec<Encoded> = encoded.by_ref().take(*size).collect();
            // Whoever left in the meantime does not get it.
            let _ = job.reply.send(Ok(own));
        }
    }

    fn fail(self, failure: &Failure) {
        for job in self.jobs {
            let _ = job.reply.send(Err(failure.clone()));
        }
    }
}

/// Why a call of the encoder gave no vectors.
struct CallError {
    error: Option<EncoderError>,
    message: String,
}

impl CallError {
    /// The refusal for the job whose texts begin at `offset`.
    fn failure(&self, offset: usize) -> Failure {
        match &self.error {
            Some(error) => Failure::from_encoder(error, offset),
            None => Failure::internal(self.message.clone()),
        }
    }
}

/// The job that has the text with this index in the call, and the index of its first text.
fn job_of_text(sizes: &[usize], index: usize) -> Option<(usize, usize)> {
    let mut offset = 0;
    for (job, size) in sizes.iter().enumerate() {
        if index < offset + size {
            return Some((job, offset));
        }
        offset += size;
    }
    None
}
