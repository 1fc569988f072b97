#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arrow_files;
mod exchanges;
mod files;
mod parquet_files;
mod properties;
mod ranked;
mod shapes;
mod watched;

use super::*;
use lens_core::{Content, Message, PreferencePair};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder for the files of one test.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn pairs(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<Dataset, Error> {
        read(&self.file(name, bytes))
    }
}

fn read(path: &Path) -> Result<Dataset, Error> {
    read_pairs(path, &ReadOptions::default())
}

/// Reads one row as a pair.
fn pair(row: &Value) -> Result<Dataset, Error> {
    Home::new().pairs("one.jsonl", row.to_string())
}

/// Reads one good row as a pair.
fn good(row: &Value) -> (PreferencePair, Shape) {
    let data = pair(row).unwrap();
    assert_eq!(data.shapes.len(), 1);
    let shape = *data.shapes.keys().next().unwrap();
    (data.pairs.into_iter().next().unwrap().value, shape)
}

/// Reads one row that must be malformed: field, expected, found.
fn bad(row: &Value) -> (String, String, String) {
    match pair(row) {
        Err(Error::AllMalformed { first, .. }) => (first.field, first.expected, first.found),
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn turns(turns: &[(&str, &str)]) -> Content {
    let message = |(role, content): &(&str, &str)| Message {
        role: (*role).to_owned(),
        content: (*content).to_owned(),
    };
    Content::Messages(turns.iter().map(message).collect())
}
