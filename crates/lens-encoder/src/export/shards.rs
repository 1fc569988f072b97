//! Weights as safetensors, written as they are decoded: no more than a few MB of them are in memory.

use super::tensors::Tensor;
use crate::error::{EncoderError, Result};
use half::{bf16, f16};
use lens_core::Progress;
use lens_data::Error;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// In which form weights are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExportType {
    /// As they are computed with here: rewards agree to rounding.
    #[default]
    F32,
    /// Half as large; rewards differ.
    F16,
    /// Half as large, and rewards differ more; what most trainers load.
    BF16,
}

impl ExportType {
    /// As `dtype` of `config.json` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// As `lens export --dtype` has it.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    fn convert(self, values: &[f32], to: &mut Vec<u8>) {
        to.resize(values.len() * self.bytes(), 0);
        let pairs = to.par_chunks_exact_mut(self.bytes()).zip(values).with_min_len(4096);
        match self {
            Self::F32 => pairs.for_each(|(to, v)| to.copy_from_slice(&v.to_le_bytes())),
            Self::F16 => {
                pairs.for_each(|(to, v)| to.copy_from_slice(&f16::from_f32(*v).to_le_bytes()));
            }
            Self::BF16 => {
                pairs.for_each(|(to, v)| to.copy_from_slice(&bf16::from_f32(*v).to_le_bytes()));
            }
        }
    }
}

impl FromStr for ExportType {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::F32, Self::F16, Self::BF16];
        all.into_iter().find(|dtype| dtype.short_name() == text).ok_or_else(|| {
            let detail = format!("'{text}' is not f32, f16 or bf16");
            EncoderError::InvalidOption { option: "dtype", detail }
        })
    }
}

/// Writes tensors to `folder`, in files of at most `limit` bytes (a larger tensor has a file of its own),
/// with an index where there are several. Returns the bytes of all tensors.
///
/// # Errors
/// A tensor that cannot be decoded; [`Error::DiskFull`] and what else keeps a file from being written;
/// [`EncoderError::Cancelled`].
pub(super) fn write(
    folder: &Path,
    tensors: &[Tensor],
    dtype: ExportType,
    limit: usize,
    progress: &dyn Progress,
) -> Result<u64> {
    let size = |tensor: &Tensor| tensor.len() * dtype.bytes();
    let mut shards: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        match shards.last_mut() {
            Some(shard) if bytes + size(tensor) <= limit => {
                shard.end = i + 1;
                bytes += size(tensor);
            }
            _ => {
                shards.push(i..i + 1);
                bytes = size(tensor);
            }
        }
    }
    let all: u64 = tensors.iter().map(|tensor| size(tensor) as u64).sum();
    progress.begin("write weights", all, "bytes");
    let mut map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => WEIGHTS.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        for tensor in &tensors[shard.clone()] {
            map.insert(tensor.name.clone(), name.as_str().into());
        }
        file(&folder.join(&name), &tensors[shard.clone()], dtype, progress)?;
    }
    progress.end();
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": all}, "weight_map": map});
        super::write_json(&folder.join(INDEX), &index)?;
    }
    Ok(all)
}

fn file(path: &Path, tensors: &[Tensor], dtype: ExportType, progress: &dyn Progress) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.len() * dtype.bytes();
        let entry = json!({
            "dtype": dtype.code(), "shape": tensor.shape, "data_offsets": [start, end],
        });
        header.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut header = Value::Object(header).to_string();
    // The data begin at a multiple of eight bytes.
    header.extend(std::iter::repeat_n(' ', (8 - header.len() % 8) % 8));
    let failed = |e| Error::io(path, "write", e);
    let mut to = BufWriter::new(File::create(path).map_err(failed)?);
    to.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    to.write_all(header.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    for tensor in tensors {
        tensor.each(|values| {
            if progress.cancelled() {
                return Err(EncoderError::Cancelled);
            }
            dtype.convert(values, &mut bytes);
            to.write_all(&bytes).map_err(failed)?;
            progress.advance(bytes.len() as u64);
            Ok(())
        })?;
    }
    to.flush().map_err(failed)?;
    Ok(())
}
