//! Open files: how many there can be, and those that are read before anything is served.

use crate::error::ServeError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Open files that are reserved for other things than connections: bundles, models, the log.
const RESERVED: u64 = 64;
/// Open files without which a server cannot start: the runtime's, the socket, a bundle's, and a
/// connection.
const NEEDED: usize = 24;
/// Most bytes of a small file: one of tokens, of a certificate, of a key.
const SMALL: u64 = 4 << 20;
/// Time for a small file. Whoever names a pipe has to write into it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Raises this process's limit of open files (`ulimit -n`) as far as the system allows. Each
/// connection is an open file, and the usual limit of 1,024 is below the default of
/// [`Limits::connections`](crate::Limits::connections). A server never does this for itself, as the
/// limit belongs to the whole process.
///
/// # Errors
/// The system's.
pub fn raise_open_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// The limit of open files.
fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Refuses to start where the system has no files left for a server.
///
/// # Errors
/// [`ServeError::Files`].
pub(crate) fn check_open_files() -> std::result::Result<(), ServeError> {
    let tried: Result<Vec<File>> = (0..NEEDED).map(|_| File::open("/dev/null")).collect();
    match tried {
        Ok(_) => Ok(()),
        Err(source) => Err(ServeError::Files { needed: NEEDED, limit: limit(), source }),
    }
}

/// How many of `wanted` connections the system lets this process hold at a time. With fewer than
/// that open, none is accepted that could not be answered.
pub(crate) fn connections_of_files(wanted: usize) -> usize {
    let files = limit();
    let room = usize::try_from(files.saturating_sub(RESERVED)).unwrap_or(usize::MAX).max(1);
    if room < wanted {
        tracing::warn!(
            "{room} connections at a time, not {wanted} (--max-connections): the system gives this \
             process {files} open files (ulimit -n)"
        );
    }
    wanted.min(room)
}

/// Reads a small file, such as one of tokens or a certificate. It may be a pipe, as a shell makes it
/// (`<(..)`), into which somebody writes within 5 seconds.
///
/// # Errors
/// The system's; [`ErrorKind::TimedOut`] where nobody writes into a pipe, or its writer does not
/// end; [`ErrorKind::FileTooLarge`] beyond 4 MiB.
pub fn read_small_file(path: &Path) -> Result<Vec<u8>> {
    let (send, receive) = channel();
    let path = path.to_owned();
    // Whoever opens a pipe waits for its other end, which nothing but this thread can afford.
    std::thread::Builder::new().spawn(move || {
        let _ = send.send(read_up_to(&path, SMALL));
    })?;
    receive.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        let message = format!("cannot be read to its end within {seconds} s; is it a pipe?");
        Err(Error::new(ErrorKind::TimedOut, message))
    })
}

fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("has more than {most} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_read_and_what_never_ends_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        assert_eq!(read_small_file(file.path()).unwrap(), b"text");
        let endless = read_small_file(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(endless.kind(), ErrorKind::FileTooLarge);
        assert_eq!(read_small_file(Path::new("/absent")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn here_are_files_enough_and_a_connection_is_always_allowed() {
        check_open_files().unwrap();
        assert_eq!(connections_of_files(1), 1);
    }
}
