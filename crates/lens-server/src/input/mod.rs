//! The forms in which requests hold texts.
//!
//! What a body says is packed while it is parsed ([`Asked`]): it takes a few times the body's own
//! size at most, whatever the body is ([`PARSED`]). Texts are made of it once their number and size
//! are admitted.

mod beside;
mod chats;
mod compared;
mod skim;
mod texts;

use crate::failure::Failure;
pub(crate) use beside::{Beside, WithBeside};
pub(crate) use chats::{Chats, TextOrChat};
pub(crate) use compared::{Compared, Responses};
use lens_core::{Content, Exchange, Message};
use lens_encoder::Input;
use std::sync::Arc;
pub(crate) use texts::{List, Packed, Pairs, Sequences, Texts};

/// Bytes that a byte of JSON takes at most once it is parsed: a list of empty strings, while it
/// grows, takes 8.
pub(crate) const PARSED: usize = 8;

/// A text to score. Responses to the same prompt share it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Text {
    /// Text that went through the template before: special tokens in it are read as such.
    Rendered(String),
    /// A prompt with a response.
    Exchange { prompt: Arc<Content>, response: Content },
}

impl Text {
    /// The parts of the text, in their order.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        let (text, contents) = match self {
            Text::Rendered(text) => (Some(text.as_str()), [None, None]),
            Text::Exchange { prompt, response } => (None, [Some(&**prompt), Some(response)]),
        };
        text.into_iter().chain(contents.into_iter().flatten().flat_map(parts_of))
    }

    /// Bytes of the text, with what is written around its turns; an empty one counts as one.
    pub fn bytes(&self) -> usize {
        match self {
            Text::Rendered(text) => text.len().max(1),
            Text::Exchange { prompt, response } => (bytes_of(prompt) + bytes_of(response)).max(1),
        }
    }

    /// As the encoder takes it.
    pub fn input(&self) -> Input {
        match self {
            Text::Rendered(text) => Input::Rendered(text.clone()),
            Text::Exchange { prompt, response } => Input::Exchange(Exchange {
                prompt: Content::clone(prompt),
                response: response.clone(),
            }),
        }
    }
}

/// Bytes that a template writes around a message, at a guess: a conversation of many empty messages is
/// a long text.
const AROUND_MESSAGE: usize = 24;

/// Bytes of messages, as the template writes them.
fn bytes_of_messages(messages: &[Message]) -> usize {
    messages.iter().map(|m| m.role.len() + m.content.len() + AROUND_MESSAGE).sum()
}

/// Bytes of a prompt or a response.
fn bytes_of(content: &Content) -> usize {
    match content {
        Content::Text(text) => text.len(),
        Content::Messages(all) => bytes_of_messages(all),
    }
}

fn parts_of(content: &Content) -> Box<dyn Iterator<Item = &str> + '_> {
    match content {
        Content::Text(text) => Box::new(std::iter::once(text.as_str())),
        Content::Messages(all) => Box::new(all.iter().map(|m| m.content.as_str())),
    }
}

/// The exchange of a prompt and a response that is text.
fn pair(prompt: Arc<Content>, response: &str) -> Text {
    Text::Exchange { prompt, response: Content::Text(response.to_owned()) }
}

/// What a request asks to be scored, as its body has it.
pub(crate) trait Asked {
    /// How many texts there are.
    fn count(&self) -> usize;

    /// Bytes of all of them; each counts as at least one.
    fn bytes(&self) -> usize;

    /// The texts themselves, once they are admitted.
    ///
    /// # Errors
    /// 422 for texts that cannot be scored.
    fn texts(self) -> Result<Vec<Text>, Failure>;
}

/// The texts of a request that has either `input` or `messages`.
pub(crate) enum TextsOrChats {
    Texts(Texts),
    Chats(Chats),
}

impl TextsOrChats {
    /// What stands in these fields; `beside` are the other fields of the body.
    ///
    /// # Errors
    /// 422 for a request that has both or neither, and for fields that cannot be scored.
    pub fn of(
        input: Option<Texts>,
        messages: Option<Chats>,
        beside: Beside,
    ) -> Result<TextsOrChats, Failure> {
        match (input, messages) {
            (Some(texts), None) => Ok(TextsOrChats::Texts(texts)),
            (None, Some(chats)) => beside.refuse().map(|()| TextsOrChats::Chats(chats)),
            _ => Err(Failure::field("input", "either `input` or `messages` is needed")),
        }
    }
}

impl Asked for TextsOrChats {
    fn count(&self) -> usize {
        match self {
            TextsOrChats::Texts(texts) => texts.count(),
            TextsOrChats::Chats(chats) => chats.count(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            TextsOrChats::Texts(texts) => texts.bytes(),
            TextsOrChats::Chats(chats) => chats.bytes(),
        }
    }

    fn texts(self) -> Result<Vec<Text>, Failure> {
        match self {
            TextsOrChats::Texts(texts) => texts.texts(),
            TextsOrChats::Chats(chats) => chats.texts(),
        }
    }
}
