//! The setting `augment`: a factor, or `auto`.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// How much is augmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Augment {
    /// Whatever nested cross-validation on the seeds chooses, along with the rest of the settings.
    Auto,
    /// Training pairs for each seed pair, the original included.
    Factor(usize),
}

impl Augment {
    /// The factor; without one, the factor that a search starts from.
    pub fn factor(self) -> usize {
        match self {
            Augment::Auto => lens_core::MethodSettings::default().augment,
            Augment::Factor(factor) => factor,
        }
    }
}

impl Serialize for Augment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Augment::Auto => to.serialize_str("auto"),
            Augment::Factor(factor) => factor.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Augment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Augment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("augment: a whole number from 1 on, or \"auto\"")
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Augment, E> {
                let factor = usize::try_from(n);
                factor
                    .map(Augment::Factor)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(n), &self))
            }
            fn visit_u64<E: Error>(self, n: u64) -> Result<Augment, E> {
                let factor = usize::try_from(n);
                factor
                    .map(Augment::Factor)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(n), &self))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Augment, E> {
                match text {
                    "auto" => Ok(Augment::Auto),
                    // As a flag gives it.
                    _ => text
                        .parse()
                        .map(Augment::Factor)
                        .map_err(|_| E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(Either)
    }
}
