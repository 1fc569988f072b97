//! How much memory there is for requests, where nobody says so.

use lens_data::memory::available;

/// The budget where the system does not tell what it has.
const UNKNOWN: u64 = 1 << 30;
/// The least budget, with which requests of an ordinary size are answered.
const LEAST: u64 = 32 << 20;

/// Half of the memory that this process can still take: the other half is the encoders', and
/// everybody else's.
pub(crate) fn default_budget() -> usize {
    budget_of(available())
}

fn budget_of(free: Option<u64>) -> usize {
    let bytes = free.map_or(UNKNOWN, |free| free / 2).max(LEAST);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_free_and_no_less_than_requests_need() {
        assert_eq!(budget_of(Some(8 << 30)), 4 << 30);
        assert_eq!(budget_of(Some(10 << 20)), 32 << 20);
        assert_eq!(budget_of(None), 1 << 30);
        assert!(default_budget() >= 32 << 20);
    }
}
