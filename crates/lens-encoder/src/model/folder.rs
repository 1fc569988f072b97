//! A Hugging Face model folder: `config.json`, one or several safetensors files, a tokenizer.
//!
//! Headers are parsed by the `safetensors` crate, and every range is held against the file; tensors stay
//! where they are until somebody decodes them.

use super::Raw;
use super::file::{ModelFile, open};
use super::stored::StoredType;
use crate::error::{EncoderError, Result};
use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest configuration or index that is read: the index of the largest models has a few MB.
const MAX_JSON: u64 = 64 << 20;
/// Longest header of a safetensors file, as the format has it.
const MAX_HEADER: u64 = 100_000_000;
const CONFIG: &str = "config.json";
/// The file that makes a folder an adapter's.
pub(crate) const ADAPTER: &str = "adapter_config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Files that decide token ids or texts, if they are there.
const TOKENIZER: [&str; 5] = [
    "chat_template.jinja",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
];

/// An opened model folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    config: Value,
    tensors: HashMap<String, Stored>,
    weights: Vec<Arc<ModelFile>>,
    files: BTreeSet<String>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Stored {
    file: usize,
    start: usize,
    end: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Folder {
    /// Whether a folder has something of a model of transformers in it, be it incomplete.
    pub fn is_one(path: &Path) -> bool {
        [CONFIG, ADAPTER, WEIGHTS, INDEX].iter().any(|name| path.join(name).exists())
    }

    /// Reads the configuration and the headers of the weights.
    pub fn open(path: &Path) -> Result<Self> {
        if path.join(ADAPTER).is_file() && !path.join(CONFIG).is_file() {
            return Err(corrupt(path, "it holds an adapter without its model; merge them first"));
        }
        let config = json(&path.join(CONFIG))?;
        let (names, owners) = weight_files(path)?;
        let missing: Vec<String> =
            names.iter().filter(|n| !path.join(n).is_file()).cloned().collect();
        if !missing.is_empty() {
            return Err(EncoderError::MissingShards { path: path.to_owned(), missing });
        }
        let mut folder = Self {
            path: path.to_owned(),
            config,
            tensors: HashMap::new(),
            weights: Vec::new(),
            files: BTreeSet::from([CONFIG.to_owned()]),
        };
        for name in &names {
            folder.add(name)?;
        }
        for (tensor, owner) in owners {
            let found = folder.tensors.get(&tensor).map(|t| names[t.file].as_str());
            if found != Some(owner.as_str()) {
                return Err(corrupt(
                    path,
                    format!("its index places tensor '{tensor}' in {owner}, where it is not"),
                ));
            }
        }
        let present = TOKENIZER.iter().filter(|n| path.join(n).is_file());
        folder.files.extend(present.map(|n| (*n).to_owned()));
        Ok(folder)
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        let file = ModelFile::open(&path)?;
        let (base, metadata) = header(&file, &path)?;
        let index = self.weights.len();
        for (tensor, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let stored = Stored {
                file: index,
                start: base + start,
                end: base + end,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if stored.end as u64 > file.size() {
                return Err(corrupt(
                    &path,
                    format!("tensor '{tensor}' ends after the file: is the download complete?"),
                ));
            }
            if self.tensors.insert(tensor.clone(), stored).is_some() {
                return Err(corrupt(&path, format!("tensor '{tensor}' is there twice")));
            }
        }
        self.weights.push(Arc::new(file));
        self.files.insert(name.to_owned());
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Names of the files that decide the numbers, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Bytes of the weight files.
    pub fn bytes(&self) -> u64 {
        self.weights.iter().map(|file| file.size()).sum()
    }

    /// How many tensors there are.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// Names of the tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor as it is stored.
    pub fn raw(&self, name: &str) -> Result<Raw> {
        let tensor = self.tensors.get(name).ok_or_else(|| EncoderError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        let stored = match tensor.dtype {
            Dtype::F32 => StoredType::F32,
            Dtype::F16 => StoredType::F16,
            Dtype::BF16 => StoredType::BF16,
            other => {
                return Err(EncoderError::TensorType {
                    path: self.path.clone(),
                    name: name.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        };
        Ok(Raw {
            file: Arc::clone(&self.weights[tensor.file]),
            start: tensor.start,
            len: tensor.end - tensor.start,
            stored,
            shape: tensor.shape.clone(),
        })
    }
}

/// The header of a safetensors file, and where the data begin.
fn header(file: &ModelFile, path: &Path) -> Result<(usize, Metadata)> {
    let broken =
        |e: &dyn std::fmt::Display| corrupt(path, format!("{e}; is the download complete?"));
    let mut length = [0; 8];
    file.read(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || 8 + length > file.size() {
        return Err(broken(&format!("its header has {length} bytes of {}", file.size())));
    }
    let base = 8 + length as usize;
    let metadata: Metadata =
        serde_json::from_slice(&file.bytes(8..base)?).map_err(|e| broken(&e))?;
    // As the library does with a whole file: nothing lies behind the data.
    match (base as u64).checked_add(metadata.data_len() as u64) {
        Some(end) if end == file.size() => Ok((base, metadata)),
        _ => Err(broken(&format!(
            "its data have {} bytes behind {base}, of {}",
            metadata.data_len(),
            file.size()
        ))),
    }
}

/// The weight files, and where the index (if there is one) places each tensor.
fn weight_files(path: &Path) -> Result<(Vec<String>, BTreeMap<String, String>)> {
    if path.join(INDEX).is_file() {
        let index = json(&path.join(INDEX))?;
        let bad = |detail: String| corrupt(&path.join(INDEX), detail);
        let map = index.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| bad("there is no weight_map".into()))?;
        let mut owners = BTreeMap::new();
        for (tensor, file) in map {
            let file = file.as_str().unwrap_or_default();
            // A name and nothing else: an index must not reach out of its folder.
            let plain = Path::new(file).file_name().is_some_and(|n| n == file);
            if !plain || !file.ends_with(".safetensors") {
                return Err(bad(format!("tensor '{tensor}' is placed in '{file}'")));
            }
            owners.insert(tensor.clone(), file.to_owned());
        }
        let names: BTreeSet<String> = owners.values().cloned().collect();
        if names.is_empty() {
            return Err(bad("the weight_map is empty".into()));
        }
        return Ok((names.into_iter().collect(), owners));
    }
    if path.join(WEIGHTS).is_file() {
        return Ok((vec![WEIGHTS.to_owned()], BTreeMap::new()));
    }
    if path.join("pytorch_model.bin").is_file()
        || path.join("pytorch_model.bin.index.json").is_file()
    {
        return Err(corrupt(
            path,
            "it holds pickled weights only, which are not read; convert them with transformers' \
             save_pretrained",
        ));
    }
    Err(EncoderError::MissingShards { path: path.to_owned(), missing: vec![WEIGHTS.to_owned()] })
}

/// A JSON file of sane size.
pub(crate) fn json(path: &Path) -> Result<Value> {
    let io = |source| EncoderError::Io { path: path.to_owned(), source };
    let file = open(path)?;
    let size = file.metadata().map_err(io)?.len();
    if size > MAX_JSON {
        return Err(corrupt(path, format!("it has {size} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_JSON).read_to_end(&mut bytes).map_err(io)?;
    serde_json::from_slice(&bytes).map_err(|e| corrupt(path, e.to_string()))
}

fn corrupt(path: &Path, detail: impl Into<String>) -> EncoderError {
    EncoderError::CorruptModel { path: path.to_owned(), detail: detail.into() }
}
