//! A renderer as its program sees it: started, asked, stopped.

use super::Program;
use super::frame::{Answer, Request, packed, read_body, read_length};
use crate::template::limits::{Excess, Failure};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longest wait for an answer. The process itself ends after two seconds of computing; this is for
/// one that gets no processor, or does something else than compute.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest wait for a process to start: its program may have to be read from a slow disk.
const START: Duration = Duration::from_secs(30);
/// Longest wait for the last words of a process that has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Bytes that are read at a time.
const BUFFER: usize = 64 << 10;
/// Bytes that an answer may have beyond those of its text.
const ANSWER: usize = 64 << 10;

/// A renderer with its template compiled.
pub(super) struct Process {
    child: Child,
    to: UnixStream,
    from: BufReader<UnixStream>,
    errors: UnixStream,
    bytes: Vec<u8>,
}

/// Why a renderer has not answered.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What the renderer says about the template; it goes on.
    Answered(Failure),
    /// What the end of the process says about the template.
    Stopped(Failure),
    /// The process could not be started or spoken to.
    Io(io::Error),
    /// The process ended, for a reason that says nothing about the template.
    Gone(ExitStatus),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

impl Process {
    /// Starts a renderer, which has taken its limits when this returns.
    pub fn start(program: &Program) -> Result<Self, Trouble> {
        let (stream, theirs) = UnixStream::pair()?;
        let (errors, their_errors) = UnixStream::pair()?;
        let input = Stdio::from(OwnedFd::from(theirs.try_clone()?));
        // Nothing of this process goes along: no variable, no open file, no folder.
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .env_clear()
            .current_dir("/")
            // Ctrl-C is for this process, which ends what it began.
            .process_group(0)
            .stdin(input)
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::from(OwnedFd::from(their_errors)))
            .spawn()?;
        let from = BufReader::with_capacity(BUFFER, stream.try_clone()?);
        let mut process = Self { child, to: stream, from, errors, bytes: Vec::new() };
        process.wait_for(START)?;
        let answer = process.receive(ANSWER)?;
        process.wait_for(PATIENCE)?;
        match answer {
            Answer::Ready => Ok(process),
            other => Err(io::Error::other(format!("it answers {other:?}")).into()),
        }
    }

    /// Sets how long is waited from now on, for each piece of a request or an answer; a renderer has
    /// an answer whole before it sends it.
    fn wait_for(&self, patience: Duration) -> io::Result<()> {
        self.to.set_write_timeout(Some(patience))?;
        self.to.set_read_timeout(Some(patience))
    }

    /// Asks for something, and waits for the answer, of which the text has up to `most` bytes.
    pub fn ask(&mut self, request: &Request, most: usize) -> Result<Answer, Trouble> {
        match self.to.write_all(&packed(request)?) {
            Ok(()) => {}
            // It ended; why is found out below.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
            Err(e) => return Err(self.trouble(e)),
        }
        // In JSON a byte may take six.
        self.receive(6 * most + ANSWER)
    }

    fn receive(&mut self, most: usize) -> Result<Answer, Trouble> {
        let answer = match read_length(&mut self.from) {
            Ok(Some(length)) if length > most => Err(ErrorKind::InvalidData.into()),
            Ok(Some(length)) => read_body(&mut self.from, length, &mut self.bytes),
            Ok(None) => Err(ErrorKind::UnexpectedEof.into()),
            Err(e) => Err(e),
        };
        answer.map_err(|error| self.trouble(error))
    }

    /// What an error of the stream means.
    fn trouble(&mut self, error: io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                Trouble::Stopped(Failure::Exceeded(Excess::Time))
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => self.ended(),
            _ => Trouble::Io(error),
        }
    }

    /// Why the process ended.
    fn ended(&mut self) -> Trouble {
        // A process that closed its end without ending is not one of ours.
        let _ = self.child.kill();
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return Trouble::Io(error),
        };
        let mut words = Vec::new();
        // What can be read of them is what there is.
        if self.errors.set_read_timeout(Some(LAST_WORDS)).is_ok() {
            let _ = (&self.errors).take(4096).read_to_end(&mut words);
        }
        let words = String::from_utf8_lossy(&words);
        let out_of_time = rustix::process::Signal::XCPU.as_raw();
        let excess = if status.signal() == Some(out_of_time) {
            Excess::Time
        } else if words.contains("memory allocation of") {
            Excess::Memory
        } else if words.contains("overflowed its stack") {
            Excess::Depth
        } else {
            return Trouble::Gone(status);
        };
        Trouble::Stopped(Failure::Exceeded(excess))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
