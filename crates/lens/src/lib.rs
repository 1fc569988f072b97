//! From preference pairs to a reward model: every job of LENS as a function.
//!
//! LENS turns a small set of human preference pairs into a reward model. It embeds each prompt and
//! response with a language model, learns a tiny VAE of the embeddings, synthesises new preference
//! pairs in its latent space, and trains a small Bradley-Terry head on real and synthetic pairs: the
//! method of Tao, Du and Li (NeurIPS 2025).
//!
//! Each job takes a struct of options and a [`Progress`], and returns a typed result that serialises to
//! what the binary `lens` prints with `--json`:
//!
//! | job | from | to |
//! |---|---|---|
//! | [`run()`] | preference pairs | a reward model, compared with one without synthesis |
//! | [`embed()`] | texts or pairs | embeddings in a safetensors file |
//! | [`train()`] | stored embeddings | figures over several splits, and a reward model |
//! | [`evaluate()`] | a reward model and held-out data | accuracy, calibration, benchmarks, best-of-n |
//! | [`score()`] | a reward model and rows | a reward for each |
//! | [`score_to_file()`] | a reward model and rows | the rows with their rewards, in a file |
//! | [`export()`] | a reward model | a folder that transformers or sentence-transformers loads |
//! | [`synthesise()`] | a reward model and embedded pairs | synthetic embeddings |
//! | [`generate()`] | prompts | responses of a language model |
//! | [`likelihood()`] | responses | how likely they are to a language model |
//! | [`study()`] | a study file and pairs | methods compared on the same splits |
//! | [`pull()`] | the name of a language model | its file in the cache |
//! | [`convert()`] | preference pairs of any shape | the same as TRL has them |
//! | [`info()`] | a file or folder | what it is |
//!
//! No job prints, ends the process, listens to signals or sets up a log or a thread pool. Work that is
//! long says where it stands through [`Progress`], and stops when [`Progress::cancelled`] says so; what
//! was finished is kept, and nothing half-written is left. Parallel work runs in rayon's current thread
//! pool.
//!
//! Chat templates are programs that come with models and reward models. A program that calls
//! [`sandbox::install`] at the head of its `main` renders them in child processes with little memory
//! and time; without it they are rendered in the process, under the limits of the template engine alone.
//!
//! ```no_run
//! use lens::{Quiet, RunOptions, ScoreOptions, run, score};
//!
//! let options = RunOptions {
//!     output: Some("reward-model".into()),
//!     ..RunOptions::new("pairs.jsonl")
//! };
//! let result = run(&options, &Quiet)?;
//! println!("{:?}", result.heldout.none.map(|figures| figures.accuracy));
//! let scores = score(&ScoreOptions::new("reward-model", "responses.jsonl"), &Quiet)?;
//! assert_eq!(scores.malformed, 0);
//! # Ok::<(), lens::Error>(())
//! ```

pub mod convert;
mod data_source;
mod earlier;
pub mod embed;
mod encoded;
mod error;
pub mod evaluate;
pub mod export;
pub mod generate;
pub mod info;

pub mod likelihood;
mod models;
mod notes;
mod options;
mod outputs;
mod public;
pub mod pull;
mod report;
pub mod run;
mod save;
pub mod score;
mod select;
mod stages;
pub mod study;
pub mod synthesise;
pub mod train;
pub mod views;

pub use convert::{ConvertOptions, ConvertResult, convert};
pub use data_source::resolve as resolve_data;
pub use earlier::WarmStartCounts;
pub use embed::{EmbedOptions, EmbedResult, EmbedWith, embed};
pub use error::Error;
pub use evaluate::{EvaluateOptions, EvaluatedFile, evaluate};
pub use export::{ExportOptions, ExportResult, ExportTarget, export};
pub use generate::{GenerateOptions, GenerateResult, generate};
pub use info::{Info, info};
pub use lens_core::{Progress, Quiet};
pub use lens_encoder::sandbox;
pub use likelihood::{LikelihoodOptions, Likelihoods, likelihood};
pub use models::{open_encoder, open_encoder_of_bundle};
pub use options::{
    BundleModelOptions, Keep, MethodOptions, ModelOptions, RuntimeOptions, ServerOptions,
    StoredPairsOptions, ViewSelection, server_key,
};
pub use public::PublicFigures;
pub use pull::{NamedModel, Pulled, named_models, pull};
pub use run::{RunOptions, RunResult, WarmStartOptions, run};
pub use score::{
    Judgement, ScoreFileOptions, ScoreOptions, ScoredFile, ScoredRow, Scorer, Scores, score,
    score_to_file,
};
pub use stages::StageTime;
pub use study::{StudyOptions, StudyResult, find_study, study};
pub use synthesise::{SynthesiseOptions, SynthesiseResult, synthesise};
pub use train::{SavedModel, TrainOptions, TrainResult, train};

/// The crates that the jobs are made of.
pub use {lens_core as core, lens_data as data, lens_encoder as encoder, lens_eval as eval};
