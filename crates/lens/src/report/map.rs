//! The report's part on embeddings: a map of real and synthetic responses.

use super::Training;
use crate::{Error, Progress};
use lens_core::pairing::synthetic_per_side;
use lens_core::source::lens::PretrainedVae;
use lens_core::source::{DrawOptions, SeedPairs, Source, fit_rival};
use lens_core::synthesis::SynthesisSettings;
use lens_core::{Rows, Threads};
use lens_report::text::{percent, thousands};
use lens_report::tsne::{TsneSettings, tsne};
use lens_report::{Block, Chart, ChartKind, PointClass, Scatter, Section, Shape};

/// Most seed pairs on the map: with one synthetic response a side, 4,000 points.
const MOST_PAIRS: usize = 1000;
/// Most values of the points together (64 MB), so that wide embeddings do not fill the memory.
const MOST_VALUES: usize = 16 << 20;

/// The map, and how synthesis went.
pub(super) fn section(training: &Training<'_>, progress: &dyn Progress) -> Result<Section, Error> {
    let (outcome, pairs) = (training.outcome, training.finished.pairs);
    let method = &training.finished.method.settings;
    let d = pairs.dim();
    let most = MOST_PAIRS.min(MOST_VALUES / (4 * d.max(1))).max(1);
    let step = pairs.len().div_ceil(most).max(1);
    let rows: Vec<usize> = (0..pairs.len()).step_by(step).collect();
    let some = pairs.select(&rows);
    let n = some.len();

    // Both real sides, then both synthetic ones, all standardised.
    let sides = if outcome.augmented.is_some() { 4 } else { 2 };
    let mut points = vec![0.0f32; sides * n * d];
    let standardiser = &outcome.none.model.standardiser;
    for (i, row) in points[..2 * n * d].chunks_exact_mut(d).enumerate() {
        let side = if i < n { &some.chosen } else { &some.rejected };
        side.read(i % n, row);
        standardiser.apply(row);
    }
    if let Some(a) = &outcome.augmented {
        let threads = Threads::available();
        let drawing = SynthesisSettings { memory_mb: 0, ..method.synthesis.clone() };
        let seeds = SeedPairs { pairs, standardiser, folds: &outcome.folds };
        let source: Box<dyn Source + '_> = match &a.vae {
            Some((vae, _)) => Box::new(PretrainedVae(vae)),
            None => match fit_rival(method.source, &method.rivals, seeds, threads)? {
                Some(rival) => rival,
                None => return Err(Error::Refused("the VAE is gone".to_owned())),
            },
        };
        let wanted = DrawOptions {
            per_side: synthetic_per_side(method.augment),
            synthesis: &drawing,
            seed: method.seed,
            threads,
        };
        let synthetic = source.synthesise(seeds, wanted)?;
        for (at, &pair) in rows.iter().enumerate() {
            let [chosen, rejected] = synthetic.embeddings(pair, threads);
            // Not always the first, which is the most likely of its siblings.
            let copy = at % wanted.per_side * d;
            let places = [(2 * n + at) * d, (3 * n + at) * d];
            for (place, side) in places.into_iter().zip([chosen, rejected]) {
                points[place..place + d].copy_from_slice(&side[copy..copy + d]);
            }
        }
    }
    let settings = TsneSettings { seed: method.seed, ..TsneSettings::default() };
    let places = tsne(&points, d, &settings, progress)?;
    let class = |name: &str, side: usize, shape, colour| PointClass {
        name: name.into(),
        points: places[side * n..(side + 1) * n].iter().map(|p| p.map(f64::from)).collect(),
        shape,
        colour,
    };
    // Synthetic ones first, for they are never to hide a real one.
    let mut classes = Vec::new();
    if sides == 4 {
        classes.push(class("synthetic rejected", 3, Shape::Cross, 1));
        classes.push(class("synthetic chosen", 2, Shape::Plus, 0));
    }
    classes.push(class("real rejected", 1, Shape::Triangle, 1));
    classes.push(class("real chosen", 0, Shape::Circle, 0));
    let mut note = format!(
        "A map by t-SNE: neighbours in the space of the embeddings are neighbours here; distances \
         between groups mean little. {} of {} training pairs",
        thousands(n as u64),
        thousands(pairs.len() as u64)
    );
    note += if sides == 4 { ", with one synthetic response for each real one." } else { "." };
    let mut blocks = Vec::new();
    let order = outcome.augmented.as_ref().and_then(|a| a.order.as_ref());
    if let Some(order) = order {
        blocks.push(Block::Paragraph(format!(
                "A head that was trained on neither orders {} of the synthetic pairs as their seeds \
                 are labelled, and {} of the seeds themselves. A synthetic response moves the reward \
                 by {:.2} on average (95% quantile {:.2}); the median margin of a seed pair is {:.2}.",
                percent(order.synthetic_kept),
                percent(order.seeds_kept),
                order.drift_mean,
                order.drift_p95,
                order.seed_margin_median
            )));
    }
    let heading = if sides == 4 { "Real and synthetic responses" } else { "Responses" };
    blocks.push(Block::Chart(Chart {
        title: "Where embeddings lie".into(),
        note,
        kind: ChartKind::Scatter(Scatter { classes, ..Scatter::default() }),
    }));
    Ok(Section { id: "embeddings".into(), heading: heading.into(), blocks })
}
