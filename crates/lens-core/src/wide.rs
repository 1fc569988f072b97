//! A trained layer over wide inputs, cut by columns into slabs, which threads share out.
//!
//! Nearly all work of a step is two products with the inputs X, [n, d]: X A' forward, D' X backward.
//! A slab has some columns of X, of the weights A, [R, d], of their gradient and of the optimiser's
//! state. Threads then share nothing but two small matrices: forward, their shares of X A', which are
//! added in the order of the slabs; backward, D. Each thread gathers its own columns, and updates its
//! weights while they are in the cache.
//!
//! How many slabs there are depends on the width alone, so that sums have one order, and results the same
//! bytes, whatever the number of threads.

use crate::adam::{Adam, AdamSettings};
use crate::linalg::{Target, Threads, View, matmul};
use crate::real::Real;
use rayon::prelude::*;
use std::ops::Range;

/// Fewest columns that are worth a slab.
const LEAST_COLUMNS: usize = 192;
/// Most slabs: threads beyond them have nothing to do here.
const MOST_SLABS: usize = 8;

/// Fills some columns of the inputs of a step, [n, columns], from their first row on.
pub(crate) type Load<'a, T> = &'a (dyn Fn(Range<usize>, &mut [T]) + Sync);

/// A range of columns of the layer.
pub(crate) struct Slab<T> {
    /// Which.
    pub columns: Range<usize>,
    /// Inputs, [n, columns].
    pub x: Vec<T>,
    /// Weights, [R, columns].
    pub weights: Vec<T>,
    /// Their gradient.
    pub gradient: Vec<T>,
    /// This slab's share of a product, [n, R].
    pub partial: Vec<T>,
    /// This slab's share of the products of some of the weights with each other.
    pub gram: Vec<T>,
    /// This slab's share of the squared lengths of the inputs, [n].
    pub squares: Vec<f64>,
    adam: Adam<T>,
}

impl<T: Real> Slab<T> {
    /// Number of columns.
    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }

    /// This slab's share of X A' for the inputs `rows`, [n, R], into `partial`.
    pub(crate) fn forward(&mut self, rows: Range<usize>) {
        let (n, w) = (rows.len(), self.width());
        let outputs = self.weights.len() / w;
        let x = View::new(&self.x[rows.start * w..], n, w);
        let weights = View::new(&self.weights, outputs, w);
        let target = Target::new(&mut self.partial[..n * outputs], outputs);
        matmul(target, x, weights.t(), T::ONE, false, Threads::ONE);
    }

    /// The gradient D' X, where `d` is [n, R] and belongs to the inputs `rows`.
    pub(crate) fn backward(&mut self, d: &[T], rows: Range<usize>) {
        let (n, w) = (rows.len(), self.width());
        let outputs = self.weights.len() / w;
        let x = View::new(&self.x[rows.start * w..], n, w);
        let d = View::new(d, n, outputs);
        matmul(Target::new(&mut self.gradient, w), d.t(), x, T::ONE, false, Threads::ONE);
    }

    /// One step of the optimiser along the gradient.
    pub(crate) fn step(&mut self, settings: AdamSettings) {
        self.adam.step(settings, &mut self.weights, &self.gradient);
    }
}

/// The layer: its slabs, left to right.
pub(crate) struct Wide<T> {
    dim: usize,
    threads: Threads,
    pub slabs: Vec<Slab<T>>,
}

impl<T: Real> Wide<T> {
    /// The layer with weights [R, `dim`], for steps of up to `inputs` rows, in as many slabs as its width
    /// is worth.
    pub(crate) fn new(weights: &[T], dim: usize, inputs: usize, threads: Threads) -> Self {
        Self::with_slabs(weights, dim, inputs, MOST_SLABS.min(dim / LEAST_COLUMNS), threads)
    }

    /// The same in so many slabs.
    pub(crate) fn with_slabs(
        weights: &[T],
        dim: usize,
        inputs: usize,
        slabs: usize,
        threads: Threads,
    ) -> Self {
        let count = slabs.clamp(1, dim.max(1));
        let outputs = weights.len() / dim;
        let slabs = (0..count)
            .map(|s| {
                let columns = s * dim / count..(s + 1) * dim / count;
                let w = columns.len();
                let rows = weights.chunks_exact(dim);
                Slab {
                    x: vec![T::ZERO; inputs * w],
                    weights: rows.flat_map(|row| row[columns.clone()].iter().copied()).collect(),
                    gradient: vec![T::ZERO; outputs * w],
                    partial: vec![T::ZERO; inputs * outputs],
                    gram: Vec::new(),
                    squares: Vec::new(),
                    adam: Adam::new(outputs * w),
                    columns,
                }
            })
            .collect();
        Wide { dim, threads, slabs }
    }

    /// Does `work` on every slab, side by side.
    pub(crate) fn each(&mut self, work: impl Fn(&mut Slab<T>) + Send + Sync) {
        each(&mut self.slabs, self.threads, work);
    }

    /// The sum of the slabs' shares of a product, in their order.
    pub(crate) fn sum(&self, out: &mut [T]) {
        out.copy_from_slice(&self.slabs[0].partial[..out.len()]);
        for slab in &self.slabs[1..] {
            out.iter_mut().zip(&slab.partial).for_each(|(o, &p)| *o += p);
        }
    }

    /// The weights as one matrix, [R, d].
    pub(crate) fn write_weights(&self, out: &mut [T]) {
        self.write(out, |slab| &slab.weights);
    }

    /// The gradient as one matrix, [R, d].
    #[cfg(test)]
    pub(crate) fn write_gradient(&self, out: &mut [T]) {
        self.write(out, |slab| &slab.gradient);
    }

    fn write(&self, out: &mut [T], part: impl Fn(&Slab<T>) -> &[T]) {
        for slab in &self.slabs {
            let rows = part(slab).chunks_exact(slab.width());
            for (to, from) in out.chunks_exact_mut(self.dim).zip(rows) {
                to[slab.columns.clone()].copy_from_slice(from);
            }
        }
    }
}

/// Does `work` on every part, side by side where there are several threads.
pub(crate) fn each<P: Send>(
    parts: &mut [P],
    threads: Threads,
    work: impl Fn(&mut P) + Send + Sync,
) {
    match parts {
        several if threads == Threads::ONE => several.iter_mut().for_each(work),
        [only] => work(only),
        several => several.par_iter_mut().for_each(work),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both products, and what is written back, however many slabs there are.
    #[test]
    fn slabs_together_are_the_whole_layer() {
        let (n, d, r) = (3, 7, 2);
        let weights: Vec<f64> = (0..r * d).map(|i| (i as f64 * 0.7).sin()).collect();
        let x: Vec<f64> = (0..n * d).map(|i| (i as f64 * 0.3).cos()).collect();
        let deltas: Vec<f64> = (0..n * r).map(|i| i as f64 - 2.5).collect();
        for slabs in [1, 2, 3, 7, 20] {
            let mut wide = Wide::with_slabs(&weights, d, n, slabs, Threads(2));
            assert_eq!(wide.slabs.len(), slabs.min(d));
            wide.each(|slab| {
                let (columns, w) = (slab.columns.clone(), slab.width());
                for (to, row) in slab.x.chunks_exact_mut(w).zip(x.chunks_exact(d)) {
                    to.copy_from_slice(&row[columns.clone()]);
                }
                slab.forward(0..n);
                slab.backward(&deltas, 0..n);
            });
            let (mut out, mut all, mut gradient) =
                (vec![0.0; n * r], vec![0.0; r * d], vec![0.0; r * d]);
            wide.sum(&mut out);
            wide.write_weights(&mut all);
            wide.write_gradient(&mut gradient);
            assert_eq!(all, weights);
            for i in 0..n {
                for j in 0..r {
                    let expected: f64 = (0..d).map(|c| x[i * d + c] * weights[j * d + c]).sum();
                    assert!((out[i * r + j] - expected).abs() < 1e-12);
                }
            }
            for j in 0..r {
                for c in 0..d {
                    let expected: f64 = (0..n).map(|i| deltas[i * r + j] * x[i * d + c]).sum();
                    assert!((gradient[j * d + c] - expected).abs() < 1e-12);
                }
            }
        }
    }
}
