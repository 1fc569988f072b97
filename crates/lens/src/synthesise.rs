//! The synthetic responses that training draws and never decodes, as embeddings to look at or to train
//! something else on.

use crate::error::stop_if_cancelled;
use crate::models::check_arrays;
use crate::notes;
use crate::options::StoredPairsOptions;
use crate::outputs::{Written, check_new, check_output};
use crate::{Error, Progress};
use lens_core::folds::Folds;
use lens_core::pairing::synthetic_per_side;
use lens_core::source::lens::PretrainedVae;
use lens_core::source::{DrawOptions, SeedPairs, Source as _, Synthetic};
use lens_core::synthesis::SynthesisSettings;
use lens_core::vae::Vae;
use lens_core::{MethodSettings, Standardiser, Threads};
use lens_data::bundle::Bundle;
use lens_data::store::{keys, synthetic_metadata};
use lens_data::{ArrayWriter, StoredPairs, file_names};
use rayon::prelude::*;
use serde::{Serialize, Serializer};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::{channel, sync_channel};
use std::time::Instant;

/// Both sides, in the order in which the file has them.
const SIDES: [&str; 2] = [keys::CHOSEN, keys::REJECTED];
/// About how much is computed, and then written, at a time.
const BLOCK_BYTES: usize = 4 << 20;

/// What [`synthesise()`] is told.
#[derive(Debug, Clone)]
pub struct SynthesiseOptions {
    /// A reward model's folder: its VAE synthesises.
    pub bundle: PathBuf,
    /// The seed pairs, embedded as the reward model embeds.
    pub pairs: StoredPairsOptions,
    /// The safetensors file to write.
    pub output: PathBuf,
    /// The settings of the method; of them the factor, the random seed and the synthesis count.
    /// `None` takes those that the reward model was trained with.
    pub settings: Option<MethodSettings>,
    /// Write latent codes, not embeddings. Defaults to `false`.
    pub codes: bool,
    /// Replace a file that is there. Defaults to `false`.
    pub overwrite: bool,
}

impl SynthesiseOptions {
    /// The defaults, for a reward model, embedded pairs and a file to write.
    pub fn new(
        bundle: impl Into<PathBuf>,
        pairs: StoredPairsOptions,
        output: impl Into<PathBuf>,
    ) -> Self {
        SynthesiseOptions {
            bundle: bundle.into(),
            pairs,
            output: output.into(),
            settings: None,
            codes: false,
            overwrite: false,
        }
    }

    /// Whether the file may be written: asked before the work.
    fn check_output(&self) -> Result<(), Error> {
        for file in &self.pairs.files {
            check_output(&file.into(), &self.output)?;
        }
        check_new(&self.output, self.overwrite, "-o", Written::Arrays)
    }
}

/// What [`synthesise()`] wrote. Serialises to what `lens synthesise --json` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthesiseResult {
    /// Seed pairs.
    pub pairs: usize,
    /// Pairs of the file that were left out, their sides being equal.
    pub left_out: usize,
    /// Synthetic responses a side of each pair.
    pub per_side: usize,
    /// `embeddings` or `codes`.
    pub contents: &'static str,
    /// The augmentation factor.
    pub augment: usize,
    /// The random seed.
    pub seed: u64,
    /// The file.
    pub output: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The shape of each side's table, `[n, d]`.
    pub shape: [usize; 2],
    /// Wall-clock time in seconds.
    pub seconds: f64,
}

impl SynthesiseResult {
    /// Synthetic responses of both sides.
    pub fn responses(&self) -> usize {
        2 * self.shape[0]
    }

    /// Megabytes written a second.
    pub fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds.max(1e-9)
    }
}

impl Serialize for SynthesiseResult {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        json!({
            "pairs": self.pairs, "left_out": self.left_out, "per_side": self.per_side,
            "responses": self.responses(), "what": self.contents, "augment": self.augment,
            "seed": self.seed, "output": self.output, "bytes": self.bytes,
            "tensors": {"chosen": self.shape, "rejected": self.shape},
            "seconds": self.seconds, "mb_per_s": self.mb_per_s(),
        })
        .serialize(to)
    }
}

/// Writes the synthetic responses of stored pairs, each with the row of the pair it was made of.
///
/// # Errors
/// A reward model without a VAE; settings that ask for no synthesis; [`Error::ArraysMismatch`]; what is
/// wrong with the arrays or the output.
pub fn synthesise(
    options: &SynthesiseOptions,
    progress: &dyn Progress,
) -> Result<SynthesiseResult, Error> {
    options.check_output()?;
    let bundle = Bundle::read(&options.bundle)?;
    let settings = options.settings.as_ref().unwrap_or(&bundle.manifest.method);
    let vae = bundle.vae.as_ref().ok_or_else(|| {
        Error::Refused(format!(
            "{}: has no VAE to synthesise with: it was trained with augment = 1 (train one with \
             --augment 2 or more)",
            options.bundle.display()
        ))
    })?;
    let per_side = synthetic_per_side(settings.augment);
    if per_side == 0 {
        return Err(Error::Refused(
            "augment = 1 is no synthesis: give --augment 2 or more".to_owned(),
        ));
    }
    let stored = options.pairs.open(progress)?;
    check_arrays(&bundle, stored.encoder.as_ref(), &options.pairs.files[0], progress)?;
    notes::equal_embeddings(&stored.report, progress);

    let start = Instant::now();
    let standardiser = &bundle.model.standardiser;
    // None is kept: each block draws its own, whatever their number.
    let drawing = SynthesisSettings { memory_mb: 0, ..settings.synthesis.clone() };
    let threads = Threads::available();
    if options.codes && !drawing.is_plain() {
        return Err(Error::Refused(
            "--codes writes what plain synthesis draws, and these settings ask for more (decoding, \
             around, noise or gate of `synthesis`): write embeddings, without --codes"
                .to_owned(),
        ));
    }
    let (pairs, seed) = (&stored.pairs, settings.seed);
    let folds = Folds::assign(&pairs.prompts, settings.head.folds, seed);
    let latent = PretrainedVae(vae);
    let wanted = DrawOptions { per_side, synthesis: &drawing, seed, threads };
    let drawn = latent.synthesise(SeedPairs { pairs, standardiser, folds: &folds }, wanted)?;
    let decoder = (!options.codes).then_some((vae, standardiser));
    let blocks = Blocks { drawn, pairs: pairs.len(), decoder, threads };
    let bytes = write(options, settings, &stored, &blocks, progress)?;
    Ok(SynthesiseResult {
        pairs: pairs.len(),
        left_out: stored.report.left_out_total(),
        per_side,
        contents: blocks.contents(),
        augment: settings.augment,
        seed,
        output: options.output.clone(),
        bytes,
        shape: [blocks.rows(), blocks.width()],
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The rows of the file, which are computed a block at a time.
struct Blocks<'a> {
    drawn: Synthetic<'a>,
    /// Seed pairs.
    pairs: usize,
    /// The decoder of codes into embeddings; none where the codes themselves are written.
    decoder: Option<(&'a Vae, &'a Standardiser)>,
    threads: Threads,
}

/// Writes the rows of one seed pair: of its chosen side, of the rejected one.
type WritePair<'a> = dyn Fn(usize, &mut [f32], &mut [f32]) + Sync + 'a;

impl Blocks<'_> {
    /// Rows of each side.
    fn rows(&self) -> usize {
        self.pairs * self.drawn.per_side()
    }

    fn width(&self) -> usize {
        match (self.decoder, &self.drawn) {
            (None, Synthetic::Codes { codes, .. }) => codes.latent(),
            (Some((vae, _)), _) => vae.shape().dim,
            (None, Synthetic::Embeddings(embeddings)) => embeddings.dim(),
        }
    }

    fn contents(&self) -> &'static str {
        if self.decoder.is_some() { "embeddings" } else { "codes" }
    }

    /// Seed pairs of each block.
    fn of_pairs(&self) -> impl Iterator<Item = Range<usize>> {
        let of_pair = self.drawn.per_side() * self.width() * size_of::<f32>();
        let pairs = (BLOCK_BYTES / of_pair.max(1)).max(1);
        (0..self.pairs).step_by(pairs).map(move |first| first..(first + pairs).min(self.pairs))
    }

    /// The rows of the seed pairs `pairs` on one side.
    fn fill(&self, side: usize, pairs: Range<usize>, rows: &mut Vec<f32>) {
        // Of a pair both sides are drawn, from one stream.
        let both = |size: usize, write: &WritePair<'_>| {
            let mut sides = [(); 2].map(|()| vec![0.0f32; pairs.len() * size]);
            let [chosen, rejected] = &mut sides;
            let sides_of_pair =
                chosen.par_chunks_exact_mut(size).zip(rejected.par_chunks_exact_mut(size));
            pairs
                .clone()
                .into_par_iter()
                .zip(sides_of_pair)
                .with_min_len(8)
                .for_each(|(pair, (chosen, rejected))| write(pair, chosen, rejected));
            let [chosen, rejected] = sides;
            if side == 0 { chosen } else { rejected }
        };
        let per_side = self.drawn.per_side();
        match (&self.drawn, self.decoder) {
            (Synthetic::Codes { codes, .. }, None) => {
                *rows = both(per_side * codes.latent(), &|i, a, b| codes.write(i, a, b));
            }
            (Synthetic::Codes { codes, .. }, Some((vae, _))) => {
                let drawn = both(per_side * codes.latent(), &|i, a, b| codes.write(i, a, b));
                rows.resize(pairs.len() * per_side * vae.shape().dim, 0.0);
                vae.decode_into(&drawn, rows, self.threads);
            }
            (Synthetic::Embeddings(own), _) => {
                *rows = both(per_side * own.dim(), &|i, a, b| own.write(i, a, b));
            }
        }
        if let Some((vae, standardiser)) = self.decoder {
            let each = rows.par_chunks_exact_mut(vae.shape().dim).with_min_len(16);
            each.for_each(|row| standardiser.undo(row));
        }
    }
}

/// Writes the file; returns its size.
fn write(
    options: &SynthesiseOptions,
    settings: &MethodSettings,
    stored: &StoredPairs,
    blocks: &Blocks<'_>,
    progress: &dyn Progress,
) -> Result<u64, Error> {
    let (rows, width) = (blocks.rows(), blocks.width());
    let per_side = blocks.drawn.per_side();
    let integers = [(keys::PAIR, rows), (keys::COPY, rows), (keys::PROMPT, rows)];
    let floats = SIDES.map(|side| (side, [rows, width]));
    let metadata = metadata(options, settings, stored, blocks)?;
    let mut file = ArrayWriter::create(&options.output, &floats, &integers, &metadata)?;
    let mut write_integers = |name, of_row: &dyn Fn(usize, usize) -> i64| {
        blocks.of_pairs().try_for_each(|block| {
            let each = block.flat_map(|i| (0..per_side).map(move |copy| (i, copy)));
            file.integers(name, &each.map(|(i, copy)| of_row(i, copy)).collect::<Vec<i64>>())
        })
    };
    write_integers(keys::COPY, &|_, copy| copy as i64 + 1)?;
    write_integers(keys::PAIR, &|i, _| stored.rows[i] as i64)?;
    write_integers(keys::PROMPT, &|i, _| i64::from(stored.pairs.prompts[i]))?;

    progress.begin("synthesise", 2 * rows as u64, "responses");
    // One block is written while the next is computed; a third waits between the two.
    let (full, to_write) = sync_channel::<(&str, Vec<f32>)>(1);
    let (empty, to_fill) = channel::<Vec<f32>>();
    let file = std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> Result<ArrayWriter, lens_data::Error> {
            for (side, block) in to_write {
                file.floats(side, &block)?;
                // After the last block nobody wants it.
                let _ = empty.send(block);
            }
            Ok(file)
        });
        // Within the pool: from outside, every parallel part would have to wake it. The writer ends
        // when the closure, and with it its end of the channel, is gone.
        let computed = rayon::scope(move |_| -> Result<(), Error> {
            for (side, name) in SIDES.into_iter().enumerate() {
                for pairs in blocks.of_pairs() {
                    stop_if_cancelled(progress)?;
                    let count = pairs.len() * per_side;
                    let mut block = to_fill.try_recv().unwrap_or_default();
                    blocks.fill(side, pairs, &mut block);
                    if full.send((name, block)).is_err() {
                        // The writer has ended early, and says why.
                        return Ok(());
                    }
                    progress.advance(count as u64);
                }
            }
            Ok(())
        });
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        computed?;
        Ok::<_, Error>(written?)
    })?;
    stop_if_cancelled(progress)?;
    let bytes = file.finish()?;
    progress.end();
    Ok(bytes)
}

fn metadata(
    options: &SynthesiseOptions,
    settings: &MethodSettings,
    stored: &StoredPairs,
    blocks: &Blocks<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    let SynthesisSettings {
        noise_variance, candidates, origin, noise, decoding, around, gate, ..
    } = &settings.synthesis;
    let synthetic = json!({
        "what": blocks.contents(), "per_side": blocks.drawn.per_side(), "augment": settings.augment,
        "seed": settings.seed, "noise_variance": noise_variance, "candidates": candidates,
        "origin": origin, "noise": noise, "decoding": decoding, "around": around, "gate": gate,
        "pairs": file_names(&options.pairs.files), "pairs_fingerprint": stored.fingerprint,
    });
    // Decoded they are embeddings of that encoder, and can be scored by what was trained on it.
    let encoder = stored.encoder.as_ref().filter(|_| blocks.decoder.is_some());
    Ok(synthetic_metadata(&options.output, &synthetic, encoder)?)
}
