//! The forward pass of a pre-norm decoder over a packed batch.

use rayon::prelude::*;

use crate::attention::{Attention, QueryBlock, RopeTable, all_queries, last_queries};
use crate::error::Result;
use crate::family::DecoderSpec;
use crate::kernels::{add_branch, gate, rms_norm, rms_norm_in_place, rotate, vectorised};
use crate::matmul::{MatMut, MatRef, Threads, matmul};
use crate::options::Pooling;
use crate::plan::Batch;
use crate::weights::{Block, Linear, Weights};

/// Rows a thread takes at a time in element-wise passes.
const ROWS: usize = 32;
/// Rows of the MLP computed at a time: bounds its buffer, which is the widest.
const MLP_ROWS: usize = 1024;

/// A model ready to run up to one layer.
pub(crate) struct Model {
    spec: DecoderSpec,
    weights: Weights,
    ropes: Vec<RopeTable>,
    pooling: Pooling,
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
}

/// The first `len` values of a buffer that only ever grows.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Bytes of the buffers for a batch of `tokens`.
pub(crate) fn workspace_bytes(spec: &DecoderSpec, tokens: usize) -> u64 {
    let qkv = spec.q_dim() + 2 * spec.kv_dim();
    let a_token = 3 * spec.dim + qkv + 2 * spec.q_dim();
    // Attention scores of one block on each thread come on top.
    let group = spec.heads / spec.kv_heads;
    let scores = rayon::current_num_threads() * 64 * group * (tokens + 2 * spec.head_dim);
    (a_token * tokens + 2 * spec.ffn_dim * tokens.min(MLP_ROWS) + scores) as u64 * 4
}

impl Model {
    /// Prepares the rotations for texts of up to `max_length` tokens.
    pub fn new(spec: DecoderSpec, weights: Weights, pooling: Pooling, max_length: usize) -> Self {
        let table = |r: &_| RopeTable::new(*r, spec.head_dim, max_length);
        let ropes = spec.ropes.par_iter().map(table).collect();
        Self { spec, weights, ropes, pooling }
    }

    /// One vector of `dim` values for each of the batch's texts, in the order of its `ends`.
    pub fn run(&self, batch: &Batch, ws: &mut Workspace) -> Result<Vec<f32>> {
        let spec = &self.spec;
        let mut x = self.weights.table.rows(&batch.tokens)?;
        if spec.embed_scale != 1.0 {
            x.par_chunks_mut(ROWS * spec.dim).for_each(|rows| {
                rows.iter_mut().for_each(|v| *v *= spec.embed_scale);
            });
        }
        let ends: Vec<usize> = batch.ends.iter().map(|(_, s)| last_row(batch, *s)).collect();
        let everything = all_queries(batch);
        let positions = positions(batch);
        let last = self.weights.blocks.len();
        for (i, block) in self.weights.blocks.iter().enumerate() {
            // Nothing reads what the last block would make of the other tokens.
            let only_ends = self.pooling == Pooling::Last && i + 1 == last;
            if only_ends {
                let queries = last_queries(batch);
                self.attend(i, block, batch, &positions, &x, &queries, Some(&ends), ws);
                x = gather(&x, &ends, spec.dim);
            } else {
                self.attend(i, block, batch, &positions, &x, &everything, None, ws);
            }
            self.finish(block, &mut x, ws);
        }
        if self.pooling == Pooling::Last && last == 0 {
            x = gather(&x, &ends, spec.dim);
        }
        if let Some(weight) = &self.weights.final_norm {
            x.par_chunks_mut(ROWS * spec.dim).for_each(|rows| {
                vectorised(|| {
                    for row in rows.chunks_exact_mut(spec.dim) {
                        rms_norm_in_place(row, weight, spec.norm_eps);
                    }
                });
            });
        }
        Ok(match self.pooling {
            Pooling::Last => x,
            Pooling::Mean => means(&x, batch, spec.dim),
        })
    }

    /// Attention's weighted values of the queries, into `ws.mixed`. With `only`, queries are
    /// computed for these rows alone, in this order.
    #[allow(clippy::too_many_arguments)]
    fn attend(
        &self,
        i: usize,
        block: &Block,
        batch: &Batch,
        positions: &[usize],
        x: &[f32],
        queries: &[QueryBlock],
        only: Option<&[usize]>,
        ws: &mut Workspace,
    ) {
        let spec = &self.spec;
        let (d, q_dim, kv_dim, n) = (spec.dim, spec.q_dim(), spec.kv_dim(), batch.tokens.len());
        let width = q_dim + 2 * kv_dim;
        let normed = sized(&mut ws.normed, n * d);
        normed.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d)).for_each(|(to, from)| {
            vectorised(|| {
                for (to, from) in to.chunks_exact_mut(d).zip(from.chunks_exact(d)) {
                    rms_norm(from, &block.attn_norm, spec.norm_eps, to);
                }
            });
        });
        let qkv = sized(&mut ws.qkv, n * width);
        let skip = if only.is_some() { q_dim } else { 0 };
        project(&block.qkv, skip..width, normed, d, &mut qkv[skip..], width, n);
        let kind = spec.layers[i];
        let rope = &self.ropes[kind.rope];
        let k_norm = block.qk_norm.as_ref().map(|(_, k)| k.as_slice());
        qkv.par_chunks_mut(ROWS * width).zip(positions.par_chunks(ROWS)).for_each(|(rows, pos)| {
            vectorised(|| {
                for (row, pos) in rows.chunks_exact_mut(width).zip(pos) {
                    let (cos, sin) = rope.at(*pos);
                    for head in row[q_dim..q_dim + kv_dim].chunks_exact_mut(spec.head_dim) {
                        if let Some(weight) = k_norm {
                            rms_norm_in_place(head, weight, spec.norm_eps);
                        }
                        rotate(head, cos, sin);
                    }
                }
            });
        });
        let (q, q_stride, n_queries) = match only {
            Some(rows) => {
                let inputs = gather(normed, rows, d);
                let q = sized(&mut ws.q, rows.len() * q_dim);
                project(&block.qkv, 0..q_dim, &inputs, d, q, q_dim, rows.len());
                (&*q, q_dim, rows.len())
            }
            None => (&*qkv, width, n),
        };
        let attention = Attention {
            spec,
            kind,
            rope,
            q_norm: block.qk_norm.as_ref().map(|(q, _)| q.as_slice()),
            batch,
            q,
            q_stride,
            keys: &qkv[q_dim..],
            values: &qkv[q_dim + kv_dim..],
            kv_stride: width,
        };
        attention.run(queries, sized(&mut ws.mixed, n_queries * q_dim));
    }

    /// The rest of a block after attention: output projection and MLP, added to `x`.
    fn finish(&self, block: &Block, x: &mut [f32], ws: &mut Workspace) {
        let spec = &self.spec;
        let (d, f) = (spec.dim, spec.ffn_dim);
        let n = x.len() / d;
        let branch = sized(&mut ws.branch, n * d);
        project(&block.out, 0..d, &ws.mixed, spec.q_dim(), branch, d, n);
        let normed = sized(&mut ws.normed, n * d);
        let post = block.post_attn_norm.as_deref();
        x.par_chunks_mut(ROWS * d)
            .zip(branch.par_chunks(ROWS * d))
            .zip(normed.par_chunks_mut(ROWS * d))
            .for_each(|((x, y), to)| {
                vectorised(|| {
                    let rows = x.chunks_exact_mut(d).zip(y.chunks_exact(d));
                    for ((x, y), to) in rows.zip(to.chunks_exact_mut(d)) {
                        add_branch(x, y, post, spec.norm_eps);
                        rms_norm(x, &block.ffn_norm, spec.norm_eps, to);
                    }
                });
            });
        let mlp = sized(&mut ws.mlp, n.min(MLP_ROWS) * 2 * f);
        let parts = normed.chunks(MLP_ROWS * d).zip(branch.chunks_mut(MLP_ROWS * d));
        for (input, output) in parts {
            let m = input.len() / d;
            project(&block.gate_up, 0..2 * f, input, d, mlp, 2 * f, m);
            mlp[..m * 2 * f].par_chunks_mut(ROWS * 2 * f).for_each(|rows| {
                vectorised(|| {
                    for row in rows.chunks_exact_mut(2 * f) {
                        let (g, u) = row.split_at_mut(f);
                        gate(spec.activation, g, u);
                    }
                });
            });
            project(&block.down, 0..d, mlp, 2 * f, output, d, m);
        }
        let post = block.post_ffn_norm.as_deref();
        x.par_chunks_mut(ROWS * d).zip(branch.par_chunks(ROWS * d)).for_each(|(x, y)| {
            vectorised(|| {
                for (x, y) in x.chunks_exact_mut(d).zip(y.chunks_exact(d)) {
                    add_branch(x, y, post, spec.norm_eps);
                }
            });
        });
    }
}

/// Some outputs of a linear layer for `n` rows (`stride` values apart) of `input`.
fn project(
    linear: &Linear,
    outputs: std::ops::Range<usize>,
    input: &[f32],
    stride: usize,
    out: &mut [f32],
    out_stride: usize,
    n: usize,
) {
    let cols = outputs.len();
    matmul(
        MatMut::new(out, n, cols, out_stride),
        MatRef::new(input, n, linear.input, stride),
        MatRef::new(&linear.weight[outputs.start..], linear.input, cols, linear.output),
        false,
        Threads::All,
    );
    if let Some(bias) = &linear.bias {
        let bias = &bias[outputs];
        out.par_chunks_mut(out_stride).take(n).for_each(|row| {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        });
    }
}

fn last_row(batch: &Batch, segment: usize) -> usize {
    let s = &batch.segments[segment];
    s.row + s.len - 1
}

fn positions(batch: &Batch) -> Vec<usize> {
    batch.segments.iter().flat_map(|s| s.pos..s.pos + s.len).collect()
}

fn gather(x: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|r| &x[r * width..(r + 1) * width]).copied().collect()
}

/// Mean over all tokens of each text, shared ones included; summed in `f64`, from first to last,
/// so that how the text was cut into segments leaves no trace.
fn means(x: &[f32], batch: &Batch, d: usize) -> Vec<f32> {
    let one = |(_, segment): &(usize, usize)| {
        let mut parts: Vec<_> = batch.chain(*segment).collect();
        parts.reverse();
        let mut sum = vec![0.0f64; d];
        let mut n = 0;
        for s in parts {
            n += s.len;
            for row in x[s.row * d..(s.row + s.len) * d].chunks_exact(d) {
                sum.iter_mut().zip(row).for_each(|(a, v)| *a += f64::from(*v));
            }
        }
        sum.into_iter().map(move |v| (v / n as f64) as f32).collect::<Vec<f32>>()
    };
    batch.ends.par_iter().map(one).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests;
