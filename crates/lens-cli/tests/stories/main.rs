//! Stories of the binary, as one program: linked once, and run side by side.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod any_data;
mod bad_input;
mod bench;
#[path = "common/browser.rs"]
mod browser;
mod common;
mod controls;
mod curves;
mod digests;
mod evaluation;
mod exporting;
mod generation;
mod hostile;
mod interrupt;
mod main_job;
mod one_conversation;
mod public_models;
mod reference_data;
mod remote;
mod report_page;
mod scored_files;
mod serve_contracts;
mod serve_faults;
mod serve_hostile;
mod serve_page;
mod serve_queue;
mod serve_security;
mod shell;
#[path = "../../../lens-encoder/tests/stand_in/mod.rs"]
mod stand_in;
mod starter_dataset;
mod stores;
mod strangers;
mod study;
mod synthesis;
mod templates;
mod tuning;
mod typed_elsewhere;
mod untrainable;
mod warm_start;
