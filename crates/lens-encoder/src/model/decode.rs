//! From stored weights to `f32`.

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use half::{bf16, f16};
use rayon::prelude::*;

use super::Raw;
use crate::error::{EncoderError, Result};

/// Rows that a thread decodes at a time.
const ROWS: usize = 64;

/// A whole tensor.
pub(crate) fn whole(name: &str, raw: &Raw) -> Result<Vec<f32>> {
    let width = raw.shape.last().copied().unwrap_or(1).max(1);
    let mut out = vec![0.0; raw.shape.iter().product()];
    out.par_chunks_mut(ROWS * width)
        .enumerate()
        .try_for_each(|(i, out)| rows(name, raw, i * ROWS, out))?;
    Ok(out)
}

/// As many rows from `first` on as `out` has room for. The caller stays within the tensor.
pub(crate) fn rows(name: &str, raw: &Raw, first: usize, out: &mut [f32]) -> Result<()> {
    let width = raw.shape.last().copied().unwrap_or(1).max(1);
    let stored = width / raw.dtype.block_size() * raw.dtype.type_size();
    let n = out.len() / width;
    let range = first * stored..(first + n) * stored;
    let bytes = raw.bytes().get(range).ok_or_else(|| EncoderError::Decode {
        name: name.to_owned(),
        detail: format!("rows {first} to {} are not in it", first + n),
    })?;
    values(name, raw.dtype, bytes, width, out)
}

/// Decodes rows of `width` values that lie one after the other.
pub(crate) fn values(
    name: &str,
    dtype: GgmlDType,
    bytes: &[u8],
    width: usize,
    out: &mut [f32],
) -> Result<()> {
    match dtype {
        GgmlDType::F32 => {
            for (to, from) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *to = f32::from_le_bytes(*from);
            }
        }
        GgmlDType::F16 => {
            for (to, from) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *to = f16::from_le_bytes(*from).to_f32();
            }
        }
        GgmlDType::BF16 => {
            for (to, from) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *to = bf16::from_le_bytes(*from).to_f32();
            }
        }
        quantised => {
            let shape = vec![out.len() / width, width];
            let decoded = qtensor_from_ggml(quantised, bytes, shape, &Device::Cpu)
                .and_then(|t| t.dequantize(&Device::Cpu))
                .and_then(|t| t.flatten_all()?.to_vec1::<f32>())
                .map_err(|e| EncoderError::Decode { name: name.into(), detail: first_line(&e) })?;
            out.copy_from_slice(&decoded);
        }
    }
    Ok(())
}

/// The library may append a backtrace to its messages.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
