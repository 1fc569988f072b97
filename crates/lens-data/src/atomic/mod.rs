//! Outputs that appear whole or not at all.
//!
//! A file or a folder is written beside its target under a temporary name, brought to the disk,
//! and renamed. On an error or a drop nothing is left behind. What a killed process leaves behind
//! is recognisable (`.NAME.tmp-PID-RANDOM`, held by no process) and is removed by the next write to the
//! same target.

mod file;
mod folder;
mod temporary;

pub use file::{AtomicFile, write_atomic, write_atomic_with};
pub use folder::{AtomicDir, Existing};

#[cfg(test)]
mod tests;
