//! The library's code, of which some panics on what a hostile file makes it do.

use crate::error::{EncoderError, Result};
use lens_data::panics::{caught, words_of};

pub(super) fn failed(error: impl std::fmt::Display) -> EncoderError {
    EncoderError::Tokenizer { detail: error.to_string() }
}

/// Runs the library's code, and makes an error of a panic: ids that are nowhere, tables that end too
/// early.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|panic| {
        let words = words_of(&*panic).unwrap_or("for an unknown reason");
        Err(failed(format!("the library fails: {words}")))
    })
}
