//! Every setting, from three places: defaults, then the settings file, then flags and --set.

mod augment;
mod serve;

pub use augment::Augment;
pub use serve::ServeSettings;

use crate::args::{Cli, Command};
use crate::error::CliError;
use lens::{
    BundleModelOptions, Error, Keep, MethodOptions, ModelOptions, RuntimeOptions, ServerOptions,
    StoredPairsOptions, ViewSelection, server_key,
};
use lens_core::MethodSettings;
use lens_core::head::HeadSettings;
use lens_core::pairing::Pairing;
use lens_core::source::{RivalSettings, SourceKind};
use lens_core::synthesis::SynthesisSettings;
use lens_core::vae::VaeSettings;
use lens_data::bundle::Manifest;
use lens_data::files::read_text;
use lens_data::{FloatType, ReadOptions, StoreKeys};
use lens_encoder::{EncoderOptions, GenerateOptions, LayerChoice, Pooling, ServerApi, ViewChoice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How views of the texts, and the head on them, are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Views {
    /// As the settings name them; `asked` in earlier settings files.
    #[serde(alias = "asked")]
    Fixed,
    /// Chosen by cross-validation on the training pairs.
    Auto,
    /// The same, among views that can be exported.
    Exportable,
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

/// Settings that say which hidden states are taken.
/// Most threads: more help nobody, and starting a great many takes the machine's processes and memory.
const MAX_THREADS: usize = 1024;
const VIEW_SETTINGS: [&str; 4] = ["layer", "layers", "pooling", "view"];

/// Where one of these is named, `lens run` does not select views and head unless it is told to.
const SELECTED: [&str; 8] =
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
    /// Whether the key may be sent to another machine by http, in the clear.
    pub server_plain_key: bool,
    /// Hidden state by transformers' index: 0 the embedding, -1 the last.
    pub layer: i32,
    /// Several layers side by side: `all`, or numbers such as `0,9,-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<String>,
    /// `last`, `mean`, `prompt-last` or (for encoders such as BERT) `first`.
    pub pooling: String,
    /// Several views side by side, each `layer=..,pooling=..,suffix=..`.
    pub view: Vec<String>,
    /// Whether views and head are those that are named, or selected on the training pairs.
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
    /// Of a model that scores several labels, the one that is the reward; `none`: it is an encoder only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Tokens computed in one pass.
    pub batch_tokens: usize,
    /// In which form embeddings are stored: `f32`, `f16`, `bf16`.
    pub dtype: FloatType,
    /// Stop at the first malformed row.
    pub strict: bool,
    /// Names of columns: `prompt=question_text,chosen=good`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    /// Whether pairs without a prompt are meant to have none.
    pub no_prompt: bool,
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
    /// The settings that the user named.
    #[serde(skip)]
    pub given: BTreeSet<String>,
    /// Whether `views = "auto"` is a default that the user did not name.
    #[serde(skip)]
    pub views_by_default: bool,
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
            server_plain_key: false,
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
            label: None,
            batch_tokens: encoder.batch_tokens,
            dtype: FloatType::default(),
            strict: false,
            columns: None,
            no_prompt: false,
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
            given: BTreeSet::new(),
            views_by_default: false,
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
        let given = table.keys().cloned().collect();
        // `lens run` selects views and head unless something is said of them.
        let views_by_default = matches!(cli.command, Command::Run(_))
            && !SELECTED.into_iter().any(|key| table.contains_key(key));
        if views_by_default {
            table.insert("views".to_owned(), "auto".into());
        }
        if matches!(cli.command, Command::Run(_) | Command::Train(_))
            && let Some(path) = table.get("warm_start").and_then(toml::Value::as_str)
        {
            let mut earlier = settings_of_bundle(Path::new(path))?;
            overlay(&mut earlier, table);
            table = earlier;
        }
        let mut settings: Settings = table.try_into().map_err(|e| bad("settings", e))?;
        settings.given = given;
        settings.views_by_default = views_by_default;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), CliError> {
        self.method().check()?;
        self.generate.check()?;
        self.model()?.check()?;
        if !(0.0..1.0).contains(&self.holdout) {
            return Err(bad("holdout", "must be at least 0 and below 1"));
        }
        let at_least_one = [
            ("seed_pairs", self.seed_pairs),
            ("threads", self.threads),
            ("splits", Some(self.splits)),
        ];
        if self.threads.is_some_and(|threads| threads > MAX_THREADS) {
            return Err(bad("threads", format!("must be at most {MAX_THREADS}")));
        }
        match at_least_one.into_iter().find(|(_, value)| *value == Some(0)) {
            Some((name, _)) => Err(bad(name, "must be at least 1")),
            None => Ok(()),
        }
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

    /// The method, and which of its settings are selected.
    pub fn method_options(&self) -> MethodOptions {
        MethodOptions {
            settings: self.method(),
            views: match (self.views, self.views_by_default) {
                (Views::Fixed, _) => ViewSelection::Fixed,
                (Views::Exportable, _) => ViewSelection::Exportable,
                (Views::Auto, false) => ViewSelection::Auto,
                (Views::Auto, true) => ViewSelection::AutoIfEnough,
            },
            select_augmentation: self.augment == Augment::Auto,
            keep: self.keep,
        }
    }

    /// The language model, and how texts become embeddings with it.
    pub fn model(&self) -> Result<ModelOptions, CliError> {
        Ok(ModelOptions {
            model: self.model.clone(),
            views: self.views()?,
            template: self.template.clone(),
            max_length: self.max_length,
            add_bos: self.add_bos(),
            special_tokens: self.special_tokens.parse()?,
            runtime: self.runtime()?,
        })
    }

    /// How the rows of datasets are read.
    pub fn reading(&self) -> Result<ReadOptions, CliError> {
        let columns = self.columns.as_deref().map(str::parse).transpose()?;
        Ok(ReadOptions {
            strict: self.strict,
            columns: columns.unwrap_or_default(),
            no_prompt: self.no_prompt,
            ..ReadOptions::default()
        })
    }

    /// How a language model runs.
    pub fn runtime(&self) -> Result<RuntimeOptions, CliError> {
        Ok(RuntimeOptions {
            weights: self.weights.parse()?,
            batch_tokens: self.batch_tokens,
            cache: self.cache.clone(),
            keep_embeddings: true,
            label: self.label.clone(),
            server: ServerOptions {
                url: self.server.clone(),
                api: self.server_api,
                concurrency: self.server_concurrency,
                batch: self.server_batch,
                timeout: Duration::from_secs(self.server_timeout),
                retries: self.server_retries,
                key: server_key(&self.server_key_env)?,
                plain_key: self.server_plain_key,
            },
        })
    }

    /// A bundle's own encoder, whose model may be in another place.
    pub fn encoder_of_bundle(&self, model: Option<&str>) -> Result<BundleModelOptions, CliError> {
        Ok(BundleModelOptions {
            model: model.map(str::to_owned),
            runtime: self.runtime()?,
            ..BundleModelOptions::default()
        })
    }

    /// The encoder of an earlier model that is trained further: what the user named is used, so that
    /// it is refused where it differs.
    pub fn encoder_of_earlier_model(&self) -> Result<BundleModelOptions, CliError> {
        let given = |name: &str| self.given.contains(name);
        let ModelOptions { model, views, template, max_length, add_bos, special_tokens, runtime } =
            self.model()?;
        Ok(BundleModelOptions {
            model: given("model").then_some(model),
            views: self.names_views().then_some(views),
            template: given("template").then_some(template),
            max_length: given("max_length").then_some(max_length),
            add_bos: given("bos").then_some(add_bos),
            special_tokens: given("special_tokens").then_some(special_tokens),
            runtime,
        })
    }

    /// Embedded pairs in files, with the views that the user named.
    pub fn stored(&self, files: Vec<PathBuf>) -> Result<StoredPairsOptions, CliError> {
        Ok(StoredPairsOptions {
            keys: StoreKeys {
                chosen: self.chosen_key.clone(),
                rejected: self.rejected_key.clone(),
            },
            views: if self.names_views() { self.views()? } else { Vec::new() },
            memory_mb: self.memory_mb,
            ..StoredPairsOptions::new(files)
        })
    }

    /// Whether the user named hidden states.
    fn names_views(&self) -> bool {
        VIEW_SETTINGS.into_iter().any(|name| self.given.contains(name))
    }

    fn add_bos(&self) -> Option<bool> {
        match self.bos {
            Bos::Auto => None,
            Bos::Always => Some(true),
            Bos::Never => Some(false),
        }
    }

    /// The views of a text: those listed, or one for each layer.
    fn views(&self) -> Result<Vec<ViewChoice>, CliError> {
        if !self.view.is_empty() {
            if self.layers.is_some() {
                return Err(bad(
                    "view",
                    "and `layers` exclude each other: name layers in the views",
                ));
            }
            let views = self.view.iter().map(|v| v.parse());
            return Ok(views.collect::<Result<_, _>>()?);
        }
        let pooling: Pooling = self.pooling.parse()?;
        let view = |layer| ViewChoice { layer, pooling, suffix: None };
        match &self.layers {
            None => Ok(vec![view(LayerChoice::Index(self.layer))]),
            Some(list) => {
                let layers = list.split(',').map(|l| l.trim().parse::<LayerChoice>());
                let views = layers.map(|l| l.map(view));
                Ok(views.collect::<Result<_, _>>()?)
            }
        }
    }

    /// Starts the thread pool that everything parallel runs in.
    pub fn start_threads(&self) -> Result<(), CliError> {
        // Else the pool would take the number from a variable of the environment, whatever it is.
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.unwrap_or_else(cores))
            .build_global()
            .map_err(|e| bad("threads", e))
    }

    /// As a settings file.
    pub fn to_toml(&self) -> Result<String, CliError> {
        toml::to_string(self).map_err(|e| bad("settings", e))
    }
}

/// The error of a setting that does not fit.
pub fn bad(origin: &str, detail: impl ToString) -> CliError {
    Error::option(origin, detail).into()
}

/// The settings of the method that a reward model was trained with, and the name of its encoder.
fn settings_of_bundle(path: &Path) -> Result<toml::Table, CliError> {
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
    let text = read_text(path).map_err(|e| bad(&name, e))?;
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
