//! The element types of array files, and their conversion.

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;

/// An element type that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

/// The order of the bytes of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Element::I8 | Element::U8 => 1,
            Element::F16 | Element::Bf16 | Element::I16 | Element::U16 => 2,
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::F64 | Element::I64 | Element::U64 => 8,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Element::F16 | Element::Bf16 | Element::F32 | Element::F64)
    }

    pub fn of_safetensors(dtype: Dtype) -> Option<Element> {
        Some(match dtype {
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F32 => Element::F32,
            Dtype::F64 => Element::F64,
            Dtype::I8 => Element::I8,
            Dtype::I16 => Element::I16,
            Dtype::I32 => Element::I32,
            Dtype::I64 => Element::I64,
            Dtype::U8 | Dtype::BOOL => Element::U8,
            Dtype::U16 => Element::U16,
            Dtype::U32 => Element::U32,
            Dtype::U64 => Element::U64,
            _ => return None,
        })
    }

    /// The type of a NumPy `descr`, such as `<f4`.
    pub fn of_numpy(descr: &str) -> Option<(Element, Endian)> {
        let (order, kind) = descr.split_at_checked(1)?;
        let element = match kind {
            "f2" => Element::F16,
            "f4" => Element::F32,
            "f8" => Element::F64,
            "i1" => Element::I8,
            "i2" => Element::I16,
            "i4" => Element::I32,
            "i8" => Element::I64,
            "u1" | "b1" => Element::U8,
            "u2" => Element::U16,
            "u4" => Element::U32,
            "u8" => Element::U64,
            _ => return None,
        };
        match order {
            "<" => Some((element, Endian::Little)),
            "|" if element.bytes() == 1 => Some((element, Endian::Little)),
            ">" => Some((element, Endian::Big)),
            _ => None,
        }
    }
}

/// All elements as float32, or none if they are not floats.
pub(super) fn floats(bytes: &[u8], element: Element, endian: Endian) -> Option<Vec<f32>> {
    if !element.is_float() {
        return None;
    }
    let mut values = vec![0.0; bytes.len() / element.bytes()];
    widen(bytes, element, endian, &mut values);
    Some(values)
}

/// Writes float elements to `out` as float32, as many as both hold. The bytes need no alignment.
pub(super) fn widen(bytes: &[u8], element: Element, endian: Endian, out: &mut [f32]) {
    match (element, endian) {
        (Element::F16, Endian::Little) => widen_f16(bytes, f16::from_le_bytes, out),
        (Element::F16, Endian::Big) => widen_f16(bytes, f16::from_be_bytes, out),
        // The upper half of a float32. (NaN comes out as NaN, and is refused.)
        (Element::Bf16, Endian::Little) => {
            each(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
        }
        (Element::Bf16, Endian::Big) => {
            each(bytes, out, |b| f32::from_bits(u32::from(u16::from_be_bytes(b)) << 16));
        }
        (Element::F32, Endian::Little) => each(bytes, out, f32::from_le_bytes),
        (Element::F32, Endian::Big) => each(bytes, out, f32::from_be_bytes),
        // Beyond the range of float32 this is infinite, which the caller refuses.
        (Element::F64, Endian::Little) => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        (Element::F64, Endian::Big) => each(bytes, out, |b| f64::from_be_bytes(b) as f32),
        // Integers are no embeddings: whoever calls has looked.
        _ => {}
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    for (out, &element) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = read(element);
    }
}

/// By way of a little array, which is aligned whatever the bytes are: the conversion by hardware
/// wants slices of elements.
fn widen_f16(bytes: &[u8], read: impl Fn([u8; 2]) -> f16, out: &mut [f32]) {
    let mut halves = [f16::ZERO; 256];
    for (out, bytes) in out.chunks_mut(256).zip(bytes.as_chunks::<2>().0.chunks(256)) {
        let n = out.len().min(bytes.len());
        for (half, &element) in halves.iter_mut().zip(bytes) {
            *half = read(element);
        }
        halves[..n].convert_to_f32_slice(&mut out[..n]);
    }
}

/// All elements as 64-bit integers, or none if they are not integers or do not fit.
pub(super) fn integers(bytes: &[u8], element: Element, endian: Endian) -> Option<Vec<i64>> {
    Some(match element {
        Element::I8 => map(bytes, endian, |b| i8::from_le_bytes(b).into()),
        Element::I16 => map(bytes, endian, |b| i16::from_le_bytes(b).into()),
        Element::I32 => map(bytes, endian, |b| i32::from_le_bytes(b).into()),
        Element::I64 => map(bytes, endian, i64::from_le_bytes),
        Element::U8 => map(bytes, endian, |b| u8::from_le_bytes(b).into()),
        Element::U16 => map(bytes, endian, |b| u16::from_le_bytes(b).into()),
        Element::U32 => map(bytes, endian, |b| u32::from_le_bytes(b).into()),
        Element::U64 => map(bytes, endian, |b| i64::try_from(u64::from_le_bytes(b)))
            .into_iter()
            .collect::<Result<_, _>>()
            .ok()?,
        _ => return None,
    })
}

fn map<const N: usize, T>(bytes: &[u8], endian: Endian, read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    match endian {
        Endian::Little => elements.iter().map(|&element| read(element)).collect(),
        Endian::Big => elements
            .iter()
            .map(|&element| {
                let mut element = element;
                element.reverse();
                read(element)
            })
            .collect(),
    }
}
