//! Arrays out to safetensors.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};

use super::Array2;
use crate::atomic::AtomicFile;
use crate::error::Error;

/// The key under which safetensors keeps text.
const METADATA_KEY: &str = "__metadata__";
/// Headers are padded so that the data is aligned for every element type.
const ALIGNMENT: usize = 8;
/// How many values are turned into bytes at a time.
const VALUES_A_CHUNK: usize = 1 << 14;

/// Writes float arrays, integer arrays and text to one file, atomically.
///
/// The same input gives the same bytes: names are sorted. (The library's own writer keeps the
/// metadata in a hash map, whose order changes from run to run, so the header is put together
/// here, out of the library's types.) Values that [`ArrayFile::floats`](super::ArrayFile::floats)
/// would refuse are refused here.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    floats: &[(&str, &Array2)],
    integers: &[(&str, &[i64])],
    metadata: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let path = path.as_ref();
    let mut names = BTreeSet::from([METADATA_KEY]);
    let all = floats.iter().map(|(name, _)| *name).chain(integers.iter().map(|(name, _)| *name));
    for name in all {
        if !names.insert(name) {
            return Err(Error::BadArrayName { path: path.to_owned(), key: name.to_owned() });
        }
    }
    for (name, array) in floats {
        check(path, name, array)?;
    }
    // The format wants wide elements first, so that every array is aligned.
    let mut integers = integers.to_vec();
    integers.sort_by_key(|(name, _)| *name);
    let mut floats = floats.to_vec();
    floats.sort_by_key(|(name, _)| *name);

    let mut file = AtomicFile::create(path)?;
    match write(&mut file, &floats, &integers, metadata) {
        Ok(()) => file.commit(),
        Err(e) => Err(file.error(e)),
    }
}

fn check(path: &Path, name: &str, array: &Array2) -> Result<(), Error> {
    let &Array2 { rows, dim, ref data } = array;
    if rows.checked_mul(dim) != Some(data.len()) {
        return Err(Error::WrongLength { rows, dim, found: data.len() });
    }
    let (path, key) = (path.to_owned(), name.to_owned());
    if data.is_empty() {
        return Err(Error::EmptyArray { path, key, shape: vec![rows, dim] });
    }
    match data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column, value) = (at / dim, at % dim, data[at]);
            Err(Error::NotFinite { path, key, row, column, value })
        }
    }
}

fn write(
    out: &mut impl Write,
    floats: &[(&str, &Array2)],
    integers: &[(&str, &[i64])],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA_KEY.to_owned(), serde_json::to_value(metadata)?);
    }
    let mut end = 0;
    let mut entry = |name: &str, dtype: Dtype, shape: Vec<usize>, bytes: usize| {
        let info = TensorInfo { dtype, shape, data_offsets: (end, end + bytes) };
        end += bytes;
        serde_json::to_value(info).map(|info: Value| header.insert(name.to_owned(), info))
    };
    for (name, values) in integers {
        entry(name, Dtype::I64, vec![values.len()], size_of_val(*values))?;
    }
    for (name, array) in floats {
        entry(name, Dtype::F32, array.shape().to_vec(), size_of_val(&*array.data))?;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, values) in integers {
        write_values(out, values, |value| value.to_le_bytes())?;
    }
    for (_, array) in floats {
        write_values(out, &array.data, |value| value.to_le_bytes())?;
    }
    Ok(())
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
