//! `lens bench encode`: texts to hidden states.

use super::peak_mb;
use crate::args::BenchEncodeArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::pull;
use lens_core::rng::{Purpose, Stream};
use lens_core::{Content, Exchange, PreferencePair};
use lens_data::read_pairs_with;
use lens_encoder::{EncodeStats, Encoder, EncoderOptions};
use lens_report::text::{percent, thousands};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Words of made-up text.
const WORDS: [&str; 24] = [
    "the", "house", "river", "answer", "because", "people", "often", "small", "change", "water",
    "number", "could", "between", "family", "write", "never", "under", "story", "light", "music",
    "country", "question", "morning", "together",
];

/// What is embedded.
enum Work {
    Exchanges(Vec<Exchange>),
    Ids(Vec<Vec<u32>>),
}

/// Runs the command.
pub fn run(
    args: &BenchEncodeArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let model = settings.model()?;
    let path = pull(&model.model, &model.runtime, reporter)?.path;
    // Nothing is remembered: every pass computes everything.
    let options = EncoderOptions { cache_dir: None, ..model.encoder_options()? };
    let start = Instant::now();
    let encoder = Encoder::open(&path, &options)?;
    encoder.load(reporter)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let work = work(args, &encoder, settings, reporter)?;
    let gflops = lens_encoder::bench::matmul_gflops();

    // Buffers grow and pages are touched before the clock starts.
    pass(&encoder, &work, Some(2), reporter)?;
    let mut best: Option<(f64, EncodeStats)> = None;
    for _ in 0..args.repeat {
        let (before, start) = (encoder.stats(), Instant::now());
        pass(&encoder, &work, None, reporter)?;
        let seconds = start.elapsed().as_secs_f64();
        let took = since(&encoder.stats(), &before);
        if best.is_none_or(|(fastest, _)| seconds < fastest) {
            best = Some((seconds, took));
        }
    }
    let Some((seconds, took)) = best else { return Ok(()) };

    let layers = encoder.views().iter().map(|v| v.layer).max().unwrap_or(0);
    let operations = 2.0 * encoder.spec().elements(layers) as f64 * took.computed as f64;
    let reached = operations / took.forward_seconds / 1e9;
    let of = |n: u64| n as f64 / seconds;
    let texts = took.texts as u64;
    let saved = 1.0 - took.computed as f64 / took.tokens as f64;
    let memory = encoder.memory_estimate();
    let peak = peak_mb();
    let precision = encoder.precision()?;
    if settings.json {
        return output::json(&json!({
            "model": encoder.identity().model_file, "architecture": encoder.spec().architecture,
            "weights": precision, "texts": texts, "tokens": took.tokens,
            "computed": took.computed, "seconds": seconds, "load_seconds": load_seconds,
            "tokens_per_s": of(took.tokens), "computed_tokens_per_s": of(took.computed),
            "texts_per_s": of(texts), "prompt_tokens_saved": saved,
            "peak_mb": peak, "weights_mb": memory.weights as f64 / 1e6,
            "matmul_gflops": gflops, "reached_gflops": reached,
            "matmul_share": reached / gflops,
        }));
    }
    let megabytes = |mb: f64| format!("{} MB", thousands(mb as u64));
    let peak = peak.map_or("unknown".to_owned(), |mb| megabytes(mb as f64));
    output::line(&output::aligned(&[
        ("model".into(), format!("{}, weights {precision}", encoder.identity().model_file)),
        (
            "texts".into(),
            format!(
                "{texts} in {seconds:.2} s ({load_seconds:.1} s to load): {:.1} a second",
                of(texts)
            ),
        ),
        (
            "tokens".into(),
            format!("{}: {} a second", thousands(took.tokens), thousands(of(took.tokens) as u64)),
        ),
        (
            "computed".into(),
            format!(
                "{}: {} a second; {} saved where texts begin alike",
                thousands(took.computed),
                thousands(of(took.computed) as u64),
                percent(saved)
            ),
        ),
        (
            "matrix products".into(),
            format!(
                "{reached:.0} of {gflops:.0} GFLOP/s that this machine reaches ({})",
                percent(reached / gflops)
            ),
        ),
        (
            "memory".into(),
            format!("{peak} at most, of it {} weights", megabytes(memory.weights as f64 / 1e6)),
        ),
    ]))
}

/// The texts: of a file, made up, or one prompt's responses.
fn work(
    args: &BenchEncodeArgs,
    encoder: &Encoder,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Work, CliError> {
    let mut stream = Stream::new(settings.seed, Purpose::Benchmark, 0);
    if let Some(n) = args.best_of {
        let vocab = encoder.spec().vocab;
        let mut draw = |n: u32| (0..n).map(|_| stream.below(vocab) as u32).collect::<Vec<u32>>();
        let prompt = draw(args.prompt_tokens);
        let one = |_| [prompt.clone(), draw(args.response_tokens)].concat();
        return Ok(Work::Ids((0..n).map(one).collect()));
    }
    let n = args.n_pairs as usize;
    let pairs = match &args.pairs {
        Some(path) => real(path, n, settings, reporter)?,
        None => (0..n).map(|_| made_up(&mut stream)).collect(),
    };
    let sides = pairs.iter().flat_map(|p| [p.chosen_exchange(), p.rejected_exchange()]);
    Ok(Work::Exchanges(sides.collect()))
}

fn real(
    path: &Path,
    n: usize,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Vec<PreferencePair>, CliError> {
    let data = read_pairs_with(path, &settings.reading()?, reporter)?;
    if data.pairs.len() < n {
        let found = data.pairs.len();
        let said = format!("{}: {found} pairs, {n} asked", path.display());
        return Err(lens::Error::Refused(said).into());
    }
    Ok(data.pairs.into_iter().take(n).map(|row| row.value).collect())
}

fn made_up(stream: &mut Stream) -> PreferencePair {
    let mut text = |n: usize| {
        let words: Vec<&str> = (0..n).map(|_| WORDS[stream.below(WORDS.len())]).collect();
        words.join(" ")
    };
    PreferencePair {
        prompt: Content::Text(format!("\n\nHuman: {}\n\nAssistant:", text(100))),
        chosen: Content::Text(format!(" {}", text(50))),
        rejected: Content::Text(format!(" {}", text(50))),
        margin: None,
        tie: false,
    }
}

/// Embeds all texts, or the first few.
fn pass(
    encoder: &Encoder,
    work: &Work,
    first: Option<usize>,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let some = |n: usize| first.unwrap_or(n).min(n);
    match work {
        Work::Exchanges(all) => encoder.encode_exchanges(&all[..some(all.len())], reporter)?,
        Work::Ids(all) => encoder.encode_ids(&all[..some(all.len())], reporter)?,
    };
    Ok(())
}

fn since(now: &EncodeStats, before: &EncodeStats) -> EncodeStats {
    EncodeStats {
        texts: now.texts - before.texts,
        tokens: now.tokens - before.tokens,
        computed: now.computed - before.computed,
        forward_seconds: now.forward_seconds - before.forward_seconds,
        ..EncodeStats::default()
    }
}
