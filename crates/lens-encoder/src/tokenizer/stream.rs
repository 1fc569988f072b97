//! Text of ids that arrive one by one.

use super::pipeline::Pipeline;
use crate::error::Result;

/// More tokens than any character consists of: whatever they are, they will not become one.
const PATIENCE: usize = 8;

/// Turns ids into text as they arrive; characters that consist of several tokens appear once they
/// are complete. All pieces and [`TextStream::finish`] together are the text of all ids.
pub(crate) struct TextStream<'a> {
    pipeline: &'a Pipeline,
    /// Ids of the last piece that was returned, which decide how the next looks, and later ones.
    ids: Vec<u32>,
    /// How many of them belong to that piece.
    shown: usize,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(pipeline: &'a Pipeline) -> Self {
        Self { pipeline, ids: Vec::new(), shown: 0 }
    }

    /// Takes the next id; returns the text that it completes, which may be empty.
    pub fn push(&mut self, id: u32) -> Result<String> {
        // They have no text and would only make the window longer.
        if self.pipeline.is_special(id) {
            return Ok(String::new());
        }
        self.ids.push(id);
        let text = self.pipeline.decode(&self.ids)?;
        if text.ends_with('\u{FFFD}') && self.ids.len() - self.shown < PATIENCE {
            return Ok(String::new());
        }
        self.advance(&text)
    }

    /// The text left at the end, complete or not.
    #[cfg(test)]
    pub fn finish(&mut self) -> Result<String> {
        let text = self.pipeline.decode(&self.ids)?;
        self.advance(&text)
    }

    fn advance(&mut self, text: &str) -> Result<String> {
        let known = self.pipeline.decode(&self.ids[..self.shown])?;
        // After bytes that are no character the beginning may differ; what is common was shown.
        let same = known.chars().zip(text.chars()).take_while(|(a, b)| a == b);
        let new = text[same.map(|(c, _)| c.len_utf8()).sum()..].to_owned();
        if !new.is_empty() {
            self.ids.drain(..self.shown);
            self.shown = self.ids.len();
        }
        Ok(new)
    }
}
