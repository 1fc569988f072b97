//! How a prompt and a response become one text.

mod jinja;
mod limits;
mod rendered;
mod renderer;
pub mod sandbox;

use crate::error::{EncoderError, Result};
use crate::identity::sha256_hex;
use crate::tokenizer::TextTokenizer;
use lens_core::{Content, Exchange, Message};
use lens_data::encoder::{SpecialTokens, TemplateChoice};
use lens_data::transcript;
use lens_data::turns::turns as to_messages;
use rendered::{Canonical, RenderedForm};
use renderer::Renderer;
use std::path::Path;
use std::sync::OnceLock;

/// Stands for the rules of the plain template in its hash: change it when they change.
const PLAIN_RULES: &str = "plain 1: prompt + seam + response; messages as Human/Assistant turns";

/// A template, resolved and compiled.
pub(crate) struct Template {
    /// `chat`, `plain` or `custom`.
    pub name: &'static str,
    /// SHA-256 of its source, in hex.
    pub sha256: String,
    /// What renders exchanges; `None` for the plain template.
    jinja: Option<Renderer>,
    /// The model's chat template, where another one renders: texts may have gone through it.
    own: Option<Renderer>,
    /// The form of texts that were rendered before, found out when it is first asked for.
    form: OnceLock<RenderedForm>,
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
    /// Resolves a choice for a model with or without a template of its own, whose texts are read as
    /// `special` says.
    pub fn resolve(
        choice: &TemplateChoice,
        own: Option<&str>,
        special: SpecialTokens,
        model: &Path,
    ) -> Result<Self> {
        let form = OnceLock::new();
        let (name, source) = match (choice, own) {
            (TemplateChoice::Custom(source), _) => ("custom", source.as_str()),
            (TemplateChoice::Auto | TemplateChoice::Chat, Some(source)) => ("chat", source),
            (TemplateChoice::Chat, None) => {
                return Err(EncoderError::NoChatTemplate { path: model.to_owned() });
            }
            (TemplateChoice::Plain, _) | (TemplateChoice::Auto, None) => {
                let compiled = own.map(|source| Renderer::compile("chat", source));
                let compiled = match compiled.transpose() {
                    Err(error @ EncoderError::TemplateProcess { .. }) => return Err(error),
                    // A template that cannot render has rendered nothing.
                    compiled => compiled.unwrap_or(None),
                };
                let rules = match (special, own.filter(|_| compiled.is_some())) {
                    // It decides how parsed texts end.
                    (SpecialTokens::Parse, Some(own)) => format!("{PLAIN_RULES}\n{own}"),
                    _ => PLAIN_RULES.to_owned(),
                };
                let sha256 = sha256_hex(rules.as_bytes());
                return Ok(Self { name: "plain", sha256, jinja: None, own: compiled, form });
            }
        };
        let jinja = Some(Renderer::compile(name, source)?);
        Ok(Self { name, sha256: sha256_hex(source.as_bytes()), jinja, own: None, form })
    }

    /// The form of texts that went through this template before, or through the model's own where
    /// this one is plain.
    fn form(&self, tokenizer: &TextTokenizer) -> &RenderedForm {
        let chat = self.jinja.as_ref().or(self.own.as_ref());
        self.form.get_or_init(|| RenderedForm::new(chat, tokenizer))
    }

    /// Whether something of an exchange went through the chat template already, and would be spelt in
    /// letters or wrapped a second time.
    pub fn is_wrapped_twice(&self, exchange: &Exchange, tokenizer: &TextTokenizer) -> bool {
        if self.parses(tokenizer) {
            return false;
        }
        let form = self.form(tokenizer);
        [&exchange.prompt, &exchange.response].into_iter().any(|content| match content {
            Content::Text(text) => form.is_rendered(text),
            Content::Messages(turns) => turns.iter().any(|turn| form.is_rendered(&turn.content)),
        })
    }

    /// Whether a text as it is, without a template, has the chat template's tokens in letters.
    pub fn is_spelt_out(&self, text: &str, tokenizer: &TextTokenizer) -> bool {
        tokenizer.special() == SpecialTokens::Text && self.form(tokenizer).is_rendered(text)
    }

    /// Whether rendered texts are taken for what they are.
    fn parses(&self, tokenizer: &TextTokenizer) -> bool {
        self.jinja.is_none() && tokenizer.special() == SpecialTokens::Parse
    }

    /// A text that was rendered before, as this template writes its conversation. The plain template
    /// writes nothing before or after a conversation.
    pub fn canonical(&self, text: &str, tokenizer: &TextTokenizer) -> String {
        self.read_rendered(text, tokenizer).text
    }

    fn read_rendered(&self, text: &str, tokenizer: &TextTokenizer) -> Canonical {
        let form = self.form(tokenizer);
        match self.jinja.is_some() || self.parses(tokenizer) {
            true => form.canonical(text),
            false => form.unframed(text),
        }
    }

    /// Renders an exchange.
    pub fn render(&self, exchange: &Exchange, tokenizer: &TextTokenizer) -> Result<Rendered> {
        match &self.jinja {
            None => {
                let parsed = self.parsed(exchange, tokenizer).map(|(text, _)| text);
                let text = parsed.unwrap_or_else(|| plain(exchange).0);
                Ok(Rendered { text, marker: None })
            }
            Some(jinja) => {
                let (messages, _) = to_messages(exchange);
                let marker = tokenizer
                    .marker(messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]))?;
                let messages = shielded(&messages, tokenizer, marker);
                let text = jinja.render(&messages, false, &tokenizer.roles)?;
                Ok(Rendered { text, marker: Some(marker) })
            }
        }
    }

    /// An exchange whose text was rendered before, in the form in which the model's chat template
    /// writes the conversation, and where the response begins in it; `None` for any other.
    fn parsed(&self, exchange: &Exchange, tokenizer: &TextTokenizer) -> Option<(String, usize)> {
        let (Content::Text(prompt), Content::Text(response)) =
            (&exchange.prompt, &exchange.response)
        else {
            return None;
        };
        // What was cut in two is put together as it was.
        let whole = format!("{prompt}{response}");
        if !self.parses(tokenizer) || !self.form(tokenizer).is_rendered(&whole) {
            return None;
        }
        let Canonical { text, removed, added } = self.form(tokenizer).canonical(&whole);
        let at = (prompt.len().saturating_sub(removed) + added).min(text.len());
        let at = (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        Some((text, at))
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
        let text = jinja.render(&messages, true, &tokenizer.roles)?;
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
            let parsed = self.parsed(exchange, tokenizer).map(|(_, at)| at);
            return Ok(parsed.unwrap_or_else(|| plain(exchange).1));
        };
        let (mut messages, of_prompt) = to_messages(exchange);
        messages.truncate(of_prompt);
        let messages = shielded(&messages, tokenizer, marker);
        match jinja.render(&messages, true, &tokenizer.roles) {
            Ok(prompt) => Ok(common_prefix(&prompt, &rendered.text)),
            // Templates may refuse half a conversation; then everything counts as response.
            Err(EncoderError::Template { .. }) => Ok(0),
            Err(error) => Err(error),
        }
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

#[cfg(test)]
mod tests;
