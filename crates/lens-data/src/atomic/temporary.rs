//! Temporary names beside a target: their form, their owners, and what to do with orphans.

use crate::error::Error;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// taken.
    pub fn create<T>(
        &self,
        role: Role,
        make: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<(Owned, T), Error> {
        let mut tries = 0;
        loop {
            let name = format!(".{}{}{}-{:016x}", self.stem, role.infix(), own_pid(), random());
            let owned = Owned::register(self.folder.join(name));
            match make(&owned.path) {
                Ok(made) => return Ok((owned, made)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries < MAX_TRIES => {
                    tries += 1;
                }
                Err(e) => return Err(Error::io(&self.path, "write", e)),
            }
        }
    }

    /// Removes what dead processes left beside the target. What cannot be removed stays: it
    /// hinders nobody.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let path = entry.path();
            let orphan = |role| {
                let pid = name.to_str().and_then(|name| owner(name, &self.stem, role));
                pid.is_some_and(|pid| !is_alive(pid, &path))
            };
            if orphan(Role::Old) && !self.path.exists() {
                // The process died between moving the old one away and the new one in: the old
                // one is all there is.
                let _ = fs::rename(&path, &self.path);
            } else if orphan(Role::New) || orphan(Role::Old) {
                remove(&path);
            }
        }
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

/// A temporary path of this process; unregistered on drop, but not removed.
#[derive(Debug)]
pub(super) struct Owned {
    pub path: PathBuf,
}

/// The temporary paths in use in this process. In containers every run has the same process id, so
/// the id alone does not tell an orphan of the last run from a file of this one.
static IN_USE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn in_use() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owned {
    fn register(path: PathBuf) -> Owned {
        in_use().insert(path.clone());
        Owned { path }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        in_use().remove(&self.path);
    }
}

/// The process that a temporary name belongs to, if it is one of the target with this stem.
fn owner(name: &str, stem: &str, role: Role) -> Option<u32> {
    let rest = name.strip_prefix('.')?.strip_prefix(stem)?.strip_prefix(role.infix())?;
    let (pid, random) = rest.split_once('-')?;
    let hex = random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { pid.parse().ok() } else { None }
}

fn is_alive(pid: u32, path: &Path) -> bool {
    if pid == own_pid() { in_use().contains(path) } else { process_exists(pid) }
}

#[cfg(unix)]
fn process_exists(pid: u32) -> bool {
    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // Another user's process may not be signalled, and exists.
    test_kill_process(pid) != Err(Errno::SRCH)
}

#[cfg(not(unix))]
fn process_exists(_pid: u32) -> bool {
    true
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
        assert_eq!(owner(name, "m.bin", Role::New), Some(42));
        assert_eq!(owner(name, "m.bin", Role::Old), None);
        assert_eq!(owner(name, "m", Role::New), None);
        assert_eq!(owner(".m.bin.tmp-42-0123", "m.bin", Role::New), None);
        assert_eq!(owner(".m.bin.tmp-x-0123456789abcdef", "m.bin", Role::New), None);
    }

    proptest! {
        #[test]
        fn any_name_is_parsed_without_a_panic(name in ".*", stem in ".{0,4}") {
            let _ = owner(&name, &stem, Role::New);
        }
    }
}
