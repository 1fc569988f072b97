//! Numbers of bytes, as people write them.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error as ThisError;

/// A number of bytes: `1500000`, `800K`, `512M` or `2G` (1,024 to the next unit, `KiB`, `MB` and the
/// like mean the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub usize);

/// A text that is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("`{0}` is no number of bytes; expected one such as 800K, 512M or 2G")]
pub struct NoByteSize(String);

impl FromStr for ByteSize {
    type Err = NoByteSize;

    fn from_str(text: &str) -> Result<Self, NoByteSize> {
        let refuse = || NoByteSize(text.chars().take(32).collect());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(refuse()),
        };
        let number: usize = number.parse().map_err(|_| refuse())?;
        number.checked_mul(1 << shift).map(ByteSize).ok_or_else(refuse)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0 as u64)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number of bytes, such as 1500000, \"512M\" or \"2G\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
        usize::try_from(bytes).map(ByteSize).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<ByteSize, E> {
        usize::try_from(bytes).map(ByteSize).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1500000", 1_500_000),
            ("0", 0),
            ("800K", 800 << 10),
            ("512m", 512 << 20),
            ("2G", 2 << 30),
            ("2 GiB", 2 << 30),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(serde_json::from_value::<ByteSize>(text.into()).unwrap().0, bytes);
        }
        for bad in ["", "G", "-1", "1.5G", "2X", "2GG", "99999999999G", "0x10", "1 2"] {
            let error = bad.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("no number of bytes"), "{bad}: {error}");
        }
        assert_eq!(serde_json::to_value(ByteSize(7)).unwrap(), 7);
        assert_eq!(serde_json::from_str::<ByteSize>("7").unwrap(), ByteSize(7));
        assert!(serde_json::from_str::<ByteSize>("-7").is_err());
    }
}
