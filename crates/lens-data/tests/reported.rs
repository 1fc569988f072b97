//! Files of the kinds that users of other tools reported as misread, each of twelve rows, and what is
//! right of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::Quiet;
use lens_data::{DataSource, ReadOptions, Reason, Survey, survey};
use std::path::Path;

fn read(name: &str) -> Survey {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reported").join(name);
    survey(&DataSource::from(path), &ReadOptions::default(), &Quiet).unwrap()
}

#[test]
fn columns_of_every_type_hold_the_same_pairs() {
    const TEXT: &str = "e613cb1d09ae2b447fde8dd26173d3a4be6da4a9d71879ef4a8fa5161398b56c";
    const MESSAGES: &str = "6f932c41a4f0a79d256fb4f82cb82f288e4ac4be68aa9febce8e7df7afefc2fd";
    for (name, fingerprint) in [
        ("string-view.parquet", TEXT),
        ("odd-columns.parquet", TEXT),
        ("null-then-text.jsonl", TEXT),
        ("shards", TEXT),
        ("large-list.parquet", MESSAGES),
        ("content-parts.parquet", MESSAGES),
        ("sharegpt.jsonl", MESSAGES),
    ] {
        let found = read(name);
        assert_eq!((found.report.read, found.report.used), (12, 12), "{name}");
        assert_eq!(found.fingerprint, fingerprint, "{name}");
    }
    // NaN in a column that nobody reads; quotes, commas and line breaks inside, behind a byte order mark.
    for name in ["nan.parquet", "bom-crlf.csv"] {
        assert_eq!(read(name).report.used, 12, "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_named_row_by_row() {
    let report = read("tool-calls.jsonl").report;
    assert_eq!((report.read, report.used), (12, 4));
    let malformed = &report.left_out[&Reason::Malformed];
    assert!(malformed.iter().all(|row| row.detail.contains("tool_calls")), "{malformed:?}");
    let report = read("null-prompts.parquet").report;
    assert_eq!((report.read, report.used), (12, 9));
    assert_eq!(report.left_out[&Reason::NoPrompt].len(), 3);
}

#[test]
fn four_ranked_completions_are_six_pairs() {
    let found = read("four-completions.jsonl");
    assert_eq!((found.layout.rows, found.report.read, found.report.used), (12, 72, 72));
}
