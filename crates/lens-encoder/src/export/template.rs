//! The chat template of an exported model: it writes whole texts, the tokens around them included, for
//! trainers add none to what a template wrote.

use crate::encoder::{Encoder, own_template};
use crate::error::{EncoderError, Result};
use crate::tokenizer::TextTokenizer;
use lens_core::{Content, Exchange};
use lens_data::encoder::TemplateChoice;

/// What the plain template makes of messages: `"\n\nHuman: ..\n\nAssistant: .."`.
const PLAIN: &str = r#"{%- for message in messages -%}
{%- set role = message['role'] -%}
{%- if role == 'system' and loop.first -%}
{{- message['content'] -}}
{%- else -%}
{{- '\n\n' + ('Human' if role == 'user' else role[:1] | upper + role[1:]) + ': ' + message['content'] -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '\n\nAssistant:' -}}
{%- endif -%}"#;

/// The template of the encoder, with BOS before a text and `suffix` behind it. `None` for a model that
/// is no decoder: such tokenizers put their tokens around a text themselves.
pub(super) fn exported(
    encoder: &Encoder,
    tokenizer: &TextTokenizer,
    suffix: Option<&str>,
) -> Result<Option<String>> {
    if !encoder.spec().causal {
        return Ok(None);
    }
    let source = match (encoder.identity().template.as_str(), &encoder.template()) {
        ("plain", _) => PLAIN.to_owned(),
        (_, TemplateChoice::Custom(source)) => source.clone(),
        _ => own_template(encoder.files())?.unwrap_or_default(),
    };
    // Of Jinja in transformers: the last line break of a template is none.
    let mut text = source.strip_suffix('\n').unwrap_or(&source).to_owned();
    let hello =
        Exchange { prompt: Content::Text("Hello".into()), response: Content::Text("Hello".into()) };
    let rendered = encoder.rendered(&hello)?;
    let missing = |token: Option<String>, there: &dyn Fn(&str) -> bool| {
        token.filter(|token| !token.is_empty() && !there(token))
    };
    let before = missing(tokenizer.prefix_text(), &|token| rendered.starts_with(token));
    let after = missing(tokenizer.suffix_text(), &|token| rendered.ends_with(token));
    if let Some(before) = before {
        // Some tokenizers put a space before a text, and none before what stands behind a token.
        let ids = encoder.exchange_ids(&hello)?;
        let marker = tokenizer.marker(std::iter::once(rendered.as_str()))?;
        let end = after.as_deref().unwrap_or_default();
        let spaced = format!("{before} ");
        let before = match tokenizer.rendered(&format!("{spaced}{rendered}{end}"), marker)? == ids {
            true if tokenizer.rendered(&format!("{before}{rendered}{end}"), marker)? != ids => {
                spaced
            }
            _ => before,
        };
        text = format!("{{{{ {} }}}}{text}", literal(&before));
    }
    let suffix = suffix.map(|suffix| suffix_text(encoder, suffix)).transpose()?;
    for part in after.iter().chain(&suffix) {
        text.push_str(&format!("{{{{ {} }}}}", literal(part)));
    }
    Ok(Some(text))
}

fn hello() -> Exchange {
    let content = || Content::Text("Hello".into());
    Exchange { prompt: content(), response: content() }
}

/// A suffix as it has to stand in a text, so that the text becomes the tokens that it has with the suffix
/// behind it: some tokenizers put a space before a text, as the suffix is one.
pub(super) fn suffix_text(encoder: &Encoder, suffix: &str) -> Result<String> {
    let tokenizer = encoder.tokenizer()?;
    let text = unframed(encoder, &hello())?;
    let marker = tokenizer.marker(std::iter::once(text.as_str()))?;
    let ids = encoder.exchange_ids_with(&hello(), Some(suffix))?;
    let spaced = format!(" {suffix}");
    let fits = |suffix: &str| {
        Ok::<_, EncoderError>(tokenizer.rendered(&format!("{text}{suffix}"), marker)? == ids)
    };
    match fits(suffix)? || !fits(&spaced)? {
        true => Ok(suffix.to_owned()),
        false => Ok(spaced),
    }
}

/// A text in Jinja's quotes.
fn literal(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// An exchange as text, without the tokens that the tokenizer adds to every text by itself.
pub(super) fn unframed(encoder: &Encoder, exchange: &Exchange) -> Result<String> {
    let tokenizer = encoder.tokenizer()?;
    let rendered = encoder.rendered(exchange)?;
    let before = tokenizer.prefix_text().unwrap_or_default();
    let after = tokenizer.suffix_text().unwrap_or_default();
    let text = rendered.strip_prefix(before.as_str()).unwrap_or(&rendered);
    Ok(text.strip_suffix(after.as_str()).filter(|_| !after.is_empty()).unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_line_breaks_survive() {
        assert_eq!(literal("it's\n\\ \"so\""), "'it\\'s\\n\\\\ \"so\"'");
    }
}
