//! The reward models that are served, and how they are read again.
//!
//! A request keeps the model that it began with. A reload replaces the list in which the next
//! request looks its model up, so that no request is lost, and none is answered half by one model
//! and half by another.

use crate::clock::now;
use crate::engine::Engine;
use crate::error::{BoxedError, ServeError};
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::nearest::{NearestPairs, usable_pairs};
use crate::options::Options;
use crate::printable::{message_of_panic, printable};
use axum::http::StatusCode;
use lens_core::vae::Vae;
use lens_core::{Novelty, Quiet, RewardModel};
use lens_data::Bundle;
use lens_data::bundle::Manifest;
use lens_encoder::TextEncoder;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Opens reward models and the encoders that they were trained with. This crate does not know where
/// models lie, nor how their encoders are set up. Called from threads that may block.
pub trait ModelSource: Send + Sync {
    /// Opens the bundle in a folder.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    fn bundle(&self, path: &Path) -> Result<Bundle, BoxedError>;

    /// Opens the encoder of a bundle; none for a bundle that was trained on arrays of unknown
    /// origin. If `keep_vectors`, the encoder keeps the vectors that it computes on disk.
    ///
    /// # Errors
    /// Whatever is wrong with it, also that it is another encoder than the one of the training.
    fn encoder(
        &self,
        bundle: &Bundle,
        path: &Path,
        keep_vectors: bool,
    ) -> Result<Option<Box<dyn TextEncoder>>, BoxedError>;
}

/// A reward model that is served.
pub(crate) struct Model {
    /// Its name in requests.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Embeddings in, rewards out.
    pub reward: RewardModel,
    /// Measures how far embeddings are from those trained on; none for a model without a VAE.
    pub novelty: Option<(Vae, Novelty)>,
    /// Turns texts into embeddings; none for a model of arrays of unknown origin.
    pub engine: Option<Arc<Engine>>,
    /// The pairs among which the nearest to a response are searched.
    pub nearest: Option<NearestPairs>,
    /// When it was loaded, in seconds since 1970.
    pub loaded: u64,
}

impl Model {
    /// Width of its embeddings.
    pub fn dim(&self) -> usize {
        self.reward.standardiser.mean.len()
    }

    /// The engine that turns texts into its embeddings.
    ///
    /// # Errors
    /// 422 for a model that takes embeddings only.
    pub fn engine(&self) -> Result<&Engine, Failure> {
        self.engine.as_deref().ok_or_else(|| {
            let name = &self.name;
            let message = format!(
                "`{name}` was trained on arrays of unknown origin: it takes embeddings, not text"
            );
            Failure::field("model", message)
        })
    }
}

/// Why a model was not read again.
#[derive(Debug)]
pub(crate) enum NotReloaded {
    /// There is no model of that name.
    Unknown(String),
    /// The new one cannot be used; the old one goes on.
    Broken { name: String, reason: String },
}

type Models = Arc<Vec<Arc<Model>>>;

/// All models, the first of which is the default.
pub(crate) struct Registry {
    current: RwLock<Models>,
    /// Held while models are read again, so that this happens once at a time.
    reloading: tokio::sync::Mutex<()>,
    source: Box<dyn ModelSource>,
    options: Arc<Options>,
    metrics: Arc<Metrics>,
}

impl Registry {
    /// Opens every model that the options name, and lets each encoder compute a first text, so that
    /// weights are loaded before the first request comes.
    pub fn open(
        options: Arc<Options>,
        source: Box<dyn ModelSource>,
        metrics: Arc<Metrics>,
    ) -> Result<Registry, ServeError> {
        let registry = Registry {
            current: RwLock::default(),
            reloading: tokio::sync::Mutex::default(),
            source,
            options,
            metrics,
        };
        let mut models: Vec<Arc<Model>> = Vec::new();
        for (name, path) in &registry.options.models {
            let model = registry.load(name, path, &models)?;
            models.push(Arc::new(model));
        }
        *registry.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(models);
        Ok(registry)
    }

    /// The models as they are now.
    pub fn all(&self) -> Models {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The model of that name, or the first one if no name is given.
    ///
    /// # Errors
    /// 404, which lists the models that are served.
    pub fn find(&self, name: Option<&str>) -> Result<Arc<Model>, Failure> {
        let all = self.all();
        let first = || {
            let none = || Failure::internal("no model is loaded");
            all.first().cloned().ok_or_else(none)
        };
        let Some(name) = name else { return first() };
        match all.iter().find(|m| m.name == name) {
            Some(model) => Ok(Arc::clone(model)),
            None if self.options.any_model => first(),
            None => Err(unknown_model(name, &all)),
        }
    }

    /// Whether there are models, and the threads of all encoders are alive.
    pub fn alive(&self) -> bool {
        let all = self.all();
        !all.is_empty() && all.iter().filter_map(|m| m.engine.as_ref()).all(|e| e.alive())
    }

    /// The engines of all models, each once.
    pub fn engines(&self) -> Vec<Arc<Engine>> {
        let mut engines: Vec<Arc<Engine>> = Vec::new();
        for engine in self.all().iter().filter_map(|m| m.engine.as_ref()) {
            if !engines.iter().any(|e| Arc::ptr_eq(e, engine)) {
                engines.push(Arc::clone(engine));
            }
        }
        engines
    }

    /// Has every engine give up what it computes and what waits.
    pub fn abandon(&self) {
        self.engines().iter().for_each(|engine| engine.abandon());
    }

    /// Reads one model, or all, again from their folders, on a thread that may block. Unless all of
    /// them can be used, all old ones stay. Who asks while models are being read waits for his turn;
    /// once begun it goes on, even if nobody waits for it.
    pub async fn reload(self: Arc<Self>, name: Option<String>) -> Result<Vec<String>, NotReloaded> {
        let its = Arc::clone(&self);
        let work = tokio::spawn(async move {
            let _one = its.reloading.lock().await;
            let reader = Arc::clone(&its);
            let read = move || reader.read_again(name.as_deref());
            tokio::task::spawn_blocking(read).await
        });
        let broken =
            |name: &str, reason: String| Err(NotReloaded::Broken { name: name.to_owned(), reason });
        match work.await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) | Err(error) => broken("the models", error.to_string()),
        }
    }

    fn read_again(&self, name: Option<&str>) -> Result<Vec<String>, NotReloaded> {
        let mut models: Vec<Arc<Model>> = self.all().to_vec();
        let mut reloaded = Vec::new();
        for i in 0..models.len() {
            let old = Arc::clone(&models[i]);
            if name.is_some_and(|name| name != old.name) {
                continue;
            }
            // What a damaged folder makes panic changes nothing either.
            let load = || self.load(&old.name, &old.path, &models);
            let broken = |reason: &str| NotReloaded::Broken {
                name: old.name.clone(),
                reason: printable(reason),
            };
            let new = match catch_unwind(AssertUnwindSafe(load)) {
                Ok(loaded) => loaded.map_err(|e| broken(&with_causes(&e)))?,
                Err(panic) => {
                    let said = message_of_panic(&*panic);
                    tracing::error!("reading `{}` panicked: {}", old.name, printable(said));
                    return Err(broken("reading it panicked; see the log"));
                }
            };
            reloaded.push(old.name.clone());
            models[i] = Arc::new(new);
        }
        match name {
            Some(name) if reloaded.is_empty() => Err(NotReloaded::Unknown(name.to_owned())),
            _ => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(models);
                Ok(reloaded)
            }
        }
    }

    /// Opens a model. An encoder that is the same as one of `others` is not opened twice.
    fn load(&self, name: &str, path: &Path, others: &[Arc<Model>]) -> Result<Model, ServeError> {
        let bundle = self.source.bundle(path).map_err(ServeError::Model)?;
        let encoder = self.source.encoder(&bundle, path, false).map_err(ServeError::Model)?;
        let engine = match encoder {
            None => None,
            Some(encoder) => Some(self.engine(encoder, others)?),
        };
        let nearest = match &self.options.pairs {
            None => None,
            Some(file) => {
                let encoder =
                    self.source.encoder(&bundle, path, true).map_err(ServeError::Model)?;
                let refuse = |detail| ServeError::Pairs { path: file.clone(), detail };
                let pairs = usable_pairs(file).map_err(refuse)?;
                let none = || refuse(format!("`{name}` takes embeddings only"));
                let encoder = encoder.ok_or_else(none)?;
                let standardiser = &bundle.model.standardiser;
                Some(NearestPairs::embed(pairs, &*encoder, standardiser).map_err(refuse)?)
            }
        };
        Ok(Model {
            name: name.to_owned(),
            path: path.to_owned(),
            manifest: bundle.manifest,
            reward: bundle.model,
            novelty: bundle.vae.zip(bundle.novelty),
            engine,
            nearest,
            loaded: now(),
        })
    }

    fn engine(
        &self,
        encoder: Box<dyn TextEncoder>,
        others: &[Arc<Model>],
    ) -> Result<Arc<Engine>, ServeError> {
        let address = encoder.address();
        let same = |engine: &&Arc<Engine>| {
            engine.alive()
                && engine.server() == address
                && engine.identity().differences(encoder.identity()).is_empty()
        };
        if let Some(engine) = others.iter().filter_map(|m| m.engine.as_ref()).find(same) {
            return Ok(Arc::clone(engine));
        }
        let first = ["Hello.".to_owned()];
        encoder.encode_texts(&first, &Quiet).map_err(|e| ServeError::Model(Box::new(e)))?;
        let engine = Engine::start(encoder, &self.options.limits, Arc::clone(&self.metrics))?;
        Ok(Arc::new(engine))
    }
}

/// The refusal (404) for a model that is not served.
pub(crate) fn unknown_model(name: &str, all: &[Arc<Model>]) -> Failure {
    let names: Vec<&str> = all.iter().map(|m| m.name.as_str()).collect();
    let message = format!("there is no model `{name}` here; there is: {}", names.join(", "));
    Failure {
        param: Some("model".to_owned()),
        ..Failure::new(StatusCode::NOT_FOUND, "model_not_found", message)
    }
}

/// The message of an error, followed by those of its causes that it does not hold already.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = inner.source();
    }
    message
}
