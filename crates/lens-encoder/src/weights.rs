//! Weights in memory: linear layers decoded to `f32`, the token table left in the file.

use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use rayon::prelude::*;

use crate::error::{EncoderError, Result};
use crate::family::DecoderSpec;
use crate::gguf::{GgufFile, TensorInfo};

/// `y = x W`, with `W` as `[input, output]`: the matrix product packs its right side in that
/// order, so short batches do not pay for a strided copy.
pub(crate) struct Linear {
    /// Row-major `[input, output]`.
    pub weight: Vec<f32>,
    /// One value an output, where the family has biases.
    pub bias: Option<Vec<f32>>,
    /// Width of the input.
    pub input: usize,
    /// Width of the output.
    pub output: usize,
}

/// The weights of one block.
pub(crate) struct Block {
    /// Before attention.
    pub attn_norm: Vec<f32>,
    /// Query, key and value projections side by side.
    pub qkv: Linear,
    /// Per-head norms of queries and keys.
    pub qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    /// Attention's output projection.
    pub out: Linear,
    /// On attention's output, where norms are sandwiched.
    pub post_attn_norm: Option<Vec<f32>>,
    /// Before the MLP.
    pub ffn_norm: Vec<f32>,
    /// Gate and up projections side by side.
    pub gate_up: Linear,
    /// The MLP's output projection.
    pub down: Linear,
    /// On the MLP's output, where norms are sandwiched.
    pub post_ffn_norm: Option<Vec<f32>>,
}

/// All weights that the asked layer needs.
pub(crate) struct Weights {
    /// The blocks to run.
    pub blocks: Vec<Block>,
    /// The last norm, if the last hidden state is asked.
    pub final_norm: Option<Vec<f32>>,
    /// Token embeddings.
    pub table: TokenTable,
}

/// The token embeddings, decoded row by row from the mapped file: a table of 262,144 rows would
/// otherwise take more memory than all blocks together.
pub(crate) struct TokenTable {
    file: Arc<GgufFile>,
    info: TensorInfo,
    dim: usize,
}

const TABLE: &str = "token_embd.weight";

/// Checks that every tensor is there with the shape the metadata promises.
pub(crate) fn check(file: &GgufFile, spec: &DecoderSpec) -> Result<()> {
    file.tensor_of(TABLE, &[spec.vocab, spec.dim])?;
    file.tensor_of("output_norm.weight", &[spec.dim])?;
    for i in 0..spec.layers.len() {
        for (suffix, shape) in block_tensors(spec) {
            file.tensor_of(&format!("blk.{i}.{suffix}"), &shape)?;
        }
    }
    Ok(())
}

/// Names and shapes of the tensors of one block.
pub(crate) fn block_tensors(spec: &DecoderSpec) -> Vec<(&'static str, Vec<usize>)> {
    let (d, q, kv, f) = (spec.dim, spec.q_dim(), spec.kv_dim(), spec.ffn_dim);
    let mut tensors = vec![
        ("attn_norm.weight", vec![d]),
        ("attn_q.weight", vec![q, d]),
        ("attn_k.weight", vec![kv, d]),
        ("attn_v.weight", vec![kv, d]),
        ("attn_output.weight", vec![d, q]),
        ("ffn_norm.weight", vec![d]),
        ("ffn_gate.weight", vec![f, d]),
        ("ffn_up.weight", vec![f, d]),
        ("ffn_down.weight", vec![d, f]),
    ];
    if spec.qkv_bias {
        tensors.push(("attn_q.bias", vec![q]));
        tensors.push(("attn_k.bias", vec![kv]));
        tensors.push(("attn_v.bias", vec![kv]));
    }
    if spec.qk_norm {
        tensors.push(("attn_q_norm.weight", vec![spec.head_dim]));
        tensors.push(("attn_k_norm.weight", vec![spec.head_dim]));
    }
    if spec.sandwich_norms {
        tensors.push(("post_attention_norm.weight", vec![d]));
        tensors.push(("post_ffw_norm.weight", vec![d]));
    }
    tensors
}

impl Weights {
    /// Bytes that [`Weights::load`] will take for `layer` blocks.
    pub fn bytes(spec: &DecoderSpec, layer: usize) -> u64 {
        let elements: usize =
            block_tensors(spec).iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        (elements * layer + spec.dim) as u64 * 4
    }

    /// Decodes the first `layer` blocks.
    pub fn load(file: &Arc<GgufFile>, spec: &DecoderSpec, layer: usize) -> Result<Self> {
        let blocks =
            (0..layer).into_par_iter().map(|i| block(file, spec, i)).collect::<Result<Vec<_>>>()?;
        let final_norm = if layer == spec.layers.len() {
            Some(decode(file, "output_norm.weight")?)
        } else {
            None
        };
        let info = file.tensor_of(TABLE, &[spec.vocab, spec.dim])?.clone();
        let table = TokenTable { file: Arc::clone(file), info, dim: spec.dim };
        Ok(Self { blocks, final_norm, table })
    }
}

fn block(file: &GgufFile, spec: &DecoderSpec, i: usize) -> Result<Block> {
    let vector = |suffix: &str| decode(file, &format!("blk.{i}.{suffix}"));
    let linear = |inputs: usize, names: &[&str], bias: bool| -> Result<Linear> {
        let mut parts = Vec::new();
        let mut biases = Vec::new();
        for name in names {
            parts.push(vector(&format!("{name}.weight"))?);
            if bias {
                biases.extend(vector(&format!("{name}.bias"))?);
            }
        }
        let (weight, output) = beside(&parts, inputs);
        Ok(Linear { weight, bias: bias.then_some(biases), input: inputs, output })
    };
    let optional = |yes: bool, suffix: &str| if yes { vector(suffix).map(Some) } else { Ok(None) };
    Ok(Block {
        attn_norm: vector("attn_norm.weight")?,
        qkv: linear(spec.dim, &["attn_q", "attn_k", "attn_v"], spec.qkv_bias)?,
        qk_norm: optional(spec.qk_norm, "attn_q_norm.weight")?
            .zip(optional(spec.qk_norm, "attn_k_norm.weight")?),
        out: linear(spec.q_dim(), &["attn_output"], false)?,
        post_attn_norm: optional(spec.sandwich_norms, "post_attention_norm.weight")?,
        ffn_norm: vector("ffn_norm.weight")?,
        gate_up: linear(spec.dim, &["ffn_gate", "ffn_up"], false)?,
        down: linear(spec.ffn_dim, &["ffn_down"], false)?,
        post_ffn_norm: optional(spec.sandwich_norms, "post_ffw_norm.weight")?,
    })
}

/// Transposes matrices `[output, inputs]` and puts them side by side: `[inputs, all outputs]`.
fn beside(parts: &[Vec<f32>], inputs: usize) -> (Vec<f32>, usize) {
    const TILE: usize = 32;
    let output: usize = parts.iter().map(|p| p.len() / inputs).sum();
    let mut all = vec![0.0; inputs * output];
    let mut column = 0;
    for part in parts {
        let rows = part.len() / inputs;
        for r0 in (0..rows).step_by(TILE) {
            for c0 in (0..inputs).step_by(TILE) {
                for c in c0..(c0 + TILE).min(inputs) {
                    for r in r0..(r0 + TILE).min(rows) {
                        all[c * output + column + r] = part[r * inputs + c];
                    }
                }
            }
        }
        column += rows;
    }
    (all, output)
}

/// A whole tensor as `f32`.
pub(crate) fn decode(file: &GgufFile, name: &str) -> Result<Vec<f32>> {
    let info = file.tensor(name)?;
    dequantize(name, info, file.data(info), info.shape.clone())
}

fn dequantize(name: &str, info: &TensorInfo, bytes: &[u8], shape: Vec<usize>) -> Result<Vec<f32>> {
    qtensor_from_ggml(info.dtype, bytes, shape, &Device::Cpu)
        .and_then(|t| t.dequantize(&Device::Cpu))
        .and_then(|t| t.flatten_all()?.to_vec1::<f32>())
        .map_err(|e| EncoderError::Decode { name: name.into(), detail: first_line(&e) })
}

impl TokenTable {
    /// The embeddings of the tokens, one row each, unscaled. Ids must be below the vocabulary's
    /// size, which the tokenizer guarantees.
    pub fn rows(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let width = self.dim / self.info.dtype.block_size() * self.info.dtype.type_size();
        let data = self.file.data(&self.info);
        // Eight-byte words: the decoder views the bytes as blocks of up to 4-byte alignment.
        let mut words = vec![0u64; (ids.len() * width).div_ceil(8)];
        let bytes = bytemuck_bytes(&mut words);
        for (slot, id) in bytes.chunks_exact_mut(width).zip(ids) {
            let at = *id as usize * width;
            let row = data.get(at..at + width).ok_or_else(|| EncoderError::Tokenizer {
                detail: format!("token id {id} is not in the embedding table"),
            })?;
            slot.copy_from_slice(row);
        }
        let used = &bytes[..ids.len() * width];
        dequantize(TABLE, &self.info, used, vec![ids.len(), self.dim])
    }
}

fn bytemuck_bytes(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: every byte pattern is a valid u8, u8 has no alignment, and the length is exact.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 8) }
}

/// The library may append a backtrace to its messages.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
