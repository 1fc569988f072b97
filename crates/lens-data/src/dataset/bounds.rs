//! Bounds on what a dataset may take: a file of a few kilobytes can hold terabytes of text.
//!
//! Two things are bounded. What is unpacked of a file, against its size: a dictionary of one long text,
//! or zeros in gzip, would keep a reader busy for hours. And what is kept in memory of all rows, against
//! the memory that there is: a program that takes more is ended by the system, with all it has done.

use super::records::Fields;
use crate::error::Error;
use crate::memory::available;
use serde_json::Value;
use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

/// What every file may unpack to.
const ALWAYS: u64 = 1 << 30;
/// How many times its own size a file may unpack to beyond that. Text in gzip reaches 10, a column of
/// prompts that repeat a few dozen.
const TIMES: u64 = 100;
/// Bytes that a value takes beside its text.
const VALUE_BYTES: u64 = 64;

/// What is kept of each row that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing: it is handed over and forgotten.
    Nothing,
    /// So many bytes, whatever is in it.
    Bytes(u64),
    /// All of it.
    Row,
}

/// The memory that rows may take in all: half of what there is, since others is needed to work on them.
pub(super) struct MemoryBound {
    kept: Kept,
    taken: u64,
    limit: u64,
    available: u64,
}

impl MemoryBound {
    pub fn new(kept: Kept) -> Self {
        let available = available().unwrap_or(u64::MAX);
        MemoryBound { kept, taken: 0, limit: available / 2, available }
    }

    /// Accounts for a row, the last of `rows`.
    pub fn take(&mut self, fields: &Fields, path: &Path, rows: usize) -> Result<(), Error> {
        self.taken += match self.kept {
            Kept::Nothing => 0,
            Kept::Bytes(bytes) => bytes,
            Kept::Row => bytes_of(fields),
        };
        if self.taken <= self.limit {
            return Ok(());
        }
        let (path, bytes, available) = (path.to_owned(), self.taken, self.available);
        Err(Error::OutOfMemory { path, rows, bytes, available })
    }
}

/// Bytes that the columns of a row take in memory, about.
pub(super) fn bytes_of(fields: &Fields) -> u64 {
    fields.iter().map(|(name, value)| name.len() as u64 + VALUE_BYTES + bytes_of_value(value)).sum()
}

fn bytes_of_value(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(|v| VALUE_BYTES + bytes_of_value(v)).sum(),
        Value::Object(fields) => bytes_of(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// What is unpacked of one file, held against its size.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Unpacked(u64);

impl Unpacked {
    /// Accounts for more bytes that were unpacked of a file, of which `size` bytes were read.
    pub fn take(&mut self, bytes: u64, size: u64) -> Result<(), TooMuch> {
        self.0 = self.0.saturating_add(bytes);
        let limit = size.saturating_mul(TIMES).saturating_add(ALWAYS);
        if self.0 <= limit { Ok(()) } else { Err(TooMuch { size, limit }) }
    }
}

/// A file unpacks to more than any dataset does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes unpack to more than {limit}")]
pub(super) struct TooMuch {
    /// Bytes of the file that were read.
    size: u64,
    limit: u64,
}

impl TooMuch {
    /// The error of the file at `path`.
    pub fn of(self, path: &Path) -> Error {
        Error::Unpacks { path: path.to_owned(), size: self.size, limit: self.limit }
    }

    /// Out of the failure of a read.
    pub fn within(error: &io::Error) -> Option<TooMuch> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// A stream that is unpacked from another one.
pub(super) struct Bounded<R> {
    pub reader: R,
    /// Bytes read of the other one.
    pub packed: Rc<Cell<u64>>,
    pub unpacked: Unpacked,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        let within = self.unpacked.take(n as u64, self.packed.get());
        within.map_err(io::Error::other)?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_weighs_its_text_and_its_values() {
        let Value::Object(fields) = json!({"a": "four", "b": [1, {"c": "xy"}]}) else { panic!() };
        assert_eq!(bytes_of(&fields), (1 + 64 + 4) + (1 + 64 + 64 + 64 + 1 + 64 + 2));
    }

    #[test]
    fn rows_are_kept_up_to_half_of_the_memory() {
        let Value::Object(fields) = json!({"a": "x".repeat(100)}) else { panic!() };
        let mut bound = MemoryBound { kept: Kept::Row, taken: 0, limit: 400, available: 800 };
        bound.take(&fields, Path::new("f"), 1).unwrap();
        bound.take(&fields, Path::new("f"), 2).unwrap();
        let error = bound.take(&fields, Path::new("f"), 3).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { rows: 3, available: 800, .. }));
        let mut bound = MemoryBound { kept: Kept::Nothing, ..bound };
        bound.taken = 0;
        (0..100).for_each(|row| bound.take(&fields, Path::new("f"), row).unwrap());
    }

    #[test]
    fn a_small_file_may_unpack_to_a_gigabyte_and_a_large_one_to_a_hundred_times_its_size() {
        let mut small = Unpacked::default();
        small.take(1 << 30, 10).unwrap();
        small.take(1000, 10).unwrap();
        assert_eq!(small.take(1, 10), Err(TooMuch { size: 10, limit: (1 << 30) + 1000 }));
        let mut large = Unpacked::default();
        large.take(100 << 30, 1 << 30).unwrap();
        assert!(large.take(2 << 30, 1 << 30).is_err());
    }
}
