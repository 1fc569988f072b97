//! Embeddings that a server computes.

use crate::error::CliError;
use crate::progress::Reporter;
use crate::settings::{Settings, bad, template};
use lens_core::Progress;
use lens_encoder::{
    Difference, RemoteEncoder, RemoteOptions, Secret, ServerRecord, TemplateChoice, TextEncoder,
    models,
};
use std::time::Duration;

/// Relative distance of the probe's vectors that is worth a word.
const NOTED: f64 = 0.02;

/// The options of a server. Its key comes from the environment only, so that it stands in no
/// history, settings file or list of processes.
pub fn options(url: &str, settings: &Settings) -> Result<RemoteOptions, CliError> {
    let variable = &settings.server_key_env;
    let key = match std::env::var(variable) {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => {
            let key = Secret::new(&text);
            Some(key.ok_or_else(|| bad(variable, "does not hold a key: no header can carry it"))?)
        }
        Err(std::env::VarError::NotPresent) => None,
        Err(_) => return Err(bad(variable, "does not hold a key: no header can carry it")),
    };
    Ok(RemoteOptions {
        api: settings.server_api,
        // The default names a local model, which no server is asked for.
        model: Some(settings.model.clone()).filter(|m| m != models::DEFAULT),
        key,
        template: template(&settings.template)?,
        concurrency: settings.server_concurrency,
        batch: settings.server_batch,
        timeout: Duration::from_secs(settings.server_timeout.max(1)),
        retries: settings.server_retries,
        cache_dir: match settings.keep_vectors {
            true => Some(settings.cache_dir()?.join("embeddings")),
            false => None,
        },
        ..RemoteOptions::new(url)
    })
}

/// Opens the server that the settings name.
pub fn open(
    url: &str,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Box<dyn TextEncoder>, CliError> {
    connect(&options(url, settings)?, reporter)
}

/// Opens the server of a reward model, or another one that is said to serve the same model.
pub fn reopen(
    then: Option<&ServerRecord>,
    model: &str,
    template: TemplateChoice,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Box<dyn TextEncoder>, CliError> {
    let url = settings.server.as_deref().or(then.map(|t| t.url.as_str())).unwrap_or_default();
    let mut options = options(url, settings)?;
    if let Some(then) = then {
        if settings.server.is_none() {
            options.api = then.api;
        }
        options.model = Some(model.to_owned());
    }
    options.template = template;
    connect(&options, reporter)
}

/// Whether the server has another model than the one of training. A small distance is only said.
pub fn differences(
    then: &ServerRecord,
    now: Option<&ServerRecord>,
    reporter: &Reporter,
) -> Vec<Difference> {
    let Some(now) = now else { return Vec::new() };
    let (differences, distance) = (then.differences(now), then.distance(now));
    if differences.is_empty() && distance > NOTED {
        reporter.note(&format!(
            "warning: the server's vectors differ a little from those of training (relative distance \
             {distance:.3}), as with another build or machine; so will rewards"
        ));
    }
    differences
}

fn connect(options: &RemoteOptions, reporter: &Reporter) -> Result<Box<dyn TextEncoder>, CliError> {
    let encoder = RemoteEncoder::open(options, reporter)?;
    let (id, server) = (encoder.identity(), encoder.record());
    reporter.note(&format!(
        "encoder: {} at {} ({}, width {}), {} template",
        server.model, server.url, id.architecture, id.dim, id.template
    ));
    Ok(Box::new(encoder))
}
