//! Embedded preference pairs: what the method is trained on.

use crate::error::CoreError;
use crate::linalg::Threads;
use crate::matrix::{Embeddings, Rows};
use crate::standardise::Standardiser;
use rayon::prelude::*;
use std::ops::Range;

/// What a person said of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// The chosen response is better, by `margin` in units of reward where the data says so, else 0.
    Preferred {
        /// The least difference of rewards that is asked for.
        margin: f32,
    },
    /// Both are as good.
    Tie,
}

impl Default for Label {
    fn default() -> Self {
        Label::Preferred { margin: 0.0 }
    }
}

impl Label {
    /// Whether neither side won.
    pub fn is_tie(self) -> bool {
        self == Label::Tie
    }
}

/// Embeddings of preference pairs: row i of `chosen` against row i of `rejected`.
#[derive(Debug, Clone)]
pub struct EmbeddedPairs {
    /// Hidden states of (prompt, chosen), [n, d].
    pub chosen: Embeddings,
    /// Hidden states of (prompt, rejected), [n, d].
    pub rejected: Embeddings,
    /// Which prompt each pair belongs to: pairs of one prompt stay in one fold, and bootstrap
    /// resamples draw prompts.
    pub prompts: Vec<u32>,
    /// What was said of each pair.
    pub labels: Vec<Label>,
}

impl EmbeddedPairs {
    /// Pairs that each have a prompt of their own.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the two tables differ in shape.
    pub fn new(
        chosen: impl Into<Embeddings>,
        rejected: impl Into<Embeddings>,
    ) -> Result<Self, CoreError> {
        let chosen = chosen.into();
        let prompts = (0..chosen.rows() as u32).collect();
        Self::with_prompts(chosen, rejected, prompts)
    }

    /// Pairs with a prompt number each.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the shapes do not belong together.
    pub fn with_prompts(
        chosen: impl Into<Embeddings>,
        rejected: impl Into<Embeddings>,
        prompts: Vec<u32>,
    ) -> Result<Self, CoreError> {
        let (chosen, rejected) = (chosen.into(), rejected.into());
        let expected = (chosen.rows(), chosen.dim());
        if (rejected.rows(), rejected.dim()) != expected {
            return Err(CoreError::Shape {
                what: "rejected embeddings against chosen",
                expected,
                found: (rejected.rows(), rejected.dim()),
            });
        }
        if prompts.len() != chosen.rows() {
            return Err(CoreError::Shape {
                what: "prompt numbers against pairs",
                expected: (chosen.rows(), 1),
                found: (prompts.len(), 1),
            });
        }
        let labels = vec![Label::default(); prompts.len()];
        Ok(EmbeddedPairs { chosen, rejected, prompts, labels })
    }

    /// The same pairs with a label each.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when there are not as many labels as pairs; [`CoreError::Margin`] names
    /// the first margin that is NaN or infinite.
    pub fn with_labels(self, labels: Vec<Label>) -> Result<Self, CoreError> {
        if labels.len() != self.len() {
            return Err(CoreError::Shape {
                what: "labels against pairs",
                expected: (self.len(), 1),
                found: (labels.len(), 1),
            });
        }
        for (pair, label) in labels.iter().enumerate() {
            if let Label::Preferred { margin } = *label
                && !margin.is_finite()
            {
                return Err(CoreError::Margin { pair, margin });
            }
        }
        Ok(EmbeddedPairs { labels, ..self })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.chosen.rows()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.chosen.dim()
    }

    /// The pairs named, in that order. No embedding is copied.
    pub fn select(&self, rows: &[usize]) -> EmbeddedPairs {
        EmbeddedPairs {
            chosen: self.chosen.select(rows),
            rejected: self.rejected.select(rows),
            prompts: rows.iter().map(|&i| self.prompts[i]).collect(),
            labels: rows.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// The same pairs with some columns of their embeddings only. None is copied.
    ///
    /// # Errors
    /// As [`Embeddings::columns`].
    pub fn columns(&self, columns: Range<usize>) -> Result<EmbeddedPairs, CoreError> {
        Ok(EmbeddedPairs {
            chosen: self.chosen.columns(columns.clone())?,
            rejected: self.rejected.columns(columns)?,
            prompts: self.prompts.clone(),
            labels: self.labels.clone(),
        })
    }

    /// Whether the two embeddings of pair `i` are the same, bit for bit.
    pub fn equal_sides(&self, i: usize) -> bool {
        let mut rows = vec![0.0f32; 2 * self.dim()];
        let (a, b) = rows.split_at_mut(self.dim());
        self.chosen.read(i, a);
        self.rejected.read(i, b);
        a == b
    }

    /// Writes the standardised embeddings of `rows` to `x`, [2B, d]: the B chosen, then the B
    /// rejected.
    pub(crate) fn gather(
        &self,
        standardiser: &Standardiser,
        rows: &[usize],
        x: &mut [f32],
        threads: Threads,
    ) {
        let columns = 0..self.dim();
        let row = |(at, out): (usize, &mut [f32])| {
            self.standardised(standardiser, rows, at, columns.start, out);
        };
        if threads == Threads::ONE {
            x.chunks_exact_mut(columns.len()).enumerate().for_each(row);
        } else {
            x.par_chunks_exact_mut(columns.len()).enumerate().with_min_len(16).for_each(row);
        }
    }

    /// As [`EmbeddedPairs::gather`], but only some columns: `x` is [2B, columns].
    pub(crate) fn gather_columns(
        &self,
        standardiser: &Standardiser,
        rows: &[usize],
        columns: Range<usize>,
        x: &mut [f32],
    ) {
        for (at, out) in x.chunks_exact_mut(columns.len()).enumerate() {
            self.standardised(standardiser, rows, at, columns.start, out);
        }
    }

    /// Row `at` of the gathered ones, from column `start` on.
    fn standardised(
        &self,
        standardiser: &Standardiser,
        rows: &[usize],
        at: usize,
        start: usize,
        out: &mut [f32],
    ) {
        let (side, at) = match at.checked_sub(rows.len()) {
            None => (&self.chosen, at),
            Some(at) => (&self.rejected, at),
        };
        side.read_part(rows[at], start, out);
        standardiser.apply_part(start, out);
    }
}

/// The different prompts among `prompts`, in ascending order.
pub(crate) fn distinct(prompts: &[u32]) -> Vec<u32> {
    let mut unique = prompts.to_vec();
    unique.sort_unstable();
    unique.dedup();
    unique
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::matrix::Matrix;

    #[test]
    fn refuses_pairs_of_two_widths() {
        let a = Matrix::new(vec![0.0; 6], 2, 3).unwrap();
        let b = Matrix::new(vec![0.0; 4], 2, 2).unwrap();
        assert!(matches!(EmbeddedPairs::new(a, b), Err(CoreError::Shape { .. })));
    }
}
