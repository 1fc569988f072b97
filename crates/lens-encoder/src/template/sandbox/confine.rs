//! The limits that a renderer takes before it reads anything.

use lens_data::memory::address_space_taken;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io;

/// Address space of a rendering, above what the process had at its start.
const SPACE: u64 = 128 << 20;
/// Address space for every byte of a request: it is held as JSON, as messages, as the engine's values,
/// in what a template puts together, and in the answer.
const SPACE_OF_BYTE: u64 = 12;
/// Bytes up to which requests have one limit.
const SMALL: u64 = 1 << 20;
/// What the process is taken to have where the system does not say.
const UNKNOWN: u64 = 1 << 30;
/// Seconds of computing that a rendering may take. They begin within a second: it may be one less.
const SECONDS: u64 = 2;

/// The limits of this process, of which each rendering has its own.
pub(super) struct Confined {
    /// Bytes of address space at the start.
    base: u64,
    space: u64,
    seconds: u64,
}

impl Confined {
    /// Limits this process for good: it can open no file and start no process, and leaves no memory
    /// behind when it crashes.
    pub fn new() -> io::Result<Self> {
        let base = address_space_taken().unwrap_or(UNKNOWN);
        let nothing = Rlimit { current: Some(0), maximum: Some(0) };
        for resource in [Resource::Core, Resource::Nproc, Resource::Nofile, Resource::Fsize] {
            setrlimit(resource, nothing)?;
        }
        let mut confined = Self { base, space: 0, seconds: 0 };
        confined.before(0)?;
        Ok(confined)
    }

    /// Sets the limits of the next rendering, of a request of so many bytes.
    pub fn before(&mut self, bytes: usize) -> io::Result<()> {
        // Most requests are small, and have the limit of the one before.
        let bytes = (bytes as u64).next_multiple_of(SMALL);
        let space = self.base + SPACE + SPACE_OF_BYTE * bytes;
        if space != self.space {
            lower(Resource::As, space)?;
            self.space = space;
        }
        let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
        let seconds = used + SECONDS;
        if seconds != self.seconds {
            lower(Resource::Cpu, seconds)?;
            self.seconds = seconds;
        }
        Ok(())
    }
}

/// Sets a limit, or the highest that is allowed.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(limit, |maximum| limit.min(maximum)));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}
