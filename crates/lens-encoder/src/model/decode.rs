//! From stored weights to `f32`.

mod blocks;

use super::Raw;
use super::stored::StoredType;
use crate::error::{EncoderError, Result};
use crate::forward::vectorised;
use half::{bf16, f16};
use rayon::prelude::*;

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
    let stored = width / raw.stored.block() * raw.stored.block_bytes();
    let n = out.len() / width;
    let range = first * stored..(first + n) * stored;
    if range.end > raw.len {
        return Err(EncoderError::Decode {
            name: name.to_owned(),
            detail: format!("rows {first} to {} are not in it", first + n),
        });
    }
    let range = raw.start + range.start..raw.start + range.end;
    raw.file.with(range, |bytes| values(raw.stored, bytes, out))
}

/// Decodes values that lie one after the other, in whole blocks.
fn values(stored: StoredType, bytes: &[u8], out: &mut [f32]) {
    use StoredType::*;
    debug_assert_eq!(out.len() / stored.block() * stored.block_bytes(), bytes.len());
    vectorised(|| match stored {
        F32 => each(bytes, out, |from, to: &mut [f32; 1]| to[0] = f32::from_le_bytes(*from)),
        F16 => {
            each(bytes, out, |from, to: &mut [f32; 1]| to[0] = f16::from_le_bytes(*from).to_f32())
        }
        BF16 => {
            each(bytes, out, |from, to: &mut [f32; 1]| to[0] = bf16::from_le_bytes(*from).to_f32())
        }
        Q4_0 => each(bytes, out, blocks::q4_0),
        Q4_1 => each(bytes, out, blocks::q4_1),
        Q5_0 => each(bytes, out, blocks::q5_0),
        Q5_1 => each(bytes, out, blocks::q5_1),
        Q8_0 => each(bytes, out, blocks::q8_0),
        Q2_K => each(bytes, out, blocks::q2_k),
        Q3_K => each(bytes, out, blocks::q3_k),
        Q4_K => each(bytes, out, blocks::q4_k),
        Q5_K => each(bytes, out, blocks::q5_k),
        Q6_K => each(bytes, out, blocks::q6_k),
        IQ4_NL => each(bytes, out, blocks::iq4_nl),
        IQ4_XS => each(bytes, out, blocks::iq4_xs),
    });
}

/// Blocks of `BYTES` bytes and `VALUES` values.
#[inline(always)]
fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    for (from, to) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(from, to);
    }
}

#[cfg(test)]
mod tests;
