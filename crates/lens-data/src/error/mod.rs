//! Everything that can go wrong between a file and the types of this crate.

mod row;

use crate::dataset::BestOfN;
use crate::encoder::{View, ViewChoice};
use lens_core::CoreError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use row::{MAX_FOUND_CHARS, MalformedRow, WHOLE_ROW};
pub(crate) use row::{Problem, shorten};

/// Why a dataset, an array file or an output could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is at the path.
    #[error("{}: no such file or folder", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A folder is where a file was expected.
    #[error("{}: is a folder, expected a file", path.display())]
    IsFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A file is where a folder was expected.
    #[error("{}: is not a folder", path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// A pipe, a device or a socket is where a file was expected.
    #[error("{}: is no regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A named pipe that nobody writes to.
    #[error("{}: is a named pipe that nobody writes to", path.display())]
    NoWriter {
        /// The pipe.
        path: PathBuf,
    },
    /// A file is larger than any sensible one of its kind.
    #[error("{}: has more than the {limit} bytes that are read of such a file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A process was ended while it replaced a folder.
    #[error(
        "{}: an earlier write was cut short; what stood there lies in {}: move it back, or delete it",
        path.display(), former.display()
    )]
    Interrupted {
        /// What was to be replaced.
        path: PathBuf,
        /// Where it lies now.
        former: PathBuf,
    },
    /// A small file that unpacks to very much: made to fill a memory or to keep a reader busy.
    #[error(
        "{}: its {size} bytes unpack to more than {limit} bytes of rows, which no dataset does",
        path.display()
    )]
    Unpacks {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        size: u64,
        /// How much it may unpack to, in bytes.
        limit: u64,
    },
    /// The rows together take more memory than there is.
    #[error(
        "{}: its first {rows} rows take {} MB, more than half of the {} MB of memory that are free; \
         use a part of the file, or a machine with more memory",
        path.display(), bytes >> 20, available >> 20
    )]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// How many rows were read.
        rows: usize,
        /// What they take, in bytes.
        bytes: u64,
        /// What was free, in bytes.
        available: u64,
    },
    /// The volume has no room left. Nothing was left behind at the target.
    #[error("{}: no space left on the disk; nothing was replaced", path.display())]
    DiskFull {
        /// The file or folder that was being written.
        path: PathBuf,
        /// The system's report.
        source: io::Error,
    },
    /// Any other failure that the operating system reports.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// The operation that failed: `open`, `read`, `write`, ..
        action: &'static str,
        /// The system's report.
        source: io::Error,
    },
    /// The file is of a kind that is not read.
    #[error("{}: expected {expected}, found {found}", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The formats that are read.
        expected: &'static str,
        /// The format of the file.
        found: String,
    },
    /// The file claims a format and breaks its rules.
    #[error("{}: damaged {format}: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The format: `gzip`, `Parquet`, `safetensors`, ..
        format: &'static str,
        /// The problem.
        detail: String,
    },
    /// A folder holds no file that could be a dataset.
    #[error("{}: no data file is in this folder (Parquet, Arrow, JSON, CSV)", path.display())]
    NoDataFiles {
        /// The folder.
        path: PathBuf,
    },
    /// A folder holds several splits of a dataset, of which one has to be named.
    #[error(
        "{}: holds several splits ({}): name the files of one, such as '{}/train*'",
        path.display(), splits.join(", "), path.display()
    )]
    SeveralSplits {
        /// The folder.
        path: PathBuf,
        /// The splits.
        splits: Vec<String>,
    },
    /// A folder holds data files of several formats, of which one has to be named.
    #[error(
        "{}: holds files of several formats ({}): name those of one, such as '{}/*.{}'",
        path.display(), formats.join(", "), path.display(), formats.first().map_or("", String::as_str)
    )]
    SeveralFormats {
        /// The folder.
        path: PathBuf,
        /// Their endings.
        formats: Vec<String>,
    },
    /// A pattern that names no file, or is none.
    #[error("{pattern}: {detail}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// The problem.
        detail: String,
    },
    /// Standard input is named more than once.
    #[error("{}: standard input can be read once", path.display())]
    InputTwice {
        /// Its name.
        path: PathBuf,
    },
    /// The dataset holds no row at all.
    #[error("{}: the file holds no rows", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// A malformed row, where the caller asked to stop at the first, or where reading cannot go on.
    #[error(transparent)]
    Malformed(#[from] MalformedRow),
    /// Not one row could be used.
    #[error("{}: none of the {read} rows is usable; the first: {first}", path.display())]
    AllMalformed {
        /// The file.
        path: PathBuf,
        /// How many rows were read.
        read: usize,
        /// The problem of the first row.
        first: Box<MalformedRow>,
    },
    /// The rows hold several responses a side: the material of an evaluation, not pairs.
    #[error(
        "{}:{line}: a {shape} row holds several responses a side and is not a preference pair; \
         the evaluation command reads best-of-n rows",
        path.display()
    )]
    UnsupportedShape {
        /// The file.
        path: PathBuf,
        /// The line of the first such row.
        line: u64,
        /// Whose shape it is.
        shape: BestOfN,
    },
    /// The file has no array of that name.
    #[error("{}: {}; the file holds {}", path.display(), wanted(key), list(present))]
    MissingArray {
        /// The file.
        path: PathBuf,
        /// The name that was asked for; empty where a key was needed and none given.
        key: String,
        /// The names that are there.
        present: Vec<String>,
    },
    /// The array has another number of axes.
    #[error("{}: array `{key}`: expected {expected} axes, found shape {found:?}", path.display())]
    WrongRank {
        /// The file.
        path: PathBuf,
        /// The array.
        key: String,
        /// The number of axes that was expected.
        expected: usize,
        /// The whole shape that was found.
        found: Vec<usize>,
    },
    /// The array's elements are of a type that is not read here.
    #[error("{}: array `{key}`: expected {expected}, found {found}", path.display())]
    WrongElement {
        /// The file.
        path: PathBuf,
        /// The array.
        key: String,
        /// The element types that are read.
        expected: &'static str,
        /// The element type that was found.
        found: String,
    },
    /// Two arrays that belong together differ in shape.
    #[error("array `{left}` is {left_shape:?}, but array `{right}` is {right_shape:?}")]
    ShapeMismatch {
        /// The first array.
        left: String,
        /// Its rows and columns.
        left_shape: [usize; 2],
        /// The second array.
        right: String,
        /// Its rows and columns.
        right_shape: [usize; 2],
    },
    /// A value is NaN or infinite, or a float64 beyond the range of float32.
    #[error("{}: array `{key}`, row {row}, column {column}: {value} is not finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The array.
        key: String,
        /// Zero-based row.
        row: usize,
        /// Zero-based column.
        column: usize,
        /// The value as float32.
        value: f32,
    },
    /// A finite value that the form it is to be stored in has no room for.
    #[error(
        "{}: array `{key}`, row {row}, column {column}: {value} is too large for {form}; \
         f32 has room for it", path.display()
    )]
    TooLargeFor {
        /// The file to be written.
        path: PathBuf,
        /// The array.
        key: String,
        /// Zero-based row.
        row: usize,
        /// Zero-based column.
        column: usize,
        /// The value.
        value: f32,
        /// The form: `f16`, ..
        form: &'static str,
    },
    /// The array has no rows or no columns.
    #[error("{}: array `{key}` is empty: its shape is {shape:?}", path.display())]
    EmptyArray {
        /// The file.
        path: PathBuf,
        /// The array.
        key: String,
        /// The shape that was found.
        shape: Vec<usize>,
    },
    /// The data of an array does not fill its shape.
    #[error("expected {rows} x {dim} values, found {found}")]
    WrongLength {
        /// Rows claimed.
        rows: usize,
        /// Columns claimed.
        dim: usize,
        /// Values there.
        found: usize,
    },
    /// An array to be written got more or fewer values than its shape promises.
    #[error("{}: array `{key}` of shape {shape:?} got {found} values", path.display())]
    WrongRows {
        /// The file to be written.
        path: PathBuf,
        /// The array.
        key: String,
        /// The shape it was promised with.
        shape: Vec<usize>,
        /// How many values it got before it ended, or with those that are too many.
        found: usize,
    },
    /// An array of this shape is beyond what a file can hold.
    #[error("{}: an array of shape {shape:?} is too large for a file", path.display())]
    TooLarge {
        /// The file to be written.
        path: PathBuf,
        /// The shape.
        shape: Vec<usize>,
    },
    /// An array cannot be written under this name: it is taken or reserved.
    #[error("{}: the array name `{key}` is used twice or reserved", path.display())]
    BadArrayName {
        /// The file to be written.
        path: PathBuf,
        /// The name.
        key: String,
    },
    /// Something is at the target already, and it may not be replaced.
    #[error("{}: exists already{hint}", path.display())]
    TargetExists {
        /// The target.
        path: PathBuf,
        /// Why it may not be replaced; may be empty.
        hint: String,
    },
    /// The folder has the curves of another training, which another's would be mixed into.
    #[error("{}: holds the curves of an earlier training", path.display())]
    CurvesExist {
        /// The file with the curves.
        path: PathBuf,
    },
    /// The folder for curves is that of a reward model, which has its own.
    #[error(
        "{}: is a reward model, whose own curves are not replaced by those of another training",
        path.display()
    )]
    CurvesInBundle {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has no manifest in it.
    #[error("{}: is not a reward model: there is no `{manifest}` in it", path.display())]
    NotABundle {
        /// The folder.
        path: PathBuf,
        /// The file that every reward model has.
        manifest: &'static str,
    },
    /// An option that cannot be read.
    #[error("option {option}: expected {expected}, found '{found}'")]
    InvalidOption {
        /// The option: `view`, `layer`, `pooling`, `special_tokens` or `output`.
        option: &'static str,
        /// The values that it can have.
        expected: &'static str,
        /// The text that was found.
        found: String,
    },
    /// An entry of a file's metadata that cannot be read.
    #[error("{}: metadata `{key}`: {detail}", path.display())]
    BadMetadata {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: &'static str,
        /// The problem.
        detail: String,
    },
    /// An entry of a file's metadata places a view in columns that are not there.
    #[error("{}: metadata `{key}` names columns {from} to {to} of {width}", path.display())]
    BadColumns {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: &'static str,
        /// First column.
        from: usize,
        /// The column after the last.
        to: usize,
        /// Number of columns of the embeddings.
        width: usize,
    },
    /// The file holds no such view.
    #[error(
        "{}: the view {asked} is not among those that the file holds ({})",
        path.display(), views(held)
    )]
    NoSuchView {
        /// The file.
        path: PathBuf,
        /// The view that was asked for.
        asked: ViewChoice,
        /// The views that the file says it holds; empty where it says nothing.
        held: Vec<View>,
    },
    /// An array beside the embeddings has not one value for each pair.
    #[error("{}: array `{key}` has {found} values for {expected} pairs", path.display())]
    WrongCount {
        /// The file.
        path: PathBuf,
        /// The array.
        key: &'static str,
        /// The number of pairs.
        expected: usize,
        /// The number of values.
        found: usize,
    },
    /// An array of truth values holds another number.
    #[error("{}: array `{key}`, row {row}: expected 0 or 1, found {found}", path.display())]
    NotATruthValue {
        /// The file.
        path: PathBuf,
        /// The array.
        key: &'static str,
        /// Zero-based row.
        row: usize,
        /// The value.
        found: i64,
    },
    /// Embedded pairs come from one file with both sides, or from two with one side each.
    #[error("expected one file with both sides, or an .npy file for each, found {found} files")]
    WrongFileCount {
        /// The number of files.
        found: usize,
    },
    /// A stored pair is a tie and has a margin.
    #[error("{}: row {row} is a tie, but `{key}` is {margin} there", path.display())]
    TieWithMargin {
        /// The file.
        path: PathBuf,
        /// The array of margins.
        key: &'static str,
        /// Zero-based row.
        row: usize,
        /// Its margin.
        margin: f32,
    },
    /// The method does not take the pairs that were read.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The caller's progress asked to stop.
    #[error("stopped while reading")]
    Cancelled,
    /// The path does not name a file or folder that could be written, as `..` does not.
    #[error("{}: does not name a file or folder that can be written", path.display())]
    BadTarget {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// Sorts a failure of the operating system by what the user can do about it.
    pub fn io(path: impl Into<PathBuf>, action: &'static str, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path },
            io::ErrorKind::IsADirectory => Error::IsFolder { path },
            io::ErrorKind::NotADirectory => Error::NotAFolder { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { path, source }
            }
            _ => Error::Io { path, action, source },
        }
    }

    pub(crate) fn option(option: &'static str, expected: &'static str, found: &str) -> Self {
        Error::InvalidOption { option, expected, found: found.to_owned() }
    }

    pub(crate) fn corrupt(path: &Path, format: &'static str, detail: impl fmt::Display) -> Self {
        Error::Corrupt { path: path.to_owned(), format, detail: detail.to_string() }
    }
}

fn wanted(key: &str) -> String {
    match key {
        "" => "one of several arrays must be named".to_owned(),
        key => format!("no array `{key}`"),
    }
}

fn views(held: &[View]) -> String {
    if held.is_empty() {
        return "does not say".to_owned();
    }
    held.iter().map(View::to_string).collect::<Vec<_>>().join("; ")
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "no named arrays".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_full_disk_and_a_missing_file_have_their_own_errors() {
        let full = Error::io("out.bin", "write", io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(&full, Error::DiskFull { .. }));
        assert!(full.to_string().starts_with("out.bin: no space left"));
        let missing = Error::io("in", "open", io::Error::from(io::ErrorKind::NotFound));
        assert!(matches!(missing, Error::NotFound { .. }));
    }
}
