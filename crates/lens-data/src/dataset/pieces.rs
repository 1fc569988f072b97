//! A stream of JSON cut into its records, before any of them is parsed: a record that breaks a rule
//! costs itself alone, and one that is too long is passed over.

use super::records::Text;
use super::source::{Compression, read_error};
use crate::error::Error;
use std::io::{self, BufRead};
use std::path::Path;

/// How much of a record over the limit is kept to be quoted.
const HEAD_BYTES: usize = 256;

/// The result of [`Pieces::next_into`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A value from its first byte to its last.
    Whole,
    /// A value over the limit: only its beginning is kept.
    TooLong { bytes: u64 },
}

/// Where in the file the reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between values that follow each other.
    Outside,
    /// In a list, before its first value.
    ListStart,
    /// In a list, after a value.
    List,
    /// After the list.
    Done,
}

/// Cuts a stream of JSON into values.
pub(crate) struct Pieces<'a> {
    path: &'a Path,
    compression: Compression,
    reader: Box<dyn BufRead>,
    limit: usize,
    place: Place,
    count: u64,
    /// Line ends passed so far.
    lines: u64,
    began: u64,
}

impl<'a> Pieces<'a> {
    pub fn new(text: Text<'a>) -> Self {
        let Text { path, compression, reader, max_row_bytes } = text;
        let place = Place::Outside;
        Pieces {
            path,
            compression,
            reader,
            limit: max_row_bytes,
            place,
            count: 0,
            lines: 0,
            began: 0,
        }
    }

    pub fn max_row_bytes(&self) -> usize {
        self.limit
    }

    /// The one-based line on which the value read last begins.
    pub fn line(&self) -> u64 {
        self.began + 1
    }

    /// Passes the `[` that a list begins with.
    pub fn enter_list(&mut self) -> Result<(), Error> {
        self.expect(b'[')?;
        self.place = Place::ListStart;
        Ok(())
    }

    /// Passes the beginning of an object up to the list that stands under `key`.
    pub fn enter_list_of(&mut self, key: &str) -> Result<(), Error> {
        self.expect(b'{')?;
        let mut value = Vec::new();
        loop {
            self.value_into(&mut value)?;
            let found = serde_json::from_slice::<String>(&value).ok();
            self.expect(b':')?;
            if found.as_deref() == Some(key) {
                return self.enter_list();
            }
            self.skip_space()?;
            self.value_into(&mut value)?;
            self.expect(b',')?;
        }
    }

    /// Passes the end of a list that is the whole file.
    pub fn leave(&mut self) -> Result<(), Error> {
        match self.skip_space()? {
            None => Ok(()),
            Some(_) => Err(self.damaged("something stands after the end of the list")),
        }
    }

    /// Passes what stands after a list in its object. A second list of records there is an error: which
    /// of the two is meant is not for the reader to guess.
    pub fn leave_object(&mut self) -> Result<(), Error> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while self.skip_space()? == Some(b',') {
            self.reader.consume(1);
            self.skip_space()?;
            self.value_into(&mut key)?;
            self.expect(b':')?;
            self.skip_space()?;
            self.value_into(&mut value)?;
            let mut significant = value.iter().filter(|b| !b.is_ascii_whitespace());
            if (significant.next(), significant.next()) == (Some(&b'['), Some(&b'{')) {
                let key = String::from_utf8_lossy(&key).into_owned();
                return Err(self.damaged(&format!(
                    "the object holds a second list of records, {key}: keep the one that is meant"
                )));
            }
        }
        self.expect(b'}')?;
        self.leave()
    }

    /// Replaces `piece` by the next value; `None` at the end of the list, or of the file.
    pub fn next_into(&mut self, piece: &mut Vec<u8>) -> Result<Option<Piece>, Error> {
        let next = self.skip_space()?;
        match (self.place, next) {
            (Place::Done, _) | (Place::Outside, None) => return Ok(None),
            (Place::ListStart | Place::List, Some(b']')) => {
                self.reader.consume(1);
                self.place = Place::Done;
                return Ok(None);
            }
            (Place::List, Some(b',')) => {
                self.reader.consume(1);
                self.skip_space()?;
            }
            (Place::List, Some(_)) => {
                return Err(self.damaged("a comma or the end of the list is missing"));
            }
            (Place::ListStart | Place::Outside, Some(_)) => {}
            (Place::ListStart | Place::List, None) => {
                return Err(self.damaged("the file ends inside the list"));
            }
        }
        if self.place == Place::ListStart {
            self.place = Place::List;
        }
        self.began = self.lines;
        let found = self.value_into(piece)?;
        self.count += 1;
        Ok(Some(found))
    }

    /// Reads one value: an object or list to its last bracket, a text to its last quote, anything else
    /// up to what ends it.
    fn value_into(&mut self, piece: &mut Vec<u8>) -> Result<Piece, Error> {
        piece.clear();
        let mut kept = Kept { bytes: 0, limit: self.limit };
        let mut scan = Scan::default();
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(read_error(self.path, self.compression, e)),
            };
            if chunk.is_empty() {
                if kept.bytes > 0 && scan.may_end() {
                    break;
                }
                return Err(self.damaged("the file ends inside a record"));
            }
            let (used, ended) = scan.advance(chunk);
            self.lines += chunk[..used].iter().filter(|&&b| b == b'\n').count() as u64;
            kept.push(piece, &chunk[..used]);
            self.reader.consume(used);
            if ended {
                break;
            }
        }
        if kept.bytes == 0 {
            return Err(self.damaged("a value is missing"));
        }
        Ok(match kept.is_over() {
            true => Piece::TooLong { bytes: kept.bytes },
            false => Piece::Whole,
        })
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.skip_space()? != Some(byte) {
            return Err(self.damaged(&format!("`{}` is missing", char::from(byte))));
        }
        self.reader.consume(1);
        self.skip_space()?;
        Ok(())
    }

    /// Passes white space; returns the byte that stands next.
    fn skip_space(&mut self) -> Result<Option<u8>, Error> {
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(read_error(self.path, self.compression, e)),
            };
            if chunk.is_empty() {
                return Ok(None);
            }
            let space = chunk.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let next = chunk.get(space).copied();
            self.lines += chunk[..space].iter().filter(|&&b| b == b'\n').count() as u64;
            self.reader.consume(space);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn damaged(&self, detail: &str) -> Error {
        Error::corrupt(self.path, "JSON", format!("record {}: {detail}", self.count + 1))
    }
}

/// Keeps a value's bytes up to the limit, and of a longer one its beginning.
struct Kept {
    bytes: u64,
    limit: usize,
}

impl Kept {
    fn is_over(&self) -> bool {
        self.bytes > self.limit as u64
    }

    fn push(&mut self, piece: &mut Vec<u8>, part: &[u8]) {
        self.bytes += part.len() as u64;
        if self.is_over() {
            let room = HEAD_BYTES.saturating_sub(piece.len());
            piece.extend_from_slice(&part[..part.len().min(room)]);
            piece.truncate(HEAD_BYTES);
            piece.shrink_to(HEAD_BYTES);
        } else {
            piece.extend_from_slice(part);
        }
    }
}

/// Finds where a value ends.
#[derive(Default)]
struct Scan {
    started: bool,
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Whether the value is whole if the file ends here: a number or word, which nothing closes.
    fn may_end(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    /// Goes on over `chunk`; returns how much of it belongs to the value, and whether it ends there.
    fn advance(&mut self, chunk: &[u8]) -> (usize, bool) {
        for (at, &byte) in chunk.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return (at + 1, true);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' if self.depth == 0 && self.started => return (at, true),
                b'"' => self.in_string = true,
                b'{' | b'[' if self.depth == 0 && self.started => return (at, true),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => return (at, true),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => return (at, true),
                _ => {}
            }
            self.started = true;
        }
        (chunk.len(), false)
    }
}

/// How the objects of a file lie, by its first bytes, which are `{` and more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One a line.
    Lines,
    /// Over several lines.
    Objects,
    /// In a list under this key of one object.
    Wrapped(String),
}

/// Keys under which a list of records stands in an object that is the whole file.
const LISTS: [&str; 12] = [
    "data",
    "rows",
    "examples",
    "records",
    "items",
    "instances",
    "samples",
    "pairs",
    "train",
    "dataset",
    "annotations",
    "results",
];

/// Looks at the first object of a file, of which `head` is the beginning.
pub(crate) fn layout(head: &[u8]) -> Layout {
    let Some(start) = head.iter().position(|b| !b.is_ascii_whitespace()) else {
        return Layout::Lines;
    };
    let head = &head[start..];
    if let Some(key) = wrapping_key(head) {
        return Layout::Wrapped(key);
    }
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let broken_off = line.len() < head.len();
    let last = line.iter().rev().find(|b| !b.is_ascii_whitespace());
    match (broken_off, last) {
        (true, Some(b'{' | b'[' | b',' | b':')) => Layout::Objects,
        _ => Layout::Lines,
    }
}

/// The key of the first list of objects in the object that `head` begins with, if it is one under which
/// records stand.
fn wrapping_key(head: &[u8]) -> Option<String> {
    let space = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let mut at = 1;
    loop {
        at += space(&head[at..]);
        let (used, ended) = Scan::default().advance(&head[at..]);
        let key: String = serde_json::from_slice(&head[at..at + used]).ok().filter(|_| ended)?;
        at += used;
        at += space(&head[at..]);
        if head.get(at) != Some(&b':') {
            return None;
        }
        at += 1;
        at += space(&head[at..]);
        let list = head[at..].strip_prefix(b"[");
        if let Some(list) = list
            && LISTS.contains(&key.as_str())
            && matches!(list.get(space(list)), Some(b'{' | b']') | None)
        {
            return Some(key);
        }
        let (used, ended) = Scan::default().advance(&head[at..]);
        if !ended {
            return None;
        }
        at += used;
        at += space(&head[at..]);
        if head.get(at) != Some(&b',') {
            return None;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::io::BufReader;

    fn pieces(text: &str, buffer: usize, limit: usize) -> Pieces<'static> {
        let reader = BufReader::with_capacity(buffer, io::Cursor::new(text.as_bytes().to_vec()));
        Pieces::new(Text {
            path: Path::new("a.json"),
            compression: Compression::None,
            reader: Box::new(reader),
            max_row_bytes: limit,
        })
    }

    fn all(pieces: &mut Pieces<'_>) -> Result<Vec<(Piece, String)>, Error> {
        let (mut found, mut piece) = (Vec::new(), Vec::new());
        while let Some(kind) = pieces.next_into(&mut piece)? {
            found.push((kind, String::from_utf8(piece.clone()).unwrap()));
        }
        Ok(found)
    }

    #[test]
    fn the_layout_is_that_of_the_first_object() {
        let layout = |head: &str| layout(head.as_bytes());
        assert_eq!(layout("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}"), Layout::Lines);
        assert_eq!(layout("{\"prompt\": \"a\"}{\"prompt\""), Layout::Lines);
        assert_eq!(layout("{\"prompt\": \"cut\n{\"prompt\": \"b\"}"), Layout::Lines);
        assert_eq!(layout(" {\n \"prompt\": \"a\"\n}\n"), Layout::Objects);
        assert_eq!(layout("{\"prompt\": [\n"), Layout::Objects);
        for whole in ["{\"data\": [{\"a\": 1}]}", "{\"v\": [1, {}], \"n\": null, \"data\" : [ ]}"] {
            assert_eq!(layout(whole), Layout::Wrapped("data".into()), "{whole}");
        }
        // A column of that name with something else in it is a column.
        assert_eq!(layout("{\"data\": [1, 2]}"), Layout::Lines);
        assert_eq!(layout("{\"chosen\": [{\"role\": \"user\"}], \"data\": 3}"), Layout::Lines);
    }

    #[test]
    fn a_list_inside_an_object_is_found_and_a_second_one_refused() {
        let text = "{\"version\": {\"a\": [1]}, \"data\": [{\"a\": 1}, 2 ,\"x\"], \"n\": 3}\n";
        let mut list = pieces(text, 3, 100);
        list.enter_list_of("data").unwrap();
        let found: Vec<_> = all(&mut list).unwrap().into_iter().map(|p| p.1).collect();
        assert_eq!(found, ["{\"a\": 1}", "2", "\"x\""]);
        list.leave_object().unwrap();
        let mut two = pieces("{\"train\": [{}], \"test\": [{}]}", 100, 100);
        two.enter_list_of("train").unwrap();
        assert_eq!(all(&mut two).unwrap().len(), 1);
        assert!(two.leave_object().unwrap_err().to_string().contains("second list"));
    }

    #[test]
    fn a_value_over_the_limit_is_passed_over() {
        let text = format!("[1, {{\"a\": \"{}\"}}, 2]", "x".repeat(1000));
        let mut list = pieces(&text, 7, 100);
        list.enter_list().unwrap();
        let found = all(&mut list).unwrap();
        assert_eq!(found[1].0, Piece::TooLong { bytes: 1009 });
        assert_eq!((found[2].1.as_str(), found[1].1.len()), ("2", HEAD_BYTES));
    }

    #[test]
    fn damage_is_an_error_that_counts_records() {
        for (text, word) in [
            ("[{}, {", "record 2: the file ends inside a record"),
            ("[{}", "record 2: the file ends inside the list"),
            ("[{} {}]", "a comma"),
            ("[,]", "a value is missing"),
            ("[{}] x", "after the end"),
        ] {
            let mut list = pieces(text, 2, 100);
            list.enter_list().unwrap();
            let error = all(&mut list).and_then(|_| list.leave()).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(|n| json!(n)),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec(("[a-c]{1,3}", inner), 0..4).prop_map(|fields| fields
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_come_out_as_they_went_in(
            values in proptest::collection::vec(value(), 0..6), buffer in 1usize..20, pretty: bool,
        ) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&values).unwrap(),
                false => serde_json::to_string(&values).unwrap(),
            };
            let mut list = pieces(&text, buffer, 1 << 20);
            list.enter_list().unwrap();
            let found = all(&mut list).unwrap();
            list.leave().unwrap();
            let found: Vec<Value> =
                found.iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect();
            prop_assert_eq!(found, values);
        }
    }
}
