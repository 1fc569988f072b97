//! Options of an encoder as a table of settings, which is how a study names its encoders.

use super::{ModelOptions, StoredPairsOptions, server_key};
use crate::Error;
use lens_encoder::{LayerChoice, Pooling, ServerApi, ViewChoice};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// When a BOS token begins a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bos {
    Auto,
    Always,
    Never,
}

/// The files of stored embeddings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Two([PathBuf; 2]),
}

/// The table of an encoder. What it does not name is as in the options that it goes over.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EncoderTable {
    arrays: Option<Files>,
    batch_tokens: Option<usize>,
    bos: Option<Bos>,
    chosen_key: Option<String>,
    layer: Option<i32>,
    layers: Option<String>,
    max_length: Option<usize>,
    model: Option<String>,
    pooling: Option<String>,
    rejected_key: Option<String>,
    server: Option<String>,
    server_api: Option<ServerApi>,
    server_batch: Option<usize>,
    server_concurrency: Option<usize>,
    server_key_env: Option<String>,
    server_plain_key: Option<bool>,
    server_retries: Option<u32>,
    server_timeout: Option<u64>,
    special_tokens: Option<String>,
    template: Option<String>,
    view: Option<Vec<String>>,
    weights: Option<String>,
}

impl EncoderTable {
    /// Whether the table says which hidden states are taken.
    pub(crate) fn names_views(&self) -> bool {
        self.layer.is_some()
            || self.layers.is_some()
            || self.pooling.is_some()
            || self.view.is_some()
    }

    /// The options of a model with what the table names.
    pub(crate) fn over_model(&self, base: &ModelOptions) -> Result<ModelOptions, Error> {
        let mut options = base.clone();
        if self.names_views() {
            options.views = self.views(&base.views)?;
        }
        replace(&mut options.model, &self.model);
        replace(&mut options.template, &self.template);
        replace(&mut options.max_length, &self.max_length);
        if let Some(bos) = self.bos {
            options.add_bos = match bos {
                Bos::Auto => None,
                Bos::Always => Some(true),
                Bos::Never => Some(false),
            };
        }
        if let Some(special_tokens) = &self.special_tokens {
            options.special_tokens = special_tokens.parse()?;
        }
        let runtime = &mut options.runtime;
        if let Some(weights) = &self.weights {
            runtime.weights = weights.parse()?;
        }
        replace(&mut runtime.batch_tokens, &self.batch_tokens);
        let server = &mut runtime.server;
        if self.server.is_some() {
            server.url.clone_from(&self.server);
        }
        replace(&mut server.api, &self.server_api);
        replace(&mut server.batch, &self.server_batch);
        replace(&mut server.concurrency, &self.server_concurrency);
        replace(&mut server.plain_key, &self.server_plain_key);
        replace(&mut server.retries, &self.server_retries);
        if let Some(variable) = &self.server_key_env {
            server.key = server_key(variable)?;
        }
        replace(&mut server.timeout, &self.server_timeout.map(Duration::from_secs));
        options.check()?;
        Ok(options)
    }

    /// The views that the table names. What it leaves open is as in the only view of `base`.
    pub(crate) fn views(&self, base: &[ViewChoice]) -> Result<Vec<ViewChoice>, Error> {
        if let Some(views) = self.view.as_ref().filter(|views| !views.is_empty()) {
            if self.layers.is_some() {
                let detail = "and `layers` exclude each other: name layers in the views";
                return Err(Error::option("view", detail));
            }
            let views = views.iter().map(|view| view.parse());
            return Ok(views.collect::<Result<_, _>>()?);
        }
        let base = match base {
            [ViewChoice { layer, pooling, suffix: None }] => (*layer, *pooling),
            _ => (ViewChoice::default().layer, ViewChoice::default().pooling),
        };
        let pooling: Pooling = match &self.pooling {
            Some(pooling) => pooling.parse()?,
            None => base.1,
        };
        let view = |layer| ViewChoice { layer, pooling, suffix: None };
        match &self.layers {
            None => Ok(vec![view(self.layer.map_or(base.0, LayerChoice::Index))]),
            Some(list) => {
                let layers = list.split(',').map(|layer| layer.trim().parse::<LayerChoice>());
                let views = layers.map(|layer| layer.map(view));
                Ok(views.collect::<Result<_, _>>()?)
            }
        }
    }

    /// The options of stored pairs with what the table names; `data` are the files where it names
    /// none.
    pub(crate) fn over_stored(
        &self,
        base: &StoredPairsOptions,
        data: Option<&PathBuf>,
    ) -> Result<StoredPairsOptions, Error> {
        let mut options = base.clone();
        options.files = match (&self.arrays, data) {
            (Some(Files::One(file)), _) => vec![file.clone()],
            (Some(Files::Two(files)), _) => files.to_vec(),
            (None, Some(data)) => vec![data.clone()],
            (None, None) => return Err(Error::Refused("a study needs pairs".to_owned())),
        };
        replace(&mut options.keys.chosen, &self.chosen_key);
        replace(&mut options.keys.rejected, &self.rejected_key);
        Ok(options)
    }
}

fn replace<T: Clone>(value: &mut T, named: &Option<T>) {
    if let Some(named) = named {
        value.clone_from(named);
    }
}
