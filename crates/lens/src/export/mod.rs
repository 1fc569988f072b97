//! A reward model as a folder that other tools load: transformers and all that loads its sequence
//! classifiers, or sentence-transformers.
//!
//! What is written gives the rewards of the reward model, or nothing is written: the folder is opened
//! again, as any other model is, and scores some texts before it gets its name. These texts, their tokens
//! and rewards lie in it as `verify.jsonl`, with a program that does the same in the library it is for.

mod card;
mod plan;
mod texts;

use crate::error::stop_if_cancelled;
use crate::models::{matrix, open_own_encoder_of_bundle};
use crate::options::{BundleModelOptions, RuntimeOptions};
use crate::{Error, Progress};
use card::Card;
use lens_core::{Content, Exchange, Message, Threads};
use lens_data::bundle::{Bundle, REPORT};
use lens_data::files::read_text;
use lens_data::{AtomicDir, Existing};
use lens_encoder::{
    Checkpoint, CheckpointClass, CheckpointOptions, Encoder, EncoderError, EncoderOptions,
    ExportType, Precision, SpecialTokens, TemplateChoice, View, ViewChoice,
};
use plan::{Dense, Modules, Plan, folded, plan};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The file by which an exported folder is known: what it was made of.
const RECORD: &str = "lens_export.json";
/// All other files and folders of an exported one, but for files of weights that are numbered.
const FILES: [&str; 24] = [
    RECORD,
    "1_Pooling",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "config_sentence_transformers.json",
    "merges.txt",
    "model.safetensors",
    "model.safetensors.index.json",
    "modeling_lens.py",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "verify.jsonl",
    "verify.py",
    "vocab.json",
    "vocab.txt",
    "__pycache__",
    "2_Dense",
    "3_Dense",
];
/// Largest difference of rewards, in standard deviations of the rewards of training, that is rounding.
const ROUNDING: f64 = 1e-3;
/// The code of a model that transformers has no class for.
const MODEL_CODE: &str = include_str!("python/modeling_lens.py");
const VERIFY_TRANSFORMERS: &str = include_str!("python/verify_transformers.py");
const VERIFY_SENTENCES: &str = include_str!("python/verify_sentence_transformers.py");

/// What loads the exported folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportTarget {
    /// `AutoModelForSequenceClassification` of transformers, and what uses it: TRL, rewardbench, OpenRLHF,
    /// vLLM, SGLang. For a linear head on the last token of the last layer.
    Transformers,
    /// A chain of modules of sentence-transformers. For any head on poolings of the last layer.
    SentenceTransformers,
    /// `AutoModelForSequenceClassification` with a file of Python, which its user has to trust. For
    /// every view and head but the state at the end of the prompt.
    RemoteCode,
}

impl ExportTarget {
    /// As options have it.
    pub fn name(self) -> &'static str {
        match self {
            ExportTarget::Transformers => "transformers",
            ExportTarget::SentenceTransformers => "sentence-transformers",
            ExportTarget::RemoteCode => "remote-code",
        }
    }
}

impl FromStr for ExportTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::Transformers, Self::SentenceTransformers, Self::RemoteCode];
        let found = all.into_iter().find(|target| target.name() == text);
        found.ok_or_else(|| {
            Error::option(
                "to",
                format!("`{text}` is not transformers, sentence-transformers or remote-code"),
            )
        })
    }
}

/// What [`export()`] is told.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The reward model.
    pub bundle: PathBuf,
    /// What is to load it.
    pub target: ExportTarget,
    /// The folder to write.
    pub output: PathBuf,
    /// Replace a folder that an earlier export wrote. Defaults to `false`.
    pub overwrite: bool,
    /// In which form weights are written. Defaults to [`ExportType::F32`].
    pub dtype: ExportType,
    /// Most bytes of one file of weights. Defaults to five gigabytes.
    pub shard_bytes: Option<usize>,
    /// Another place of the language model that the reward model was trained with.
    pub model: Option<String>,
    /// How the language model runs.
    pub runtime: RuntimeOptions,
}

impl ExportOptions {
    /// The defaults.
    pub fn new(
        bundle: impl Into<PathBuf>,
        target: ExportTarget,
        output: impl Into<PathBuf>,
    ) -> Self {
        ExportOptions {
            bundle: bundle.into(),
            target,
            output: output.into(),
            overwrite: false,
            dtype: ExportType::F32,
            shard_bytes: None,
            model: None,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// What [`export()`] wrote. Serialises to what `lens export --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportResult {
    /// The folder.
    pub output: PathBuf,
    /// What loads it.
    pub target: ExportTarget,
    /// In which form its weights are, in the words of transformers.
    pub dtype: &'static str,
    /// Blocks of the language model in it.
    pub layers: usize,
    /// Bytes of its weights.
    pub bytes: u64,
    /// The token that fills lists of tokens up to one length.
    pub pad_token_id: u32,
    /// How many texts were scored with it, read back.
    pub texts: usize,
    /// The largest difference of their rewards to those of the reward model.
    pub largest_difference: f64,
    /// The standard deviation of the rewards of training, by which that is to be judged.
    pub reward_deviation: f64,
}

impl ExportResult {
    /// The same as lines of a table.
    pub fn lines(&self) -> Vec<(String, String)> {
        let (bytes, dtype) = (self.bytes as f64 / 1e6, self.dtype);
        vec![
            ("folder".into(), self.output.display().to_string()),
            ("for".into(), self.target.name().into()),
            ("weights".into(), format!("{bytes:.0} MB in {dtype}, {} layers", self.layers)),
            (
                "read back".into(),
                format!(
                    "{} texts, largest difference of rewards {:.1e} (their standard deviation is {:.2})",
                    self.texts, self.largest_difference, self.reward_deviation
                ),
            ),
            (
                "check it there".into(),
                format!("python {}", self.output.join("verify.py").display()),
            ),
        ]
    }
}

/// Writes a reward model as a folder that another tool loads.
///
/// # Errors
/// [`Error::NotExportable`] with what the target cannot hold, and the nearest that can;
/// [`Error::ExportDiffers`] where the folder, read back, gives other rewards; what is wrong with the
/// bundle, the model or the output. Nothing half-written is left.
pub fn export(options: &ExportOptions, progress: &dyn Progress) -> Result<ExportResult, Error> {
    write_folder(options, progress).map_err(|error| match error {
        // The folder is a temporary one: the user knows the other.
        Error::Data(lens_data::Error::DiskFull { source, .. }) => {
            lens_data::Error::DiskFull { path: options.output.clone(), source }.into()
        }
        error => error,
    })
}

fn write_folder(options: &ExportOptions, progress: &dyn Progress) -> Result<ExportResult, Error> {
    let own = own_files(&options.output);
    let names: Vec<&str> = own.iter().map(String::as_str).collect();
    let existing = match options.overwrite {
        true => Existing::ReplaceOwn(&names),
        false => Existing::Refuse,
    };
    let folder = AtomicDir::create(&options.output, existing)?;
    let bundle = Bundle::read(&options.bundle)?;
    let Some(record) = &bundle.manifest.encoder else {
        return Err(Error::NotExportable {
            target: options.target.name(),
            reason: "it was trained on arrays of unknown origin: no language model belongs to it"
                .into(),
            nearest: "`lens run`, or `lens embed` and `lens train`, whose reward models know theirs",
        });
    };
    if record.server.is_some() {
        return Err(Error::NotExportable {
            target: options.target.name(),
            reason: "its embeddings came from a server: the language model is not here".into(),
            nearest: "training with the model itself",
        });
    }
    let mut plan = plan(&bundle, &record.identity, options.target)?;
    // Twenty texts are computed: not worth holding weights in memory.
    let runtime = RuntimeOptions { weights: Precision::Stored, ..options.runtime.clone() };
    let model = BundleModelOptions {
        model: options.model.clone(),
        runtime,
        ..BundleModelOptions::default()
    };
    let encoder = open_own_encoder_of_bundle(&bundle, &options.bundle, &model, progress)?;
    if options.target == ExportTarget::RemoteCode {
        plan.config = remote_config(&bundle, &encoder)?;
    }
    let texts = texts::texts();
    progress.note(&format!("export: {} as {}", options.bundle.display(), options.target.name()));
    let expected = rewards(&bundle, &encoder, &texts, progress)?;
    let checkpoint_options = CheckpointOptions {
        class: plan.class,
        dtype: options.dtype,
        layers: plan.layers,
        suffix: plan.suffix.clone(),
        tensors: plan.tensors.clone(),
        config: plan.config.clone(),
        shard_bytes: options.shard_bytes,
    };
    let at = folder.path();
    let checkpoint = encoder.write_checkpoint(at, &checkpoint_options, &texts, progress);
    let checkpoint = checkpoint.map_err(|error| match error {
        EncoderError::Output(error) => Error::Data(*error),
        error => Error::Encoder(error),
    })?;
    stop_if_cancelled(progress)?;
    if options.target == ExportTarget::RemoteCode {
        write(&at.join("modeling_lens.py"), MODEL_CODE.as_bytes())?;
        let config = remote_whole(&plan, &checkpoint);
        write_json(&at.join("config.json"), &config)?;
    }
    if let Some(modules) = &plan.modules {
        write_modules(at, modules, &encoder)?;
    }
    let difference = read_back(&bundle, &encoder, &plan, at, &texts, &expected, options, progress)?;
    let deviation = bundle.manifest.reward_deviation.max(f64::MIN_POSITIVE);
    if options.dtype == ExportType::F32 && difference > ROUNDING * deviation.max(1.0) {
        return Err(Error::ExportDiffers { difference, deviation });
    }
    write_verification(at, &encoder, &plan, &texts, &expected, options)?;
    let result = ExportResult {
        output: options.output.clone(),
        target: options.target,
        dtype: options.dtype.name(),
        layers: plan.layers,
        bytes: checkpoint.bytes,
        pad_token_id: checkpoint.pad_token_id,
        texts: texts.len(),
        largest_difference: difference,
        reward_deviation: bundle.manifest.reward_deviation,
    };
    // A bundle in memory has no report: it is for people.
    let report = read_text(&options.bundle.join(REPORT)).unwrap_or_default();
    let long_from = encoder.spec().long_from();
    let card =
        Card { bundle: &bundle, long_from, report: &report, model: &record.model, result: &result };
    write(&at.join("README.md"), card.text().as_bytes())?;
    write_json(
        &at.join(RECORD),
        &json!({
            "format": "lens-export",
            "lens_version": env!("CARGO_PKG_VERSION"),
            "target": options.target,
            "reward_model_sha256": bundle.manifest.weights_sha256,
            "encoder": record.identity,
        }),
    )?;
    folder.commit()?;
    Ok(result)
}

/// The names that a folder of an earlier export may hold, this one's numbered files among them.
fn own_files(output: &Path) -> Vec<String> {
    let mut names: Vec<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
    let entries = fs::read_dir(output).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let numbered = |name: &String| {
        let weights = name.starts_with("model-") && name.ends_with(".safetensors");
        weights || name.ends_with("_Dense") && name.as_bytes()[0].is_ascii_digit()
    };
    names.extend(found.filter(numbered));
    names
}

/// Rewards of some texts by the reward model, from states of `encoder`.
fn rewards(
    bundle: &Bundle,
    encoder: &Encoder,
    texts: &[Exchange],
    progress: &dyn Progress,
) -> Result<Vec<f32>, Error> {
    let encoded = encoder.encode_exchanges(texts, progress)?;
    let states = matrix(encoded.iter(), encoder.dim())?;
    Ok(bundle.model.rewards(&states, Threads::available())?)
}

/// The largest difference of the rewards of what was written, opened as any other model is. A linear head
/// is taken as it stands in the checkpoint.
#[allow(clippy::too_many_arguments)]
fn read_back(
    bundle: &Bundle,
    encoder: &Encoder,
    plan: &Plan,
    folder: &Path,
    texts: &[Exchange],
    expected: &[f32],
    options: &ExportOptions,
    progress: &dyn Progress,
) -> Result<f64, Error> {
    let identity = encoder.identity();
    let views: Vec<ViewChoice> = identity
        .views
        .iter()
        .map(|view| View {
            suffix: view.suffix.clone().filter(|_| plan.suffix.is_none()),
            ..view.clone()
        })
        .map(|view| ViewChoice::from(&view))
        .collect();
    let read = EncoderOptions {
        template: if encoder.spec().causal { TemplateChoice::Chat } else { TemplateChoice::Plain },
        views,
        max_length: identity.max_length,
        special_tokens: identity.special_tokens,
        weights: Precision::Stored,
        batch_tokens: options.runtime.batch_tokens,
        cache_dir: None,
        keep_vectors: false,
        ..EncoderOptions::default()
    };
    // transformers would take the file's own code; here the model within is opened.
    let written = Encoder::open(folder, &read)?;
    for text in texts {
        let ours = encoder.exchange_ids_with(text, plan.suffix.as_deref())?;
        let theirs = written.exchange_ids(text)?;
        if ours != theirs {
            return Err(Error::ExportTokens {
                text: first_words(text),
                ours: ours.len(),
                theirs: theirs.len(),
            });
        }
    }
    if plan.modules.is_some() {
        check_as_texts(encoder, plan, folder, texts, &read)?;
    }
    let encoded = written.encode_exchanges(texts, progress)?;
    let states = matrix(encoded.iter(), written.dim())?;
    let rewards: Vec<f32> = match plan.class {
        CheckpointClass::SequenceClassification => {
            let (weight, constant) = folded(&bundle.model);
            let reward = |x: &[f32]| {
                let products = weight.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                (products.sum::<f64>() + constant) as f32
            };
            encoded.iter().map(|one| reward(&one.vector)).collect()
        }
        _ => bundle.model.rewards(&states, Threads::available())?,
    };
    let differences = rewards.iter().zip(expected).map(|(a, b)| f64::from(a - b).abs());
    Ok(differences.fold(0.0, f64::max))
}

/// Refuses a tokenizer of which sentence-transformers could not have the tokens: it knows no chat template,
/// and lets the tokenizer put BOS before a text, which some do not read as BOS in the text itself.
fn check_as_texts(
    encoder: &Encoder,
    plan: &Plan,
    folder: &Path,
    texts: &[Exchange],
    read: &EncoderOptions,
) -> Result<(), Error> {
    let options = EncoderOptions {
        template: TemplateChoice::Plain,
        special_tokens: SpecialTokens::Parse,
        ..read.clone()
    };
    let written = Encoder::open(folder, &options)?;
    for text in texts {
        let suffix = plan.suffix.as_deref();
        let theirs = written.token_ids(&encoder.exchange_text_with(text, suffix)?)?;
        if theirs != encoder.exchange_ids_with(text, suffix)? {
            return Err(Error::NotExportable {
                target: ExportTarget::SentenceTransformers.name(),
                reason:
                    "its tokenizer makes other tokens of a text than the chat template asks for"
                        .into(),
                nearest: "`--to remote-code`",
            });
        }
    }
    Ok(())
}

fn first_words(text: &Exchange) -> String {
    let message = |content: &Content| match content {
        Content::Text(text) => text.clone(),
        Content::Messages(all) => all.first().map(|m| m.content.clone()).unwrap_or_default(),
    };
    message(&text.prompt)
}

/// `verify.jsonl` and `verify.py`.
fn write_verification(
    folder: &Path,
    encoder: &Encoder,
    plan: &Plan,
    texts: &[Exchange],
    expected: &[f32],
    options: &ExportOptions,
) -> Result<(), Error> {
    let mut rows = String::new();
    for (text, reward) in texts.iter().zip(expected) {
        let suffix = plan.suffix.as_deref();
        let messages: Vec<Value> = [&text.prompt, &text.response]
            .into_iter()
            .flat_map(|content| match content {
                Content::Messages(messages) => messages.clone(),
                Content::Text(text) => vec![Message { role: "user".into(), content: text.clone() }],
            })
            .map(|m| json!({"role": m.role, "content": m.content}))
            .collect();
        let row = json!({
            "messages": messages,
            "text": encoder.exchange_text_with(text, suffix)?,
            "token_ids": encoder.exchange_ids_with(text, suffix)?,
            "reward": reward,
        });
        rows.push_str(&row.to_string());
        rows.push('\n');
    }
    write(&folder.join("verify.jsonl"), rows.as_bytes())?;
    let program = match options.target {
        ExportTarget::SentenceTransformers => VERIFY_SENTENCES,
        _ => VERIFY_TRANSFORMERS,
    };
    let tolerance = match options.dtype {
        ExportType::F32 => "1e-3",
        ExportType::F16 => "0.05",
        ExportType::BF16 => "0.5",
    };
    let remote = if options.target == ExportTarget::RemoteCode { "True" } else { "False" };
    let program = program.replace("@TOLERANCE@", tolerance).replace("@REMOTE@", remote);
    write(&folder.join("verify.py"), program.as_bytes())
}

/// What `modeling_lens.py` is told of the views and the head.
fn remote_config(
    bundle: &Bundle,
    encoder: &Encoder,
) -> Result<serde_json::Map<String, Value>, Error> {
    let shape = bundle.model.head.shape();
    let mut views = Vec::new();
    for view in encoder.views() {
        views.push(json!({
            "layer": view.layer,
            "pooling": view.pooling,
            "suffix": view.suffix,
            "suffix_ids": encoder.fragment_ids(view.suffix.as_deref().unwrap_or_default())?,
        }));
    }
    let entries = json!({
        "views": views,
        "hidden": shape.hidden,
        "members": shape.members,
        "activation": bundle.model.head.activation(),
        "num_labels": 1,
        "id2label": {"0": "reward"},
        "label2id": {"reward": 0},
        "problem_type": "regression",
    });
    Ok(entries.as_object().cloned().unwrap_or_default())
}

/// The configuration of a model of `modeling_lens.py`: the language model's own lies in it, as `base`.
fn remote_whole(plan: &Plan, checkpoint: &Checkpoint) -> Value {
    let class = "LensForSequenceClassification";
    let mut whole = serde_json::Map::from_iter([
        ("model_type".to_owned(), "lens-reward-model".into()),
        ("architectures".to_owned(), json!([class])),
        (
            "auto_map".to_owned(),
            json!({
                "AutoConfig": "modeling_lens.LensConfig",
                "AutoModelForSequenceClassification": format!("modeling_lens.{class}"),
            }),
        ),
        ("base".to_owned(), checkpoint.config.clone()),
    ]);
    for key in ["bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype"] {
        whole.insert(key.to_owned(), checkpoint.config[key].clone());
    }
    whole.extend(plan.config.clone());
    whole.into()
}

/// The files by which sentence-transformers knows its modules.
fn write_modules(folder: &Path, modules: &Modules, encoder: &Encoder) -> Result<(), Error> {
    let module = |number: usize, path: &str, class: &str| {
        json!({"idx": number, "name": number.to_string(), "path": path,
               "type": format!("sentence_transformers.models.{class}")})
    };
    let mut list = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
    let has = |word: &str| modules.poolings.iter().any(|pooling| pooling.to_string() == word);
    let pooling = json!({
        "word_embedding_dimension": encoder.identity().dim,
        "pooling_mode_cls_token": has("first"),
        "pooling_mode_mean_tokens": has("mean"),
        "pooling_mode_max_tokens": false,
        "pooling_mode_mean_sqrt_len_tokens": false,
        "pooling_mode_weightedmean_tokens": false,
        "pooling_mode_lasttoken": has("last"),
        "include_prompt": true,
    });
    create(&folder.join("1_Pooling"))?;
    write_json(&folder.join("1_Pooling/config.json"), &pooling)?;
    for (i, dense) in modules.dense.iter().enumerate() {
        let name = format!("{}_Dense", i + 2);
        list.push(module(i + 2, &name, "Dense"));
        create(&folder.join(&name))?;
        let config = json!({
            "in_features": dense.inputs,
            "out_features": dense.outputs,
            "bias": true,
            "activation_function": dense.activation,
        });
        write_json(&folder.join(&name).join("config.json"), &config)?;
        write_dense(&folder.join(&name).join("model.safetensors"), dense)?;
    }
    write_json(&folder.join("modules.json"), &list.into())?;
    let sentence = json!({"max_seq_length": encoder.identity().max_length, "do_lower_case": false});
    write_json(&folder.join("sentence_bert_config.json"), &sentence)?;
    let versions = json!({"prompts": {}, "default_prompt_name": null, "similarity_fn_name": "dot"});
    write_json(&folder.join("config_sentence_transformers.json"), &versions)
}

fn write_dense(path: &Path, dense: &Dense) -> Result<(), Error> {
    let bytes =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let (weight, bias) = (bytes(&dense.weight), bytes(&dense.bias));
    let failed =
        |e: safetensors::SafeTensorError| Error::Refused(format!("{}: {e}", path.display()));
    let tensors = [
        ("linear.bias", TensorView::new(Dtype::F32, vec![dense.outputs], &bias).map_err(failed)?),
        (
            "linear.weight",
            TensorView::new(Dtype::F32, vec![dense.outputs, dense.inputs], &weight)
                .map_err(failed)?,
        ),
    ];
    write(path, &safetensors::serialize(tensors, None).map_err(failed)?)
}

fn create(folder: &Path) -> Result<(), Error> {
    Ok(fs::create_dir(folder).map_err(|e| lens_data::Error::io(folder, "write", e))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    Ok(fs::write(path, bytes).map_err(|e| lens_data::Error::io(path, "write", e))?)
}

fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Refused(format!("{}: {e}", path.display())))?;
    write(path, format!("{text}\n").as_bytes())
}
