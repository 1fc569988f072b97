//! The values that one block of ggml's quantised formats stands for.
//!
//! A block has one or two scales in half precision (`d`, and `m` or `dmin` for an offset) and an
//! integer of a few bits for every value. Blocks of 32 values have nothing else; those of 256 (the
//! "K" formats) are cut into runs of 16 or 32 values, whose scales and offsets are small integers
//! too. What is multiplied first decides the last bit of a value; it is done as ggml does it.

use half::f16;

/// The values of the 16 codes of `IQ4_NL` and `IQ4_XS`, closer together near zero.
const NON_LINEAR: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// The half-precision number at a byte.
#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `f` of the low four bits of every byte, then `f` of the high four: the order of blocks of 32. `f`
/// is told which value of the block it makes.
#[inline(always)]
fn nibbles(codes: &[u8], out: &mut [f32], f: impl Fn(u8, usize) -> f32) {
    let (low, high) = out.split_at_mut(codes.len());
    for (i, (code, to)) in codes.iter().zip(low).enumerate() {
        *to = f(code & 15, i);
    }
    for (i, (code, to)) in codes.iter().zip(high).enumerate() {
        *to = f(code >> 4, i + codes.len());
    }
}

#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    nibbles(&block[2..], out, |code, _| f32::from(code as i8 - 8) * d);
}

#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    nibbles(&block[4..], out, |code, _| f32::from(code) * d + m);
}

/// The fifth bits of the values of a block lie together, in the order of the values.
#[inline(always)]
fn fifth_bits(block: &[u8], at: usize) -> impl Fn(u8, usize) -> u8 {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |code, i| code | (((bits >> i) & 1) as u8) << 4
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, whole) = (half(block, 0), fifth_bits(block, 2));
    nibbles(&block[6..], out, |code, i| f32::from(whole(code, i) as i8 - 16) * d);
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, whole) = (half(block, 0), half(block, 2), fifth_bits(block, 4));
    nibbles(&block[8..], out, |code, i| f32::from(whole(code, i)) * d + m);
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (code, to) in block[2..].iter().zip(out) {
        *to = f32::from(*code as i8) * d;
    }
}

#[inline(always)]
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    nibbles(&block[2..], out, |code, _| NON_LINEAR[usize::from(code)] * d);
}

/// 16 runs of 16 values of two bits. Four runs of 32 values share their bytes.
#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half(block, 80), half(block, 82));
    for (run, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, least) = (scales[run] & 15, scales[run] >> 4);
        let (scale, least) = (d * f32::from(scale), dmin * f32::from(least));
        let (codes, shift) = two_bits(codes, run);
        for (code, to) in codes.iter().zip(out) {
            *to = scale * f32::from((code >> shift) & 3) - least;
        }
    }
}

/// The bytes that hold a run's two bits, and where in a byte they are.
#[inline(always)]
fn two_bits(codes: &[u8], run: usize) -> (&[u8], usize) {
    let first = run / 8 * 32 + run % 2 * 16;
    (&codes[first..first + 16], run % 8 / 2 * 2)
}

/// As [`q2_k`], with a third bit, which is kept apart and inverted: without it 4 is taken away.
/// The scales have six bits, of which two are kept apart.
#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (thirds, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half(block, 108);
    for (run, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = if run < 8 { scales[run] & 15 } else { scales[run - 8] >> 4 };
        let high = (scales[8 + run % 4] >> (run / 4 * 2)) & 3;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        let (codes, shift) = two_bits(codes, run);
        let thirds = &thirds[run % 2 * 16..][..16];
        for ((code, third), to) in codes.iter().zip(thirds).zip(out) {
            let third = (third >> (run / 2)) & 1;
            *to = scale * f32::from((((code >> shift) & 3) | third << 2) as i8 - 4);
        }
    }
}

/// Scale and offset of a run of 32 values of [`q4_k`] and [`q5_k`]: eight times two numbers of six
/// bits in twelve bytes.
#[inline(always)]
fn six_bits(packed: &[u8], run: usize) -> (f32, f32) {
    let (scale, least) = match run < 4 {
        true => (packed[run] & 63, packed[run + 4] & 63),
        false => (
            packed[run + 4] & 15 | packed[run - 4] >> 6 << 4,
            packed[run + 4] >> 4 | packed[run] >> 6 << 4,
        ),
    };
    (f32::from(scale), f32::from(least))
}

/// Eight runs of 32 values of four bits; two runs share their bytes.
#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (scales, codes) = (&block[4..16], &block[16..]);
    for (run, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = six_bits(scales, run);
        let (scale, least) = (d * scale, dmin * least);
        for (code, to) in codes[run / 2 * 32..][..32].iter().zip(out) {
            *to = scale * f32::from((code >> (run % 2 * 4)) & 15) - least;
        }
    }
}

/// As [`q4_k`], with a fifth bit that is kept apart.
#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (scales, fifths, codes) = (&block[4..16], &block[16..48], &block[48..]);
    for (run, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = six_bits(scales, run);
        let (scale, least) = (d * scale, dmin * least);
        for ((code, fifth), to) in codes[run / 2 * 32..][..32].iter().zip(fifths).zip(out) {
            let code = (code >> (run % 2 * 4)) & 15 | ((fifth >> run) & 1) << 4;
            *to = scale * f32::from(code) - least;
        }
    }
}

/// 16 runs of 16 values of six bits, two of which are kept apart, with scales of eight bits.
#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (codes, highs, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half(block, 208);
    for (run, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[run] as i8);
        // Runs 0 to 7 have the first half of the bytes: the low bits of four of them, then the high.
        let (side, run) = (run / 8, run % 8);
        let codes = &codes[side * 64 + run % 4 * 16..][..16];
        let highs = &highs[side * 32 + run % 2 * 16..][..16];
        for ((code, high), to) in codes.iter().zip(highs).zip(out) {
            let low = (code >> (run / 4 * 4)) & 15;
            let high = (high >> (run / 2 * 2)) & 3;
            *to = scale * f32::from((low | high << 4) as i8 - 32);
        }
    }
}

/// Eight runs of 32 values of [`iq4_nl`], with scales of six bits in two places.
#[inline(always)]
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let highs = u16::from_le_bytes([block[2], block[3]]);
    let (lows, codes) = (&block[4..8], &block[8..]);
    for (run, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = (lows[run / 2] >> (run % 2 * 4)) & 15;
        let high = ((highs >> (run * 2)) & 3) as u8;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        nibbles(&codes[run * 16..][..16], out, |code, _| scale * NON_LINEAR[usize::from(code)]);
    }
}
