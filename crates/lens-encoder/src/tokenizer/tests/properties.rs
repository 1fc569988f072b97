//! What holds for any text.

use super::decoding::cached;
use super::fixtures::{KINDS, open_gguf};
use super::*;
use proptest::prelude::*;

/// Pieces of names of special tokens, so that they come together in every way.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<",
        "|",
        ">",
        "im_",
        "end",
        "<|im_end|>",
        "<|im_",
        "end|>",
        "<|eot_id|>",
        "eot_id",
        "|>",
        "<|",
        "<s>",
        "</s>",
        "<unk>",
        "<bos>",
        "<end_of_turn>",
        "<start_of_turn>",
        "<|end|>",
        "<|begin_of_text|>",
        "[SEP]",
        "[CLS]",
        "[",
        "]",
        "SEP",
        "sep",
        "[MASK]",
        " ",
        "\n",
        "a",
        "<think>",
        "é",
        "\u{301}",
        "\u{FDD0}",
    ]);
    prop::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat())
}

fn has_special(tokenizer: &TextTokenizer, ids: &[u32]) -> bool {
    let inside = &ids[tokenizer.prefix_len()..ids.len() - tokenizer.suffix_len()];
    inside.iter().any(|id| tokenizer.is_special(*id) && tokenizer.id_of("[UNK]") != Some(*id))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_becomes_a_control_token(text in hostile(), at in 0usize..60) {
        for kind in KINDS {
            let tokenizer = cached(kind);
            let plain = tokenizer.text(&text).unwrap();
            prop_assert!(!has_special(tokenizer, &plain), "{} {:?} {:?}", kind, text, plain);
            let marker = tokenizer.marker([text.as_str()].into_iter()).unwrap();
            let shielded = tokenizer.shield(&text, marker);
            let rendered = tokenizer.rendered(&shielded, marker).unwrap();
            prop_assert_eq!(&rendered, &plain, "{} {:?}", kind, text);
            let some = tokenizer.ids_before(&shielded, Some(marker), at).unwrap();
            let more = tokenizer.ids_before(&shielded, Some(marker), at + 1).unwrap();
            prop_assert!(some <= more && more <= plain.len());
            prop_assert!(some >= tokenizer.prefix_len());
        }
    }

    #[test]
    fn any_text_has_ids(text in any::<String>(), at in 0usize..100) {
        for kind in KINDS {
            let tokenizer = cached(kind);
            let ids = tokenizer.text(&text).unwrap();
            let before = tokenizer.ids_before(&text, None, at).unwrap();
            prop_assert!(before <= tokenizer.ids_before(&text, None, at + 1).unwrap());
            prop_assert!(before + tokenizer.suffix_len() <= ids.len());
        }
    }
}

#[test]
fn the_same_holds_for_model_files() {
    for kind in KINDS {
        let tokenizer = open_gguf(kind, SpecialTokens::Text);
        for name in tokenizer.pipeline.special_names() {
            for text in [name.to_owned(), format!("{name}{name}"), format!(" {name} a {name}")] {
                let ids = tokenizer.text(&text).unwrap();
                assert!(!has_special(&tokenizer, &ids), "{kind} {text:?} {ids:?}");
            }
        }
    }
}
