//! Embedded preference pairs, the input of the method.
//!
//! ```
//! use lens_core::{EmbeddedPairs, Label, Matrix};
//!
//! // Two pairs of one prompt: a preference by a margin, and a tie. Two views lie side by side.
//! let chosen = Matrix::new(vec![1.0, 0.5, 0.2, 0.0, 0.1, 0.3], 2, 3)?;
//! let rejected = Matrix::new(vec![0.0, 0.1, 0.4, 0.0, 0.2, 0.3], 2, 3)?;
//! let pairs = EmbeddedPairs::with_prompts(chosen, rejected, vec![7, 7])?
//!     .with_labels(vec![Label::Preferred { margin: 0.5 }, Label::Tie])?
//!     .with_views(vec![2, 1])?;
//! assert_eq!(pairs.select_views(&[1])?.dim(), 1);
//! # Ok::<(), lens_core::CoreError>(())
//! ```

use crate::error::CoreError;
use crate::matrix::{Embeddings, Rows};
use std::ops::Range;

/// The label of a pair.
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
    /// The same label, its margin, where it has one, multiplied by `scale`.
    pub(crate) fn with_scaled_margin(self, scale: f32) -> Label {
        match self {
            Label::Preferred { margin } => Label::Preferred { margin: margin * scale },
            Label::Tie => Label::Tie,
        }
    }

    /// Whether neither side is better.
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
    /// The label of each pair.
    pub labels: Vec<Label>,
    /// Widths of the views that lie side by side in an embedding: hidden states of several layers,
    /// poolings or questions. Their sum is d.
    pub views: Vec<usize>,
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
        let views = vec![chosen.dim()];
        Ok(EmbeddedPairs { chosen, rejected, prompts, labels, views })
    }

    /// The same pairs, whose embeddings are views side by side of these widths.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the widths are not those of an embedding, or one of them is 0.
    pub fn with_views(self, views: Vec<usize>) -> Result<Self, CoreError> {
        if views.iter().sum::<usize>() != self.dim() || views.contains(&0) {
            return Err(CoreError::Shape {
                what: "widths of views",
                expected: (1, self.dim()),
                found: (views.len(), views.iter().sum()),
            });
        }
        Ok(EmbeddedPairs { views, ..self })
    }

    /// The columns of each view.
    pub fn view_columns(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let one = |&width: &usize| {
            start += width;
            start - width..start
        };
        self.views.iter().map(one).collect()
    }

    /// The same pairs with some of their views only, in the order given. No embedding is copied.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when there is no such view, or none is named.
    pub fn select_views(&self, views: &[usize]) -> Result<EmbeddedPairs, CoreError> {
        let all = self.view_columns();
        let missing = views.iter().find(|&&v| v >= all.len());
        if views.is_empty() || missing.is_some() {
            return Err(CoreError::Shape {
                what: "views named",
                expected: (1, all.len()),
                found: (views.len(), missing.map_or(0, |v| v + 1)),
            });
        }
        let columns: Vec<Range<usize>> = views.iter().map(|&v| all[v].clone()).collect();
        self.column_ranges(&columns)
    }

    /// The same pairs with several ranges of columns side by side, each of them a view. No embedding
    /// is copied.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when there are no such columns.
    pub fn column_ranges(&self, columns: &[Range<usize>]) -> Result<EmbeddedPairs, CoreError> {
        Ok(EmbeddedPairs {
            chosen: self.chosen.column_ranges(columns)?,
            rejected: self.rejected.column_ranges(columns)?,
            prompts: self.prompts.clone(),
            labels: self.labels.clone(),
            views: columns.iter().map(Range::len).collect(),
        })
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

    /// The pairs with these numbers, in that order. No embedding is copied.
    pub fn select(&self, rows: &[usize]) -> EmbeddedPairs {
        EmbeddedPairs {
            chosen: self.chosen.select(rows),
            rejected: self.rejected.select(rows),
            prompts: rows.iter().map(|&i| self.prompts[i]).collect(),
            labels: rows.iter().map(|&i| self.labels[i]).collect(),
            views: self.views.clone(),
        }
    }

    /// The same pairs with a range of columns of their embeddings only. No embedding is copied.
    ///
    /// # Errors
    /// As [`Embeddings::columns`].
    pub fn columns(&self, columns: Range<usize>) -> Result<EmbeddedPairs, CoreError> {
        Ok(EmbeddedPairs {
            chosen: self.chosen.columns(columns.clone())?,
            rejected: self.rejected.columns(columns.clone())?,
            prompts: self.prompts.clone(),
            labels: self.labels.clone(),
            views: vec![columns.len()],
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

    #[test]
    fn views_are_taken_in_the_order_named_whatever_part_is_read() {
        let all = Matrix::new((0..12).map(|i| i as f32).collect(), 2, 6).unwrap();
        let pairs = EmbeddedPairs::new(all.clone(), all).unwrap();
        assert!(pairs.clone().with_views(vec![2, 3]).is_err());
        assert!(pairs.clone().with_views(vec![6, 0]).is_err());
        let pairs = pairs.with_views(vec![1, 3, 2]).unwrap();
        let some = pairs.select_views(&[2, 1]).unwrap();
        assert_eq!((some.dim(), &some.views[..]), (5, &[2, 3][..]));
        for start in 0..5 {
            for len in 0..=5 - start {
                let mut out = vec![0.0; len];
                some.chosen.read_part(1, start, &mut out);
                assert_eq!(out, [10.0, 11.0, 7.0, 8.0, 9.0][start..start + len], "{start} {len}");
            }
        }
        // Views of views, and of a selection of the pairs.
        let one = some.select(&[1]).select_views(&[1]).unwrap();
        assert_eq!(one.chosen.to_matrix().data(), [7.0, 8.0, 9.0]);
        assert!(pairs.select_views(&[3]).is_err() && pairs.select_views(&[]).is_err());
    }
}
