//! Standardisation of embeddings (docs/method.md, step 1).
//!
//! ```
//! use lens_core::{EmbeddedPairs, Matrix, Standardiser};
//!
//! let chosen = Matrix::new(vec![1.0, 3.0], 2, 1)?;
//! let rejected = Matrix::new(vec![5.0, 7.0], 2, 1)?;
//! let standardiser = Standardiser::fit(&EmbeddedPairs::new(chosen, rejected)?);
//! let mut embedding = [4.0];
//! standardiser.apply(&mut embedding);
//! assert_eq!(embedding, [0.0]);
//! # Ok::<(), lens_core::CoreError>(())
//! ```

use crate::embedded::EmbeddedPairs;
use crate::linalg::Threads;
use crate::matrix::Rows;
use rayon::prelude::*;
use std::ops::Range;

/// Pairs whose sums are formed by one thread. The sums of the blocks are added in their order, so
/// that the result does not depend on the number of threads.
const BLOCK: usize = 512;

/// Per-dimension standardisation, fitted to the responses of the seed pairs (equation E1).
#[derive(Debug, Clone, PartialEq)]
pub struct Standardiser {
    /// Mean of each dimension, `[d]`.
    pub mean: Vec<f32>,
    /// Factor on a centred value, `[d]`: 1 / standard deviation, and 0 where a dimension is constant.
    pub scale: Vec<f32>,
}

impl Standardiser {
    /// Fits mean and standard deviation of every dimension on all responses of `pairs`.
    pub fn fit(pairs: &EmbeddedPairs) -> Self {
        let n = (2 * pairs.len()).max(1) as f64;
        let mut mean = sums(pairs, |_, x| x);
        mean.iter_mut().for_each(|m| *m /= n);
        let var = sums(pairs, |j, x| (x - mean[j]).powi(2));
        let scale = var
            .iter()
            .zip(&mean)
            .map(|(v, m)| {
                let std = (v / n).sqrt();
                // A spread that f32 rounding alone explains counts as none, and so does one whose
                // inverse f32 cannot hold.
                let scale = (1.0 / std) as f32;
                if std <= 1e-6 * m.abs() || !scale.is_finite() { 0.0 } else { scale }
            })
            .collect();
        Standardiser { mean: mean.iter().map(|&m| m as f32).collect(), scale }
    }

    /// No change: for arrays that are standardised already.
    pub fn identity(d: usize) -> Self {
        Standardiser { mean: vec![0.0; d], scale: vec![1.0; d] }
    }

    /// Number of dimensions that are constant on the seed pairs.
    pub fn constant_dimensions(&self) -> usize {
        self.scale.iter().filter(|&&s| s == 0.0).count()
    }

    /// Standardises `row`, `[d]`, in place.
    pub fn apply(&self, row: &mut [f32]) {
        self.apply_part(0, row);
    }

    /// Standardises the columns of a row from `start` on, in place.
    pub fn apply_part(&self, start: usize, part: &mut [f32]) {
        let all = start..start + part.len();
        let (mean, scale) = (&self.mean[all.clone()], &self.scale[all]);
        for ((x, &m), &s) in part.iter_mut().zip(mean).zip(scale) {
            *x = (*x - m) * s;
        }
    }

    /// The way back: turns a standardised `row`, `[d]`, into an embedding in place. A dimension that
    /// is constant on the seed pairs carries nothing, and gets its mean.
    pub fn undo(&self, row: &mut [f32]) {
        for ((x, &m), &s) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
            *x = if s == 0.0 { m } else { *x / s + m };
        }
    }
}

impl EmbeddedPairs {
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

/// The sum of `f(dimension, value)` over all responses, for each dimension.
fn sums(pairs: &EmbeddedPairs, f: impl Fn(usize, f64) -> f64 + Sync) -> Vec<f64> {
    let (n, d) = (pairs.len(), pairs.dim());
    let block = |b: usize| {
        let (mut sum, mut row) = (vec![0.0f64; d], vec![0.0f32; d]);
        for i in b * BLOCK..((b + 1) * BLOCK).min(n) {
            for side in [&pairs.chosen, &pairs.rejected] {
                side.read(i, &mut row);
                for (j, (s, &x)) in sum.iter_mut().zip(&row).enumerate() {
                    *s += f(j, f64::from(x));
                }
            }
        }
        sum
    };
    let mut total = vec![0.0f64; d];
    let blocks: Vec<usize> = (0..n.div_ceil(BLOCK)).collect();
    // A few blocks at a time: with many pairs their sums would fill more memory than the pairs read.
    for some in blocks.chunks(64) {
        let parts: Vec<Vec<f64>> = some.par_iter().map(|&b| block(b)).collect();
        for part in parts {
            total.iter_mut().zip(&part).for_each(|(t, p)| *t += p);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::matrix::Matrix;

    #[test]
    fn standardises_to_mean_zero_and_deviation_one_and_silences_constants() {
        let chosen = Matrix::new(vec![1.0, 5.0, 3.0, 5.0], 2, 2).unwrap();
        let rejected = Matrix::new(vec![5.0, 5.0, 7.0, 5.0], 2, 2).unwrap();
        let pairs = EmbeddedPairs::new(chosen, rejected).unwrap();
        let s = Standardiser::fit(&pairs);
        assert_eq!(s.mean, [4.0, 5.0]);
        assert_eq!(s.constant_dimensions(), 1);
        let mut out = [1.0, 5.0];
        s.apply(&mut out);
        // Population deviation of 1, 3, 5, 7 is sqrt(5).
        assert!((out[0] + 3.0 / 5.0f32.sqrt()).abs() < 1e-6);
        assert_eq!(out[1], 0.0);
    }

    #[test]
    fn undoing_brings_an_embedding_back_and_constants_their_value() {
        let chosen = Matrix::new(vec![1.0, 5.0, 3.0, 5.0], 2, 2).unwrap();
        let rejected = Matrix::new(vec![5.0, 5.0, 7.0, 5.0], 2, 2).unwrap();
        let s = Standardiser::fit(&EmbeddedPairs::new(chosen, rejected).unwrap());
        let mut row = [-2.5, 5.0];
        s.apply(&mut row);
        // The value of a decoder in a constant dimension is replaced by the mean.
        row[1] = 0.7;
        s.undo(&mut row);
        assert!((row[0] + 2.5).abs() < 1e-6, "{row:?}");
        assert_eq!(row[1], 5.0);
        let mut same = [1.5, -2.0, 0.1];
        Standardiser::identity(3).undo(&mut same);
        assert_eq!(same, [1.5, -2.0, 0.1]);
    }
}
