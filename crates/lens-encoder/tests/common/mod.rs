//! Where the real model and the shared data are.

#![allow(dead_code)]

pub mod vectors;

use std::path::PathBuf;

pub fn shared() -> PathBuf {
    std::env::var_os("LENS_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        PathBuf::from,
    )
}

pub fn model() -> Option<PathBuf> {
    if std::env::var("LENS_MODEL_TESTS").as_deref() != Ok("1") {
        eprintln!("skipped: set LENS_MODEL_TESTS=1 to compare with the real model");
        return None;
    }
    let cache = || {
        let var = |name| std::env::var_os(name).map(PathBuf::from);
        var("LENS_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("lens")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/lens")))
            .expect("a cache folder")
            .join("models/gemma-3-270m-q4_k_m.gguf")
    };
    let path = std::env::var_os("LENS_MODEL_GEMMA").map_or_else(cache, PathBuf::from);
    assert!(path.exists(), "LENS_MODEL_TESTS is set, but {} is missing", path.display());
    Some(path)
}

/// A model that an environment variable names, for the tests that need a larger one.
pub fn named(variable: &str) -> Option<PathBuf> {
    if std::env::var("LENS_MODEL_TESTS").as_deref() != Ok("1") {
        eprintln!("skipped: set LENS_MODEL_TESTS=1 and {variable}");
        return None;
    }
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} names no model");
    }
    path.inspect(|p| assert!(p.exists(), "{variable}: {} is missing", p.display()))
}
