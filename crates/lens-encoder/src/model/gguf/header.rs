//! The header of a GGUF file: metadata and where tensors lie, walked once with every count and length
//! checked against the bytes that are there.

use super::{ArrayRef, TensorInfo, Value, corrupt};
use crate::error::{EncoderError, Result};
use crate::model::file::ModelFile;
use crate::model::stored::StoredType;
use std::collections::HashMap;
use std::path::Path;

/// More metadata entries than any real model has; bounds what a hostile header can allocate.
const MAX_METADATA: u64 = 1 << 16;
/// More tensors than any real model has.
const MAX_TENSORS: u64 = 1 << 17;
/// Longest name of a key or tensor.
const MAX_NAME: u64 = 1 << 16;
/// Tensors of ggml have at most four dimensions.
const MAX_DIMS: u32 = 4;
/// Alignment of tensor data where the file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Bytes that are read of a file at first; where its header is longer, four times as many, and so on.
const FIRST: usize = 1 << 20;
/// Longest header: vocabularies of a million tokens have a tenth of it.
const MAX_HEADER: usize = 256 << 20;

/// Reads the header of a file.
pub(super) fn read(file: &ModelFile, path: &Path) -> Result<Header> {
    let size = usize::try_from(file.size()).unwrap_or(usize::MAX);
    let mut have = FIRST.min(size);
    loop {
        let bytes = file.bytes(0..have)?;
        let mut walker = Walker::new(path, &bytes, size);
        match walker.header() {
            Err(_) if walker.wants_more && have < size.min(MAX_HEADER) => {
                have = (4 * have).min(size).min(MAX_HEADER);
            }
            header => return header,
        }
    }
}

/// A position in a file that never leaves it.
pub(super) struct Walker<'a> {
    path: &'a Path,
    /// The beginning of the file.
    bytes: &'a [u8],
    /// Bytes of all of the file.
    size: usize,
    at: usize,
    /// Whether it failed for what lies in the file, and not in `bytes`.
    wants_more: bool,
}

/// Metadata, and tensors by their names.
pub(super) type Header = (HashMap<String, Value>, HashMap<String, TensorInfo>);

impl<'a> Walker<'a> {
    /// At the beginning of a file of `size` bytes, which begins with `bytes`.
    pub fn new(path: &'a Path, bytes: &'a [u8], size: usize) -> Self {
        Self { path, bytes, size, at: 0, wants_more: false }
    }

    fn err(&self, detail: impl Into<String>) -> EncoderError {
        corrupt(self.path, detail)
    }

    fn left(&self) -> u64 {
        (self.size - self.at) as u64
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8]> {
        if n > self.left() {
            return Err(self.err(format!(
                "it ends at byte {}, inside something that needs {n} more bytes at byte {}",
                self.size, self.at
            )));
        }
        let Some(bytes) = self.bytes.get(self.at..self.at + n as usize) else {
            self.wants_more = true;
            return Err(self.err(format!("its header has more than {MAX_HEADER} bytes")));
        };
        self.at += n as usize;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub fn string(&mut self) -> Result<&'a [u8]> {
        let len = self.u64()?;
        self.take(len)
    }

    fn name(&mut self) -> Result<String> {
        let at = self.at;
        let bytes = self.string()?;
        if bytes.len() as u64 > MAX_NAME {
            return Err(self.err(format!("the name at byte {at} has {} bytes", bytes.len())));
        }
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    pub fn value(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::Int(u8::from_le_bytes(self.fixed()?).into()),
            1 => Value::Int(i8::from_le_bytes(self.fixed()?).into()),
            2 => Value::Int(u16::from_le_bytes(self.fixed()?).into()),
            3 => Value::Int(i16::from_le_bytes(self.fixed()?).into()),
            4 => Value::Int(self.u32()?.into()),
            5 => Value::Int(i32::from_le_bytes(self.fixed()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.fixed()?).into()),
            7 => Value::Bool(self.fixed::<1>()? != [0]),
            8 => Value::Text(String::from_utf8_lossy(self.string()?).into_owned()),
            9 => Value::Array(self.skip_array()?),
            10 => Value::Int(self.u64()?.into()),
            11 => Value::Int(i64::from_le_bytes(self.fixed()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.fixed()?)),
            _ => return Err(self.err(format!("unknown metadata type {kind} at byte {}", self.at))),
        })
    }

    /// Walks over an array; what it holds is decoded when somebody asks for it.
    fn skip_array(&mut self) -> Result<ArrayRef> {
        let kind = self.u32()?;
        let len = self.u64()?;
        let start = self.at;
        let size = match kind {
            0 | 1 | 7 => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            8 => None,
            // Nothing in use nests arrays; refusing them also bounds the recursion.
            _ => return Err(self.err(format!("array of unknown type {kind} at byte {start}"))),
        };
        match size {
            Some(size) => {
                let bytes = len
                    .checked_mul(size)
                    .ok_or_else(|| self.err(format!("array of {len} values at byte {start}")))?;
                self.take(bytes)?;
            }
            None => {
                if len > self.left() / 8 {
                    return Err(self.err(format!("array of {len} strings at byte {start}")));
                }
                for _ in 0..len {
                    self.string()?;
                }
            }
        }
        Ok(ArrayRef { kind, len: len as usize, start, end: self.at })
    }

    pub fn header(&mut self) -> Result<Header> {
        if self.take(4)? != b"GGUF" {
            return Err(self.err("it does not begin with the GGUF magic"));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(self.err(format!("GGUF version {version} (2 and 3 are readable)")));
        }
        let n_tensors = self.u64()?;
        let n_metadata = self.u64()?;
        // The smallest tensor entry has 32 bytes, the smallest metadata entry 13.
        if n_tensors > MAX_TENSORS.min(self.left() / 32) {
            return Err(self.err(format!("the header promises {n_tensors} tensors")));
        }
        if n_metadata > MAX_METADATA.min(self.left() / 13) {
            return Err(self.err(format!("the header promises {n_metadata} metadata entries")));
        }
        let mut metadata = HashMap::new();
        for _ in 0..n_metadata {
            let key = self.name()?;
            let kind = self.u32()?;
            let value = self.value(kind)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(self.err(format!("metadata '{key}' is there twice")));
            }
        }
        let mut entries = Vec::new();
        for _ in 0..n_tensors {
            entries.push(self.tensor_entry()?);
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Int(value)) if *value > 0 && *value <= 1 << 20 && *value % 8 == 0 => {
                *value as u64
            }
            Some(other) => return Err(self.err(format!("alignment {other:?}"))),
        };
        let base = (self.at as u64).next_multiple_of(alignment);
        let mut tensors = HashMap::new();
        for (name, type_id, shape, offset) in entries {
            let info = self.place(&name, type_id, shape, base, offset, alignment)?;
            if tensors.insert(name.clone(), info).is_some() {
                return Err(self.err(format!("tensor '{name}' is there twice")));
            }
        }
        Ok((metadata, tensors))
    }

    fn tensor_entry(&mut self) -> Result<(String, u32, Vec<usize>, u64)> {
        let name = self.name()?;
        let n_dims = self.u32()?;
        if n_dims == 0 || n_dims > MAX_DIMS {
            return Err(self.err(format!("tensor '{name}' has {n_dims} dimensions")));
        }
        let mut shape = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            let dim = self.u64()?;
            let dim = usize::try_from(dim)
                .ok()
                .filter(|d| *d > 0)
                .ok_or_else(|| self.err(format!("tensor '{name}' has a dimension of {dim}")))?;
            shape.push(dim);
        }
        shape.reverse();
        let type_id = self.u32()?;
        let offset = self.u64()?;
        Ok((name, type_id, shape, offset))
    }

    /// Turns an entry into a checked range of the file.
    fn place(
        &self,
        name: &str,
        type_id: u32,
        shape: Vec<usize>,
        base: u64,
        offset: u64,
        alignment: u64,
    ) -> Result<TensorInfo> {
        let stored = StoredType::of_ggml(type_id).ok_or_else(|| EncoderError::TensorType {
            path: self.path.to_owned(),
            name: name.to_owned(),
            found: type_name(type_id),
        })?;
        let oversize = || self.err(format!("tensor '{name}' of shape {shape:?} does not fit"));
        let elements =
            shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(oversize)?;
        let row = shape.last().copied().unwrap_or(0);
        if row % stored.block() != 0 {
            return Err(self.err(format!("tensor '{name}': rows of {row} are no whole blocks")));
        }
        let len =
            (elements / stored.block()).checked_mul(stored.block_bytes()).ok_or_else(oversize)?;
        let start = base.checked_add(offset).ok_or_else(oversize)?;
        let end = start.checked_add(len as u64).ok_or_else(oversize)?;
        if end > self.size as u64 {
            return Err(self.err(format!(
                "tensor '{name}' ends at byte {end}, the file at byte {}: is the download complete?",
                self.size
            )));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(self.err(format!("tensor '{name}' lies at an unaligned offset {offset}")));
        }
        Ok(TensorInfo { stored, shape, part: 0, start: start as usize, len })
    }
}

/// The names of ggml's storage formats, by their number; withdrawn ones have none.
const TYPE_NAMES: [&str; 40] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "",
    "",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
];

fn type_name(type_id: u32) -> String {
    match TYPE_NAMES.get(type_id as usize).filter(|name| !name.is_empty()) {
        Some(name) => format!("{name} (ggml type {type_id})"),
        None => format!("ggml type {type_id}"),
    }
}
