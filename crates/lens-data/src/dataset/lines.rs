//! Lines of bytes, each held to a limit, so that one endless line cannot take the memory.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// How much of a line over the limit is kept to be quoted.
const HEAD_BYTES: usize = 256;

/// The result of [`Lines::next_into`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its line ending.
    Whole,
    /// A line over the limit: only its beginning is kept.
    TooLong { bytes: u64 },
}

/// Reads lines that end in LF or CRLF; the last may lack its ending.
pub(crate) struct Lines<R> {
    reader: R,
    limit: usize,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R, limit: usize) -> Self {
        Lines { reader, limit, number: 0 }
    }

    /// The one-based number of the line read last.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Replaces `line` by the next line; `None` at the end.
    pub fn next_into(&mut self, line: &mut Vec<u8>) -> io::Result<Option<Line>> {
        line.clear();
        let mut bytes = 0u64;
        let mut too_long = false;
        let mut ends_in_cr = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                if bytes == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = chunk.iter().position(|&b| b == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            bytes += part.len() as u64;
            if let Some(&last) = part.last() {
                ends_in_cr = last == b'\r';
            }
            if !too_long {
                // One byte more than the limit, for the CR of a line that just fits.
                if line.len() + part.len() > self.limit + 1 {
                    too_long = true;
                    line.extend_from_slice(&part[..part.len().min(HEAD_BYTES)]);
                    line.truncate(HEAD_BYTES);
                    line.shrink_to(HEAD_BYTES);
                } else {
                    line.extend_from_slice(part);
                }
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        if ends_in_cr {
            bytes -= 1;
            if !too_long {
                line.pop();
            }
        }
        if !too_long && line.len() > self.limit {
            too_long = true;
            line.truncate(HEAD_BYTES);
        }
        Ok(Some(if too_long { Line::TooLong { bytes } } else { Line::Whole }))
    }
}

/// Fails a read once a parser has taken more than the limit without finishing a record.
pub(crate) struct Budgeted<R> {
    reader: R,
    left: Budget,
}

/// The bytes left of the limit for the record being read.
#[derive(Clone)]
pub(crate) struct Budget {
    left: Rc<Cell<u64>>,
    limit: u64,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        let limit = limit as u64;
        Budget { left: Rc::new(Cell::new(limit)), limit }
    }

    /// A record is finished: the next may take the whole limit.
    pub fn renew(&self) {
        self.left.set(self.limit);
    }

    /// Whether a record took more than the limit.
    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    pub fn reader<R: Read>(&self, reader: R) -> Budgeted<R> {
        Budgeted { reader, left: self.clone() }
    }
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_spent() {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a record over the limit"));
        }
        let read = self.reader.read(buffer)?;
        self.left.left.set(self.left.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], limit: usize, buffer: usize) -> Vec<(u64, Line, Vec<u8>)> {
        let mut lines = Lines::new(io::BufReader::with_capacity(buffer, bytes), limit);
        let (mut found, mut line) = (Vec::new(), Vec::new());
        while let Some(kind) = lines.next_into(&mut line).unwrap() {
            found.push((lines.number(), kind, line.clone()));
        }
        found
    }

    #[test]
    fn line_endings_and_a_missing_last_one() {
        let found = all(b"a\r\n\nb\rc\nlast", 64, 3);
        let lines: Vec<_> = found.iter().map(|(n, _, l)| (*n, l.as_slice())).collect();
        assert_eq!(lines, [(1, &b"a"[..]), (2, b""), (3, b"b\rc"), (4, b"last")]);
    }

    #[test]
    fn the_limit_counts_the_line_without_its_ending() {
        let found = all(b"12345\r\n123456\r\n12\n", 5, 2);
        assert_eq!(found[0].1, Line::Whole);
        assert_eq!(found[1].1, Line::TooLong { bytes: 6 });
        assert_eq!((found[2].0, found[2].2.as_slice()), (3, &b"12"[..]));
    }

    proptest! {
        #[test]
        fn lines_agree_with_split(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200), buffer in 1usize..20) {
            let mut expected: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
            if expected.last().is_some_and(|l| l.is_empty()) {
                expected.pop();
            }
            let found = all(&bytes, 1000, buffer);
            prop_assert_eq!(found.len(), expected.len());
            for ((_, _, line), expected) in found.iter().zip(expected) {
                prop_assert_eq!(line.as_slice(), expected.strip_suffix(b"\r").unwrap_or(expected));
            }
        }
    }
}
