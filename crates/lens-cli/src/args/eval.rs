//! The command line of `lens eval`.

use super::{KeyArgs, ServerArgs, not_given};
use clap::Args;
use lens_eval::figures::Benchmark;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `lens eval`.
#[derive(Debug, Args, Serialize)]
pub struct EvalArgs {
    /// A reward model's folder
    #[serde(skip)]
    pub bundle: PathBuf,
    /// Files of held-out pairs, of RewardBench 1 or 2, of RM-Bench, or of responses with scores
    /// (best-of-n); or safetensors files of embedded pairs
    #[arg(required = true)]
    #[serde(skip)]
    pub data: Vec<PathBuf>,
    /// What the files are, where that is told wrongly from their rows: auto, pairs, rewardbench,
    /// rewardbench2, rm-bench, best-of-n [default: auto]
    #[arg(long, value_name = "KIND", value_parser = benchmark, default_value = "auto",
        hide_default_value = true)]
    #[serde(skip)]
    pub benchmark: Kind,
    /// Only rows of this subset (of RM-Bench: domain); may be repeated
    #[arg(long, value_name = "NAME")]
    #[serde(skip)]
    pub subset: Vec<String>,
    /// Best of up to N responses [default: as many as the prompt with the fewest has]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    #[serde(skip)]
    pub n: Option<usize>,
    /// How many of the examples ranked worst are shown
    #[arg(long, value_name = "K", default_value_t = 10)]
    #[serde(skip)]
    pub worst: usize,
    /// Write the files of the rewardbench package into this folder: MODEL_outputs.jsonl, MODEL.json
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    pub outputs: Option<PathBuf>,
    /// Write a page with all figures, charts and the worst examples into this HTML file
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub report: Option<PathBuf>,
    /// Replace a report that stands there
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
    /// The language model, where it is not the one that the bundle names
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// A server, where it is not the one that the bundle names.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
    /// Names of the arrays.
    #[command(flatten)]
    #[serde(skip)]
    pub keys: KeyArgs,
    /// Stop at the first malformed row instead of counting it
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub strict: bool,
}

/// What `--benchmark` says; none for `auto`.
type Kind = Option<Benchmark>;

fn benchmark(name: &str) -> Result<Kind, String> {
    if name == "auto" {
        return Ok(None);
    }
    let known = Benchmark::ALL.into_iter().find(|b| b.name() == name);
    known.map(Some).ok_or_else(|| {
        let names: Vec<&str> = Benchmark::ALL.iter().map(|b| b.name()).collect();
        format!("expected auto, {}", names.join(", "))
    })
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".to_owned()),
        Ok(n) => Ok(n),
    }
}
