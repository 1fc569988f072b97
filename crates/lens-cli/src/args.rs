//! The command line as it is typed. What it means is decided in [`crate::settings`].

mod bench;
mod eval;
pub mod foreign;
mod generate;
mod serve;
mod shared;
mod shell;
mod values;

pub use bench::{BenchCommand, BenchEncodeArgs, BenchTrainArgs};
use clap::{Args, Parser, Subcommand};
pub use eval::EvalArgs;
pub use generate::{GenerateArgs, LikelihoodArgs};
use serde::Serialize;
pub use serve::ServeArgs;
pub use shared::{EncoderArgs, KeyArgs, MethodArgs, ReadingArgs, ServerArgs, TextArgs};
pub use shell::{CompletionsArgs, ManArgs};
use std::path::PathBuf;
use values::heading;

/// From a small file of human preference pairs to a reward model you can trust, score with and
/// plug into your trainer.
#[derive(Debug, Parser)]
#[command(name = "lens", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Read settings from this file (TOML); flags override it. Its keys are the long names of the
    /// flags, with underscores
    #[arg(long, global = true, value_name = "FILE", help_heading = heading::GENERAL)]
    pub config: Option<PathBuf>,
    /// Set any setting by its name, such as vae.beta=0.05, also one that has no flag; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", help_heading = heading::GENERAL)]
    pub set: Vec<String>,
    /// Print the settings in force as TOML, and stop
    #[arg(long, global = true, help_heading = heading::GENERAL)]
    pub show_settings: bool,
    /// Print results as JSON on standard output
    #[arg(long, global = true, help_heading = heading::GENERAL)]
    pub json: bool,
    /// Show no progress on standard error
    #[arg(long, short, global = true, help_heading = heading::GENERAL)]
    pub quiet: bool,
    /// Number of threads [default: one for each core]
    #[arg(long, global = true, value_name = "N", help_heading = heading::GENERAL)]
    pub threads: Option<usize>,
    /// Folder in which models and embeddings are kept [default: $LENS_CACHE, else ~/.cache/lens]
    #[arg(long, global = true, value_name = "DIR", help_heading = heading::GENERAL)]
    pub cache: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From a file of preference pairs to a reward model: embed, train, evaluate and save
    Run(RunArgs),
    /// Download a language model into the cache, or list the known ones
    Pull(PullArgs),
    /// Turn texts or pairs into embeddings (hidden states of a language model), stored as safetensors
    Embed(EmbedArgs),
    /// Train on stored embeddings, and measure on random held-out splits of them
    Train(TrainArgs),
    /// Compare methods on random splits of your pairs: a ready-made study, or a study file
    Study(StudyArgs),
    /// Write the synthetic responses that a reward model's VAE makes from embedded pairs
    Synthesise(SynthesiseArgs),
    /// Evaluate a reward model on held-out pairs or on benchmarks
    Eval(EvalArgs),
    /// Score responses with a reward model
    Score(ScoreArgs),
    /// Write a reward model as a folder that transformers or sentence-transformers loads
    Export(ExportArgs),
    /// Serve reward models over HTTP, on the routes that trainers call
    Serve(ServeArgs),
    /// Let a language model answer prompts, several times each
    Generate(GenerateArgs),
    /// Compute how likely given responses are under a language model
    Likelihood(LikelihoodArgs),
    /// Measure the speed of a stage on this machine
    Bench(BenchArgs),
    /// Describe a file or folder: pairs, embeddings, a reward model or a language model
    Info(InfoArgs),
    /// Write preference pairs of any shape as TRL has them: prompt, chosen, rejected
    Convert(ConvertArgs),
    /// Print a script with which a shell completes commands and options
    Completions(CompletionsArgs),
    /// Write manual pages, one for each command, into a folder
    Man(ManArgs),
}

impl Command {
    /// The flags of the command that are settings, as a TOML table.
    pub fn overrides(&self) -> Result<toml::Table, toml::ser::Error> {
        match self {
            Command::Run(a) => {
                merged(&[&a.encoder.table()?, &table(&a.server)?, &table(&a.method)?, &table(a)?])
            }
            Command::Embed(a) => merged(&[&a.encoder.table()?, &table(&a.server)?, &table(a)?]),
            Command::Train(a) => merged(&[&table(&a.method)?, &table(&a.keys)?, &table(a)?]),
            Command::Study(a) => {
                merged(&[&a.encoder.table()?, &table(&a.server)?, &table(&a.keys)?, &table(a)?])
            }
            Command::Synthesise(a) => merged(&[&table(&a.keys)?, &table(a)?]),
            Command::Eval(a) => merged(&[&table(&a.keys)?, &table(&a.server)?, &table(a)?]),
            Command::Score(a) => merged(&[&table(&a.server)?, &table(a)?]),
            Command::Serve(a) => {
                let serve: toml::Table =
                    [("serve".to_owned(), table(a)?.into())].into_iter().collect();
                merged(&[&table(&a.server)?, &table(&a.encoder)?, &serve])
            }
            Command::Generate(a) => {
                let mut generate = table(a)?;
                generate.insert("sampling".to_owned(), table(&a.sampling)?.into());
                merged(&[
                    &table(&a.text)?,
                    &[("generate".to_owned(), generate.into())].into_iter().collect(),
                ])
            }
            Command::Likelihood(a) => table(&a.text),
            Command::Bench(BenchArgs { command: BenchCommand::Encode(a) }) => a.encoder.table(),
            Command::Bench(BenchArgs { command: BenchCommand::Train(_) }) => Ok(toml::Table::new()),
            Command::Info(a) => table(&a.reading),
            Command::Convert(a) => table(&a.reading),
            Command::Export(a) => table(a),
            Command::Pull(_) | Command::Completions(_) | Command::Man(_) => Ok(toml::Table::new()),
        }
    }
}

fn table(value: &impl Serialize) -> Result<toml::Table, toml::ser::Error> {
    toml::Table::try_from(value)
}

fn merged(tables: &[&toml::Table]) -> Result<toml::Table, toml::ser::Error> {
    Ok(tables.iter().flat_map(|t| t.iter().map(|(k, v)| (k.clone(), v.clone()))).collect())
}

/// A switch appears among the settings only when it is given.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference.
fn not_given(switch: &bool) -> bool {
    !switch
}

/// Arguments of `lens run`.
#[derive(Debug, Args, Serialize)]
pub struct RunArgs {
    /// Preference pairs: files (JSON, Parquet, CSV, Arrow), a folder of shards, a pattern, - for standard
    /// input, or a dataset of the Hugging Face Hub (org/name:config/split); several are one dataset
    #[arg(required = true, num_args = 1..)]
    #[serde(skip)]
    pub pairs: Vec<PathBuf>,
    /// Held-out pairs to evaluate on [default: those of a fifth of the prompts]
    #[arg(long, value_name = "FILE", help_heading = heading::DATA)]
    pub eval: Option<PathBuf>,
    /// Share of the prompts whose pairs are held out where --eval is not given [default: 0.2]
    #[arg(long, value_name = "SHARE", help_heading = heading::DATA)]
    pub holdout: Option<f64>,
    /// How texts become embeddings.
    #[command(flatten)]
    #[serde(skip)]
    pub encoder: EncoderArgs,
    /// Of a public reward model with several labels, the one that is the reward, by name or number; none: an encoder only
    #[arg(long, value_name = "LABEL", help_heading = heading::MODEL)]
    pub label: Option<String>,
    /// A server for them.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
    /// The method.
    #[command(flatten)]
    #[serde(skip)]
    pub method: MethodArgs,
    /// How the views of the texts (layers, poolings, a question about the response) and the kind of
    /// head are decided [default: auto, unless a view, a setting of the head, a server or an earlier
    /// model is named]
    #[arg(long, value_name = "HOW", help_heading = heading::VIEWS,
        value_parser = values::views_and_head())]
    pub views: Option<String>,
    /// Train this earlier reward model further, with its settings and encoder; only pairs that it was
    /// not trained on are held out
    #[arg(long, value_name = "DIR", help_heading = heading::METHOD)]
    pub warm_start: Option<PathBuf>,
    /// Folder for the reward model [default: reward-model]
    #[arg(long, short, value_name = "DIR", help_heading = heading::OUTPUT)]
    pub output: Option<PathBuf>,
    /// Write training curves into this folder while training goes on: curves.jsonl, and event files
    /// for TensorBoard
    #[arg(long, value_name = "DIR", help_heading = heading::OUTPUT)]
    pub log_dir: Option<PathBuf>,
    /// Replace an earlier reward model in the output folder, and earlier curves in the log folder
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
}

/// Arguments of `lens export`.
#[derive(Debug, Args, Serialize)]
pub struct ExportArgs {
    /// The reward model (a folder)
    #[serde(skip)]
    pub reward_model: PathBuf,
    /// What is to load it
    #[arg(long, value_name = "LIBRARY", value_parser = values::export_target(), help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub to: String,
    /// The folder to write
    #[arg(long, short, value_name = "DIR", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub output: PathBuf,
    /// How exact its weights are
    #[arg(long, default_value = "f32", value_parser = values::export_type(), help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub dtype: String,
    /// Replace what an earlier export wrote there
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub overwrite: bool,
    /// The language model it was trained with, where it lies elsewhere now
    #[arg(long, value_name = "MODEL", help_heading = heading::MODEL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Arguments of `lens pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// A model's name: a known one, org/name(@revision) or org/name/file.gguf of the Hugging Face
    /// Hub, https://../file.gguf; without one, the known models are listed
    pub model: Option<String>,
}

/// Arguments of `lens embed`.
#[derive(Debug, Args, Serialize)]
pub struct EmbedArgs {
    /// Rows of pairs, of prompt and response(s), or of text
    #[serde(skip)]
    pub file: PathBuf,
    /// The safetensors file to write
    #[arg(long, short, value_name = "FILE", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub output: PathBuf,
    /// Embed as this reward model does: its model, views and template
    #[arg(long, value_name = "DIR", help_heading = heading::VIEWS,
        conflicts_with_all = ["template", "max_length", "layer", "layers", "pooling", "view"])]
    #[serde(skip)]
    pub like: Option<PathBuf>,
    /// Number format of the stored embeddings [default: f32]
    #[arg(long, value_name = "FORMAT", help_heading = heading::OUTPUT,
        value_parser = values::dtype())]
    pub dtype: Option<String>,
    /// How texts become embeddings.
    #[command(flatten)]
    #[serde(skip)]
    pub encoder: EncoderArgs,
    /// A server for them.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
}

/// Arguments of `lens train`.
#[derive(Debug, Args, Serialize)]
pub struct TrainArgs {
    /// A safetensors file with both sides, or two .npy files: chosen, then rejected
    #[arg(required = true, num_args = 1..=2)]
    #[serde(skip)]
    pub arrays: Vec<PathBuf>,
    /// Names of the arrays.
    #[command(flatten)]
    #[serde(skip)]
    pub keys: KeyArgs,
    /// Train on this view of those that the file holds, layer=..,pooling=..,suffix=..; may be repeated
    /// [default: all that the file holds]
    #[arg(long, value_name = "VIEW", help_heading = heading::VIEWS)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub view: Vec<String>,
    /// Pairs to train on in each split; the others are held out [default: four fifths]
    #[arg(long, value_name = "N", help_heading = heading::EVALUATION)]
    pub seed_pairs: Option<usize>,
    /// Number of random splits into training and held-out pairs [default: 5]
    #[arg(long, value_name = "S", help_heading = heading::EVALUATION)]
    pub splits: Option<usize>,
    /// The method.
    #[command(flatten)]
    #[serde(skip)]
    pub method: MethodArgs,
    /// How the kind of head on the stored views is decided [default: fixed]
    #[arg(long, value_name = "HOW", help_heading = heading::METHOD,
        value_parser = values::head_on_stored_views())]
    pub views: Option<String>,
    /// Train this earlier reward model further, with its settings and encoder; only pairs that it was
    /// not trained on are held out
    #[arg(long, value_name = "DIR", help_heading = heading::METHOD)]
    pub warm_start: Option<PathBuf>,
    /// Also train on all pairs, and save that reward model in this folder
    #[arg(long, short, value_name = "DIR", help_heading = heading::OUTPUT)]
    pub output: Option<PathBuf>,
    /// Write training curves into this folder while training goes on: curves.jsonl, and event files
    /// for TensorBoard
    #[arg(long, value_name = "DIR", help_heading = heading::OUTPUT)]
    pub log_dir: Option<PathBuf>,
    /// Replace an earlier reward model in the output folder, and earlier curves in the log folder
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
}

/// Arguments of `lens study`.
#[derive(Debug, Args, Serialize)]
pub struct StudyArgs {
    /// A study file (TOML), or the name of a ready-made study
    #[serde(skip)]
    pub study: Option<String>,
    /// Preference pairs as for `lens run`, or a safetensors file of embedded pairs
    #[serde(skip)]
    pub data: Option<PathBuf>,
    /// Folder for the study; where it holds the same study already, that one is continued
    /// [default: study-NAME]
    #[arg(long, short, value_name = "DIR", help_heading = heading::OUTPUT)]
    pub output: Option<PathBuf>,
    /// List the ready-made studies, and stop
    #[arg(long, help_heading = heading::STUDY)]
    #[serde(skip)]
    pub list: bool,
    /// Print the study's file, and stop
    #[arg(long, help_heading = heading::STUDY)]
    #[serde(skip)]
    pub show: bool,
    /// Number of random splits [default: the study's]
    #[arg(long, value_name = "S", help_heading = heading::STUDY)]
    #[serde(skip)]
    pub splits: Option<usize>,
    /// Numbers of pairs to train on, or shares of all such as 10% [default: the study's]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = heading::STUDY)]
    #[serde(skip)]
    pub seed_pairs: Vec<String>,
    /// Seed of everything random [default: the study's]
    #[arg(long, value_name = "S", help_heading = heading::STUDY)]
    pub seed: Option<u64>,
    /// How texts become embeddings, where the study does not say.
    #[command(flatten)]
    #[serde(skip)]
    pub encoder: EncoderArgs,
    /// A server for them.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
    /// Names of the arrays.
    #[command(flatten)]
    #[serde(skip)]
    pub keys: KeyArgs,
    /// Replace another study in the output folder
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
}

/// Arguments of `lens synthesise`. Where a setting of the method is not given, it is the reward
/// model's own.
#[derive(Debug, Args, Serialize)]
pub struct SynthesiseArgs {
    /// A reward model's folder, trained with augmentation
    #[serde(skip)]
    pub bundle: PathBuf,
    /// A safetensors file with both sides of embedded pairs, or two .npy files: chosen, then
    /// rejected
    #[arg(required = true, num_args = 1..=2)]
    #[serde(skip)]
    pub arrays: Vec<PathBuf>,
    /// The safetensors file to write
    #[arg(long, short, value_name = "FILE", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub output: PathBuf,
    /// Names of the arrays.
    #[command(flatten)]
    #[serde(skip)]
    pub keys: KeyArgs,
    /// Augmentation factor F; each response gets ceil(sqrt(F)) - 1 synthetic ones [default: the reward
    /// model's]
    #[arg(long, value_name = "F", help_heading = heading::METHOD)]
    pub augment: Option<usize>,
    /// Seed of the draws [default: the reward model's]
    #[arg(long, value_name = "S", help_heading = heading::METHOD)]
    pub seed: Option<u64>,
    /// Write latent codes instead of embeddings
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub codes: bool,
    /// Replace an existing output file
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
}

/// Arguments of `lens score`.
#[derive(Debug, Args, Serialize)]
#[command(allow_missing_positional = true)]
pub struct ScoreArgs {
    /// A reward model's folder; a public reward model's folder or GGUF file; or none, where --model names
    /// a public reward model
    #[arg(required_unless_present = "model")]
    #[serde(skip)]
    pub bundle: Option<PathBuf>,
    /// Rows of prompt and response(s), of messages, of pairs or of text; or a safetensors file with
    /// --key
    #[serde(skip)]
    pub file: PathBuf,
    /// A public reward model to score with: a name, folder or file; beside a reward model's folder, the
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
    /// Name of the array of embeddings to score in a safetensors file
    #[arg(long, value_name = "KEY", help_heading = heading::DATA)]
    #[serde(skip)]
    pub key: Option<String>,
    /// Give rewards in standard deviations from the mean reward of the training responses
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub normalise: bool,
    /// Write every row into this file, with all its columns and, behind them, its rewards and what is
    /// known of them: .jsonl, .csv, .tsv (each also with .gz or .zst) or .parquet
    #[arg(long, short, value_name = "FILE", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub output: Option<PathBuf>,
    /// What the names of the new columns of that file begin with [default: nothing]
    #[arg(long, value_name = "TEXT", requires = "output", help_heading = heading::OUTPUT)]
    #[serde(skip)]
    pub prefix: Option<String>,
    /// Replace an existing output file
    #[arg(long, help_heading = heading::OUTPUT)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
    /// How rows are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub reading: ReadingArgs,
}

/// Arguments of `lens bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The stage.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// Arguments of `lens info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A file or folder; several files, or a pattern, for one dataset; - for standard input;
    /// hf://datasets/org/name of the Hugging Face Hub
    #[arg(required = true, num_args = 1..)]
    pub paths: Vec<PathBuf>,
    /// How rows are read.
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// Arguments of `lens convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Preference pairs in any shape: files, folders, patterns, -, or a dataset of the Hub
    #[arg(required = true, num_args = 1..)]
    pub pairs: Vec<PathBuf>,
    /// The file to write: .jsonl, .csv, .tsv (each also with .gz or .zst) or .parquet
    #[arg(long, short, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub output: PathBuf,
    /// Also write pairs that training would leave out: duplicates, contradictions, blank sides
    #[arg(long, help_heading = heading::DATA)]
    pub all: bool,
    /// Replace a file that is there
    #[arg(long, help_heading = heading::OUTPUT)]
    pub overwrite: bool,
    /// How rows are read.
    #[command(flatten)]
    pub reading: ReadingArgs,
}
