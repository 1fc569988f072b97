//! Finished vectors on disk, found again by what they are vectors of.
//!
//! One append-only file per encoder identity: a header, then records of one size, each with a
//! checksum. A run that is killed leaves at most half a record at the end, which the next writer
//! cuts off; a record whose checksum is wrong counts as absent and is computed again. Writers hold
//! an exclusive lock while they append, so processes can share a folder.

use crate::error::{EncoderError, Result};
use crate::input::Item;
use lens_core::{Content, Progress};
use memmap2::Mmap;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Counts changes of the record layout.
const FORMAT: u32 = 2;
/// Counts changes of what becomes of an input before it is tokenised: what was computed otherwise is
/// not found.
const READING: u32 = 3;
const MAGIC: &[u8; 8] = b"LENSEMB\0";
/// Magic, format, dim, identity.
const HEADER: usize = 8 + 4 + 4 + 32;
/// Key, tokens, flags, ids hash; then the vector, then the checksum.
const FIXED: usize = 32 + 4 + 4 + 16;
const CHECKSUM: usize = 8;

/// The key of a record: a hash of the input.
pub(crate) type Key = [u8; 32];

/// One finished vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub vector: Arc<[f32]>,
    pub tokens: u32,
    pub truncated: bool,
    pub ids_hash: u128,
}

/// The key of an item in the file of an identity. What is hashed is the content before rendering,
/// each part with its length, so that no two items look the same.
pub(crate) fn key(item: Item) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&READING.to_le_bytes());
    let mut part = |tag: u8, text: &str| {
        hasher.update(&[tag]);
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    match item {
        Item::Text(text) => part(0, text),
        Item::Rendered(text) => part(8, text),
        Item::Ids(ids) => {
            hasher.update(&[7]);
            hasher.update(&(ids.len() as u64).to_le_bytes());
            for id in ids {
                hasher.update(&id.to_le_bytes());
            }
        }
        Item::Exchange(exchange) => {
            for (tag, content) in [(1, &exchange.prompt), (2, &exchange.response)] {
                match content {
                    Content::Text(text) => part(tag, text),
                    Content::Messages(messages) => {
                        part(tag + 2, "");
                        for message in messages {
                            part(5, &message.role);
                            part(6, &message.content);
                        }
                    }
                }
            }
        }
    }
    *hasher.finalize().as_bytes()
}

/// The cache file of one identity.
pub(crate) struct DiskCache {
    path: PathBuf,
    header: [u8; HEADER],
    dim: usize,
    map: Option<Mmap>,
    index: HashMap<Key, usize>,
    /// Bytes of the file that are indexed.
    known: usize,
}

impl DiskCache {
    /// Prepares the folder; the file appears with the first record.
    pub fn open(dir: &Path, identity: &blake3::Hash, dim: usize) -> Result<Self> {
        std::fs::create_dir_all(dir)
            .map_err(|source| EncoderError::Cache { path: dir.to_owned(), source })?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[12..16].copy_from_slice(&(dim as u32).to_le_bytes());
        header[16..].copy_from_slice(identity.as_bytes());
        let path = dir.join(format!("vectors-{}.bin", &identity.to_hex()[..16]));
        Ok(Self { path, header, dim, map: None, index: HashMap::new(), known: 0 })
    }

    /// The file.
    #[cfg(test)]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn record_size(&self) -> usize {
        FIXED + self.dim * 4 + CHECKSUM
    }

    fn err(&self, source: std::io::Error) -> EncoderError {
        EncoderError::Cache { path: self.path.clone(), source }
    }

    /// Takes note of records that were added since, by this process or another.
    pub fn refresh(&mut self, progress: &dyn Progress) -> Result<()> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.err(e)),
        };
        let len = file.metadata().map_err(|e| self.err(e))?.len() as usize;
        if len < HEADER {
            return Ok(());
        }
        let whole = len - (len - HEADER) % self.record_size();
        if whole == self.known && self.map.is_some() {
            return Ok(());
        }
        // SAFETY: the map is only read, and files of the cache only ever grow, but for half a
        // record at the end, which is not looked at.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| self.err(e))?;
        if map.get(..HEADER) != Some(&self.header[..]) {
            let aside = self.path.with_extension("broken");
            std::fs::rename(&self.path, &aside).map_err(|e| self.err(e))?;
            progress.note(&format!(
                "the header of the cache file {} is damaged; it was moved to {}",
                self.path.display(),
                aside.display()
            ));
            (self.map, self.known) = (None, 0);
            self.index.clear();
            return Ok(());
        }
        let mut at = if self.known < HEADER || self.known > whole { HEADER } else { self.known };
        while at < whole {
            let mut key = [0; 32];
            key.copy_from_slice(&map[at..at + 32]);
            self.index.insert(key, at);
            at += self.record_size();
        }
        self.map = Some(map);
        self.known = whole;
        Ok(())
    }

    /// A finished vector, or `None`; damaged ones are forgotten with a note.
    pub fn get(&mut self, key: &Key, progress: &dyn Progress) -> Option<Record> {
        let at = *self.index.get(key)?;
        let bytes = self.map.as_ref()?.get(at..at + self.record_size())?;
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if &blake3::hash(body).as_bytes()[..CHECKSUM] != checksum {
            self.index.remove(key);
            progress.note(&format!(
                "a damaged record in the cache file {} is computed again",
                self.path.display()
            ));
            return None;
        }
        let word = |i: usize| -> [u8; 4] { [body[i], body[i + 1], body[i + 2], body[i + 3]] };
        let mut ids_hash = [0; 16];
        ids_hash.copy_from_slice(&body[40..56]);
        Some(Record {
            tokens: u32::from_le_bytes(word(32)),
            truncated: u32::from_le_bytes(word(36)) & 1 == 1,
            ids_hash: u128::from_le_bytes(ids_hash),
            vector: (FIXED..body.len()).step_by(4).map(|i| f32::from_le_bytes(word(i))).collect(),
        })
    }

    /// Appends records; on return they are with the operating system.
    pub fn append(&mut self, records: &[(Key, Record)], progress: &dyn Progress) -> Result<()> {
        let mut bytes = Vec::with_capacity(records.len() * self.record_size());
        for (key, record) in records {
            let start = bytes.len();
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&record.tokens.to_le_bytes());
            bytes.extend_from_slice(&u32::from(record.truncated).to_le_bytes());
            bytes.extend_from_slice(&record.ids_hash.to_le_bytes());
            bytes.extend(record.vector.iter().flat_map(|v| v.to_le_bytes()));
            let checksum = blake3::hash(&bytes[start..]);
            bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM]);
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|e| self.err(e))?;
        match file.lock() {
            // Some network file systems know no locks; a single process is still safe there.
            Err(e) if e.kind() != ErrorKind::Unsupported => return Err(self.err(e)),
            _ => {}
        }
        // The lock ends with the file handle, whatever happens below.
        let len = file.metadata().map_err(|e| self.err(e))?.len();
        let end = if (len as usize) < HEADER {
            file.set_len(0).map_err(|e| self.err(e))?;
            file.write_all(&self.header).map_err(|e| self.err(e))?;
            HEADER as u64
        } else {
            let torn = (len - HEADER as u64) % self.record_size() as u64;
            if torn > 0 {
                file.set_len(len - torn).map_err(|e| self.err(e))?;
                progress.note(&format!(
                    "dropped an unfinished record at the end of the cache file {}",
                    self.path.display()
                ));
            }
            len - torn
        };
        file.seek(SeekFrom::Start(end)).map_err(|e| self.err(e))?;
        if let Err(source) = file.write_all(&bytes) {
            // A full disk: leave whole records behind, as far as that still works.
            let _ = file.set_len(end);
            return Err(self.err(source));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
