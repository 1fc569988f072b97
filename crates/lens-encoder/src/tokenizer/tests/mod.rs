#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decoding;
mod errors;
mod fixtures;
mod folders;
mod hostile;
mod properties;
mod reference;

use super::*;
use fixtures::{KINDS, folder, open, open_gguf};

#[test]
fn special_tokens_are_named() {
    for choice in [SpecialTokens::Text, SpecialTokens::Parse] {
        assert_eq!(choice.to_string().parse::<SpecialTokens>().unwrap(), choice);
        assert_eq!(serde_json::to_value(choice).unwrap(), choice.to_string());
    }
    let error = "txet".parse::<SpecialTokens>().unwrap_err().to_string();
    assert!(error.contains("expected 'text' or 'parse', found 'txet'"), "{error}");
}

#[test]
fn what_a_template_writes_is_parsed_and_what_a_user_typed_is_not() {
    for (kind, end) in [
        ("llama3", "<|eot_id|>"),
        ("qwen2", "<|im_end|>"),
        ("llama2", "</s>"),
        ("gemma", "<end_of_turn>"),
        ("phi3", "<|end|>"),
        ("bert", "[SEP]"),
    ] {
        let tokenizer = open(kind, SpecialTokens::Text);
        let id = tokenizer.id_of(end).unwrap();
        let typed = format!("a{end}b{end}");
        let marker = tokenizer.marker([typed.as_str()].into_iter()).unwrap();
        let shielded = tokenizer.shield(&typed, marker);
        let text = format!("{shielded}{end}x{shielded}");
        let ids = tokenizer.rendered(&text, marker).unwrap();
        let inside = &ids[tokenizer.prefix_len()..ids.len() - tokenizer.suffix_len()];
        assert_eq!(inside.iter().filter(|i| **i == id).count(), 1, "{kind}: {ids:?}");
        // The marker leaves no trace: the letters are those of the text without it.
        let plain = tokenizer.text(&typed).unwrap();
        let plain = &plain[tokenizer.prefix_len()..plain.len() - tokenizer.suffix_len()];
        assert!(inside.starts_with(plain), "{kind}");
        let at = text.find(end).unwrap();
        let before = tokenizer.ids_before(&text, Some(marker), at).unwrap();
        assert_eq!(before, tokenizer.prefix_len() + plain.len(), "{kind}");
    }
}

#[test]
fn where_specials_are_parsed_nothing_is_shielded_and_bos_not_doubled() {
    let tokenizer = open("llama3", SpecialTokens::Parse);
    let text = "<|begin_of_text|>Hi<|eot_id|>";
    assert_eq!(tokenizer.shield(text, '\u{FDD0}'), text);
    let ids = tokenizer.text(text).unwrap();
    let (bos, end) =
        (tokenizer.id_of("<|begin_of_text|>").unwrap(), tokenizer.id_of("<|eot_id|>").unwrap());
    assert_eq!((ids[0], *ids.last().unwrap()), (bos, end));
    assert_eq!(ids.iter().filter(|id| **id == bos).count(), 1);
    assert_eq!(tokenizer.text("Hi<|eot_id|>").unwrap(), ids);
    assert_eq!(tokenizer.ids_before(text, None, text.len()).unwrap(), ids.len());
}

#[test]
fn names_that_overlap_stay_text() {
    let tokenizer = open("qwen2", SpecialTokens::Text);
    let end = tokenizer.id_of("<|im_end|>").unwrap();
    let typed = "<|im_<|im_end|>end|>";
    let shielded = tokenizer.shield(typed, '\u{FDD0}').into_owned();
    assert!(!shielded.contains("<|im_end|>"));
    assert_eq!(shielded.replace('\u{FDD0}', ""), typed);
    assert!(!tokenizer.rendered(&shielded, '\u{FDD0}').unwrap().contains(&end));
    assert_eq!(tokenizer.rendered(&shielded, '\u{FDD0}').unwrap(), tokenizer.text(typed).unwrap());
}

#[test]
fn positions_count_the_markers_out() {
    let tokenizer = open_gguf("bert", SpecialTokens::Text);
    let text = "a[\u{FDD0}SEP] b[SEP]c";
    let all = tokenizer.rendered(text, '\u{FDD0}').unwrap();
    let counts: Vec<usize> = (0..=text.len() + 3)
        .map(|at| tokenizer.ids_before(text, Some('\u{FDD0}'), at).unwrap())
        .collect();
    assert_eq!(counts[0], 1);
    assert_eq!(*counts.last().unwrap(), all.len() - tokenizer.suffix_len());
    assert!(counts.is_sorted());
}

#[test]
fn every_kind_opens_from_both_forms() {
    for kind in KINDS {
        let (a, b) = (open(kind, SpecialTokens::Text), open_gguf(kind, SpecialTokens::Text));
        assert_eq!((a.prefix_len(), a.suffix_len()), (b.prefix_len(), b.suffix_len()), "{kind}");
        assert_eq!(a.end_ids(), b.end_ids(), "{kind}");
        assert!(folder(kind).is_dir());
    }
}
