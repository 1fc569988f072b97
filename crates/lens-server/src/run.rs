//! From options to an end: start, serve, drain.

use crate::app::App;
use crate::error::ServeError;
use crate::log;
use crate::metrics::Metrics;
use crate::models::{NotReloaded, Registry, Source};
use crate::net::{Doorman, listen, room_for, socket, tls};
use crate::options::Options;
use crate::routes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Time in which clients whose connections are idle learn that they should come no more.
const GRACE: Duration = Duration::from_millis(250);
/// How often the end of the last request is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// Exit code after the second signal, as after Ctrl-C.
const AT_ONCE: i32 = 130;

/// Serves until SIGTERM or SIGINT: then no connection is taken any more, what is under way is
/// answered within [`crate::Limits::drain_timeout`], and this returns. A second signal ends the
/// process at once. SIGHUP reads all bundles again. `listening` is told the address, as a URL, once
/// clients can connect.
///
/// # Errors
/// [`ServeError`], before the first request or after the last.
pub fn serve(
    options: Options,
    source: Box<dyn Source>,
    listening: &(dyn Fn(&str) + Sync),
) -> Result<(), ServeError> {
    options.check()?;
    log::start(options.log_json, options.quiet);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(run(Arc::new(options), source, listening));
    // A call of an encoder that was given up may still be on its way; nobody waits for it.
    runtime.shutdown_background();
    served
}

async fn run(
    options: Arc<Options>,
    source: Box<dyn Source>,
    listening: &(dyn Fn(&str) + Sync),
) -> Result<(), ServeError> {
    let mut ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let mut reload = signal(SignalKind::hangup())?;
    let tls = match &options.tls {
        None => None,
        Some((chain, key)) => Some(tls(chain, key)?),
    };
    let socket = socket(options.bind)?;
    let metrics = Arc::new(Metrics::new());
    let (its_options, its_metrics) = (Arc::clone(&options), Arc::clone(&metrics));
    let opening =
        tokio::task::spawn_blocking(move || Registry::open(its_options, source, its_metrics));
    let registry = tokio::select! {
        opened = opening => opened.map_err(|e| ServeError::Source(Box::new(e)))??,
        () = any(&mut ends) => return Err(ServeError::Stopped),
    };
    let app = Arc::new(App::new(Arc::clone(&options), registry, metrics));
    let listener = listen(socket, options.bind)?;
    let connections = room_for(options.limits.connections);
    let address =
        listener.local_addr().map_err(|source| ServeError::Bind { bind: options.bind, source })?;
    let (stop, stopped) = watch::channel(false);
    let doorman = Doorman {
        app: Arc::clone(&app),
        router: routes::router(&app),
        tls: tls.clone(),
        connections,
        stop: stopped,
    };
    let door = tokio::spawn(doorman.receive(listener));
    let scheme = if tls.is_some() { "https" } else { "http" };
    listening(&format!("{scheme}://{address}"));
    loop {
        tokio::select! {
            () = any(&mut ends) => break,
            _ = reload.recv() => read_again(&app),
        }
    }
    // Before the word of it, or who reads that could still find the server ready.
    app.draining.store(true, Ordering::SeqCst);
    tracing::info!("stopping: what is under way is answered first; a second signal ends at once");
    tokio::spawn(async move {
        any(&mut ends).await;
        std::process::exit(AT_ONCE);
    });
    drain(&app, &stop, door).await
}

/// Waits for either signal.
async fn any(signals: &mut [Signal; 2]) {
    let [a, b] = signals;
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

/// Reads all bundles again, beside what is being served.
fn read_again(app: &Arc<App>) {
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || match app.registry.reload(None) {
        Ok(names) => tracing::info!("read again: {}", names.join(", ")),
        Err(NotReloaded::Broken { name, reason }) => {
            tracing::error!("`{name}` cannot be read again, the old one goes on: {reason}");
        }
        Err(NotReloaded::Unknown(name)) => tracing::error!("there is no model `{name}`"),
    });
}

async fn drain(
    app: &Arc<App>,
    stop: &watch::Sender<bool>,
    door: tokio::task::JoinHandle<()>,
) -> Result<(), ServeError> {
    let given = app.options.limits.drain_timeout;
    let end = Instant::now() + given;
    // Answers say "close" from now on; whoever has a request on its way is still heard.
    sleep(GRACE.min(given)).await;
    let _ = stop.send(true);
    let _ = door.await;
    let left = || app.under_way.load(Ordering::SeqCst);
    let mut quiet = None;
    loop {
        let now = Instant::now();
        if left() > 0 {
            quiet = None;
        } else if now.duration_since(*quiet.get_or_insert(now)) >= GRACE {
            // Long enough for the last bytes to leave, and for requests of the last connections.
            tracing::info!("stopped");
            return Ok(());
        }
        if now >= end {
            break;
        }
        sleep(LOOK).await;
    }
    let left = left() as usize;
    app.registry.engines().iter().for_each(|engine| engine.abandon());
    sleep(GRACE).await;
    match left {
        0 => Ok(()),
        left => Err(ServeError::NotDrained { left, seconds: given.as_secs() }),
    }
}
