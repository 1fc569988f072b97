//! Arrays out to safetensors.

use super::Array2;
use crate::atomic::AtomicFile;
use crate::error::Error;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

/// The key under which safetensors keeps text.
const METADATA_KEY: &str = "__metadata__";
/// Headers are padded so that the data is aligned for every element type.
const ALIGNMENT: usize = 8;
/// How many values are turned into bytes at a time.
const VALUES_A_CHUNK: usize = 1 << 14;

/// In which form embeddings are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatType {
    /// Half the size; 11 bits of precision, up to 65,504.
    F16,
    /// Half the size; 8 bits of precision, the range of float32.
    Bf16,
    /// As they were computed.
    #[default]
    F32,
}

impl FloatType {
    /// The name, as in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            FloatType::F16 => "f16",
            FloatType::Bf16 => "bf16",
            FloatType::F32 => "f32",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            FloatType::F16 => Dtype::F16,
            FloatType::Bf16 => Dtype::BF16,
            FloatType::F32 => Dtype::F32,
        }
    }

    fn holds(self, value: f32) -> bool {
        match self {
            FloatType::F16 => f16::from_f32(value).is_finite(),
            FloatType::Bf16 => bf16::from_f32(value).is_finite(),
            FloatType::F32 => value.is_finite(),
        }
    }
}

/// One array to be written.
#[derive(Debug, Clone, Copy)]
pub enum Tensor<'a> {
    /// Embeddings, `[n, d]`, in this form.
    Floats(&'a Array2, FloatType),
    /// Numbers, `[n]`, as float32.
    Vector(&'a [f32]),
    /// Numbers, `[n]`, as 64-bit integers.
    Integers(&'a [i64]),
}

impl Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Tensor::Floats(_, form) => form.dtype(),
            Tensor::Vector(_) => Dtype::F32,
            Tensor::Integers(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Tensor::Floats(array, _) => array.shape().to_vec(),
            Tensor::Vector(values) => vec![values.len()],
            Tensor::Integers(values) => vec![values.len()],
        }
    }

    fn element_bytes(&self) -> usize {
        match self {
            Tensor::Floats(_, FloatType::F16 | FloatType::Bf16) => 2,
            Tensor::Floats(_, FloatType::F32) | Tensor::Vector(_) => 4,
            Tensor::Integers(_) => 8,
        }
    }

    fn bytes(&self) -> usize {
        let elements = match self {
            Tensor::Floats(array, _) => array.data.len(),
            Tensor::Vector(values) => values.len(),
            Tensor::Integers(values) => values.len(),
        };
        elements * self.element_bytes()
    }

    /// Refuses what could not be read back.
    fn check(&self, path: &Path, name: &str) -> Result<(), Error> {
        let (path, key) = (path.to_owned(), name.to_owned());
        let (data, dim, form) = match self {
            Tensor::Integers(_) => return Ok(()),
            Tensor::Vector(values) => (*values, 1, FloatType::F32),
            Tensor::Floats(Array2 { rows, dim, data }, form) => {
                if rows.checked_mul(*dim) != Some(data.len()) {
                    return Err(Error::WrongLength { rows: *rows, dim: *dim, found: data.len() });
                }
                if data.is_empty() {
                    return Err(Error::EmptyArray { path, key, shape: vec![*rows, *dim] });
                }
                (data.as_slice(), *dim, *form)
            }
        };
        let Some(at) = data.iter().position(|&value| !form.holds(value)) else { return Ok(()) };
        let (row, column, value) = (at / dim, at % dim, data[at]);
        if value.is_finite() {
            let form = form.as_str();
            return Err(Error::TooLargeFor { path, key, row, column, value, form });
        }
        Err(Error::NotFinite { path, key, row, column, value })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Tensor::Integers(values) => write_values(out, values, i64::to_le_bytes),
            Tensor::Vector(values) => write_values(out, values, f32::to_le_bytes),
            Tensor::Floats(array, form) => match form {
                FloatType::F32 => write_values(out, &array.data, f32::to_le_bytes),
                FloatType::F16 => {
                    write_values(out, &array.data, |v| f16::from_f32(v).to_le_bytes())
                }
                FloatType::Bf16 => {
                    write_values(out, &array.data, |v| bf16::from_f32(v).to_le_bytes())
                }
            },
        }
    }
}

/// Writes float arrays as float32, integer arrays and text; see [`write_tensors`].
pub fn write_safetensors(
    path: impl AsRef<Path>,
    floats: &[(&str, &Array2)],
    integers: &[(&str, &[i64])],
    metadata: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let floats = floats.iter().map(|(name, a)| (*name, Tensor::Floats(a, FloatType::F32)));
    let integers = integers.iter().map(|(name, values)| (*name, Tensor::Integers(values)));
    write_tensors(path, &floats.chain(integers).collect::<Vec<_>>(), metadata)
}

/// Writes arrays and text to one file, atomically.
///
/// The same input gives the same bytes: names are sorted. (The library's own writer keeps the
/// metadata in a hash map, whose order changes from run to run, so the header is put together
/// here, out of the library's types.) Values that [`ArrayFile::floats`](super::ArrayFile::floats)
/// would refuse are refused here, also those that become infinite in the form asked for
/// ([`Error::TooLargeFor`]).
pub fn write_tensors(
    path: impl AsRef<Path>,
    tensors: &[(&str, Tensor<'_>)],
    metadata: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let path = path.as_ref();
    let mut names = BTreeSet::from([METADATA_KEY]);
    for (name, _) in tensors {
        if !names.insert(name) {
            return Err(Error::BadArrayName { path: path.to_owned(), key: (*name).to_owned() });
        }
    }
    for (name, tensor) in tensors {
        tensor.check(path, name)?;
    }
    let mut tensors = tensors.to_vec();
    // The format wants wide elements first, so that every array is aligned.
    tensors.sort_by_key(|(name, tensor)| (Reverse(tensor.element_bytes()), *name));

    let mut file = AtomicFile::create(path)?;
    match write(&mut file, &tensors, metadata) {
        Ok(()) => file.commit(),
        Err(e) => Err(file.error(e)),
    }
}

fn write(
    out: &mut impl Write,
    tensors: &[(&str, Tensor<'_>)],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA_KEY.to_owned(), serde_json::to_value(metadata)?);
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        let data_offsets = (end, end + tensor.bytes());
        end = data_offsets.1;
        let info = TensorInfo { dtype: tensor.dtype(), shape: tensor.shape(), data_offsets };
        let info: Value = serde_json::to_value(info)?;
        header.insert((*name).to_owned(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    tensors.iter().try_for_each(|(_, tensor)| tensor.write(out))
}

fn write_values<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(VALUES_A_CHUNK.min(values.len()) * N);
    for chunk in values.chunks(VALUES_A_CHUNK) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&value| bytes(value)));
        out.write_all(&buffer)?;
    }
    Ok(())
}
