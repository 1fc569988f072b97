//! From a path to bytes of a known format: compression and format by content, then by name.

use super::bounds::{Bounded, TooMuch, Unpacked};
use super::data_source::STANDARD_INPUT;
use super::pieces::{Layout, layout};
use crate::error::{Error, shorten};
use crate::files::{self, Input};
use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

/// How much of the beginning decides on the format.
const PEEK_BYTES: usize = 1 << 13;
/// The buffer between the file or decompressor and the parsers.
const BUFFER_BYTES: usize = 1 << 16;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const PARQUET_MAGIC: &[u8] = b"PAR1";
const ARROW_MAGIC: &[u8] = b"ARROW1";
/// A stream of Arrow begins with the mark of a message, behind which stands the length of the schema.
const ARROW_STREAM_MAGIC: &[u8] = &[0xff, 0xff, 0xff, 0xff];
const UTF8_BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// Beginnings of files that people hand over by mistake, named so that the error can help.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "a bzip2 file"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "an xz file"),
    (&[0x89, b'H', b'D', b'F'], "an HDF5 file"),
    (&[0xff, 0xfe], "UTF-16 text"),
    (&[0xfe, 0xff], "UTF-16 text"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file itself)"),
];

const EXPECTED: &str =
    "JSON (lines, objects, a list), CSV, TSV (each plain, .gz or .zst), Parquet or Arrow, in UTF-8";

/// How the rows of a dataset are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object a line.
    JsonLines,
    /// JSON objects that take several lines each.
    JsonObjects,
    /// One JSON array of objects, the whole file or under a key of the object that the file is.
    JsonArray,
    /// Comma-separated values under a header.
    Csv,
    /// Tab-separated values under a header.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow, as a file or as a stream.
    Arrow,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::JsonLines => "JSON lines",
            Format::JsonObjects => "JSON objects over several lines",
            Format::JsonArray => "a JSON array",
            Format::Csv => "comma-separated values (CSV)",
            Format::Tsv => "tab-separated values (TSV)",
            Format::Parquet => "Parquet",
            Format::Arrow => "Arrow",
        })
    }
}

/// How the file as a whole is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all (Parquet compresses inside).
    None,
    /// gzip, of one or several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "no compression",
            Compression::Gzip => "compressed with gzip",
            Compression::Zstd => "compressed with Zstandard",
        })
    }
}

/// An opened dataset.
pub(crate) struct Source {
    pub path: PathBuf,
    pub format: Format,
    pub compression: Compression,
    pub body: Body,
    /// Bytes of the file; 0 where that is not known, as of a pipe.
    pub size: u64,
    /// Bytes read of a text so far, before they are decompressed.
    pub read: Rc<Cell<u64>>,
}

/// A reader that counts what is read from it.
struct Counted {
    reader: Box<dyn Read>,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// Where the rows come from: a stream of text, under a key of one object or not, or a table to seek in.
pub(crate) enum Body {
    Text { reader: Box<dyn BufRead>, key: Option<String> },
    Table(Table),
}

/// The bytes of a binary table.
pub(crate) enum Table {
    File(File),
    /// Those of standard input, which cannot be sought in.
    Memory(Bytes),
}

/// Standard input, read once and kept: a command may look at it twice.
fn standard_input() -> io::Result<Bytes> {
    static READ: OnceLock<Bytes> = OnceLock::new();
    if let Some(bytes) = READ.get() {
        return Ok(bytes.clone());
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(READ.get_or_init(|| bytes.into()).clone())
}

impl Source {
    pub fn open(path: &Path) -> Result<Source, Error> {
        if path.as_os_str() == STANDARD_INPUT {
            let name = Path::new("standard input");
            let bytes = standard_input().map_err(|e| Error::io(name, "read", e))?;
            let size = bytes.len() as u64;
            let head = bytes.slice(..bytes.len().min(PEEK_BYTES)).to_vec();
            return Source::of(name, head, Table::Memory(bytes), size);
        }
        let Input { head, mut file } = files::open_input(path)?;
        let meta = file.metadata().map_err(|e| Error::io(path, "open", e))?;
        let mut begun = Read::chain(Cursor::new(head), &mut file);
        let head = peek(&mut begun).map_err(|e| Error::io(path, "read", e))?;
        Source::of(path, head, Table::File(file), meta.len())
    }

    /// A dataset of which `head` is the beginning; of a file, it has been read.
    fn of(path: &Path, head: Vec<u8>, table: Table, size: u64) -> Result<Source, Error> {
        let read = Rc::new(Cell::new(head.len() as u64));
        let name = Name::from_path(path);
        let compression = compression_of(path, &head, name)?;
        let source = |format, body, read| {
            Ok(Source { path: path.to_owned(), format, compression, body, size, read })
        };
        let table_format = match compression {
            Compression::None => table_format(&head, name),
            _ => None,
        };
        if let Some(format) = table_format {
            let table = match table {
                Table::File(mut file) => {
                    file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(path, "read", e))?;
                    Table::File(file)
                }
                memory => memory,
            };
            return source(format, Body::Table(table), read);
        }
        let rest: Box<dyn Read> = match table {
            Table::File(file) => Box::new(file),
            Table::Memory(bytes) => Box::new(bytes.slice(head.len()..).reader()),
        };
        let counted = Counted { reader: rest, read: Rc::clone(&read) };
        let raw = Read::chain(Cursor::new(head), counted);
        let failed = |e| read_error(path, compression, e);
        let mut text: Box<dyn Read> = match compression {
            Compression::None => Box::new(raw),
            Compression::Gzip => Box::new(MultiGzDecoder::new(raw)),
            Compression::Zstd => Box::new(zstd::Decoder::new(raw).map_err(failed)?),
        };
        if compression != Compression::None {
            let packed = Rc::clone(&read);
            text = Box::new(Bounded { reader: text, packed, unpacked: Unpacked::default() });
        }
        let mut head = peek(&mut text).map_err(failed)?;
        if head.starts_with(UTF8_BOM) {
            head.drain(..UTF8_BOM.len());
        }
        let (format, key) = format_of(path, &head, name)?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, Read::chain(Cursor::new(head), text));
        source(format, Body::Text { reader: Box::new(reader), key }, read)
    }
}

/// The format of a binary table, told by its first bytes.
fn table_format(head: &[u8], name: Name) -> Option<Format> {
    if head.starts_with(PARQUET_MAGIC) {
        return Some(Format::Parquet);
    }
    let stream = head.starts_with(ARROW_STREAM_MAGIC)
        || (name.format == Some(NamedFormat::Arrow) && !is_text(head));
    (head.starts_with(ARROW_MAGIC) || stream).then_some(Format::Arrow)
}

/// A failed read of a compressed stream is damage to it far more often than a failing disk.
pub(crate) fn read_error(path: &Path, compression: Compression, source: io::Error) -> Error {
    if let Some(too_much) = TooMuch::within(&source) {
        return too_much.of(path);
    }
    match compression {
        Compression::None => Error::io(path, "read", source),
        Compression::Gzip => Error::corrupt(path, "gzip", source),
        Compression::Zstd => Error::corrupt(path, "Zstandard", source),
    }
}

/// Reads until [`PEEK_BYTES`] are there or the end: one read of a pipe may return less.
fn peek(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(PEEK_BYTES);
    reader.take(PEEK_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The format and compression that a file's name promises.
#[derive(Debug, Clone, Copy, Default)]
struct Name {
    compression: Option<Compression>,
    format: Option<NamedFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NamedFormat {
    Json,
    JsonLines,
    Csv,
    Tsv,
    Parquet,
    Arrow,
}

impl Name {
    fn from_path(path: &Path) -> Name {
        let extension = |p: &Path| p.extension().map(OsStr::to_ascii_lowercase);
        let mut stem = path.to_owned();
        let compression = match extension(&stem).as_deref().and_then(OsStr::to_str) {
            Some("gz" | "gzip") => Some(Compression::Gzip),
            Some("zst" | "zstd") => Some(Compression::Zstd),
            _ => None,
        };
        if compression.is_some() {
            stem.set_extension("");
        }
        let format = match extension(&stem).as_deref().and_then(OsStr::to_str) {
            Some("json") => Some(NamedFormat::Json),
            Some("jsonl" | "ndjson") => Some(NamedFormat::JsonLines),
            Some("csv") => Some(NamedFormat::Csv),
            Some("tsv") => Some(NamedFormat::Tsv),
            Some("parquet") => Some(NamedFormat::Parquet),
            Some("arrow" | "feather") => Some(NamedFormat::Arrow),
            _ => None,
        };
        Name { compression, format }
    }
}

fn compression_of(path: &Path, head: &[u8], name: Name) -> Result<Compression, Error> {
    if head.starts_with(GZIP_MAGIC) {
        return Ok(Compression::Gzip);
    }
    if head.starts_with(ZSTD_MAGIC) {
        return Ok(Compression::Zstd);
    }
    // Downloads are often unpacked on the way and keep their name: text is read as it stands.
    match name.compression {
        Some(Compression::Gzip) if !is_text(head) => {
            Err(Error::corrupt(path, "gzip", "it does not begin as gzip does"))
        }
        Some(Compression::Zstd) if !is_text(head) => {
            Err(Error::corrupt(path, "Zstandard", "it does not begin as Zstandard does"))
        }
        _ => Ok(Compression::None),
    }
}

/// The format of a text, and the key under which its records stand, where they do.
fn format_of(path: &Path, head: &[u8], name: Name) -> Result<(Format, Option<String>), Error> {
    let unsupported = |found: String| {
        Err(Error::UnsupportedFormat { path: path.to_owned(), expected: EXPECTED, found })
    };
    if let Some((_, found)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return unsupported((*found).to_owned());
    }
    if let Some(format) = table_format(head, Name::default()) {
        return unsupported(format!("{format} inside a compressed file (unpack it)"));
    }
    match name.format {
        Some(NamedFormat::Parquet) => {
            return Err(Error::corrupt(path, "Parquet", "it does not begin with PAR1"));
        }
        Some(NamedFormat::Arrow) => {
            return Err(Error::corrupt(path, "Arrow", "it does not begin as Arrow does"));
        }
        Some(NamedFormat::Csv) => return Ok((Format::Csv, None)),
        Some(NamedFormat::Tsv) => return Ok((Format::Tsv, None)),
        _ => {}
    }
    let mut significant = head.iter().copied().filter(|b| !b.is_ascii_whitespace());
    match (significant.next(), significant.next(), name.format) {
        // A list of objects is an array whatever the name says; a line `[1, 2]` in a file of JSON
        // lines is one malformed row.
        (Some(b'['), Some(b'{' | b']'), _) | (Some(b'['), _, Some(NamedFormat::Json)) => {
            Ok((Format::JsonArray, None))
        }
        (Some(b'{'), ..) => Ok(match layout(head) {
            Layout::Lines => (Format::JsonLines, None),
            Layout::Objects => (Format::JsonObjects, None),
            Layout::Wrapped(key) => (Format::JsonArray, Some(key)),
        }),
        (_, _, Some(_)) | (None, _, None) => Ok((Format::JsonLines, None)),
        (Some(_), _, None) => unsupported(format!(
            "a file of unknown kind that begins with \"{}\"",
            shorten(&String::from_utf8_lossy(&head[..head.len().min(24)]))
        )),
    }
}

/// Whether the bytes can be the beginning of UTF-8 text (the last character may be cut).
fn is_text(head: &[u8]) -> bool {
    match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none(),
    }
}
