//! One call of the encoder: what the cache does not have is computed, batch by batch.

use super::{EncodeStats, Encoded, Encoder, MAX_SUFFIX, Refused, hash_ids, lock};
use crate::cache::{Key, Record, key};
use crate::error::{EncoderError, Result};
use crate::forward::plan::{Batch, Rules, plan};
use crate::forward::{Model, Request};
use crate::input::{Item, Prepared, prepare};
use crate::tokenizer::TextTokenizer;
use lens_core::Progress;
use lens_data::encoder::Pooling;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Texts tokenised between two looks at whether the user wants to stop.
const TOKENIZE_CHUNK: usize = 512;
/// Texts of a call at which its template may exceed its limits: each costs up to seconds.
const MOST_EXCEEDING: usize = 3;

/// A distinct text of a call: the first item that asked for it, and its result.
struct Slot {
    item: usize,
    key: Key,
    /// One for each view.
    records: Vec<Option<Record>>,
    refused: Option<Refused>,
}

/// What is done about a text that cannot be what its user meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// A text that the template refuses fails the call; texts are taken as they are.
    Strict,
    /// A text that the template refuses is its own failure; texts that were rendered before fail the
    /// call, before anything is computed.
    Rows,
}

/// The views with one suffix, which need the same tokens.
struct SuffixGroup {
    suffix: Option<String>,
    views: Vec<usize>,
}

/// A list of tokens to compute.
struct TokenList {
    /// Which views are taken of it.
    views: Vec<usize>,
    /// Which slots it answers, and whether their text was shortened.
    answers: Vec<(usize, bool)>,
}

impl Encoder {
    pub(super) fn encode(&self, items: &[Item], progress: &dyn Progress) -> Result<Vec<Encoded>> {
        let encoded = self.encode_with(items, Care::Strict, progress)?.into_iter().enumerate();
        encoded.map(|(index, one)| one.map_err(|refused| refused.error(index))).collect()
    }

    pub(super) fn encode_with(
        &self,
        items: &[Item],
        care: Care,
        progress: &dyn Progress,
    ) -> Result<Vec<std::result::Result<Encoded, Refused>>> {
        let start = Instant::now();
        let mut stats = EncodeStats { texts: items.len(), ..EncodeStats::default() };
        let groups = self.groups();
        let (mut slots, slot_of) = self.distinct(items);
        self.recall(&mut slots, progress)?;
        // Which groups of a slot the cache has.
        let known: Vec<Vec<bool>> = slots
            .iter()
            .map(|slot| {
                let whole = |g: &SuffixGroup| g.views.iter().all(|v| slot.records[*v].is_some());
                groups.iter().map(whole).collect()
            })
            .collect();
        let mut done = Ok(());
        if known.iter().flatten().any(|k| !k) {
            let texts = Texts { items, slot_of: &slot_of, care };
            done = self.compute(&texts, &mut slots, &groups, &known, progress, &mut stats);
        }
        // Also after a cancelled run the time was spent and the tokens were computed.
        let encoded = done.and_then(|()| collect(&slots, &slot_of));
        if encoded.is_ok() {
            for slot in &slot_of {
                for (group, cached) in groups.iter().zip(&known[*slot]) {
                    let record =
                        group.views.first().and_then(|v| slots[*slot].records[*v].as_ref());
                    let tokens = record.map_or(0, |r| u64::from(r.tokens));
                    stats.tokens += tokens;
                    stats.cached += if *cached { tokens } else { 0 };
                }
            }
            stats.repeated = stats.tokens - stats.cached - stats.computed - stats.shared;
        }
        stats.seconds = start.elapsed().as_secs_f64();
        lock(&self.stats).add(&stats);
        encoded
    }

    /// The views by their suffix.
    fn groups(&self) -> Vec<SuffixGroup> {
        let mut groups: Vec<SuffixGroup> = Vec::new();
        for (v, view) in self.identity.views.iter().enumerate() {
            match groups.iter_mut().find(|g| g.suffix == view.suffix) {
                Some(group) => group.views.push(v),
                None => groups.push(SuffixGroup { suffix: view.suffix.clone(), views: vec![v] }),
            }
        }
        groups
    }

    /// Equal items become one slot.
    fn distinct(&self, items: &[Item]) -> (Vec<Slot>, Vec<usize>) {
        let keys: Vec<Key> = items.par_iter().map(|item| key(*item)).collect();
        let mut slots: Vec<Slot> = Vec::new();
        let mut known: HashMap<Key, usize> = HashMap::new();
        let slot_of = keys
            .into_iter()
            .enumerate()
            .map(|(item, key)| {
                *known.entry(key).or_insert_with(|| {
                    let records = vec![None; self.identity.views.len()];
                    slots.push(Slot { item, key, records, refused: None });
                    slots.len() - 1
                })
            })
            .collect();
        (slots, slot_of)
    }

    fn recall(&self, slots: &mut [Slot], progress: &dyn Progress) -> Result<()> {
        let Some(caches) = &self.caches else { return Ok(()) };
        for (v, cache) in lock(caches).iter_mut().enumerate() {
            cache.refresh(progress)?;
            for slot in slots.iter_mut() {
                slot.records[v] = cache.get(&slot.key, progress);
            }
        }
        Ok(())
    }

    /// Computes what is missing, storing each batch.
    fn compute(
        &self,
        texts: &Texts,
        slots: &mut [Slot],
        groups: &[SuffixGroup],
        known: &[Vec<bool>],
        progress: &dyn Progress,
        stats: &mut EncodeStats,
    ) -> Result<()> {
        if progress.cancelled() {
            return Err(EncoderError::Cancelled);
        }
        let items = texts.items;
        let only_ids = items.iter().all(|item| matches!(item, Item::Ids(_)));
        let needs_tokenizer = !only_ids || groups.iter().any(|g| g.suffix.is_some());
        let (tokenizer, model) = rayon::join(
            || needs_tokenizer.then(|| self.tokenizer()).transpose(),
            || self.model(progress),
        );
        let (tokenizer, model) = (tokenizer?, model?);
        if let (Care::Rows, Some(tokenizer)) = (texts.care, &tokenizer) {
            self.refuse_rendered(texts, slots, tokenizer)?;
        }
        let mut lists = TokenLists::default();
        let exceeding = AtomicUsize::new(0);
        let mut exceeded = 0;
        for (g, group) in groups.iter().enumerate() {
            let suffix = match (&group.suffix, &tokenizer) {
                (Some(text), Some(tokenizer)) => self.suffix_ids(text, tokenizer)?,
                _ => Vec::new(),
            };
            let missing: Vec<usize> = (0..slots.len()).filter(|s| !known[*s][g]).collect();
            for chunk in missing.chunks(TOKENIZE_CHUNK) {
                if progress.cancelled() {
                    return Err(EncoderError::Cancelled);
                }
                let prepared: Vec<Option<(Vec<usize>, Result<Prepared>)>> = chunk
                    .par_iter()
                    .map(|s| {
                        if exceeding.load(Ordering::Relaxed) >= MOST_EXCEEDING {
                            return None;
                        }
                        let slot = &slots[*s];
                        let absent = |v: &&usize| slot.records[**v].is_none();
                        let views: Vec<usize> =
                            group.views.iter().filter(absent).copied().collect();
                        let p = self.prepared_for(
                            items[slot.item],
                            slot.item,
                            &views,
                            &suffix,
                            tokenizer.as_deref(),
                        );
                        if matches!(p, Err(EncoderError::TemplateLimit { .. })) {
                            exceeding.fetch_add(1, Ordering::Relaxed);
                        }
                        Some((views, p))
                    })
                    .collect();
                // Texts are passed over only where enough others have failed, which is found here.
                let tried = chunk.iter().zip(prepared).filter_map(|(s, p)| Some((s, p?)));
                for (s, (views, prepared)) in tried {
                    let error = match prepared {
                        Ok(prepared) => {
                            lists.add(*s, views, prepared);
                            continue;
                        }
                        Err(error) => error,
                    };
                    exceeded += usize::from(matches!(error, EncoderError::TemplateLimit { .. }));
                    if exceeded >= MOST_EXCEEDING {
                        return Err(error);
                    }
                    match error.at(slots[*s].item) {
                        EncoderError::Refused { name, detail, .. } if texts.care == Care::Rows => {
                            slots[*s].refused = Some(Refused { template: name, detail });
                        }
                        error => return Err(error),
                    }
                }
            }
        }
        let requests: Vec<Vec<Request>> = lists
            .all
            .iter()
            .zip(&lists.prompts)
            .map(|(list, prompt)| {
                let request = |v: &usize| {
                    let view = &self.identity.views[*v];
                    Request { layer: view.layer, pooling: view.pooling, prompt: *prompt }
                };
                list.views.iter().map(request).collect()
            })
            .collect();
        let rules = Rules {
            budget: self.options.batch_tokens,
            sharing: self.options.share_prefixes && self.spec.causal,
            long_from: self.spec.long_from(),
        };
        let batches = plan(&lists.ids, rules);
        let total: usize = batches.iter().map(|b| b.tokens.len()).sum();
        progress.begin("embed", total as u64, "tokens");
        let mut work = BatchRunner { encoder: self, model: &model, lists, requests, slots, stats };
        let result = batches.iter().try_for_each(|batch| work.batch(batch, progress));
        progress.end();
        result
    }

    /// Refuses what went through a chat template already.
    fn refuse_rendered(
        &self,
        texts: &Texts,
        slots: &[Slot],
        tokenizer: &TextTokenizer,
    ) -> Result<()> {
        let rendered: Vec<bool> = slots
            .par_iter()
            .map(|slot| match texts.items[slot.item] {
                Item::Exchange(exchange) => self.template.is_wrapped_twice(exchange, tokenizer),
                Item::Text(text) => self.template.is_spelt_out(text, tokenizer),
                Item::Rendered(_) | Item::Ids(_) => false,
            })
            .collect();
        let found = |index: &usize| rendered[texts.slot_of[*index]];
        let indices: Vec<usize> = (0..texts.items.len()).filter(found).collect();
        if indices.is_empty() { Ok(()) } else { Err(EncoderError::AlreadyRendered { indices }) }
    }

    /// Token ids of a suffix: control tokens in it are parsed, nothing is added.
    fn suffix_ids(&self, text: &str, tokenizer: &TextTokenizer) -> Result<Vec<u32>> {
        let ids = tokenizer.fragment(text)?;
        let most = (self.identity.max_length / 2).min(MAX_SUFFIX);
        if ids.is_empty() || ids.len() > most {
            return Err(EncoderError::InvalidOption {
                option: "view",
                detail: format!(
                    "the suffix has {} tokens, of texts of up to {}",
                    ids.len(),
                    self.identity.max_length
                ),
            });
        }
        Ok(ids)
    }

    /// The ids of an item for some views with the same suffix.
    fn prepared_for(
        &self,
        item: Item,
        index: usize,
        views: &[usize],
        suffix: &[u32],
        tokenizer: Option<&TextTokenizer>,
    ) -> Result<Prepared> {
        let at_prompt = |v: &usize| self.identity.views[*v].pooling == Pooling::PromptLast;
        let find_prompt = views.iter().any(at_prompt);
        let max = self.identity.max_length;
        let prepare = |max| match (item, tokenizer) {
            (Item::Ids(ids), _) => Ok(Prepared::of_ids(ids, max)),
            (item, Some(tokenizer)) => prepare(item, &self.template, tokenizer, max, find_prompt),
            // The caller loads a tokenizer for everything but lists of ids.
            (_, None) => Err(EncoderError::EmptyText { index }),
        };
        // The limit is one of texts; a suffix comes on top, so that it shares the whole text, as far
        // as the model's context goes.
        let mut p = prepare(max.min(self.spec.context.saturating_sub(suffix.len())))?;
        if p.ids.is_empty() {
            return Err(EncoderError::EmptyText { index });
        }
        if find_prompt && p.prompt.unwrap_or(0) == 0 {
            return Err(EncoderError::NoPrompt { index });
        }
        p.ids.extend_from_slice(suffix);
        Ok(p)
    }
}

/// The items of a call, and the slot of each.
struct Texts<'a> {
    items: &'a [Item<'a>],
    slot_of: &'a [usize],
    care: Care,
}

/// The distinct lists of tokens to compute.
#[derive(Default)]
struct TokenLists {
    ids: Vec<Vec<u32>>,
    /// Tokens of each list's prompt, where a view needs to know; else 0.
    prompts: Vec<usize>,
    all: Vec<TokenList>,
    known: HashMap<(Vec<u32>, usize, Vec<usize>), usize>,
}

impl TokenLists {
    fn add(&mut self, slot: usize, views: Vec<usize>, prepared: Prepared) {
        let Prepared { ids, truncated, prompt } = prepared;
        let prompt = prompt.unwrap_or(0);
        let list = *self.known.entry((ids, prompt, views)).or_insert_with_key(|(ids, _, views)| {
            self.ids.push(ids.clone());
            self.prompts.push(prompt);
            self.all.push(TokenList { views: views.clone(), answers: Vec::new() });
            self.all.len() - 1
        });
        self.all[list].answers.push((slot, truncated));
    }
}

/// The state that all batches of a call share.
struct BatchRunner<'a> {
    encoder: &'a Encoder,
    model: &'a Model,
    lists: TokenLists,
    requests: Vec<Vec<Request>>,
    slots: &'a mut [Slot],
    stats: &'a mut EncodeStats,
}

impl BatchRunner<'_> {
    fn batch(&mut self, batch: &Batch, progress: &dyn Progress) -> Result<()> {
        if progress.cancelled() {
            return Err(EncoderError::Cancelled);
        }
        let start = Instant::now();
        let mut workspace = lock(&self.encoder.workspace);
        let states = self.model.run(batch, &self.requests, &mut workspace)?;
        drop(workspace);
        self.stats.forward_seconds += start.elapsed().as_secs_f64();
        self.stats.computed += batch.tokens.len() as u64;
        self.stats.shared += (batch.tokens_of_texts() - batch.tokens.len()) as u64;
        let mut records: Vec<Vec<(Key, Record)>> =
            vec![Vec::new(); self.encoder.identity.views.len()];
        for ((list, _), states) in batch.ends.iter().zip(states) {
            let ids = &self.lists.ids[*list];
            let ids_hash = hash_ids(ids);
            let TokenList { views, answers } = &self.lists.all[*list];
            for (v, state) in views.iter().zip(states) {
                let finite = state.iter().all(|v| v.is_finite());
                let vector: Arc<[f32]> = state.into();
                for (slot, truncated) in answers {
                    let slot = &mut self.slots[*slot];
                    if !finite {
                        return Err(EncoderError::NonFinite { index: slot.item });
                    }
                    let record = Record {
                        vector: Arc::clone(&vector),
                        tokens: ids.len() as u32,
                        truncated: *truncated,
                        ids_hash,
                    };
                    records[*v].push((slot.key, record.clone()));
                    slot.records[*v] = Some(record);
                }
            }
        }
        if let Some(caches) = &self.encoder.caches {
            for (cache, records) in lock(caches).iter_mut().zip(&records) {
                if !records.is_empty() {
                    cache.append(records, progress)?;
                }
            }
        }
        progress.advance(batch.tokens.len() as u64);
        Ok(())
    }
}

fn collect(
    slots: &[Slot],
    slot_of: &[usize],
) -> Result<Vec<std::result::Result<Encoded, Refused>>> {
    slot_of
        .iter()
        .map(|slot| {
            let slot = &slots[*slot];
            if let Some(refused) = &slot.refused {
                return Ok(Err(refused.clone()));
            }
            // Every other slot is filled once the batches are through: each list ends in one of them.
            let missing = || EncoderError::EmptyText { index: slot.item };
            let records: Vec<&Record> = slot.records.iter().flatten().collect();
            let first = *records.first().ok_or_else(missing)?;
            if records.len() != slot.records.len() {
                return Err(missing());
            }
            let vector = match records.as_slice() {
                [one] => Arc::clone(&one.vector),
                all => all.iter().flat_map(|r| r.vector.iter().copied()).collect(),
            };
            Ok(Ok(Encoded {
                vector,
                tokens: first.tokens as usize,
                truncated: records.iter().any(|r| r.truncated),
                ids_hash: first.ids_hash,
            }))
        })
        .collect()
}
