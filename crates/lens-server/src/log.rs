//! The log, on standard error: a line an event, for people or as JSON.

use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;

/// Starts the log, of warnings and errors alone where it is to be `quiet`. Where the process has one
/// already, that one goes on.
pub(crate) fn start(json: bool, quiet: bool) {
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(if quiet { LevelFilter::WARN } else { LevelFilter::INFO })
        .with_target(false);
    let _ = match json {
        true => log.json().flatten_event(true).try_init().is_ok(),
        false => log.with_ansi(std::io::stderr().is_terminal()).try_init().is_ok(),
    };
}
