//! Exact attention over the segments of a batch.
//!
//! Queries are taken in blocks of one segment, all heads that share a key/value head together, so
//! that both products are matrix products; keys that no query of the block may see are not
//! touched. What a single query may not see inside the block's range is set to zero.

use super::kernels::{rms_norm_in_place, rotate, soft_cap, softmax, vectorised};
use super::matmul::{MatMut, MatRef, Threads, matmul};
use super::plan::Batch;
use super::rope::RopeTable;
use crate::family::{LayerKind, ModelSpec};
use rayon::prelude::*;

/// Queries in a block: large enough for efficient products, small enough to waste little work
/// above the causal diagonal.
const BLOCK: usize = 64;

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

/// Some tokens of the batch, each a block of its own: by segment and position.
pub(crate) fn some_queries(tokens: impl Iterator<Item = (usize, usize)>) -> Vec<QueryBlock> {
    tokens
        .enumerate()
        .map(|(row, (segment, pos))| QueryBlock { row, len: 1, segment, pos })
        .collect()
}

/// Inputs of one layer's attention.
pub(crate) struct Attention<'a> {
    pub spec: &'a ModelSpec,
    pub kind: LayerKind,
    pub rope: Option<&'a RopeTable>,
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
        let n_keys = self.visible_end(block) - first;
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

    /// The position after the last that some query of the block sees.
    fn visible_end(&self, block: &QueryBlock) -> usize {
        if self.spec.causal {
            return block.pos + block.len;
        }
        self.batch.segments.get(block.segment).map_or(0, |s| s.pos + s.len)
    }

    /// First position that a query at `pos` sees.
    #[inline(always)]
    fn first_visible(&self, pos: usize) -> usize {
        self.kind.window.map_or(0, |w| (pos + 1).saturating_sub(w))
    }

    /// Key rows from position `first` to the end of the block, in order of position.
    fn ranges(&self, block: &QueryBlock, first: usize) -> Vec<Range> {
        let end = self.visible_end(block);
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
            let angles = self.rope.map(|r| r.at(block.pos + t));
            for head in token.chunks_exact_mut(hd) {
                if let Some(weight) = self.q_norm {
                    rms_norm_in_place(head, weight, self.spec.norm_eps);
                }
                if let Some((cos, sin)) = angles {
                    rotate(head, cos, sin);
                }
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
            let to = if self.spec.causal { pos + 1 - first } else { n_keys };
            let from = self.first_visible(pos) - first;
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
