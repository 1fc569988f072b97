//! The best rate of this machine, to compare the encoder with.

use crate::forward::matmul::{MatMut, MatRef, Threads, matmul};
use std::time::{Duration, Instant};

/// Rows of the product, as a batch of so many tokens.
const ROWS: usize = 1024;
/// Width of its input.
const INPUT: usize = 1024;
/// Width of its output.
const OUTPUT: usize = 4096;

/// The rate of one large `f32` matrix product, in 10⁹ operations a second, with all threads of the
/// pool: the best of those that fit into about a second.
pub fn matmul_gflops() -> f64 {
    let wave = |n: usize| (0..n).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect::<Vec<f32>>();
    let (left, right) = (wave(ROWS * INPUT), wave(INPUT * OUTPUT));
    let mut out = vec![0.0; ROWS * OUTPUT];
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while best.is_infinite() || start.elapsed() < Duration::from_secs(1) {
        let one = Instant::now();
        matmul(
            MatMut::new(&mut out, ROWS, OUTPUT, OUTPUT),
            MatRef::new(&left, ROWS, INPUT, INPUT),
            MatRef::new(&right, INPUT, OUTPUT, OUTPUT),
            false,
            Threads::All,
        );
        best = best.min(one.elapsed().as_secs_f64());
    }
    (2 * ROWS * INPUT * OUTPUT) as f64 / best / 1e9
}
