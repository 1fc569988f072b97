//! A file of a model, which is read by position. It is not mapped: a map of a file that another process
//! shortens ends the program that looks at it, and a read of it is an error.

use crate::error::{EncoderError, Result};
use lens_data::files::open_regular;
use lens_data::read_exact_at;
use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An opened file.
#[derive(Debug)]
pub(crate) struct ModelFile {
    path: PathBuf,
    file: File,
    size: u64,
}

/// Opens a file, without waiting for the writer of a pipe.
pub(crate) fn open(path: &Path) -> Result<File> {
    let path = path.to_owned();
    open_regular(&path).map_err(|error| match error {
        lens_data::Error::Io { source, .. } => EncoderError::Io { path, source },
        lens_data::Error::NotFound { .. } => {
            EncoderError::Io { path, source: ErrorKind::NotFound.into() }
        }
        _ => EncoderError::CorruptModel { path, detail: "it is no regular file".to_owned() },
    })
}

impl ModelFile {
    /// Opens a file with something in it.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| EncoderError::Io { path: path.to_owned(), source };
        let file = open(path)?;
        let size = file.metadata().map_err(io)?.len();
        if size == 0 {
            let detail = "the file is empty".to_owned();
            return Err(EncoderError::CorruptModel { path: path.to_owned(), detail });
        }
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// Bytes that the file had when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `bytes` from position `at` on.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, bytes, at).map_err(|source| {
            let path = self.path.clone();
            if source.kind() != ErrorKind::UnexpectedEof {
                return EncoderError::Io { path, source };
            }
            let end = at + bytes.len() as u64;
            let detail =
                format!("it ends before byte {end}: it became shorter while it was in use");
            EncoderError::CorruptModel { path, detail }
        })
    }

    /// The bytes of a range of the file, which the caller has held against its size.
    pub fn bytes(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; range.len()];
        self.read(range.start as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Does something with the bytes of a range, which lie in a buffer that each thread keeps.
    pub fn with<T>(&self, range: Range<usize>, work: impl FnOnce(&[u8]) -> T) -> Result<T> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let mut bytes = BUFFER.take();
        bytes.resize(range.len().max(bytes.len()), 0);
        let read = self.read(range.start as u64, &mut bytes[..range.len()]);
        let done = read.map(|()| work(&bytes[..range.len()]));
        BUFFER.set(bytes);
        done
    }
}
