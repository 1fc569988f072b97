//! Embedded pairs with a preference in them, made up for measuring.

use lens_core::rng::{Purpose, Stream};
use lens_core::{CoreError, EmbeddedPairs, Matrix};

/// Directions that the embeddings vary along, as those of a language model do: few for their width.
const FACTORS: usize = 32;
/// How far the two sides of a pair lie apart along the preferred direction, in deviations.
const STRENGTH: f32 = 1.2;
/// Share of the pairs whose sides are swapped: people err.
const WRONG: f64 = 0.15;

/// `count` pairs of width `dim`. Those of one `seed` and width share their directions, whatever
/// `part` they are: train on one part, measure on another.
pub fn pairs(dim: usize, count: usize, seed: u64, part: u64) -> Result<EmbeddedPairs, CoreError> {
    let mut world = Stream::new(seed, Purpose::Benchmark, 0);
    let mut normals = |n: usize| (0..n).map(|_| world.normal()).collect::<Vec<f32>>();
    let (directions, preferred) = (normals(FACTORS * dim), normals(dim));
    let mut stream = Stream::new(seed, Purpose::Benchmark, 1 + part);
    let [mut chosen, mut rejected] = [(); 2].map(|()| Vec::with_capacity(count * dim));
    for _ in 0..count {
        let shared: Vec<f32> = (0..FACTORS / 2).map(|_| stream.normal()).collect();
        let apart = STRENGTH / 2.0 * stream.normal().abs();
        let apart = if stream.uniform() < WRONG { -apart } else { apart };
        for (side, sign) in [(&mut chosen, apart), (&mut rejected, -apart)] {
            // Half of the factors belong to the prompt, half to the response.
            let own: Vec<f32> = (0..FACTORS / 2).map(|_| stream.normal()).collect();
            let start = side.len();
            side.extend((0..dim).map(|j| 0.5 * stream.normal() + sign * preferred[j]));
            let row: &mut [f32] = &mut side[start..];
            for (factor, along) in shared.iter().chain(&own).zip(directions.chunks_exact(dim)) {
                row.iter_mut().zip(along).for_each(|(x, d)| *x += 0.3 * factor * d);
            }
        }
    }
    EmbeddedPairs::new(Matrix::new(chosen, count, dim)?, Matrix::new(rejected, count, dim)?)
}
