//! Where a template is rendered: in a process of its own, or in this one.

use super::jinja::Jinja;
use super::limits::{Excess, Failure, MAX_INPUT, input};
use super::sandbox::{self, Apart, Unanswered};
use crate::error::{EncoderError, Result};
use crate::tokenizer::TokenRoles;
use lens_core::Message;

/// A compiled template.
pub(super) struct Renderer {
    name: String,
    place: Place,
}

enum Place {
    /// In this process: no program was chosen for another one ([`sandbox`]).
    Here(Jinja),
    Apart(Apart),
}

impl Renderer {
    /// Compiles a template, and refuses one that takes too much for a single short turn.
    pub fn compile(name: &str, source: &str) -> Result<Self> {
        let place = match sandbox::program() {
            Some(program) => Apart::compile(program, source).map(Place::Apart),
            None => Jinja::compile(source).map(Place::Here).map_err(Unanswered::Failure),
        };
        let place = place.map_err(|why| error(name, why))?;
        let renderer = Self { name: name.to_owned(), place };
        let turn = Message { role: "user".into(), content: "Hello".into() };
        match renderer.render(&[turn], false, &TokenRoles::default()) {
            // It may want other turns, and more tokens.
            Ok(_) | Err(EncoderError::Template { .. }) => Ok(renderer),
            Err(error) => Err(error),
        }
    }

    /// Renders messages; with `open`, the beginning of the assistant's next turn is appended.
    pub fn render(&self, messages: &[Message], open: bool, roles: &TokenRoles) -> Result<String> {
        let bytes = input(messages);
        let rendered = match &self.place {
            _ if bytes > MAX_INPUT => {
                Err(Unanswered::Failure(Failure::Exceeded(Excess::Input { bytes })))
            }
            Place::Here(jinja) => jinja.render(messages, open, roles).map_err(Unanswered::Failure),
            Place::Apart(apart) => apart.render(messages, open, roles),
        };
        rendered.map_err(|why| error(&self.name, why))
    }
}

fn error(name: &str, why: Unanswered) -> EncoderError {
    let name = name.to_owned();
    match why {
        Unanswered::Failure(Failure::Refused(detail)) => EncoderError::Template { name, detail },
        Unanswered::Failure(Failure::Exceeded(excess)) => {
            EncoderError::TemplateLimit { name, detail: excess.to_string() }
        }
        Unanswered::NoProcess(source) => EncoderError::TemplateProcess { name, source },
    }
}
