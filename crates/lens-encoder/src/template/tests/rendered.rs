//! Texts that went through a template before: whatever a trainer makes of a conversation, it is the
//! tokens of the conversation.

use super::{GEMMA, LLAMA, QWEN, text, turn};
use crate::input::{Item, prepare};
use crate::template::{Template, to_messages};
use crate::tokenizer::{TextTokenizer, adds_bos_of_folder};
use lens_core::{Content, Exchange, Message};
use lens_data::encoder::{SpecialTokens, TemplateChoice};
use std::path::{Path, PathBuf};

/// Turns between words that are no special tokens; BOS before every question, EOS after answers.
const LLAMA2: &str = "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + \
    messages[0].content + '\n<</SYS>>\n\n' %}{% set messages = messages[1:] %}{% else %}\
    {% set system = '' %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}\
    {{ bos_token + '[INST] ' + (system if loop.first else '') + m.content | trim + ' [/INST]' }}\
    {% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}";

/// Nothing before the first turn, and a system turn.
const PHI: &str = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}";

/// A template that thinks for its answers, and forgets what was thought before.
const THINKING: &str = "{% for m in messages %}{% if m.role == 'assistant' and loop.last %}\
    {{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m.content + '<|im_end|>\n' }}{% else %}\
    {{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A template family: its tokenizer, what pads and what generation ends with.
struct Family {
    kind: &'static str,
    source: &'static str,
    pad: &'static str,
    end: &'static str,
}

const FAMILIES: [Family; 6] = [
    Family { kind: "qwen2", source: QWEN, pad: "<|endoftext|>", end: "<|im_end|>" },
    Family { kind: "qwen2", source: THINKING, pad: "<|endoftext|>", end: "<|im_end|>" },
    Family { kind: "gemma", source: GEMMA, pad: "<pad>", end: "<end_of_turn>" },
    Family { kind: "llama3", source: LLAMA, pad: "<|eot_id|>", end: "<|eot_id|>" },
    Family { kind: "llama2", source: LLAMA2, pad: "</s>", end: "</s>" },
    Family { kind: "phi3", source: PHI, pad: "<|endoftext|>", end: "<|end|>" },
];

/// A template with its tokenizer.
struct Reader {
    template: Template,
    tokenizer: TextTokenizer,
}

impl Reader {
    fn new(family: &Family, choice: &TemplateChoice, special: SpecialTokens) -> Self {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers"));
        let folder = folder.join(family.kind);
        let add_bos = adds_bos_of_folder(&folder).unwrap();
        let tokenizer = TextTokenizer::from_folder(&folder, 1024, add_bos, special).unwrap();
        let own = Some(family.source);
        let template = Template::resolve(choice, own, special, Path::new("m")).unwrap();
        Self { template, tokenizer }
    }

    fn chat(family: &Family) -> Self {
        Self::new(family, &TemplateChoice::Chat, SpecialTokens::Text)
    }

    /// The text that the template writes of a conversation.
    fn written(&self, exchange: &Exchange) -> String {
        let jinja = self.template.jinja.as_ref().unwrap();
        jinja.render(&to_messages(exchange).0, false, &self.tokenizer.roles).unwrap()
    }

    fn ids(&self, item: Item) -> Vec<u32> {
        prepare(item, &self.template, &self.tokenizer, usize::MAX, false).unwrap().ids
    }
}

fn conversations() -> Vec<Exchange> {
    let messages = |turns: &[(&str, &str)]| {
        Content::Messages(turns.iter().map(|(role, content)| turn(role, content)).collect())
    };
    let answer = |text: &str| messages(&[("assistant", text)]);
    let one = [("user", "How long should an egg boil?")];
    let several = [
        ("user", "Which tyre pressure?"),
        ("assistant", "Four bar."),
        ("user", "And in <winter>?"),
    ];
    let with_system = [("system", "Be brief."), ("user", "What is rust?")];
    let end = "It depends on the tyre.";
    vec![
        Exchange { prompt: messages(&one), response: answer("Seven minutes.") },
        Exchange { prompt: messages(&several), response: answer(end) },
        Exchange { prompt: messages(&with_system), response: answer("An oxide.\n\nOr a language") },
    ]
}

#[test]
fn whatever_a_trainer_decodes_is_the_conversation() {
    for family in &FAMILIES {
        let reader = Reader::chat(family);
        for conversation in conversations() {
            let wanted = reader.ids(Item::Exchange(&conversation));
            let whole = reader.written(&conversation);
            let generated = whole.trim_end();
            assert!(generated.ends_with(family.end), "{}: {whole}", family.kind);
            // An answer that was cut off by its length has no end at all.
            let cut = generated.strip_suffix(family.end).unwrap();
            let bos = reader.tokenizer.roles.get("bos").unwrap_or_default();
            let bare = |text: &str| text.strip_prefix(bos).unwrap_or(text).to_owned();
            let pads = family.pad.repeat(3);
            let texts = [
                whole.clone(),
                generated.to_owned(),
                cut.to_owned(),
                bare(&whole),
                bare(generated),
                format!("{bos}{whole}"),
                format!("{generated}{pads}"),
                format!("{whole}{pads}"),
                format!("{cut}{pads}"),
                format!("{pads}{generated}"),
                format!("{pads}{}{}", bare(&whole), family.pad),
                format!("{generated}\n"),
            ];
            for text in texts {
                let got = reader.ids(Item::Rendered(&text));
                assert_eq!(got, wanted, "{}: {text:?}", family.kind);
            }
        }
    }
}

#[test]
fn a_plain_text_loses_what_the_tokenizer_put_around_it() {
    for family in &FAMILIES {
        let reader = Reader::new(family, &TemplateChoice::Plain, SpecialTokens::Text);
        let question = text("\n\nHuman: How long should an egg boil?\n\nAssistant:", " Seven min.");
        let wanted = reader.ids(Item::Exchange(&question));
        let whole = super::plain(&question).0;
        let bos = reader.tokenizer.roles.get("bos").unwrap_or_default();
        let eos = reader.tokenizer.roles.get("eos").unwrap();
        let pad = family.pad;
        for text in [
            whole.clone(),
            format!("{bos}{whole}{eos}"),
            format!("{whole}{eos}{pad}{pad}"),
            format!("{pad}{pad}{bos}{whole}{eos}\n"),
        ] {
            let got = reader.ids(Item::Rendered(&text));
            assert_eq!(got, wanted, "{}: {text:?}", family.kind);
        }
    }
}

#[test]
fn parsed_texts_are_the_conversation_however_they_were_cut() {
    for family in &FAMILIES {
        let chat = Reader::chat(family);
        let parsed = Reader::new(family, &TemplateChoice::Plain, SpecialTokens::Parse);
        for conversation in conversations() {
            let wanted = chat.ids(Item::Exchange(&conversation));
            let whole = chat.written(&conversation);
            let Content::Messages(turns) = &conversation.response else { panic!("messages") };
            let at = whole.rfind(&turns[0].content).unwrap();
            let (prompt, response) = whole.split_at(at);
            for response in [response, response.trim_end()] {
                let exchange = text(prompt, response);
                assert_eq!(parsed.ids(Item::Exchange(&exchange)), wanted, "{}", family.kind);
                let (template, tokenizer) = (&parsed.template, &parsed.tokenizer);
                let rendered = template.render(&exchange, tokenizer).unwrap();
                let start = template.response_start(&exchange, &rendered, tokenizer).unwrap();
                assert!(rendered.text[start..].starts_with(&turns[0].content), "{}", family.kind);
                assert!(!parsed.template.is_wrapped_twice(&exchange, &parsed.tokenizer));
            }
        }
    }
}

#[test]
fn texts_that_would_be_wrapped_twice_are_told_by_how_they_begin() {
    for family in &FAMILIES {
        let reader = Reader::chat(family);
        let twice =
            |exchange: &Exchange| reader.template.is_wrapped_twice(exchange, &reader.tokenizer);
        let whole = reader.written(&conversations()[0]);
        let at = whole.rfind("Seven").unwrap();
        let (prompt, response) = whole.split_at(at);
        let message = |content: &str| Message { role: "user".into(), content: content.into() };
        let of_message = Exchange {
            prompt: Content::Messages(vec![message(prompt)]),
            response: Content::Text("Seven minutes.".into()),
        };
        let bos = reader.tokenizer.roles.get("bos").unwrap_or_default();
        let bare = prompt.strip_prefix(bos).unwrap_or(prompt);
        assert!(twice(&text(prompt, response)), "{}", family.kind);
        assert!(twice(&text("", &whole)), "{}", family.kind);
        assert!(twice(&of_message), "{}", family.kind);
        // Where turns are marked by no special token, BOS or EOS has to be there.
        assert_eq!(twice(&text(bare, response)), family.kind != "llama2", "{}", family.kind);
        // Quoting one is not going through a template.
        for quote in [
            format!("Why does it end in {}?", family.end),
            format!("{} is which token?", family.end),
            format!("Explain this prompt: {prompt}"),
            format!("{bos}strikes text out in HTML"),
        ] {
            assert!(!twice(&text(&quote, "It ends a turn.")), "{}: {quote:?}", family.kind);
        }
        assert!(!twice(&text("Hello", &format!("Hi{}", family.end))), "{}", family.kind);
        for conversation in conversations() {
            assert!(!twice(&conversation));
        }
        // Whichever template is asked for, unless special tokens are parsed and nothing wraps.
        let (plain, chat) = (TemplateChoice::Plain, TemplateChoice::Chat);
        for (choice, special, refused) in [
            (&plain, SpecialTokens::Text, true),
            (&chat, SpecialTokens::Parse, true),
            (&plain, SpecialTokens::Parse, false),
        ] {
            let reader = Reader::new(family, choice, special);
            let exchange = text(prompt, response);
            let found = reader.template.is_wrapped_twice(&exchange, &reader.tokenizer);
            assert_eq!(found, refused, "{}: {choice:?} {special}", family.kind);
        }
    }
}

#[test]
fn what_did_not_go_through_the_template_stays_as_it_is_but_for_padding() {
    for family in &FAMILIES {
        let reader = Reader::chat(family);
        for text in ["", "Hello", " Hello \n", "What does </x> end?", "\n\nHuman: a"] {
            assert_eq!(reader.template.canonical(text, &reader.tokenizer), text);
        }
    }
    let reader = Reader::chat(&FAMILIES[2]);
    let padded = reader.template.canonical("<pad><pad>Hello<pad>", &reader.tokenizer);
    assert_eq!(padded, "Hello");
    // A template that shows nothing of what it writes: only padding is known.
    let silent = Family { source: "{{ messages | length }}", ..FAMILIES[2] };
    let reader = Reader::chat(&silent);
    assert_eq!(reader.template.canonical("<pad>2<eos>", &reader.tokenizer), "2<eos>");
    assert!(!reader.template.is_spelt_out("<bos><start_of_turn>user\n", &reader.tokenizer));
}

#[test]
fn a_model_without_a_template_knows_what_other_models_of_its_family_wrote() {
    for family in &FAMILIES {
        let whole = Reader::chat(family).written(&conversations()[0]);
        let base = Reader { template: plain_without_own(), ..Reader::chat(family) };
        let twice = |text: &str| base.template.is_spelt_out(text, &base.tokenizer);
        // Where turns are marked by no special token, nothing tells the text from another.
        assert_eq!(twice(&whole), family.kind != "llama2", "{}", family.kind);
        assert!(!twice(&format!("Why does it end in {}?", family.end)));
        // Another family's tokens are letters like any others here.
        let other =
            if family.kind == "gemma" { "<|im_start|>user\n" } else { "<start_of_turn>user\n" };
        assert!(!twice(other), "{}", family.kind);
    }
}

fn plain_without_own() -> Template {
    let (choice, special) = (TemplateChoice::Plain, SpecialTokens::Text);
    Template::resolve(&choice, None, special, Path::new("m")).unwrap()
}
