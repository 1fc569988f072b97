//! Memory is a budget: bodies that are read, what is read from them, texts that are computed and
//! answers that are sent stay under it together.
//!
//! Everything is charged before it is built, to the request that it belongs to ([`Held`]). What a
//! request holds is given back when the last byte of its answer has left, or its client has.

mod answer;
mod free;

use crate::failure::Failure;
pub(crate) use answer::Answer;
use axum::http::StatusCode;
pub(crate) use free::default_budget;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seconds after which to try again where others hold the memory.
const RETRY_AFTER: u64 = 1;

/// The bytes that all requests may hold together.
pub(crate) struct Budget {
    total: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Arc<Budget> {
        Arc::new(Budget { total, used: AtomicUsize::new(0) })
    }

    /// Bytes that there are in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes that are held at the moment.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A request that holds nothing yet.
    pub fn request(self: &Arc<Budget>) -> Arc<Held> {
        Arc::new(Held { budget: Arc::clone(self), bytes: AtomicUsize::new(0) })
    }
}

/// What one request holds; given back when the last owner is dropped.
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Held {
    /// Charges further bytes. Call it before they are allocated.
    ///
    /// # Errors
    /// 413 where the request alone would hold more than the whole budget; 429 where others hold
    /// what it needs at the moment.
    pub fn take(&self, more: usize) -> Result<(), Failure> {
        let Budget { total, used } = &*self.budget;
        let own = self.bytes.load(Ordering::Relaxed).saturating_add(more);
        if own > *total {
            let message = format!(
                "the request would take about {own} bytes of memory; {total} are allowed (--memory)"
            );
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "memory", message));
        }
        let room = |used: usize| used.checked_add(more).filter(|sum| sum <= total);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            let message = format!(
                "other requests hold the {total} bytes of memory that are allowed (--memory); try \
                 again in {RETRY_AFTER} s"
            );
            let full = Failure::new(StatusCode::TOO_MANY_REQUESTS, "memory_full", message);
            return Err(Failure { retry_after: Some(RETRY_AFTER), ..full });
        }
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Charges `items` things of `each` bytes.
    ///
    /// # Errors
    /// As [`Held::take`].
    pub fn take_each(&self, items: usize, each: usize) -> Result<(), Failure> {
        self.take(items.saturating_mul(each))
    }

    /// Gives back all but `bytes`.
    pub fn keep(&self, bytes: usize) {
        let before = self.bytes.fetch_min(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(before.saturating_sub(bytes), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// Bytes for `more` further ones, charged already.
///
/// # Errors
/// 503 where the system has no memory left.
pub(crate) fn reserve(bytes: &mut Vec<u8>, more: usize) -> Result<(), Failure> {
    bytes.try_reserve_exact(more).map_err(|_| {
        let message = "the system has no memory left for this request";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_memory", message)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_held_together_stays_under_the_budget() {
        let budget = Budget::new(100);
        let (one, other) = (budget.request(), budget.request());
        one.take(60).unwrap();
        let refused = other.take(41).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(1)));
        other.take(40).unwrap();
        assert_eq!(budget.used(), 100);
        one.keep(10);
        assert_eq!(budget.used(), 50);
        one.keep(30);
        assert_eq!(budget.used(), 50, "nothing is charged by keeping");
        drop(one);
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_alone_is_too_much_is_no_matter_of_waiting() {
        let budget = Budget::new(100);
        let one = budget.request();
        one.take(60).unwrap();
        let refused = one.take(41).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (413, None));
        assert!(refused.message.contains("about 101 bytes"), "{}", refused.message);
        for (items, each) in [(usize::MAX, 2), (2, usize::MAX), (usize::MAX, 1)] {
            assert_eq!(one.take_each(items, each).unwrap_err().status.as_u16(), 413);
        }
        assert_eq!(budget.used(), 60);
    }

    #[test]
    fn many_at_a_time_never_hold_more_than_there_is() {
        let budget = Budget::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..2000 {
                        let held = budget.request();
                        let _ = held.take(n % 700);
                        let _ = held.take(100);
                        assert!(budget.used() <= 1000);
                        held.keep(n % 50);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
