//! The command line of `lens eval`.

use super::values::{self, heading};
use super::{KeyArgs, ReadingArgs, ServerArgs, not_given};
use clap::Args;
use clap::builder::TypedValueParser;
use lens_eval::figures::Benchmark;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `lens eval`.
#[derive(Debug, Args, Serialize)]
#[command(allow_missing_positional = true)]
pub struct EvalArgs {
    /// A reward model's folder; a public reward model's folder or GGUF file; or none, where --model names
    /// a public reward model
    #[arg(required_unless_present = "model")]
    #[serde(skip)]
    pub bundle: Option<PathBuf>,
    /// Files of held-out pairs, of RewardBench 1 or 2, of RM-Bench, or of responses with scores
    /// (best-of-n); or safetensors files of embedded pairs
    #[arg(required = true)]
    #[serde(skip)]
    pub data: Vec<PathBuf>,
    /// What the files hold, where their rows are taken for something else [default: auto]
    #[arg(long, value_name = "KIND", help_heading = heading::DATA, default_value = "auto",
        hide_default_value = true, value_parser = values::benchmark().map(|name| kind(&name)))]
    #[serde(skip)]
    pub benchmark: Kind,
    /// Evaluate on the rows of this subset (of RM-Bench: domain) only; may be repeated
    #[arg(long, value_name = "NAME", help_heading = heading::DATA)]
    #[serde(skip)]
    pub subset: Vec<String>,
    /// Best-of-n by the rewards of this model, a public reward model or a reward model's folder, instead of
    /// scores in the files: their rows have a prompt and `responses`
    #[arg(long, value_name = "MODEL", help_heading = heading::EVALUATION)]
    #[serde(skip)]
    pub gold: Option<String>,
    /// Largest n of best-of-n [default: the fewest responses that a prompt has]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = heading::EVALUATION)]
    #[serde(skip)]
    pub n: Option<usize>,
    /// Of pairs, also measure controls: sides swapped, prompts shuffled, responses alone, and what
    /// reading only length or other simple features would score
    #[arg(long, help_heading = heading::EVALUATION)]
    #[serde(skip)]
    pub controls: bool,
    /// How many of the examples ranked most wrongly are shown
    #[arg(long, value_name = "K", default_value_t = 10, help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub worst: usize,
    /// Write the files of the rewardbench package into this folder: MODEL_outputs.jsonl, MODEL.json
    #[arg(long, value_name = "DIR", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub outputs: Option<PathBuf>,
    /// Write a page with all figures, charts and the examples ranked most wrongly into this HTML file
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub report: Option<PathBuf>,
    /// Replace an existing report
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
    /// A public reward model to evaluate: a name, folder or file; beside a reward model's folder, the
    /// language model to use instead of the one that it names (it has to compute the same embeddings)
    #[arg(long, value_name = "MODEL", help_heading = heading::MODEL)]
    pub model: Option<String>,
    /// Of a public reward model with several labels, the one that is the reward, by name or number
    #[arg(long, value_name = "LABEL", help_heading = heading::MODEL)]
    pub label: Option<String>,
    /// A server, where it is not the one that the bundle names.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
    /// Names of the arrays.
    #[command(flatten)]
    #[serde(skip)]
    pub keys: KeyArgs,
    /// How rows are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub reading: ReadingArgs,
}

/// The kind that `--benchmark` names; none for `auto`.
type Kind = Option<Benchmark>;

fn kind(name: &str) -> Kind {
    Benchmark::ALL.into_iter().find(|b| b.name() == name)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".to_owned()),
        Ok(n) => Ok(n),
    }
}
