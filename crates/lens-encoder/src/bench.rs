//! What this machine can do, to hold the encoder's speed against.

use std::time::{Duration, Instant};

use crate::forward::matmul::{MatMut, MatRef, Threads, matmul};

/// Rows, inner width and columns of the product: as of a batch with an MLP's weights.
const SHAPE: (usize, usize, usize) = (1024, 1024, 4096);
/// How long the product is repeated.
const FOR: Duration = Duration::from_secs(1);

/// Rate of the matrix product that the encoder uses, on all threads of the pool, in 10^9
/// operations (multiplications and additions) a second: the best of as many `f32` products
/// `[1024, 1024] x [1024, 4096]` as fit into a second, at least two.
pub fn matmul_gflops() -> f64 {
    let (m, k, n) = SHAPE;
    let value = |i: usize| (i % 97) as f32 / 97.0 - 0.5;
    let left: Vec<f32> = (0..m * k).map(value).collect();
    let right: Vec<f32> = (0..k * n).map(value).collect();
    let mut out = vec![0.0; m * n];
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    let mut rounds = 0;
    while rounds < 2 || start.elapsed() < FOR {
        let round = Instant::now();
        matmul(
            MatMut::new(&mut out, m, n, n),
            MatRef::new(&left, m, k, k),
            MatRef::new(&right, k, n, n),
            false,
            Threads::All,
        );
        // What nobody reads need not be computed.
        std::hint::black_box(&out);
        best = best.min(round.elapsed().as_secs_f64());
        rounds += 1;
    }
    2.0 * (m * k * n) as f64 / best.max(1e-9) / 1e9
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rate_is_a_positive_number() {
        let rate = super::matmul_gflops();
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
