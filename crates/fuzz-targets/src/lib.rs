//! What fuzzers feed: a function for each parser of LENS, which takes any bytes and returns.
//!
//! A target must not panic, and takes little time and memory, whatever it is given. Where two ways
//! lead to one result (a table read whole or row by row, a plan and the file that it writes), it also
//! compares them: a difference is a panic.
//!
//! Fuzzers run the targets from `fuzz/`, which needs a nightly compiler. The corpus beside this crate
//! holds a valid input or several for each target, and every input that once broke it; the test
//! `replay` runs all of it in a process with limits of time and memory.
//!
//! Inputs of several files are one text, in which a line `=== NAME` begins each file.

// A panic is how a target says that something is wrong.
#![allow(clippy::expect_used, clippy::panic)]

mod arrays;
mod bundles;
mod configuration;
mod datasets;
mod models;
mod routes;
mod scratch;
mod texts;

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of its folder in the corpus, and of its program in `fuzz/`.
    pub name: &'static str,
    /// Reads an input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "arrays", run: arrays::arrays },
    Target { name: "stored_pairs", run: arrays::stored_pairs },
    Target { name: "gguf", run: models::gguf },
    Target { name: "model_folder", run: models::model_folder },
    Target { name: "template", run: texts::template },
    Target { name: "rendered", run: texts::rendered },
    Target { name: "transcript", run: texts::transcript },
    Target { name: "words", run: texts::words },
    Target { name: "json", run: datasets::json },
    Target { name: "csv", run: datasets::csv },
    Target { name: "parquet", run: datasets::parquet },
    Target { name: "arrow", run: datasets::arrow },
    Target { name: "gzip", run: datasets::gzip },
    Target { name: "zstd", run: datasets::zstd },
    Target { name: "bundle", run: bundles::bundle },
    Target { name: "settings", run: configuration::settings },
    Target { name: "study", run: configuration::study },
    Target { name: "study_log", run: configuration::study_log },
    Target { name: "server_answer", run: models::server_answer },
    Target { name: "routes", run: routes::routes },
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
