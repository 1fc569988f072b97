//! Weights in memory: linear layers decoded to `f32`, or kept as they are and decoded when used;
//! the token table left in the file.

use super::matmul::{MatMut, MatRef, Threads, matmul};
use crate::error::Result;
use crate::family::{Global, Part};
use crate::family::{Layout, ModelSpec, NormKind, NormPlacement};
use crate::model::memory::Precision;
use crate::model::{ModelFiles, Raw, decode};
use half::bf16;
use rayon::prelude::*;

/// Values decoded at a time where weights are decoded when used: 16 MB of `f32`.
const PANEL: usize = 1 << 22;
/// Rows that a thread decodes at a time.
const ROWS: usize = 16;

/// `y = x W + b`.
pub(crate) struct Linear {
    store: Store,
    /// One value an output, where the family has biases.
    bias: Option<Vec<f32>>,
    /// Width of the input.
    pub input: usize,
    /// Width of the output.
    pub output: usize,
}

enum Store {
    /// Row-major `[input, output]`: the matrix product packs its right side in that order, so
    /// short batches do not pay for a strided copy.
    Dense(Vec<f32>),
    /// Matrices `[output, input]` one below the other, decoded when used.
    Undecoded(Vec<UndecodedMatrix>),
}

struct UndecodedMatrix {
    name: String,
    /// Outputs of this matrix.
    rows: usize,
    source: MatrixData,
    order: Order,
}

enum MatrixData {
    File(Raw),
    Bf16(Vec<bf16>),
}

/// In which order rows are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    AsIs,
    /// By pairs of an interleaved rotation, for heads of this width.
    Interleaved(usize),
}

impl Order {
    /// Where row `r` of the half-split order is stored.
    pub fn stored(self, r: usize) -> usize {
        match self {
            Self::AsIs => r,
            Self::Interleaved(width) => {
                let (head, at) = (r / width, r % width);
                let half = width / 2;
                head * width + 2 * (at % half) + at / half
            }
        }
    }
}

/// Weight, and bias where norms have one.
pub(crate) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// The weights of one block.
pub(crate) struct Block {
    /// Before attention.
    pub attn_norm: Option<Norm>,
    /// Query, key and value projections side by side.
    pub qkv: Linear,
    /// Per-head norms of queries and keys.
    pub qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    /// Attention's output projection.
    pub out: Linear,
    /// On attention's output, or on the residual after it was added.
    pub post_attn_norm: Option<Norm>,
    /// Before the MLP.
    pub ffn_norm: Option<Norm>,
    /// The MLP's first projection: gate and up side by side where it is gated.
    pub up: Linear,
    /// The MLP's output projection.
    pub down: Linear,
    /// On the MLP's output, or on the residual after it was added.
    pub post_ffn_norm: Option<Norm>,
}

/// The weights that turn tokens into the first hidden state.
pub(crate) struct Embeddings {
    pub tokens: TokenTable,
    /// Learned positions `[context, dim]`, the first token type already added.
    pub positions: Option<Vec<f32>>,
    pub norm: Option<Norm>,
}

/// All weights that the asked layers need.
pub(crate) struct Weights {
    /// The blocks to run.
    pub blocks: Vec<Block>,
    /// The last norm, if the last hidden state is asked.
    pub final_norm: Option<Norm>,
    pub embeddings: Embeddings,
}

/// The token embeddings, read and decoded row by row from the file: a table of 262,144 rows would
/// otherwise take more memory than all blocks together.
pub(crate) struct TokenTable {
    raw: Raw,
    dim: usize,
}

struct Loader<'a> {
    files: &'a ModelFiles,
    spec: &'a ModelSpec,
    layout: &'a Layout,
    precision: Precision,
}

impl Weights {
    /// Loads the first `layers` blocks.
    pub fn load(
        files: &ModelFiles,
        spec: &ModelSpec,
        layout: &Layout,
        layers: usize,
        precision: Precision,
    ) -> Result<Self> {
        let loader = Loader { files, spec, layout, precision };
        let blocks =
            (0..layers).into_par_iter().map(|i| loader.block(i)).collect::<Result<Vec<_>>>()?;
        let post = spec.placement == NormPlacement::Post;
        let final_norm = match layers == spec.layers.len() && !post {
            true => Some(loader.global_norm(Global::FinalNorm)?),
            false => None,
        };
        Ok(Self { blocks, final_norm, embeddings: loader.embeddings(post)? })
    }
}

impl Loader<'_> {
    fn embeddings(&self, normed: bool) -> Result<Embeddings> {
        let Self { files, spec, layout, .. } = self;
        let d = spec.dim;
        let name = |part| layout.global(part, "weight");
        let raw = files.raw_of(&name(Global::Tokens), &[spec.vocab, d])?;
        let positions = match spec.learned_positions {
            None => None,
            Some(first) => {
                let table = name(Global::Positions);
                let rows = files.rows_of(&table, d)?;
                let all = files.values(&table, &[rows, d])?;
                let types = name(Global::TokenTypes);
                let types = files.values(&types, &[files.rows_of(&types, d)?, d])?;
                let mut all = all[first * d..(first + spec.context) * d].to_vec();
                for row in all.chunks_exact_mut(d) {
                    row.iter_mut().zip(&types[..d]).for_each(|(a, b)| *a += b);
                }
                Some(all)
            }
        };
        let norm = match normed {
            true => Some(self.global_norm(Global::EmbeddingNorm)?),
            false => None,
        };
        Ok(Embeddings { tokens: TokenTable { raw, dim: d }, positions, norm })
    }

    fn global_norm(&self, part: Global) -> Result<Norm> {
        self.norm(self.spec.dim, |kind| self.layout.global(part, kind))
    }

    fn norm(&self, width: usize, name: impl Fn(&str) -> String) -> Result<Norm> {
        let mut weight = self.files.values(&name("weight"), &[width])?;
        weight.iter_mut().for_each(|w| *w += self.layout.norm_offset);
        let bias = match self.spec.norm {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.files.values(&name("bias"), &[width])?),
        };
        Ok(Norm { weight, bias })
    }

    fn block(&self, i: usize) -> Result<Block> {
        let Self { spec, layout, .. } = self;
        let place = spec.placement;
        let name = |part: Part, kind: &str| layout.name(i, part, place, kind);
        let norms = layout.norms(spec);
        let norm = |part: Part| -> Result<Option<Norm>> {
            match norms.iter().find(|(p, _)| *p == part) {
                None => Ok(None),
                Some((_, width)) => self.norm(*width, |kind| name(part, kind)).map(Some),
            }
        };
        let all = layout.linears(spec);
        let linear = |parts: &[Part]| -> Result<Linear> {
            let members: Vec<_> = all.iter().filter(|(p, ..)| parts.contains(p)).collect();
            let input = members.first().map_or(0, |m| m.1);
            let mut kept = Vec::new();
            let mut biases = Vec::new();
            for (part, input, rows, bias) in members {
                let order = match part {
                    Part::Q | Part::K if layout.interleaved => Order::Interleaved(spec.head_dim),
                    _ => Order::AsIs,
                };
                let name_of = name(*part, "weight");
                let raw = self.files.raw_of(&name_of, &[*rows, *input])?;
                kept.push(UndecodedMatrix {
                    name: name_of,
                    rows: *rows,
                    source: MatrixData::File(raw),
                    order,
                });
                if *bias {
                    let values = self.files.values(&name(*part, "bias"), &[*rows])?;
                    biases.extend((0..*rows).map(|r| values[order.stored(r)]));
                }
            }
            store(kept, input, biases, self.precision)
        };
        let first = norm(Part::QNorm)?.map(|n| n.weight);
        Ok(Block {
            attn_norm: norm(Part::AttnNorm)?,
            qkv: linear(&[Part::Q, Part::K, Part::V, Part::Qkv])?,
            qk_norm: first.zip(norm(Part::KNorm)?.map(|n| n.weight)),
            out: linear(&[Part::Out])?,
            post_attn_norm: norm(Part::PostAttnNorm)?,
            ffn_norm: norm(Part::FfnNorm)?,
            up: linear(&[Part::Gate, Part::Up, Part::GateUp])?,
            down: linear(&[Part::Down])?,
            post_ffn_norm: norm(Part::PostFfnNorm)?,
        })
    }
}

/// Puts matrices of one input into the form they are to be held in.
fn store(
    kept: Vec<UndecodedMatrix>,
    input: usize,
    bias: Vec<f32>,
    precision: Precision,
) -> Result<Linear> {
    let output = kept.iter().map(|k| k.rows).sum();
    let bias = (!bias.is_empty()).then_some(bias);
    let store = match precision {
        Precision::Auto | Precision::F32 => Store::Dense(dense(&kept, input, output)?),
        Precision::Stored => Store::Undecoded(kept),
        Precision::Bf16 => {
            Store::Undecoded(kept.into_iter().map(|k| k.rounded(input)).collect::<Result<_>>()?)
        }
    };
    Ok(Linear { store, bias, input, output })
}

/// Matrices `[outputs, input]`, transposed and put side by side: `[input, all outputs]`.
fn dense(kept: &[UndecodedMatrix], input: usize, output: usize) -> Result<Vec<f32>> {
    const TILE: usize = 32;
    let mut all = vec![0.0; input * output];
    let mut column = 0;
    for part in kept {
        let mut rows = vec![0.0; part.rows * input];
        part.decode(0, input, &mut rows)?;
        for r0 in (0..part.rows).step_by(TILE) {
            for c0 in (0..input).step_by(TILE) {
                for c in c0..(c0 + TILE).min(input) {
                    for r in r0..(r0 + TILE).min(part.rows) {
                        all[c * output + column + r] = rows[r * input + c];
                    }
                }
            }
        }
        column += part.rows;
    }
    Ok(all)
}

impl UndecodedMatrix {
    /// Decodes as many rows from `first` on as `out` has room for.
    fn decode(&self, first: usize, input: usize, out: &mut [f32]) -> Result<()> {
        out.par_chunks_mut(ROWS * input).enumerate().try_for_each(|(i, out)| {
            let first = first + i * ROWS;
            match (&self.source, self.order) {
                (MatrixData::File(raw), Order::AsIs) => decode::rows(&self.name, raw, first, out),
                (MatrixData::File(raw), order) => {
                    for (r, row) in out.chunks_exact_mut(input).enumerate() {
                        decode::rows(&self.name, raw, order.stored(first + r), row)?;
                    }
                    Ok(())
                }
                (MatrixData::Bf16(values), _) => {
                    let values = &values[first * input..first * input + out.len()];
                    out.iter_mut().zip(values).for_each(|(o, v)| *o = v.to_f32());
                    Ok(())
                }
            }
        })
    }

    /// The same with weights rounded to bfloat16, in memory, in order.
    fn rounded(self, input: usize) -> Result<Self> {
        let mut values = vec![0.0; self.rows * input];
        self.decode(0, input, &mut values)?;
        let values = values.into_iter().map(bf16::from_f32).collect();
        Ok(Self { source: MatrixData::Bf16(values), order: Order::AsIs, ..self })
    }
}

impl Linear {
    /// A layer without bias, of a matrix `[output, input]`.
    pub fn load(
        files: &ModelFiles,
        name: &str,
        output: usize,
        input: usize,
        precision: Precision,
    ) -> Result<Self> {
        let source = MatrixData::File(files.raw_of(name, &[output, input])?);
        let kept =
            UndecodedMatrix { name: name.to_owned(), rows: output, source, order: Order::AsIs };
        store(vec![kept], input, Vec::new(), precision)
    }

    /// Some outputs for `n` rows (`stride` values apart) of `input`.
    #[allow(clippy::too_many_arguments)] // Two strided matrices, and which columns.
    pub fn project(
        &self,
        outputs: std::ops::Range<usize>,
        input: &[f32],
        stride: usize,
        out: &mut [f32],
        out_stride: usize,
        n: usize,
        panel: &mut Vec<f32>,
    ) -> Result<()> {
        let cols = outputs.len();
        let left = MatRef::new(input, n, self.input, stride);
        match &self.store {
            Store::Dense(weight) => matmul(
                MatMut::new(out, n, cols, out_stride),
                left,
                MatRef::new(&weight[outputs.start..], self.input, cols, self.output),
                false,
                Threads::All,
            ),
            Store::Undecoded(kept) => {
                let step = (PANEL / self.input).max(ROWS);
                let mut from = 0;
                for part in kept {
                    let (start, end) = (outputs.start.max(from), outputs.end.min(from + part.rows));
                    for at in (start..end.max(start)).step_by(step) {
                        let rows = step.min(end - at);
                        let panel = super::sized(panel, rows * self.input);
                        part.decode(at - from, self.input, panel)?;
                        matmul(
                            MatMut::new(&mut out[at - outputs.start..], n, rows, out_stride),
                            left,
                            MatRef::new(panel, rows, self.input, self.input).t(),
                            false,
                            Threads::All,
                        );
                    }
                    from += part.rows;
                }
            }
        }
        if let Some(bias) = &self.bias {
            let bias = &bias[outputs];
            out.par_chunks_mut(out_stride).take(n).for_each(|row| {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            });
        }
        Ok(())
    }
}

impl TokenTable {
    /// The embeddings of the tokens, one row each, unscaled. Ids must be below the vocabulary's
    /// size, which the tokenizer guarantees.
    pub fn rows(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut out = vec![0.0; ids.len() * self.dim];
        out.par_chunks_mut(self.dim).zip(ids).with_min_len(ROWS).try_for_each(|(row, id)| {
            decode::rows("token embeddings", &self.raw, *id as usize, row)
        })?;
        Ok(out)
    }
}
