//! Exact causal attention over the segments of a batch.
//!
//! Queries are taken in blocks of one segment, all heads that share a key/value head together, so
//! that both products are matrix products; keys that no query of the block may see are not
//! touched. What a single query may not see inside the block's range is set to zero.

use rayon::prelude::*;

use crate::family::{DecoderSpec, LayerKind};
use crate::kernels::{rms_norm_in_place, rotate, soft_cap, softmax, vectorised};
use crate::matmul::{MatMut, MatRef, Threads, matmul};
use crate::plan::Batch;

/// Queries in a block: large enough for efficient products, small enough to waste little work
/// above the causal diagonal.
const BLOCK: usize = 64;

/// Cosines and sines of one rotation, for all positions that can occur.
pub(crate) struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Angles as transformers computes them: inverse frequencies and their products in `f32`.
    pub fn new(rope: crate::family::Rope, head_dim: usize, positions: usize) -> Self {
        let half = head_dim / 2;
        let inverse: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = (2 * i) as f32 / head_dim as f32;
                1.0 / (rope.base as f32).powf(exponent) / rope.factor as f32
            })
            .collect();
        let mut cos = Vec::with_capacity(positions * half);
        let mut sin = Vec::with_capacity(positions * half);
        for pos in 0..positions {
            for f in &inverse {
                let (s, c) = (pos as f32 * f).sin_cos();
                cos.push(c);
                sin.push(s);
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

/// A run of queries of one segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryBlock {
    /// First row in the query matrix (and in the output).
    pub row: usize,
    /// Queries.
    pub len: usize,
    /// Segment they belong to.
    pub segment: usize,
    /// Position of the first in its text.
    pub pos: usize,
}

/// All tokens of the batch, in blocks.
pub(crate) fn all_queries(batch: &Batch) -> Vec<QueryBlock> {
    let mut blocks = Vec::new();
    for (segment, s) in batch.segments.iter().enumerate() {
        for at in (0..s.len).step_by(BLOCK) {
            let len = BLOCK.min(s.len - at);
            blocks.push(QueryBlock { row: s.row + at, len, segment, pos: s.pos + at });
        }
    }
    blocks
}

/// The last token of every text of the batch.
pub(crate) fn last_queries(batch: &Batch) -> Vec<QueryBlock> {
    let ends = batch.ends.iter().enumerate();
    ends.map(|(row, (_, segment))| {
        let s = &batch.segments[*segment];
        QueryBlock { row, len: 1, segment: *segment, pos: s.pos + s.len - 1 }
    })
    .collect()
}

/// Inputs of one layer's attention.
pub(crate) struct Attention<'a> {
    pub spec: &'a DecoderSpec,
    pub kind: LayerKind,
    pub rope: &'a RopeTable,
    /// Weight of the per-head norm of queries.
    pub q_norm: Option<&'a [f32]>,
    pub batch: &'a Batch,
    /// Raw queries, `q_stride` values a row.
    pub q: &'a [f32],
    pub q_stride: usize,
    /// Normed and rotated keys, then values; one row a token, `kv_stride` values apart.
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub kv_stride: usize,
}

#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
}

/// Rows of keys that a block sees: `len` rows from `row`, the first at column `column`.
struct Range {
    row: usize,
    len: usize,
    column: usize,
}

impl Attention<'_> {
    /// Computes the blocks (in row order, without gaps) into `out`, `q_dim` values a row.
    pub fn run(&self, blocks: &[QueryBlock], out: &mut [f32]) {
        let width = self.spec.q_dim();
        let mut rest = out;
        let mut tasks = Vec::with_capacity(blocks.len());
        for block in blocks {
            let (head, tail) = rest.split_at_mut(block.len * width);
            tasks.push((block, head));
            rest = tail;
        }
        // One at a time: blocks differ in cost, and each is large against the cost of a steal.
        tasks
            .into_par_iter()
            .with_max_len(1)
            .for_each_init(Scratch::default, |scratch, (block, out)| {
                self.block(block, scratch, out)
            });
    }

    fn block(&self, block: &QueryBlock, scratch: &mut Scratch, out: &mut [f32]) {
        let spec = self.spec;
        let (hd, group) = (spec.head_dim, spec.heads / spec.kv_heads);
        let first = self.first_visible(block.pos);
        let ranges = self.ranges(block, first);
        let n_keys = block.pos + block.len - first;
        let rows = block.len * group;
        scratch.q.resize(rows * hd, 0.0);
        scratch.out.resize(rows * hd, 0.0);
        scratch.scores.resize(rows * n_keys, 0.0);
        let Scratch { q, scores, out: mixed } = scratch;
        for g in 0..spec.kv_heads {
            vectorised(|| self.queries(block, g, q));
            for r in &ranges {
                let keys = &self.keys[r.row * self.kv_stride + g * hd..];
                matmul(
                    MatMut::new(&mut scores[r.column..], rows, r.len, n_keys),
                    MatRef::new(q, rows, hd, hd),
                    MatRef::new(keys, r.len, hd, self.kv_stride).t(),
                    false,
                    Threads::One,
                );
            }
            vectorised(|| self.weigh(block, first, n_keys, scores));
            for (i, r) in ranges.iter().enumerate() {
                let values = &self.values[r.row * self.kv_stride + g * hd..];
                matmul(
                    MatMut::new(mixed, rows, hd, hd),
                    MatRef::new(&scores[r.column..], rows, r.len, n_keys),
                    MatRef::new(values, r.len, hd, self.kv_stride),
                    i > 0,
                    Threads::One,
                );
            }
            let width = spec.q_dim();
            for (t, part) in mixed.chunks_exact(group * hd).enumerate() {
                let at = t * width + g * group * hd;
                out[at..at + group * hd].copy_from_slice(part);
            }
        }
    }

    /// First position that a query at `pos` sees.
    #[inline(always)]
    fn first_visible(&self, pos: usize) -> usize {
        self.kind.window.map_or(0, |w| (pos + 1).saturating_sub(w))
    }

    /// Key rows from position `first` to the end of the block, in order of position.
    fn ranges(&self, block: &QueryBlock, first: usize) -> Vec<Range> {
        let end = block.pos + block.len;
        let mut ranges: Vec<Range> = self
            .batch
            .chain(block.segment)
            .filter_map(|s| {
                let from = s.pos.max(first);
                let to = (s.pos + s.len).min(end);
                let range =
                    || Range { row: s.row + from - s.pos, len: to - from, column: from - first };
                (from < to).then(range)
            })
            .collect();
        ranges.reverse();
        ranges
    }

    /// Norms, rotates and scales the queries of one key/value head: rows `(token, head)`.
    #[inline(always)]
    fn queries(&self, block: &QueryBlock, g: usize, q: &mut [f32]) {
        let (hd, group) = (self.spec.head_dim, self.spec.heads / self.spec.kv_heads);
        for (t, token) in q.chunks_exact_mut(group * hd).enumerate() {
            let at = (block.row + t) * self.q_stride + g * group * hd;
            token.copy_from_slice(&self.q[at..at + group * hd]);
            let (cos, sin) = self.rope.at(block.pos + t);
            for head in token.chunks_exact_mut(hd) {
                if let Some(weight) = self.q_norm {
                    rms_norm_in_place(head, weight, self.spec.norm_eps);
                }
                rotate(head, cos, sin);
                for x in head {
                    *x *= self.spec.attn_scale;
                }
            }
        }
    }

    /// Scores to weights: softmax over what each query sees, zero elsewhere.
    #[inline(always)]
    fn weigh(&self, block: &QueryBlock, first: usize, n_keys: usize, scores: &mut [f32]) {
        let group = self.spec.heads / self.spec.kv_heads;
        for (r, row) in scores.chunks_exact_mut(n_keys).enumerate() {
            let pos = block.pos + r / group;
            let (from, to) = (self.first_visible(pos) - first, pos + 1 - first);
            row[..from].fill(0.0);
            row[to..].fill(0.0);
            let seen = &mut row[from..to];
            if let Some(cap) = self.spec.attn_soft_cap {
                soft_cap(seen, cap);
            }
            softmax(seen);
        }
    }
}
