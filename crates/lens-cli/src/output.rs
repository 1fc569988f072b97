//! Standard output: results only, and a closed pipe is not an error.
//!
//! Names and texts of files that others made reach a terminal as something to read, never as a command
//! to it: control characters are written as escapes.

use crate::error::CliError;
pub use lens_report::text::aligned;
use lens_report::text::for_terminal;
use serde::Serialize;
use std::io::Write;

/// Prints one line.
pub fn line(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", for_terminal(text))?;
    out.flush()?;
    Ok(())
}

/// Prints one line for the person watching, on standard error. That nobody reads it (`2>&1 | head`)
/// is no reason to stop.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", for_terminal(text));
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(std::io::Error::from)?;
    line(&text)
}
