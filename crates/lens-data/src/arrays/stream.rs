//! Arrays out to safetensors as they come: for more than fits into memory.

use crate::atomic::AtomicFile;
use crate::error::Error;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The key under which safetensors keeps text.
const METADATA_KEY: &str = "__metadata__";
/// Headers are padded so that the data is aligned for every element type.
const ALIGNMENT: usize = 8;
/// How many values are turned into bytes, and written, at a time.
const VALUES_A_CHUNK: usize = 1 << 20;

/// Writes a safetensors file whose shapes are known ahead, its rows as they come: nothing of it is
/// held in memory. The file appears whole when it is [finished](ArrayWriter::finish), and not at
/// all otherwise.
///
/// Arrays are written one after another: the integers by name, then the floats by name. (The format
/// wants wide elements first, so that every array is aligned. The library's own writer keeps the
/// metadata in a hash map, whose order changes from run to run, so the header is put together here,
/// out of the library's types.)
#[derive(Debug)]
pub struct ArrayWriter {
    path: PathBuf,
    file: AtomicFile,
    promised: Vec<PromisedArray>,
    /// The array that is being written.
    at: usize,
    /// How many of its values have come.
    written: usize,
    bytes: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct PromisedArray {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    values: usize,
}

impl ArrayWriter {
    /// Begins a file with float arrays of these shapes, integer arrays of these lengths, and text.
    ///
    /// # Errors
    /// [`Error::EmptyArray`] for a float array without values; [`Error::BadArrayName`] for a name
    /// that is taken or reserved; [`Error::TooLarge`] for sizes beyond any file; failures of the
    /// system.
    pub fn create(
        path: impl AsRef<Path>,
        floats: &[(&str, [usize; 2])],
        integers: &[(&str, usize)],
        metadata: &BTreeMap<String, String>,
    ) -> Result<ArrayWriter, Error> {
        let path = path.as_ref().to_owned();
        let promise = |name: &str, dtype, shape: Vec<usize>| {
            let too_large = || Error::TooLarge { path: path.clone(), shape: shape.clone() };
            let values = shape.iter().try_fold(1usize, |n, &m| n.checked_mul(m));
            let values = values.ok_or_else(too_large)?;
            Ok(PromisedArray { name: name.to_owned(), dtype, shape, values })
        };
        let mut promised: Vec<PromisedArray> = integers
            .iter()
            .map(|&(name, length)| promise(name, Dtype::I64, vec![length]))
            .chain(floats.iter().map(|&(name, shape)| promise(name, Dtype::F32, shape.to_vec())))
            .collect::<Result<_, Error>>()?;
        let mut names = BTreeSet::from([METADATA_KEY]);
        for array in &promised {
            let (path, key) = (path.clone(), array.name.clone());
            if !names.insert(&array.name) {
                return Err(Error::BadArrayName { path, key });
            }
            if array.dtype == Dtype::F32 && array.values == 0 {
                return Err(Error::EmptyArray { path, key, shape: array.shape.clone() });
            }
        }
        promised.sort_by(|a, b| {
            let is_float = |p: &PromisedArray| p.dtype == Dtype::F32;
            (is_float(a), &a.name).cmp(&(is_float(b), &b.name))
        });
        let header = header(&path, &promised, metadata)?;
        let file = AtomicFile::create(&path)?;
        let buffer = Vec::new();
        let mut writer = ArrayWriter { path, file, promised, at: 0, written: 0, bytes: 0, buffer };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(&header)?;
        Ok(writer)
    }

    /// The next values of the integer array `name`.
    ///
    /// # Errors
    /// [`Error::WrongRows`] for more than were promised, or when another array is due.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> Result<(), Error> {
        self.expect(name, Dtype::I64, values.len())?;
        self.put_values(values, |value| value.to_le_bytes())
    }

    /// The next rows of the float array `name`, whole ones.
    ///
    /// # Errors
    /// As [`ArrayWriter::integers`]; [`Error::NotFinite`] for NaN and infinity.
    pub fn floats(&mut self, name: &str, rows: &[f32]) -> Result<(), Error> {
        let (before, dim) = self.expect(name, Dtype::F32, rows.len())?;
        // First whether there is any, which is quick.
        if !rows.iter().fold(true, |finite, value| finite & value.is_finite())
            && let Some(at) = rows.iter().position(|value| !value.is_finite())
        {
            let (path, key) = (self.path.clone(), name.to_owned());
            let (row, column) = ((before + at) / dim, at % dim);
            return Err(Error::NotFinite { path, key, row, column, value: rows[at] });
        }
        self.put_values(rows, |value| value.to_le_bytes())
    }

    /// Brings the file to the disk and to its place; returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::WrongRows`] when fewer values came than were promised; failures of the system.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.pass_complete(None);
        match self.promised.get(self.at) {
            Some(due) if self.written != due.values => Err(self.wrong_rows(due, self.written)),
            _ => self.file.commit().map(|()| self.bytes),
        }
    }

    /// Goes on to the array `name`, or as far as the arrays before it are complete.
    fn pass_complete(&mut self, name: Option<&str>) {
        while let [due, _, ..] = &self.promised[self.at..]
            && Some(due.name.as_str()) != name
            && self.written == due.values
        {
            self.at += 1;
            self.written = 0;
        }
    }

    /// Checks that `count` values of array `name` are due; returns how many came before them, and
    /// how many a row has.
    fn expect(&mut self, name: &str, dtype: Dtype, count: usize) -> Result<(usize, usize), Error> {
        self.pass_complete(Some(name));
        let Some(due) = self.promised.get(self.at) else {
            let (path, key) = (self.path.clone(), name.to_owned());
            return Err(Error::BadArrayName { path, key });
        };
        let before = self.written;
        if due.name != name || due.dtype != dtype {
            return Err(self.wrong_rows(due, before));
        }
        let dim = due.shape.get(1).copied().unwrap_or(1).max(1);
        if count > due.values - before || !count.is_multiple_of(dim) {
            return Err(self.wrong_rows(due, before.saturating_add(count)));
        }
        self.written += count;
        Ok((before, dim))
    }

    fn wrong_rows(&self, array: &PromisedArray, found: usize) -> Error {
        let (path, key, shape) = (self.path.clone(), array.name.clone(), array.shape.clone());
        Error::WrongRows { path, key, shape, found }
    }

    fn put_values<T: Copy, const N: usize>(
        &mut self,
        values: &[T],
        to_bytes: impl Fn(T) -> [u8; N],
    ) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        for chunk in values.chunks(VALUES_A_CHUNK) {
            buffer.resize(chunk.len() * N, 0);
            for (bytes, &value) in buffer.chunks_exact_mut(N).zip(chunk) {
                bytes.copy_from_slice(&to_bytes(value));
            }
            self.put(&buffer)?;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| self.file.error(e))
    }
}

fn header(
    path: &Path,
    promised: &[PromisedArray],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Error> {
    let json = |e: serde_json::Error| Error::corrupt(path, "safetensors", e);
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA_KEY.to_owned(), serde_json::to_value(metadata).map_err(json)?);
    }
    let mut start = 0usize;
    for PromisedArray { name, dtype, shape, values } in promised {
        let size = if *dtype == Dtype::I64 { 8 } else { 4 };
        let end = values.checked_mul(size).and_then(|bytes| start.checked_add(bytes));
        let end = end.ok_or_else(|| Error::TooLarge { path: path.into(), shape: shape.clone() })?;
        let info = TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (start, end) };
        header.insert(name.clone(), serde_json::to_value(info).map_err(json)?);
        start = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    Ok(header)
}
