//! The leading principal components of a table, by randomised subspace iteration (Halko, Martinsson
//! and Tropp 2011): what t-SNE starts from.
//!
//! Every sum has a fixed order and no product is fused with it, so that the same points give the
//! same bits whatever the number of threads and the width of the vectors.

use rayon::prelude::*;

/// Columns that are iterated together. A constant, so that they stay in registers.
pub(crate) const WIDTH: usize = 64;
/// Components that are kept: those beside them only speed up convergence.
pub(crate) const COMPONENTS: usize = 50;
/// Products with the covariance. What is left of the error lies below what a plot shows.
const ITERATIONS: usize = 6;
/// Rows that one task takes.
const ROWS: usize = 64;
/// Columns that one task takes: its sums fill a part of the first cache.
const COLUMNS: usize = 32;

/// Scores of `n` points on their leading components, `[n, WIDTH]`: the first [`COMPONENTS`] columns
/// in descending order of variance, zeros beyond the rank and behind them.
pub(crate) fn scores(points: &[f32], dim: usize, seed: u64) -> Vec<f32> {
    let n = points.len().checked_div(dim).unwrap_or(0);
    if n == 0 {
        return Vec::new();
    }
    let x = centred(points, dim);
    let mut basis = start(dim, seed);
    orthonormalise(&mut basis);
    for _ in 0..ITERATIONS {
        let y = times(&x, dim, &basis);
        let product = transposed_times(&x, dim, &y);
        basis = product.iter().map(|&v| f64::from(v)).collect();
        orthonormalise(&mut basis);
    }
    let mut y = times(&x, dim, &basis);
    rotate(&mut y);
    y
}

/// The points less their mean, and divided by their largest value: none overflows when squared.
fn centred(points: &[f32], dim: usize) -> Vec<f32> {
    let n = points.len() / dim;
    let mut mean = vec![0.0f64; dim];
    for row in points.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v));
    }
    mean.iter_mut().for_each(|m| *m /= n as f64);
    let off = |j: usize, v: f32| f64::from(v) - mean[j];
    let largest = points
        .par_chunks_exact(dim)
        .map(|row| row.iter().enumerate().map(|(j, &v)| off(j, v).abs()).fold(0.0, f64::max))
        .reduce(|| 0.0, f64::max);
    let scale = if largest > 0.0 { 1.0 / largest } else { 0.0 };
    let mut x = vec![0.0f32; points.len()];
    x.par_chunks_exact_mut(dim).zip(points.par_chunks_exact(dim)).for_each(|(out, row)| {
        for (j, (o, &v)) in out.iter_mut().zip(row).enumerate() {
            *o = (off(j, v) * scale) as f32;
        }
    });
    x
}

/// A random basis, `[d, WIDTH]`; with fewer dimensions than columns the rest is zero.
fn start(dim: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    let used = dim.min(WIDTH);
    let mut basis = vec![0.0; dim * WIDTH];
    for row in basis.chunks_exact_mut(WIDTH) {
        row[..used].iter_mut().for_each(|b| *b = noise.symmetric());
    }
    basis
}

/// Gram-Schmidt on the columns, twice (Giraud et al. 2005); columns that depend on those before them
/// become zero.
fn orthonormalise(basis: &mut [f64]) {
    for c in 0..WIDTH {
        let before = norm(basis, c);
        for _ in 0..2 {
            for other in 0..c {
                let rows = basis.chunks_exact(WIDTH);
                let dot: f64 = rows.map(|r| r[c] * r[other]).sum();
                basis.chunks_exact_mut(WIDTH).for_each(|r| r[c] -= dot * r[other]);
            }
        }
        let after = norm(basis, c);
        // The product with f32 points has about 7 digits: what is left below them is rounding.
        let scale = if after > 1e-6 * before && after > 0.0 { 1.0 / after } else { 0.0 };
        basis.chunks_exact_mut(WIDTH).for_each(|r| r[c] *= scale);
    }
}

fn norm(basis: &[f64], column: usize) -> f64 {
    basis.chunks_exact(WIDTH).map(|r| r[column] * r[column]).sum::<f64>().sqrt()
}

/// `x` `[n, d]` times `basis` `[d, WIDTH]`.
fn times(x: &[f32], dim: usize, basis: &[f64]) -> Vec<f32> {
    let basis: Vec<f32> = basis.iter().map(|&b| b as f32).collect();
    let mut y = vec![0.0f32; x.len() / dim * WIDTH];
    y.par_chunks_mut(ROWS * WIDTH)
        .zip(x.par_chunks(ROWS * dim))
        .for_each(|(y, x)| pulp::Arch::new().dispatch(Times { x, dim, basis: &basis, y }));
    y
}

// The loops that matter are written as types: of a closure the compiler may make a function of its
// own, which then is not compiled for the wide vectors.

struct Times<'a> {
    x: &'a [f32],
    dim: usize,
    basis: &'a [f32],
    y: &'a mut [f32],
}

impl pulp::WithSimd for Times<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (y, x) in self.y.chunks_exact_mut(WIDTH).zip(self.x.chunks_exact(self.dim)) {
            let mut sum = [0.0f32; WIDTH];
            for (&v, b) in x.iter().zip(self.basis.chunks_exact(WIDTH)) {
                for k in 0..WIDTH {
                    sum[k] += v * b[k];
                }
            }
            y.copy_from_slice(&sum);
        }
    }
}

/// The transpose of `x` `[n, d]` times `y` `[n, WIDTH]`.
fn transposed_times(x: &[f32], dim: usize, y: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0f32; dim * WIDTH];
    out.par_chunks_mut(COLUMNS * WIDTH).enumerate().for_each(|(block, out)| {
        let first = block * COLUMNS;
        pulp::Arch::new().dispatch(TransposedTimes { x, dim, first, y, out });
    });
    out
}

struct TransposedTimes<'a> {
    x: &'a [f32],
    dim: usize,
    /// The first column.
    first: usize,
    y: &'a [f32],
    out: &'a mut [f32],
}

impl pulp::WithSimd for TransposedTimes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (x, y) in self.x.chunks_exact(self.dim).zip(self.y.chunks_exact(WIDTH)) {
            for (sum, &v) in self.out.chunks_exact_mut(WIDTH).zip(&x[self.first..]) {
                for k in 0..WIDTH {
                    sum[k] += v * y[k];
                }
            }
        }
    }
}

/// Turns `y` `[n, WIDTH]` so that its columns are uncorrelated and in descending order of variance.
fn rotate(y: &mut [f32]) {
    let mut covariance = vec![0.0f64; WIDTH * WIDTH];
    for row in y.chunks_exact(WIDTH) {
        for (a, sums) in row.iter().zip(covariance.chunks_exact_mut(WIDTH)) {
            sums.iter_mut().zip(row).for_each(|(s, &b)| *s += f64::from(*a) * f64::from(b));
        }
    }
    let (values, vectors) = eigen(covariance);
    let mut order: Vec<usize> = (0..WIDTH).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(COMPONENTS);
    y.par_chunks_exact_mut(WIDTH).for_each(|row| {
        let mut turned = [0.0f32; WIDTH];
        for (t, &c) in turned.iter_mut().zip(&order) {
            let sum: f64 =
                row.iter().enumerate().map(|(k, &v)| f64::from(v) * vectors[k * WIDTH + c]).sum();
            *t = sum as f32;
        }
        row.copy_from_slice(&turned);
    });
}

/// Eigenvalues and eigenvectors (columns) of a symmetric `[WIDTH, WIDTH]` matrix, by Jacobi
/// rotations.
fn eigen(mut a: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    let w = WIDTH;
    let mut vectors = vec![0.0f64; w * w];
    (0..w).for_each(|i| vectors[i * w + i] = 1.0);
    let total: f64 = a.iter().map(|v| v * v).sum();
    // Quadratic convergence: ten sweeps are more than enough.
    for _ in 0..30 {
        let off: f64 = (0..w)
            .flat_map(|i| (0..w).map(move |j| (i, j)))
            .filter(|(i, j)| i != j)
            .map(|(i, j)| a[i * w + j] * a[i * w + j])
            .sum();
        if off <= 1e-24 * total {
            break;
        }
        for p in 0..w {
            for q in p + 1..w {
                let apq = a[p * w + q];
                if apq == 0.0 {
                    continue;
                }
                let theta = (a[q * w + q] - a[p * w + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..w {
                    let (x, y) = (a[k * w + p], a[k * w + q]);
                    a[k * w + p] = c * x - s * y;
                    a[k * w + q] = s * x + c * y;
                }
                for k in 0..w {
                    let (x, y) = (a[p * w + k], a[q * w + k]);
                    a[p * w + k] = c * x - s * y;
                    a[q * w + k] = s * x + c * y;
                }
                for k in 0..w {
                    let (x, y) = (vectors[k * w + p], vectors[k * w + q]);
                    vectors[k * w + p] = c * x - s * y;
                    vectors[k * w + q] = s * x + c * y;
                }
            }
        }
    }
    ((0..w).map(|i| a[i * w + i]).collect(), vectors)
}

/// Reproducible noise (SplitMix64, Steele et al. 2014): only a start and a jitter hang on it.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Noise(seed)
    }

    /// Uniform in [-1, 1).
    pub(crate) fn symmetric(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of width 20 whose coordinates vary by 20, 19, .. in directions mixed by pairs.
    fn points(n: usize) -> Vec<f32> {
        let mut noise = Noise::new(7);
        let mut out = Vec::new();
        for _ in 0..n {
            let v: Vec<f64> = (0..20).map(|j| noise.symmetric() * (20 - j) as f64).collect();
            for j in 0..20 {
                let other = v[j ^ 1];
                let sign = if j % 2 == 0 { 1.0 } else { -1.0 };
                out.push((0.8 * v[j] + sign * 0.6 * other + 100.0) as f32);
            }
        }
        out
    }

    #[test]
    fn all_components_keep_every_distance_and_come_in_order() {
        let x = points(300);
        let y = scores(&x, 20, 1);
        let distance = |table: &[f32], width: usize, i: usize, j: usize| -> f64 {
            (0..width)
                .map(|k| f64::from(table[i * width + k] - table[j * width + k]).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let ratio = distance(&x, 20, 0, 1) / distance(&y, WIDTH, 0, 1);
        for (i, j) in [(2, 5), (7, 100), (250, 299)] {
            let r = distance(&x, 20, i, j) / distance(&y, WIDTH, i, j);
            assert!((r / ratio - 1.0).abs() < 1e-4, "{r} {ratio}");
        }
        let variance = |c: usize| y.chunks_exact(WIDTH).map(|r| r[c] * r[c]).sum::<f32>();
        for c in 1..20 {
            assert!(variance(c) <= variance(c - 1) * 1.0001, "component {c}");
        }
        // Uniform on [-20, 20): the first direction has the largest variance.
        let first = variance(0) / 300.0 * (ratio * ratio) as f32;
        assert!((100.0..180.0).contains(&first), "{first}");
        assert!(y.chunks_exact(WIDTH).all(|r| r[20..].iter().all(|v| v.abs() < 1e-4)));
    }

    #[test]
    fn constant_points_have_zero_scores() {
        assert!(scores(&[3.5; 40], 4, 0).iter().all(|&v| v == 0.0));
    }
}
