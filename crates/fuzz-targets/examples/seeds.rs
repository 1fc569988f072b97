//! Writes the inputs of the corpus that no editor can: `cargo run --release -p fuzz-targets --example seeds`.
//!
//! All of them are made up here. Run it again where a format changes, and commit what it wrote.

// It is a tool, run by hand.
#![allow(clippy::unwrap_used)]

use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, RecordBatch, StringArray, types::Int32Type,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use half::f16;
use lens_core::{EmbeddedPairs, Matrix, MethodSettings, Novelty, Quiet, Threads, fit};
use lens_data::arrays::{FloatType, Tensor, write_tensors};
use lens_data::bundle::{DataRecord, Kept};
use lens_data::table::{Table, TableRow};
use lens_data::{Array2, Bundle};
use lens_encoder::testing::TinyModel;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Done = Result<(), Box<dyn std::error::Error>>;

/// Pairs that most formats hold.
const PAIRS: &str = r#"{"prompt":"2 + 2?","chosen":"4","rejected":"5","margin":1.5,"subset":"sums"}
{"prompt":[{"role":"user","content":"Sky?"}],"chosen":[{"role":"assistant","content":"Blue"}],"rejected":[{"role":"assistant","content":"No"}]}
"#;

fn main() -> Done {
    arrays()?;
    stored_pairs()?;
    datasets()?;
    bundles()?;
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let tiny = TinyModel {
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 32,
        ffn_dim: 32,
        chat_template: Some(template.to_owned()),
        ..TinyModel::default()
    };
    tiny.write(&place("gguf", "gemma3"))?;
    TinyModel { architecture: "gemma9".to_owned(), ..tiny }.write(&place("gguf", "unknown"))?;
    model_folders()
}

/// Where an input lies.
fn place(target: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// An input of several files.
fn write_files(target: &str, name: &str, files: &[(&str, Vec<u8>)]) -> Done {
    let mut all = Vec::new();
    for (name, content) in files {
        all.extend(format!("=== {name}\n").bytes());
        all.extend(content);
        all.push(b'\n');
    }
    // The last file has no line's end of its own.
    all.pop();
    Ok(std::fs::write(place(target, name), all)?)
}

fn table(rows: usize, dim: usize, shift: f32) -> Array2 {
    let data = (0..rows * dim).map(|i| ((i * 37 % 101) as f32 * 0.1).sin() + shift).collect();
    Array2 { rows, dim, data }
}

fn arrays() -> Done {
    let (a, b) = (table(3, 2, 0.0), table(2, 4, 1.0));
    let tensors = [
        ("f32", Tensor::Floats(&a, FloatType::F32)),
        ("f16", Tensor::Floats(&b, FloatType::F16)),
        ("bf16", Tensor::Floats(&a, FloatType::Bf16)),
        ("row", Tensor::Integers(&[3, 1, 2])),
        ("margin", Tensor::Vector(&[0.5, 1.0])),
    ];
    let metadata = BTreeMap::from([("lens_version".to_owned(), "0".to_owned())]);
    write_tensors(place("arrays", "safetensors"), &tensors, &metadata)?;
    npy("npy-f4", "<f4", "False", a.data.iter().flat_map(|v| v.to_le_bytes()).collect())?;
    npy(
        "npy-f8-columns",
        ">f8",
        "True",
        a.data.iter().flat_map(|v| f64::from(*v).to_be_bytes()).collect(),
    )?;
    npy(
        "npy-f2",
        "<f2",
        "False",
        a.data.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
    )
}

/// Three rows of two values as NumPy stores them.
fn npy(name: &str, descr: &str, fortran: &str, values: Vec<u8>) -> Done {
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': (3, 2), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut all = b"\x93NUMPY\x01\x00".to_vec();
    all.extend((header.len() as u16).to_le_bytes());
    all.extend(header.bytes());
    all.extend(values);
    Ok(std::fs::write(place("arrays", name), all)?)
}

fn stored_pairs() -> Done {
    let (chosen, rejected) = (table(4, 4, 0.2), table(4, 4, -0.2));
    let sides = |dtype| {
        [("chosen", Tensor::Floats(&chosen, dtype)), ("rejected", Tensor::Floats(&rejected, dtype))]
    };
    write_tensors(place("stored_pairs", "plain"), &sides(FloatType::F16), &BTreeMap::new())?;
    let mut tensors = sides(FloatType::F32).to_vec();
    tensors.push(("row", Tensor::Integers(&[1, 2, 3, 5])));
    tensors.push(("prompt", Tensor::Integers(&[0, 0, 1, 2])));
    tensors.push(("margin", Tensor::Vector(&[0.5, 0.0, 1.0, 0.0])));
    tensors.push(("tie", Tensor::Integers(&[0, 0, 0, 1])));
    let view = |layer: usize, from: usize| json!({"columns": [from, from + 2], "layer": layer, "pooling": "last"});
    let views = json!([view(1, 0), view(2, 2)]).to_string();
    let metadata = BTreeMap::from([("views".to_owned(), views)]);
    write_tensors(place("stored_pairs", "views"), &tensors, &metadata)?;
    Ok(())
}

fn datasets() -> Done {
    let rows = PAIRS.lines().map(|line| Ok(serde_json::from_str::<TableRow>(line)?));
    let rows: Vec<TableRow> = rows.collect::<Result<_, Box<dyn std::error::Error>>>()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pairs.parquet");
    Table::new(rows).write(&path)?;
    std::fs::copy(&path, place("parquet", "pairs"))?;

    let dictionary: DictionaryArray<Int32Type> = vec!["sums", "sums"].into_iter().collect();
    let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("prompt", text(["2 + 2?", "3 + 3?"])),
        ("chosen", text(["4", "6"])),
        ("rejected", text(["5", "7"])),
        ("margin", Arc::new(Float64Array::from(vec![Some(1.5), None])) as ArrayRef),
        ("subset", Arc::new(dictionary) as ArrayRef),
    ])?;
    let mut file = FileWriter::try_new(Vec::new(), &batch.schema())?;
    file.write(&batch)?;
    std::fs::write(place("arrow", "file"), file.into_inner()?)?;
    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    stream.write(&batch)?;
    std::fs::write(place("arrow", "stream"), stream.into_inner()?)?;

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(PAIRS.as_bytes())?;
    std::fs::write(place("gzip", "pairs"), gzip.finish()?)?;
    std::fs::write(place("zstd", "pairs"), zstd::encode_all(PAIRS.as_bytes(), 19)?)?;
    Ok(())
}

fn bundles() -> Done {
    let side = |shift: f32| Matrix::new(table(24, 3, shift).data, 24, 3);
    let pairs = EmbeddedPairs::new(side(0.3)?, side(-0.3)?)?;
    let mut method = MethodSettings::default();
    method.vae.epochs = 3;
    (method.vae.hidden, method.vae.latent) = (4, 2);
    method.head.hidden = vec![4];
    let folder = tempfile::tempdir()?;
    let at = folder.path().join("bundle");
    let bundle = trained(&pairs, method)?;
    bundle.write(&at, false)?;
    let files = |manifest: &dyn Fn(&mut Value)| -> Result<_, Box<dyn std::error::Error>> {
        let mut value: Value = serde_json::from_slice(&std::fs::read(at.join("lens.json"))?)?;
        manifest(&mut value);
        let weights = std::fs::read(at.join("model.safetensors"))?;
        let manifest = value.to_string().into_bytes();
        Ok([("lens.json", manifest), ("model.safetensors", weights)])
    };
    write_files("bundle", "mlp", &files(&|_| {})?)?;
    // Without its hash, so that the weights can be anything.
    let unbound = |manifest: &mut Value| {
        manifest.as_object_mut().map(|fields| fields.remove("weights_sha256"));
    };
    write_files("bundle", "unbound", &files(&unbound)?)?;
    write_files(
        "bundle",
        "no-vae",
        &files(&|manifest| {
            unbound(manifest);
            (manifest["vae"], manifest["novelty"]) = (Value::Null, Value::Null);
        })?,
    )
}

fn trained(
    pairs: &EmbeddedPairs,
    method: MethodSettings,
) -> Result<Bundle, Box<dyn std::error::Error>> {
    let augmented =
        fit(pairs, &method, Threads::ONE, &Quiet)?.augmented.ok_or("no augmentation")?;
    let (model, (vae, _)) = (augmented.fitted.model, augmented.vae.ok_or("no VAE")?);
    let novelty = Novelty::fit(&vae, &model.standardiser, pairs, Threads::ONE)?;
    let data = DataRecord {
        file: "pairs.safetensors".into(),
        fingerprint: "f".into(),
        read: 24,
        used: 24,
        left_out: BTreeMap::new(),
    };
    Ok(Bundle::new(model, Some(vae), Some(novelty), None, method, Kept::Augmented, data))
}

/// A folder of a model of one block and width 8, with 16 tokens.
fn model_folders() -> Done {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 8, "intermediate_size": 8, "max_position_embeddings": 64,
        "num_attention_heads": 2, "num_hidden_layers": 1, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "vocab_size": 16,
    });
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let words = [
        "<unk>", "<s>", "</s>", "a", "b", "H", "i", "▁", "ab", "▁a", "Hi", "s", "<", ">", "/", "T",
    ];
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false,
            "vocab": vocab, "merges": [["a", "b"], ["▁", "a"], ["H", "i"]],
        },
    });
    let tokenizer_config = json!({
        "add_bos_token": true, "bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>",
        "tokenizer_class": "LlamaTokenizer",
        "chat_template": "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}",
    });
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let matrices = [
        ("model.embed_tokens.weight".to_owned(), 16, 8),
        (layer("self_attn.q_proj"), 8, 8),
        (layer("self_attn.k_proj"), 4, 8),
        (layer("self_attn.v_proj"), 4, 8),
        (layer("self_attn.o_proj"), 8, 8),
        (layer("mlp.gate_proj"), 8, 8),
        (layer("mlp.up_proj"), 8, 8),
        (layer("mlp.down_proj"), 8, 8),
    ];
    let matrices: Vec<(String, Array2)> =
        matrices.into_iter().map(|(name, rows, dim)| (name, table(rows, dim, 0.0))).collect();
    let norms = [
        layer("input_layernorm"),
        layer("post_attention_layernorm"),
        "model.norm.weight".to_owned(),
    ];
    let mut tensors: Vec<(&str, Tensor<'_>)> =
        matrices.iter().map(|(name, a)| (&**name, Tensor::Floats(a, FloatType::F16))).collect();
    tensors.extend(norms.iter().map(|name| (&**name, Tensor::Vector(&[1.0; 8]))));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    write_tensors(&path, &tensors, &BTreeMap::new())?;
    let weights = std::fs::read(&path)?;
    write_files(
        "model_folder",
        "llama",
        &[
            ("config.json", config.to_string().into()),
            ("tokenizer_config.json", tokenizer_config.to_string().into()),
            ("tokenizer.json", tokenizer.to_string().into()),
            ("model.safetensors", weights.clone()),
        ],
    )?;
    let mut wordpiece = tokenizer;
    wordpiece["model"] = json!({
        "type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": wordpiece["model"]["vocab"],
    });
    wordpiece["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "NFC"}, {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}]});
    wordpiece["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "\\w+|[^\\w\\s]+"},
        "behavior": "Isolated", "invert": false});
    write_files(
        "model_folder",
        "word-pieces",
        &[
            ("config.json", config.to_string().into()),
            (
                "special_tokens_map.json",
                json!({"bos_token": "<s>", "additional_special_tokens": ["</s>"]})
                    .to_string()
                    .into(),
            ),
            ("tokenizer.json", wordpiece.to_string().into()),
            ("model.safetensors", weights),
        ],
    )
}
