//! The comparisons of a logistic head, real and synthetic, as differences of two embeddings.

use crate::embedded::{EmbeddedPairs, Label};
use crate::error::CoreError;
use crate::head::data::Augmentation;
use crate::head::settings::HeadSettings;
use crate::linalg::Threads;
use crate::pairing::{Pairing, check_factor, combinations, synthetic_per_side};
use crate::standardise::Standardiser;

/// Every comparison to train on, as the difference of its two embeddings.
pub(super) struct Differences {
    /// [N, d].
    pub rows: Vec<f32>,
    pub labels: Vec<Label>,
    /// The seed pair of each.
    pub pair: Vec<usize>,
    /// The comparison of each seed pair's two real responses.
    pub original: Vec<usize>,
}

impl Differences {
    pub(super) fn new(
        pairs: &EmbeddedPairs,
        standardiser: &Standardiser,
        augmentation: Option<&Augmentation<'_>>,
        settings: &HeadSettings,
        seed: u64,
        threads: Threads,
    ) -> Result<Self, CoreError> {
        let (n, d) = (pairs.len(), pairs.dim());
        let mut all = Differences {
            rows: Vec::new(),
            labels: Vec::new(),
            pair: Vec::new(),
            original: Vec::with_capacity(n),
        };
        let (factor, k) = match augmentation {
            None => (1, 0),
            Some(a) => {
                check_factor(a.factor)?;
                if a.pairing == Pairing::Across {
                    return Err(CoreError::Setting {
                        name: "pairing",
                        value: "across".to_owned(),
                        expected: "`within` with head.kind = \"logistic\"",
                    });
                }
                (a.factor, synthetic_per_side(a.factor))
            }
        };
        if let Some(a) = augmentation
            && a.synthetic.per_side() != k
        {
            let (expected, found) = ((k, d), (a.synthetic.per_side(), d));
            return Err(CoreError::Shape { what: "synthetic responses", expected, found });
        }
        all.rows.reserve(n * factor * d);
        let mut real = vec![0.0f32; 2 * d];
        for i in 0..n {
            pairs.gather(standardiser, &[i], &mut real, Threads::ONE);
            let (chosen, rejected) = real.split_at(d);
            let label = pairs.labels[i].with_scaled_margin(settings.margin_weight as f32);
            all.original.push(all.labels.len());
            let Some(a) = augmentation else {
                all.push(i, chosen, rejected, label);
                continue;
            };
            let [more_chosen, more_rejected] = a.synthetic.embeddings(i, threads);
            let side = |own: &[f32], more: &[f32], copy: u16| match usize::from(copy) {
                0 => own.to_vec(),
                copy => more[(copy - 1) * d..copy * d].to_vec(),
            };
            for c in combinations(factor, seed, i) {
                if c.chosen == 0 && c.rejected == 0 {
                    all.original[i] = all.labels.len();
                }
                let one = side(chosen, &more_chosen, c.chosen);
                let other = side(rejected, &more_rejected, c.rejected);
                all.push(i, &one, &other, label);
            }
        }
        Ok(all)
    }

    fn push(&mut self, pair: usize, chosen: &[f32], rejected: &[f32], label: Label) {
        self.rows.extend(chosen.iter().zip(rejected).map(|(a, b)| a - b));
        self.labels.push(label);
        self.pair.push(pair);
    }
}
