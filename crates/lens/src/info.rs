//! What a file or folder is: a reward model, a language model, arrays, preference pairs, rows.

mod pairs;

use crate::data_source;
use crate::options::RuntimeOptions;
use crate::{Error, Progress};
use lens_core::head::HeadKind;
use lens_data::bundle::{Bundle, Kept, MANIFEST, WEIGHTS};
use lens_data::{ArrayFile, DataSource, ReadOptions};
use lens_encoder::{Encoder, EncoderOptions};
use lens_report::text::{percent, thousands};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a file or folder is. Serialises to what `lens info --json` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// The file or folder.
    pub path: PathBuf,
    /// `reward model`, `language model`, `arrays`, `preference pairs`, or `rows to score or embed`.
    pub kind: &'static str,
    /// What is to be said of it, as lines of label and value.
    pub table: Vec<(String, String)>,
    /// The same for machines: an object.
    pub details: Value,
}

impl Serialize for Info {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut value = self.details.clone();
        value["kind"] = self.kind.into();
        value.serialize(to)
    }
}

/// Finds out what a file or folder is, or several files of pairs or rows together. Pairs need not fit
/// into memory. The hash of a language model, and a dataset of the Hub, are kept in the cache of
/// `runtime`.
///
/// # Errors
/// A file that is nothing of this, or damaged.
pub fn info(
    input: impl Into<DataSource>,
    reading: &ReadOptions,
    runtime: &RuntimeOptions,
    progress: &dyn Progress,
) -> Result<Info, Error> {
    let input = input.into();
    let extension = |path: &Path| path.extension().and_then(|e| e.to_str()).map(str::to_owned);
    let (kind, table, details) = match input.single() {
        Some(path) if is_bundle(path) => bundle(path)?,
        Some(path) if is_model(path) => model(path, runtime)?,
        Some(path) => match extension(path).as_deref() {
            Some("gguf") => model(path, runtime)?,
            Some("safetensors" | "npy") => arrays(path)?,
            _ => pairs::describe(
                &data_source::resolve(&input, runtime, progress)?,
                reading,
                progress,
            )?,
        },
        None => {
            pairs::describe(&data_source::resolve(&input, runtime, progress)?, reading, progress)?
        }
    };
    Ok(Info { path: input.name(), kind, table, details })
}

/// Whether a folder is, or should be, a reward model: it has a file of one, or nothing of anything else.
fn is_bundle(path: &Path) -> bool {
    if !path.is_dir() || is_model(path) {
        return false;
    }
    let parts = [MANIFEST, WEIGHTS].iter().any(|file| path.join(file).exists());
    let nothing =
        || matches!(DataSource::from(path).files(), Err(lens_data::Error::NoDataFiles { .. }));
    parts || nothing()
}

/// Whether a folder is a language model's.
fn is_model(path: &Path) -> bool {
    path.join("config.json").is_file()
}

/// Kind, table and details.
type Described = (&'static str, Vec<(String, String)>, Value);

fn bundle(path: &Path) -> Result<Described, Error> {
    let manifest = Bundle::read(path)?.manifest;
    let value = json!({"manifest": manifest});
    let heldout = &manifest.figures["heldout"];
    let mut rows = vec![
        ("written by".to_owned(), format!("lens {}", manifest.lens_version)),
        (
            "trained on".to_owned(),
            format!("{} pairs of {}", manifest.data.used, manifest.data.file),
        ),
        ("fingerprint".to_owned(), manifest.data.fingerprint.clone()),
    ];
    rows.extend(manifest.warm_start.iter().map(|w| {
        let from = format!("a model of {}: {} pairs known, {} new", w.file, w.known, w.new);
        ("warm start".to_owned(), from)
    }));
    rows.extend([
        (
            "head".to_owned(),
            format!(
                "{} on embeddings of width {}, {}, {} augmentation",
                head_in_words(&manifest.head.hidden, manifest.method.head.kind),
                manifest.head.dim,
                match manifest.head.members {
                    1 => "1 member".to_owned(),
                    n => format!("mean of {n} members"),
                },
                if manifest.kept == Kept::None { "without" } else { "with" },
            ),
        ),
        (
            "rewards".to_owned(),
            format!(
                "mean {:.4}, standard deviation {:.4}",
                manifest.reward_mean, manifest.reward_deviation
            ),
        ),
    ]);
    rows.extend(manifest.novelty.map(|n| {
        let judges = match n.judged {
            0 => "by these themselves".to_owned(),
            n => format!("by {} held-out ones", thousands(n as u64)),
        };
        let shown = format!(
            "a response further than {:.2} from the {} seed responses in latent space, {judges}",
            n.threshold,
            thousands(n.responses as u64)
        );
        ("out of distribution".to_owned(), shown)
    }));
    for (key, label) in [("none", "held out, without"), ("augmented", "held out, augmented")] {
        if let Some(accuracy) = heldout[key]["accuracy"].as_f64() {
            rows.push((label.to_owned(), percent(accuracy)));
        }
    }
    if let Some(encoder) = &manifest.encoder {
        rows.push(("encoder".to_owned(), encoder.model.clone()));
        if let Some(server) = &encoder.server {
            let said = match &server.url {
                None => "a server, which --server has to name".to_owned(),
                Some(url) => format!("a server, {url} as it says: nothing goes there unasked"),
            };
            rows.push(("  computed by".to_owned(), said));
        }
        let fields = encoder.identity.listed().into_iter();
        rows.extend(fields.map(|(name, value)| (format!("  {name}"), value)));
    } else {
        rows.push(("encoder".to_owned(), "none: trained on arrays, scores arrays".to_owned()));
    }
    Ok(("reward model", rows, value))
}

/// `logistic`, `linear`, or `network with hidden layers of 256, 64`.
fn head_in_words(hidden: &[usize], kind: HeadKind) -> String {
    let widths: Vec<String> = hidden.iter().map(usize::to_string).collect();
    match (kind, &widths[..]) {
        (HeadKind::Logistic, _) => "logistic".to_owned(),
        (HeadKind::Mlp, []) => "linear".to_owned(),
        (HeadKind::Mlp, [one]) => format!("network with a hidden layer of {one}"),
        (HeadKind::Mlp, several) => {
            format!("network with hidden layers of {}", several.join(", "))
        }
    }
}

fn model(path: &Path, runtime: &RuntimeOptions) -> Result<Described, Error> {
    let cache_dir = Some(runtime.cache_folder()?.join("embeddings"));
    let options = EncoderOptions { cache_dir, ..EncoderOptions::default() };
    let encoder = Encoder::open(path, &options)?;
    let id = encoder.identity();
    let memory = encoder.memory_estimate();
    let megabytes = |bytes: u64| format!("{} MB", thousands(bytes / 1_000_000));
    let rows = vec![
        ("architecture".to_owned(), id.architecture.clone()),
        ("layers".to_owned(), id.layers.to_string()),
        ("width".to_owned(), id.dim.to_string()),
        ("context".to_owned(), format!("{} tokens", thousands(encoder.spec().context as u64))),
        ("template".to_owned(), id.template.clone()),
        ("BOS".to_owned(), if id.add_bos { "yes" } else { "no" }.to_owned()),
        (
            "memory".to_owned(),
            format!(
                "{} weights, {} for a batch, {} mapped",
                megabytes(memory.weights),
                megabytes(memory.workspace),
                megabytes(memory.mapped)
            ),
        ),
        ("SHA-256".to_owned(), id.model_sha256.clone()),
    ];
    let value = json!({"identity": id, "context": encoder.spec().context,
        "memory": {"weights": memory.weights, "workspace": memory.workspace,
            "mapped": memory.mapped}});
    Ok(("language model", rows, value))
}

fn arrays(path: &Path) -> Result<Described, Error> {
    let file = ArrayFile::open(path)?;
    let (mut rows, mut shapes) = (Vec::new(), serde_json::Map::new());
    let keys = file.keys();
    for key in &keys {
        let shape = file.shape(Some(key))?;
        rows.push((key.clone(), shape_in_words(&shape)));
        shapes.insert(key.clone(), json!(shape));
    }
    if keys.is_empty() {
        let shape = file.shape(None)?;
        rows.push(("array".to_owned(), shape_in_words(&shape)));
        shapes.insert(String::new(), json!(shape));
    }
    let metadata = file.metadata();
    rows.extend(metadata.iter().map(|(k, v)| (format!("metadata {k}"), v.clone())));
    Ok(("arrays", rows, json!({"arrays": shapes, "metadata": metadata})))
}

/// `[400, 640]`.
fn shape_in_words(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", sizes.join(", "))
}
