//! How much memory there is for requests, where nobody says so.

use lens_encoder::available_memory;
use rustix::process::{Resource, getrlimit};

/// The budget where the system does not tell what it has.
const UNKNOWN: u64 = 1 << 30;
/// The least budget, with which requests of an ordinary size are answered.
const LEAST: u64 = 32 << 20;

/// Half of the memory that this process can still take: the other half is the encoders', and
/// everybody else's.
pub(crate) fn default_budget() -> usize {
    let free = [available_memory(), address_space_left()].into_iter().flatten().min();
    budget_of(free)
}

fn budget_of(free: Option<u64>) -> usize {
    let bytes = free.map_or(UNKNOWN, |free| free / 2).max(LEAST);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What the limit of addresses (`ulimit -v`) leaves; `None` without a limit.
fn address_space_left() -> Option<u64> {
    let limit = getrlimit(Resource::As).current?;
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with("VmSize:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes * 1024))
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
