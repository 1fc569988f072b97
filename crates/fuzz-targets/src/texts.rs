//! Texts: templates, conversations in one text, and words of the command line.

use crate::scratch::files;
use lens_core::{Content, Exchange, Message};
use lens_data::table::TableFormat;
use lens_data::turns::turns;
use lens_data::{ColumnNames, transcript};
use lens_encoder::models::{DatasetName, public_name};
use lens_encoder::testing::{Templates, TinyModel};
use lens_encoder::{LayerChoice, Pooling, Precision, RemoteOptions, SpecialTokens, ViewChoice};
use lens_server::BearerTokens;
use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

/// Templates are rendered with the special tokens of this model.
static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let model = folder.path().join("tiny.gguf");
    TinyModel { layers: 1, ..TinyModel::default() }.write(&model).expect("a model can be written");
    Templates::open(&model).expect("a tiny model has a tokenizer")
});

/// A template that is in use, for texts that went through one.
const CHATML: &str = "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content | trim \
     + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}<start_of_turn>assistant\n\
     {% endif %}";

/// A chat template, which renders a conversation, and reads a text that it may have written.
pub fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let message =
        |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let exchange = Exchange {
        prompt: Content::Messages(vec![
            message("system", "Be <bos> brief."),
            message("user", "Grüße\n{{ 7 * 7 }}"),
        ]),
        response: Content::Text("  Well\u{301}<end_of_turn>".into()),
    };
    if TEMPLATES.response(source, &exchange).is_ok() {
        let _ = TEMPLATES.canonical(source, "Grüße\n<bos>Well");
    }
}

/// A text that may have gone through a template.
pub fn rendered(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    TEMPLATES.canonical(CHATML, text).expect("the template is a valid one");
    let half = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    let content = |text: &str| Content::Text(text.to_owned());
    let exchange = Exchange { prompt: content(&text[..half]), response: content(&text[half..]) };
    let _ = TEMPLATES.response(CHATML, &exchange);
}

/// A conversation in one text.
pub fn transcript(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (before, after) = transcript::until_turn(text);
    assert_eq!(format!("{before}{after}"), text);
    let parsed = transcript::parse(text);
    assert_eq!(parsed.is_some(), transcript::begins(text));
    let messages = parsed.unwrap_or_default();
    transcript::write(&messages);
    let response = Content::Text(text.to_owned());
    for prompt in [Content::Messages(messages), Content::Text(text.to_owned())] {
        let (all, of_prompt) = turns(&Exchange { prompt, response: response.clone() });
        assert!(of_prompt <= all.len());
    }
}

/// Words of the command line, of settings and of environment variables, one a file: `=== view`.
pub fn words(bytes: &[u8]) {
    for (kind, text) in files(bytes) {
        let Ok(text) = std::str::from_utf8(text) else { continue };
        match kind {
            "columns" => comes_back::<ColumnNames>(text),
            "pooling" => comes_back::<Pooling>(text),
            "layer" => drop(text.parse::<LayerChoice>()),
            "view" => comes_back::<ViewChoice>(text),
            "special" => comes_back::<SpecialTokens>(text),
            "weights" => comes_back::<Precision>(text),
            "dataset" => drop(DatasetName::parse(text)),
            "table" => drop(TableFormat::of_name(Path::new(text))),
            "tokens" => drop(BearerTokens::default().add("--token", text)),
            "server" => {
                let _ = (RemoteOptions::new(text).check(), public_name(text));
            }
            _ => {}
        }
    }
}

/// What was read of a text is read of what is written of it.
fn comes_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse().ok(), Some(value), "{text:?}");
    }
}
