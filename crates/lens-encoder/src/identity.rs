//! Hashes: of an encoder's identity, under which its vectors are kept, and of model files.

use crate::error::{EncoderError, Result};
use lens_data::encoder::{EncoderIdentity, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// A hash of an identity for each view, as if it were the only one: a view's vectors are the same
/// in any company.
pub(crate) fn digests(identity: &EncoderIdentity) -> Vec<blake3::Hash> {
    if identity.views.is_empty() {
        return vec![digest(identity)];
    }
    let alone =
        |view: &View| digest(&EncoderIdentity { views: vec![view.clone()], ..identity.clone() });
    identity.views.iter().map(alone).collect()
}

/// A hash of all fields that decide the numbers.
fn digest(identity: &EncoderIdentity) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (field, value) in identity.fields() {
        for part in [field, value.as_str()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize()
}

/// A file's hash, with the size and time it had then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HashedFile {
    size: u64,
    modified_ns: u128,
    sha256: String,
}

const MEMORY: &str = "model-hashes.json";

/// SHA-256 of a file, remembered in the cache folder for as long as size and time of the file
/// stay the same. A memory that cannot be read or written only costs the time to hash again.
pub(crate) fn file_sha256(path: &Path, cache_dir: Option<&Path>) -> Result<String> {
    let io = |source| EncoderError::Io { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(io)?;
    let modified_ns = meta
        .modified()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |d| d.as_nanos());
    let name = path.canonicalize().map_err(io)?.to_string_lossy().into_owned();
    let memory = cache_dir.map(|dir| dir.join(MEMORY));
    let recall = || -> BTreeMap<String, HashedFile> {
        let text = memory.as_ref().and_then(|m| std::fs::read(m).ok());
        text.and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default()
    };
    if let Some(known) = recall().get(&name)
        && known.size == meta.len()
        && known.modified_ns == modified_ns
    {
        return Ok(known.sha256.clone());
    }
    let sha256 = hash_file(path)?;
    if let Some(memory) = &memory {
        let mut known = recall();
        let entry = HashedFile { size: meta.len(), modified_ns, sha256: sha256.clone() };
        known.insert(name, entry);
        // Written aside and renamed: a reader never sees half a file.
        let aside = memory.with_extension(format!("{}.tmp", std::process::id()));
        if let Ok(text) = serde_json::to_vec_pretty(&known)
            && std::fs::write(&aside, text).is_ok()
            && std::fs::rename(&aside, memory).is_err()
        {
            let _ = std::fs::remove_file(&aside);
        }
    }
    Ok(sha256)
}

/// SHA-256 of a file, in hex.
pub(crate) fn hash_file(path: &Path) -> Result<String> {
    let io = |source| EncoderError::Io { path: path.to_owned(), source };
    // Read, not mapped: hashing must not count the whole file as this process's memory.
    let mut file = crate::model::file::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of bytes, in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use lens_data::encoder::{Pooling, SpecialTokens};

    fn identity() -> EncoderIdentity {
        EncoderIdentity {
            model_file: "a.gguf".into(),
            model_sha256: "00".into(),
            architecture: "gemma3".into(),
            dim: 8,
            layers: 2,
            template: "plain".into(),
            template_sha256: "11".into(),
            add_bos: true,
            add_eos: false,
            special_tokens: SpecialTokens::Text,
            views: vec![View { layer: 2, pooling: Pooling::Last, suffix: None }],
            dtype: "f32".into(),
            max_length: 2048,
        }
    }

    #[test]
    fn what_decides_the_numbers_decides_the_digest() {
        let a = identity();
        let mut b = EncoderIdentity { model_file: "b.gguf".into(), ..identity() };
        assert_eq!(digest(&a), digest(&b));
        b.views[0].pooling = Pooling::Mean;
        assert_ne!(digest(&a), digest(&b));
    }

    #[test]
    fn a_view_has_its_own_digest_in_any_company() {
        let one = identity();
        let mut both = identity();
        both.views.push(View { layer: 1, pooling: Pooling::Mean, suffix: Some("?".into()) });
        assert_eq!(digests(&both).len(), 2);
        assert_eq!(digests(&both)[0], digests(&one)[0]);
        assert_ne!(digests(&both)[0], digests(&both)[1]);
    }

    #[test]
    fn a_changed_file_is_hashed_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        std::fs::write(&path, b"one").unwrap();
        let cache = Some(dir.path());
        assert_eq!(file_sha256(&path, cache).unwrap(), sha256_hex(b"one"));
        assert!(dir.path().join(MEMORY).exists());
        assert_eq!(file_sha256(&path, cache).unwrap(), sha256_hex(b"one"));
        std::fs::write(&path, b"other").unwrap();
        assert_eq!(file_sha256(&path, cache).unwrap(), sha256_hex(b"other"));
        std::fs::write(dir.path().join(MEMORY), b"{broken").unwrap();
        assert_eq!(file_sha256(&path, cache).unwrap(), sha256_hex(b"other"));
    }
}
