//! Where real models and other programs are, for tests that carry `#[needs(LENS_MODEL_TESTS)]`, and
//! the reference vectors that they compare with. What is missing is a failure; `docs/testing.md`
//! says how to get it.

#![allow(dead_code)]

pub mod vectors;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// Gemma 3 270M: the file that `LENS_MODEL_GEMMA` names, else what `lens pull gemma-3-270m` leaves
/// in the cache.
pub fn model() -> PathBuf {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    if var("LENS_MODEL_GEMMA").is_some() {
        return named("LENS_MODEL_GEMMA");
    }
    let cache = var("LENS_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("lens")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/lens")))
        .expect("a cache folder: set LENS_CACHE");
    let path = cache.join("models/gemma-3-270m-q4_k_m.gguf");
    assert!(
        path.exists(),
        "{} is missing: `lens pull gemma-3-270m` gets it, or LENS_MODEL_GEMMA names it",
        path.display()
    );
    path
}

/// The model that an environment variable names.
pub fn named(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| {
        panic!("{variable} is not set: scripts/test_models.py gets the model (docs/testing.md)")
    });
    assert!(path.exists(), "{variable}: {} is missing (docs/testing.md)", path.display());
    path
}

/// A Python that has a package: the one that `LENS_PYTHON` names, else `python3`.
pub fn python_with(package: &str) -> String {
    let python = std::env::var("LENS_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    assert!(
        import.is_ok_and(|o| o.status.success()),
        "{python} has no package {package}: `pip install {package}`, or LENS_PYTHON names another \
         Python (docs/testing.md)"
    );
    python
}

/// A file of the reference data, which `scripts/reference_vectors.py` writes.
pub fn reference(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/reference");
    let path = PathBuf::from(folder).join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}
