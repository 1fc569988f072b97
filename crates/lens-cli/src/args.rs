//! The command line as it is typed. What it means is decided in [`crate::settings`].

mod bench;
mod eval;
mod serve;

pub use bench::{BenchCommand, BenchEncodeArgs, BenchTrainArgs};
use clap::{Args, Parser, Subcommand};
pub use eval::EvalArgs;
use serde::Serialize;
pub use serve::ServeArgs;
use std::path::PathBuf;

/// From a small file of human preference pairs to a reward model you can trust, score with and
/// plug into your trainer.
#[derive(Debug, Parser)]
#[command(name = "lens", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Settings file (TOML); flags override it. Every flag can live in it, by its long name with
    /// underscores
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set any setting by name, such as vae.beta=0.05; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the settings in force as TOML, and stop
    #[arg(long, global = true)]
    pub show_settings: bool,
    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on standard error
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to use; all cores by default
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// Where models and embeddings are kept; $LENS_CACHE or ~/.cache/lens by default
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job: embed, train, evaluate and save, from a file of preference pairs
    Run(RunArgs),
    /// Get a model into the cache
    Pull(PullArgs),
    /// Turn texts or pairs into hidden states, stored as safetensors
    Embed(EmbedArgs),
    /// Train on stored embeddings, and measure on held-out splits of them
    Train(TrainArgs),
    /// Compare methods on several splits of your pairs: a study file, or a ready-made study
    Study(StudyArgs),
    /// Write the synthetic responses that a reward model's VAE makes of embedded pairs
    Synthesise(SynthesiseArgs),
    /// Evaluate a reward model on held-out pairs
    Eval(EvalArgs),
    /// Score responses with a reward model
    Score(ScoreArgs),
    /// Serve reward models over HTTP, as trainers call them
    Serve(ServeArgs),
    /// Let a language model answer prompts, several times each
    Generate(GenerateArgs),
    /// How likely responses are to a language model
    Likelihood(LikelihoodArgs),
    /// Measure how fast this machine is at a stage, against what it could be
    Bench(BenchArgs),
    /// Say what a file or folder is: pairs, embeddings, a reward model, a language model
    Info(InfoArgs),
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
            Command::Pull(_) | Command::Info(_) => Ok(toml::Table::new()),
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

/// A language model, and how texts come to it.
#[derive(Debug, Args, Serialize)]
pub struct TextArgs {
    /// Language model: a name that `lens pull` knows, a file or folder, org/name of the Hugging Face
    /// Hub, or an https address [default: gemma-3-270m]; with --server, its name there
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// How weights are held: f32, bf16, stored (as in the file), auto (what fits) [default: auto]
    #[arg(long, value_name = "FORM")]
    pub weights: Option<String>,
    /// How prompt and response become one text: auto, chat, plain, or a Jinja file [default: auto]
    #[arg(long, value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Longer texts lose the beginning of the prompt [default: 2048]
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
    /// Whether a BOS token begins each text: auto (as the model says), always, never
    #[arg(long, value_name = "WHEN")]
    pub bos: Option<String>,
    /// What names of special tokens in texts are: text (letters, as typed), or parse (for texts
    /// that went through a chat template already) [default: text]
    #[arg(long, value_name = "WHAT")]
    pub special_tokens: Option<String>,
    /// Stop at the first malformed row instead of counting it
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub strict: bool,
}

/// How texts become embeddings.
#[derive(Debug, Args, Serialize)]
pub struct EncoderArgs {
    /// The model.
    #[command(flatten)]
    #[serde(skip)]
    pub text: TextArgs,
    /// Hidden state by transformers' index: 0 the embedding, -1 the last [default: -1]
    #[arg(long, allow_negative_numbers = true, value_name = "L")]
    pub layer: Option<i32>,
    /// Several hidden states side by side: all, or a list such as 0,9,-1
    #[arg(long, allow_hyphen_values = true, value_name = "LIST")]
    pub layers: Option<String>,
    /// Which tokens: last, mean, prompt-last, or first (for encoders such as BERT) [default: last]
    #[arg(long, value_name = "POOLING")]
    pub pooling: Option<String>,
    /// A view: layer=..,pooling=..,suffix=.., where a suffix is a text after the response, such as
    /// a question about it; several views lie side by side
    #[arg(long, value_name = "VIEW")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub view: Vec<String>,
}

impl EncoderArgs {
    fn table(&self) -> Result<toml::Table, toml::ser::Error> {
        merged(&[&table(&self.text)?, &table(self)?])
    }
}

/// A server that computes the embeddings. Its key is read from $LENS_API_KEY.
#[derive(Debug, Args, Serialize)]
pub struct ServerArgs {
    /// Have a server compute the embeddings: its address, such as http://localhost:8000
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// How it is asked: auto, openai (/v1/embeddings), tei (/embed) [default: auto]
    #[arg(long, value_name = "API")]
    pub server_api: Option<String>,
    /// Requests at a time [default: 8]
    #[arg(long, value_name = "N")]
    pub server_concurrency: Option<usize>,
    /// Texts in a request [default: 16]
    #[arg(long, value_name = "N")]
    pub server_batch: Option<usize>,
}

/// The method's main settings; all others by --set or in the settings file.
#[derive(Debug, Args, Serialize)]
pub struct MethodArgs {
    /// Augmentation factor: training pairs for each real pair, itself included; 1 is none, auto
    /// chooses the source of synthetic pairs and their noise, or none, by nested cross-validation on
    /// the training pairs [default: 4]
    #[arg(long, value_name = "F")]
    pub augment: Option<String>,
    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Which head is saved: auto (augmented if clearly better on the seeds' own folds), none,
    /// augmented
    #[arg(long, value_name = "WHICH")]
    pub keep: Option<String>,
}

/// Where both sides lie in a file of embeddings.
#[derive(Debug, Args, Serialize)]
pub struct KeyArgs {
    /// Name of the chosen embeddings in a safetensors file [default: chosen]
    #[arg(long, value_name = "KEY")]
    pub chosen_key: Option<String>,
    /// Name of the rejected embeddings in a safetensors file [default: rejected]
    #[arg(long, value_name = "KEY")]
    pub rejected_key: Option<String>,
}

/// Arguments of `lens run`.
#[derive(Debug, Args, Serialize)]
pub struct RunArgs {
    /// Preference pairs: JSON lines (also .gz, .zst), Parquet or CSV
    #[serde(skip)]
    pub pairs: PathBuf,
    /// Held-out pairs to evaluate on; a fifth of the prompts by default
    #[arg(long, value_name = "FILE")]
    pub eval: Option<PathBuf>,
    /// Share of the prompts to hold out where --eval is not given [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    pub holdout: Option<f64>,
    /// How texts become embeddings.
    #[command(flatten)]
    #[serde(skip)]
    pub encoder: EncoderArgs,
    /// A server for them.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
    /// The method.
    #[command(flatten)]
    #[serde(skip)]
    pub method: MethodArgs,
    /// Which views of the texts (layers, poolings, a question about the response) and which head:
    /// asked (as the settings name them), or auto (chosen by cross-validation on the training
    /// pairs, from one pass of the model) [default: auto, unless a view, a setting of the head, a
    /// server or an earlier model is named]
    #[arg(long, value_name = "WHICH")]
    pub views: Option<String>,
    /// Train an earlier reward model further: only what it was not trained on is held out, and its
    /// settings and encoder are kept
    #[arg(long, value_name = "DIR")]
    pub warm_start: Option<PathBuf>,
    /// Folder for the reward model [default: reward-model]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write training curves into this folder while training goes on: curves.jsonl, and event files
    /// for TensorBoard
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Replace a reward model that stands in the output folder, and curves in the log folder
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
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
    #[arg(long, short, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Embed as this reward model does: its model, views and template
    #[arg(long, value_name = "DIR", conflicts_with_all = ["template", "max_length", "layer", "layers", "pooling", "view"])]
    #[serde(skip)]
    pub like: Option<PathBuf>,
    /// How embeddings are stored: f32, or f16 or bf16 in half the size [default: f32]
    #[arg(long, value_name = "FORM")]
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
    /// Pairs to train on in each split; the rest is held out [default: four fifths]
    #[arg(long, value_name = "N")]
    pub seed_pairs: Option<usize>,
    /// Random splits to measure on [default: 5]
    #[arg(long, value_name = "S")]
    pub splits: Option<usize>,
    /// The method.
    #[command(flatten)]
    #[serde(skip)]
    pub method: MethodArgs,
    /// Which head on the stored views: asked (as the settings name it), or auto (that or a logistic
    /// one, chosen by cross-validation on the training pairs of each split) [default: asked]
    #[arg(long, value_name = "WHICH")]
    pub views: Option<String>,
    /// Train an earlier reward model further: only what it was not trained on is held out, and its
    /// settings and encoder are kept
    #[arg(long, value_name = "DIR")]
    pub warm_start: Option<PathBuf>,
    /// Also train on all pairs, and save the reward model here
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write training curves into this folder while training goes on: curves.jsonl, and event files
    /// for TensorBoard
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Replace a reward model that stands in the output folder, and curves in the log folder
    #[arg(long)]
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
    /// Folder for the study; one that holds it already is gone on with [default: study-NAME]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// List the ready-made studies
    #[arg(long)]
    #[serde(skip)]
    pub list: bool,
    /// Print the study's file
    #[arg(long)]
    #[serde(skip)]
    pub show: bool,
    /// Random splits [default: the study's]
    #[arg(long, value_name = "S")]
    #[serde(skip)]
    pub splits: Option<usize>,
    /// Numbers of seed pairs, or shares of all such as 10% [default: the study's]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[serde(skip)]
    pub seed_pairs: Vec<String>,
    /// Seed of everything random [default: the study's]
    #[arg(long, value_name = "S")]
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
    /// Replace a study that stands in the output folder
    #[arg(long)]
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
    #[arg(long, short, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Names of the arrays.
    #[command(flatten)]
    #[serde(skip)]
    pub keys: KeyArgs,
    /// Augmentation factor, from which the number of synthetic responses a side follows:
    /// ceil(sqrt(F)) - 1 [default: the reward model's]
    #[arg(long, value_name = "F")]
    pub augment: Option<usize>,
    /// Seed of the draws [default: the reward model's]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Write latent codes, not embeddings
    #[arg(long)]
    #[serde(skip)]
    pub codes: bool,
    /// Replace the file that stands there
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub overwrite: bool,
}

/// Arguments of `lens score`.
#[derive(Debug, Args, Serialize)]
pub struct ScoreArgs {
    /// A reward model's folder
    #[serde(skip)]
    pub bundle: PathBuf,
    /// Rows of prompt and response(s), of pairs or of text; or a safetensors file with --key
    #[serde(skip)]
    pub file: PathBuf,
    /// The language model, where it is not the one that the bundle names
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// A server, where it is not the one that the bundle names.
    #[command(flatten)]
    #[serde(skip)]
    pub server: ServerArgs,
    /// Name of the embeddings to score in a safetensors file
    #[arg(long, value_name = "KEY")]
    #[serde(skip)]
    pub key: Option<String>,
    /// Rewards in standard deviations from the mean of the training responses
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub normalise: bool,
    /// Stop at the first malformed row instead of answering it with an error line
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub strict: bool,
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
    /// A file or folder
    pub path: PathBuf,
}

/// Arguments of `lens generate`. Settings of its own table, `generate`.
#[derive(Debug, Args, Serialize)]
pub struct GenerateArgs {
    /// Rows with a prompt, which is text or messages; pairs have one too
    #[serde(skip)]
    pub file: PathBuf,
    /// The file to write: JSON lines with prompt, responses, log_likelihoods and finish
    #[arg(long, short, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// The model.
    #[command(flatten)]
    #[serde(skip)]
    pub text: TextArgs,
    /// Responses to each prompt [default: 1]
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Most tokens of a response [default: 256]
    #[arg(long, value_name = "TOKENS")]
    pub max_new_tokens: Option<usize>,
    /// How tokens are drawn.
    #[command(flatten)]
    #[serde(skip)]
    pub sampling: SamplingArgs,
    /// A response ends before this text; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Seed of all draws [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
}

/// How tokens are drawn.
#[derive(Debug, Args, Serialize)]
pub struct SamplingArgs {
    /// Logits are divided by this; 0 takes the likeliest token [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Of the likeliest tokens, the fewest that together have this probability are left
    /// [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Only so many of the likeliest tokens are left; 0 leaves all [default: 0]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
}

/// Arguments of `lens likelihood`.
#[derive(Debug, Args)]
pub struct LikelihoodArgs {
    /// Rows of prompt and response(s), or of pairs
    pub file: PathBuf,
    /// Write JSON lines into this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The model.
    #[command(flatten)]
    pub text: TextArgs,
}
