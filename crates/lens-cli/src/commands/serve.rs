//! `lens serve`: reward models over HTTP. Here are what belongs to the process and not to the
//! server: signals, the log, the limit of open files, and its end.

use crate::args::ServeArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::{Settings, bad};
use lens::{Error, Progress};
use lens_server::{
    BearerTokens, Bundles, Control, Limits, LogLines, Options, ServeError, read_small_file,
};
use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::level_filters::LevelFilter;

/// The environment variable with tokens, separated by commas.
const TOKENS: &str = "LENS_TOKENS";
/// Exit code after the second signal, as after Ctrl-C.
const AT_ONCE: i32 = 130;
/// Exit code after a shutdown that something held up.
const HELD_UP: i32 = 1;
/// Time for the last lines of the log to be read.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Time for a shutdown beside that in which requests are answered.
const GRACE: Duration = Duration::from_secs(5);

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
    let encoder = settings.encoder_of_bundle(args.encoder.model.as_deref())?;
    let source = Bundles::new(encoder, Box::new(Reporter::new(settings.quiet)));
    let lines = LogLines::to(std::io::stderr())?;
    start_log(&lines, settings.json, settings.quiet);
    if let Err(error) = lens_server::raise_open_file_limit() {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    let given = options.limits.drain_timeout;
    let control = move || control(given);
    let served = lens_server::serve_blocking(options, Box::new(source), control);
    lines.finish(LAST_LINES);
    served.map_err(|error| match error {
        // What `lens score` would say of the same bundle.
        ServeError::Model(cause) => match cause.downcast::<Error>() {
            Ok(error) => CliError::Job(*error),
            Err(cause) => CliError::Serve(ServeError::Model(cause)),
        },
        ServeError::Stopped => CliError::Job(Error::Cancelled),
        error => CliError::Serve(error),
    })
}

/// Starts the log, on standard error by `lines`: a line an event, for people or as JSON; of warnings
/// and errors alone where it is to be `quiet`.
fn start_log(lines: &LogLines, json: bool, quiet: bool) {
    let lines = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_writer(move || lines.clone())
        .with_max_level(if quiet { LevelFilter::WARN } else { LevelFilter::INFO })
        .with_target(false);
    // A log that is there already goes on.
    let _ = match json {
        true => log.json().flatten_event(true).try_init().is_ok(),
        false => log.with_ansi(std::io::stderr().is_terminal()).try_init().is_ok(),
    };
}

/// Has SIGTERM and SIGINT shut the server down, a second of them end the process at once, and
/// SIGHUP read all bundles again. The shutdown has the `given` time and a little more: then the
/// process ends, whatever holds it up.
fn control(given: Duration) -> std::io::Result<Control> {
    let mut ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let mut hangups = signal(SignalKind::hangup())?;
    let reload = Arc::new(Notify::new());
    let its = Arc::clone(&reload);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            its.notify_one();
        }
    });
    let shutdown = async move {
        either(&mut ends).await;
        // Before anything is said: nobody may be reading the log, and then the saying never ends.
        tokio::spawn(async move {
            either(&mut ends).await;
            std::process::exit(AT_ONCE);
        });
        let _ = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(given.saturating_add(GRACE));
            std::process::exit(HELD_UP);
        });
        tracing::info!("a second signal ends at once");
    };
    let listening = |url: &str| output::tell(&format!("listening on {url}"));
    Ok(Control::until(shutdown).reload_on(reload).on_listening(listening))
}

/// Waits for either signal.
async fn either(signals: &mut [Signal; 2]) {
    let [a, b] = signals;
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
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
    let mut tokens = BearerTokens::default();
    for token in &args.token {
        tokens.add("--token", token).map_err(CliError::Serve)?;
    }
    if let Some(file) = &serve.token_file {
        let refuse = |detail: String| bad("--token-file", format!("{}: {detail}", file.display()));
        let bytes = read_small_file(file).map_err(|e| refuse(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|e| refuse(e.to_string()))?;
        tokens.add("--token-file", &text).map_err(CliError::Serve)?;
    }
    if let Some(text) = std::env::var_os(TOKENS) {
        tokens.add(TOKENS, &text.to_string_lossy()).map_err(CliError::Serve)?;
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
            nearest: serve.max_nearest,
            memory: serve.memory.map(|size| size.0),
            timeout: seconds(serve.timeout),
            read_timeout: seconds(serve.read_timeout),
            drain_timeout: seconds(serve.drain_timeout),
            connections: serve.max_connections,
            queue: serve.queue,
            batch_tokens: settings.batch_tokens,
        },
        log_prompts: serve.log_prompts,
    };
    options.check().map_err(CliError::Serve)?;
    Ok(options)
}

/// The name of a bundle's folder.
fn name_of(path: &Path) -> Result<String, CliError> {
    let full = path.canonicalize();
    let full = full.map_err(|e| Error::from(lens_data::Error::io(path, "read", e)))?;
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
