//! The tensors of an exported model: where each is found in the model's own files, and its name in
//! transformers.

use crate::error::Result;
use crate::family::{Global, Layout, ModelSpec, Naming, NormKind, NormPlacement, Part};
use crate::forward::Order;
use crate::model::{ModelFiles, Raw, decode};
use rayon::prelude::*;

/// Rows that a thread decodes at a time.
const ROWS: usize = 16;
/// Values decoded at a time: 16 MB of `f32`.
const PANEL: usize = 1 << 22;

/// A tensor to be written.
pub(crate) struct Tensor {
    /// Its name in transformers.
    pub name: String,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    values: Values,
}

enum Values {
    /// Rows of stored matrices, one below the other, and then rows of zeros up to the shape.
    Stored(Vec<Rows>),
    /// These.
    Given(Vec<f32>),
}

/// Rows of a stored matrix.
#[derive(Clone)]
struct Rows {
    name: String,
    raw: Raw,
    first: usize,
    count: usize,
    order: Order,
}

impl Tensor {
    /// A tensor of given values.
    pub fn given(name: &str, shape: Vec<usize>, values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { name: name.to_owned(), shape, values: Values::Given(values) }
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Hands all values to `take`, in order and some at a time.
    pub fn each(&self, mut take: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let stored = match &self.values {
            Values::Given(values) => return take(values),
            Values::Stored(stored) => stored,
        };
        let width = self.shape.last().copied().unwrap_or(1).max(1);
        let step = (PANEL / width).max(ROWS);
        let mut panel = vec![0.0; step * width];
        let mut left = self.len();
        for rows in stored {
            for at in (0..rows.count).step_by(step) {
                let some = &mut panel[..step.min(rows.count - at) * width];
                rows.decode(at, width, some)?;
                take(some)?;
                left -= some.len();
            }
        }
        panel.fill(0.0);
        while left > 0 {
            let some = left.min(panel.len());
            take(&panel[..some])?;
            left -= some;
        }
        Ok(())
    }
}

impl Rows {
    fn decode(&self, at: usize, width: usize, out: &mut [f32]) -> Result<()> {
        out.par_chunks_mut(ROWS * width).enumerate().try_for_each(|(i, out)| {
            let first = self.first + at + i * ROWS;
            match self.order {
                Order::AsIs => decode::rows(&self.name, &self.raw, first, out),
                order => out.chunks_exact_mut(width).enumerate().try_for_each(|(r, row)| {
                    decode::rows(&self.name, &self.raw, order.stored(first + r), row)
                }),
            }
        })
    }
}

/// A model's files, and how its tensors are named there and in transformers.
pub(super) struct Tensors<'a> {
    pub files: &'a ModelFiles,
    pub spec: &'a ModelSpec,
    pub layout: &'a Layout,
    /// What stands before the names of all tensors: `model.` in a model with a head.
    pub prefix: &'a str,
}

impl Tensors<'_> {
    /// How transformers names and divides the tensors of the family.
    fn target(&self) -> Layout {
        let phi3 = self.spec.architecture == "phi3";
        let prefix = self.prefix.to_owned();
        Layout {
            naming: match self.spec.placement {
                NormPlacement::Post => Naming::Bert(prefix),
                _ => Naming::Decoder(prefix),
            },
            fused_qkv: phi3,
            fused_gate_up: phi3,
            interleaved: false,
            norm_offset: if self.spec.architecture.starts_with("gemma") { 1.0 } else { 0.0 },
            head: None,
        }
    }

    /// Rows of the position table and of the table of token types, where the model has them.
    pub fn table_rows(&self) -> Result<Option<(usize, usize)>> {
        let rows = |part| self.files.rows_of(&self.layout.global(part, "weight"), self.spec.dim);
        match self.spec.learned_positions {
            Some(_) => Ok(Some((rows(Global::Positions)?, rows(Global::TokenTypes)?))),
            None => Ok(None),
        }
    }

    /// The first `layers` blocks and all around them, with `rows` rows of the token table.
    pub fn list(&self, layers: usize, rows: usize) -> Result<Vec<Tensor>> {
        let target = self.target();
        let mut all = vec![self.table(&target, Global::Tokens, self.spec.vocab, rows)?];
        if let Some((positions, types)) = self.table_rows()? {
            all.push(self.table(&target, Global::Positions, positions, positions)?);
            all.push(self.table(&target, Global::TokenTypes, types, types)?);
        }
        let post = self.spec.placement == NormPlacement::Post;
        let norm = if post { Global::EmbeddingNorm } else { Global::FinalNorm };
        if post {
            self.norm(&mut all, &target, self.spec.dim, |l, kind| l.global(norm, kind))?;
        }
        for i in 0..layers {
            self.block(&mut all, &target, i)?;
        }
        if !post {
            self.norm(&mut all, &target, self.spec.dim, |l, kind| l.global(norm, kind))?;
        }
        Ok(all)
    }

    fn table(&self, target: &Layout, part: Global, count: usize, rows: usize) -> Result<Tensor> {
        let name = self.layout.global(part, "weight");
        let raw = self.files.raw_of(&name, &[count, self.spec.dim])?;
        let stored = Rows { name, raw, first: 0, count, order: Order::AsIs };
        Ok(Tensor {
            name: target.global(part, "weight"),
            shape: vec![rows, self.spec.dim],
            values: Values::Stored(vec![stored]),
        })
    }

    fn norm(
        &self,
        all: &mut Vec<Tensor>,
        target: &Layout,
        width: usize,
        name: impl Fn(&Layout, &str) -> String,
    ) -> Result<()> {
        let offset = self.layout.norm_offset - target.norm_offset;
        let mut weight = self.files.values(&name(self.layout, "weight"), &[width])?;
        weight.iter_mut().for_each(|w| *w += offset);
        all.push(Tensor::given(&name(target, "weight"), vec![width], weight));
        if self.spec.norm == NormKind::Layer {
            let bias = self.files.values(&name(self.layout, "bias"), &[width])?;
            all.push(Tensor::given(&name(target, "bias"), vec![width], bias));
        }
        Ok(())
    }

    fn block(&self, all: &mut Vec<Tensor>, target: &Layout, i: usize) -> Result<()> {
        let (spec, place) = (self.spec, self.spec.placement);
        for (part, width) in self.layout.norms(spec) {
            self.norm(all, target, width, |layout, kind| layout.name(i, part, place, kind))?;
        }
        let groups: [&[Part]; 4] = [
            &[Part::Q, Part::K, Part::V, Part::Qkv],
            &[Part::Out],
            &[Part::Gate, Part::Up, Part::GateUp],
            &[Part::Down],
        ];
        for group in groups {
            let of = |layout: &Layout| -> Vec<(Part, usize, usize, bool)> {
                layout.linears(spec).into_iter().filter(|l| group.contains(&l.0)).collect()
            };
            let (mut stored, mut biases) = (Vec::new(), Vec::new());
            for (part, input, count, bias) in of(self.layout) {
                let order = match part {
                    Part::Q | Part::K if self.layout.interleaved => {
                        Order::Interleaved(spec.head_dim)
                    }
                    _ => Order::AsIs,
                };
                let name = self.layout.name(i, part, place, "weight");
                let raw = self.files.raw_of(&name, &[count, input])?;
                stored.push(Rows { name, raw, first: 0, count, order });
                if bias {
                    let name = self.layout.name(i, part, place, "bias");
                    let values = self.files.values(&name, &[count])?;
                    biases.extend((0..count).map(|r| values[order.stored(r)]));
                }
            }
            let mut first = 0;
            for (part, input, count, bias) in of(target) {
                let rows = between(&stored, first, count);
                all.push(Tensor {
                    name: target.name(i, part, place, "weight"),
                    shape: vec![count, input],
                    values: Values::Stored(rows),
                });
                if bias {
                    let name = target.name(i, part, place, "bias");
                    let values = biases[first..first + count].to_vec();
                    all.push(Tensor::given(&name, vec![count], values));
                }
                first += count;
            }
        }
        Ok(())
    }
}

/// The rows `first .. first + count` of matrices that lie one below the other.
fn between(stored: &[Rows], first: usize, count: usize) -> Vec<Rows> {
    let (mut found, mut start) = (Vec::new(), 0);
    for rows in stored {
        let from = first.max(start);
        let to = (first + count).min(start + rows.count);
        if from < to {
            found.push(Rows { first: rows.first + from - start, count: to - from, ..rows.clone() });
        }
        start += rows.count;
    }
    found
}
