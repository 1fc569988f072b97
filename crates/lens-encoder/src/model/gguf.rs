//! Reads the header of a GGUF file without trusting it.
//!
//! The header is walked once with every count and length checked against the bytes that are really
//! there, so a tampered file costs an error and not an allocation. Arrays (the vocabulary) stay in the
//! file until they are asked for.
//!
//! A model may be split into several files, of which the first has the metadata and each some of the
//! tensors.

mod header;
mod split;

use super::Raw;
use super::file::ModelFile;
use super::stored::StoredType;
use crate::error::{EncoderError, Result};
use header::{Header, Walker};
pub(crate) use split::part_names;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One metadata value. Arrays are ranges of the file, decoded on demand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Any integer type.
    Int(i128),
    /// Any float type.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// Text.
    Text(String),
    /// An array of scalars or strings.
    Array(ArrayRef),
}

/// Where an array lies in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ArrayRef {
    kind: u32,
    len: usize,
    start: usize,
    end: usize,
}

/// Where a tensor lies in the file, and how it is stored.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    /// How the values are stored.
    stored: StoredType,
    /// Slowest dimension first, as in `[out, in]`.
    pub shape: Vec<usize>,
    /// Which of the files of a split model it lies in.
    part: usize,
    /// First byte in the file.
    start: usize,
    /// Bytes.
    len: usize,
}

/// An opened model file, or all files of a split model.
#[derive(Debug)]
pub(crate) struct GgufFile {
    /// The file, or the files in their order.
    paths: Vec<PathBuf>,
    parts: Vec<Arc<ModelFile>>,
    /// Of the first file.
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

impl GgufFile {
    /// Opens the file, of a split model all its files, and checks the headers.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = Self {
            paths: split::parts(path)?,
            parts: Vec::new(),
            metadata: HashMap::new(),
            tensors: HashMap::new(),
        };
        for part in 0..file.paths.len() {
            file.add(part)?;
        }
        file.check_parts()?;
        Ok(file)
    }

    /// The only model of a folder: the first of its files, if there is just one in it.
    pub fn in_folder(folder: &Path) -> Result<Option<PathBuf>> {
        split::only_model(folder)
    }

    fn add(&mut self, part: usize) -> Result<()> {
        let path = &self.paths[part];
        let opened = ModelFile::open(path)?;
        let (metadata, tensors): Header = header::read(&opened, path)?;
        split::check(path, &metadata, part, self.paths.len())?;
        for (name, tensor) in tensors {
            let twice = format!("tensor '{name}' is in another part already");
            if self.tensors.insert(name, TensorInfo { part, ..tensor }).is_some() {
                return Err(corrupt(path, twice));
            }
        }
        if part == 0 {
            self.metadata = metadata;
        }
        self.parts.push(Arc::new(opened));
        Ok(())
    }

    /// Whether the parts of a split model are all its tensors.
    fn check_parts(&self) -> Result<()> {
        let promised = self.int(split::TENSORS)?;
        match promised.filter(|n| *n != self.tensors.len() && self.paths.len() > 1) {
            None => Ok(()),
            Some(n) => {
                let found = self.tensors.len();
                Err(self.bad(split::TENSORS, format!("is {n}, but the parts hold {found}")))
            }
        }
    }

    /// The file; of a split model the first one.
    pub fn path(&self) -> &Path {
        // There is always one.
        self.paths.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The file, or the files in their order.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Bytes of the file, or of all files.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size()).sum()
    }

    /// How many tensors the file holds.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// An error about a metadata entry of this file.
    pub fn bad(&self, key: &str, detail: impl Into<String>) -> EncoderError {
        let path = self.path().to_owned();
        EncoderError::Metadata { path, key: key.into(), detail: detail.into() }
    }

    /// An optional positive-or-zero integer.
    pub fn int(&self, key: &str) -> Result<Option<usize>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Int(value)) => {
                usize::try_from(*value).map(Some).map_err(|_| self.bad(key, "is out of range"))
            }
            Some(_) => Err(self.bad(key, "is not an integer")),
        }
    }

    /// An integer that must be there, above zero and below 2³¹.
    pub fn positive(&self, key: &str) -> Result<usize> {
        match self.int(key)? {
            None => Err(self.bad(key, "is missing")),
            // Products of two such numbers cannot overflow.
            Some(value) if value == 0 || value > i32::MAX as usize => {
                Err(self.bad(key, format!("is {value}")))
            }
            Some(value) => Ok(value),
        }
    }

    /// An optional finite number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if value.is_finite() => Ok(Some(*value)),
            Some(Value::Int(value)) => Ok(Some(*value as f64)),
            Some(_) => Err(self.bad(key, "is not a finite number")),
        }
    }

    /// An optional boolean.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.bad(key, "is not a boolean")),
        }
    }

    /// An optional text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(_) => Err(self.bad(key, "is not text")),
        }
    }

    /// An array of strings that must be there.
    pub fn texts(&self, key: &str) -> Result<Vec<String>> {
        let array = self.array(key)?.ok_or_else(|| self.bad(key, "is missing"))?;
        if array.kind != 8 {
            return Err(self.bad(key, "is not an array of strings"));
        }
        let bytes = self.parts[0].bytes(array.start..array.end)?;
        let mut walker = Walker::new(self.path(), &bytes, bytes.len());
        let mut text = || walker.string().map(|text| String::from_utf8_lossy(text).into_owned());
        (0..array.len).map(|_| text()).collect()
    }

    /// An optional array of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(array) = self.array(key)? else { return Ok(None) };
        let bytes = self.parts[0].bytes(array.start..array.end)?;
        let mut walker = Walker::new(self.path(), &bytes, bytes.len());
        (0..array.len)
            .map(|_| match walker.value(array.kind)? {
                Value::Int(value) => Ok(value as f64),
                Value::Float(value) => Ok(value),
                _ => Err(self.bad(key, "is not an array of numbers")),
            })
            .collect::<Result<Vec<f64>>>()
            .map(Some)
    }

    fn array(&self, key: &str) -> Result<Option<ArrayRef>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(*array)),
            Some(_) => Err(self.bad(key, "is not an array")),
        }
    }

    /// A tensor of any shape.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| EncoderError::MissingTensor {
            path: self.path().to_owned(),
            name: name.to_owned(),
        })
    }

    /// Whether there is such a metadata entry.
    pub fn says(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// Names of the tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor as it is stored.
    pub fn raw(&self, name: &str) -> Result<Raw> {
        let TensorInfo { stored, shape, part, start, len } = self.tensor(name)?.clone();
        Ok(Raw { file: Arc::clone(&self.parts[part]), start, len, stored, shape })
    }
}

fn corrupt(path: &Path, detail: impl Into<String>) -> EncoderError {
    EncoderError::CorruptModel { path: path.to_owned(), detail: detail.into() }
}

#[cfg(test)]
mod tests;
