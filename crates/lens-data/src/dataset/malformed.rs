//! The rows that could not be read: the first with what is wrong with them, of all others only where
//! they stand, so that a file of nothing else does not fill the memory.

use super::{Layout, Place};
use crate::error::MalformedRow;
use std::path::{Path, PathBuf};

/// Rows of which it is kept what is wrong with them.
pub const MAX_DESCRIBED: usize = 1000;

/// Rows that could not be read, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MalformedRows {
    described: Vec<MalformedRow>,
    /// The files of the others, and which of them and which line each is.
    files: Vec<PathBuf>,
    others: Vec<(u32, u64)>,
}

impl MalformedRows {
    /// How many there are, described or not.
    pub fn len(&self) -> usize {
        self.described.len() + self.others.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.described.is_empty()
    }

    /// The first of them.
    pub fn first(&self) -> Option<&MalformedRow> {
        self.described.first()
    }

    /// The first [`MAX_DESCRIBED`], with what is wrong with each.
    pub fn described(&self) -> &[MalformedRow] {
        &self.described
    }

    /// How many are not described.
    pub fn undescribed(&self) -> usize {
        self.others.len()
    }

    /// Where each stands, with what is wrong with it in words.
    pub fn in_words<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = (Place, String)> {
        let described =
            self.described.iter().map(|row| (layout.place(&row.file, row.line), row.to_string()));
        let others = self.others.iter().filter_map(|&(file, line)| {
            let file = self.files.get(file as usize)?;
            let words = format!(
                "{}:{line}: malformed, as {MAX_DESCRIBED} rows before it that are described",
                file.display()
            );
            Some((layout.place(file, line), words))
        });
        described.chain(others)
    }

    pub(crate) fn push(&mut self, row: MalformedRow) {
        if self.described.len() < MAX_DESCRIBED {
            self.described.push(row);
            return;
        }
        let at = match self.files.iter().position(|file| *file == row.file) {
            Some(at) => at,
            None => {
                self.files.push(row.file);
                self.files.len() - 1
            }
        };
        self.others.push((at as u32, row.line));
    }

    /// Brings those described into the order of their lines.
    pub(crate) fn sort(&mut self) {
        let key = |row: &MalformedRow| -> (PathBuf, u64) { (row.file.clone(), row.line) };
        self.described.sort_by_cached_key(key);
    }
}

impl Layout {
    /// The place of a line of a file.
    pub fn place(&self, file: &Path, line: u64) -> Place {
        let file = (self.files.len() > 1).then(|| file.display().to_string().into());
        Place { file, line, part: 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::error::{Problem, WHOLE_ROW};

    #[test]
    fn the_first_are_described_and_all_are_counted_and_placed() {
        let mut rows = MalformedRows::default();
        for line in 1..=1200 {
            let problem = Problem::new(WHOLE_ROW, "an object", "x");
            rows.push(problem.at(Path::new("f"), line));
        }
        assert_eq!((rows.len(), rows.described().len(), rows.undescribed()), (1200, 1000, 200));
        assert_eq!(rows.others.last(), Some(&(0, 1200)));
    }
}
