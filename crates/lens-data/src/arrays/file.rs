//! An array file, mapped into memory, and the arrays in it.

use super::element::{self, Element, Endian};
use super::{Array2, MAX_SAFETENSORS_HEADER_BYTES, npy};
use crate::error::Error;
use crate::files::open_regular;
use crate::positional::read_exact_at;
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub(super) const EXPECTED_FLOATS: &str = "float16, bfloat16, float32 or float64";
const EXPECTED_INTEGERS: &str = "integers that fit into 64 bits";
/// The name in errors of the one array of an `.npy` file.
const UNNAMED: &str = "array";

/// An opened `.safetensors` or `.npy` file; which of the two is recognised by content.
///
/// The file is mapped, not copied: it must not be shortened by others while it is open. Tables
/// larger than memory are read row by row instead: [`ArrayFile::table`].
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    bytes: Content,
    header: Header,
}

/// The bytes of the file.
#[derive(Debug)]
enum Content {
    /// Mapped into memory, with the file for reads at a place of one's own.
    Mapped(Mmap, File),
    /// Read as a whole.
    Read(Vec<u8>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Content::Mapped(bytes, _) => bytes,
            Content::Read(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
enum Header {
    Safetensors { tensors: Metadata, start: usize },
    Npy(npy::Header),
}

/// One array as it stands in the file.
pub(super) struct View<'a> {
    pub key: String,
    pub shape: &'a [usize],
    pub element: Option<(Element, Endian)>,
    pub element_name: String,
    pub fortran: bool,
    /// Where the bytes begin in the file.
    pub start: usize,
    pub bytes: &'a [u8],
}

impl ArrayFile {
    /// Opens a file and checks its header.
    pub fn open(path: impl AsRef<Path>) -> Result<ArrayFile, Error> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        // SAFETY: the mapping is only read, as bytes, which are valid whatever they are. That
        // nobody shortens the file meanwhile cannot be enforced; every reader of mapped files
        // relies on it, and writers here replace files by renaming, which leaves mappings alone.
        let bytes = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "map", e))?;
        Self::with_content(path.to_owned(), Content::Mapped(bytes, file))
    }

    /// A file that was read as a whole; `path` stands in errors.
    ///
    /// # Errors
    /// As [`ArrayFile::open`].
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<ArrayFile, Error> {
        Self::with_content(path.into(), Content::Read(bytes))
    }

    fn with_content(path: PathBuf, bytes: Content) -> Result<ArrayFile, Error> {
        let header = if bytes.starts_with(npy::MAGIC) {
            Header::Npy(npy::parse(&bytes).map_err(|e| Error::corrupt(&path, ".npy", e))?)
        } else {
            refuse_foreign(&path, &bytes)?;
            safetensors_header(&path, &bytes)?
        };
        Ok(ArrayFile { path, bytes, header })
    }

    /// The path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `out` with the bytes of the file from `at` on. Of a mapped file they are read, not
    /// mapped: a table larger than memory stays on the disk.
    pub(super) fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        match &self.bytes {
            Content::Mapped(_, file) => read_exact_at(file, out, at),
            Content::Read(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let part = from.checked_add(out.len()).and_then(|to| bytes.get(from..to));
                out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// The names of the arrays, in the order of the file. An `.npy` file has one without a name.
    pub fn keys(&self) -> Vec<String> {
        match &self.header {
            Header::Safetensors { tensors, .. } => tensors.offset_keys(),
            Header::Npy(_) => Vec::new(),
        }
    }

    /// The shape of an array of any rank and type.
    pub fn shape(&self, key: Option<&str>) -> Result<Vec<usize>, Error> {
        Ok(self.view(key)?.shape.to_vec())
    }

    /// The text entries that the writer stored beside the arrays.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match &self.header {
            Header::Safetensors { tensors, .. } => {
                tensors.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
            }
            Header::Npy(_) => BTreeMap::new(),
        }
    }

    /// A two-dimensional float array as float32. The key may be left away where the file holds
    /// one array only, and must be for `.npy`. No rows, NaN and infinity are errors.
    pub fn floats(&self, key: Option<&str>) -> Result<Array2, Error> {
        let view = self.view(key)?;
        let (rows, dim) = self.rows_and_columns(&view)?;
        let values = view
            .element
            .and_then(|(element, endian)| element::floats(view.bytes, element, endian))
            .ok_or_else(|| self.wrong_element(&view, EXPECTED_FLOATS))?;
        let values = if view.fortran { transposed(&values, rows, dim) } else { values };
        self.require_finite(&view.key, &values, 0, dim)?;
        Array2::new(rows, dim, values)
    }

    /// A one-dimensional float array as float32, such as the `margin` of pairs. NaN and infinity
    /// are errors.
    pub fn vector(&self, key: Option<&str>) -> Result<Vec<f32>, Error> {
        let view = self.view(key)?;
        if view.shape.len() != 1 {
            return Err(self.wrong_rank(&view, 1));
        }
        let values = view
            .element
            .and_then(|(element, endian)| element::floats(view.bytes, element, endian))
            .ok_or_else(|| self.wrong_element(&view, EXPECTED_FLOATS))?;
        self.require_finite(&view.key, &values, 0, 1)?;
        Ok(values)
    }

    /// Names the first value that is not finite, where `values` begin at row `first`.
    pub(super) fn require_finite(
        &self,
        key: &str,
        values: &[f32],
        first: usize,
        dim: usize,
    ) -> Result<(), Error> {
        // Without a way out of the loop, many values are looked at in one instruction.
        if values.iter().fold(true, |all, value| all & value.is_finite()) {
            return Ok(());
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::NotFinite {
                path: self.path.clone(),
                key: key.to_owned(),
                row: first + at / dim,
                column: at % dim,
                value: values[at],
            }),
        }
    }

    /// The shape of a table of embeddings, which is never empty.
    pub(super) fn rows_and_columns(&self, view: &View<'_>) -> Result<(usize, usize), Error> {
        let &[rows, dim] = view.shape else { return Err(self.wrong_rank(view, 2)) };
        if rows == 0 || dim == 0 {
            return Err(Error::EmptyArray {
                path: self.path.clone(),
                key: view.key.clone(),
                shape: view.shape.to_vec(),
            });
        }
        Ok((rows, dim))
    }

    /// Two float arrays that belong together row by row.
    pub fn float_pair(&self, left: &str, right: &str) -> Result<(Array2, Array2), Error> {
        let (a, b) = (self.floats(Some(left))?, self.floats(Some(right))?);
        a.require_same_shape(left, &b, right)?;
        Ok((a, b))
    }

    /// A one-dimensional array of integers, such as the `row` numbers beside embeddings, or of
    /// truth values, which are 0 and 1.
    pub fn integers(&self, key: Option<&str>) -> Result<Vec<i64>, Error> {
        let view = self.view(key)?;
        if view.shape.len() != 1 {
            return Err(self.wrong_rank(&view, 1));
        }
        view.element
            .and_then(|(element, endian)| element::integers(view.bytes, element, endian))
            .ok_or_else(|| self.wrong_element(&view, EXPECTED_INTEGERS))
    }

    pub(super) fn view(&self, key: Option<&str>) -> Result<View<'_>, Error> {
        let missing = |key: Option<&str>| Error::MissingArray {
            path: self.path.clone(),
            key: key.unwrap_or_default().to_owned(),
            present: self.keys(),
        };
        let (tensors, start) = match (&self.header, key) {
            (Header::Npy(header), None) => {
                return Ok(View {
                    key: UNNAMED.to_owned(),
                    shape: &header.shape,
                    element: header.element,
                    element_name: header.descr.clone(),
                    fortran: header.fortran,
                    start: header.start,
                    bytes: self.bytes.get(header.start..).unwrap_or_default(),
                });
            }
            (Header::Npy(_), Some(_)) => return Err(missing(key)),
            (Header::Safetensors { tensors, start }, _) => (tensors, *start),
        };
        let name = match key {
            Some(key) => key.to_owned(),
            None => match <[String; 1]>::try_from(self.keys()) {
                Ok([only]) => only,
                Err(_) => return Err(missing(None)),
            },
        };
        let info = tensors.info(&name).ok_or_else(|| missing(key))?;
        let (from, to) = info.data_offsets;
        let (start, bytes) = start
            .checked_add(from)
            .zip(start.checked_add(to))
            .and_then(|(from, to)| Some((from, self.bytes.get(from..to)?)))
            .ok_or_else(|| self.damaged("an array reaches beyond the end"))?;
        Ok(View {
            key: name,
            shape: &info.shape,
            element: Element::of_safetensors(info.dtype).map(|e| (e, Endian::Little)),
            element_name: format!("{:?}", info.dtype),
            fortran: false,
            start,
            bytes,
        })
    }

    fn damaged(&self, detail: &str) -> Error {
        Error::corrupt(&self.path, "safetensors", detail)
    }

    pub(super) fn wrong_rank(&self, view: &View<'_>, expected: usize) -> Error {
        Error::WrongRank {
            path: self.path.clone(),
            key: view.key.clone(),
            expected,
            found: view.shape.to_vec(),
        }
    }

    pub(super) fn wrong_element(&self, view: &View<'_>, expected: &'static str) -> Error {
        Error::WrongElement {
            path: self.path.clone(),
            key: view.key.clone(),
            expected,
            found: view.element_name.clone(),
        }
    }
}

/// From column after column to row after row.
fn transposed(values: &[f32], rows: usize, dim: usize) -> Vec<f32> {
    (0..rows).flat_map(|row| (0..dim).map(move |column| values[column * rows + row])).collect()
}

/// Names the files that people hand over by mistake.
fn refuse_foreign(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let found = if bytes.starts_with(b"PK\x03\x04") {
        "a zip archive (.npz or a PyTorch file; save as safetensors, or each array with np.save)"
    } else if bytes.starts_with(&[0x89, b'H', b'D', b'F']) {
        "an HDF5 file"
    } else if bytes.starts_with(b"PAR1") {
        "a Parquet file"
    } else if bytes.starts_with(b"version https://git-lfs") {
        "a Git LFS pointer (`git lfs pull` fetches the file itself)"
    } else {
        return Ok(());
    };
    let expected = "a .safetensors or .npy file";
    Err(Error::UnsupportedFormat { path: path.to_owned(), expected, found: found.to_owned() })
}

fn safetensors_header(path: &Path, bytes: &[u8]) -> Result<Header, Error> {
    let damaged = |detail: String| Error::corrupt(path, "safetensors", detail);
    let Some(length) = bytes.first_chunk::<8>() else {
        return Err(damaged(format!("a file of {} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_SAFETENSORS_HEADER_BYTES as u64 {
        let limit = MAX_SAFETENSORS_HEADER_BYTES;
        return Err(damaged(format!("a header of {length} bytes, more than {limit}")));
    }
    let (length, tensors) =
        SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    Ok(Header::Safetensors { tensors, start: 8 + length })
}
