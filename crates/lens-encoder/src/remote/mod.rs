//! Hidden states from an embedding server: vLLM, text-embeddings-inference, llama.cpp, Infinity, or
//! any other with OpenAI's `/v1/embeddings`.
//!
//! On opening, the server is asked for two short texts: that tells the width, whether vectors are
//! normalised (the magnitude is then lost, which is noted), whether one text gets one vector, and
//! which model it really is. Texts then go in batches, several requests at a time; finished batches
//! are stored at once. What a server answers is checked number by number, and no text is ever
//! shortened: one that is too long is an error that names it.

mod calls;
mod options;
mod probe;
mod wire;

use crate::cache::{DiskCache, Key, Record, key};
use crate::encoder::{EncodeStats, Encoded, Likeness};
use crate::error::{EncoderError, Result, ServerError};
use crate::http::LOOK;
use crate::identity::{digests, sha256_hex};
use crate::input::{Input, Item};
use crate::template::{Template, plain};
use crate::text_encoder::TextEncoder;
use calls::{Caller, Pool, Vectors};
use lens_core::{Exchange, Progress};
use lens_data::encoder::{
    EncoderIdentity, ServerApi, ServerRecord, SpecialTokens, TemplateChoice, ViewChoice,
};
use lens_data::turns::turns as to_messages;
use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use wire::{Flavour, Payload};

pub use options::RemoteOptions;

/// Stands for the chat template that only the server knows.
const CHAT: &str = "chat 1: messages, rendered by the server";

/// How models call their BOS token. A model without one has none of these at the beginning of a text.
const BOS: [&str; 4] =
    ["<bos>", "<s>", "<|begin_of_text|>", "<\u{ff5c}begin\u{2581}of\u{2581}sentence\u{ff5c}>"];

/// The vectors of an answer to so many texts, for [`crate::testing`].
#[cfg(any(test, feature = "testing"))]
pub(crate) fn vectors_of(api: ServerApi, body: &[u8], texts: usize) -> Option<Vec<Vec<f32>>> {
    wire::vectors(api, body, texts).ok().map(|(vectors, _)| vectors)
}

/// Turns texts into vectors of a model on a server.
pub struct RemoteEncoder {
    caller: Caller,
    record: ServerRecord,
    address: String,
    identity: EncoderIdentity,
    template: TemplateChoice,
    batch: usize,
    concurrency: usize,
    cache: Option<Mutex<DiskCache>>,
    stats: Mutex<EncodeStats>,
}

/// A distinct text of a call: the first item that asked for it, and its result.
struct Slot {
    item: usize,
    key: Key,
    record: Option<Record>,
}

impl RemoteEncoder {
    /// Opens a server: finds out how it is to be asked, and asks it a first time. Warnings go to
    /// `progress` as notes.
    ///
    /// # Errors
    /// [`EncoderError::InvalidOption`]; [`EncoderError::Server`] where it does not answer, wants a
    /// key, offers another model or answers nonsense; [`EncoderError::Cache`];
    /// [`EncoderError::Cancelled`].
    pub fn open(options: &RemoteOptions, progress: &dyn Progress) -> Result<Self> {
        options.check()?;
        let probe::Probed { caller, record, base: address, most } =
            probe::probe(options, progress)?;
        let chat = options.template == TemplateChoice::Chat;
        if chat && caller.flavour != Flavour::Vllm {
            let detail = "only vLLM takes messages to embed; choose --template plain".to_owned();
            return Err(ServerError::Unsupported { url: address, detail }.into());
        }
        let template = if chat { TemplateChoice::Chat } else { TemplateChoice::Plain };
        let identity = identity(&record, caller.dim, chat)?;
        let digest = digests(&identity)[0];
        let cache = match &options.cache_dir {
            None => None,
            Some(folder) => {
                let met = probe::first_met(folder, &digest, &record)?;
                let mut hasher = blake3::Hasher::new_keyed(digest.as_bytes());
                for value in &met {
                    hasher.update(&value.to_le_bytes());
                }
                let digest = hasher.finalize();
                Some(Mutex::new(DiskCache::open(folder, &digest, caller.dim)?))
            }
        };
        // A conversation goes alone: `messages` holds one.
        let batch = if chat { 1 } else { options.batch.min(most.unwrap_or(usize::MAX)).max(1) };
        Ok(Self {
            caller,
            record,
            address,
            identity,
            template,
            batch,
            concurrency: options.concurrency,
            cache,
            stats: Mutex::default(),
        })
    }

    /// The server, for a bundle to remember.
    pub fn record(&self) -> &ServerRecord {
        &self.record
    }

    fn encode(&self, items: &[Item], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let start = Instant::now();
        let mut slots: Vec<Slot> = Vec::new();
        let mut known: HashMap<Key, usize> = HashMap::new();
        let slot_of: Vec<usize> = (0..items.len())
            .map(|item| {
                let key = key(items[item]);
                *known.entry(key).or_insert_with(|| {
                    slots.push(Slot { item, key, record: None });
                    slots.len() - 1
                })
            })
            .collect();
        if let Some(cache) = &self.cache {
            let mut cache = lock(cache);
            cache.refresh(progress)?;
            slots.iter_mut().for_each(|s| s.record = cache.get(&s.key, progress));
        }
        let missing: Vec<usize> = (0..slots.len()).filter(|i| slots[*i].record.is_none()).collect();
        let mut fresh = vec![false; slots.len()];
        missing.iter().for_each(|i| fresh[*i] = true);
        let done = self.compute(items, &mut slots, &missing, progress);

        let tokens = |of: &dyn Fn(usize) -> bool| -> u64 {
            let slots = slots.iter().enumerate().filter(|(i, _)| of(*i));
            slots.filter_map(|(_, s)| s.record.as_ref()).map(|r| u64::from(r.tokens)).sum()
        };
        let computed = tokens(&|i| fresh[i]);
        let mut stats = lock(&self.stats);
        stats.texts += items.len();
        stats.computed += computed;
        stats.seconds += start.elapsed().as_secs_f64();
        done?;
        let mut encoded = Vec::with_capacity(items.len());
        for slot in &slot_of {
            let Slot { item, record, .. } = &slots[*slot];
            let record = record.as_ref().ok_or(EncoderError::EmptyText { index: *item })?;
            stats.tokens += u64::from(record.tokens);
            if !fresh[*slot] {
                stats.cached += u64::from(record.tokens);
            }
            encoded.push(Encoded {
                vector: record.vector.clone(),
                tokens: record.tokens as usize,
                truncated: record.truncated,
                ids_hash: record.ids_hash,
            });
        }
        stats.repeated = stats.tokens.saturating_sub(stats.cached + stats.computed);
        Ok(encoded)
    }

    /// Asks for the missing slots; each batch is stored as it comes.
    fn compute(
        &self,
        items: &[Item],
        slots: &mut [Slot],
        missing: &[usize],
        progress: &dyn Progress,
    ) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        if progress.cancelled() {
            return Err(EncoderError::Cancelled);
        }
        let payloads: Vec<Payload> = missing
            .iter()
            .map(|slot| self.payload(items[slots[*slot].item], slots[*slot].item))
            .collect::<Result<_>>()?;
        let hashes: Vec<u128> = payloads.iter().map(hash).collect();
        let indexes = missing.iter().map(|slot| slots[*slot].item).collect();
        progress.begin("embed", missing.len() as u64, "texts");
        let pool = Pool::start(&self.caller, payloads, indexes, self.batch, self.concurrency);
        let mut left = missing.len();
        let mut work = || -> Result<()> {
            let mut failure = None;
            while left > 0 {
                // After a failure or a stop, what has come already is still kept.
                let stopping = failure.is_some() || progress.cancelled();
                let next = if stopping {
                    pool.done.try_recv().map_err(|_| RecvTimeoutError::Disconnected)
                } else {
                    pool.done.recv_timeout(LOOK)
                };
                match next {
                    Ok((range, Ok(vectors))) => {
                        let places = &missing[range.clone()];
                        self.keep(slots, places, vectors, &hashes[range], progress)?;
                        left -= places.len();
                        progress.advance(places.len() as u64);
                    }
                    Ok((_, Err(e))) => drop(failure.get_or_insert(e)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(failure.unwrap_or(EncoderError::Cancelled));
                    }
                }
            }
            Ok(())
        };
        let done = work();
        progress.end();
        done
    }

    fn keep(
        &self,
        slots: &mut [Slot],
        places: &[usize],
        vectors: Vectors,
        hashes: &[u128],
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut records = Vec::with_capacity(places.len());
        for ((place, (vector, tokens)), ids_hash) in places.iter().zip(vectors).zip(hashes) {
            let slot = &mut slots[*place];
            let vector = vector.into();
            let record = Record { vector, tokens, truncated: false, ids_hash: *ids_hash };
            records.push((slot.key, record.clone()));
            slot.record = Some(record);
        }
        match &self.cache {
            Some(cache) => lock(cache).append(&records, progress),
            None => Ok(()),
        }
    }

    fn payload(&self, item: Item, index: usize) -> Result<Payload> {
        let payload = match item {
            Item::Text(text) => Payload::Text(text.to_owned()),
            // The server adds BOS itself.
            Item::Rendered(text) => {
                let text = BOS.iter().find_map(|bos| text.strip_prefix(bos)).unwrap_or(text);
                Payload::Text(text.to_owned())
            }
            Item::Ids(_) => {
                let detail = "lists of token ids are for models in this process".to_owned();
                return Err(EncoderError::InvalidOption { option: "server", detail });
            }
            Item::Exchange(exchange) if self.template == TemplateChoice::Chat => {
                Payload::Chat(to_messages(exchange).0)
            }
            Item::Exchange(exchange) => Payload::Text(plain(exchange).0),
        };
        if payload.bytes() == 0 { Err(EncoderError::EmptyText { index }) } else { Ok(payload) }
    }
}

/// The identity of a model on a server, from its name and its answers. The server decides how texts
/// become tokens, and which layer is read.
fn identity(record: &ServerRecord, dim: usize, chat: bool) -> Result<EncoderIdentity> {
    let architecture = match record.api {
        ServerApi::Tei => "tei",
        _ => "openai-embeddings",
    };
    let (template, template_sha256) = if chat {
        ("chat".to_owned(), sha256_hex(CHAT.as_bytes()))
    } else {
        let (choice, special) = (TemplateChoice::Plain, SpecialTokens::Text);
        let plain = Template::resolve(&choice, None, special, Path::new(""))?;
        (plain.name.to_owned(), plain.sha256)
    };
    Ok(EncoderIdentity {
        model_file: record.model.clone(),
        model_sha256: sha256_hex(format!("{architecture}\n{}", record.model).as_bytes()),
        architecture: architecture.to_owned(),
        dim,
        layers: 0,
        template,
        template_sha256,
        add_bos: false,
        add_eos: false,
        special_tokens: SpecialTokens::Text,
        views: Vec::new(),
        dtype: if record.normalised { "as served, normalised" } else { "as served" }.to_owned(),
        max_length: 0,
    })
}

impl TextEncoder for RemoteEncoder {
    fn identity(&self) -> &EncoderIdentity {
        &self.identity
    }

    fn template(&self) -> &TemplateChoice {
        &self.template
    }

    fn set_views(&mut self, _: &[ViewChoice]) -> Result<()> {
        Err(ServerError::Views { url: self.address.clone() }.into())
    }

    fn stats(&self) -> EncodeStats {
        *lock(&self.stats)
    }

    fn server(&self) -> Option<&ServerRecord> {
        Some(&self.record)
    }

    fn address(&self) -> Option<&str> {
        Some(&self.address)
    }

    fn encode_exchanges(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = exchanges.iter().map(Item::Exchange).collect();
        self.encode(&items, progress)
    }

    fn encode_texts(&self, texts: &[String], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = texts.iter().map(|t| Item::Text(t)).collect();
        self.encode(&items, progress)
    }

    fn encode_inputs(&self, inputs: &[Input], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let items: Vec<Item> = inputs.iter().map(Input::item).collect();
        self.encode(&items, progress)
    }

    fn likeness(&self, a: &Exchange, b: &Exchange) -> Result<Likeness> {
        let payload = |exchange| self.payload(Item::Exchange(exchange), 0);
        let same = hash(&payload(a)?) == hash(&payload(b)?);
        Ok(if same { Likeness::Text } else { Likeness::None })
    }
}

/// Equal for what is equal to the server.
fn hash(payload: &Payload) -> u128 {
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    match payload {
        Payload::Text(text) => part(text),
        Payload::Chat(turns) => turns.iter().for_each(|m| {
            part(&m.role);
            part(&m.content);
        }),
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

/// A panic elsewhere leaves nothing half done in what these locks guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
