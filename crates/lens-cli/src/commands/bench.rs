//! `lens bench`: how fast this machine is, and how near that is to what it could be.

use crate::args::{Bench, BenchArgs, BenchEncodeArgs};
use crate::embedding::{find_model, here_only, note_truncated};
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::rng::{Purpose, Stream};
use lens_core::{Content, Exchange, Progress};
use lens_data::read_pairs_with;
use lens_encoder::{EncodeStats, Encoded, Encoder, EncoderOptions, bench::matmul_gflops};
use serde::Serialize;
use std::time::Instant;

/// Words of made-up texts, and how many make a prompt and a response.
const WORDS: &[&str] = &[
    "the", "a", "of", "and", "to", "in", "that", "it", "is", "was", "for", "on", "with", "as",
    "house", "river", "answer", "question", "small", "green", "quickly", "between", "number",
    "letter", "machine", "because", "people", "never", "always", "write", "explain", "simple",
    "reason", "water", "music", "history", "seven", "morning", "careful", "example",
];
const PROMPT_WORDS: usize = 100;
const RESPONSE_WORDS: usize = 50;

/// What was measured. MB are 10^6 bytes.
#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    threads: usize,
    /// Texts embedded, over all repeats, as all counts here.
    texts: usize,
    /// Texts that were too long and were cut; these no longer begin alike.
    truncated: usize,
    /// Tokens of the texts.
    tokens: u64,
    /// Tokens that went through the model.
    computed: u64,
    tokens_per_s: f64,
    computed_tokens_per_s: f64,
    texts_per_s: f64,
    /// Share of the tokens that were not computed because texts begin alike or are equal.
    prompt_tokens_saved: f64,
    seconds: f64,
    /// Opening the model and loading its weights, without the warm-up.
    load_seconds: f64,
    /// The most memory that the process has held; where the system tells.
    peak_mb: Option<f64>,
    weights_mb: f64,
    matmul_gflops: f64,
    /// Operations of the blocks' matrices in the forward pass, as a share of `matmul_gflops`. The
    /// deepest block is counted as if it were computed for every token.
    matmul_share: f64,
}

/// What is embedded.
enum Work {
    Exchanges(Vec<Exchange>),
    Ids(Vec<Vec<u32>>),
}

/// Runs the command.
pub fn run(args: &BenchArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let Bench::Encode(args) = &args.what;
    here_only(settings)?;
    let path = find_model(&settings.model, settings, reporter)?;
    let options = EncoderOptions { cache_dir: None, ..settings.encoder()? };
    let start = Instant::now();
    let encoder = Encoder::open(&path, &options)?;
    let opened = start.elapsed();
    let weights = encoder.memory_estimate().weights;
    let (work, warm_up) = work(args, settings, &encoder, reporter)?;
    let start = Instant::now();
    encoder.load(reporter)?;
    let load_seconds = (opened + start.elapsed()).as_secs_f64();
    warm_up.encode(&encoder, reporter)?;

    let before = encoder.stats();
    let start = Instant::now();
    let mut encoded = Vec::new();
    for _ in 0..args.repeat {
        encoded = work.encode(&encoder, reporter)?;
    }
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    let peak_mb = peak_bytes().map(megabytes);
    reporter.go_on()?;
    note_truncated(&encoded, encoder.identity().max_length, reporter);
    let truncated = encoded.iter().filter(|e| e.truncated).count() * args.repeat as usize;
    let spent = since(&before, &encoder.stats());
    let gflops = matmul_gflops();
    let operations = 2.0 * encoder.weights_used() as f64 * spent.computed as f64;
    let figures = Figures {
        model: settings.model.clone(),
        threads: rayon::current_num_threads(),
        texts: spent.texts,
        truncated,
        tokens: spent.tokens,
        computed: spent.computed,
        tokens_per_s: spent.tokens as f64 / seconds,
        computed_tokens_per_s: spent.computed as f64 / seconds,
        texts_per_s: spent.texts as f64 / seconds,
        prompt_tokens_saved: 1.0 - spent.computed as f64 / spent.tokens.max(1) as f64,
        seconds,
        load_seconds,
        peak_mb,
        weights_mb: megabytes(weights),
        matmul_gflops: gflops,
        matmul_share: operations / spent.forward_seconds.max(1e-9) / (gflops * 1e9),
    };
    show(&figures, settings)
}

fn show(f: &Figures, settings: &Settings) -> Result<(), CliError> {
    if settings.json {
        return output::json(f);
    }
    let n = |x: f64| output::thousands(x.round() as u64);
    let peak = f.peak_mb.map_or("unknown".to_owned(), |mb| format!("{} MB", n(mb)));
    output::line(&output::aligned(&[
        ("model".into(), format!("{}, loaded in {:.2} s", f.model, f.load_seconds)),
        ("texts".into(), format!("{} in {:.2} s ({:.1}/s)", f.texts, f.seconds, f.texts_per_s)),
        (
            "tokens".into(),
            format!("{} ({} tokens/s)", output::thousands(f.tokens), n(f.tokens_per_s)),
        ),
        (
            "computed".into(),
            format!(
                "{} ({} tokens/s); {} saved",
                output::thousands(f.computed),
                n(f.computed_tokens_per_s),
                output::percent(f.prompt_tokens_saved)
            ),
        ),
        ("memory".into(), format!("{} MB of weights, {peak} at most", n(f.weights_mb))),
        (
            "matmul".into(),
            format!(
                "{:.1} GFLOPS on {} threads, of which the forward pass reaches {}",
                f.matmul_gflops,
                f.threads,
                output::percent(f.matmul_share)
            ),
        ),
    ]))
}

/// What to embed, and a little of it to warm up with.
fn work(
    args: &BenchEncodeArgs,
    settings: &Settings,
    encoder: &Encoder,
    reporter: &Reporter,
) -> Result<(Work, Work), CliError> {
    if let Some(n) = args.best_of {
        let (prompt, response) = (args.prompt_tokens as usize, args.response_tokens as usize);
        let most = encoder.identity().max_length;
        if prompt.saturating_add(response) > most {
            return Err(CliError::Settings {
                origin: "--prompt-tokens and --response-tokens".to_owned(),
                detail: format!("are together above the {most} tokens of a text"),
            });
        }
        let all = best_of(n as usize, prompt, response, encoder.spec().vocab);
        let warm_up = Work::Ids(all.iter().take(2).cloned().collect());
        return Ok((Work::Ids(all), warm_up));
    }
    let n = args.n_pairs as usize;
    let all: Vec<Exchange> = match &args.pairs {
        None => (0..n as u64).flat_map(made_up).collect(),
        Some(file) => {
            let pairs = read_pairs_with(file, &settings.reading(), reporter)?.pairs;
            let first = pairs.iter().take(n).map(|row| &row.value);
            first.flat_map(|p| [p.chosen_exchange(), p.rejected_exchange()]).collect()
        }
    };
    let warm_up = Work::Exchanges(all.iter().take(2).cloned().collect());
    Ok((Work::Exchanges(all), warm_up))
}

impl Work {
    fn encode(&self, encoder: &Encoder, progress: &dyn Progress) -> Result<Vec<Encoded>, CliError> {
        Ok(match self {
            Work::Exchanges(all) => encoder.encode_exchanges(all, progress)?,
            Work::Ids(all) => encoder.encode_ids(all, progress)?,
        })
    }
}

/// Both sides of made-up pair `index`.
fn made_up(index: u64) -> [Exchange; 2] {
    let mut stream = Stream::new(0, Purpose::Benchmark, index);
    let mut text = |words: usize| {
        let words: Vec<&str> = (0..words).map(|_| WORDS[stream.below(WORDS.len())]).collect();
        Content::Text(words.join(" "))
    };
    let prompt = text(PROMPT_WORDS);
    [0, 1].map(|_| Exchange { prompt: prompt.clone(), response: text(RESPONSE_WORDS) })
}

/// `n` lists of ids that begin with the same prompt.
fn best_of(n: usize, prompt: usize, response: usize, vocab: usize) -> Vec<Vec<u32>> {
    let mut stream = Stream::new(0, Purpose::Benchmark, 0);
    let mut ids = |len: usize| (0..len).map(|_| stream.below(vocab) as u32).collect::<Vec<u32>>();
    let prompt = ids(prompt);
    (0..n).map(|_| [prompt.clone(), ids(response)].concat()).collect()
}

/// What came between two readings.
fn since(before: &EncodeStats, after: &EncodeStats) -> EncodeStats {
    EncodeStats {
        texts: after.texts - before.texts,
        tokens: after.tokens - before.tokens,
        computed: after.computed - before.computed,
        forward_seconds: after.forward_seconds - before.forward_seconds,
        ..EncodeStats::default()
    }
}

/// The most memory that this process has held.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
