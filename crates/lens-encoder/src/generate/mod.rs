//! Text from a model: samples of a prompt, and how likely a given response is.
//!
//! The same forward pass as for hidden states, with keys and values kept from token to token.
//! Samples of one prompt share its keys and values; likelihoods of responses share prompts as
//! embeddings do.

mod sample;

use crate::encoder::{lock, own_bos, own_template, own_tokenizer};
use crate::error::{EncoderError, Result};
use crate::family::{Global, ModelSpec};
use crate::forward::cached::cache_bytes;
use crate::forward::plan::{Rules, plan};
use crate::forward::{Linear, Model, Request, Weights, Workspace, soft_cap_row, workspace_bytes};
use crate::input::{Item, prepare};
use crate::model::ModelFiles;
use crate::model::memory::MemoryNeeds;
use crate::options::EncoderOptions;
use crate::template::Template;
use crate::tokenizer::{TextStream, TextTokenizer};
use lens_core::{Content, Exchange, Progress};
use lens_data::encoder::Pooling;
use lens_data::memory::available;
use rayon::prelude::*;
pub use sample::Sampling;
use sample::{Sampler, log_probabilities};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Mutex;

/// Rows of logits computed at a time: a row has an entry for every token of the vocabulary.
const LOGIT_ROWS: usize = 32;

/// How text is generated.
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

impl GenerateOptions {
    /// Whether the values can be those of any model.
    ///
    /// # Errors
    /// [`EncoderError::InvalidOption`].
    pub fn check(&self) -> Result<()> {
        self.sampling.check()?;
        let invalid = |option, detail: &str| {
            Err(EncoderError::InvalidOption { option, detail: detail.to_owned() })
        };
        if self.samples == 0 {
            return invalid("samples", "must be at least 1");
        }
        if self.max_new_tokens == 0 {
            return invalid("max_new_tokens", "must be at least 1");
        }
        if self.stop.iter().any(String::is_empty) {
            return invalid("stop", "an empty string ends every sample");
        }
        Ok(())
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
    tokenizer: TextTokenizer,
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
    /// The problem of the model; [`EncoderError::NotGenerative`] for an encoder such as BERT;
    /// [`EncoderError::TooLarge`].
    pub fn open(path: &Path, options: &EncoderOptions) -> Result<Self> {
        let files = ModelFiles::open(path)?;
        let (spec, layout) = ModelSpec::from_files(&files)?;
        if !spec.causal {
            let architecture = spec.architecture.clone();
            return Err(EncoderError::NotGenerative { path: path.to_owned(), architecture });
        }
        let own = own_template(&files)?;
        let special = options.special_tokens;
        let template = Template::resolve(&options.template, own.as_deref(), special, path)?;
        let add_bos = match options.add_bos {
            Some(choice) => choice,
            None => own_bos(&files)?,
        };
        let tokenizer = own_tokenizer(&files, &spec, add_bos, options.special_tokens)?;
        let max_length = options.max_length.min(spec.context);
        let layers = spec.layers.len();
        let needs = MemoryNeeds {
            elements: spec.elements(layers) + (spec.vocab * spec.dim) as u64,
            stored: files.bytes(),
            workspace: workspace_bytes(&spec, options.batch_tokens.max(max_length))
                + cache_bytes(&spec, max_length),
        };
        let precision = needs.choose(options.weights, available())?;
        let name = layout.head.clone();
        let name = name.unwrap_or_else(|| layout.global(Global::Tokens, "weight"));
        let (weights, head) = rayon::join(
            || Weights::load(&files, &spec, &layout, layers, precision),
            || Linear::load(&files, &name, spec.vocab, spec.dim, precision),
        );
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

    /// The model, described.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Samples of each prompt, in order. A prompt that leaves no room for `max_new_tokens` loses
    /// its beginning.
    ///
    /// # Errors
    /// [`EncoderError::InvalidOption`], [`EncoderError::EmptyText`], [`EncoderError::NonFinite`],
    /// [`EncoderError::Cancelled`].
    pub fn generate(
        &self,
        prompts: &[Content],
        options: &GenerateOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Generated>>> {
        self.check(options)?;
        let room = self.max_length - options.max_new_tokens;
        progress.begin("generate", (prompts.len() * options.samples) as u64, "samples");
        let all = prompts.iter().enumerate().map(|(index, prompt)| {
            let mut ids = self.prompt_ids(prompt)?;
            let prefix = self.tokenizer.prefix_len().min(ids.len());
            if ids.len() > room {
                ids.drain(prefix..prefix + ids.len() - room);
            }
            self.samples(index, &ids, options, progress)
        });
        let all = all.collect();
        progress.end();
        all
    }

    /// Token ids of a prompt, up to where the response goes.
    ///
    /// # Errors
    /// The problem of the template or the tokenizer.
    pub fn prompt_ids(&self, prompt: &Content) -> Result<Vec<u32>> {
        let rendered = self.template.render_prompt(prompt, &self.tokenizer)?;
        let mut ids = match rendered.marker {
            None => self.tokenizer.text(&rendered.text)?,
            Some(marker) => self.tokenizer.rendered(&rendered.text, marker)?,
        };
        // Tokens that end a text must not stand where the response is to begin.
        ids.truncate(ids.len() - self.tokenizer.suffix_len().min(ids.len()));
        Ok(ids)
    }

    /// Samples that continue lists of token ids as they are.
    ///
    /// # Errors
    /// As [`Generator::generate`]; [`EncoderError::Tokenizer`] for an id without embedding.
    pub fn generate_from_ids(
        &self,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Generated>>> {
        self.check(options)?;
        if let Some(id) = prompts.iter().flatten().find(|id| **id as usize >= self.spec.vocab) {
            let detail = format!("token id {id} is not below the {} embedded", self.spec.vocab);
            return Err(EncoderError::Tokenizer { detail });
        }
        let room = self.max_length - options.max_new_tokens;
        let one = |(index, ids): (usize, &Vec<u32>)| {
            let ids = &ids[ids.len().saturating_sub(room)..];
            self.samples(index, ids, options, progress)
        };
        prompts.iter().enumerate().map(one).collect()
    }

    fn check(&self, options: &GenerateOptions) -> Result<()> {
        options.check()?;
        let most = options.max_new_tokens;
        if most >= self.max_length {
            return Err(EncoderError::InvalidOption {
                option: "max_new_tokens",
                detail: format!("{most} is not below the {} of a text", self.max_length),
            });
        }
        Ok(())
    }

    /// All samples of one prompt, step by step beside each other.
    fn samples(
        &self,
        index: usize,
        prompt: &[u32],
        options: &GenerateOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Generated>> {
        if prompt.is_empty() {
            return Err(EncoderError::EmptyText { index });
        }
        let n = options.samples;
        let mut ws = lock(&self.workspace);
        let (mut cache, state) = self.model.prefill(prompt, n, options.max_new_tokens, &mut ws)?;
        let mut samples: Vec<Sample<'_>> = (0..n)
            .map(|s| {
                let stream = (!options.stop.is_empty()).then(|| self.tokenizer.stream());
                let number = (index * n + s) as u64;
                let sampler = Sampler::new(options.sampling, options.seed, number);
                Sample::new(sampler, stream)
            })
            .collect();
        // The first token of all samples is drawn from the same state.
        let mut logits = self.logits(&state, &mut ws)?;
        let mut active: Vec<usize> = (0..n).collect();
        let mut rows: Vec<usize> = vec![0; n];
        loop {
            if progress.cancelled() {
                return Err(EncoderError::Cancelled);
            }
            let vocab = self.spec.vocab;
            if logits.iter().any(|x| x.is_nan()) {
                return Err(EncoderError::NonFinite { index });
            }
            let mut next = Vec::with_capacity(active.len());
            for (s, row) in active.iter().zip(&rows) {
                let logits = &logits[row * vocab..(row + 1) * vocab];
                if let Some(token) = samples[*s].take(logits, &self.tokenizer, options)? {
                    next.push((*s, token));
                } else {
                    progress.advance(1);
                }
            }
            if next.is_empty() {
                break;
            }
            let state = self.model.step(&next, &mut cache, &mut ws)?;
            logits = self.logits(&state, &mut ws)?;
            active = next.iter().map(|(s, _)| *s).collect();
            rows = (0..active.len()).collect();
        }
        drop(ws);
        samples.into_iter().map(|s| s.finish(&self.tokenizer)).collect()
    }

    /// How likely each response is given its prompt; prompts in common are computed once.
    ///
    /// # Errors
    /// [`EncoderError::NoPrompt`] where nothing stands before the response,
    /// [`EncoderError::EmptyText`] where there is no response; [`EncoderError::Cancelled`].
    pub fn log_likelihoods(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<LogLikelihood>> {
        let prepared = exchanges
            .par_iter()
            .enumerate()
            .map(|(index, e)| {
                let item = Item::Exchange(e);
                prepare(item, &self.template, &self.tokenizer, self.max_length, true)
                    .map_err(|error| error.at(index))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut lists = Vec::with_capacity(prepared.len());
        for (index, p) in prepared.into_iter().enumerate() {
            let prompt = p.prompt.unwrap_or(0);
            if prompt == 0 {
                return Err(EncoderError::NoPrompt { index });
            }
            if p.ids.len() <= prompt {
                return Err(EncoderError::EmptyText { index });
            }
            lists.push((p.ids, prompt, p.truncated));
        }
        self.likelihoods(lists, progress)
    }

    /// How likely the tokens of each list are after its first `prompt` ones, which are at least 1.
    ///
    /// # Errors
    /// As [`Generator::log_likelihoods`].
    pub fn log_likelihoods_of_ids(
        &self,
        lists: &[(Vec<u32>, usize)],
        progress: &dyn Progress,
    ) -> Result<Vec<LogLikelihood>> {
        let vocab = self.spec.vocab;
        for (index, (ids, prompt)) in lists.iter().enumerate() {
            if *prompt == 0 {
                return Err(EncoderError::NoPrompt { index });
            }
            if ids.len() <= *prompt {
                return Err(EncoderError::EmptyText { index });
            }
            if ids.len() > self.max_length || ids.iter().any(|id| *id as usize >= vocab) {
                let detail = format!("list {index} is too long or has ids without embedding");
                return Err(EncoderError::Tokenizer { detail });
            }
        }
        self.likelihoods(lists.iter().map(|(ids, p)| (ids.clone(), *p, false)).collect(), progress)
    }

    fn likelihoods(
        &self,
        lists: Vec<(Vec<u32>, usize, bool)>,
        progress: &dyn Progress,
    ) -> Result<Vec<LogLikelihood>> {
        let layer = self.spec.layers.len();
        // The state at position i says how likely token i + 1 is.
        let requests: Vec<Vec<Request>> = lists
            .iter()
            .map(|(ids, prompt, _)| {
                let at = |i| Request { layer, pooling: Pooling::PromptLast, prompt: i };
                (*prompt..ids.len()).map(at).collect()
            })
            .collect();
        let ids: Vec<Vec<u32>> = lists.iter().map(|(ids, ..)| ids.clone()).collect();
        let budget = self.batch_tokens;
        let rules = Rules { budget, sharing: true, long_from: self.spec.long_from() };
        let batches = plan(&ids, rules);
        let total: usize = batches.iter().map(|b| b.tokens.len()).sum();
        progress.begin("likelihood", total as u64, "tokens");
        let mut out: Vec<LogLikelihood> = lists
            .iter()
            .map(|(ids, prompt, truncated)| LogLikelihood {
                sum: 0.0,
                tokens: ids.len() - prompt,
                truncated: *truncated,
            })
            .collect();
        for batch in &batches {
            if progress.cancelled() {
                return Err(EncoderError::Cancelled);
            }
            let mut ws = lock(&self.workspace);
            let states = self.model.run(batch, &requests, &mut ws)?;
            for ((list, _), states) in batch.ends.iter().zip(states) {
                let (ids, prompt, _) = &lists[*list];
                for (from, chunk) in states.chunks(LOGIT_ROWS).enumerate() {
                    let logits = self.logits(&chunk.concat(), &mut ws)?;
                    let tokens = &ids[prompt + from * LOGIT_ROWS..];
                    let each = logits.par_chunks(self.spec.vocab).zip(tokens);
                    let sums: Vec<f64> =
                        each.map(|(row, token)| log_probabilities(row).1(*token)).collect();
                    out[*list].sum += sums.iter().sum::<f64>();
                }
                if !out[*list].sum.is_finite() {
                    return Err(EncoderError::NonFinite { index: *list });
                }
            }
            progress.advance(batch.tokens.len() as u64);
        }
        progress.end();
        Ok(out)
    }

    /// Logits of hidden states, a row of the vocabulary each.
    fn logits(&self, states: &[f32], ws: &mut Workspace) -> Result<Vec<f32>> {
        let (d, vocab) = (self.spec.dim, self.spec.vocab);
        let n = states.len() / d;
        let mut logits = vec![0.0; n * vocab];
        let panel = ws.panel();
        self.head.project(0..vocab, states, d, &mut logits, vocab, n, panel)?;
        if let Some(cap) = self.spec.final_soft_cap {
            logits.par_chunks_mut(vocab).for_each(|row| soft_cap_row(row, cap));
        }
        Ok(logits)
    }
}

/// A sample on its way.
struct Sample<'a> {
    sampler: Sampler,
    /// The text so far, where stop strings are looked for in it.
    stream: Option<TextStream<'a>>,
    text: String,
    ids: Vec<u32>,
    log_likelihood: f64,
    finish: Option<Finish>,
    /// Where a stop string begins in the text.
    cut: Option<usize>,
}

impl<'a> Sample<'a> {
    fn new(sampler: Sampler, stream: Option<TextStream<'a>>) -> Self {
        let text = String::new();
        Self {
            sampler,
            stream,
            text,
            ids: Vec::new(),
            log_likelihood: 0.0,
            finish: None,
            cut: None,
        }
    }

    /// Draws the next token; `None` if the sample has ended with it.
    fn take(
        &mut self,
        logits: &[f32],
        tokenizer: &TextTokenizer,
        options: &GenerateOptions,
    ) -> Result<Option<u32>> {
        let token = self.sampler.draw(logits);
        self.ids.push(token);
        self.log_likelihood += log_probabilities(logits).1(token);
        if tokenizer.end_ids().contains(&token) {
            self.finish = Some(Finish::Stop);
            return Ok(None);
        }
        if let Some(stream) = &mut self.stream {
            self.text.push_str(&stream.push(token)?);
            self.cut = options.stop.iter().filter_map(|s| self.text.find(s)).min();
            if self.cut.is_some() {
                self.finish = Some(Finish::Stop);
                return Ok(None);
            }
        }
        if self.ids.len() == options.max_new_tokens {
            self.finish = Some(Finish::Length);
            return Ok(None);
        }
        Ok(Some(token))
    }

    fn finish(self, tokenizer: &TextTokenizer) -> Result<Generated> {
        let mut shown = self.ids.as_slice();
        if let [rest @ .., last] = shown
            && tokenizer.end_ids().contains(last)
        {
            shown = rest;
        }
        let text = match self.cut {
            Some(cut) => self.text[..cut].to_owned(),
            None => tokenizer.decode(shown)?,
        };
        let finish = self.finish.unwrap_or(Finish::Length);
        Ok(Generated { text, ids: self.ids, log_likelihood: self.log_likelihood, finish })
    }
}
