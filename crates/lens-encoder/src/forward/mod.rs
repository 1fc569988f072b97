//! The forward pass of a transformer over a packed batch.
//!
//! One pass yields every hidden state that is asked of its texts: any layer, any pooling. Blocks
//! beyond the deepest asked layer are not run, and the last one that is run computes only the
//! tokens that somebody pools.

mod attention;
pub(crate) mod cached;
mod kernels;
pub(crate) mod matmul;
pub(crate) mod plan;
mod rope;
mod weights;

use crate::error::Result;
use crate::family::{LayerKind, ModelSpec, NormPlacement};
use attention::{Attention, QueryBlock, all_queries, some_queries};
pub(crate) use kernels::vectorised;
use kernels::{activate, add_branch, gate, norm, norm_in_place, rms_norm_in_place, rotate};
use lens_data::encoder::Pooling;
use plan::Batch;
use rayon::prelude::*;
use rope::RopeTable;
pub(crate) use rope::inverse_frequencies;
pub(crate) use weights::Weights;
use weights::{Block, Norm};
pub(crate) use weights::{Linear, Order};

/// Rows a thread takes at a time in element-wise passes.
const ROWS: usize = 32;
/// Rows of the MLP computed at a time: bounds its buffer, which is the widest.
const MLP_ROWS: usize = 1024;

/// One hidden state of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Blocks to run: an index into transformers' `hidden_states`.
    pub layer: usize,
    pub pooling: Pooling,
    /// Tokens of the prompt, for [`Pooling::PromptLast`]; at least one.
    pub prompt: usize,
}

/// A model ready to run up to one layer.
pub(crate) struct Model {
    spec: ModelSpec,
    weights: Weights,
    /// For texts up to the original context, and (if they differ) for longer ones.
    ropes: [Vec<RopeTable>; 2],
}

/// Buffers that live from batch to batch.
#[derive(Default)]
pub(crate) struct Workspace {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    q: Vec<f32>,
    mixed: Vec<f32>,
    branch: Vec<f32>,
    mlp: Vec<f32>,
    panel: Vec<f32>,
}

impl Workspace {
    /// Where weights that are kept as stored are decoded to.
    pub fn panel(&mut self) -> &mut Vec<f32> {
        &mut self.panel
    }
}

/// `cap * tanh(x / cap)` for each value.
pub(crate) fn soft_cap_row(row: &mut [f32], cap: f32) {
    vectorised(|| kernels::soft_cap(row, cap));
}

/// The first `len` values of a buffer that only ever grows.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Bytes of the buffers for a batch of `tokens`.
pub(crate) fn workspace_bytes(spec: &ModelSpec, tokens: usize) -> u64 {
    let qkv = spec.q_dim() + 2 * spec.kv_dim();
    let a_token = 3 * spec.dim + qkv + 2 * spec.q_dim();
    // Attention scores of one block on each thread come on top.
    let group = spec.heads / spec.kv_heads;
    let scores = rayon::current_num_threads() * 64 * group * (tokens + 2 * spec.head_dim);
    (a_token * tokens + spec.inner_dim() * tokens.min(MLP_ROWS) + scores) as u64 * 4
}

/// The hidden states that are asked for of a batch, resolved to rows.
struct RequestedStates {
    /// Index into the batch's ends, index of the request, layer, and what to do there.
    all: Vec<(usize, usize, usize, PoolStep)>,
    /// Blocks to run.
    deepest: usize,
    /// If no mean is taken at the deepest layer: the rows that are taken there, in order.
    rows: Option<Vec<usize>>,
}

enum PoolStep {
    Row(usize),
    Mean,
}

impl RequestedStates {
    fn resolve(batch: &Batch, requests: &[Vec<Request>]) -> Self {
        let mut all = Vec::new();
        for (end, (text, segment)) in batch.ends.iter().enumerate() {
            for (r, request) in requests[*text].iter().enumerate() {
                let last = batch.segments[*segment].pos + batch.segments[*segment].len - 1;
                let position = match request.pooling {
                    Pooling::Mean => None,
                    Pooling::Last => Some(last),
                    Pooling::First => Some(0),
                    Pooling::PromptLast => Some(request.prompt.saturating_sub(1).min(last)),
                };
                let row = position.and_then(|p| batch.token_at(*segment, p));
                let take = row.map_or(PoolStep::Mean, |(_, row)| PoolStep::Row(row));
                all.push((end, r, request.layer, take));
            }
        }
        let deepest = all.iter().map(|w| w.2).max().unwrap_or(0);
        let mut rows = Some(Vec::new());
        for (.., take) in all.iter().filter(|w| w.2 == deepest) {
            match (take, &mut rows) {
                (PoolStep::Row(row), Some(rows)) => rows.push(*row),
                _ => rows = None,
            }
        }
        if let Some(rows) = &mut rows {
            rows.sort_unstable();
            rows.dedup();
        }
        Self { all, deepest, rows }
    }
}

/// One vector of `dim` values for each request of each of the batch's ends.
pub(crate) type States = Vec<Vec<Vec<f32>>>;

/// The inputs that all blocks of a pass share.
struct PassContext<'a> {
    batch: &'a Batch,
    /// Position of each row in its text.
    positions: &'a [usize],
    ropes: &'a [RopeTable],
}

/// Keys and values of one block that outlive the pass.
struct CachedBlock<'a> {
    /// Keys, then values: `[capacity, 2 kv_dim]`.
    values: &'a mut [f32],
    /// Where those of the pass's tokens go.
    rows: &'a [usize],
}

impl Model {
    /// Prepares the rotations for texts of up to `max_length` tokens.
    pub fn new(spec: ModelSpec, weights: Weights, max_length: usize) -> Self {
        let tables = |long| -> Vec<RopeTable> {
            spec.ropes.par_iter().map(|r| RopeTable::new(r, max_length, long)).collect()
        };
        let long = spec.long_from().filter(|from| *from < max_length);
        let ropes = [tables(false), long.map(|_| tables(true)).unwrap_or_default()];
        Self { spec, weights, ropes }
    }

    /// Number of blocks whose weights are here, from the first one on.
    pub fn blocks(&self) -> usize {
        self.weights.blocks.len()
    }

    /// The hidden states asked for: `requests` has an entry for every planned text.
    pub fn run(
        &self,
        batch: &Batch,
        requests: &[Vec<Request>],
        ws: &mut Workspace,
    ) -> Result<States> {
        let d = self.spec.dim;
        let wanted = RequestedStates::resolve(batch, requests);
        let mut states: States =
            batch.ends.iter().map(|(text, _)| vec![Vec::new(); requests[*text].len()]).collect();
        let positions = positions(batch);
        let pass = PassContext {
            batch,
            positions: &positions,
            ropes: &self.ropes[usize::from(batch.long)],
        };
        let mut x = self.embed(&batch.tokens, &positions)?;
        let everything = all_queries(batch);
        self.take(0, &x, None, batch, &wanted, &mut states);
        for (i, block) in self.weights.blocks.iter().take(wanted.deepest).enumerate() {
            let last = i + 1 == wanted.deepest;
            // Nothing reads what the last block would make of the other tokens.
            let only = wanted.rows.as_ref().filter(|_| last);
            match only {
                Some(rows) => {
                    let queries = some_queries(rows.iter().map(|row| {
                        let after = batch.segments.partition_point(|s| s.row <= *row);
                        (after - 1, positions[*row])
                    }));
                    self.attend(i, block, &pass, &x, &queries, Some(rows), None, ws)?;
                    x = gather(&x, rows, d);
                }
                None => self.attend(i, block, &pass, &x, &everything, None, None, ws)?,
            }
            self.finish(block, &mut x, ws)?;
            if i + 1 == self.spec.layers.len() {
                self.last_norm(&mut x);
            }
            self.take(i + 1, &x, only.map(Vec::as_slice), batch, &wanted, &mut states);
        }
        Ok(states)
    }

    /// The first hidden state of the tokens.
    fn embed(&self, tokens: &[u32], positions: &[usize]) -> Result<Vec<f32>> {
        let Self { spec, weights, .. } = self;
        let d = spec.dim;
        let mut x = weights.embeddings.tokens.rows(tokens)?;
        if spec.embed_scale != 1.0 {
            x.par_chunks_mut(ROWS * d).for_each(|rows| {
                rows.iter_mut().for_each(|v| *v *= spec.embed_scale);
            });
        }
        if let Some(table) = &weights.embeddings.positions {
            x.par_chunks_mut(d).zip(positions).for_each(|(row, pos)| {
                row.iter_mut().zip(&table[pos * d..(pos + 1) * d]).for_each(|(a, b)| *a += b);
            });
        }
        if let Some(norm) = &weights.embeddings.norm {
            self.norm_rows(&mut x, norm);
        }
        Ok(x)
    }

    fn last_norm(&self, x: &mut [f32]) {
        if let Some(norm) = &self.weights.final_norm {
            self.norm_rows(x, norm);
        }
    }

    fn norm_rows(&self, x: &mut [f32], norm: &Norm) {
        let (d, eps) = (self.spec.dim, self.spec.norm_eps);
        x.par_chunks_mut(ROWS * d).for_each(|rows| {
            vectorised(|| {
                for row in rows.chunks_exact_mut(d) {
                    norm_in_place(row, norm, eps);
                }
            });
        });
    }

    /// Pools what is wanted of one layer. `x` holds all rows, or only some.
    fn take(
        &self,
        layer: usize,
        x: &[f32],
        only: Option<&[usize]>,
        batch: &Batch,
        wanted: &RequestedStates,
        states: &mut States,
    ) {
        let d = self.spec.dim;
        for (end, r, _, take) in wanted.all.iter().filter(|w| w.2 == layer) {
            states[*end][*r] = match take {
                PoolStep::Row(row) => {
                    let at = only.map_or(*row, |rows| rows.partition_point(|x| x < row));
                    x[at * d..(at + 1) * d].to_vec()
                }
                PoolStep::Mean => mean(x, batch, batch.ends[*end].1, d),
            };
        }
    }

    /// Attention's weighted values of the queries, into `ws.mixed`. With `only`, queries are
    /// computed for these rows alone, in this order. With `kept`, the segments' rows are rows of
    /// what is kept, to which those of this pass are added.
    #[allow(clippy::too_many_arguments)]
    fn attend(
        &self,
        i: usize,
        block: &Block,
        pass: &PassContext,
        x: &[f32],
        queries: &[QueryBlock],
        only: Option<&[usize]>,
        kept: Option<CachedBlock>,
        ws: &mut Workspace,
    ) -> Result<()> {
        let spec = &self.spec;
        let (d, q_dim, kv_dim) = (spec.dim, spec.q_dim(), spec.kv_dim());
        let n = x.len() / d;
        let width = q_dim + 2 * kv_dim;
        let input = match &block.attn_norm {
            None => x,
            Some(weights) => {
                let normed = sized(&mut ws.normed, n * d);
                normed.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d)).for_each(
                    |(to, from)| {
                        vectorised(|| {
                            for (to, from) in to.chunks_exact_mut(d).zip(from.chunks_exact(d)) {
                                norm(from, weights, spec.norm_eps, to);
                            }
                        });
                    },
                );
                &*normed
            }
        };
        let qkv = sized(&mut ws.qkv, n * width);
        let skip = if only.is_some() { q_dim } else { 0 };
        block.qkv.project(skip..width, input, d, &mut qkv[skip..], width, n, &mut ws.panel)?;
        let kind = spec.layers[i];
        self.turn_keys(block, kind, pass, qkv);
        let (q, q_stride, n_queries) = match only {
            Some(rows) => {
                let inputs = gather(input, rows, d);
                let q = sized(&mut ws.q, rows.len() * q_dim);
                block.qkv.project(0..q_dim, &inputs, d, q, q_dim, rows.len(), &mut ws.panel)?;
                (&*q, q_dim, rows.len())
            }
            None => (&*qkv, width, n),
        };
        let (kv, kv_stride, at) = match kept {
            None => (&*qkv, width, q_dim),
            Some(CachedBlock { values, rows }) => {
                for (row, from) in rows.iter().zip(qkv.chunks_exact(width)) {
                    values[row * 2 * kv_dim..(row + 1) * 2 * kv_dim]
                        .copy_from_slice(&from[q_dim..]);
                }
                (&*values, 2 * kv_dim, 0)
            }
        };
        let attention = Attention {
            spec,
            kind,
            rope: kind.rope.map(|r| &pass.ropes[r]),
            q_norm: block.qk_norm.as_ref().map(|(q, _)| q.as_slice()),
            batch: pass.batch,
            q,
            q_stride,
            keys: &kv[at..],
            values: &kv[at + kv_dim..],
            kv_stride,
        };
        attention.run(queries, sized(&mut ws.mixed, n_queries * q_dim));
        Ok(())
    }

    /// Norms and rotates the keys of all rows.
    fn turn_keys(&self, block: &Block, kind: LayerKind, pass: &PassContext, qkv: &mut [f32]) {
        let spec = &self.spec;
        let (q_dim, kv_dim) = (spec.q_dim(), spec.kv_dim());
        let width = q_dim + 2 * kv_dim;
        let k_norm = block.qk_norm.as_ref().map(|(_, k)| k.as_slice());
        let rope = kind.rope.map(|r| &pass.ropes[r]);
        if k_norm.is_none() && rope.is_none() {
            return;
        }
        qkv.par_chunks_mut(ROWS * width).zip(pass.positions.par_chunks(ROWS)).for_each(
            |(rows, positions)| {
                vectorised(|| {
                    for (row, pos) in rows.chunks_exact_mut(width).zip(positions) {
                        let angles = rope.map(|r| r.at(*pos));
                        for head in row[q_dim..q_dim + kv_dim].chunks_exact_mut(spec.head_dim) {
                            if let Some(weight) = k_norm {
                                rms_norm_in_place(head, weight, spec.norm_eps);
                            }
                            if let Some((cos, sin)) = angles {
                                rotate(head, cos, sin);
                            }
                        }
                    }
                });
            },
        );
    }

    /// The rest of a block after attention: output projection and MLP, added to `x`.
    fn finish(&self, block: &Block, x: &mut [f32], ws: &mut Workspace) -> Result<()> {
        let spec = &self.spec;
        let (d, f) = (spec.dim, spec.ffn_dim);
        let n = x.len() / d;
        let branch = sized(&mut ws.branch, n * d);
        let q_dim = spec.q_dim();
        block.out.project(0..d, &ws.mixed, q_dim, branch, d, n, &mut ws.panel)?;
        let normed = sized(&mut ws.normed, n * d);
        let post = block.post_attn_norm.as_ref();
        let before = block.ffn_norm.as_ref();
        self.add(x, branch, post, before.map(|b| (b, &mut *normed)));
        let inner = spec.inner_dim();
        let mlp = sized(&mut ws.mlp, n.min(MLP_ROWS) * inner);
        let input: &[f32] = if before.is_some() { normed } else { x };
        let parts = input.chunks(MLP_ROWS * d).zip(branch.chunks_mut(MLP_ROWS * d));
        for (input, output) in parts {
            let m = input.len() / d;
            block.up.project(0..inner, input, d, mlp, inner, m, &mut ws.panel)?;
            mlp[..m * inner].par_chunks_mut(ROWS * inner).for_each(|rows| {
                vectorised(|| {
                    for row in rows.chunks_exact_mut(inner) {
                        if spec.gated {
                            let (g, u) = row.split_at_mut(f);
                            gate(spec.activation, g, u);
                        } else {
                            activate(spec.activation, row);
                        }
                    }
                });
            });
            block.down.project(0..d, mlp, inner, output, d, m, &mut ws.panel)?;
        }
        self.add(x, branch, block.post_ffn_norm.as_ref(), None);
        Ok(())
    }

    /// Adds a branch to the residual, with the norm where the family has it, and norms the result
    /// for what comes next.
    fn add(
        &self,
        x: &mut [f32],
        branch: &[f32],
        post: Option<&Norm>,
        next: Option<(&Norm, &mut [f32])>,
    ) {
        let (d, eps) = (self.spec.dim, self.spec.norm_eps);
        let after = self.spec.placement == NormPlacement::Post;
        let rows = x.par_chunks_mut(ROWS * d).zip(branch.par_chunks(ROWS * d));
        match next {
            None => rows.for_each(|(x, y)| {
                vectorised(|| {
                    for (x, y) in x.chunks_exact_mut(d).zip(y.chunks_exact(d)) {
                        add_row(x, y, post, after, eps);
                    }
                });
            }),
            Some((weights, to)) => {
                rows.zip(to.par_chunks_mut(ROWS * d)).for_each(|((x, y), to)| {
                    vectorised(|| {
                        let rows = x.chunks_exact_mut(d).zip(y.chunks_exact(d));
                        for ((x, y), to) in rows.zip(to.chunks_exact_mut(d)) {
                            add_row(x, y, post, after, eps);
                            norm(x, weights, eps, to);
                        }
                    });
                });
            }
        }
    }
}

/// Adds one row of a branch to the residual; `after`: the norm is on the sum, not on the branch.
#[inline(always)]
fn add_row(x: &mut [f32], y: &[f32], post: Option<&Norm>, after: bool, eps: f32) {
    match post {
        Some(post) if after => {
            add_branch(x, y, None, eps);
            norm_in_place(x, post, eps);
        }
        post => add_branch(x, y, post, eps),
    }
}

fn positions(batch: &Batch) -> Vec<usize> {
    batch.segments.iter().flat_map(|s| s.pos..s.pos + s.len).collect()
}

fn gather(x: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|r| &x[r * width..(r + 1) * width]).copied().collect()
}

/// Mean over all tokens of a text, shared ones included; summed in `f64`, from first to last, so
/// that how the text was cut into segments leaves no trace.
fn mean(x: &[f32], batch: &Batch, segment: usize, d: usize) -> Vec<f32> {
    let mut parts: Vec<_> = batch.chain(segment).collect();
    parts.reverse();
    let mut sum = vec![0.0f64; d];
    let mut n = 0;
    for s in parts {
        n += s.len;
        for row in x[s.row * d..(s.row + s.len) * d].chunks_exact(d) {
            sum.iter_mut().zip(row).for_each(|(a, v)| *a += f64::from(*v));
        }
    }
    sum.into_iter().map(|v| (v / n as f64) as f32).collect()
}

#[cfg(test)]
mod tests;
