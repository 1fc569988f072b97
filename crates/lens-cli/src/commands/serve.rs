//! `lens serve`: reward models over HTTP, until it is told to stop.

use crate::args::ServeArgs;
use crate::embedding::encoder_of_bundle;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::{Settings, bad};
use lens_core::Progress;
use lens_data::Bundle;
use lens_encoder::TextEncoder;
use lens_server::{Cause, Limits, Options, ServeError, Source, Tokens};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The environment variable with tokens, separated by commas.
const TOKENS: &str = "LENS_TOKENS";

/// Runs the command.
pub fn run(args: &ServeArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let options = options(args, settings)?;
    if options.insecure && options.tokens.is_empty() && !options.bind.ip().is_loopback() {
        reporter.note(&format!(
            "warning: whoever can reach {} can use this server: it asks for no token \
             (--insecure-no-token)",
            options.bind
        ));
    }
    if !options.tokens.is_empty() && options.tls.is_none() && !options.bind.ip().is_loopback() {
        reporter.note(
            "warning: without TLS (--tls-cert, --tls-key) tokens and texts cross the network in the \
             clear",
        );
    }
    let source = Opener {
        model: args.encoder.model.clone(),
        settings: settings.clone(),
        reporter: Reporter::new(settings.quiet),
    };
    let listening = |url: &str| output::tell(&format!("listening on {url}"));
    lens_server::serve(options, Box::new(source), &listening).map_err(|error| match error {
        // What `lens score` would say of the same bundle.
        ServeError::Source(cause) => match cause.downcast::<CliError>() {
            Ok(error) => *error,
            Err(cause) => CliError::Serve(ServeError::Source(cause)),
        },
        ServeError::Stopped => CliError::Cancelled,
        error => CliError::Serve(error),
    })
}

fn options(args: &ServeArgs, settings: &Settings) -> Result<Options, CliError> {
    let serve = &settings.serve;
    let mut models = Vec::new();
    for path in &args.bundles {
        models.push((name_of(path)?, path.clone()));
    }
    for named in &args.name {
        let (name, path) =
            named.split_once('=').ok_or_else(|| bad("--name", "expected NAME=DIR"))?;
        models.push((name.to_owned(), PathBuf::from(path)));
    }
    let mut tokens = Tokens::default();
    for token in &args.token {
        tokens.add("--token", token).map_err(CliError::Serve)?;
    }
    if let Some(file) = &serve.token_file {
        let read = std::fs::read_to_string(file);
        let text = read.map_err(|e| bad("--token-file", format!("{}: {e}", file.display())))?;
        tokens.add("--token-file", &text).map_err(CliError::Serve)?;
        if tokens.is_empty() {
            return Err(bad("--token-file", format!("{} holds no token", file.display())));
        }
    }
    if let Ok(text) = std::env::var(TOKENS) {
        tokens.add(TOKENS, &text).map_err(CliError::Serve)?;
    }
    let seconds = Duration::from_secs;
    let options = Options {
        bind: address(&serve.bind)?,
        models,
        any_model: serve.any_model,
        pairs: serve.pairs.clone(),
        tokens,
        insecure: serve.insecure_no_token,
        tls: match (&serve.tls_cert, &serve.tls_key) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some((chain.clone(), key.clone())),
            _ => return Err(bad("tls_cert", "goes with tls_key: both, or none")),
        },
        limits: Limits {
            body: serve.max_body,
            texts: serve.max_texts,
            tokens: serve.max_tokens,
            timeout: seconds(serve.timeout),
            read_timeout: seconds(serve.read_timeout),
            drain_timeout: seconds(serve.drain_timeout),
            connections: serve.max_connections,
            queue: serve.queue,
            batch_tokens: settings.batch_tokens,
        },
        log_prompts: serve.log_prompts,
        log_json: settings.json,
        quiet: settings.quiet,
    };
    options.check().map_err(CliError::Serve)?;
    Ok(options)
}

/// The name of a bundle's folder.
fn name_of(path: &Path) -> Result<String, CliError> {
    let full = path.canonicalize().map_err(|e| lens_data::Error::io(path, "read", e))?;
    let name = path.file_name().or_else(|| full.file_name());
    let name =
        name.ok_or_else(|| bad("BUNDLE", "this folder has no name; give it one by --name"))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The first address of a host and port.
fn address(text: &str) -> Result<SocketAddr, CliError> {
    let refuse = |detail: String| bad("bind", format!("`{text}`: {detail}"));
    let mut found = text.to_socket_addrs().map_err(|e| refuse(e.to_string()))?;
    found.next().ok_or_else(|| refuse("no such host".to_owned()))
}

/// Opens bundles and encoders as `lens score` does.
struct Opener {
    model: Option<String>,
    settings: Settings,
    reporter: Reporter,
}

impl Source for Opener {
    fn bundle(&self, path: &Path) -> Result<Bundle, Cause> {
        Bundle::read(path).map_err(|e| CliError::Data(e).into())
    }

    fn encoder(
        &self,
        bundle: &Bundle,
        path: &Path,
        keep: bool,
    ) -> Result<Option<Box<dyn TextEncoder>>, Cause> {
        if bundle.manifest.encoder.is_none() {
            return Ok(None);
        }
        let settings = Settings { keep_vectors: keep, ..self.settings.clone() };
        let model = self.model.as_deref();
        Ok(Some(encoder_of_bundle(bundle, path, model, &settings, &self.reporter)?))
    }
}
