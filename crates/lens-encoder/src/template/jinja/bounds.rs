//! Limits that the engine itself does not have: of what is written, and of values that are.

use crate::template::limits::{Excess, MAX_DEPTH, MAX_ITEMS};
use minijinja::value::{Value, ValueIter, ValueKind};
use minijinja::{Error, ErrorKind};
use std::io;

/// Takes up to `most` bytes; what would be more is an error.
pub(super) struct Bounded {
    pub bytes: Vec<u8>,
    most: usize,
}

impl Bounded {
    pub fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most }
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::Error::other(Excess::Output { most: self.most }));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine's error for an exceeded limit.
pub(super) fn exceeded(excess: Excess) -> Error {
    Error::new(ErrorKind::InvalidOperation, excess.to_string()).with_source(excess)
}

/// The limit that an error is about, where it is about one.
pub(super) fn excess_of(error: &Error) -> Option<Excess> {
    if error.kind() == ErrorKind::OutOfFuel {
        return Some(Excess::Steps);
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<Excess>());
        if let Some(excess) = error.downcast_ref::<Excess>().or(inner) {
            return Some(excess.clone());
        }
        if error.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return Some(Excess::Steps);
        }
        cause = error.source();
    }
    None
}

/// Refuses a value of which the text would be endless: one that holds itself, or nests too deeply.
/// It looks into lists and maps; other iterables can only be read once.
pub(super) fn check_depth(value: &Value) -> Result<(), Error> {
    let mut open: Vec<(ValueIter, Option<Value>)> = Vec::new();
    enter(value, &mut open)?;
    let mut items = 0;
    while let Some((iter, map)) = open.last_mut() {
        let Some(next) = iter.next() else {
            open.pop();
            continue;
        };
        let item = match map {
            Some(map) => map.get_item(&next)?,
            None => next,
        };
        items += 1;
        if open.len() > MAX_DEPTH || items > MAX_ITEMS {
            return Err(exceeded(Excess::Depth));
        }
        enter(&item, &mut open)?;
    }
    Ok(())
}

fn enter(value: &Value, open: &mut Vec<(ValueIter, Option<Value>)>) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq => open.push((value.try_iter()?, None)),
        ValueKind::Map => open.push((value.try_iter()?, Some(value.clone()))),
        _ => {}
    }
    Ok(())
}
