//! A model on disk: one GGUF file, or a Hugging Face folder. Both answer the same questions.

pub(crate) mod decode;
pub(crate) mod file;
pub(crate) mod folder;
pub(crate) mod gguf;
pub(crate) mod memory;
pub(crate) mod stored;

use crate::error::{EncoderError, Result};
use crate::identity::{file_sha256, sha256_hex};
use file::ModelFile;
use folder::Folder;
use gguf::GgufFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stored::StoredType;

/// A tensor as it is stored: a range of a file.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub file: Arc<ModelFile>,
    pub start: usize,
    pub len: usize,
    /// How the values are stored.
    pub stored: StoredType,
    /// Slowest dimension first, as in `[out, in]`.
    pub shape: Vec<usize>,
}

/// An opened model.
#[derive(Debug)]
pub(crate) enum ModelFiles {
    /// One GGUF file with everything in it, or the parts of one that was split.
    Gguf(GgufFile),
    /// `config.json`, safetensors, `tokenizer.json`.
    Folder(Folder),
}

impl ModelFiles {
    /// Opens the model's files and checks their headers.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return GgufFile::open(path).map(Self::Gguf);
        }
        if !Folder::is_one(path)
            && let Some(first) = GgufFile::in_folder(path)?
        {
            return GgufFile::open(&first).map(Self::Gguf);
        }
        Folder::open(path).map(Self::Folder)
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(file) => file.path(),
            Self::Folder(folder) => folder.path(),
        }
    }

    /// Bytes of the files of weights.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Gguf(file) => file.size(),
            Self::Folder(folder) => folder.bytes(),
        }
    }

    /// How many tensors there are.
    pub fn tensor_count(&self) -> usize {
        match self {
            Self::Gguf(file) => file.tensor_count(),
            Self::Folder(folder) => folder.tensor_count(),
        }
    }

    /// Names of the tensors that begin so, sorted.
    pub fn names_from(&self, beginning: &str) -> Vec<&str> {
        let all: Box<dyn Iterator<Item = &str>> = match self {
            Self::Gguf(file) => Box::new(file.names()),
            Self::Folder(folder) => Box::new(folder.names()),
        };
        let mut names: Vec<&str> = all.filter(|name| name.starts_with(beginning)).collect();
        names.sort_unstable();
        names
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Gguf(file) => file.has(name),
            Self::Folder(folder) => folder.has(name),
        }
    }

    /// A tensor of any shape, as it is stored.
    pub fn raw(&self, name: &str) -> Result<Raw> {
        match self {
            Self::Gguf(file) => file.raw(name),
            Self::Folder(folder) => folder.raw(name),
        }
    }

    /// A tensor that must have the given shape.
    pub fn raw_of(&self, name: &str, shape: &[usize]) -> Result<Raw> {
        let raw = self.raw(name)?;
        if raw.shape != shape {
            return Err(EncoderError::TensorShape {
                path: self.path().to_owned(),
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: raw.shape,
            });
        }
        Ok(raw)
    }

    /// Rows of a matrix whose rows have `width` values.
    pub fn rows_of(&self, name: &str, width: usize) -> Result<usize> {
        match self.raw(name)?.shape.as_slice() {
            [rows, columns] if *columns == width && *rows <= i32::MAX as usize => Ok(*rows),
            found => Err(EncoderError::TensorShape {
                path: self.path().to_owned(),
                name: name.to_owned(),
                expected: vec![0, width],
                found: found.to_vec(),
            }),
        }
    }

    /// A whole tensor as `f32`.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let raw = self.raw_of(name, shape)?;
        decode::whole(name, &raw)
    }

    /// SHA-256 of everything that decides the numbers, in hex; remembered in `cache_dir` as long as
    /// the files stay the same. For several files: over their names and hashes.
    pub fn sha256(&self, cache_dir: Option<&Path>) -> Result<String> {
        let files: Vec<PathBuf> = match self {
            Self::Gguf(file) => match file.paths() {
                [only] => return file_sha256(only, cache_dir),
                parts => parts.to_vec(),
            },
            Self::Folder(folder) => folder.files().map(|name| folder.path().join(name)).collect(),
        };
        let mut text = String::new();
        for path in files {
            let hash = file_sha256(&path, cache_dir)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            text.push_str(&format!("{hash}  {name}\n"));
        }
        Ok(sha256_hex(text.as_bytes()))
    }

    /// An error about something this model says of itself.
    pub fn bad(&self, key: &str, detail: impl Into<String>) -> EncoderError {
        EncoderError::Metadata {
            path: self.path().to_owned(),
            key: key.to_owned(),
            detail: detail.into(),
        }
    }
}
