//! Opening the files that a user names: nothing waits for ever, and nothing is read without a bound.
//!
//! A path may lead to anything: a named pipe that nobody writes to blocks whoever opens it, and
//! `/dev/zero` never ends. [`open_input`] takes files and pipes with a writer, [`open_regular`] files
//! alone, [`read_small`] a whole file up to a limit, and [`Folder`] files of one folder that may be
//! exchanged for another meanwhile.

use crate::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest settings, study, template or token file: those that people write have a hundredth.
pub const MAX_SMALL_BYTES: u64 = 4 << 20;

/// Opens a file that is mapped into memory or sought in: a pipe or a device is refused.
///
/// # Errors
/// [`Error::NotFound`], [`Error::IsFolder`], [`Error::NotAFile`], or what the system says.
pub fn open_regular(path: &Path) -> Result<File, Error> {
    let file = open_at_once(path)?;
    let meta = file.metadata().map_err(|e| Error::io(path, "open", e))?;
    regular(path, &meta)?;
    Ok(file)
}

/// Opens a file that is read once from its beginning: a regular one, a device, or a pipe that has a
/// writer, as `<(command)` makes one. A named pipe is given a few seconds to get one.
///
/// # Errors
/// [`Error::NotFound`], [`Error::IsFolder`], [`Error::NoWriter`], or what the system says.
pub fn open_input(path: &Path) -> Result<Input, Error> {
    let file = open_at_once(path)?;
    let meta = file.metadata().map_err(|e| Error::io(path, "open", e))?;
    if meta.is_dir() {
        return Err(Error::IsFolder { path: path.to_owned() });
    }
    pipes::wait_for_writer(path, file, &meta)
}

/// An opened input: what was read of it already, if it is a pipe, and the file.
#[derive(Debug)]
pub struct Input {
    /// The first byte of a pipe, where waiting for its writer brought one.
    pub head: Vec<u8>,
    /// The rest.
    pub file: File,
}

/// A whole file of at most `limit` bytes.
///
/// # Errors
/// As [`open_input`]; [`Error::TooLong`].
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let Input { head, file } = open_input(path)?;
    read_up_to(path, head, file, limit)
}

/// A whole text of at most [`MAX_SMALL_BYTES`]: settings, a study, a template.
///
/// # Errors
/// As [`read_small`]; [`Error::Io`] where it is no UTF-8.
pub fn read_text(path: &Path) -> Result<String, Error> {
    String::from_utf8(read_small(path, MAX_SMALL_BYTES)?).map_err(|e| {
        Error::io(path, "read", io::Error::new(io::ErrorKind::InvalidData, e.utf8_error()))
    })
}

fn read_up_to(path: &Path, mut bytes: Vec<u8>, file: File, limit: u64) -> Result<Vec<u8>, Error> {
    let room = limit.saturating_add(1);
    file.take(room).read_to_end(&mut bytes).map_err(|e| Error::io(path, "read", e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn regular(path: &Path, meta: &std::fs::Metadata) -> Result<(), Error> {
    match (meta.is_file(), meta.is_dir()) {
        (true, _) => Ok(()),
        (false, true) => Err(Error::IsFolder { path: path.to_owned() }),
        (false, false) => Err(Error::NotAFile { path: path.to_owned() }),
    }
}

/// A folder that is held open: files read through it are of one folder, also if another one takes
/// its name meanwhile.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    #[cfg(unix)]
    file: File,
}

impl Folder {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotAFolder`], or what the system says.
    pub fn open(path: &Path) -> Result<Folder, Error> {
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?;
        if !meta.is_dir() {
            return Err(Error::NotAFolder { path: path.to_owned() });
        }
        #[cfg(unix)]
        let file = {
            use rustix::fs::{Mode, OFlags, open};
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = open(path, flags, Mode::empty());
            File::from(opened.map_err(|e| Error::io(path, "read", e.into()))?)
        };
        Ok(Folder {
            path: path.to_owned(),
            #[cfg(unix)]
            file,
        })
    }

    /// A whole file of this folder, of at most `limit` bytes; `None` where there is none of that name.
    ///
    /// # Errors
    /// [`Error::NotAFile`], [`Error::TooLong`], or what the system says.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path.join(name);
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(path, "open", e)),
        };
        let meta = file.metadata().map_err(|e| Error::io(&path, "open", e))?;
        regular(&path, &meta)?;
        if meta.len() > limit {
            return Err(Error::TooLong { path, limit });
        }
        read_up_to(&path, Vec::with_capacity(meta.len() as usize), file, limit).map(Some)
    }

    #[cfg(unix)]
    fn open_file(&self, name: &str) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags, openat};
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.file, name, flags, Mode::empty())?))
    }

    #[cfg(not(unix))]
    fn open_file(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }
}

/// Opens a path without waiting for the writer of a named pipe.
#[cfg(unix)]
fn open_at_once(path: &Path) -> Result<File, Error> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty());
    Ok(File::from(opened.map_err(|e| Error::io(path, "open", e.into()))?))
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|e| Error::io(path, "open", e))
}

#[cfg(unix)]
mod pipes {
    use super::Input;
    use crate::error::Error;
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::fs::{File, Metadata};
    use std::io::{ErrorKind, Read};
    use std::os::unix::fs::FileTypeExt;
    use std::path::Path;
    use std::time::{Duration, Instant};

    /// How long a named pipe may be without a writer.
    const PATIENCE: Duration = Duration::from_secs(5);
    const LOOK: Duration = Duration::from_millis(20);

    /// Waits until a pipe has a writer, and makes reads of it wait for bytes from then on.
    pub(super) fn wait_for_writer(
        path: &Path,
        mut file: File,
        meta: &Metadata,
    ) -> Result<Input, Error> {
        let mut head = Vec::new();
        if meta.file_type().is_fifo() {
            let since = Instant::now();
            let mut byte = [0];
            loop {
                match file.read(&mut byte) {
                    // A pipe without a writer is at its end; one with a writer has nothing to read yet.
                    Ok(0) if since.elapsed() >= PATIENCE => {
                        return Err(Error::NoWriter { path: path.to_owned() });
                    }
                    Ok(0) => std::thread::sleep(LOOK),
                    Ok(_) => {
                        head.push(byte[0]);
                        break;
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(Error::io(path, "read", e)),
                }
            }
        }
        let flags = fcntl_getfl(&file);
        let waiting = flags.and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
        waiting.map_err(|e| Error::io(path, "open", e.into()))?;
        Ok(Input { head, file })
    }
}

#[cfg(not(unix))]
mod pipes {
    use super::Input;
    use crate::error::Error;
    use std::fs::{File, Metadata};
    use std::path::Path;

    pub(super) fn wait_for_writer(_: &Path, file: File, _: &Metadata) -> Result<Input, Error> {
        Ok(Input { head: Vec::new(), file })
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::io::Write;
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn pipe(folder: &Path) -> PathBuf {
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_an_error_within_seconds() {
        let home = tempfile::tempdir().unwrap();
        let path = pipe(home.path());
        let since = Instant::now();
        assert!(matches!(open_input(&path), Err(Error::NoWriter { .. })));
        assert!(matches!(open_regular(&path), Err(Error::NotAFile { .. })));
        assert!(since.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn a_pipe_with_a_slow_writer_is_read_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = pipe(home.path());
        let to = path.clone();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            let mut to = File::options().write(true).open(to).unwrap();
            for part in ["one", " and", " another"] {
                std::thread::sleep(Duration::from_millis(60));
                to.write_all(part.as_bytes()).unwrap();
            }
        });
        assert_eq!(read_text(&path).unwrap(), "one and another");
        writer.join().unwrap();
    }

    #[test]
    fn what_is_too_long_is_refused_and_an_endless_device_ends() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_small(&path, 5).unwrap(), b"12345");
        assert!(matches!(read_small(&path, 4), Err(Error::TooLong { limit: 4, .. })));
        assert!(matches!(read_text(Path::new("/dev/zero")), Err(Error::TooLong { .. })));
        assert!(matches!(read_text(home.path()), Err(Error::IsFolder { .. })));
    }

    #[test]
    fn a_folder_that_is_held_stays_the_same_when_another_takes_its_name() {
        let home = tempfile::tempdir().unwrap();
        let (a, b) = (home.path().join("a"), home.path().join("b"));
        for (folder, text) in [(&a, "a"), (&b, "b")] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("file"), text).unwrap();
        }
        let held = Folder::open(&a).unwrap();
        std::fs::rename(&a, home.path().join("c")).unwrap();
        std::fs::rename(&b, &a).unwrap();
        assert_eq!(held.read("file", 9).unwrap().unwrap(), b"a");
        assert_eq!(held.read("none", 9).unwrap(), None);
        assert!(matches!(held.read("file", 0), Err(Error::TooLong { .. })));
    }
}
