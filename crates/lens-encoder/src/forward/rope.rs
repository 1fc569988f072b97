//! The angles of rotary position embeddings.

use crate::family::{Rope, RopeScaling};
use std::f64::consts::PI;

/// Cosines and sines of one rotation, for all positions that can occur.
pub(crate) struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Angles as transformers computes them: inverse frequencies and their products in `f32`.
    /// `long` says whether the texts are longer than the context before stretching.
    pub fn new(rope: &Rope, positions: usize, long: bool) -> Self {
        let half = rope.dims / 2;
        let inverse = inverse_frequencies(rope, long);
        let size = match rope.scaling {
            RopeScaling::Long { attention, .. } => attention as f32,
            _ => 1.0,
        };
        let mut cos = Vec::with_capacity(positions * half);
        let mut sin = Vec::with_capacity(positions * half);
        for pos in 0..positions {
            for f in &inverse {
                let (s, c) = (pos as f32 * f).sin_cos();
                cos.push(c * size);
                sin.push(s * size);
            }
        }
        Self { half, cos, sin }
    }

    /// Cosines and sines of a position.
    #[inline(always)]
    pub fn at(&self, pos: usize) -> (&[f32], &[f32]) {
        let range = pos * self.half..(pos + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// The inverse frequencies of a rotation, one for each two values that are rotated. `long` says whether the
/// texts are longer than the context before stretching.
pub(crate) fn inverse_frequencies(rope: &Rope, long: bool) -> Vec<f32> {
    let plain = (0..rope.dims / 2).map(|i| {
        let exponent = (2 * i) as f32 / rope.dims as f32;
        1.0 / (rope.base as f32).powf(exponent)
    });
    let divided = |factors: &[f64]| {
        plain.clone().zip(factors).map(|(f, by)| f / *by as f32).collect::<Vec<f32>>()
    };
    match &rope.scaling {
        RopeScaling::None => plain.collect(),
        RopeScaling::Linear(factor) => plain.map(|f| f / *factor as f32).collect(),
        RopeScaling::Factors(factors) => divided(factors),
        RopeScaling::Long { short, long: of_long, .. } => {
            divided(if long { of_long } else { short })
        }
        RopeScaling::Llama3 { factor, low, high, original } => {
            let original = *original as f64;
            let one = |f: f32| {
                let frequency = f64::from(f);
                let wavelength = 2.0 * PI / frequency;
                if wavelength > original / low {
                    (frequency / factor) as f32
                } else if wavelength < original / high {
                    f
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    ((1.0 - smooth) * frequency / factor + smooth * frequency) as f32
                }
            };
            plain.map(one).collect()
        }
    }
}
