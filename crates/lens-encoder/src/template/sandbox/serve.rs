//! The renderer itself: what runs in the child process.

use super::confine::Confined;
use super::frame::{Answer, Request, read_body, read_length, write};
use crate::template::jinja::Jinja;
use crate::template::limits::{Excess, Failure, MAX_INPUT};
use crate::tokenizer::TokenRoles;
use lens_data::panics::words_of;
use std::io::{self, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Stack for compiling and rendering: a template that needs more has operators without end in a row, or
/// builds values without end in each other.
const STACK: usize = 16 << 20;
/// Bytes of the longest request: in JSON a byte may take six.
const MAX_REQUEST: usize = 6 * MAX_INPUT + (64 << 20);

/// Renders until the program at the other end has left.
pub(super) fn run() -> io::Result<()> {
    use std::os::fd::AsFd;
    // Without the buffers of the standard streams.
    let from = BufReader::new(std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let to = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // What goes wrong is answered; a panic has nothing to add.
    std::panic::set_hook(Box::new(|_| {}));
    let renderer = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let mut confined = Confined::new()?;
        answer_all(from, to, |bytes| confined.before(bytes))
    })?;
    renderer.join().unwrap_or_else(|_| Err(io::Error::other("the renderer panicked")))
}

/// Answers requests until their stream ends. `before` is called with the length of each before it is
/// read.
pub(super) fn answer_all(
    mut from: impl Read,
    mut to: impl Write,
    mut before: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut jinja: Option<Jinja> = None;
    let mut roles = TokenRoles::default();
    let mut bytes = Vec::new();
    write(&mut to, &Answer::Ready)?;
    while let Some(length) = read_length(&mut from)? {
        if length > MAX_REQUEST {
            return Err(io::Error::other("a request is too long"));
        }
        before(length)?;
        let answer = match read_body(&mut from, length, &mut bytes)? {
            Request::Compile { source } => match guarded(|| Jinja::compile_here(&source)) {
                Ok(compiled) => {
                    jinja = Some(compiled);
                    Answer::Ready
                }
                Err(failure) => failure.into(),
            },
            Request::Render { messages, open, roles: new } => {
                if let Some(new) = new {
                    roles = new.into_owned();
                }
                let jinja = jinja.as_ref().ok_or_else(|| io::Error::other("no template"))?;
                match guarded(|| jinja.render(&messages, open, &roles)) {
                    Ok(text) => Answer::Text(text),
                    Err(failure) => failure.into(),
                }
            }
        };
        write(&mut to, &answer)?;
    }
    Ok(())
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(words) => Answer::Refused(words),
            Failure::Exceeded(excess) => Answer::Exceeded(excess),
        }
    }
}

/// The engine panics where a length is more than there are addresses, and where it has a fault.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = words_of(&*panic).unwrap_or_default();
        Err(match words.contains("capacity overflow") {
            true => Failure::Exceeded(Excess::Memory),
            false => Failure::refused(format!("the template engine fails on it: {words}")),
        })
    })
}
