//! A template that is rendered in a process of its own, which is started again where it ended.

use super::Program;
use super::frame::{Answer, Request};
use super::process::{Process, Trouble};
use crate::encoder::lock;
use crate::template::limits::{Excess, Failure, output};
use crate::tokenizer::TokenRoles;
use lens_core::Message;
use std::borrow::Cow;
use std::io;
use std::sync::Mutex;

/// A template in a process of its own.
pub(crate) struct Apart {
    program: Program,
    source: String,
    process: Mutex<Option<Ready>>,
}

/// A process that has compiled the template.
struct Ready {
    process: Process,
    /// The roles that it was told.
    roles: Option<TokenRoles>,
}

/// Why a template was not rendered.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The template or its limits.
    Failure(Failure),
    /// There is no process to render it in.
    NoProcess(io::Error),
}

impl Apart {
    /// Compiles a template.
    pub fn compile(program: Program, source: &str) -> Result<Self, Unanswered> {
        let apart = Self { program, source: source.to_owned(), process: Mutex::new(None) };
        apart.again(|apart, process| apart.started(process).map(drop))?;
        Ok(apart)
    }

    /// Renders messages, one call after the other.
    pub fn render(
        &self,
        messages: &[Message],
        open: bool,
        roles: &TokenRoles,
    ) -> Result<String, Unanswered> {
        self.again(|apart, process| {
            let Ready { process, roles: told } = apart.started(process)?;
            let news = (told.as_ref() != Some(roles)).then_some(Cow::Borrowed(roles));
            if news.is_some() {
                *told = Some(roles.clone());
            }
            let request = Request::Render { messages: Cow::Borrowed(messages), open, roles: news };
            match process.ask(&request, output(messages))? {
                Answer::Text(text) => Ok(text),
                other => Err(refused(other)),
            }
        })
    }

    /// Does something with the process. One that ended for reasons of its own is started again, once:
    /// the system may have ended it for want of memory, and a template that ends it does so again.
    fn again<T>(
        &self,
        work: impl Fn(&Self, &mut Option<Ready>) -> Result<T, Trouble>,
    ) -> Result<T, Unanswered> {
        let mut process = lock(&self.process);
        let mut first = true;
        loop {
            let trouble = match work(self, &mut process) {
                Ok(done) => return Ok(done),
                Err(Trouble::Answered(failure)) => return Err(Unanswered::Failure(failure)),
                Err(trouble) => trouble,
            };
            // What is left of it must not answer the next request.
            *process = None;
            match trouble {
                Trouble::Gone(_) | Trouble::Io(_) if first => first = false,
                Trouble::Gone(status) => {
                    let status = status.to_string();
                    return Err(Unanswered::Failure(Failure::Exceeded(Excess::Crash { status })));
                }
                Trouble::Io(error) => return Err(Unanswered::NoProcess(error)),
                Trouble::Answered(failure) | Trouble::Stopped(failure) => {
                    return Err(Unanswered::Failure(failure));
                }
            }
        }
    }

    /// The process, with the template compiled.
    fn started<'a>(&self, process: &'a mut Option<Ready>) -> Result<&'a mut Ready, Trouble> {
        if process.is_none() {
            let mut new = Process::start(&self.program)?;
            match new.ask(&Request::Compile { source: Cow::Borrowed(&self.source) }, 0)? {
                Answer::Ready => *process = Some(Ready { process: new, roles: None }),
                other => return Err(refused(other)),
            }
        }
        process.as_mut().ok_or_else(|| Trouble::Io(io::ErrorKind::NotFound.into()))
    }
}

/// An answer that is none.
fn refused(answer: Answer) -> Trouble {
    match answer {
        Answer::Refused(words) => Trouble::Answered(Failure::refused(words)),
        Answer::Exceeded(excess) => Trouble::Answered(Failure::Exceeded(excess)),
        other => Trouble::Io(io::Error::other(format!("the renderer answers {other:?}"))),
    }
}
