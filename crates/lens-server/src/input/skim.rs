//! Values whose form is told, and of which nothing more than that and their text is kept.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// What is left of a value: its text, or what `G` gathers of a list or an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Skimmed<G> {
    Null,
    Text(String),
    /// A number or a truth value.
    Scalar,
    List(G),
    Object(G),
}

/// Gathers something of a list or an object; what is not gathered is skipped.
pub(super) trait Gather: Default {
    fn list<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// How many elements there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count(pub usize);

impl Gather for Count {
    fn list<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {
            self.0 += 1;
        }
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            self.0 += 1;
        }
        Ok(())
    }
}

impl Skimmed<Count> {
    /// Whether the value says something: null, and what is empty, says nothing.
    pub fn says(&self) -> bool {
        match self {
            Skimmed::Null => false,
            Skimmed::Text(text) => !text.is_empty(),
            Skimmed::Scalar => true,
            Skimmed::List(count) | Skimmed::Object(count) => count.0 > 0,
        }
    }
}

impl<'de, G: Gather> Deserialize<'de> for Skimmed<G> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SkimVisitor(PhantomData))
    }
}

struct SkimVisitor<G>(PhantomData<G>);

impl<'de, G: Gather> Visitor<'de> for SkimVisitor<G> {
    type Value = Skimmed<G>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Skimmed<G>, E> {
        Ok(Skimmed::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Skimmed<G>, E> {
        Ok(Skimmed::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Skimmed<G>, E> {
        Ok(Skimmed::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Skimmed<G>, E> {
        Ok(Skimmed::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Skimmed<G>, E> {
        Ok(Skimmed::Scalar)
    }

    fn visit_str<E>(self, text: &str) -> Result<Skimmed<G>, E> {
        Ok(Skimmed::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Skimmed<G>, A::Error> {
        let mut gathered = G::default();
        gathered.list(seq)?;
        Ok(Skimmed::List(gathered))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Skimmed<G>, A::Error> {
        let mut gathered = G::default();
        gathered.object(map)?;
        Ok(Skimmed::Object(gathered))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn null_and_what_is_empty_says_nothing() {
        let says = |json: &str| serde_json::from_str::<Skimmed<Count>>(json).unwrap().says();
        for nothing in ["null", "[]", "{}", r#""""#] {
            assert!(!says(nothing), "{nothing}");
        }
        for something in ["false", "0", "-1", "0.5", r#""x""#, "[null]", r#"{"a": {}}"#] {
            assert!(says(something), "{something}");
        }
    }
}
