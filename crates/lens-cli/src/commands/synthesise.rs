//! `lens synthesise`: the synthetic responses that training draws and never decodes, as embeddings
//! to look at or to train something else on.

use crate::args::SynthesiseArgs;
use crate::commands::embed::check_output;
use crate::commands::train::{load, note_equal};
use crate::embedding::check_arrays;
use crate::error::CliError;
use crate::output::{self, thousands};
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::head::folds::Folds;
use lens_core::pairing::synthetic_per_side;
use lens_core::source::lens::Latent;
use lens_core::source::{Seeds, Source as _, Synthetic, Wanted};
use lens_core::synthesis::SynthesisSettings;
use lens_core::vae::Vae;
use lens_core::{MethodSettings, Progress, Standardiser, Threads};
use lens_data::bundle::Bundle;
use lens_data::store::{keys, synthetic_metadata};
use lens_data::{ArrayWriter, StoredPairs, file_names};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{channel, sync_channel};

/// Both sides, in the order in which the file has them.
const SIDES: [&str; 2] = [keys::CHOSEN, keys::REJECTED];
/// About how much is computed, and then written, at a time.
const BLOCK_BYTES: usize = 4 << 20;

/// The settings of the method that the reward model was trained with.
pub fn base(args: &SynthesiseArgs) -> Result<MethodSettings, CliError> {
    Ok(Bundle::read(&args.bundle)?.manifest.method)
}

/// Runs the command.
pub fn run(
    args: &SynthesiseArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(), CliError> {
    check_target(args, settings)?;
    let bundle = Bundle::read(&args.bundle)?;
    let name = args.bundle.display();
    let vae = bundle.vae.as_ref().ok_or_else(|| {
        CliError::Refused(format!(
            "{name}: has no VAE to synthesise with: it was trained with augment = 1 (train one with \
             --augment 2 or more)"
        ))
    })?;
    let per_side = synthetic_per_side(settings.augment.factor());
    if per_side == 0 {
        return Err(CliError::Refused(
            "augment = 1 is no synthesis: give --augment 2 or more".to_owned(),
        ));
    }
    let loaded = load(&args.arrays, settings, reporter)?;
    check_arrays(&bundle, loaded.encoder.as_ref(), &args.arrays[0], reporter)?;
    note_equal(&loaded, reporter);

    let start = std::time::Instant::now();
    let standardiser = &bundle.model.standardiser;
    // None is kept: each block draws its own, whatever their number.
    let drawing = SynthesisSettings { memory_mb: 0, ..settings.synthesis.clone() };
    let threads = Threads::available();
    if args.codes && !drawing.is_plain() {
        return Err(CliError::Refused(
            "--codes writes what plain synthesis draws, and these settings ask for more (decoding, \
             around, noise or gate of `synthesis`): write embeddings, without --codes"
                .to_owned(),
        ));
    }
    let (pairs, seed) = (&loaded.pairs, settings.seed);
    let folds = Folds::assign(&pairs.prompts, settings.head.folds, seed);
    let latent = Latent(vae);
    let wanted = Wanted { per_side, synthesis: &drawing, seed, threads };
    let drawn = latent.synthesise(Seeds { pairs, standardiser, folds: &folds }, wanted)?;
    let decoder = (!args.codes).then_some((vae, standardiser));
    let source = Source { drawn, pairs: pairs.len(), decoder, threads };
    let bytes = write(args, settings, &loaded, &source, reporter)?;
    let seconds = start.elapsed().as_secs_f64();

    let (rows, width) = (source.rows(), source.width());
    let (responses, megabytes) = (2 * rows, bytes as f64 / 1e6);
    let rate = megabytes / seconds.max(1e-9);
    if settings.json {
        return output::json(&json!({
            "pairs": loaded.pairs.len(), "left_out": loaded.report.left_out_total(), "per_side": per_side,
            "responses": responses, "what": source.what(), "augment": settings.augment.factor(),
            "seed": settings.seed, "output": args.output, "bytes": bytes,
            "tensors": {"chosen": [rows, width], "rejected": [rows, width]},
            "seconds": seconds, "mb_per_s": rate,
        }));
    }
    output::line(&output::aligned(&[
        ("pairs".into(), format!("{}, {per_side} synthetic responses a side", loaded.pairs.len())),
        ("tensors".into(), format!("chosen [{rows}, {width}], rejected [{rows}, {width}]")),
        (
            "written".into(),
            format!(
                "{} synthetic responses, {megabytes:.1} MB, {seconds:.1} s, {rate:.0} MB/s",
                thousands(responses as u64)
            ),
        ),
        ("file".into(), args.output.display().to_string()),
    ]))
}

/// Whether the file may be written: asked before the work.
fn check_target(args: &SynthesiseArgs, settings: &Settings) -> Result<(), CliError> {
    for file in &args.arrays {
        check_output(file, &args.output)?;
    }
    if !settings.overwrite && args.output.is_file() {
        return Err(CliError::Refused(format!(
            "{}: exists already; choose another name with -o, or replace it with --overwrite",
            args.output.display()
        )));
    }
    Ok(())
}

/// Where the rows of the file come from, block after block.
struct Source<'a> {
    drawn: Synthetic<'a>,
    /// Seed pairs.
    pairs: usize,
    /// What makes embeddings of codes; none where the codes themselves are wanted.
    decoder: Option<(&'a Vae, &'a Standardiser)>,
    threads: Threads,
}

/// Writes the rows of one seed pair: of its chosen side, of the rejected one.
type WritePair<'a> = dyn Fn(usize, &mut [f32], &mut [f32]) + Sync + 'a;

impl Source<'_> {
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

    fn what(&self) -> &'static str {
        if self.decoder.is_some() { "embeddings" } else { "codes" }
    }

    /// Blocks of seed pairs.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
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
    args: &SynthesiseArgs,
    settings: &Settings,
    loaded: &StoredPairs,
    source: &Source<'_>,
    reporter: &Reporter,
) -> Result<u64, CliError> {
    let (rows, width) = (source.rows(), source.width());
    let per_side = source.drawn.per_side();
    let integers = [(keys::PAIR, rows), (keys::COPY, rows), (keys::PROMPT, rows)];
    let floats = SIDES.map(|side| (side, [rows, width]));
    let metadata = metadata(args, settings, loaded, source)?;
    let mut file = ArrayWriter::create(&args.output, &floats, &integers, &metadata)?;
    let mut write_integers = |name, of_row: &dyn Fn(usize, usize) -> i64| {
        source.blocks().try_for_each(|block| {
            let each = block.flat_map(|i| (0..per_side).map(move |copy| (i, copy)));
            file.integers(name, &each.map(|(i, copy)| of_row(i, copy)).collect::<Vec<i64>>())
        })
    };
    write_integers(keys::COPY, &|_, copy| copy as i64 + 1)?;
    write_integers(keys::PAIR, &|i, _| loaded.rows[i] as i64)?;
    write_integers(keys::PROMPT, &|i, _| i64::from(loaded.pairs.prompts[i]))?;

    reporter.begin("synthesise", 2 * rows as u64, "responses");
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
        let computed = rayon::scope(move |_| -> Result<(), CliError> {
            for (side, name) in SIDES.into_iter().enumerate() {
                for pairs in source.blocks() {
                    reporter.go_on()?;
                    let count = pairs.len() * per_side;
                    let mut block = to_fill.try_recv().unwrap_or_default();
                    source.fill(side, pairs, &mut block);
                    if full.send((name, block)).is_err() {
                        // The writer has ended early, and says why.
                        return Ok(());
                    }
                    reporter.advance(count as u64);
                }
            }
            Ok(())
        });
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        computed?;
        Ok::<_, CliError>(written?)
    })?;
    reporter.go_on()?;
    let bytes = file.finish()?;
    reporter.end();
    Ok(bytes)
}

fn metadata(
    args: &SynthesiseArgs,
    settings: &Settings,
    loaded: &StoredPairs,
    source: &Source<'_>,
) -> Result<BTreeMap<String, String>, CliError> {
    let SynthesisSettings {
        noise_variance, candidates, origin, noise, decoding, around, gate, ..
    } = &settings.synthesis;
    let synthetic = json!({
        "what": source.what(), "per_side": source.drawn.per_side(), "augment": settings.augment.factor(),
        "seed": settings.seed, "noise_variance": noise_variance, "candidates": candidates,
        "origin": origin, "noise": noise, "decoding": decoding, "around": around, "gate": gate,
        "pairs": file_names(&args.arrays), "pairs_fingerprint": loaded.fingerprint,
    });
    // Decoded they are embeddings of that encoder, and can be scored by what was trained on it.
    let encoder = loaded.encoder.as_ref().filter(|_| source.decoder.is_some());
    Ok(synthetic_metadata(&args.output, &synthetic, encoder)?)
}
