//! Linear algebra: the crate's one matrix product, over strided views; dot products, Cholesky factors
//! and triangular systems.
//!
//! Everything heavy in this crate is a call of [`matmul`]; the product itself is the `gemm`
//! crate's. Views carry their strides, so that a transpose or a block of columns costs nothing.

use crate::real::Real;
use gemm::Parallelism;

/// How many threads a product may use. Results do not depend on it: sums have one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(pub usize);

impl Threads {
    /// One thread: for work that is parallel one level further up.
    pub const ONE: Threads = Threads(1);

    /// As many as the current rayon pool has.
    pub fn available() -> Threads {
        Threads(rayon::current_num_threads())
    }

    /// Runs `work` on a thread of the pool, unless it runs there already or wants no other: from
    /// outside, every parallel part would have to wake the pool and wait for it to fall asleep.
    pub(crate) fn inside<R: Send>(self, work: impl FnOnce() -> R + Send) -> R {
        if self == Threads::ONE || rayon::current_thread_index().is_some() {
            work()
        } else {
            rayon::scope(|_| work())
        }
    }

    fn parallelism(self) -> Parallelism {
        if self.0 <= 1 { Parallelism::None } else { Parallelism::Rayon(self.0) }
    }
}

/// A read-only matrix view: `rows` x `cols` with strides counted in elements.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// A contiguous row-major matrix.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert!(data.len() >= rows * cols, "view of {rows}x{cols} over {} values", data.len());
        View { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Columns `start .. start + cols` of a row-major matrix whose rows are `stride` apart.
    pub(crate) fn columns(
        data: &'a [T],
        rows: usize,
        stride: usize,
        start: usize,
        cols: usize,
    ) -> Self {
        assert!(start + cols <= stride && (rows == 0 || data.len() >= rows * stride));
        let data = if rows == 0 { data } else { &data[start..] };
        View { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        View {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// The target of a product: a block of columns of a row-major matrix.
pub(crate) struct Target<'a, T> {
    data: &'a mut [T],
    stride: usize,
}

impl<'a, T> Target<'a, T> {
    /// A contiguous row-major matrix of `cols` columns.
    pub(crate) fn new(data: &'a mut [T], cols: usize) -> Self {
        Target { data, stride: cols }
    }

    /// Columns from `start` of a row-major matrix whose rows are `stride` apart.
    pub(crate) fn columns(data: &'a mut [T], stride: usize, start: usize) -> Self {
        let data = if data.is_empty() { data } else { &mut data[start..] };
        Target { data, stride }
    }
}

/// `target = scale * a b`, or `target += scale * a b` with `accumulate`.
pub(crate) fn matmul<T: Real>(
    target: Target<'_, T>,
    a: View<'_, T>,
    b: View<'_, T>,
    scale: T,
    accumulate: bool,
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "inner dimensions");
    if m == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, cols: usize, rs: usize, cs: usize| (rows - 1) * rs + (cols - 1) * cs;
    assert!(n <= target.stride && last(m, n, target.stride, 1) < target.data.len());
    if k == 0 {
        if !accumulate {
            for row in target.data.chunks_mut(target.stride).take(m) {
                row[..n].fill(T::ZERO);
            }
        }
        return;
    }
    assert!(last(m, k, a.row_stride, a.col_stride) < a.data.len());
    assert!(last(k, n, b.row_stride, b.col_stride) < b.data.len());
    // SAFETY: the asserts above show that the last element addressed of each operand lies inside
    // its slice; strides are non-negative, so every other element does too; the target is borrowed
    // mutably and cannot overlap the operands.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.data.as_mut_ptr(),
            1,
            target.stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            scale,
            false,
            false,
            false,
            // A small product costs less than waking a thread for it.
            if m * n * k < 64 * 64 * 64 { Parallelism::None } else { threads.parallelism() },
        );
    }
}

/// Runs a plain loop compiled for the widest vectors this machine has. The closure and what it calls
/// must be `#[inline(always)]`.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// `out[c] += scale * sum over rows of m[r][c]` for a contiguous row-major matrix.
#[inline(always)]
pub(crate) fn add_column_sums<T: Real>(out: &mut [T], m: &[T], scale: T) {
    for row in m.chunks_exact(out.len()) {
        for (o, &x) in out.iter_mut().zip(row) {
            *o += scale * x;
        }
    }
}

/// Adds `bias` to every row of `rows`.
#[inline(always)]
pub(crate) fn add_bias<T: Real>(rows: &mut [T], bias: &[T]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (x, &b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

/// Dot product, summed in f64.
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    // Eight independent sums let the compiler vectorise; their order is fixed.
    let mut sums = [0.0f64; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 =
        ca.remainder().iter().zip(cb.remainder()).map(|(&x, &y)| x.widen() * y.widen()).sum();
    for (x, y) in ca.zip(cb) {
        for i in 0..8 {
            sums[i] += x[i].widen() * y[i].widen();
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// Dot product of f64 values, summed in their order.
pub(crate) fn dot_in_order(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The lower Cholesky factor L of the symmetric matrix A = L L', [n, n] row by row, of which only the
/// lower triangle is read; zero above the diagonal. A may be singular: a column of L whose pivot is 0
/// is 0. `None` where A is not positive semi-definite, or not finite.
pub(crate) fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for i in 0..n {
        let (before, from) = a.split_at_mut(i * n);
        let row = &mut from[..n];
        for j in 0..i {
            let other = &before[j * n..(j + 1) * n];
            let rest = row[j] - dot_in_order(&row[..j], &other[..j]);
            row[j] = if other[j] > 0.0 { rest / other[j] } else { 0.0 };
        }
        let square = row[i] - dot_in_order(&row[..i], &row[..i]);
        if !square.is_finite() || square < 0.0 {
            return None;
        }
        row[i] = square.sqrt();
        row[i + 1..].fill(0.0);
    }
    Some(a)
}

/// As [`cholesky`], but `None` also where A is singular.
pub(crate) fn cholesky_definite(a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    cholesky(a, n).filter(|factor| (0..n).all(|i| factor[i * n + i] > 0.0))
}

/// The solution y of L y = x, where L is lower triangular, [n, n] row by row.
pub(crate) fn solve_lower(factor: &[f64], x: &[f64]) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for (row, &x) in factor.chunks_exact(x.len()).zip(x) {
        let i = y.len();
        y.push((x - dot_in_order(&row[..i], &y)) / row[i]);
    }
    y
}

/// As [`solve_lower`], for a factor whose rows lie one after the other without the zeros,
/// `[n (n + 1) / 2]`.
pub(crate) fn solve_lower_packed(
    factor: &[f32],
    x: impl ExactSizeIterator<Item = f64>,
) -> Vec<f64> {
    let mut y: Vec<f64> = Vec::with_capacity(x.len());
    for (i, x) in x.enumerate() {
        let row = &factor[i * (i + 1) / 2..(i + 1) * (i + 2) / 2];
        let before: f64 = row.iter().zip(&y).map(|(&a, b)| f64::from(a) * b).sum();
        y.push((x - before) / f64::from(row[i]));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
            }
        }
        c
    }

    proptest! {
        #[test]
        fn agrees_with_the_triple_loop(m in 0usize..9, k in 0usize..9, n in 0usize..9, pad in 0usize..3) {
            let a: Vec<f64> = (0..m * k).map(|i| (i as f64 * 0.37).sin()).collect();
            let b: Vec<f64> = (0..k * n).map(|i| (i as f64 * 0.73).cos()).collect();
            let expected = naive(&a, &b, m, k, n);
            let stride = n + pad;
            let mut c = vec![1.0; m * stride];
            matmul(Target::columns(&mut c, stride, pad.min(stride)), View::new(&a, m, k), View::new(&b, k, n), 2.0, true, Threads::ONE);
            // The transposed product fills the same block.
            let mut ct = vec![0.0; n * m];
            matmul(Target::new(&mut ct, m), View::new(&b, k, n).t(), View::new(&a, m, k).t(), 1.0, false, Threads::ONE);
            for i in 0..m {
                for j in 0..n {
                    prop_assert!((c[i * stride + pad + j] - (1.0 + 2.0 * expected[i * n + j])).abs() < 1e-12);
                    prop_assert!((ct[j * m + i] - expected[i * n + j]).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn the_cholesky_factor_by_hand() {
        // [[4, 2], [2, 5]] = L L' with L = [[2, 0], [1, 2]].
        let factor = [2.0, 0.0, 1.0, 2.0];
        assert_eq!(cholesky(vec![4.0, 2.0, 2.0, 5.0], 2).as_deref(), Some(&factor[..]));
        assert_eq!(cholesky_definite(vec![4.0, 2.0, 2.0, 5.0], 2).as_deref(), Some(&factor[..]));
        // A direction without variance stays without, where that is allowed.
        let factor = [0.0, 0.0, 0.0, 3.0];
        assert_eq!(cholesky(vec![0.0, 0.0, 0.0, 9.0], 2).as_deref(), Some(&factor[..]));
        assert_eq!(cholesky_definite(vec![0.0, 0.0, 0.0, 9.0], 2), None);
        assert_eq!(cholesky(vec![1.0, 2.0, 2.0, 1.0], 2), None);
        assert_eq!(cholesky(vec![f64::NAN], 1), None);
    }

    #[test]
    fn lower_triangular_systems_are_solved_in_both_layouts() {
        // 2 y0 = 3, y0 + 2 y1 = 4.
        let expected = [1.5, 1.25];
        assert_eq!(solve_lower(&[2.0, 0.0, 1.0, 2.0], &[3.0, 4.0]), expected);
        assert_eq!(solve_lower_packed(&[2.0, 1.0, 2.0], [3.0, 4.0].into_iter()), expected);
    }

    #[test]
    fn dot_sums_every_element() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), (0..19).map(|i| (i * i) as f64).sum::<f64>());
    }
}
