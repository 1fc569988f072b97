//! The encoder itself: model, tokenizer, template, forward pass and cache put together.

mod held;
mod job;
mod outcome;
mod own;
mod pooling;

use crate::cache::DiskCache;
use crate::error::{EncoderError, Result};
use crate::family::{Layout, ModelSpec};
use crate::forward::{Model, Weights, Workspace, workspace_bytes};
use crate::identity::digests;
use crate::input::{Input, Item, Prepared, prepare};
use crate::model::ModelFiles;
use crate::model::memory::{MemoryNeeds, Precision};
use crate::options::EncoderOptions;
use crate::score_head::{ScoreHead, pad_token};
use crate::template::Template;
use crate::text_encoder::TextEncoder;
use crate::tokenizer::TextTokenizer;
use crate::view;
use job::Care;
use lens_core::{Exchange, Progress};
use lens_data::encoder::{EncoderIdentity, TemplateChoice, View, ViewChoice};
use lens_data::memory::available;
use outcome::hash_ids;
pub use outcome::{EncodeStats, Encoded, Likeness, MemoryEstimate, Refused};
use own::own_eos;
pub(crate) use own::{own_bos, own_template, own_tokenizer};
use pooling::DeclaredPooling;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most tokens of a view's suffix.
const MAX_SUFFIX: usize = 512;

/// Turns texts into hidden states of one model. Loads weights and tokenizer when it first needs
/// them: if the cache has everything, never.
pub struct Encoder {
    files: ModelFiles,
    spec: ModelSpec,
    layout: Layout,
    template: Template,
    options: EncoderOptions,
    identity: EncoderIdentity,
    /// What is remarkable about the model's files.
    notes: Vec<String>,
    /// The pooling that they declare.
    declared: Option<DeclaredPooling>,
    /// One for each view.
    caches: Option<Mutex<Vec<DiskCache>>>,
    tokenizer: Mutex<Option<Arc<TextTokenizer>>>,
    model: Mutex<Option<Arc<Model>>>,
    workspace: Mutex<Workspace>,
    stats: Mutex<EncodeStats>,
}

impl Encoder {
    /// Opens a GGUF file or a Hugging Face folder: checks that everything needed is in it, hashes
    /// it (once, if there is a cache folder), compiles the template. Weights are not loaded yet.
    ///
    /// # Errors
    /// The problem of the model or the options, each by its own [`EncoderError`].
    pub fn open(path: &Path, options: &EncoderOptions) -> Result<Self> {
        let files = ModelFiles::open(path)?;
        let (spec, layout) = ModelSpec::from_files(&files)?;
        let views = view::resolve(&options.views, &spec)?;
        if options.max_length < 2 {
            return Err(EncoderError::InvalidOption {
                option: "max_length",
                detail: format!("{} leaves no room for BOS and a token", options.max_length),
            });
        }
        let own = own_template(&files)?;
        let special = options.special_tokens;
        let template = Template::resolve(&options.template, own.as_deref(), special, path)?;
        let add_bos = match options.add_bos {
            Some(choice) => choice,
            None => own_bos(&files)?,
        };
        let cache_dir = options.cache_dir.as_deref();
        if let Some(dir) = cache_dir {
            std::fs::create_dir_all(dir)
                .map_err(|source| EncoderError::Cache { path: dir.to_owned(), source })?;
        }
        let model_file = files.path().file_name().unwrap_or(path.as_os_str());
        let (add_eos, notes) = own_eos(&files)?;
        let declared = DeclaredPooling::of(&files)?;
        let identity = EncoderIdentity {
            model_file: model_file.to_string_lossy().into_owned(),
            model_sha256: files.sha256(cache_dir)?,
            architecture: spec.architecture.clone(),
            dim: spec.dim,
            layers: spec.layers.len(),
            template: template.name.to_owned(),
            template_sha256: template.sha256.clone(),
            add_bos,
            add_eos,
            special_tokens: options.special_tokens,
            views,
            // Only rounding makes other numbers; how exact weights are held does not.
            dtype: if options.weights == Precision::Bf16 { "bf16" } else { "f32" }.to_owned(),
            max_length: options.max_length.min(spec.context),
        };
        let caches = open_caches(options, &identity)?.map(Mutex::new);
        Ok(Self {
            files,
            spec,
            layout,
            template,
            options: options.clone(),
            identity,
            notes,
            declared,
            caches,
            tokenizer: Mutex::new(None),
            model: Mutex::new(None),
            workspace: Mutex::default(),
            stats: Mutex::new(EncodeStats::default()),
        })
    }

    /// Takes other views from now on: vectors, identity and cache are those of an encoder that was
    /// opened with them. Nothing is hashed, compiled or read again; weights are only where a view
    /// lies deeper than what is loaded. Statistics go on.
    ///
    /// # Errors
    /// The problem of the views, by its own [`EncoderError`]; [`EncoderError::Cache`]. The
    /// encoder then is as it was.
    pub fn set_views(&mut self, views: &[ViewChoice]) -> Result<()> {
        let resolved = view::resolve(views, &self.spec)?;
        let identity = EncoderIdentity { views: resolved, ..self.identity.clone() };
        self.caches = open_caches(&self.options, &identity)?.map(Mutex::new);
        self.identity = identity;
        self.options.views = views.to_vec();
        let blocks = self.deepest();
        let model = self.model.get_mut().unwrap_or_else(PoisonError::into_inner);
        if model.as_ref().is_some_and(|model| model.blocks() < blocks) {
            *model = None;
        }
        Ok(())
    }

    /// Everything that decides the numbers this encoder returns.
    pub fn identity(&self) -> &EncoderIdentity {
        &self.identity
    }

    /// The template choice that the encoder was opened with.
    pub fn template(&self) -> &TemplateChoice {
        &self.options.template
    }

    /// The model, described.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The model's own reward, `label` by name or by number where it has several; `None` where it has no
    /// score head. Nothing of the model is loaded but the head.
    ///
    /// # Errors
    /// What is wrong with the head, each by its own [`EncoderError`].
    pub fn score_head(&self, label: Option<&str>) -> Result<Option<ScoreHead>> {
        ScoreHead::of(&self.files, &self.spec, label)
    }

    /// The token that pads batches, as the model's files say: transformers takes a reward at the last token
    /// that is not this one.
    ///
    /// # Errors
    /// A file that says something else than a number.
    pub fn pad_token(&self) -> Result<Option<u32>> {
        pad_token(&self.files)
    }

    /// The views that lie side by side in a vector.
    pub fn views(&self) -> &[View] {
        &self.identity.views
    }

    /// Width of the vectors: of all views together.
    pub fn dim(&self) -> usize {
        self.identity.width()
    }

    /// Blocks that the deepest view needs.
    fn deepest(&self) -> usize {
        self.identity.views.iter().map(|v| v.layer).max().unwrap_or(0)
    }

    fn needs(&self) -> MemoryNeeds {
        let tokens = self.options.batch_tokens.max(self.identity.max_length);
        MemoryNeeds {
            elements: self.spec.elements(self.deepest()),
            stored: self.files.bytes(),
            workspace: workspace_bytes(&self.spec, tokens),
        }
    }

    /// In which form weights will be held: as asked, or by what fits into memory now.
    ///
    /// # Errors
    /// [`EncoderError::TooLarge`].
    pub fn precision(&self) -> Result<Precision> {
        self.needs().choose(self.options.weights, available())
    }

    /// Loads weights and tokenizer now rather than with the first text.
    ///
    /// # Errors
    /// The problem of the weights or the tokenizer; [`EncoderError::TooLarge`].
    pub fn load(&self, progress: &dyn Progress) -> Result<()> {
        let (tokenizer, model) = rayon::join(|| self.tokenizer(), || self.model(progress));
        tokenizer?;
        model.map(|_| ())
    }

    /// Bytes the encoder will need once it computes something.
    pub fn memory_estimate(&self) -> MemoryEstimate {
        let needs = self.needs();
        let precision = self.precision().unwrap_or(self.options.weights);
        MemoryEstimate {
            weights: needs.weights(precision),
            workspace: needs.workspace,
            mapped: needs.stored,
        }
    }

    /// Counts and times of all calls since the encoder was opened.
    pub fn stats(&self) -> EncodeStats {
        *lock(&self.stats)
    }

    /// Vectors of exchanges, in their order. Each is rendered with the template first.
    ///
    /// # Errors
    /// By text: [`EncoderError::EmptyText`], [`EncoderError::NoPrompt`],
    /// [`EncoderError::NonFinite`]; or the model's, the cache's, [`EncoderError::Cancelled`].
    pub fn encode_exchanges(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = exchanges.iter().map(Item::Exchange).collect();
        self.encode(&items, progress)
    }

    /// Vectors of texts as they are, in their order; no template is applied.
    ///
    /// # Errors
    /// As [`Encoder::encode_exchanges`].
    pub fn encode_texts(&self, texts: &[String], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = texts.iter().map(|t| Item::Text(t)).collect();
        self.encode(&items, progress)
    }

    /// Vectors of lists of token ids as they are, in their order; nothing is added.
    ///
    /// # Errors
    /// As [`Encoder::encode_exchanges`]; [`EncoderError::Tokenizer`] for an id that the model has
    /// no embedding of.
    pub fn encode_ids(&self, lists: &[Vec<u32>], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let vocab = self.spec.vocab as u32;
        if let Some(id) = lists.iter().flatten().find(|id| **id >= vocab) {
            return Err(EncoderError::Tokenizer {
                detail: format!("token id {id} is not below the {vocab} embedded tokens"),
            });
        }
        let items: Vec<Item> = lists.iter().map(|ids| Item::Ids(ids)).collect();
        self.encode(&items, progress)
    }

    /// Token ids of a text as it is, as [`Encoder::encode_texts`] computes it.
    ///
    /// # Errors
    /// The problem of the tokenizer.
    pub fn token_ids(&self, text: &str) -> Result<Vec<u32>> {
        self.prepared(Item::Text(text)).map(|p| p.ids)
    }

    /// Token ids of an exchange, as [`Encoder::encode_exchanges`] computes it.
    ///
    /// # Errors
    /// The problem of the tokenizer or the template.
    pub fn exchange_ids(&self, exchange: &Exchange) -> Result<Vec<u32>> {
        self.prepared(Item::Exchange(exchange)).map(|p| p.ids)
    }

    fn prepared(&self, item: Item) -> Result<Prepared> {
        let tokenizer = self.tokenizer()?;
        prepare(item, &self.template, &tokenizer, self.identity.max_length, false)
    }

    /// Token ids of a text that was rendered before, as [`Input::Rendered`] is computed.
    ///
    /// # Errors
    /// The problem of the tokenizer.
    pub fn rendered_ids(&self, text: &str) -> Result<Vec<u32>> {
        self.prepared(Item::Rendered(text)).map(|p| p.ids)
    }

    /// The model's files.
    pub(crate) fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Where the model's weights lie.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// An exchange as the template writes it.
    pub(crate) fn rendered(&self, exchange: &Exchange) -> Result<String> {
        let rendered = self.template.render(exchange, &*self.tokenizer()?)?;
        Ok(match rendered.marker {
            Some(marker) => rendered.text.replace(marker, ""),
            None => rendered.text,
        })
    }

    /// The tokenizer, built when it is first needed.
    pub(crate) fn tokenizer(&self) -> Result<Arc<TextTokenizer>> {
        let mut slot = lock(&self.tokenizer);
        if let Some(tokenizer) = slot.as_ref() {
            return Ok(Arc::clone(tokenizer));
        }
        let fresh = Arc::new(own_tokenizer(
            &self.files,
            &self.spec,
            self.identity.add_bos,
            self.identity.special_tokens,
        )?);
        *slot = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// The weights: those of another encoder of the same model where they are in memory.
    fn model(&self, progress: &dyn Progress) -> Result<Arc<Model>> {
        let mut slot = lock(&self.model);
        if let Some(model) = slot.as_ref() {
            return Ok(Arc::clone(model));
        }
        let Self { files, spec, layout, .. } = self;
        let (sha256, blocks) = (&self.identity.model_sha256, self.deepest());
        let longest = (self.identity.max_length + MAX_SUFFIX).min(spec.context);
        let asked = self.options.weights;
        // A form that is chosen automatically never rounds.
        let fits = |held| held == asked || (asked == Precision::Auto && held != Precision::Bf16);
        let model = match held::find(sha256, longest, blocks, fits) {
            Some(model) => {
                progress.note("weights: in memory already, for another encoder of this model");
                model
            }
            None => {
                let precision = self.precision()?;
                let bytes = self.needs().weights(precision) as f64 / 1e9;
                let form = match precision {
                    Precision::Stored => "kept as stored, decoded when used",
                    Precision::Bf16 => "in bf16, decoded when used",
                    _ => "in f32",
                };
                progress.note(&format!("weights: {bytes:.2} GB, {form}"));
                let weights = Weights::load(files, spec, layout, blocks, precision)?;
                let model = Arc::new(Model::new(spec.clone(), weights, longest));
                let key = held::WeightsKey { sha256: sha256.clone(), precision, longest };
                held::hold(key, blocks, model)
            }
        };
        *slot = Some(Arc::clone(&model));
        Ok(model)
    }
}

/// The cache of each view, where vectors are kept.
fn open_caches(
    options: &EncoderOptions,
    identity: &EncoderIdentity,
) -> Result<Option<Vec<DiskCache>>> {
    match &options.cache_dir {
        Some(dir) if options.keep_vectors => {
            let open = |digest| DiskCache::open(dir, digest, identity.dim);
            digests(identity).iter().map(open).collect::<Result<Vec<_>>>().map(Some)
        }
        _ => Ok(None),
    }
}

impl TextEncoder for Encoder {
    fn identity(&self) -> &EncoderIdentity {
        Encoder::identity(self)
    }

    fn template(&self) -> &TemplateChoice {
        Encoder::template(self)
    }

    fn set_views(&mut self, views: &[ViewChoice]) -> Result<()> {
        Encoder::set_views(self, views)
    }

    fn stats(&self) -> EncodeStats {
        Encoder::stats(self)
    }

    fn score_head(&self, label: Option<&str>) -> Result<Option<ScoreHead>> {
        Encoder::score_head(self, label)
    }

    fn notes(&self) -> Vec<String> {
        let pooling = pooling::note(self.declared.as_ref(), &self.identity);
        self.notes.iter().cloned().chain(pooling).collect()
    }

    fn encode_exchanges(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<Encoded>> {
        Encoder::encode_exchanges(self, exchanges, progress)
    }

    fn encode_texts(&self, texts: &[String], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        Encoder::encode_texts(self, texts, progress)
    }

    fn encode_inputs(&self, inputs: &[Input], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = inputs.iter().map(Input::item).collect();
        self.encode(&items, progress)
    }

    fn encode_each(
        &self,
        inputs: &[Input],
        progress: &dyn Progress,
    ) -> Result<Vec<std::result::Result<Encoded, Refused>>> {
        let items: Vec<Item> = inputs.iter().map(Input::item).collect();
        self.encode_with(&items, Care::Rows, progress)
    }

    fn likeness(&self, a: &Exchange, b: &Exchange) -> Result<Likeness> {
        let tokenizer = self.tokenizer()?;
        let text = |exchange| self.template.render(exchange, &tokenizer);
        if text(a)? == text(b)? {
            return Ok(Likeness::Text);
        }
        let ids = |exchange| {
            let item = Item::Exchange(exchange);
            prepare(item, &self.template, &tokenizer, usize::MAX, false).map(|p| p.ids)
        };
        Ok(if ids(a)? == ids(b)? { Likeness::Tokens } else { Likeness::None })
    }
}

/// A panic elsewhere leaves nothing half done in what these locks guard.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
