//! A whole folder, written aside and renamed into place as one.

use super::temporary::{Owned, Role, Target, remove};
use crate::error::Error;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The rule for an [`AtomicDir`] whose target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing<'a> {
    /// It is an error.
    Refuse,
    /// The old folder is swapped out and removed, regardless of its contents.
    Replace,
    /// As [`Existing::Replace`], but only an empty folder, or one that holds the first of these
    /// names and no other name than these: so that neither a mistyped path nor a file that somebody
    /// put there costs anything.
    ReplaceOwn(&'a [&'a str]),
}

/// A folder that takes its target's place when it is [committed](AtomicDir::commit), and leaves
/// nothing behind otherwise.
#[derive(Debug)]
pub struct AtomicDir<'a> {
    target: Target,
    existing: Existing<'a>,
    temporary: Option<Owned>,
}

impl<'a> AtomicDir<'a> {
    /// Begins a folder that will stand at `path`. Whether it may is checked now, before any work
    /// is done, and once more at the end.
    pub fn create(path: impl AsRef<Path>, existing: Existing<'a>) -> Result<Self, Error> {
        let target = Target::new(path.as_ref())?;
        target.sweep()?;
        check(&target.path, existing)?;
        let (owned, ()) = target.create(Role::New, |path| fs::create_dir(path))?;
        Ok(AtomicDir { target, existing, temporary: Some(owned) })
    }

    /// The folder to write into until the commit.
    pub fn path(&self) -> &Path {
        self.temporary.as_ref().map_or(&self.target.path, |owned| &owned.path)
    }

    /// Brings all that was written to the disk, and the folder to its place.
    pub fn commit(mut self) -> Result<(), Error> {
        let Some(owned) = &self.temporary else { return Ok(()) };
        let failed = |e| Error::io(&self.target.path, "write", e);
        sync_all(&owned.path).map_err(failed)?;
        check(&self.target.path, self.existing)?;
        if !self.target.path.exists() {
            fs::rename(&owned.path, &self.target.path).map_err(failed)?;
        } else if exchange(&owned.path, &self.target.path).is_ok() {
            // The temporary name now holds the old folder.
            self.target.sync_folder();
            remove(&owned.path);
        } else {
            self.replace(&owned.path).map_err(failed)?;
        }
        self.temporary = None;
        self.target.sync_folder();
        Ok(())
    }

    /// Moves the old folder away, the new one in, and removes the old one; puts it back if the new
    /// one does not go in.
    fn replace(&self, new: &Path) -> io::Result<()> {
        let moved = self.target.create(Role::Old, |path| fs::rename(&self.target.path, path));
        let (old, ()) = moved.map_err(io::Error::other)?;
        match fs::rename(new, &self.target.path) {
            Ok(()) => {
                self.target.sync_folder();
                remove(&old.path);
                Ok(())
            }
            Err(e) => {
                fs::rename(&old.path, &self.target.path)?;
                Err(e)
            }
        }
    }
}

impl Drop for AtomicDir<'_> {
    fn drop(&mut self) {
        if let Some(owned) = self.temporary.take() {
            remove(&owned.path);
        }
    }
}

fn check(path: &Path, existing: Existing<'_>) -> Result<(), Error> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(path, "open", e)),
        Ok(meta) if !meta.is_dir() => return Err(Error::NotAFolder { path: path.to_owned() }),
        Ok(_) => {}
    }
    let refused = |hint: String| Err(Error::TargetExists { path: path.to_owned(), hint });
    match existing {
        Existing::Replace => Ok(()),
        Existing::Refuse => refused(String::new()),
        Existing::ReplaceOwn(names) => {
            let mut found = BTreeSet::new();
            for entry in fs::read_dir(path).map_err(|e| Error::io(path, "read", e))? {
                found.insert(entry.map_err(|e| Error::io(path, "read", e))?.file_name());
            }
            let known = |name: &OsString| names.iter().any(|known| name == known);
            let marker = names.first().copied().unwrap_or_default();
            match found.iter().find(|name| !known(name)) {
                _ if found.is_empty() => Ok(()),
                _ if !found.contains(OsStr::new(marker)) => {
                    refused(format!(" and has no `{marker}` in it, so it is not replaced"))
                }
                Some(other) => refused(format!(
                    " and holds `{}`, which is none of its files, so it is not replaced",
                    other.to_string_lossy()
                )),
                None => Ok(()),
            }
        }
    }
}

/// Brings a folder with all its files and folders to the disk.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_all(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Swaps two folders in one step, where the system can: then there is no moment without a target.
#[cfg(target_os = "linux")]
fn exchange(new: &Path, target: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_new: &Path, _target: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
