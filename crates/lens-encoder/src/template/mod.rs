//! How a prompt and a response become one text.

mod jinja;
mod transcript;

use crate::error::{EncoderError, Result};
use crate::identity::sha256_hex;
use crate::tokenizer::TextTokenizer;
use jinja::Jinja;
use lens_core::{Content, Exchange, Message};
use lens_data::encoder::TemplateChoice;
use std::path::Path;

/// Stands for the rules of the plain template in its hash: change it when they change.
const PLAIN_RULES: &str = "plain 1: prompt + seam + response; messages as Human/Assistant turns";

/// A template, resolved and compiled.
pub(crate) struct Template {
    /// `chat`, `plain` or `custom`.
    pub name: &'static str,
    /// SHA-256 of its source, in hex.
    pub sha256: String,
    jinja: Option<Jinja>,
}

/// A rendered exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The text. Where `marker` is set, it may hold that character in places where it must go.
    pub text: String,
    /// Set if control tokens in the text are to be parsed.
    pub marker: Option<char>,
}

impl Template {
    /// Resolves a choice for a model with or without a template of its own.
    pub fn resolve(choice: &TemplateChoice, own: Option<&str>, model: &Path) -> Result<Self> {
        let (name, source) = match (choice, own) {
            (TemplateChoice::Custom(source), _) => ("custom", source.as_str()),
            (TemplateChoice::Auto | TemplateChoice::Chat, Some(source)) => ("chat", source),
            (TemplateChoice::Chat, None) => {
                return Err(EncoderError::NoChatTemplate { path: model.to_owned() });
            }
            (TemplateChoice::Plain, _) | (TemplateChoice::Auto, None) => {
                let sha256 = sha256_hex(PLAIN_RULES.as_bytes());
                return Ok(Self { name: "plain", sha256, jinja: None });
            }
        };
        let jinja = Some(Jinja::compile(name, source)?);
        Ok(Self { name, sha256: sha256_hex(source.as_bytes()), jinja })
    }

    /// Renders an exchange.
    pub fn render(&self, exchange: &Exchange, tokenizer: &TextTokenizer) -> Result<Rendered> {
        match &self.jinja {
            None => Ok(Rendered { text: plain(exchange).0, marker: None }),
            Some(jinja) => {
                let (messages, _) = to_messages(exchange);
                let marker = tokenizer
                    .marker(messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]))?;
                let messages = shielded(&messages, tokenizer, marker);
                let (bos, eos) = (&tokenizer.bos_text, &tokenizer.eos_text);
                let text = jinja.render(&messages, false, bos, eos)?;
                Ok(Rendered { text, marker: Some(marker) })
            }
        }
    }

    /// Renders a prompt up to where the response goes.
    pub fn render_prompt(&self, prompt: &Content, tokenizer: &TextTokenizer) -> Result<Rendered> {
        let response = Content::Messages(Vec::new());
        let (messages, _) = to_messages(&Exchange { prompt: prompt.clone(), response });
        let Some(jinja) = &self.jinja else {
            let text = match prompt {
                Content::Text(text) => text.clone(),
                Content::Messages(_) => format!("{}\n\nAssistant:", transcript::write(&messages)),
            };
            return Ok(Rendered { text, marker: None });
        };
        let marker = tokenizer.marker(messages.iter().map(|m| m.content.as_str()))?;
        let messages = shielded(&messages, tokenizer, marker);
        let (bos, eos) = (&tokenizer.bos_text, &tokenizer.eos_text);
        let text = jinja.render(&messages, true, bos, eos)?;
        Ok(Rendered { text, marker: Some(marker) })
    }

    /// Byte in the rendered text where the response begins.
    pub fn response_start(
        &self,
        exchange: &Exchange,
        rendered: &Rendered,
        tokenizer: &TextTokenizer,
    ) -> Result<usize> {
        let (Some(jinja), Some(marker)) = (&self.jinja, rendered.marker) else {
            return Ok(plain(exchange).1);
        };
        let (mut messages, of_prompt) = to_messages(exchange);
        messages.truncate(of_prompt);
        let messages = shielded(&messages, tokenizer, marker);
        let (bos, eos) = (&tokenizer.bos_text, &tokenizer.eos_text);
        // Templates may refuse half a conversation; then everything counts as response.
        let prompt = jinja.render(&messages, true, bos, eos).unwrap_or_default();
        Ok(common_prefix(&prompt, &rendered.text))
    }
}

fn shielded(messages: &[Message], tokenizer: &TextTokenizer, marker: char) -> Vec<Message> {
    messages
        .iter()
        .map(|m| Message {
            // Roles come with the data as well.
            role: tokenizer.shield(&m.role, marker).into_owned(),
            content: tokenizer.shield(&m.content, marker).into_owned(),
        })
        .collect()
}

/// Bytes at which two texts part, at a boundary of characters.
fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// The plain text of an exchange, and where the response begins in it.
pub(crate) fn plain(exchange: &Exchange) -> (String, usize) {
    match (&exchange.prompt, &exchange.response) {
        (Content::Text(prompt), Content::Text(response)) => {
            // The separator belongs to the response: the prompt ends as it would alone.
            (format!("{prompt}{}{response}", seam(prompt, response)), prompt.len())
        }
        _ => {
            let (messages, of_prompt) = to_messages(exchange);
            let prompt = transcript::write(&messages[..of_prompt]);
            let text = transcript::write(&messages);
            // With the opening of the turn that the response is, where it is one.
            let opened = format!("{prompt}\n\nAssistant:");
            let begins = |p: &String| text.starts_with(p.as_str());
            let at = [opened, prompt].iter().find(|p| begins(p)).map_or(0, String::len);
            (text, at)
        }
    }
}

/// The separator between two texts, so that they do not run into each other.
fn seam(prompt: &str, response: &str) -> &'static str {
    let open = prompt.chars().next_back().is_none_or(char::is_whitespace)
        || response.chars().next().is_none_or(char::is_whitespace);
    match open {
        true => "",
        false if prompt.ends_with(':') => " ",
        false => "\n\n",
    }
}

/// An exchange as messages, and how many of them are the prompt's. A transcript in the manner of
/// HH-RLHF is taken apart; any other text is one turn.
pub(crate) fn to_messages(exchange: &Exchange) -> (Vec<Message>, usize) {
    let message =
        |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let mut from_transcript = false;
    let mut messages = match &exchange.prompt {
        Content::Messages(messages) => messages.clone(),
        Content::Text(text) if text.trim().is_empty() => Vec::new(),
        Content::Text(text) => match transcript::parse(text) {
            Some(messages) => {
                from_transcript = true;
                messages
            }
            None => vec![message("user", text)],
        },
    };
    let mut of_prompt = messages.len();
    match &exchange.response {
        Content::Messages(response) => messages.extend(response.iter().cloned()),
        Content::Text(text) => {
            // The implicit form: the whole conversation stands in the response.
            let whole = if messages.is_empty() { transcript::parse(text) } else { None };
            match (whole, messages.last_mut()) {
                (Some(whole), _) => {
                    of_prompt = whole.len().saturating_sub(1);
                    messages = whole;
                }
                // A transcript that breaks off inside the assistant's turn: the response goes on.
                (None, Some(last)) if from_transcript && last.role == "assistant" => {
                    let gap = if text.starts_with(char::is_whitespace) { "" } else { " " };
                    last.content = format!("{}{gap}{}", last.content, text.trim_end());
                    of_prompt -= 1;
                }
                // Turns of a transcript are trimmed, so its last one is too.
                (None, _) if from_transcript => messages.push(message("assistant", text.trim())),
                (None, _) => messages.push(message("assistant", text)),
            }
        }
    }
    (messages, of_prompt)
}

#[cfg(test)]
mod tests;
