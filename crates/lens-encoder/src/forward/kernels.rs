//! The element-wise work between matrix products, on single rows.
//!
//! Every function is a plain loop that the compiler vectorises; callers run them inside
//! [`vectorised`], which picks the widest instruction set the processor has. Sums run over a fixed
//! number of lanes, so a row's result depends on nothing but the row.

use super::weights::Norm;
use crate::family::Activation;

/// Partial sums per row: two AVX-512 registers, enough to hide the latency of additions.
const LANES: usize = 32;

/// Runs `work` compiled for the widest vector instructions of this processor.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

#[inline(always)]
fn sum_by(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    let tail: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    lanes.iter().sum::<f32>() + tail
}

/// `1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    1.0 / (sum_by(row, |x| x * x) / row.len() as f32 + eps).sqrt()
}

/// Mean, and `1 / sqrt(variance + eps)`.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum_by(row, |x| x) / n;
    let variance = sum_by(row, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// `row = row / rms(row) * weight`, for one head.
#[inline(always)]
pub(crate) fn rms_norm_in_place(row: &mut [f32], weight: &[f32], eps: f32) {
    let scale = inverse_rms(row, eps);
    for (x, w) in row.iter_mut().zip(weight) {
        *x = *x * scale * w;
    }
}

/// `dst = norm(src)`: an RMS norm, or a layer norm where there is a bias.
#[inline(always)]
pub(crate) fn norm(src: &[f32], norm: &Norm, eps: f32, dst: &mut [f32]) {
    match &norm.bias {
        None => {
            let scale = inverse_rms(src, eps);
            for ((d, s), w) in dst.iter_mut().zip(src).zip(&norm.weight) {
                *d = s * scale * w;
            }
        }
        Some(bias) => {
            let (mean, scale) = moments(src, eps);
            for (((d, s), w), b) in dst.iter_mut().zip(src).zip(&norm.weight).zip(bias) {
                *d = (s - mean) * scale * w + b;
            }
        }
    }
}

/// `row = norm(row)`.
#[inline(always)]
pub(crate) fn norm_in_place(row: &mut [f32], norm: &Norm, eps: f32) {
    match &norm.bias {
        None => rms_norm_in_place(row, &norm.weight, eps),
        Some(bias) => {
            let (mean, scale) = moments(row, eps);
            for ((x, w), b) in row.iter_mut().zip(&norm.weight).zip(bias) {
                *x = (*x - mean) * scale * w + b;
            }
        }
    }
}

/// `x += y`, or `x += rms_norm(y)` with a norm.
#[inline(always)]
pub(crate) fn add_branch(x: &mut [f32], y: &[f32], norm: Option<&Norm>, eps: f32) {
    match norm {
        Some(norm) => {
            let scale = inverse_rms(y, eps);
            for ((x, y), w) in x.iter_mut().zip(y).zip(&norm.weight) {
                *x += y * scale * w;
            }
        }
        None => {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
        }
    }
}

/// Rotates the pairs `(i, i + half)` of the first `2 half` values of a head by the angles of one
/// position.
#[inline(always)]
pub(crate) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head[..2 * cos.len()].split_at_mut(cos.len());
    for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

/// `gate = activation(gate) * up`.
#[inline(always)]
pub(crate) fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::GeluTanh => {
            for (g, u) in gate.iter_mut().zip(up) {
                *g = gelu_tanh(*g) * u;
            }
        }
        Activation::Silu => {
            for (g, u) in gate.iter_mut().zip(up) {
                *g = silu(*g) * u;
            }
        }
        Activation::Gelu => {
            for (g, u) in gate.iter_mut().zip(up) {
                *g = gelu(*g) * u;
            }
        }
    }
}

/// `x = activation(x)`, where the MLP is not gated.
#[inline(always)]
pub(crate) fn activate(activation: Activation, row: &mut [f32]) {
    match activation {
        Activation::GeluTanh => row.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Activation::Silu => row.iter_mut().for_each(|x| *x = silu(*x)),
        Activation::Gelu => row.iter_mut().for_each(|x| *x = gelu(*x)),
    }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x Phi(x)`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function to within 5e-7: a rational function of the kind that Eigen uses, which is
/// free of branches, so that loops over it vectorise.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = if x < -4.0 { -4.0 } else { x };
    let x = if x > 4.0 { 4.0 } else { x };
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    p = p * s + 2.770_681_4e-8;
    p = p * s - 2.101_024e-6;
    p = p * s - 5.692_506_4e-5;
    p = p * s - 7.349_906e-4;
    p = p * s - 2.954_6e-3;
    p = p * s - 1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * s - 2.133_740_6e-4;
    q = q * s - 1.682_827e-3;
    q = q * s - 7.373_329e-3;
    q = q * s - 1.426_473_9e-2;
    x * p / q
}

/// `0.5 x (1 + tanh(u))` with `u = sqrt(2/π) (x + 0.044715 x³)`, written as `x / (1 + e^(-2u))`,
/// which is the same and loses no digits where `tanh` is near -1.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const TWO_SQRT_2_OVER_PI: f32 = 1.595_769;
    let u2 = TWO_SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-u2))
}

/// `cap * tanh(x / cap)` for each value.
#[inline(always)]
pub(crate) fn soft_cap(row: &mut [f32], cap: f32) {
    for x in row {
        let e = exp(2.0 * (*x / cap));
        *x = cap * (1.0 - 2.0 / (e + 1.0));
    }
}

/// Softmax of a row in place.
#[inline(always)]
pub(crate) fn softmax(row: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let rest = chunks.remainder().iter();
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let scale = 1.0 / sum_by(row, |x| x);
    for x in row {
        *x *= scale;
    }
}

/// `e^x` to within two units in the last place; below -87 it stays at `e^-87`, above 88 at `e^88`.
///
/// `x = n ln 2 + r`, a polynomial for `e^r` (coefficients of the Cephes library), and `2^n` put
/// together from bits. Free of branches and calls, so loops over it vectorise.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_66;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        let mut worst = 0.0f64;
        for i in -86_000..88_000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - want).abs() / want);
        }
        assert!(worst < 2.5e-7, "{worst}");
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(1000.0).is_finite());
    }

    #[test]
    fn gelu_is_the_tanh_form() {
        for i in -1000..1000 {
            let x = f64::from(i) / 100.0;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let want = 0.5 * x * (1.0 + u.tanh());
            let got = f64::from(gelu_tanh(x as f32));
            assert!((got - want).abs() < 1e-6 * want.abs().max(0.1), "{x}: {got} {want}");
        }
    }

    #[test]
    fn erf_is_accurate() {
        // The series of the error function, summed in f64.
        let exact = |x: f64| {
            let mut term = x;
            let mut sum = x;
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        for i in -400..=400 {
            let x = f64::from(i) / 100.0;
            let got = f64::from(erf(x as f32));
            assert!((got - exact(x)).abs() < 5e-7, "{x}: {got} {}", exact(x));
        }
        assert!((erf(50.0) - 1.0).abs() < 5e-7 && erf(f32::NAN).is_nan());
    }

    #[test]
    fn layer_norm_has_mean_bias_and_spread_weight() {
        let row: Vec<f32> = (0..70).map(|i| (i as f32 * 0.3).sin() * 5.0 + 2.0).collect();
        let n = Norm { weight: vec![2.0; 70], bias: Some(vec![0.5; 70]) };
        let mut out = vec![0.0; 70];
        norm(&row, &n, 1e-12, &mut out);
        let mean = out.iter().map(|x| f64::from(*x)).sum::<f64>() / 70.0;
        let variance = out.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / 70.0;
        assert!((mean - 0.5).abs() < 1e-5 && (variance - 4.0).abs() < 1e-4, "{mean} {variance}");
        let mut again = row;
        norm_in_place(&mut again, &n, 1e-12);
        assert_eq!(again, out);
    }

    #[test]
    fn softmax_sums_to_one() {
        let mut row: Vec<f32> = (0..77).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let want: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        let first = f64::from(row[0]).exp() / want;
        vectorised(|| softmax(&mut row));
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((f64::from(row[0]) - first).abs() < 1e-7);
    }

    #[test]
    fn soft_cap_is_tanh() {
        let mut row = [-80.0, -1.0, 0.0, 0.01, 3.0, 500.0];
        let want = row.map(|x: f32| 50.0 * (x / 50.0).tanh());
        soft_cap(&mut row, 50.0);
        for (got, want) in row.iter().zip(want) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }
}
