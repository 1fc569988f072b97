//! Finding out what a server is, and what its vectors are.

use super::calls::Caller;
use super::options::RemoteOptions;
use super::wire::{Flavour, Payload};
use crate::error::{EncoderError, Result, ServerError};
use crate::http::{Client, HttpError, Limits, Retry, Secret, interruptible, passes, wait};
use lens_core::Progress;
use lens_data::encoder::{ServerApi, ServerRecord, relative_distance};
use serde_json::Value;
use std::path::Path;

/// Answers about a server are not longer.
const LISTING: u64 = 1 << 24;
/// Waits for a connection are not longer, whatever the time limit of a request.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(20);
/// The texts that every server is asked for first.
const PROBES: [&str; 2] = [
    "The river rose in the night, and by morning the lower fields were under water.",
    "Question: what is 17 + 25?\n\nAnswer: 42.",
];
/// Numbers that stand for one vector.
const SKETCH: usize = 32;
/// Relative distance up to which vectors are kept together in the cache.
const SAME: f64 = 0.05;
/// Relative distance of two answers to one text beyond which a server is warned of.
const STEADY: f64 = 1e-3;

/// A server that was asked a first time.
pub(super) struct Probed {
    pub caller: Caller,
    pub record: ServerRecord,
    /// The server's address.
    pub base: String,
    /// Texts that it takes in a request.
    pub most: Option<usize>,
}

/// Finds out how to ask, which model there is, how wide its vectors are, and whether they can be
/// trusted.
pub(super) fn probe(options: &RemoteOptions, progress: &dyn Progress) -> Result<Probed> {
    let base = options.base()?;
    let limits = Limits {
        connect: options.timeout.min(CONNECT),
        answer: options.timeout,
        read: options.timeout,
        whole: Some(options.timeout),
    };
    let asker = Asker {
        client: Client::new(limits),
        key: options.key.clone(),
        // A server that is not there is not waited for; one that starts up is.
        retry: Retry { attempts: options.retries + 1, first: options.first_pause },
        progress,
    };
    let (mut caller, most) = match options.api {
        ServerApi::Tei => asker.tei(&base, options)?.ok_or_else(|| ServerError::Unsupported {
            url: base.clone(),
            detail: "it has no /info as text-embeddings-inference has; choose another API".into(),
        })?,
        ServerApi::OpenAi => asker.openai(&base, options)?,
        ServerApi::Auto => match asker.tei(&base, options)? {
            Some(found) => found,
            None => asker.openai(&base, options)?,
        },
    };
    let texts = PROBES.map(|t| Payload::Text(t.to_owned()));
    let (client, first) = (caller.clone(), texts.clone());
    let ask = |caller: Caller, texts: Vec<Payload>| {
        interruptible(progress, move || {
            caller.embed(&texts, &|i| i, &super::calls::Stop::default())
        })
        .ok_or(EncoderError::Cancelled)?
    };
    let vectors = ask(client, first.to_vec())?;
    let again = ask(caller.clone(), texts[..1].to_vec())?;
    let change = relative_distance(&vectors[0].0, &again[0].0);
    if change > STEADY {
        progress.note(&format!(
            "warning: {base} gives one text different vectors (relative distance {change:.4}): rewards \
             will vary as much"
        ));
    }
    let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let normalised = vectors.iter().all(|(v, _)| (norm(v) - 1.0).abs() < 1e-3);
    if normalised {
        let advice = advice(caller.flavour).to_owned();
        if !options.allow_normalised {
            return Err(ServerError::Normalised { url: base, advice }.into());
        }
        progress.note(&format!(
            "warning: {base} answers vectors of length 1: their magnitude is lost, which a reward \
             model can use; {advice}"
        ));
    }
    caller.dim = vectors[0].0.len();
    let record = ServerRecord {
        url: None,
        api: caller.api,
        model: caller.model.clone(),
        normalised,
        sketch: vectors.iter().enumerate().flat_map(|(i, (v, _))| sketch(v, i as u64)).collect(),
    };
    Ok(Probed { caller, record, base, most })
}

/// How to get vectors as the model has them.
fn advice(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Vllm => {
            "start vLLM with --pooler-config '{\"pooling_type\":\"LAST\",\"use_activation\":false}'"
        }
        Flavour::LlamaCpp => "start llama.cpp's server with --pooling last --embd-normalize -1",
        Flavour::Tei => {
            "the model itself ends in a normalising layer; serve one without, or by vLLM"
        }
        Flavour::Other => {
            "see docs/encoders.md for servers that can be asked for vectors as they are"
        }
    }
}

struct Asker<'a> {
    client: Client,
    key: Option<Secret>,
    retry: Retry,
    progress: &'a dyn Progress,
}

type Found = (Caller, Option<usize>);

impl Asker<'_> {
    /// The JSON at an address; `None` if there is none.
    fn get(&self, url: &str) -> Result<Option<Value>> {
        for attempt in 0.. {
            let (client, key, at) = (self.client.clone(), self.key.clone(), url.to_owned());
            let asked = interruptible(self.progress, move || {
                let answer = client.get(&at, key.as_ref(), &[])?;
                let (status, after) = (answer.status, answer.retry_after());
                let body = if answer.is_success() {
                    Ok(answer.bytes(LISTING)?)
                } else {
                    let said = answer.message();
                    Err(key.map_or_else(|| said.clone(), |k| k.hide_in(&said)))
                };
                Ok::<_, HttpError>((status, after, body))
            });
            let url = || url.to_owned();
            let last = attempt + 1 >= self.retry.attempts;
            let after = match asked.ok_or(EncoderError::Cancelled)? {
                Ok((_, _, Ok(body))) => return Ok(serde_json::from_slice(&body).ok()),
                Ok((status @ (401 | 403), _, Err(message))) => {
                    return Err(ServerError::Unauthorised { url: url(), status, message }.into());
                }
                Ok((status, after, Err(message))) if passes(status) => {
                    if last {
                        return Err(ServerError::Refused { url: url(), status, message }.into());
                    }
                    after
                }
                Ok((_, _, Err(_))) => return Ok(None),
                Err(e @ HttpError::Broken { .. }) if !last => {
                    drop(e);
                    None
                }
                Err(e) => return Err(ServerError::Network(e).into()),
            };
            if !wait(self.retry.pause(attempt, after), self.progress) {
                break;
            }
        }
        Err(EncoderError::Cancelled)
    }

    fn caller(&self, url: String, api: ServerApi, flavour: Flavour, model: String) -> Caller {
        let (client, key, retry) = (self.client.clone(), self.key.clone(), self.retry);
        Caller { client, url, key, api, flavour, model, retry, dim: 0 }
    }

    /// text-embeddings-inference, if that is what is there.
    fn tei(&self, base: &str, options: &RemoteOptions) -> Result<Option<Found>> {
        let Some(info) = self.get(&format!("{base}/info"))? else { return Ok(None) };
        let Some(model) = info["model_id"].as_str() else { return Ok(None) };
        if options.model.as_deref().is_some_and(|asked| asked != model) {
            let offered = vec![model.to_owned()];
            return Err(ServerError::Model { url: base.to_owned(), offered }.into());
        }
        let most = info["max_client_batch_size"].as_u64().and_then(|n| usize::try_from(n).ok());
        let url = format!("{base}/embed");
        Ok(Some((self.caller(url, ServerApi::Tei, Flavour::Tei, model.to_owned()), most)))
    }

    fn openai(&self, base: &str, options: &RemoteOptions) -> Result<Found> {
        let mut root = format!("{base}/v1");
        let is_list = |v: &Value| v["data"].is_array();
        let mut list = self.get(&format!("{root}/models"))?.filter(is_list);
        if list.is_none()
            && let Some(found) = self.get(&format!("{base}/models"))?.filter(is_list)
        {
            // Infinity, as it starts by default.
            (root, list) = (base.to_owned(), Some(found));
        }
        let none = Vec::new();
        let models = list.as_ref().and_then(|l| l["data"].as_array()).unwrap_or(&none);
        let id = |m: &Value| m["id"].as_str().map(str::to_owned);
        let offered: Vec<String> = models.iter().filter_map(id).collect();
        let unknown = || ServerError::Model { url: base.to_owned(), offered: offered.clone() };
        let model = match (&options.model, &*offered) {
            (Some(asked), []) => asked.clone(),
            (Some(asked), all) if all.contains(asked) => asked.clone(),
            (None, [only]) => only.clone(),
            _ => return Err(unknown().into()),
        };
        let entry = models.iter().find(|m| m["id"].as_str() == Some(&model));
        let owner = entry.and_then(|m| m["owned_by"].as_str());
        // Infinity and Ollama.
        if let Some("infinity" | "library") = owner {
            self.progress.note(&format!(
                "warning: {base} may shorten texts that are longer than its model takes, without a \
                 word"
            ));
        }
        let flavour = match owner {
            Some("vllm") => Flavour::Vllm,
            Some("llamacpp") => Flavour::LlamaCpp,
            _ => Flavour::Other,
        };
        let url = format!("{root}/embeddings");
        Ok((self.caller(url, ServerApi::OpenAi, flavour, model), None))
    }
}

/// A few sums of a vector with random signs, the same for everyone.
fn sketch(vector: &[f32], text: u64) -> Vec<f32> {
    let mut state = text;
    let mut sums = [0f64; SKETCH];
    for value in vector {
        // SplitMix64, whose bits are the signs.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        for (i, sum) in sums.iter_mut().enumerate() {
            let sign = if (bits >> i) & 1 == 1 { 1.0 } else { -1.0 };
            *sum += sign * f64::from(*value);
        }
    }
    sums.iter().map(|s| *s as f32).collect()
}

/// The sketch under which vectors of this server are kept: the one from when its model was first
/// met. Another model under the same name has another, so that no vector is taken for its own.
pub(super) fn first_met(
    folder: &Path,
    digest: &blake3::Hash,
    record: &ServerRecord,
) -> Result<Vec<f32>> {
    let path = folder.join(format!("server-{}.json", &digest.to_hex()[..16]));
    let io = |source| EncoderError::Cache { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    let mut known: Vec<Vec<f32>> = std::fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    if let Some(met) = known.iter().find(|k| relative_distance(k, &record.sketch) <= SAME) {
        return Ok(met.clone());
    }
    known.push(record.sketch.clone());
    let text = serde_json::to_vec(&known).map_err(|e| io(e.into()))?;
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&aside, text).map_err(io)?;
    std::fs::rename(&aside, &path).map_err(io)?;
    Ok(record.sketch.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_sketch_tells_models_apart_and_forgives_rounding() {
        let vector = |seed: usize| -> Vec<f32> {
            (0..640).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5).collect()
        };
        let sketch = |v: &[f32]| super::sketch(v, 0);
        let a = vector(1);
        let rounded: Vec<f32> = a.iter().map(|x| (x * 256.0).round() / 256.0).collect();
        let longer: Vec<f32> = a.iter().map(|x| x * 1.2).collect();
        assert!(relative_distance(&sketch(&a), &sketch(&rounded)) < SAME);
        assert!(relative_distance(&sketch(&a), &sketch(&longer)) > 0.15);
        assert!(relative_distance(&sketch(&a), &sketch(&vector(2))) > 0.15);
    }
}
