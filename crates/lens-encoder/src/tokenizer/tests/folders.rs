//! What the other files of a folder say.

use super::fixtures::{ROWS, folder};
use super::*;
use std::path::Path;
use tempfile::TempDir;

fn with(config: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(folder("llama3").join("tokenizer.json"), dir.path().join("tokenizer.json"))
        .unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn chat_templates_are_found_wherever_they_are() {
    let template = |config: &str| chat_template_of_folder(with(config).path());
    assert_eq!(template("{}").unwrap(), None);
    assert_eq!(template(r#"{"chat_template": null}"#).unwrap(), None);
    assert_eq!(template(r#"{"chat_template": "x"}"#).unwrap().as_deref(), Some("x"));
    let list = r#"{"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    assert_eq!(template(list).unwrap().as_deref(), Some("d"));
    let none = r#"{"chat_template": [{"name": "tool", "template": "t"}]}"#;
    assert!(template(none).unwrap_err().to_string().contains("(tool) none is 'default'"));
    assert!(template(r#"{"chat_template": 3}"#).is_err());
    let dir = with(r#"{"chat_template": "x"}"#);
    write(dir.path(), "chat_template.jinja", "own file");
    assert_eq!(chat_template_of_folder(dir.path()).unwrap().as_deref(), Some("own file"));
}

#[test]
fn bos_goes_by_the_configuration_then_by_the_tokenizer() {
    let adds = |config: &str| adds_bos_of_folder(with(config).path());
    assert!(adds("{}").unwrap());
    assert!(!adds(r#"{"add_bos_token": false}"#).unwrap());
    assert!(adds(r#"{"add_bos_token": null}"#).unwrap());
    assert!(adds(r#"{"add_bos_token": "yes"}"#).is_err());
    assert!(adds_bos_of_folder(&folder("bert")).unwrap());
    assert!(!adds_bos_of_folder(&folder("phi3")).unwrap());
    let dir = with(r#"{"bos_token": {"content": "<|begin_of_text|>"}}"#);
    let open = |add| TextTokenizer::from_folder(dir.path(), ROWS, add, SpecialTokens::Text);
    let (on, off) = (open(true).unwrap(), open(false).unwrap());
    assert_eq!((on.prefix_len(), off.prefix_len()), (1, 0));
    assert_eq!(on.text("Hi").unwrap()[1..], off.text("Hi").unwrap());
    // BERT's frame is not a matter of choice.
    let bert = TextTokenizer::from_folder(&folder("bert"), ROWS, false, SpecialTokens::Text);
    let bert = bert.unwrap();
    assert_eq!((bert.prefix_len(), bert.suffix_len()), (1, 1));
}

#[test]
fn names_come_from_the_special_tokens_map_too() {
    let dir = with("{}");
    write(dir.path(), "special_tokens_map.json", r#"{"eos_token": {"content": "<|eot_id|>"}}"#);
    let open = || TextTokenizer::from_folder(dir.path(), ROWS, true, SpecialTokens::Text);
    let tokenizer = open().unwrap();
    assert_eq!(tokenizer.roles.get("eos"), Some("<|eot_id|>"));
    write(dir.path(), "generation_config.json", r#"{"eos_token_id": [1, 2]}"#);
    assert_eq!(open().unwrap().end_ids()[..2], [1, 2]);
    write(dir.path(), "generation_config.json", r#"{"eos_token_id": 7}"#);
    assert_eq!(open().unwrap().end_ids()[0], 7);
    write(dir.path(), "generation_config.json", r#"{"eos_token_id": "x"}"#);
    assert!(open().is_err());
}
