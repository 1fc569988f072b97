//! One file, written aside and renamed into place.

use super::temporary::{Owned, Role, Target, remove};
use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A file that takes its target's place when it is [committed](AtomicFile::commit), and leaves
/// nothing behind otherwise.
///
/// A target that is no regular file (a terminal, a pipe, `/dev/null`) is written to directly:
/// renaming over it would replace the device.
#[derive(Debug)]
pub struct AtomicFile {
    target: Target,
    /// The temporary file, until it is renamed; none for a device.
    temporary: Option<Owned>,
    writer: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Begins a file that will stand at `path`, replacing what is there. The folder must exist.
    pub fn create(path: impl AsRef<Path>) -> Result<AtomicFile, Error> {
        let target = Target::new(path.as_ref())?;
        let existing = fs::metadata(&target.path).ok();
        if let Some(meta) = &existing {
            if meta.is_dir() {
                return Err(Error::IsFolder { path: target.path });
            }
            if !meta.is_file() {
                let device = OpenOptions::new().write(true).open(&target.path);
                let device = device.map_err(|e| Error::io(&target.path, "open", e))?;
                let writer = Some(BufWriter::new(device));
                return Ok(AtomicFile { target, temporary: None, writer });
            }
        }
        target.sweep()?;
        let (owned, file) = target
            .create(Role::New, |path| OpenOptions::new().write(true).create_new(true).open(path))?;
        let made =
            AtomicFile { target, temporary: Some(owned), writer: Some(BufWriter::new(file)) };
        if let (Some(meta), Some(writer)) = (existing, &made.writer) {
            // Who may read the file stays as it was.
            let kept = writer.get_ref().set_permissions(meta.permissions());
            kept.map_err(|e| Error::io(&made.target.path, "set the permissions of", e))?;
        }
        Ok(made)
    }

    /// Whether a file can stand at `path`: asked before the work that would be in it. A device is
    /// not opened, because the reader of a pipe would take that for the whole output.
    pub fn check(path: impl AsRef<Path>) -> Result<(), Error> {
        let target = Target::new(path.as_ref())?;
        match fs::metadata(&target.path) {
            Ok(meta) if !meta.is_file() && !meta.is_dir() => Ok(()),
            _ => AtomicFile::create(path).map(drop),
        }
    }

    /// Brings the file to the disk and to its place.
    pub fn commit(mut self) -> Result<(), Error> {
        let written = match self.writer.take() {
            None => Ok(()),
            Some(writer) => match writer.into_inner() {
                Err(e) => Err(e.into_error()),
                Ok(file) if self.temporary.is_some() => file.sync_all(),
                Ok(_) => Ok(()),
            },
        };
        written.map_err(|e| self.error(e))?;
        if let Some(owned) = &self.temporary {
            fs::rename(&owned.path, &self.target.path).map_err(|e| self.error(e))?;
            self.temporary = None;
            self.target.sync_folder();
        }
        Ok(())
    }

    /// A failed write as an error that names the target, not the temporary file.
    pub fn error(&self, source: io::Error) -> Error {
        Error::io(&self.target.path, "write", source)
    }

    fn writer(&mut self) -> io::Result<&mut BufWriter<File>> {
        self.writer.as_mut().ok_or_else(|| io::Error::other("the file is closed"))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer()?.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // Without flushing what is thrown away.
            let _ = writer.into_parts();
        }
        if let Some(owned) = self.temporary.take() {
            remove(&owned.path);
        }
    }
}

/// Writes a whole file at once.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Writes a file by `write`; if that fails, a file at `path` stays as it was.
pub fn write_atomic_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let mut file = AtomicFile::create(path)?;
    match write(&mut file) {
        Ok(()) => file.commit(),
        Err(e) => Err(file.error(e)),
    }
}
