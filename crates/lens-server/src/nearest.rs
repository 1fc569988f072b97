//! The preference pairs nearest to a response, from which its reward may have been learned.

use crate::failure::Failure;
use crate::memory::Held;
use lens_core::{Content, PreferencePair, Quiet, Standardiser};
use lens_data::{ReadOptions, read_pairs, vet};
use lens_encoder::{Input, TextEncoder};
use serde::Serialize;
use std::path::Path;

/// Preference pairs with the directions of their standardised embeddings.
pub(crate) struct NearestPairs {
    pairs: Vec<PreferencePair>,
    /// Vectors of length 1, shape `[2 n, d]`: those of all chosen responses, then of all rejected
    /// ones.
    directions: Vec<f32>,
    dim: usize,
    /// Bytes of each pair's texts in an answer.
    sizes: Vec<usize>,
}

/// The size of a near pair in an answer beside its texts, in memory and as JSON.
const PAIR_SIZE: usize = 512;

/// A pair of which one side is near to a response.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NearPair<'a> {
    /// The side that is near: `chosen` or `rejected`.
    pub side: &'static str,
    /// Cosine of the standardised embeddings.
    pub cosine: f32,
    /// The pair's prompt.
    pub prompt: &'a Content,
    /// Its chosen response.
    pub chosen: &'a Content,
    /// Its rejected response.
    pub rejected: &'a Content,
}

/// The usable pairs of a file.
pub(crate) fn usable_pairs(file: &Path) -> Result<Vec<PreferencePair>, String> {
    // A pipe can be read once and a server may read it again; nobody may ever write into it.
    let kind = std::fs::metadata(file).map_err(|e| e.to_string())?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err("is neither a file nor a folder".to_owned());
    }
    let set = read_pairs(file, &ReadOptions::default()).map_err(|e| e.to_string())?;
    let pairs: Vec<_> = vet(set).used.into_iter().map(|row| row.value).collect();
    if pairs.is_empty() { Err("no pair of it can be used".to_owned()) } else { Ok(pairs) }
}

impl NearestPairs {
    /// Embeds both sides of every pair.
    pub fn embed(
        pairs: Vec<PreferencePair>,
        encoder: &dyn TextEncoder,
        standardiser: &Standardiser,
    ) -> Result<NearestPairs, String> {
        let n = pairs.len();
        let chosen = pairs.iter().map(PreferencePair::chosen_exchange);
        let all = chosen.chain(pairs.iter().map(PreferencePair::rejected_exchange));
        let inputs: Vec<Input> = all.map(Input::Exchange).collect();
        let encoded = encoder.encode_each(&inputs, &Quiet).map_err(|e| e.to_string())?;
        let (chosen, rejected) = encoded.split_at(n);
        // A pair that the template refuses was not trained on.
        let usable: Vec<bool> =
            chosen.iter().zip(rejected).map(|(a, b)| a.is_ok() && b.is_ok()).collect();
        let dim = encoder.dim();
        let mut directions = Vec::with_capacity(encoded.len() * dim);
        for (index, one) in encoded.iter().enumerate() {
            if let (true, Ok(one)) = (usable[index % n], one) {
                directions.extend(direction(&one.vector, standardiser));
            }
        }
        let pairs =
            pairs.into_iter().zip(usable).filter_map(|(pair, usable)| usable.then_some(pair));
        let pairs: Vec<PreferencePair> = pairs.collect();
        let sizes = pairs.iter().map(written_size).collect::<Result<_, _>>()?;
        Ok(NearestPairs { pairs, directions, dim, sizes })
    }

    /// Multiplications that the search for the nearest to one embedding takes.
    pub fn work(&self) -> usize {
        self.directions.len()
    }

    /// Memory that the search for the nearest to one embedding takes.
    pub fn search_memory(&self) -> usize {
        self.pairs.len().saturating_mul(2 * size_of::<(usize, f32)>())
    }

    /// The `k` responses of pairs nearest to an embedding, the nearest first, charged to `held` with
    /// what they take in an answer.
    ///
    /// # Errors
    /// Those of [`Held::take`].
    pub fn find(
        &self,
        vector: &[f32],
        standardiser: &Standardiser,
        k: usize,
        held: &Held,
    ) -> Result<Vec<NearPair<'_>>, Failure> {
        let own = direction(vector, standardiser);
        let cosine = |row: &[f32]| row.iter().zip(&own).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<(usize, f32)> =
            self.directions.chunks_exact(self.dim).map(cosine).enumerate().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(k);
        let n = self.pairs.len();
        // The answer's text grows by doubling.
        held.take(all.iter().map(|(row, _)| PAIR_SIZE + 2 * self.sizes[row % n]).sum())?;
        let hit = |(row, cosine): (usize, f32)| {
            let pair = &self.pairs[row % n];
            NearPair {
                side: if row < n { "chosen" } else { "rejected" },
                cosine,
                prompt: &pair.prompt,
                chosen: &pair.chosen,
                rejected: &pair.rejected,
            }
        };
        Ok(all.into_iter().map(hit).collect())
    }
}

/// Bytes of a pair's texts as JSON.
fn written_size(pair: &PreferencePair) -> Result<usize, String> {
    /// Counts what is written.
    struct Counted(usize);

    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut counted = Counted(0);
    for content in [&pair.prompt, &pair.chosen, &pair.rejected] {
        serde_json::to_writer(&mut counted, content).map_err(|e| e.to_string())?;
    }
    Ok(counted.0)
}

/// The standardised embedding, scaled to length 1; a vector of length 0 is not scaled.
fn direction(vector: &[f32], standardiser: &Standardiser) -> Vec<f32> {
    let mut row = vector.to_vec();
    standardiser.apply(&mut row);
    let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    row
}
