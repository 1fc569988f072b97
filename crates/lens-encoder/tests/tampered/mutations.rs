//! Thousands of variants of every reference model, each of which must be computed or refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lens_core::Quiet;
use lens_encoder::{Encoder, EncoderOptions, Precision};
use serde_json::{Value, json};

use crate::{copy, ids, memory, reference, references, text, write};

/// More than the tests (all that run at a time) may ever have allocated: the models have 100 kB.
const MEMORY: usize = 256 << 20;

/// A generator whose numbers are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// What became of the variants.
#[derive(Default)]
struct Tally {
    computed: usize,
    refused: usize,
    panicked: Vec<String>,
}

impl Tally {
    /// Computes a model's ids, and texts with every fourth variant (a tokenizer takes long).
    fn attempt(&mut self, path: &Path, what: &str) {
        let n = self.computed + self.refused;
        let weights = if n.is_multiple_of(2) { Precision::F32 } else { Precision::Stored };
        self.one(what, || ids(path, weights).map(drop));
        if n.is_multiple_of(4) {
            self.one(what, || text(path).map(drop));
        }
    }

    fn one(&mut self, what: &str, run: impl FnOnce() -> lens_encoder::Result<()>) {
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => self.computed += 1,
            Ok(Err(error)) => {
                self.refused += 1;
                assert!(!error.to_string().is_empty(), "{what}");
            }
            Err(_) => self.panicked.push(what.to_owned()),
        }
        let peak = memory::peak();
        assert!(peak < MEMORY, "{what}: {} MB were allocated", peak >> 20);
    }

    fn finish(self, what: &str, at_least: usize) {
        assert!(self.panicked.is_empty(), "these variants panic: {:#?}", self.panicked);
        let Self { computed, refused, .. } = self;
        println!("{what}: {computed} computed, {refused} refused; {} MB", memory::peak() >> 20);
        assert!(computed > 0 && refused > at_least, "{computed} computed, {refused} refused");
    }
}

/// Variants of one file of a model: shorter, with bits flipped, with absurd numbers.
fn tamper(model: &Path, file: &Path, header: usize, rounds: usize, seed: u64, tally: &mut Tally) {
    let whole = std::fs::read(file).unwrap();
    let name = format!("{} of seed {seed}", file.file_name().unwrap().to_string_lossy());
    let mut random = Random(seed);
    let header = header.min(whole.len());
    let mut attempt = |bytes: &[u8], what: String| {
        std::fs::write(file, bytes).unwrap();
        tally.attempt(model, &format!("{name}, {what}"));
    };
    for i in 0..rounds / 4 {
        let len = match i {
            0..9 => i,
            _ if i % 2 == 0 => random.below(header),
            _ => random.below(whole.len()),
        };
        attempt(&whole[..len], format!("cut at {len}"));
    }
    let mut changed = whole.clone();
    for i in 0..rounds {
        // Dense at the front, where counts and lengths are, then all over header and data.
        let at = match i % 8 {
            0 => i / 8 % whole.len(),
            7 => random.below(whole.len()),
            _ => random.below(header),
        };
        changed[at] ^= if i % 3 == 0 { 1 << random.below(8) } else { random.next() as u8 | 1 };
        attempt(&changed, format!("byte {at} changed to {}", changed[at]));
        changed[at] = whole[at];
    }
    const ABSURD: [u64; 6] = [u64::MAX, 1 << 31, 1 << 62, 1 << 63, 0, u32::MAX as u64];
    for i in 0..rounds {
        let at = if i < rounds / 4 { i } else { random.below(header) };
        let value = ABSURD[random.below(ABSURD.len())].to_le_bytes();
        let width = if i % 2 == 0 { 8 } else { 4 }.min(whole.len() - at);
        changed[at..at + width].copy_from_slice(&value[..width]);
        attempt(&changed, format!("{value:?} at byte {at}"));
        changed[at..at + width].copy_from_slice(&whole[at..at + width]);
    }
    std::fs::write(file, whole).unwrap();
}

/// Bytes of a safetensors file before the data.
fn header_of(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap();
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8
}

#[test]
fn a_tampered_gguf_file_is_computed_or_refused() {
    let mut tally = Tally::default();
    let dir = tempfile::tempdir().unwrap();
    for (seed, folder) in references().iter().enumerate() {
        let (original, path) = (folder.join("model.gguf"), dir.path().join("model.gguf"));
        if original.exists() {
            std::fs::copy(&original, &path).unwrap();
            tamper(&path, &path, 6000, 120, seed as u64, &mut tally);
        }
    }
    tally.finish("GGUF", 1000);
}

/// Every number in a GGUF header that decides a size, replaced where it stands.
#[test]
fn an_absurd_entry_of_a_gguf_file_is_computed_or_refused() {
    let mut tally = Tally::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    const KEYS: [&str; 16] = [
        ".block_count",
        ".context_length",
        ".embedding_length",
        ".feed_forward_length",
        ".attention.head_count",
        ".attention.head_count_kv",
        ".attention.key_length",
        ".attention.sliding_window",
        ".rope.dimension_count",
        ".rope.freq_base",
        ".attention.layer_norm_rms_epsilon",
        ".attn_logit_softcapping",
        "general.alignment",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores",
    ];
    for folder in references() {
        let Ok(whole) = std::fs::read(folder.join("model.gguf")) else { continue };
        for key in KEYS {
            let found = whole.windows(key.len()).position(|w| w == key.as_bytes());
            let Some(at) = found.map(|at| at + key.len() + 4) else { continue };
            for value in [0u32, 1, 2, 3, 1 << 20, 1 << 30, i32::MAX as u32, u32::MAX, 0x7F80_0000] {
                let mut changed = whole.clone();
                changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
                std::fs::write(&path, changed).unwrap();
                tally.attempt(&path, &format!("{} {key} = {value}", folder.display()));
            }
        }
    }
    tally.finish("entries of GGUF", 100);
}

#[test]
fn tampered_safetensors_are_computed_or_refused() {
    let mut tally = Tally::default();
    for (seed, folder) in references().iter().enumerate() {
        let dir = copy(folder);
        for name in ["model.safetensors", "model-00002-of-00002.safetensors"] {
            let file = dir.path().join(name);
            if file.exists() {
                tamper(dir.path(), &file, header_of(&file), 100, seed as u64, &mut tally);
            }
        }
    }
    tally.finish("safetensors", 1000);
}

#[test]
fn tampered_text_files_are_computed_or_refused() {
    let mut tally = Tally::default();
    for (seed, folder) in references().iter().enumerate() {
        let dir = copy(folder);
        let names = [
            ("config.json", 60),
            ("model.safetensors.index.json", 60),
            ("tokenizer.json", 30),
            ("tokenizer_config.json", 30),
        ];
        for (name, rounds) in names {
            let file = dir.path().join(name);
            if file.exists() {
                tamper(dir.path(), &file, usize::MAX, rounds, seed as u64, &mut tally);
            }
        }
    }
    tally.finish("JSON", 500);
}

/// Every variant of a JSON value in which one entry, however deep, is another or gone.
fn variants(value: &Value, put: &mut dyn FnMut(Value, String)) {
    let others = || {
        let huge =
            [json!(1u64 << 31), json!(1u64 << 63), json!(1e308), json!(i32::MAX), json!(1 << 20)];
        let small = [json!(0), json!(1), json!(-1), json!(3), json!(0.3), json!(-1e-300)];
        let kinds = [json!("x"), Value::Null, json!([1]), json!({}), json!(true), json!(false)];
        huge.into_iter().chain(small).chain(kinds)
    };
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let with = |new: Option<Value>| {
                    let mut map = map.clone();
                    match new {
                        Some(new) => map.insert(key.clone(), new),
                        None => map.remove(key),
                    };
                    Value::Object(map)
                };
                put(with(None), format!("without {key}"));
                others().for_each(|v| put(with(Some(v.clone())), format!("{key} = {v}")));
                variants(inner, &mut |v, what| put(with(Some(v)), format!("{key}: {what}")));
            }
        }
        Value::Array(list) => {
            for (i, inner) in list.iter().enumerate().take(2) {
                let with = |new: Value| {
                    let mut list = list.clone();
                    list[i] = new;
                    Value::Array(list)
                };
                others().for_each(|v| put(with(v.clone()), format!("[{i}] = {v}")));
                variants(inner, &mut |v, what| put(with(v), format!("[{i}]: {what}")));
            }
            put(Value::Array(list.iter().skip(1).cloned().collect()), "one shorter".into());
            put(Value::Array(list.iter().chain(list).cloned().collect()), "twice".into());
        }
        _ => {}
    }
}

#[test]
fn a_configuration_with_any_entry_replaced_is_computed_or_refused() {
    let mut tally = Tally::default();
    for folder in references() {
        let dir = copy(&folder);
        let config = dir.path().join("config.json");
        variants(&crate::json(&config), &mut |changed, what| {
            write(&config, &changed);
            tally.attempt(dir.path(), &format!("{}: {what}", folder.display()));
        });
    }
    tally.finish("configurations", 1000);
}

#[test]
fn an_index_with_any_entry_replaced_is_computed_or_refused() {
    let mut tally = Tally::default();
    let dir = copy(&reference("qwen2"));
    let index = dir.path().join("model.safetensors.index.json");
    variants(&crate::json(&index), &mut |changed, what| {
        write(&index, &changed);
        tally.attempt(dir.path(), &what);
    });
    tally.finish("indices", 100);
}

/// Everything in `tokenizer.json` but the vocabulary, whose entries are alike.
#[test]
fn a_tokenizer_with_any_entry_replaced_is_used_or_refused() {
    let mut tally = Tally::default();
    for name in ["bert", "gemma3", "llama2", "llama3", "qwen2"] {
        let dir = copy(&reference(name));
        let path = dir.path().join("tokenizer.json");
        let mut rest = crate::json(&path);
        let big: Vec<(&str, Value)> =
            ["vocab", "merges"].map(|key| (key, rest["model"][key].take())).into_iter().collect();
        let mut n = 0;
        variants(&rest, &mut |mut changed, what| {
            n += 1;
            // Each takes as long as the vocabulary: a seventh of them, in every round of kinds.
            if n % 7 != 0 {
                return;
            }
            for (key, value) in &big {
                if let Some(model) = changed.get_mut("model").and_then(Value::as_object_mut)
                    && model.get(*key).is_some_and(Value::is_null)
                {
                    model.insert((*key).to_owned(), value.clone());
                }
            }
            write(&path, &changed);
            tally.one(&format!("{name}: {what}"), || text(dir.path()).map(drop));
        });
    }
    tally.finish("tokenizers", 500);
}

/// Expressions that take for ever, templates nested beyond reason.
#[test]
fn a_tokenizer_or_template_that_takes_for_ever_is_refused() {
    let mut tally = Tally::default();
    let dir = copy(&reference("llama3"));
    let path = dir.path().join("tokenizer.json");
    let whole = crate::json(&path);
    for pattern in ["(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$", "(?=(x*)*y)", "(", "\\p{Nope}", ""] {
        let mut slow = whole.clone();
        slow["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": pattern},
            "behavior": "Isolated", "invert": false});
        write(&path, &slow);
        tally.one(pattern, || {
            let encoder = Encoder::open(dir.path(), &EncoderOptions::default())?;
            encoder.encode_texts(&["x".repeat(3000)], &Quiet).map(drop)
        });
    }
    write(&path, &whole);
    let config = dir.path().join("tokenizer_config.json");
    let sane = crate::json(&config);
    for (before, after) in [("{{ ", " }}"), ("{% if x %}", "{% endif %}"), ("{{ [", "] }}")] {
        for inner in ["(", "[", "not ", "-", "{% if x %}", "{{ x ~ "] {
            let mut nested = sane.clone();
            nested["chat_template"] = json!(format!("{before}{}{after}", inner.repeat(20_000)));
            write(&config, &nested);
            tally.one(inner, || text(dir.path()).map(drop));
        }
    }
    println!("slow: {} computed, {} refused", tally.computed, tally.refused);
    assert!(tally.panicked.is_empty(), "these panic: {:?}", tally.panicked);
}
