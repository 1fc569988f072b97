//! Text from a model: samples of a prompt, and how likely a given response is.
//!
//! The same forward pass as for hidden states, with keys and values kept from token to token.
//! Samples of one prompt share its keys and values; likelihoods of responses share prompts as
//! embeddings do.

mod sample;

use std::path::Path;
use std::sync::Mutex;

use lens_core::{Content, Exchange, Progress};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::encoder::{lock, own_bos, own_template, own_tokenizer};
use crate::error::{EncoderError, Result};
use crate::family::{Global, Layout, ModelSpec};
use crate::forward::cached::cache_bytes;
use crate::forward::plan::{Rules, plan};
use crate::forward::{Linear, Model, Request, Weights, Workspace, workspace_bytes};
use crate::input::{Item, prepare};
use crate::model::ModelFiles;
use crate::model::memory::{self, Needs, Precision};
use crate::options::EncoderOptions;
use crate::template::Template;
use crate::tokenizer::TextTokenizer;
use crate::view::Pooling;
pub use sample::Sampling;
use sample::{Sampler, log_probabilities};

/// Rows of logits computed at a time: a row has an entry for every token of the vocabulary.
const LOGIT_ROWS: usize = 32;

/// What to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateOptions {
    /// Samples of each prompt. Defaults to 1.
    pub samples: usize,
    /// Most tokens of a sample. Defaults to 256.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// A sample ends before the first of these strings in it.
    pub stop: Vec<String>,
    /// Decides all draws; a sample depends on nothing but this, its prompt and its number. Defaults
    /// to 0.
    pub seed: u64,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            samples: 1,
            max_new_tokens: 256,
            sampling: Sampling::default(),
            stop: Vec::new(),
            seed: 0,
        }
    }
}

/// Why a sample ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// The most tokens were reached.
    Length,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generated {
    /// The text, without end tokens and stop strings.
    pub text: String,
    /// The tokens, the end token included.
    pub ids: Vec<u32>,
    /// Sum of the tokens' log-probabilities under the model itself (temperature 1, nothing cut
    /// off), in nats.
    pub log_likelihood: f64,
    /// Why it ended.
    pub finish: Finish,
}

/// How likely a response is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogLikelihood {
    /// Sum of the log-probabilities of the response's tokens given the prompt, in nats.
    pub sum: f64,
    /// Tokens of the response.
    pub tokens: usize,
    /// Whether the text was shortened.
    pub truncated: bool,
}

/// A language model, loaded, with its output head.
pub struct Generator {
    spec: ModelSpec,
    template: Template,
    tokenizer: Option<TextTokenizer>,
    max_length: usize,
    batch_tokens: usize,
    model: Model,
    head: Linear,
    workspace: Mutex<Workspace>,
}

impl Generator {
    /// Opens and loads a model; of the options, the views and the cache do not matter.
    ///
    /// # Errors
    /// What is wrong with the model; [`EncoderError::NotGenerative`] for an encoder such as BERT;
    /// [`EncoderError::TooLarge`].
    pub fn open(path: &Path, options: &EncoderOptions) -> Result<Self> {
        let files = ModelFiles::open(path)?;
        let (spec, layout) = ModelSpec::of(&files)?;
        if !spec.causal {
            let architecture = spec.architecture.clone();
            return Err(EncoderError::NotGenerative { path: path.to_owned(), architecture });
        }
        let own = own_template(&files)?;
        let template = Template::resolve(&options.template, own.as_deref(), path)?;
        let add_bos = match options.add_bos {
            Some(choice) => choice,
            None => own_bos(&files)?,
        };
        let max_length = options.max_length.min(spec.context);
        let needs = Needs {
            elements: spec.elements(spec.layers.len()) + (spec.vocab * spec.dim) as u64,
            mapped: files.mapped_bytes(),
            workspace: workspace_bytes(&spec, options.batch_tokens.max(max_length))
                + cache_bytes(&spec, max_length),
        };
        let precision = needs.choose(options.weights, memory::available())?;
        let (weights, head) = rayon::join(
            || Weights::load(&files, &spec, &layout, spec.layers.len(), precision),
            || head(&files, &spec, &layout, precision),
        );
        // Lists of ids can be continued without a tokenizer.
        let tokenizer = own_tokenizer(&files, &spec, add_bos).ok();
        let model = Model::new(spec.clone(), weights?, max_length);
        Ok(Self {
            spec,
            template,
            tokenizer,
            max_length,
            batch_tokens: options.batch_tokens,
            model,
            head: head?,
            workspace: Mutex::default(),
        })
    }
}
