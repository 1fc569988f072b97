//! The encoder itself: model file, tokenizer, template, forward pass and cache put together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lens_core::{Exchange, Progress};
use rayon::prelude::*;

use crate::cache::{DiskCache, Key, Record, key};
use crate::error::{EncoderError, Result};
use crate::family::DecoderSpec;
use crate::forward::{Model, Workspace, workspace_bytes};
use crate::gguf::GgufFile;
use crate::identity::{EncoderIdentity, file_sha256};
use crate::input::{Item, Prepared, prepare};
use crate::options::EncoderOptions;
use crate::plan::{Batch, plan};
use crate::template::{Template, TemplateChoice};
use crate::text_encoder::TextEncoder;
use crate::tokenizer::{SpecialTokens, TextTokenizer, adds_bos};
use crate::weights::{self, Weights};

/// Texts tokenised between two looks at whether the user wants to stop.
const TOKENIZE_CHUNK: usize = 512;

/// One text's vector, and what became of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The hidden state, `dim` values, as the model has it: not normalised.
    pub vector: Arc<[f32]>,
    /// Tokens the vector was computed from.
    pub tokens: usize,
    /// Whether the text was longer than the limit and lost a part.
    pub truncated: bool,
    /// A hash of the token ids: two sides of a pair with equal hashes are the same to the model.
    pub ids_hash: u128,
}

/// What encoding took since the encoder was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EncodeStats {
    /// Texts asked for.
    pub texts: usize,
    /// Tokens of all texts asked for.
    pub tokens: u64,
    /// Tokens that went through the model.
    pub computed: u64,
    /// Tokens saved because texts begin alike.
    pub shared: u64,
    /// Tokens saved because texts are equal.
    pub repeated: u64,
    /// Tokens saved because their vectors were in the cache.
    pub cached: u64,
    /// Seconds spent, loading included.
    pub seconds: f64,
    /// Seconds of these in the forward pass.
    pub forward_seconds: f64,
}

/// Bytes an encoder will need, known before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Decoded weights.
    pub weights: u64,
    /// Buffers of the forward pass, for one batch.
    pub workspace: u64,
    /// The mapped model file: pages the system can take back at any time.
    pub mapped: u64,
}

/// Turns texts into hidden states of one model. Loads weights and tokenizer when it first needs
/// them: if the cache has everything, never.
pub struct Encoder {
    file: Arc<GgufFile>,
    spec: DecoderSpec,
    template: Template,
    options: EncoderOptions,
    identity: EncoderIdentity,
    digest: blake3::Hash,
    cache: Option<Mutex<DiskCache>>,
    loaded: Mutex<Option<Arc<Loaded>>>,
    stats: Mutex<EncodeStats>,
}

impl TextEncoder for Encoder {
    fn identity(&self) -> &EncoderIdentity {
        Encoder::identity(self)
    }

    fn template(&self) -> &TemplateChoice {
        Encoder::template(self)
    }

    fn stats(&self) -> EncodeStats {
        Encoder::stats(self)
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
}

struct Loaded {
    tokenizer: TextTokenizer,
    model: Model,
    workspace: Mutex<Workspace>,
}

/// A distinct text of a call: the first item that asked for it, and its result.
struct Slot {
    item: usize,
    key: Key,
    record: Option<Record>,
}

impl Encoder {
    /// Opens a model file: checks that everything needed is in it, hashes it (once, if there is a
    /// cache folder), compiles the template. Weights are not loaded yet.
    pub fn open(path: &Path, options: &EncoderOptions) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let spec = DecoderSpec::from_gguf(&file)?;
        weights::check(&file, &spec)?;
        let layer = spec.resolve_layer(options.layer)?;
        if options.max_length < 2 {
            return Err(EncoderError::InvalidOption {
                option: "max_length",
                detail: format!("{} leaves no room for BOS and a token", options.max_length),
            });
        }
        let own = file.text("tokenizer.chat_template")?;
        let template = Template::resolve(&options.template, own, path)?;
        let add_bos = match options.add_bos {
            Some(choice) => choice,
            None => adds_bos(&file)?,
        };
        let cache_dir = options.cache_dir.as_deref();
        if let Some(dir) = cache_dir {
            std::fs::create_dir_all(dir)
                .map_err(|source| EncoderError::Cache { path: dir.to_owned(), source })?;
        }
        let model_file = path.file_name().unwrap_or(path.as_os_str());
        let identity = EncoderIdentity {
            model_file: model_file.to_string_lossy().into_owned(),
            model_sha256: file_sha256(path, cache_dir)?,
            architecture: spec.architecture.clone(),
            dim: spec.dim,
            layers: spec.layers.len(),
            template: template.name.to_owned(),
            template_sha256: template.sha256.clone(),
            add_bos,
            layer,
            pooling: options.pooling,
            dtype: "f32".to_owned(),
            max_length: options.max_length.min(spec.context),
        };
        let digest = identity.digest();
        let cache = match cache_dir {
            Some(dir) => Some(Mutex::new(DiskCache::open(dir, &digest, spec.dim)?)),
            None => None,
        };
        Ok(Self {
            file: Arc::new(file),
            spec,
            template,
            options: options.clone(),
            identity,
            digest,
            cache,
            loaded: Mutex::new(None),
            stats: Mutex::new(EncodeStats::default()),
        })
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
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Width of the vectors.
    pub fn dim(&self) -> usize {
        self.spec.dim
    }

    /// Bytes the encoder will need once it computes something.
    pub fn memory_estimate(&self) -> MemoryEstimate {
        let tokens = self.options.batch_tokens.max(self.identity.max_length);
        MemoryEstimate {
            weights: Weights::bytes(&self.spec, self.identity.layer),
            workspace: workspace_bytes(&self.spec, tokens),
            mapped: self.file.bytes().len() as u64,
        }
    }

    /// What all calls took together since the encoder was opened.
    pub fn stats(&self) -> EncodeStats {
        *lock(&self.stats)
    }

    /// Vectors of exchanges, in their order. Each is rendered with the template first.
    pub fn encode_exchanges(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = exchanges.iter().map(Item::Exchange).collect();
        self.encode(&items, progress)
    }

    /// Vectors of texts as they are, in their order; no template is applied.
    pub fn encode_texts(&self, texts: &[String], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = texts.iter().map(|t| Item::Text(t)).collect();
        self.encode(&items, progress)
    }

    /// Token ids of a text as it is, as [`Encoder::encode_texts`] computes it.
    pub fn token_ids(&self, text: &str) -> Result<Vec<u32>> {
        self.prepared(Item::Text(text)).map(|p| p.ids)
    }

    /// Token ids of an exchange, as [`Encoder::encode_exchanges`] computes it.
    pub fn exchange_ids(&self, exchange: &Exchange) -> Result<Vec<u32>> {
        self.prepared(Item::Exchange(exchange)).map(|p| p.ids)
    }

    fn prepared(&self, item: Item) -> Result<Prepared> {
        let loaded = self.loaded()?;
        prepare(item, &self.template, &loaded.tokenizer, self.identity.max_length)
    }

    fn encode(&self, items: &[Item], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let start = Instant::now();
        let mut stats = EncodeStats { texts: items.len(), ..EncodeStats::default() };
        let (mut slots, slot_of) = self.distinct(items);
        self.recall(&mut slots, progress)?;
        let from_cache: Vec<bool> = slots.iter().map(|s| s.record.is_some()).collect();
        let missing: Vec<usize> = (0..slots.len()).filter(|i| !from_cache[*i]).collect();
        let mut done = Ok(());
        if !missing.is_empty() {
            done = self.compute(items, &mut slots, &missing, progress, &mut stats);
        }
        // Also after a cancelled run the time was spent and the tokens were computed.
        let encoded = done.and_then(|()| collect(&slots, &slot_of));
        if let Ok(encoded) = &encoded {
            stats.tokens = encoded.iter().map(|e| e.tokens as u64).sum();
            let cached = encoded.iter().zip(&slot_of).filter(|(_, s)| from_cache[**s]);
            stats.cached = cached.map(|(e, _)| e.tokens as u64).sum();
            stats.repeated = stats.tokens - stats.cached - stats.computed - stats.shared;
        }
        stats.seconds = start.elapsed().as_secs_f64();
        lock(&self.stats).add(&stats);
        encoded
    }

    /// Equal items become one slot.
    fn distinct(&self, items: &[Item]) -> (Vec<Slot>, Vec<usize>) {
        let keys: Vec<Key> = items.par_iter().map(|item| key(&self.digest, *item)).collect();
        let mut slots: Vec<Slot> = Vec::new();
        let mut known: HashMap<Key, usize> = HashMap::new();
        let slot_of = keys
            .into_iter()
            .enumerate()
            .map(|(item, key)| {
                *known.entry(key).or_insert_with(|| {
                    slots.push(Slot { item, key, record: None });
                    slots.len() - 1
                })
            })
            .collect();
        (slots, slot_of)
    }

    fn recall(&self, slots: &mut [Slot], progress: &dyn Progress) -> Result<()> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let mut cache = lock(cache);
        cache.refresh(progress)?;
        for slot in slots {
            slot.record = cache.get(&slot.key, progress);
        }
        Ok(())
    }

    fn loaded(&self) -> Result<Arc<Loaded>> {
        let mut loaded = lock(&self.loaded);
        if let Some(loaded) = loaded.as_ref() {
            return Ok(Arc::clone(loaded));
        }
        let EncoderIdentity { layer, max_length, pooling, add_bos, .. } = self.identity;
        let (tokenizer, weights) = rayon::join(
            || TextTokenizer::from_gguf(&self.file, self.spec.vocab, add_bos, SpecialTokens::Text),
            || Weights::load(&self.file, &self.spec, layer),
        );
        let model = Model::new(self.spec.clone(), weights?, pooling, max_length);
        let fresh = Arc::new(Loaded { tokenizer: tokenizer?, model, workspace: Mutex::default() });
        *loaded = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Computes the missing slots, batch by batch, storing each batch.
    fn compute(
        &self,
        items: &[Item],
        slots: &mut [Slot],
        missing: &[usize],
        progress: &dyn Progress,
        stats: &mut EncodeStats,
    ) -> Result<()> {
        if progress.cancelled() {
            return Err(EncoderError::Cancelled);
        }
        let loaded = self.loaded()?;
        let mut lists: Vec<Vec<u32>> = Vec::new();
        // Which slots (and whether shortened) each distinct list of ids answers.
        let mut answers: Vec<Vec<(usize, bool)>> = Vec::new();
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        for chunk in missing.chunks(TOKENIZE_CHUNK) {
            if progress.cancelled() {
                return Err(EncoderError::Cancelled);
            }
            let prepared: Vec<Prepared> = chunk
                .par_iter()
                .map(|slot| {
                    let index = slots[*slot].item;
                    let limit = self.identity.max_length;
                    let p = prepare(items[index], &self.template, &loaded.tokenizer, limit)?;
                    if p.ids.is_empty() { Err(EncoderError::EmptyText { index }) } else { Ok(p) }
                })
                .collect::<Result<_>>()?;
            for (slot, Prepared { ids, truncated }) in chunk.iter().zip(prepared) {
                let list = *known.entry(ids).or_insert_with_key(|ids| {
                    lists.push(ids.clone());
                    answers.push(Vec::new());
                    lists.len() - 1
                });
                answers[list].push((*slot, truncated));
            }
        }
        drop(known);
        let batches = plan(&lists, self.options.batch_tokens, self.options.share_prefixes);
        let total: usize = batches.iter().map(|b| b.tokens.len()).sum();
        progress.begin("embed", total as u64, "tokens");
        let mut work = Work { encoder: self, loaded: &loaded, lists, answers, slots, stats };
        let result = batches.iter().try_for_each(|batch| work.batch(batch, progress));
        progress.end();
        result
    }
}

/// What all batches of a call have in common.
struct Work<'a> {
    encoder: &'a Encoder,
    loaded: &'a Loaded,
    lists: Vec<Vec<u32>>,
    answers: Vec<Vec<(usize, bool)>>,
    slots: &'a mut [Slot],
    stats: &'a mut EncodeStats,
}

impl Work<'_> {
    fn batch(&mut self, batch: &Batch, progress: &dyn Progress) -> Result<()> {
        if progress.cancelled() {
            return Err(EncoderError::Cancelled);
        }
        let start = Instant::now();
        let states = self.loaded.model.run(batch, &mut lock(&self.loaded.workspace))?;
        self.stats.forward_seconds += start.elapsed().as_secs_f64();
        self.stats.computed += batch.tokens.len() as u64;
        self.stats.shared += (batch.tokens_of_texts() - batch.tokens.len()) as u64;
        let mut records = Vec::with_capacity(batch.ends.len());
        for ((list, _), state) in batch.ends.iter().zip(states.chunks_exact(self.encoder.dim())) {
            let ids = &self.lists[*list];
            let vector: Arc<[f32]> = state.into();
            for (slot, truncated) in &self.answers[*list] {
                let slot = &mut self.slots[*slot];
                if !state.iter().all(|v| v.is_finite()) {
                    return Err(EncoderError::NonFinite { index: slot.item });
                }
                let record = Record {
                    vector: Arc::clone(&vector),
                    tokens: ids.len() as u32,
                    truncated: *truncated,
                    ids_hash: hash_ids(ids),
                };
                records.push((slot.key, record.clone()));
                slot.record = Some(record);
            }
        }
        if let Some(cache) = &self.encoder.cache {
            lock(cache).append(&records, progress)?;
        }
        progress.advance(batch.tokens.len() as u64);
        Ok(())
    }
}

fn collect(slots: &[Slot], slot_of: &[usize]) -> Result<Vec<Encoded>> {
    slot_of
        .iter()
        .map(|slot| {
            // Every slot is filled once the batches are through: each list ends in one of them.
            let slot = &slots[*slot];
            let record =
                slot.record.as_ref().ok_or(EncoderError::EmptyText { index: slot.item })?;
            Ok(Encoded {
                vector: Arc::clone(&record.vector),
                tokens: record.tokens as usize,
                truncated: record.truncated,
                ids_hash: record.ids_hash,
            })
        })
        .collect()
}

fn hash_ids(ids: &[u32]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

impl EncodeStats {
    fn add(&mut self, other: &Self) {
        self.texts += other.texts;
        self.tokens += other.tokens;
        self.computed += other.computed;
        self.shared += other.shared;
        self.repeated += other.repeated;
        self.cached += other.cached;
        self.seconds += other.seconds;
        self.forward_seconds += other.forward_seconds;
    }
}

/// A panic elsewhere leaves nothing half done in what these locks guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
