//! The forward pass token by token: keys and values stay from call to call.
//!
//! The cache is one region of rows for the prompt and one for each sample, so that any number of
//! samples see the prompt's rows without a copy of them.

use super::attention::{QueryBlock, all_queries};
use super::plan::{Batch, Segment};
use super::{CachedBlock, Model, PassContext, Workspace, gather};
use crate::error::Result;

/// Keys and values of a prompt and of its samples.
pub(crate) struct KvCache {
    /// One for each block: `[capacity, 2 kv_dim]`.
    blocks: Vec<Vec<f32>>,
    /// The prompt, then the samples.
    segments: Vec<Segment>,
    long: bool,
}

/// Bytes of a cache for so many tokens.
pub(crate) fn cache_bytes(spec: &crate::family::ModelSpec, tokens: usize) -> u64 {
    (spec.layers.len() * tokens * 2 * spec.kv_dim() * 4) as u64
}

impl Model {
    /// Computes a prompt, and makes room for `samples` continuations of up to `room` tokens.
    /// Returns the last hidden state at the prompt's end.
    pub fn prefill(
        &self,
        prompt: &[u32],
        samples: usize,
        room: usize,
        ws: &mut Workspace,
    ) -> Result<(KvCache, Vec<f32>)> {
        let kv = 2 * self.spec.kv_dim();
        let capacity = prompt.len() + samples * room;
        let first = Segment { row: 0, len: prompt.len(), pos: 0, parent: None };
        let long = self.spec.long_from().is_some_and(|from| prompt.len() > from);
        let mut cache = KvCache {
            blocks: vec![vec![0.0; capacity * kv]; self.weights.blocks.len()],
            segments: vec![first],
            long,
        };
        let rows: Vec<usize> = (0..prompt.len()).collect();
        let batch = cache.batch();
        let blocks = all_queries(&batch);
        let end = [prompt.len().saturating_sub(1)];
        let state = self.extend(prompt, &rows, &rows, &batch, &blocks, &end, &mut cache, ws)?;
        cache.segments.extend((0..samples).map(|s| Segment {
            row: prompt.len() + s * room,
            len: 0,
            pos: prompt.len(),
            parent: Some(0),
        }));
        Ok((cache, state))
    }

    /// Adds one token to each of some samples; returns their last hidden states, one row each.
    pub fn step(
        &self,
        next: &[(usize, u32)],
        cache: &mut KvCache,
        ws: &mut Workspace,
    ) -> Result<Vec<f32>> {
        let mut rows = Vec::with_capacity(next.len());
        let mut positions = Vec::with_capacity(next.len());
        let mut blocks = Vec::with_capacity(next.len());
        for (row, (sample, _)) in next.iter().enumerate() {
            let segment = sample + 1;
            let s = &mut cache.segments[segment];
            let pos = s.pos + s.len;
            rows.push(s.row + s.len);
            positions.push(pos);
            blocks.push(QueryBlock { row, len: 1, segment, pos });
            s.len += 1;
        }
        let tokens: Vec<u32> = next.iter().map(|(_, token)| *token).collect();
        let batch = cache.batch();
        let all: Vec<usize> = (0..tokens.len()).collect();
        self.extend(&tokens, &rows, &positions, &batch, &blocks, &all, cache, ws)
    }

    /// Runs tokens whose keys and values go to `rows` of the cache; returns the last hidden states
    /// of those numbered `wanted`.
    #[allow(clippy::too_many_arguments)] // Everything that two callers know of their tokens.
    fn extend(
        &self,
        tokens: &[u32],
        rows: &[usize],
        positions: &[usize],
        batch: &Batch,
        queries: &[QueryBlock],
        wanted: &[usize],
        cache: &mut KvCache,
        ws: &mut Workspace,
    ) -> Result<Vec<f32>> {
        let pass = PassContext { batch, positions, ropes: &self.ropes[usize::from(cache.long)] };
        let mut x = self.embed(tokens, positions)?;
        for (i, (block, values)) in self.weights.blocks.iter().zip(&mut cache.blocks).enumerate() {
            let kept = CachedBlock { values, rows };
            self.attend(i, block, &pass, &x, queries, None, Some(kept), ws)?;
            self.finish(block, &mut x, ws)?;
        }
        let mut x = gather(&x, wanted, self.spec.dim);
        self.last_norm(&mut x);
        Ok(x)
    }
}

impl KvCache {
    /// The segments as attention looks at them.
    fn batch(&self) -> Batch {
        Batch { segments: self.segments.clone(), long: self.long, ..Batch::default() }
    }
}
