//! Writes GGUF files.

use crate::model::stored::StoredType;
use half::f16;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Vec<Entry>),
}

/// A tensor, slowest dimension first, as in `[out, in]`.
pub(crate) struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
    /// [`StoredType::F32`], or [`StoredType::Q8_0`] for rows of whole blocks.
    pub stored: StoredType,
}

/// Where every tensor begins.
const ALIGNMENT: usize = 32;

/// A file of version 2; the reference models of the tests are of version 3, which differs only in that
/// it may be big-endian.
pub(crate) fn file(metadata: &[(String, Entry)], tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(2u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, entry) in metadata {
        string(key, &mut out);
        out.extend(entry.kind().to_le_bytes());
        entry.write(&mut out);
    }
    let mut data = Vec::new();
    for tensor in tensors {
        string(&tensor.name, &mut out);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for dim in tensor.shape.iter().rev() {
            out.extend((*dim as u64).to_le_bytes());
        }
        out.extend(match tensor.stored {
            StoredType::Q8_0 => 8u32.to_le_bytes(),
            _ => 0u32.to_le_bytes(),
        });
        out.extend((data.len() as u64).to_le_bytes());
        match tensor.stored {
            StoredType::Q8_0 => tensor.values.as_chunks().0.iter().for_each(|b| q8_0(b, &mut data)),
            _ => data.extend(tensor.values.iter().flat_map(|v| v.to_le_bytes())),
        }
        pad(&mut data);
    }
    pad(&mut out);
    out.extend(data);
    out
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A block of signed bytes, the largest of them 127.
fn q8_0(values: &[f32; 32], out: &mut Vec<u8>) {
    let scale = values.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0;
    let steps = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(values.iter().map(|v| (v * steps).round() as i8 as u8));
}

impl Entry {
    /// The number of its type in a file.
    fn kind(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::I32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push(u8::from(*value)),
            Self::String(text) => string(text, out),
            Self::Array(entries) => {
                // The type of the elements; of none, any.
                out.extend(entries.first().map_or(4, Self::kind).to_le_bytes());
                out.extend((entries.len() as u64).to_le_bytes());
                entries.iter().for_each(|entry| entry.write(out));
            }
        }
    }
}
