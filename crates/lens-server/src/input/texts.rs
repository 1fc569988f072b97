//! Lists of texts, packed while they are parsed: a list of millions of empty texts takes no more
//! memory than its own JSON, so that it can be counted before anything is made of it.

use super::{Asked, Text, pair};
use crate::failure::Failure;
use lens_core::Content;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// Texts one behind the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Packed {
    text: String,
    /// Where each ends in `text`.
    ends: Vec<usize>,
}

impl Packed {
    /// One text.
    pub fn one(text: &str) -> Packed {
        let mut packed = Packed::default();
        packed.push(text);
        packed
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Bytes of all texts; each counts as at least one.
    pub fn bytes(&self) -> usize {
        self.text.len().max(self.len())
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }
}

/// One text, or a list of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Texts(pub Packed);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = from.deserialize_any(ListVisitor { single: true, nested: false })?;
        Ok(Texts(read.texts))
    }
}

/// A text as it is: special tokens in it are read as such.
impl Asked for Texts {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn texts(self) -> Result<Vec<Text>, Failure> {
        Ok(self.0.iter().map(|text| Text::Rendered(text.to_owned())).collect())
    }
}

/// A list of texts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List(pub Packed);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = from.deserialize_any(ListVisitor { single: false, nested: false })?;
        Ok(List(read.texts))
    }
}

/// Prompts and responses: one prompt to all responses, or as many prompts as responses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs<'a> {
    pub prompts: &'a Packed,
    pub responses: &'a Packed,
}

impl Asked for Pairs<'_> {
    fn count(&self) -> usize {
        self.responses.len()
    }

    /// Each response counts with its prompt, which is computed before it.
    fn bytes(&self) -> usize {
        let times = if self.prompts.len() == 1 { self.responses.len() } else { 1 };
        self.prompts.bytes().saturating_mul(times).saturating_add(self.responses.bytes())
    }

    fn texts(self) -> Result<Vec<Text>, Failure> {
        let Pairs { prompts, responses } = self;
        let (q, d) = (prompts.len(), responses.len());
        if q != 1 && q != d {
            let message = format!("{q} queries to {d} documents: one, or as many, are needed");
            return Err(Failure::field("queries", message));
        }
        let mut shared: Vec<Arc<Content>> =
            prompts.iter().map(|p| Arc::new(Content::Text(p.to_owned()))).collect();
        if let [one] = shared.as_slice() {
            shared = vec![Arc::clone(one); d];
        }
        Ok(shared.into_iter().zip(responses.iter()).map(|(p, r)| pair(p, r)).collect())
    }
}

/// `inputs` of text-embeddings-inference: a flat list is one text, or one pair; a batch is a list of
/// such lists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sequences {
    texts: Packed,
    /// Where each ends among `texts`.
    ends: Vec<usize>,
    /// Whether they are a batch, and not one text or pair.
    pub batch: bool,
}

impl<'de> Deserialize<'de> for Sequences {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ReadList { texts, ends, nested } =
            from.deserialize_any(ListVisitor { single: true, nested: true })?;
        let ends = if nested { ends } else { vec![texts.len()] };
        Ok(Sequences { texts, ends, batch: nested })
    }
}

impl Asked for Sequences {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        self.texts.bytes().max(self.ends.len())
    }

    fn texts(self) -> Result<Vec<Text>, Failure> {
        let mut start = 0;
        let one = |end: &usize| {
            let own = start..*end;
            start = *end;
            match own.len() {
                1 => Ok(Text::Rendered(self.texts.get(own.start).to_owned())),
                2 => {
                    let prompt = Content::Text(self.texts.get(own.start).to_owned());
                    Ok(pair(Arc::new(prompt), self.texts.get(own.start + 1)))
                }
                n => {
                    let message = format!(
                        "a list of {n} strings is neither a text nor a pair; a batch is [[\"a\"], \
                         [\"b\"]]"
                    );
                    Err(Failure::field("inputs", message))
                }
            }
        };
        self.ends.iter().map(one).collect()
    }
}

/// What a [`ListVisitor`] read.
#[derive(Default)]
struct ReadList {
    texts: Packed,
    /// Where each element of the list ends among the texts.
    ends: Vec<usize>,
    /// Whether a list was among the elements.
    nested: bool,
}

/// Reads a list of texts.
struct ListVisitor {
    /// Whether a text may stand in place of the list.
    single: bool,
    /// Whether lists of texts may stand among the texts.
    nested: bool,
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = ReadList;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match (self.single, self.nested) {
            (false, _) => "a list of strings",
            (true, false) => "a string or a list of strings",
            (true, true) => {
                "`inputs`: a string, a list of one text or of two that are a pair, or a list of such \
                 lists"
            }
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ReadList, E> {
        if !self.single {
            return Err(E::invalid_type(serde::de::Unexpected::Other("a string"), &self));
        }
        Ok(ReadList { texts: Packed::one(text), ..ReadList::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ReadList, A::Error> {
        let mut read = ReadList::default();
        while let Some(nested) = seq.next_element_seed(Element { list: &self, into: &mut read })? {
            read.nested |= nested;
            if self.nested {
                read.ends.push(read.texts.len());
            }
        }
        Ok(read)
    }
}

/// Reads an element of a list; says whether it was a list itself.
struct Element<'a> {
    list: &'a ListVisitor,
    into: &'a mut ReadList,
}

impl<'de> serde::de::DeserializeSeed<'de> for Element<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.list.expecting(f)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.into.texts.push(text);
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        if !self.list.nested {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        // Its elements are texts, and nothing else.
        let flat = ListVisitor { single: true, nested: false };
        while seq.next_element_seed(Element { list: &flat, into: self.into })?.is_some() {}
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::from_str;

    fn all(texts: &Packed) -> Vec<&str> {
        texts.iter().collect()
    }

    #[test]
    fn a_text_or_a_list_of_them() {
        let read = |text: &str| from_str::<Texts>(text).unwrap().0;
        assert_eq!(all(&read(r#""one""#)), ["one"]);
        assert_eq!(all(&read(r#"["a", "", "\u00e4\n", "d"]"#)), ["a", "", "\u{e4}\n", "d"]);
        assert_eq!((read("[]").len(), read(r#"["",""]"#).bytes()), (0, 2));
        for bad in ["[1]", "7", "{}", "null", r#"[["a"]]"#, r#"["a", null]"#] {
            let error = from_str::<Texts>(bad).unwrap_err().to_string();
            assert!(error.contains("a string or a list of strings"), "{bad}: {error}");
        }
        for bad in [r#""a""#, "[1]"] {
            let error = from_str::<List>(bad).unwrap_err().to_string();
            assert!(error.contains("a list of strings"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_list_of_nothing_takes_no_more_memory_than_eight_times_its_json() {
        let json = format!("[{}\"\"]", "\"\",".repeat(100_000));
        let read = from_str::<Texts>(&json).unwrap().0;
        assert_eq!(read.len(), 100_001);
        let held = read.ends.capacity() * size_of::<usize>() + read.text.capacity();
        // While it grows, the old half is there too.
        assert!(held / 2 * 3 <= 8 * json.len(), "{held} of {}", json.len());
    }

    #[test]
    fn a_prompt_is_shared_by_its_responses_and_counted_with_each() {
        let packed = |texts: &[&str]| {
            let mut packed = Packed::default();
            texts.iter().for_each(|t| packed.push(t));
            packed
        };
        let (prompts, responses) = (packed(&["four"]), packed(&["a", "b", "c"]));
        let pairs = Pairs { prompts: &prompts, responses: &responses };
        assert_eq!((pairs.count(), pairs.bytes()), (3, 4 * 3 + 3));
        let texts = pairs.texts().unwrap();
        let Text::Exchange { prompt, response } = &texts[2] else { unreachable!() };
        assert_eq!(
            (&**prompt, response),
            (&Content::Text("four".into()), &Content::Text("c".into()))
        );
        assert_eq!(Arc::strong_count(prompt), 3);

        let prompts = packed(&["p", "q"]);
        let refused = Pairs { prompts: &prompts, responses: &responses }.texts().unwrap_err();
        assert!(refused.message.contains("2 queries to 3 documents"), "{}", refused.message);
        let two = packed(&["x", "y"]);
        assert_eq!(Pairs { prompts: &prompts, responses: &two }.texts().unwrap().len(), 2);
    }

    #[test]
    fn a_flat_list_is_one_and_a_list_of_lists_a_batch() {
        let read = |text: &str| from_str::<Sequences>(text).unwrap();
        for (text, count, batch) in [
            (r#""a""#, 1, false),
            (r#"["a"]"#, 1, false),
            (r#"["a", "b"]"#, 1, false),
            (r#"[["a"], ["b", "c"]]"#, 2, true),
            (r#"["a", ["b", "c"]]"#, 2, true),
        ] {
            let read = read(text);
            assert_eq!((read.count(), read.batch), (count, batch), "{text}");
            assert_eq!(read.texts().unwrap().len(), count, "{text}");
        }
        for bad in ["[]", r#"["a", "b", "c"]"#, r#"[["a"], []]"#] {
            let refused = read(bad).texts().unwrap_err();
            assert!(refused.message.contains("neither a text nor a pair"), "{}", refused.message);
        }
        for bad in ["7", "[7]", "[[7]]", r#"[[["a"]]]"#] {
            let error = from_str::<Sequences>(bad).unwrap_err().to_string();
            assert!(error.contains("expected"), "{bad}: {error}");
        }
    }
}
