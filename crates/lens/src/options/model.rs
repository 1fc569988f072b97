//! Which language model makes the embeddings, and how.

use crate::Error;
use lens_data::files::read_text;
use lens_encoder::{
    EncoderOptions, Precision, RemoteOptions, Secret, ServerApi, SpecialTokens, TemplateChoice,
    ViewChoice, models,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A language model, and how texts become embeddings with it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelOptions {
    /// A name that [`crate::pull()`] knows, a file or folder, `org/name` of the Hugging Face Hub, or an
    /// https address; with a server, the model's name there. Defaults to Gemma 3 270M.
    pub model: String,
    /// The hidden states that lie side by side in an embedding. Defaults to one view: the last token
    /// at the last layer.
    pub views: Vec<ViewChoice>,
    /// How prompt and response become one text: `auto`, `chat`, `plain`, or the path of a Jinja file.
    /// Defaults to `auto`.
    pub template: String,
    /// Longer texts lose the beginning of the prompt. In tokens; defaults to 2048.
    pub max_length: usize,
    /// Whether a BOS token begins each text. Defaults to what the model file says.
    pub add_bos: Option<bool>,
    /// What names of special tokens in texts are. Defaults to [`SpecialTokens::Text`].
    pub special_tokens: SpecialTokens,
    /// How the model runs.
    pub runtime: RuntimeOptions,
}

impl Default for ModelOptions {
    fn default() -> Self {
        let encoder = EncoderOptions::default();
        ModelOptions {
            model: models::DEFAULT.to_owned(),
            views: encoder.views,
            template: "auto".to_owned(),
            max_length: encoder.max_length,
            add_bos: encoder.add_bos,
            special_tokens: encoder.special_tokens,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// Where and how a language model runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeOptions {
    /// In which form weights are held. Defaults to [`Precision::Auto`]: what fits into memory.
    pub weights: Precision,
    /// Tokens computed in one pass; more take more memory. Defaults to 2048.
    pub batch_tokens: usize,
    /// Where models and embeddings are kept. Defaults to `$LENS_CACHE`, or the user's cache folder.
    pub cache: Option<PathBuf>,
    /// Whether finished embeddings are kept in the cache. Defaults to `true`.
    pub keep_embeddings: bool,
    /// Of a model that scores several labels, the one that is the reward, by name or number; `none` takes a
    /// reward model as an encoder only. Defaults to the only one.
    pub label: Option<String>,
    /// A server that computes the embeddings instead of this process.
    pub server: ServerOptions,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        let encoder = EncoderOptions::default();
        RuntimeOptions {
            weights: encoder.weights,
            batch_tokens: encoder.batch_tokens,
            cache: None,
            keep_embeddings: true,
            label: None,
            server: ServerOptions::default(),
        }
    }
}

/// A server that computes embeddings, and how it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerOptions {
    /// Its address, such as `http://localhost:8000`. `None`: the model runs in this process; a bundle that
    /// was trained with a server wants one.
    pub url: Option<String>,
    /// How it is asked. Defaults to [`ServerApi::Auto`].
    pub api: ServerApi,
    /// Requests at a time. Defaults to 8.
    pub concurrency: usize,
    /// Texts in a request. Defaults to 16.
    pub batch: usize,
    /// How long an answer may take. Defaults to two minutes.
    pub timeout: Duration,
    /// Tries after the first. Defaults to 5.
    pub retries: u32,
    /// Sent as `Authorization: Bearer`. Defaults to none.
    pub key: Option<Secret>,
    /// Whether the key may cross a network in the clear, by http. Defaults to `false`.
    pub plain_key: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        let RemoteOptions { api, concurrency, batch, timeout, retries, .. } =
            RemoteOptions::new(String::new());
        ServerOptions {
            url: None,
            api,
            concurrency,
            batch,
            timeout,
            retries,
            key: None,
            plain_key: false,
        }
    }
}

/// The key of a server out of the environment variable `variable`; `None` where it is not set or blank.
///
/// # Errors
/// [`Error::Option`] for a value that no header can carry.
pub fn server_key(variable: &str) -> Result<Option<Secret>, Error> {
    let unusable = || Error::option(variable, "does not hold a key: no header can carry it");
    match std::env::var(variable) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Secret::new(&text).map(Some).ok_or_else(unusable),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(unusable()),
    }
}

/// The encoder that a bundle was trained with, or what is to take its place. What is `None` is as the
/// bundle says; what is named and differs is refused, for the bundle's rewards would mean nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BundleModelOptions {
    /// Another place of the same model: a file or folder, a name.
    pub model: Option<String>,
    /// As [`ModelOptions::views`].
    pub views: Option<Vec<ViewChoice>>,
    /// As [`ModelOptions::template`].
    pub template: Option<String>,
    /// As [`ModelOptions::max_length`].
    pub max_length: Option<usize>,
    /// As [`ModelOptions::add_bos`].
    pub add_bos: Option<Option<bool>>,
    /// As [`ModelOptions::special_tokens`].
    pub special_tokens: Option<SpecialTokens>,
    /// How the model runs.
    pub runtime: RuntimeOptions,
}

impl ModelOptions {
    /// Checks what can be checked before any file is read, but for the template's.
    ///
    /// # Errors
    /// [`Error::Option`], or [`lens_encoder::EncoderError::InvalidOption`] of a server's.
    pub fn check(&self) -> Result<(), Error> {
        let template = template(&self.template)?;
        if self.views.is_empty() {
            return Err(Error::option("view", "must name at least one view"));
        }
        if self.max_length < 2 {
            return Err(Error::option("max_length", "must be at least 2"));
        }
        self.runtime.check()?;
        match &self.runtime.server.url {
            Some(url) => Ok(self.runtime.remote(url, &self.model, template)?.check()?),
            None => Ok(()),
        }
    }

    /// The same model with other views.
    pub fn with_views(&self, views: Vec<ViewChoice>) -> Self {
        ModelOptions { views, ..self.clone() }
    }

    /// The options of an encoder in this process.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn encoder_options(&self) -> Result<EncoderOptions, Error> {
        Ok(EncoderOptions {
            template: template(&self.template)?,
            views: self.views.clone(),
            max_length: self.max_length,
            add_bos: self.add_bos,
            special_tokens: self.special_tokens,
            ..self.runtime.encoder()?
        })
    }
}

impl RuntimeOptions {
    fn check(&self) -> Result<(), Error> {
        match self.batch_tokens {
            0 => Err(Error::option("batch_tokens", "must be at least 1")),
            _ => Ok(()),
        }
    }

    /// The folder of models and embeddings: [`RuntimeOptions::cache`], `$LENS_CACHE`, or the user's
    /// cache folder.
    ///
    /// # Errors
    /// [`Error::Option`] where there is no home folder.
    pub fn cache_folder(&self) -> Result<PathBuf, Error> {
        if let Some(folder) = &self.cache {
            return Ok(folder.clone());
        }
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        set("LENS_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("lens")))
            .or_else(|| set("HOME").map(|d| d.join(".cache").join("lens")))
            .ok_or_else(|| Error::option("cache", "no home folder: name a folder with --cache"))
    }

    /// The folder of models.
    pub(crate) fn models_folder(&self) -> Result<PathBuf, Error> {
        Ok(self.cache_folder()?.join("models"))
    }

    /// An encoder's options that say how it runs; all others are defaults.
    pub(crate) fn encoder(&self) -> Result<EncoderOptions, Error> {
        Ok(EncoderOptions {
            weights: self.weights,
            batch_tokens: self.batch_tokens,
            cache_dir: Some(self.cache_folder()?.join("embeddings")),
            keep_vectors: self.keep_embeddings,
            ..EncoderOptions::default()
        })
    }

    /// The options of an encoder on a server.
    pub(crate) fn remote(
        &self,
        url: &str,
        model: &str,
        template: TemplateChoice,
    ) -> Result<RemoteOptions, Error> {
        let ServerOptions { api, concurrency, batch, timeout, retries, key, plain_key, .. } =
            self.server.clone();
        Ok(RemoteOptions {
            api,
            // The default names a local model, which no server is asked for.
            model: Some(model.to_owned()).filter(|m| m != models::DEFAULT),
            key,
            plain_key,
            template,
            concurrency,
            batch,
            timeout: timeout.max(Duration::from_secs(1)),
            retries,
            cache_dir: match self.keep_embeddings {
                true => Some(self.cache_folder()?.join("embeddings")),
                false => None,
            },
            ..RemoteOptions::new(url)
        })
    }
}

/// The template of a name, or of a Jinja file.
pub(crate) fn template(name: &str) -> Result<TemplateChoice, Error> {
    Ok(match name {
        "auto" => TemplateChoice::Auto,
        "chat" => TemplateChoice::Chat,
        "plain" => TemplateChoice::Plain,
        path => TemplateChoice::Custom(read_text(Path::new(path)).map_err(|e| {
            Error::option(
                "template",
                format!("`{path}` is not auto, chat or plain, nor a file: {e}"),
            )
        })?),
    })
}
