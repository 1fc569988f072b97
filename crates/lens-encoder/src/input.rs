//! From an exchange to token ids no longer than the model takes.

use crate::error::Result;
use crate::template::{Rendered, Template};
use crate::tokenizer::TextTokenizer;
use lens_core::Exchange;

/// One of several inputs of different kinds, whose vectors are computed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A prompt with a response: rendered with the template.
    Exchange(Exchange),
    /// Text as it is.
    Text(String),
    /// Text that was rendered with the template before: names of special tokens in it are special
    /// tokens, and what stands around it (padding, BOS, the end of the last turn) becomes what the
    /// template itself writes around the conversation.
    Rendered(String),
}

impl Input {
    /// As the encoder takes it.
    pub(crate) fn item(&self) -> Item<'_> {
        match self {
            Input::Exchange(exchange) => Item::Exchange(exchange),
            Input::Text(text) => Item::Text(text),
            Input::Rendered(text) => Item::Rendered(text),
        }
    }
}

/// An input that a caller wants a vector of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    /// A prompt with a response, to go through the template.
    Exchange(&'a Exchange),
    /// Text as it is.
    Text(&'a str),
    /// Text that was rendered elsewhere.
    Rendered(&'a str),
    /// Token ids as they are.
    Ids(&'a [u32]),
}

/// Token ids, ready to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub ids: Vec<u32>,
    pub truncated: bool,
    /// How many of the ids are BOS and prompt; known for exchanges if it was asked for.
    pub prompt: Option<usize>,
}

impl Prepared {
    /// A list of ids as it is, or its beginning.
    pub fn of_ids(ids: &[u32], max_length: usize) -> Self {
        let truncated = ids.len() > max_length;
        Self { ids: ids[..ids.len().min(max_length)].to_vec(), truncated, prompt: None }
    }
}

/// Renders and tokenises; what is too long keeps its response. With `find_prompt`, where the
/// response begins is found for short texts too.
pub(crate) fn prepare(
    item: Item,
    template: &Template,
    tokenizer: &TextTokenizer,
    max_length: usize,
    find_prompt: bool,
) -> Result<Prepared> {
    let (text, marker) = match item {
        Item::Ids(ids) => return Ok(Prepared::of_ids(ids, max_length)),
        Item::Text(text) => (std::borrow::Cow::Borrowed(text), None),
        // Nothing in it is shielded, so the marker may be any that it does not hold.
        Item::Rendered(text) => {
            let text = template.canonical(text, tokenizer);
            let marker = tokenizer.marker(std::iter::once(text.as_str()))?;
            (std::borrow::Cow::Owned(text), Some(marker))
        }
        Item::Exchange(exchange) => {
            let rendered = template.render(exchange, tokenizer)?;
            (std::borrow::Cow::Owned(rendered.text), rendered.marker)
        }
    };
    let ids = match marker {
        None => tokenizer.text(&text)?,
        Some(marker) => tokenizer.rendered(&text, marker)?,
    };
    let truncated = ids.len() > max_length;
    if !truncated && !find_prompt {
        return Ok(Prepared { ids, truncated, prompt: None });
    }
    let frame = (tokenizer.prefix_len(), tokenizer.suffix_len());
    let prompt = match item {
        Item::Exchange(exchange) => {
            let rendered = Rendered { text: text.into_owned(), marker };
            let at = template.response_start(exchange, &rendered, tokenizer)?;
            let last = ids.len() - frame.1;
            Some(tokenizer.ids_before(&rendered.text, marker, at)?.clamp(frame.0, last))
        }
        Item::Text(_) | Item::Rendered(_) | Item::Ids(_) => None,
    };
    if !truncated {
        return Ok(Prepared { ids, truncated, prompt });
    }
    let (ids, kept) = shorten(ids, frame, prompt.unwrap_or(frame.0), max_length);
    Ok(Prepared { ids, truncated, prompt: prompt.map(|_| kept) })
}

/// Keeps what stands around the text (the first and the last ids, `frame` of them: BOS, `[SEP]`),
/// the end of the prompt and the whole response; of a response that does not fit, its beginning.
/// The first `prompt` ids are BOS and prompt; how many of them were kept is returned.
fn shorten(
    mut ids: Vec<u32>,
    (prefix, suffix): (usize, usize),
    prompt: usize,
    max_length: usize,
) -> (Vec<u32>, usize) {
    let last = ids.split_off(ids.len() - suffix);
    let max_length = max_length.saturating_sub(suffix);
    let response = ids.len() - prompt;
    let room = max_length.saturating_sub(prefix + response);
    let gone = prompt - prefix - room.min(prompt - prefix);
    ids.drain(prefix..prefix + gone);
    ids.truncate(max_length);
    ids.extend(last);
    (ids, prompt - gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_survives() {
        let ids: Vec<u32> = (0..20).collect();
        let short = |frame, prompt, max| shorten(ids.clone(), frame, prompt, max);
        let bos = (1, 0);
        assert_eq!(short(bos, 15, 10), (vec![0, 11, 12, 13, 14, 15, 16, 17, 18, 19], 5));
        assert_eq!(short(bos, 11, 10), (vec![0, 11, 12, 13, 14, 15, 16, 17, 18, 19], 1));
        // The response alone is too long: its beginning stays.
        assert_eq!(short(bos, 5, 10), (vec![0, 5, 6, 7, 8, 9, 10, 11, 12, 13], 1));
        assert_eq!(short((0, 0), 0, 3), (vec![0, 1, 2], 0));
        assert_eq!(short(bos, 1, 3), (vec![0, 1, 2], 1));
    }

    #[test]
    fn the_separator_survives_too() {
        let ids: Vec<u32> = (0..20).collect();
        let short = |prompt, max| shorten(ids.clone(), (1, 1), prompt, max);
        assert_eq!(short(15, 10), (vec![0, 11, 12, 13, 14, 15, 16, 17, 18, 19], 5));
        assert_eq!(short(17, 5), (vec![0, 16, 17, 18, 19], 2));
        assert_eq!(short(5, 10), (vec![0, 5, 6, 7, 8, 9, 10, 11, 12, 19], 1));
        assert_eq!(short(19, 4), (vec![0, 17, 18, 19], 3));
        assert_eq!(short(1, 2), (vec![0, 19], 1));
        assert_eq!(shorten(vec![0, 19], (1, 1), 1, 2), (vec![0, 19], 1));
    }
}
