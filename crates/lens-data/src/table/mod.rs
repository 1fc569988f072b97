//! Tables on their way out: rows of named values as JSON lines, CSV, TSV or Parquet.
//!
//! JSON lines hold every value as it is. CSV and TSV hold text: a null is an empty field, a list or an
//! object is JSON text. Parquet holds typed columns ([`Kind`]): numbers, truth values, text, lists and
//! objects as lists and groups; a column whose values are of several kinds is JSON text.

mod columns;
mod kind;
mod text;

use crate::atomic::AtomicFile;
use crate::dataset::{Compression, Format};
use crate::error::Error;
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::path::Path;

pub use kind::Kind;

/// The names that a table's file can have, for error messages.
const EXPECTED: &str =
    "a name that ends in .jsonl, .csv, .tsv (each also with .gz or .zst) or .parquet";

/// One row: named values, in the order of the columns. A column that it lacks is null.
pub type TableRow = Map<String, Value>;

/// How the rows of a table are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFormat {
    /// The layout of the rows.
    pub format: Format,
    /// What is done to the file as a whole.
    pub compression: Compression,
}

impl TableFormat {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that asks for none.
    pub fn of_name(path: &Path) -> Result<TableFormat, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let (stem, compression) = match () {
            () if name.ends_with(".gz") => (name.trim_end_matches(".gz"), Compression::Gzip),
            () if name.ends_with(".zst") => (name.trim_end_matches(".zst"), Compression::Zstd),
            () => (&*name, Compression::None),
        };
        let format = match stem.rsplit_once('.').map(|(_, end)| end) {
            Some("jsonl" | "ndjson") => Format::JsonLines,
            Some("csv") => Format::Csv,
            Some("tsv") => Format::Tsv,
            Some("parquet") if compression == Compression::None => Format::Parquet,
            _ => return Err(Error::option("output", EXPECTED, &path.display().to_string())),
        };
        Ok(TableFormat { format, compression })
    }
}

/// A table in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Every column with its kind, in their order.
    columns: Vec<(String, Kind)>,
    rows: Vec<TableRow>,
}

impl Table {
    /// A table of rows: it has every column that a row has, in the order in which they are met.
    pub fn new(rows: Vec<TableRow>) -> Table {
        let mut columns: Vec<(String, Kind)> = Vec::new();
        for row in &rows {
            for (at, (name, value)) in row.iter().enumerate() {
                // Nearly always each row has the same columns in the same order.
                let known = match columns.get(at) {
                    Some((known, _)) if known == name => Some(at),
                    _ => columns.iter().position(|(known, _)| known == name),
                };
                match known {
                    Some(at) => columns[at].1.take_in(value),
                    None => {
                        let mut kind = Kind::Empty;
                        kind.take_in(value);
                        columns.push((name.clone(), kind));
                    }
                }
            }
        }
        Table { columns, rows }
    }

    /// The names of the columns, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Adds a column of a kind behind the others, with a value for each row.
    ///
    /// # Errors
    /// [`Error::WrongLength`] where there is not one value for each row.
    pub fn add(&mut self, name: &str, kind: Kind, values: Vec<Value>) -> Result<(), Error> {
        if values.len() != self.rows.len() {
            let (rows, found) = (self.rows.len(), values.len());
            return Err(Error::WrongLength { rows, dim: 1, found });
        }
        for (row, value) in self.rows.iter_mut().zip(values) {
            row.insert(name.to_owned(), value);
        }
        self.columns.push((name.to_owned(), kind));
        Ok(())
    }

    /// Writes the table into a file that appears whole or not at all, in the format that its name
    /// asks for.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that asks for none; what the system says.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let TableFormat { format, compression } = TableFormat::of_name(path)?;
        let mut file = AtomicFile::create(path)?;
        let done = match compression {
            Compression::None => self.write_rows(format, &mut file),
            Compression::Gzip => {
                let mut packed = flate2::write::GzEncoder::new(&mut file, Default::default());
                self.write_rows(format, &mut packed).and_then(|()| packed.finish().map(drop))
            }
            Compression::Zstd => {
                const DEFAULT_LEVEL: i32 = 0;
                zstd::Encoder::new(&mut file, DEFAULT_LEVEL).and_then(|mut packed| {
                    self.write_rows(format, &mut packed)?;
                    packed.finish().map(drop)
                })
            }
        };
        match done {
            Ok(()) => file.commit(),
            Err(e) => Err(file.error(e)),
        }
    }

    fn write_rows(&self, format: Format, out: &mut (dyn Write + Send)) -> io::Result<()> {
        match format {
            Format::JsonLines => text::json_lines(self, out),
            Format::Csv => text::delimited(self, b',', out),
            Format::Tsv => text::delimited(self, b'\t', out),
            Format::Parquet => columns::parquet(self, out),
            Format::JsonArray | Format::JsonObjects | Format::Arrow => {
                Err(io::Error::new(io::ErrorKind::Unsupported, format!("{format} is not written")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
