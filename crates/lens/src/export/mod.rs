//! A reward model as a folder that other tools load: transformers and all that loads its sequence
//! classifiers, or sentence-transformers.
//!
//! What is written gives the rewards of the reward model, or nothing is written: the folder is opened
//! again, as any other model is, and scores some texts before it gets its name. These texts, their tokens
//! and rewards lie in it as `verify.jsonl`, with a program that does the same in the library it is for.

mod card;
mod folder;
mod plan;
mod texts;

use crate::error::stop_if_cancelled;
use crate::models::{matrix, open_own_encoder_of_bundle};
use crate::options::{BundleModelOptions, RuntimeOptions};
use crate::public::as_reward_model;
use crate::{Error, Progress};
use card::Card;
use folder::{
    MODEL_CODE, remote_config, remote_whole, write, write_json, write_modules, write_verification,
};
use lens_core::{Content, Exchange, Threads};
use lens_data::bundle::{Bundle, REPORT};
use lens_data::files::read_text;
use lens_data::{AtomicDir, Existing};
use lens_encoder::{
    CheckpointClass, CheckpointOptions, Encoder, EncoderError, EncoderOptions, ExportType,
    Precision, SpecialTokens, TemplateChoice, View, ViewChoice,
};
use plan::{Plan, plan};
use serde::Serialize;
use serde_json::json;
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

/// The largest difference of the rewards of what was written, opened as any other model is. The head of a
/// sequence classifier is read from the checkpoint as well.
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
    let head = match plan.class {
        CheckpointClass::SequenceClassification => written.score_head(None)?,
        _ => None,
    };
    let rewards = match head {
        Some(head) => {
            as_reward_model(&head, 0, written.dim())?.rewards(&states, Threads::available())?
        }
        None => bundle.model.rewards(&states, Threads::available())?,
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
