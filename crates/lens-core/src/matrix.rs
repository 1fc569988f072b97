//! Embeddings in memory, checked on the way in.

use crate::error::CoreError;

/// A row-major matrix of f32: one embedding a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    data: Vec<f32>,
    rows: usize,
    dim: usize,
}

impl Matrix {
    /// Wraps `data` as `rows` x `dim`.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the length is not `rows * dim`; [`CoreError::NotFinite`] names the
    /// first NaN or infinity.
    pub fn new(data: Vec<f32>, rows: usize, dim: usize) -> Result<Self, CoreError> {
        if data.len() != rows * dim {
            return Err(CoreError::Shape {
                what: "embedding matrix",
                expected: (rows, dim),
                found: (data.len().checked_div(dim).unwrap_or(0), dim),
            });
        }
        if let Some(i) = data.iter().position(|x| !x.is_finite()) {
            return Err(CoreError::NotFinite {
                what: "embedding matrix",
                row: i / dim,
                column: i % dim,
                value: data[i],
            });
        }
        Ok(Matrix { data, rows, dim })
    }

    /// Number of embeddings.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// All values, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The rows named, in that order.
    pub fn select(&self, rows: &[usize]) -> Matrix {
        let mut data = Vec::with_capacity(rows.len() * self.dim);
        for &i in rows {
            data.extend_from_slice(self.row(i));
        }
        Matrix { data, rows: rows.len(), dim: self.dim }
    }
}

/// Embeddings of preference pairs: row i of `chosen` against row i of `rejected`.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedPairs {
    /// Hidden states of (prompt, chosen), [n, d].
    pub chosen: Matrix,
    /// Hidden states of (prompt, rejected), [n, d].
    pub rejected: Matrix,
    /// Which prompt each pair belongs to: pairs of one prompt stay in one fold, and bootstrap
    /// resamples draw prompts.
    pub prompts: Vec<u32>,
}

impl EmbeddedPairs {
    /// Pairs that each have a prompt of their own.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the two matrices differ in shape.
    pub fn new(chosen: Matrix, rejected: Matrix) -> Result<Self, CoreError> {
        let prompts = (0..chosen.rows() as u32).collect();
        Self::with_prompts(chosen, rejected, prompts)
    }

    /// Pairs with a prompt number each.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the shapes do not belong together.
    pub fn with_prompts(
        chosen: Matrix,
        rejected: Matrix,
        prompts: Vec<u32>,
    ) -> Result<Self, CoreError> {
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
        Ok(EmbeddedPairs { chosen, rejected, prompts })
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

    /// The pairs named, in that order.
    pub fn select(&self, rows: &[usize]) -> EmbeddedPairs {
        EmbeddedPairs {
            chosen: self.chosen.select(rows),
            rejected: self.rejected.select(rows),
            prompts: rows.iter().map(|&i| self.prompts[i]).collect(),
        }
    }
}

/// The different prompts among `prompts`, in ascending order.
pub(crate) fn distinct(prompts: &[u32]) -> Vec<u32> {
    let mut unique = prompts.to_vec();
    unique.sort_unstable();
    unique.dedup();
    unique
}

/// Per-dimension standardisation, fitted on the responses of the seed pairs (method, step 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Standardiser {
    /// Mean of each dimension, `[d]`.
    pub mean: Vec<f32>,
    /// What a centred value is multiplied by, `[d]`: 1 / standard deviation, and 0 where a dimension
    /// is constant, so that it carries nothing.
    pub scale: Vec<f32>,
}

impl Standardiser {
    /// Fits mean and standard deviation of every dimension on all responses of `pairs`.
    pub fn fit(pairs: &EmbeddedPairs) -> Self {
        let d = pairs.dim();
        let n = (2 * pairs.len()).max(1) as f64;
        let mut mean = vec![0.0f64; d];
        let rows =
            || pairs.chosen.data().chunks_exact(d).chain(pairs.rejected.data().chunks_exact(d));
        for row in rows() {
            for (m, &x) in mean.iter_mut().zip(row) {
                *m += f64::from(x);
            }
        }
        mean.iter_mut().for_each(|m| *m /= n);
        let mut var = vec![0.0f64; d];
        for row in rows() {
            for ((v, &x), m) in var.iter_mut().zip(row).zip(&mean) {
                *v += (f64::from(x) - m).powi(2);
            }
        }
        let scale = var
            .iter()
            .zip(&mean)
            .map(|(v, m)| {
                let std = (v / n).sqrt();
                // A spread that f32 rounding alone explains counts as none.
                if std <= 1e-6 * m.abs().max(1e-12) { 0.0 } else { (1.0 / std) as f32 }
            })
            .collect();
        Standardiser { mean: mean.iter().map(|&m| m as f32).collect(), scale }
    }

    /// No change: for arrays that are standardised already.
    pub fn identity(d: usize) -> Self {
        Standardiser { mean: vec![0.0; d], scale: vec![1.0; d] }
    }

    /// Number of dimensions that are constant on the seeds.
    pub fn constant_dimensions(&self) -> usize {
        self.scale.iter().filter(|&&s| s == 0.0).count()
    }

    /// Writes the standardised `row` to `out`.
    pub fn apply(&self, row: &[f32], out: &mut [f32]) {
        for (((o, &x), &m), &s) in out.iter_mut().zip(row).zip(&self.mean).zip(&self.scale) {
            *o = (x - m) * s;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_the_first_value_that_is_not_finite() {
        let error = Matrix::new(vec![0.0, 1.0, f32::NAN, 2.0], 2, 2).unwrap_err();
        assert!(matches!(error, CoreError::NotFinite { row: 1, column: 0, .. }), "{error}");
    }

    #[test]
    fn standardises_to_mean_zero_and_deviation_one_and_silences_constants() {
        let chosen = Matrix::new(vec![1.0, 5.0, 3.0, 5.0], 2, 2).unwrap();
        let rejected = Matrix::new(vec![5.0, 5.0, 7.0, 5.0], 2, 2).unwrap();
        let pairs = EmbeddedPairs::new(chosen, rejected).unwrap();
        let s = Standardiser::fit(&pairs);
        assert_eq!(s.mean, [4.0, 5.0]);
        assert_eq!(s.constant_dimensions(), 1);
        let mut out = [0.0; 2];
        s.apply(&[1.0, 5.0], &mut out);
        // Population deviation of 1, 3, 5, 7 is sqrt(5).
        assert!((out[0] + 3.0 / 5.0f32.sqrt()).abs() < 1e-6);
        assert_eq!(out[1], 0.0);
    }

    #[test]
    fn refuses_pairs_of_two_widths() {
        let a = Matrix::new(vec![0.0; 6], 2, 3).unwrap();
        let b = Matrix::new(vec![0.0; 4], 2, 2).unwrap();
        assert!(matches!(EmbeddedPairs::new(a, b), Err(CoreError::Shape { .. })));
    }
}
