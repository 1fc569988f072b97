//! The libraries of tables, which panic on damaged files where they should return an error.

use crate::panics::{caught, words_of};
use std::fmt::Display;

/// Runs one step of a library; the error is its own, or the words of its panic. Parquet's record
/// interface asserts what a schema or a date may be, and Arrow's reader where buffers lie: a damaged
/// file must not end the program. The state behind a panic is never used again: every caller gives up
/// on the file.
pub(super) fn guarded<T, E: Display>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match caught(step) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(words_of(&*panic).unwrap_or("the decoder gave up").to_owned()),
    }
}
