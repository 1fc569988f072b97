//! One file from the network: taken up where it stopped, verified, then given its name.

use super::disk;
use crate::error::{EncoderError, FetchError, Result};
use crate::http::{Client, HttpError, LOOK, Retry, Secret, passes, wait};
use crate::identity::hex;
use lens_core::Progress;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// A file to be fetched: its address, its target, and its expected size and hash.
pub(super) struct FileRequest<'a> {
    /// For people.
    pub what: &'a str,
    pub url: &'a str,
    pub token: Option<&'a Secret>,
    pub target: &'a Path,
    /// Where a person can accept a licence.
    pub page: &'a str,
    pub size: Option<u64>,
    pub sha256: Option<&'a str>,
    /// Whether an ETag that looks like a SHA-256 is that of the file.
    pub trust_etag: bool,
    /// A file of unknown size is not longer than this.
    pub limit: u64,
    /// The ETag of what is here already: if it still holds, nothing is fetched.
    pub known_etag: Option<&'a str>,
}

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// The file is in its place.
    File { etag: Option<String> },
    /// The file that is here already is the server's.
    Same,
}

/// The network, and how patient to be with it.
#[derive(Debug, Clone)]
pub(super) struct Net {
    /// For files, which take as long as their size and the line want.
    pub client: Client,
    /// For lists of files, which are small.
    pub listings: Client,
    pub retry: Retry,
    /// How long to wait for a connection, an answer, the next bytes.
    pub patience: Duration,
}

/// Bytes in a second below which a transfer is given up: a slow line has a hundred times as many.
const LEAST_SPEED: u64 = 1024;

/// Fetches a file. After a failure or a stop, what arrived stays beside the target as `.part`, to
/// be taken up again; what arrived wrong is removed.
pub(super) fn download(wanted: &FileRequest, net: &Net, progress: &dyn Progress) -> Result<Got> {
    let Some(mut part) = PartialFile::open(wanted.target, progress)? else {
        return Ok(Got::File { etag: None });
    };
    progress.advance(part.len);
    let mut transfer = Transfer { wanted, shown: part.len, expected: None, total: wanted.size };
    let etag = match transfer.all(&mut part, net, progress) {
        Ok(Got::File { etag }) => etag,
        other => {
            if part.len == 0 {
                part.remove();
            }
            return other;
        }
    };
    let found = hex(&part.hasher.clone().finalize());
    let expected = wanted.sha256.map(str::to_owned).or(transfer.expected);
    if let Some(expected) = expected.filter(|e| *e != found) {
        part.remove();
        return Err(EncoderError::Checksum { model: wanted.what.to_owned(), expected, found });
    }
    part.finish(wanted.target)?;
    Ok(Got::File { etag })
}

/// The part of a file that has arrived, locked against other processes.
struct PartialFile {
    path: PathBuf,
    file: File,
    len: u64,
    hasher: Sha256,
    /// The tag of the answer that it is a part of.
    etag: Option<String>,
}

impl PartialFile {
    /// `None` if another process finished the file meanwhile.
    fn open(target: &Path, progress: &dyn Progress) -> Result<Option<Self>> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!("{name}.part"));
        let existed = target.exists();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(disk(folder))?;
        }
        let mut told = false;
        let mut file = loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(disk(&path))?;
            match file.try_lock() {
                Ok(()) if path.exists() => break file,
                // Finished or removed by the one who held it.
                Ok(()) if !existed && target.exists() => return Ok(None),
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                // Some network file systems know no locks; a single process is still safe there.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                    break file;
                }
                Err(TryLockError::Error(e)) => return Err(disk(&path)(e)),
            }
            if !told {
                progress.note(&format!("another process fetches {name}; waiting for it"));
                told = true;
            }
            if !wait(LOOK, progress) {
                return Err(EncoderError::Cancelled);
            }
        };
        let etag = std::fs::read_to_string(etag_path(&path)).ok();
        let mut hasher = Sha256::new();
        let mut len = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(disk(&path))? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    len += n as u64;
                }
            }
            if progress.cancelled() {
                return Err(EncoderError::Cancelled);
            }
        }
        Ok(Some(Self { path, file, len, hasher, etag }))
    }

    /// From the beginning again.
    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(disk(&self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(disk(&self.path))?;
        (self.len, self.hasher) = (0, Sha256::new());
        Ok(())
    }

    fn remember(&mut self, etag: Option<&str>) -> Result<()> {
        let path = etag_path(&self.path);
        match etag {
            Some(etag) => std::fs::write(&path, etag).map_err(disk(&path))?,
            None => drop(std::fs::remove_file(&path)),
        }
        self.etag = etag.map(str::to_owned);
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(disk(&self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(etag_path(&self.path));
    }

    fn finish(self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(disk(&self.path))?;
        std::fs::rename(&self.path, target).map_err(disk(target))?;
        let _ = std::fs::remove_file(etag_path(&self.path));
        Ok(())
    }
}

fn etag_path(part: &Path) -> PathBuf {
    part.with_extension("part-etag")
}

/// How one attempt ended.
enum Step {
    Done { etag: Option<String> },
    Same,
    Again { error: FetchError, asked: Option<Duration> },
}

/// The state that all attempts at one file share.
struct Transfer<'a> {
    wanted: &'a FileRequest<'a>,
    /// Bytes that were reported as progress.
    shown: u64,
    /// The hash that the server names.
    expected: Option<String>,
    total: Option<u64>,
}

/// A message of the thread that reads from the network.
enum Event {
    ResponseHead(ResponseHead),
    Bytes(Vec<u8>),
    End,
    Failed(HttpError),
}

struct ResponseHead {
    status: u16,
    etag: Option<String>,
    linked_etag: Option<String>,
    linked_size: Option<u64>,
    length: Option<u64>,
    /// First byte and total of a part.
    range: Option<(u64, Option<u64>)>,
    asked: Option<Duration>,
    message: String,
}

impl Transfer<'_> {
    /// Tries as long as something new arrives, and a few times more.
    fn all(&mut self, part: &mut PartialFile, net: &Net, progress: &dyn Progress) -> Result<Got> {
        // More than ever before: starting again from nothing is no progress.
        let (mut failures, mut most) = (0, part.len);
        loop {
            let (error, asked) = match self.attempt(part, net, progress)? {
                Step::Done { etag } => return Ok(Got::File { etag }),
                Step::Same => return Ok(Got::Same),
                Step::Again { error, asked } => (error, asked),
            };
            // A server that trickles always brings something new.
            let slow =
                matches!(&error, FetchError::Network { source: HttpError::TooSlow { .. }, .. });
            failures = if part.len > most && !slow { 1 } else { failures + 1 };
            most = most.max(part.len);
            if failures >= net.retry.attempts {
                return Err(error.into());
            }
            if !wait(net.retry.pause(failures - 1, asked), progress) {
                return Err(EncoderError::Cancelled);
            }
        }
    }

    fn attempt(
        &mut self,
        part: &mut PartialFile,
        net: &Net,
        progress: &dyn Progress,
    ) -> Result<Step> {
        let wanted = self.wanted;
        if progress.cancelled() {
            return Err(EncoderError::Cancelled);
        }
        // A part of what, only its ETag can tell; without one it starts again.
        if part.len > 0 && part.etag.is_none() {
            part.clear()?;
        }
        if part.len > 0 && self.total == Some(part.len) {
            return Ok(Step::Done { etag: part.etag.clone() });
        }
        let mut headers = Vec::new();
        if let (Some(etag), true) = (&part.etag, part.len > 0) {
            headers.push(("range", format!("bytes={}-", part.len)));
            headers.push(("if-range", etag.clone()));
        } else if let Some(etag) = wanted.known_etag {
            headers.push(("if-none-match", etag.to_owned()));
        }
        let events = start(net.client.clone(), wanted.url, wanted.token.cloned(), headers);
        let again = |source| {
            let error = FetchError::Network { what: wanted.what.to_owned(), source };
            Ok(Step::Again { error, asked: None })
        };
        let head = match next(&events, progress)? {
            Some(Event::ResponseHead(head)) => head,
            Some(Event::Failed(e)) if e.is_passing() => return again(e),
            Some(Event::Failed(source)) => {
                return Err(FetchError::Network { what: wanted.what.to_owned(), source }.into());
            }
            _ => return again(self.broken("nothing arrived")),
        };
        if let Some(step) = self.refused(&head, part)? {
            return Ok(step);
        }
        if part.len == 0 {
            part.remember(head.etag.as_deref().filter(|e| !e.starts_with("W/")))?;
        }
        let limit = self.total.unwrap_or(wanted.limit).min(wanted.limit);
        if self.total.is_some_and(|total| total > limit) {
            return Err(FetchError::TooLong { what: wanted.what.to_owned(), limit }.into());
        }
        let (mut since, mut from) = (Instant::now(), part.len);
        loop {
            match next(&events, progress)? {
                Some(Event::Bytes(bytes)) => {
                    let seconds = net.patience.as_secs().max(1);
                    if since.elapsed() >= net.patience {
                        if part.len - from < LEAST_SPEED * seconds {
                            let url = crate::http::public_url(wanted.url);
                            let bytes = LEAST_SPEED * seconds;
                            return again(HttpError::TooSlow { url, bytes, seconds });
                        }
                        (since, from) = (Instant::now(), part.len);
                    }
                    if part.len + bytes.len() as u64 > limit {
                        part.clear()?;
                        part.remember(None)?;
                        let what = wanted.what.to_owned();
                        return Err(FetchError::TooLong { what, limit }.into());
                    }
                    part.push(&bytes)?;
                    if part.len > self.shown {
                        progress.advance(part.len - self.shown);
                        self.shown = part.len;
                    }
                }
                Some(Event::End) => match self.total {
                    Some(total) if part.len < total => {
                        let said = format!("after {} of {total} bytes", part.len);
                        return again(self.broken(&said));
                    }
                    _ => return Ok(Step::Done { etag: part.etag.clone() }),
                },
                Some(Event::Failed(e)) => return again(e),
                _ => return again(self.broken("nothing more arrived")),
            }
        }
    }

    fn broken(&self, detail: &str) -> HttpError {
        let url = crate::http::public_url(self.wanted.url);
        HttpError::Broken { url, detail: detail.to_owned() }
    }

    /// Reads the head of an answer; `Some` if no bytes follow that are wanted.
    fn refused(&mut self, head: &ResponseHead, part: &mut PartialFile) -> Result<Option<Step>> {
        let wanted = self.wanted;
        match head.status {
            200 => {
                if part.len > 0 {
                    // Another file than the one that was begun.
                    part.clear()?;
                }
                self.learn(head, head.length);
                Ok(None)
            }
            206 => {
                if head.range.is_none_or(|(start, _)| start != part.len) {
                    part.clear()?;
                    part.remember(None)?;
                    let error = FetchError::Garbage {
                        what: wanted.what.to_owned(),
                        detail: "another part of the file than the one asked for".into(),
                    };
                    return Ok(Some(Step::Again { error, asked: None }));
                }
                self.learn(head, head.range.and_then(|(_, total)| total));
                Ok(None)
            }
            304 if part.len == 0 && wanted.known_etag.is_some() => Ok(Some(Step::Same)),
            // The part that is here is not of the file that is there.
            416 if part.len > 0 => {
                part.clear()?;
                part.remember(None)?;
                Ok(Some(Step::Again { error: self.status(head), asked: None }))
            }
            status if passes(status) => {
                Ok(Some(Step::Again { error: self.status(head), asked: head.asked }))
            }
            _ => Err(self.status(head).into()),
        }
    }

    fn learn(&mut self, head: &ResponseHead, length: Option<u64>) {
        self.total = self.wanted.size.or(head.linked_size).or(length);
        let own = head.etag.as_deref().filter(|_| self.wanted.trust_etag);
        let hash = head.linked_etag.as_deref().into_iter().chain(own).find_map(as_sha256);
        self.expected = hash.or(self.expected.take());
    }

    fn status(&self, head: &ResponseHead) -> FetchError {
        refusal(self.wanted.what, self.wanted.page, head.status, head.message.clone())
    }
}

/// The error that a status stands for.
pub(super) fn refusal(what: &str, page: &str, status: u16, message: String) -> FetchError {
    let what = what.to_owned();
    match status {
        401 | 403 => FetchError::Denied { what, status, message, page: page.to_owned() },
        404 | 410 => FetchError::NotFound { what, message },
        _ => FetchError::Status { what, status, message },
    }
}

/// The SHA-256 in an ETag, if it is one.
fn as_sha256(etag: &str) -> Option<String> {
    let text = etag.trim_matches('"');
    let is = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is.then(|| text.to_ascii_lowercase())
}

fn next(events: &Receiver<Event>, progress: &dyn Progress) -> Result<Option<Event>> {
    loop {
        if progress.cancelled() {
            return Err(EncoderError::Cancelled);
        }
        match events.recv_timeout(LOOK) {
            Ok(event) => return Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

/// Reads from the network aside, so that a stalled connection never keeps the user waiting.
fn start(
    client: Client,
    url: &str,
    token: Option<Secret>,
    headers: Vec<(&'static str, String)>,
) -> Receiver<Event> {
    let (send, events) = sync_channel(4);
    let url = url.to_owned();
    std::thread::spawn(move || {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let mut answer = match client.get(&url, token.as_ref(), &headers) {
            Ok(answer) => answer,
            Err(e) => return drop(send.send(Event::Failed(e))),
        };
        let text = |name: &str| answer.header(name).map(str::to_owned);
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let mut head = ResponseHead {
            status: answer.status,
            etag: text("etag"),
            linked_etag: answer.linked_header("x-linked-etag").map(str::to_owned),
            linked_size: answer.linked_header("x-linked-size").and_then(number),
            length: answer.header("content-length").and_then(number),
            range: answer.header("content-range").and_then(range),
            asked: answer.retry_after(),
            message: text("x-error-message").unwrap_or_default(),
        };
        if !answer.is_success() {
            if head.message.is_empty() {
                head.message = answer.message();
            }
            if let Some(token) = &token {
                head.message = token.hide_in(&head.message);
            }
            return drop(send.send(Event::ResponseHead(head)));
        }
        if send.send(Event::ResponseHead(head)).is_err() {
            return;
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            let event = match answer.read(&mut buffer) {
                Ok(0) => Event::End,
                Ok(n) => Event::Bytes(buffer[..n].to_vec()),
                Err(e) => Event::Failed(e),
            };
            let last = !matches!(event, Event::Bytes(_));
            if send.send(event).is_err() || last {
                return;
            }
        }
    });
    events
}

/// `bytes 5-9/10`: the first byte, and the total.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = span.split_once('-')?.0.parse().ok()?;
    Some((start, total.parse().ok()))
}
