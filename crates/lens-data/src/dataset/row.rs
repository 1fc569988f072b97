//! A value of a dataset with the place it was read from.

use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// A value with the place it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<T> {
    /// One-based line; in Parquet, Arrow, CSV and JSON arrays the one-based record.
    pub line: u64,
    /// The file, where the dataset has several.
    pub file: Option<Arc<str>>,
    /// Which of the values that its line gave this is, from 0.
    pub part: u32,
    /// The value that was read.
    pub value: T,
    /// All columns that are not part of the value, in the order of the file.
    pub metadata: Map<String, Value>,
}

/// Where a value was read: file, line, and which of those on the line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, where the dataset has several.
    pub file: Option<Arc<str>>,
    /// One-based line or record.
    pub line: u64,
    /// Which of the values of the line, from 0.
    pub part: u32,
}

impl<T> Row<T> {
    /// A row of a dataset of one file, the only value of its line.
    pub fn new(line: u64, value: T, metadata: Map<String, Value>) -> Row<T> {
        Row { line, file: None, part: 0, value, metadata }
    }

    /// The place it was read from.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line, part: self.part }
    }

    /// The same row with something made of its value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Row<U> {
        let Row { line, file, part, value, metadata } = self;
        Row { line, file, part, value: make(value), metadata }
    }

    /// The same row with what is made of its value, if anything is.
    pub fn filter_map<U>(self, make: impl FnOnce(T) -> Option<U>) -> Option<Row<U>> {
        let Row { line, file, part, value, metadata } = self;
        make(value).map(|value| Row { line, file, part, value, metadata })
    }

    /// The `subset` column, where it is text.
    pub fn subset(&self) -> Option<&str> {
        self.metadata.get("subset").and_then(Value::as_str)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => {
                write!(f, "{} of {}", self.line, crate::file_name(file.as_ref().as_ref()))
            }
            None => write!(f, "{}", self.line),
        }
    }
}
