//! A row that cannot be read, and what is wrong with it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// The longest `found` that a [`MalformedRow`] quotes, in characters.
pub const MAX_FOUND_CHARS: usize = 80;

/// The `field` of a [`MalformedRow`] when the row as a whole is at fault.
pub const WHOLE_ROW: &str = "(row)";

/// A row that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MalformedRow {
    /// The dataset.
    pub file: PathBuf,
    /// One-based line; in Parquet, CSV and JSON arrays the one-based record.
    pub line: u64,
    /// The column at fault, with the place in it (`chosen[1].content`), or [`WHOLE_ROW`].
    pub field: String,
    /// The values that can be read there.
    pub expected: String,
    /// The value that was found, shortened to [`MAX_FOUND_CHARS`] characters.
    pub found: String,
}

impl fmt::Display for MalformedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if self.field != WHOLE_ROW {
            write!(f, "`{}`: ", self.field)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for MalformedRow {}

/// The problem of a row, before its file and line are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub field: String,
    pub expected: String,
    pub found: String,
}

impl Problem {
    pub fn new(field: &str, expected: impl Into<String>, found: impl AsRef<str>) -> Self {
        Problem {
            field: field.to_owned(),
            expected: expected.into(),
            found: shorten(found.as_ref()),
        }
    }

    pub fn at(self, file: &Path, line: u64) -> MalformedRow {
        MalformedRow {
            file: file.to_owned(),
            line,
            field: self.field,
            expected: self.expected,
            found: self.found,
        }
    }
}

/// At most [`MAX_FOUND_CHARS`] characters of one printable line.
pub(crate) fn shorten(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(MAX_FOUND_CHARS).collect();
    if chars.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_is_shortened_by_characters_and_kept_on_one_line() {
        let long = "é\n".repeat(100);
        let short = shorten(&long);
        assert_eq!(short.chars().count(), MAX_FOUND_CHARS);
        assert!(short.ends_with('…') && !short.contains('\n'));
        assert_eq!(shorten("short"), "short");
    }

    #[test]
    fn a_malformed_row_reads_as_file_line_field() {
        let row = Problem::new("chosen", "text", "null").at(Path::new("a.jsonl"), 7);
        assert_eq!(row.to_string(), "a.jsonl:7: `chosen`: expected text, found null");
        let row = Problem::new(WHOLE_ROW, "a JSON object", "x").at(Path::new("a.jsonl"), 7);
        assert_eq!(row.to_string(), "a.jsonl:7: expected a JSON object, found x");
    }
}
