//! Temporary names beside a target: their form, their owners, and what to do with orphans.
//!
//! What is being written is held by a lock of its process, which the system gives back when that ends,
//! however it ends. So an orphan is told from a file in use by processes of this container and of
//! others, whose ids mean nothing here. A name alone proves nothing: whoever hands over a folder chooses
//! the names in it, so nothing that lies under one is ever taken for an output.

use crate::error::Error;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// How much of a target's name goes into temporary names: names may have 255 bytes in all.
const MAX_STEM_BYTES: usize = 180;
/// How often another random name is tried when one is taken.
const MAX_TRIES: usize = 16;

/// The kind of entry that a temporary name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Something being written.
    New,
    /// The former target, while the new one takes its place.
    Old,
}

impl Role {
    fn infix(self) -> &'static str {
        match self {
            Role::New => ".tmp-",
            Role::Old => ".old-",
        }
    }
}

/// A place to write to: the folder, and the name in it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub path: PathBuf,
    pub folder: PathBuf,
    stem: String,
}

impl Target {
    pub fn new(path: &Path) -> Result<Target, Error> {
        // A link keeps pointing where it does; what it points to is replaced.
        let path = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => {
                fs::canonicalize(path).map_err(|e| Error::io(path, "follow the link", e))?
            }
            _ => path.to_owned(),
        };
        let bad = || Error::BadTarget { path: path.clone() };
        let name = path.file_name().ok_or_else(bad)?.to_string_lossy().into_owned();
        let mut end = name.len().min(MAX_STEM_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let stem = name[..end].to_owned();
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !folder.is_dir() {
            return match folder.exists() {
                true => Err(Error::NotAFolder { path: folder }),
                false => Err(Error::NotFound { path: folder }),
            };
        }
        Ok(Target { path, folder, stem })
    }

    /// Makes something new under a temporary name, by `make`, which must fail where the name is
    /// taken, and holds it with a lock.
    pub fn create<T>(
        &self,
        role: Role,
        make: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<(Owned, T), Error> {
        let mut tries = 0;
        loop {
            let name = format!(".{}{}{}-{:016x}", self.stem, role.infix(), own_pid(), random());
            let path = self.folder.join(name);
            match make(&path) {
                Ok(made) => {
                    // Whoever sweeps at this moment takes it for an orphan, and has the lock until it
                    // is removed.
                    let lock = openable(&path).filter(|file| file.lock().is_ok());
                    if path.exists() || tries >= MAX_TRIES {
                        return Ok((Owned { path, _lock: lock }, made));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries < MAX_TRIES => {}
                Err(e) => return Err(Error::io(&self.path, "write", e)),
            }
            tries += 1;
        }
    }

    /// Removes what dead processes left beside the target. What cannot be removed stays: it
    /// hinders nobody.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where a process died between moving the former target away and the new
    /// one in: the former one is all there is, and stays where it is until somebody looks at it.
    pub fn sweep(&self) -> Result<(), Error> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let path = entry.path();
            let ours =
                |role| name.to_str().is_some_and(|name| is_temporary(name, &self.stem, role));
            if !ours(Role::New) && !ours(Role::Old) {
                continue;
            }
            let Some(orphan) = openable(&path).filter(|file| file.try_lock().is_ok()) else {
                continue;
            };
            if ours(Role::Old) && !self.path.exists() {
                return Err(Error::Interrupted { path: self.path.clone(), former: path });
            }
            remove(&path);
            drop(orphan);
        }
        Ok(())
    }

    /// Makes the renames in the folder durable. Some file systems cannot; the renames stand.
    pub fn sync_folder(&self) {
        #[cfg(unix)]
        if let Ok(folder) = fs::File::open(&self.folder) {
            let _ = folder.sync_all();
        }
    }
}

/// Removes a file or folder as far as that is possible.
pub(super) fn remove(path: &Path) {
    let _ = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
}

/// A temporary path of this process, held by a lock until it is dropped; it is not removed.
#[derive(Debug)]
pub(super) struct Owned {
    pub path: PathBuf,
    /// `None` where the system knows no locks: then nobody takes it for an orphan either.
    _lock: Option<File>,
}

/// Whether a name is a temporary one of the target with this stem.
fn is_temporary(name: &str, stem: &str, role: Role) -> bool {
    let random = || {
        let rest = name.strip_prefix('.')?.strip_prefix(stem)?.strip_prefix(role.infix())?;
        let (pid, random) = rest.split_once('-')?;
        pid.parse::<u32>().ok()?;
        Some(random)
    };
    random().is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A file or folder to lock; `None` for a link, which is none of ours wherever it leads, and where the
/// system opens no folders.
fn openable(path: &Path) -> Option<File> {
    let meta = fs::symlink_metadata(path).ok()?;
    (meta.is_file() || meta.is_dir()).then(|| File::open(path).ok())?
}

fn own_pid() -> u32 {
    std::process::id()
}

/// Distinct from one call to the next: the standard library's hash keys are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_our_own_names_are_recognised() {
        let name = ".m.bin.tmp-42-0123456789abcdef";
        assert!(is_temporary(name, "m.bin", Role::New));
        assert!(!is_temporary(name, "m.bin", Role::Old));
        assert!(!is_temporary(name, "m", Role::New));
        assert!(!is_temporary(".m.bin.tmp-42-0123", "m.bin", Role::New));
        assert!(!is_temporary(".m.bin.tmp-x-0123456789abcdef", "m.bin", Role::New));
    }

    proptest! {
        #[test]
        fn any_name_is_parsed_without_a_panic(name in ".*", stem in ".{0,4}") {
            let _ = is_temporary(&name, &stem, Role::New);
        }
    }
}
