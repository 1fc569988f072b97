//! Embeddings as they come in requests: JSON lists, base64 of little-endian f32, or bytes.

use crate::failure::Failure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use lens_core::Matrix;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// Embeddings of a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Embeddings {
    /// A list of rows, or one row.
    Rows {
        /// All values, row by row; what is no f32 is NaN or infinite here.
        data: Vec<f32>,
        /// How many rows there are.
        rows: usize,
        /// How many values the first has.
        width: usize,
        /// The first row that has another number of values, and that number.
        odd: Option<(usize, usize)>,
    },
    /// Little-endian f32 in base64, all rows together.
    Base64(String),
}

/// How the values of a body of bytes are stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Reads the value of the header `X-Lens-Dtype`.
    ///
    /// # Errors
    /// 422 for another name.
    pub fn parse(name: &str) -> Result<Dtype, Failure> {
        match name.trim().to_ascii_lowercase().as_str() {
            "f32" => Ok(Dtype::F32),
            "f16" => Ok(Dtype::F16),
            "bf16" => Ok(Dtype::Bf16),
            other => {
                let message = format!("`{other}` is none of f32, f16, bf16");
                Err(Failure::field("X-Lens-Dtype", message))
            }
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

impl Embeddings {
    /// As a matrix of width `dim`.
    ///
    /// # Errors
    /// 422, naming row and column.
    pub fn matrix(self, dim: usize) -> Result<Matrix, Failure> {
        match self {
            Embeddings::Rows { data, rows, width, odd } => {
                let first = (rows > 0 && width != dim).then_some((0, width));
                if let Some((row, width)) = first.or(odd) {
                    let message = format!("row {row} has {width} columns, the model needs {dim}");
                    return Err(Failure::field("embeddings", message));
                }
                rows_of(data, rows, dim)
            }
            Embeddings::Base64(text) => {
                let bytes = STANDARD.decode(&text).map_err(|e| {
                    Failure::field("embeddings", format!("the text is not base64: {e}"))
                })?;
                drop(text);
                rows_from_bytes(&bytes, Dtype::F32, dim)
            }
        }
    }
}

/// The rows of width `dim` that bytes hold.
///
/// # Errors
/// 422 for bytes that do not fill rows, or a value that is not finite.
pub(crate) fn rows_from_bytes(bytes: &[u8], dtype: Dtype, dim: usize) -> Result<Matrix, Failure> {
    let row = dim * dtype.bytes();
    if !bytes.len().is_multiple_of(row) {
        let message = format!(
            "{} bytes are not a whole number of rows of {dim} values, which have {row} bytes each; \
             the last one is row {}, with {} bytes",
            bytes.len(),
            bytes.len() / row,
            bytes.len() % row
        );
        return Err(Failure::field("embeddings", message));
    }
    let mut data = vec![0.0f32; bytes.len() / dtype.bytes()];
    match dtype {
        Dtype::F32 => {
            let values = bytes.as_chunks::<4>().0;
            data.iter_mut().zip(values).for_each(|(to, from)| *to = f32::from_le_bytes(*from));
        }
        Dtype::F16 => each_half(bytes, &mut data, f16::from_le_bytes),
        Dtype::Bf16 => each_half(bytes, &mut data, bf16::from_le_bytes),
    }
    rows_of(data, bytes.len() / row, dim)
}

/// Widens numbers of two bytes, a few at a time.
fn each_half<H: Copy + Default>(bytes: &[u8], data: &mut [f32], read: impl Fn([u8; 2]) -> H)
where
    [H]: HalfFloatSliceExt,
{
    const AT_A_TIME: usize = 512;
    let mut halves = [H::default(); AT_A_TIME];
    let (bytes, _) = bytes.as_chunks::<2>();
    for (to, from) in data.chunks_mut(AT_A_TIME).zip(bytes.chunks(AT_A_TIME)) {
        let halves = &mut halves[..from.len()];
        halves.iter_mut().zip(from).for_each(|(half, bytes)| *half = read(*bytes));
        halves.convert_to_f32_slice(to);
    }
}

/// A matrix of at least one row.
fn rows_of(data: Vec<f32>, rows: usize, dim: usize) -> Result<Matrix, Failure> {
    if rows == 0 {
        return Err(Failure::field("embeddings", "there is no row to score"));
    }
    Ok(Matrix::new(data, rows, dim)?)
}

impl<'de> Deserialize<'de> for Embeddings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RowsVisitor)
    }
}

/// Reads a list of rows, one row, or base64.
struct RowsVisitor;

impl<'de> Visitor<'de> for RowsVisitor {
    type Value = Embeddings;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of rows of numbers, or base64 of little-endian f32")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Embeddings, E> {
        Ok(Embeddings::Base64(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Embeddings, A::Error> {
        let mut data = Vec::new();
        let (mut rows, mut width, mut odd) = (0, 0, None);
        let mut single = 0;
        while let Some(own) = seq.next_element_seed(NumberOrRow(&mut data))? {
            match own {
                None if rows == 0 => single += 1,
                Some(own) if single == 0 => {
                    if rows == 0 {
                        width = own;
                    } else if own != width {
                        odd = odd.or(Some((rows, own)));
                    }
                    rows += 1;
                }
                _ => return Err(A::Error::custom("numbers and rows of numbers side by side")),
            }
        }
        if single > 0 {
            (rows, width) = (1, single);
        }
        Ok(Embeddings::Rows { data, rows, width, odd })
    }
}

/// Reads a number, or a row of them behind the others; of a row it says how many it has.
struct NumberOrRow<'a>(&'a mut Vec<f32>);

impl NumberOrRow<'_> {
    fn number<E>(self, x: f32) -> Result<Option<usize>, E> {
        self.0.push(x);
        Ok(None)
    }
}

impl<'de> DeserializeSeed<'de> for NumberOrRow<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NumberOrRow<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number or a row of numbers")
    }

    fn visit_f64<E>(self, x: f64) -> Result<Option<usize>, E> {
        self.number(x as f32)
    }

    fn visit_u64<E>(self, x: u64) -> Result<Option<usize>, E> {
        self.number(x as f32)
    }

    fn visit_i64<E>(self, x: i64) -> Result<Option<usize>, E> {
        self.number(x as f32)
    }

    /// `null`, as some write NaN; it is refused later, where its row and column are known.
    fn visit_unit<E>(self) -> Result<Option<usize>, E> {
        self.number(f32::NAN)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<usize>, A::Error> {
        let before = self.0.len();
        while let Some(value) = seq.next_element::<Option<f64>>()? {
            self.0.push(value.map_or(f32::NAN, |x| x as f32));
        }
        Ok(Some(self.0.len() - before))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn json(text: &str) -> Result<Matrix, Failure> {
        serde_json::from_str::<Embeddings>(text).unwrap().matrix(2)
    }

    #[test]
    fn rows_come_in_every_form() {
        assert_eq!(json("[[1, 2.5], [-3e0, 4]]").unwrap().data(), [1.0, 2.5, -3.0, 4.0]);
        let one = json("[1, 2]").unwrap();
        assert_eq!((one.rows(), one.data()), (1, &[1.0, 2.0][..]));
        let bytes: Vec<u8> = [1.0f32, 2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(json(&format!("{:?}", STANDARD.encode(&bytes))).unwrap().data(), [1.0, 2.5]);
        assert_eq!(rows_from_bytes(&bytes, Dtype::F32, 2).unwrap().data(), [1.0, 2.5]);
        let halves: Vec<u8> =
            [1.0, 2.5].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        assert_eq!(rows_from_bytes(&halves, Dtype::F16, 2).unwrap().data(), [1.0, 2.5]);
        let brains: Vec<u8> =
            [1.0, 2.5].iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
        assert_eq!(rows_from_bytes(&brains, Dtype::Bf16, 2).unwrap().data(), [1.0, 2.5]);
    }

    #[test]
    fn what_does_not_fit_is_named_by_row_and_column() {
        for (text, message) in [
            ("[[1, 2], [3, null]]", "row 1, column 1"),
            ("[[1, 2], [1e39, 3]]", "row 1, column 0"),
            ("[[1, 2], [3, 4, 5]]", "row 1 has 3 columns, the model needs 2"),
            ("[[1, 2], [], [3]]", "row 1 has 0 columns"),
            ("[[], [1, 2]]", "row 0 has 0 columns"),
            ("[1, 2, 3]", "row 0 has 3 columns"),
            ("[]", "no row"),
            ("\"AAAA\"", "3 bytes"),
            ("\"?\"", "not base64"),
        ] {
            let failure = json(text).unwrap_err();
            assert!(
                failure.status.as_u16() == 422 && failure.message.contains(message),
                "{failure:?}"
            );
        }
        let nan: Vec<u8> = [1.0, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert!(
            rows_from_bytes(&nan, Dtype::F32, 2).unwrap_err().message.contains("row 0, column 1")
        );
        let infinite = [0, 0, 0, 0x7c];
        let failure = rows_from_bytes(&infinite, Dtype::F16, 2).unwrap_err();
        assert!(failure.message.contains("row 0, column 1: inf"), "{failure:?}");
        for bad in ["[1, [2]]", "[[1], 2]", "{}", "[[\"a\"]]", "[[[1]]]"] {
            assert!(serde_json::from_str::<Embeddings>(bad).is_err(), "{bad}");
        }
    }
}
