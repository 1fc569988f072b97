//! From an exchange to token ids no longer than the model takes.

use lens_core::Exchange;

use crate::error::Result;
use crate::template::Template;
use crate::tokenizer::TextTokenizer;

/// What a caller wants a vector of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    /// A prompt with a response, to go through the template.
    Exchange(&'a Exchange),
    /// Text as it is.
    Text(&'a str),
}

/// Token ids, ready to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub ids: Vec<u32>,
    pub truncated: bool,
}

/// Renders and tokenises.
pub(crate) fn prepare(
    item: Item,
    template: &Template,
    tokenizer: &TextTokenizer,
    max_length: usize,
) -> Result<Prepared> {
    let (text, marker) = match item {
        Item::Text(text) => (std::borrow::Cow::Borrowed(text), None),
        Item::Exchange(exchange) => {
            let rendered = template.render(exchange, tokenizer)?;
            (std::borrow::Cow::Owned(rendered.text), rendered.marker)
        }
    };
    let ids = match marker {
        None => tokenizer.text(&text)?,
        Some(marker) => tokenizer.rendered(&text, marker)?,
    };
    if ids.len() <= max_length {
        return Ok(Prepared { ids, truncated: false });
    }
    let frame = (tokenizer.prefix_len(), tokenizer.suffix_len());
    let prompt = match item {
        Item::Text(_) => frame.0,
        Item::Exchange(exchange) => {
            let rendered = crate::template::Rendered { text: text.into_owned(), marker };
            let at = template.response_start(exchange, &rendered, tokenizer)?;
            let last = ids.len() - frame.1;
            tokenizer.ids_before(&rendered.text, marker, at)?.clamp(frame.0, last)
        }
    };
    Ok(Prepared { ids: shorten(ids, frame, prompt, max_length), truncated: true })
}

/// Keeps what stands around the text (the first and the last ids, `frame` of them: BOS, `[SEP]`),
/// the end of the prompt and the whole response; of a response that does not fit, its beginning.
/// The first `prompt` ids are BOS and prompt.
fn shorten(
    mut ids: Vec<u32>,
    (prefix, suffix): (usize, usize),
    prompt: usize,
    max_length: usize,
) -> Vec<u32> {
    let last = ids.split_off(ids.len() - suffix);
    let max_length = max_length.saturating_sub(suffix);
    let response = ids.len() - prompt;
    let room = max_length.saturating_sub(prefix + response);
    ids.drain(prefix..prompt - room.min(prompt - prefix));
    ids.truncate(max_length);
    ids.extend(last);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_survives() {
        let ids: Vec<u32> = (0..20).collect();
        let bos = (1, 0);
        assert_eq!(shorten(ids.clone(), bos, 15, 10), [0, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!(shorten(ids.clone(), bos, 11, 10), [0, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        // The response alone is too long: its beginning stays.
        assert_eq!(shorten(ids.clone(), bos, 5, 10), [0, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(shorten(ids.clone(), (0, 0), 0, 3), [0, 1, 2]);
        assert_eq!(shorten(ids, bos, 1, 3), [0, 1, 2]);
    }

    #[test]
    fn the_separator_survives_too() {
        let ids: Vec<u32> = (0..20).collect();
        let both = (1, 1);
        assert_eq!(shorten(ids.clone(), both, 15, 10), [0, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!(shorten(ids.clone(), both, 17, 5), [0, 16, 17, 18, 19]);
        assert_eq!(shorten(ids.clone(), both, 5, 10), [0, 5, 6, 7, 8, 9, 10, 11, 12, 19]);
        assert_eq!(shorten(ids.clone(), both, 19, 4), [0, 17, 18, 19]);
        assert_eq!(shorten(ids.clone(), both, 1, 2), [0, 19]);
        assert_eq!(shorten(vec![0, 19], both, 1, 2), [0, 19]);
    }
}
