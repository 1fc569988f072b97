//! The queue of an encoder: bounded in texts and in tokens, and without the jobs whose clients have
//! left.

use super::Job;
use crate::failure::Failure;
use crate::metrics::QueueLength;
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most seconds after which a client is told to try again.
const MAX_RETRY_AFTER: f64 = 120.0;
/// Weight of a new measurement in the running average.
const NEWEST_WEIGHT: f64 = 0.2;
/// Tokens per byte before anything is measured: more than most texts have.
const FIRST_DENSITY: f64 = 0.5;

/// Jobs in the order they came.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    most_texts: usize,
    most_tokens: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    texts: usize,
    bytes: usize,
    closed: bool,
    /// Jobs dropped since the last batch was taken.
    vanished: usize,
    /// Tokens per byte, as measured.
    density: Option<f64>,
    /// Tokens per second, as measured.
    rate: Option<f64>,
}

impl State {
    fn tokens(&self, bytes: usize) -> f64 {
        bytes as f64 * self.density.unwrap_or(FIRST_DENSITY)
    }

    /// Drops the jobs that nobody waits for any more.
    fn drop_abandoned(&mut self) {
        let before = self.jobs.len();
        self.jobs.retain(|job| !job.reply.is_closed());
        self.vanished += before - self.jobs.len();
        self.recount();
    }

    fn recount(&mut self) {
        self.texts = self.jobs.iter().map(|j| j.texts.len()).sum();
        self.bytes = self.jobs.iter().map(|j| j.bytes).sum();
    }
}

/// The jobs of the next call of the encoder.
pub(crate) struct Batch {
    pub jobs: Vec<Job>,
    /// Jobs that nobody waited for any more.
    pub vanished: usize,
}

impl Queue {
    /// An empty queue of so many texts, and so many tokens.
    pub fn new(most_texts: usize, most_tokens: usize) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), most_texts, most_tokens }
    }

    /// Puts a job at the end.
    ///
    /// # Errors
    /// 429 where there is no room, with the time after which there should be; 503 after the end.
    pub fn push(&self, job: Job) -> Result<(), Failure> {
        let mut state = self.state();
        if state.closed {
            let message = "the server is stopping, or its encoder has ended";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message));
        }
        let (texts, bytes) = (job.texts.len(), job.bytes);
        let full = |state: &State| {
            let tokens = state.tokens(state.bytes + bytes);
            // What is too big for the whole queue still goes into an empty one.
            let over = state.texts + texts > self.most_texts || tokens > self.most_tokens as f64;
            !state.jobs.is_empty() && over
        };
        if full(&state) {
            state.drop_abandoned();
        }
        if full(&state) {
            let rate = state.rate.unwrap_or(f64::INFINITY);
            let wait = (state.tokens(state.bytes) / rate).ceil().clamp(1.0, MAX_RETRY_AFTER) as u64;
            let message =
                format!("{} texts are waiting already; try again in {wait} s", state.texts);
            let full = Failure::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
            return Err(Failure { retry_after: Some(wait), ..full });
        }
        state.texts += texts;
        state.bytes += bytes;
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes as many as a call of about `budget` tokens holds: the one that came
    /// first, those that begin as it does, then whatever comes next. `None` when the queue is
    /// closed and empty.
    pub fn take(&self, budget: usize) -> Option<Batch> {
        let mut state = self.state();
        let first = loop {
            state.drop_abandoned();
            if let Some(first) = state.jobs.pop_front() {
                break first;
            }
            if state.vanished > 0 {
                // Said at once, not with the next job.
                let vanished = std::mem::take(&mut state.vanished);
                return Some(Batch { jobs: Vec::new(), vanished });
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        let beginning = first.beginning;
        let mut left = budget as f64 - state.tokens(first.bytes);
        let mut jobs = vec![first];
        for alike in [true, false] {
            let mut i = 0;
            while i < state.jobs.len() && left > 0.0 {
                let job = &state.jobs[i];
                let tokens = state.tokens(job.bytes);
                if tokens > left || alike && job.beginning != beginning {
                    // What comes next must not be overtaken again and again by smaller ones.
                    if !alike {
                        break;
                    }
                    i += 1;
                } else if let Some(job) = state.jobs.remove(i) {
                    left -= tokens;
                    jobs.push(job);
                }
            }
        }
        state.recount();
        let vanished = std::mem::take(&mut state.vanished);
        Some(Batch { jobs, vanished })
    }

    /// Learns from a call: its bytes, its tokens, how long it took.
    pub fn measured(&self, bytes: usize, tokens: u64, time: Duration) {
        let mut state = self.state();
        let mix = |old: Option<f64>, new: f64| {
            if !new.is_finite() || new <= 0.0 {
                return old;
            }
            Some(old.map_or(new, |old| old + NEWEST_WEIGHT * (new - old)))
        };
        state.density = mix(state.density, tokens as f64 / bytes as f64);
        state.rate = mix(state.rate, tokens as f64 / time.as_secs_f64());
    }

    /// How much waits.
    pub fn length(&self) -> QueueLength {
        let state = self.state();
        QueueLength { texts: state.texts, tokens: state.tokens(state.bytes) as usize }
    }

    /// Takes no more jobs; those that are in it are still computed.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more jobs, and gives up those that are in it.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        state.jobs.clear();
        state.recount();
        drop(state);
        self.changed.notify_all();
    }

    /// A panic elsewhere leaves nothing half done in what this lock guards.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::Answer;
    use crate::input::Text;
    use crate::memory::Budget;
    use tokio::sync::oneshot;

    fn job(text: &str, copies: usize) -> (Job, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let texts = vec![Text::Rendered(text.to_owned()); copies];
        (Job::new(texts, Budget::new(0).request(), reply), answer)
    }

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.jobs.iter().map(|job| job.texts[0].parts().next().unwrap()).collect()
    }

    #[test]
    fn a_batch_has_the_first_then_its_likes_then_the_next_and_no_more_than_fits() {
        let queue = Queue::new(100, 10_000);
        let long = "x".repeat(200);
        let all = ["a".repeat(100), "b".repeat(100), format!("{}!", "a".repeat(99)), long];
        let _waiting: Vec<_> = all
            .iter()
            .map(|text| {
                let (job, answer) = job(text, 1);
                queue.push(job).unwrap();
                answer
            })
            .collect();
        // 50 tokens each by the first estimate; the long one has 100.
        let batch = queue.take(160).unwrap();
        assert_eq!(texts(&batch), [&all[0], &all[2], &all[1]]);
        assert_eq!(queue.length(), QueueLength { texts: 1, tokens: 100 });
        // One that is larger than the budget goes alone.
        assert_eq!(texts(&queue.take(10).unwrap()), [&all[3]]);
    }

    #[test]
    fn a_full_queue_names_the_wait_and_makes_room_for_the_living() {
        let queue = Queue::new(3, 1_000_000);
        queue.measured(1000, 250, Duration::from_secs(10));
        let (first, gone) = job(&"w".repeat(1000), 2);
        queue.push(first).unwrap();
        let (second, _kept) = job("ok", 2);
        let refused = queue.push(second).unwrap_err();
        // 2,000 bytes are 500 tokens, at 25 a second.
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(20)));
        drop(gone);
        let (third, _kept) = job("ok", 2);
        queue.push(third).unwrap();
        assert_eq!(queue.length().texts, 2);
    }

    #[test]
    fn what_is_larger_than_the_queue_goes_into_an_empty_one() {
        let queue = Queue::new(2, 10);
        let (big, _kept) = job(&"w".repeat(1000), 5);
        queue.push(big).unwrap();
        let (next, _kept) = job("w", 1);
        assert_eq!(queue.push(next).unwrap_err().code, "queue_full");
    }

    #[test]
    fn who_left_is_not_computed_and_the_end_comes_after_the_last() {
        let queue = Queue::new(10, 1000);
        let (left, answer) = job("gone", 1);
        let (stays, _kept) = job("here", 1);
        queue.push(left).unwrap();
        queue.push(stays).unwrap();
        drop(answer);
        queue.close();
        let (late, _kept_too) = job("late", 1);
        assert_eq!(queue.push(late).unwrap_err().status.as_u16(), 503);
        let batch = queue.take(1000).unwrap();
        assert_eq!((texts(&batch), batch.vanished), (vec!["here"], 1));
        assert!(queue.take(1000).is_none());
    }
}
