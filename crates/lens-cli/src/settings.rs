//! Every setting, from three places: defaults, then the settings file, then flags and --set.

mod augment;
mod serve;

pub use augment::Augment;
pub use serve::ServeSettings;

use crate::args::{Cli, Command};
use crate::error::CliError;
use lens_core::MethodSettings;
use lens_core::head::HeadSettings;
use lens_core::pairing::Pairing;
use lens_core::source::{RivalSettings, SourceKind};
use lens_core::synthesis::SynthesisSettings;
use lens_core::vae::VaeSettings;
use lens_data::bundle::Manifest;
use lens_data::{FloatType, ReadOptions};
use lens_encoder::{
    EncoderOptions, GenerateOptions, LayerChoice, Pooling, Precision, ServerApi, SpecialTokens,
    TemplateChoice, ViewChoice,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which head a run saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The augmented one if it is clearly better on the seeds' own folds.
    Auto,
    /// The one without augmentation.
    None,
    /// The one with augmentation.
    Augmented,
}

/// Which views of the texts, and which head, a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Views {
    /// As the settings name them.
    Fixed,
    /// Chosen by cross-validation on the training pairs.
    Auto,
}

/// When a BOS token begins a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bos {
    /// As the model file says.
    Auto,
    /// Always, once.
    Always,
    /// Never.
    Never,
}

/// Where one of these is named, `lens run` does not choose views and head of itself.
const CHOICES: [&str; 8] =
    ["views", "layer", "layers", "pooling", "view", "server", "warm_start", "head"];

/// All settings. Every key can stand in the settings file; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Language model: a name that `lens pull` knows, a file or folder, a name of the Hub, an address.
    pub model: String,
    /// Address of a server that computes the embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// How the server is asked.
    pub server_api: ServerApi,
    /// Requests at a time.
    pub server_concurrency: usize,
    /// Texts in a request.
    pub server_batch: usize,
    /// Seconds to wait for an answer of the server.
    pub server_timeout: u64,
    /// Tries after the first.
    pub server_retries: u32,
    /// The environment variable with the server's key.
    pub server_key_env: String,
    /// Hidden state by transformers' index: 0 the embedding, -1 the last.
    pub layer: i32,
    /// Several layers side by side: `all`, or numbers such as `0,9,-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<String>,
    /// `last`, `mean`, `prompt-last` or (for encoders such as BERT) `first`.
    pub pooling: String,
    /// Several views side by side, each `layer=..,pooling=..,suffix=..`.
    pub view: Vec<String>,
    /// Whether views and head are those asked for, or chosen on the training pairs.
    pub views: Views,
    /// In which form weights are held: `auto`, `f32`, `bf16`, `stored`.
    pub weights: String,
    /// `auto`, `chat`, `plain`, or the path of a Jinja file.
    pub template: String,
    /// Longer texts lose the beginning of the prompt.
    pub max_length: usize,
    /// When a BOS token begins a text.
    pub bos: Bos,
    /// What names of special tokens in texts are: `text`, or parsed (`parse`).
    pub special_tokens: String,
    /// Tokens computed in one pass.
    pub batch_tokens: usize,
    /// In which form embeddings are stored: `f32`, `f16`, `bf16`.
    pub dtype: FloatType,
    /// Stop at the first malformed row.
    pub strict: bool,
    /// Held-out pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<PathBuf>,
    /// Share of the prompts to hold out where there is no `eval`.
    pub holdout: f64,
    /// Folder of an earlier reward model that is trained further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_start: Option<PathBuf>,
    /// Folder for the reward model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Folder for training curves, written while training goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_dir: Option<PathBuf>,
    /// Replace a reward model in the output folder, curves in the log folder, synthetic responses.
    pub overwrite: bool,
    /// Which head is saved.
    pub keep: Keep,
    /// Name of the chosen embeddings.
    pub chosen_key: String,
    /// Name of the rejected embeddings.
    pub rejected_key: String,
    /// Pairs to train on in each split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_pairs: Option<usize>,
    /// Random splits to measure on.
    pub splits: usize,
    /// Rewards in standard deviations from the mean of the training responses.
    pub normalise: bool,
    /// Results as JSON.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
    /// Threads; all cores by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Stored embeddings of up to so many MB (as float32) are copied into memory.
    pub memory_mb: usize,
    /// Where models and embeddings are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Augmentation factor, or `auto`.
    pub augment: Augment,
    /// Which responses meet in augmented pairs: `within` or `across`.
    pub pairing: Pairing,
    /// Standardise embeddings on the seeds.
    pub standardise: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Where synthetic responses come from: `lens`, or a rival.
    pub source: SourceKind,
    /// The VAE.
    pub vae: VaeSettings,
    /// Synthesis.
    pub synthesis: SynthesisSettings,
    /// The rivals' parameters.
    pub rivals: RivalSettings,
    /// The head.
    pub head: HeadSettings,
    /// Responses of a language model.
    pub generate: GenerateOptions,
    /// The server.
    pub serve: ServeSettings,
    /// Whether finished embeddings are kept in the cache.
    #[serde(skip)]
    pub keep_vectors: bool,
    /// With an earlier reward model and in a study, the settings that the user named.
    #[serde(skip)]
    pub given: BTreeSet<String>,
    /// Whether `views = "auto"` is nobody's wish.
    #[serde(skip)]
    pub by_default: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let MethodSettings {
            augment,
            pairing,
            standardise,
            seed,
            vae,
            source,
            synthesis,
            rivals,
            head,
        } = MethodSettings::default();
        let encoder = EncoderOptions::default();
        Settings {
            model: lens_encoder::models::DEFAULT.to_owned(),
            server: None,
            server_api: ServerApi::Auto,
            server_concurrency: 8,
            server_batch: 16,
            server_timeout: 120,
            server_retries: 5,
            server_key_env: "LENS_API_KEY".to_owned(),
            layer: -1,
            layers: None,
            pooling: Pooling::default().to_string(),
            view: Vec::new(),
            views: Views::Fixed,
            weights: encoder.weights.to_string(),
            template: "auto".to_owned(),
            max_length: encoder.max_length,
            bos: Bos::Auto,
            special_tokens: encoder.special_tokens.to_string(),
            batch_tokens: encoder.batch_tokens,
            dtype: FloatType::default(),
            strict: false,
            eval: None,
            holdout: 0.2,
            warm_start: None,
            output: None,
            log_dir: None,
            overwrite: false,
            keep: Keep::Auto,
            chosen_key: "chosen".to_owned(),
            rejected_key: "rejected".to_owned(),
            seed_pairs: None,
            splits: 5,
            normalise: false,
            json: false,
            quiet: false,
            threads: None,
            memory_mb: 1024,
            cache: None,
            augment: Augment::Factor(augment),
            pairing,
            standardise,
            seed,
            vae,
            source,
            synthesis,
            rivals,
            head,
            generate: GenerateOptions::default(),
            serve: ServeSettings::default(),
            keep_vectors: true,
            given: BTreeSet::new(),
            by_default: false,
        }
    }
}

impl Settings {
    /// Defaults, or those of an earlier reward model that is trained further, overlaid by the settings
    /// file, overlaid by flags and --set.
    pub fn resolve(cli: &Cli) -> Result<Settings, CliError> {
        Settings::over(toml::Table::new(), cli)
    }

    /// As [`Settings::resolve`], with the method's settings in place of their defaults.
    pub fn resolve_over(base: &MethodSettings, cli: &Cli) -> Result<Settings, CliError> {
        Settings::over(toml::Table::try_from(base).map_err(|e| bad("settings", e))?, cli)
    }

    fn over(mut table: toml::Table, cli: &Cli) -> Result<Settings, CliError> {
        if let Some(path) = &cli.config {
            overlay(&mut table, read(path)?);
        }
        let flags = cli.command.overrides().map_err(|e| bad("flags", e))?;
        overlay(&mut table, flags);
        for (key, on) in [("json", cli.json), ("quiet", cli.quiet)] {
            if on {
                table.insert(key.to_owned(), true.into());
            }
        }
        if let Some(threads) = cli.threads {
            let threads = i64::try_from(threads).map_err(|e| bad("--threads", e))?;
            table.insert("threads".to_owned(), threads.into());
        }
        if let Some(cache) = &cli.cache {
            table.insert("cache".to_owned(), cache.to_string_lossy().into_owned().into());
        }
        for entry in &cli.set {
            set(&mut table, entry)?;
        }
        let mut given = BTreeSet::new();
        // `lens run` chooses views and head unless something is said of them.
        let by_default = matches!(cli.command, Command::Run(_))
            && !CHOICES.into_iter().any(|key| table.contains_key(key));
        if by_default {
            table.insert("views".to_owned(), "auto".into());
        }
        if matches!(cli.command, Command::Run(_) | Command::Train(_))
            && let Some(path) = table.get("warm_start").and_then(toml::Value::as_str)
        {
            let mut earlier = of_bundle(Path::new(path))?;
            given = table.keys().cloned().collect();
            overlay(&mut earlier, table);
            table = earlier;
        }
        if matches!(cli.command, Command::Study(_)) {
            given = table.keys().cloned().collect();
        }
        let mut settings: Settings = table.try_into().map_err(|e| bad("settings", e))?;
        settings.given = given;
        settings.by_default = by_default;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), CliError> {
        self.method().check()?;
        if !(0.0..1.0).contains(&self.holdout) {
            return Err(bad("holdout", "must be at least 0 and below 1"));
        }
        self.generate.check()?;
        self.views()?;
        self.weights.parse::<Precision>()?;
        self.special_tokens.parse::<SpecialTokens>()?;
        if let Some(url) = &self.server {
            crate::server::options(url, self)?.check()?;
        }
        if self.max_length < 2 {
            return Err(bad("max_length", "must be at least 2"));
        }
        if self.batch_tokens == 0 {
            return Err(bad("batch_tokens", "must be at least 1"));
        }
        if self.seed_pairs == Some(0) {
            return Err(bad("seed_pairs", "must be at least 1"));
        }
        if self.splits == 0 {
            return Err(bad("splits", "must be at least 1"));
        }
        if self.threads == Some(0) {
            return Err(bad("threads", "must be at least 1"));
        }
        Ok(())
    }

    /// Whether cross-validation on the training pairs has something to choose.
    pub fn chooses(&self) -> bool {
        self.views == Views::Auto || self.augment == Augment::Auto
    }

    /// Whether the choice is one that nobody asked for.
    pub fn is_default_choice(&self) -> bool {
        self.by_default && self.augment != Augment::Auto
    }

    /// The settings of the method.
    pub fn method(&self) -> MethodSettings {
        MethodSettings {
            augment: self.augment.factor(),
            pairing: self.pairing,
            standardise: self.standardise,
            seed: self.seed,
            vae: self.vae.clone(),
            source: self.source,
            synthesis: self.synthesis.clone(),
            rivals: self.rivals.clone(),
            head: self.head.clone(),
        }
    }

    /// How datasets are read.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions { strict: self.strict, ..ReadOptions::default() }
    }

    /// The options of the encoder.
    pub fn encoder(&self) -> Result<EncoderOptions, CliError> {
        Ok(EncoderOptions {
            template: template(&self.template)?,
            views: self.views()?,
            weights: self.weights.parse()?,
            max_length: self.max_length,
            add_bos: match self.bos {
                Bos::Auto => None,
                Bos::Always => Some(true),
                Bos::Never => Some(false),
            },
            special_tokens: self.special_tokens.parse()?,
            cache_dir: Some(self.cache_dir()?.join("embeddings")),
            keep_vectors: self.keep_vectors,
            batch_tokens: self.batch_tokens,
            ..EncoderOptions::default()
        })
    }

    /// The views of a text: those listed, or one for each layer.
    pub fn views(&self) -> Result<Vec<ViewChoice>, CliError> {
        if !self.view.is_empty() {
            if self.layers.is_some() {
                return Err(bad(
                    "view",
                    "and `layers` exclude each other: name layers in the views",
                ));
            }
            return Ok(self.view.iter().map(|v| v.parse()).collect::<Result<_, _>>()?);
        }
        let pooling: Pooling = self.pooling.parse()?;
        let view = |layer| ViewChoice { layer, pooling, suffix: None };
        match &self.layers {
            None => Ok(vec![view(LayerChoice::Index(self.layer))]),
            Some(list) => {
                let layers = list.split(',').map(|l| l.trim().parse::<LayerChoice>());
                Ok(layers.map(|l| l.map(view)).collect::<Result<_, _>>()?)
            }
        }
    }

    /// Where models and embeddings are kept: the setting, $LENS_CACHE, the user's cache folder.
    pub fn cache_dir(&self) -> Result<PathBuf, CliError> {
        if let Some(dir) = &self.cache {
            return Ok(dir.clone());
        }
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        set("LENS_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("lens")))
            .or_else(|| set("HOME").map(|d| d.join(".cache").join("lens")))
            .ok_or_else(|| bad("cache", "no home folder: name a folder with --cache"))
    }

    /// Starts the thread pool that everything parallel runs in.
    pub fn start_threads(&self) -> Result<(), CliError> {
        let threads = self.threads.unwrap_or(0);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|e| bad("threads", e))
    }

    /// As a settings file.
    pub fn to_toml(&self) -> Result<String, CliError> {
        toml::to_string(self).map_err(|e| bad("settings", e))
    }
}

pub fn bad(origin: &str, detail: impl ToString) -> CliError {
    CliError::Settings { origin: origin.to_owned(), detail: detail.to_string().trim().to_owned() }
}

pub fn template(name: &str) -> Result<TemplateChoice, CliError> {
    Ok(match name {
        "auto" => TemplateChoice::Auto,
        "chat" => TemplateChoice::Chat,
        "plain" => TemplateChoice::Plain,
        path => TemplateChoice::Custom(std::fs::read_to_string(path).map_err(|e| {
            bad("template", format!("`{path}` is not auto, chat or plain, nor a file: {e}"))
        })?),
    })
}

/// The settings of the method that a reward model was trained with, and the name of its encoder.
fn of_bundle(path: &Path) -> Result<toml::Table, CliError> {
    let manifest = Manifest::read(path)?;
    let name = path.display().to_string();
    let mut table = toml::Table::try_from(&manifest.method).map_err(|e| bad(&name, e))?;
    if let Some(encoder) = manifest.encoder {
        table.insert("model".to_owned(), encoder.model.into());
    }
    Ok(table)
}

/// Reads a settings file, and checks it by itself, so that errors name its lines.
fn read(path: &Path) -> Result<toml::Table, CliError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| bad(&name, e))?;
    toml::from_str::<Settings>(&text).map_err(|e| bad(&name, e))?;
    toml::from_str(&text).map_err(|e| bad(&name, e))
}

/// Values of `over` take the place of those in `table`; what `over` does not name stays, also
/// within tables.
fn overlay(table: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => overlay(inner, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// Applies one `--set KEY=VALUE`. A value that is not TOML is taken as text.
fn set(table: &mut toml::Table, entry: &str) -> Result<(), CliError> {
    let origin = format!("--set {entry}");
    let (key, value) = entry.split_once('=').ok_or_else(|| bad(&origin, "expected KEY=VALUE"))?;
    let value = match toml::from_str::<toml::Table>(&format!("value = {value}")) {
        Ok(mut parsed) => parsed.remove("value").ok_or_else(|| bad(&origin, "no value"))?,
        Err(_) => toml::Value::String(value.to_owned()),
    };
    let mut table = table;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            table.insert(part.to_owned(), value);
            break;
        }
        let inner = table
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut();
        table = inner.ok_or_else(|| bad(&origin, format!("`{part}` is not a table")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
