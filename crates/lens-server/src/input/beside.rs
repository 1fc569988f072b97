//! Fields of a body and of its messages that no reward is given for, told while they are skipped.

use super::skim::{Count, Skimmed};
use crate::failure::Failure;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Fields beside messages that change how the template writes them.
const UNREAD: [&str; 5] =
    ["tools", "functions", "documents", "chat_template", "chat_template_kwargs"];

/// The refusal of a field that says something which cannot be scored.
pub(super) fn unread(field: &str) -> Failure {
    let message = format!(
        "`{field}` cannot be scored: a reward is one of texts, and without it the conversation would \
         be another one"
    );
    Failure::field(field, message)
}

/// A body, and which field beside its messages cannot be scored.
#[derive(Debug)]
pub(crate) struct WithBeside<T> {
    pub body: T,
    pub beside: Beside,
}

/// Which field beside messages says something that cannot be scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Beside(Option<&'static str>);

impl Beside {
    /// # Errors
    /// 422, naming the field.
    pub fn refuse(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), |field| Err(unread(field)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WithBeside<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(BodyVisitor(PhantomData))
    }
}

struct BodyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BodyVisitor<T> {
    type Value = WithBeside<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WithBeside<T>, A::Error> {
        let mut found = Beside::default();
        let body = T::deserialize(MapAccessDeserializer::new(Watched { map, found: &mut found }))?;
        Ok(WithBeside { body, beside: found })
    }
}

/// A map without the fields that cannot be scored.
struct Watched<'a, A> {
    map: A,
    found: &'a mut Beside,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Watched<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        mut seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.map.next_key_seed(Key(seed))? {
                None => return Ok(None),
                Some(Seen::Other(key)) => return Ok(Some(key)),
                Some(Seen::Unread(name, unused)) => {
                    if self.map.next_value::<Skimmed<Count>>()?.says() {
                        self.found.0.get_or_insert(name);
                    }
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// A key: one that cannot be scored, with the seed that it was not read with, or another one.
enum Seen<K, S> {
    Unread(&'static str, S),
    Other(K),
}

struct Key<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<S> {
    type Value = Seen<S::Value, S>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Key<S> {
    type Value = Seen<S::Value, S>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        match UNREAD.into_iter().find(|unread| *unread == name) {
            Some(unread) => Ok(Seen::Unread(unread, self.0)),
            None => self.0.deserialize(StrDeserializer::new(name)).map(Seen::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Body {
        a: u8,
        b: Option<String>,
    }

    #[test]
    fn a_body_is_read_as_ever_and_what_stands_beside_is_told() {
        let read = |text: &str| serde_json::from_str::<WithBeside<Body>>(text);
        let plain = read(r#"{"a": 1, "other": {"a": [2]}, "b": "x"}"#).unwrap();
        assert_eq!((plain.body, plain.beside), (Body { a: 1, b: Some("x".into()) }, Beside(None)));
        for (value, says) in [("[]", false), ("[1]", true)] {
            let text = format!(r#"{{"tools": [], "documents": {value}, "a": 1}}"#);
            let read = read(&text).unwrap();
            assert_eq!((read.body.a, read.beside.0), (1, says.then_some("documents")), "{text}");
        }
        assert!(read(r#"{"tools": 1}"#).unwrap_err().to_string().contains("missing field `a`"));
        assert!(read(r#"{"a": 1, "a": 2}"#).unwrap_err().to_string().contains("duplicate"));
        assert!(read("[1]").unwrap_err().to_string().contains("expected an object"));
        let refused = read(r#"{"functions": [1], "a": 1}"#).unwrap().beside.refuse().unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("functions"));
    }
}
