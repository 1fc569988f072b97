//! The life of a server: open the models, listen, serve, drain.

use crate::app::App;
use crate::control::Control;
use crate::error::ServeError;
use crate::files::check_open_files;
use crate::metrics::Metrics;
use crate::models::{ModelSource, NotReloaded, Registry};
use crate::net::{Connections, Phase, connection_limit, listen, socket, tls};
use crate::options::Options;
use crate::routes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Time in which clients whose connections are idle learn that they should come no more.
const GRACE: Duration = Duration::from_millis(250);
/// How often the end of the last request is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// Serves reward models over HTTP until `control` says to stop.
///
/// Runs on the caller's tokio runtime, which needs its I/O and time drivers (`enable_all`). A
/// runtime of several threads is recommended: on a current-thread runtime large bodies and large
/// matrices hold up other requests. Each encoder has a thread of its own in any case. Several
/// servers may run side by side in a process.
///
/// Signals, the log's subscriber (events go to `tracing`), the process's limit of open files (see
/// [`crate::raise_open_file_limit`]) and its exit are the caller's affair. Dropping the future
/// stops the server without a drain. Models that are being loaded at that moment, or when the
/// shutdown comes, finish loading on one of the runtime's blocking threads.
///
/// # Errors
/// [`ServeError`], before the first request or after the last.
pub async fn serve(
    options: Options,
    source: Box<dyn ModelSource>,
    control: Control,
) -> Result<(), ServeError> {
    options.check()?;
    check_open_files()?;
    let options = Arc::new(options);
    let Control { mut shutdown, cut_short, reload, listening } = control;
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
        opened = opening => opened.map_err(|e| ServeError::Model(Box::new(e)))??,
        () = &mut shutdown => return Err(ServeError::Stopped),
    };
    let app = Arc::new(App::new(Arc::clone(&options), registry, metrics));
    let listener = listen(socket, options.bind)?;
    let address =
        listener.local_addr().map_err(|source| ServeError::Bind { bind: options.bind, source })?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    // Connections outlive neither this function nor, as they end when its sender is dropped, its
    // future.
    let (phase, phases) = watch::channel(Phase::Serving);
    let connections = Connections {
        app: Arc::clone(&app),
        router: routes::router(&app),
        tls,
        limit: connection_limit(options.limits.connections, app.budget.total()),
        phase: phases,
    };
    let accepting = tokio::spawn(connections.accept(listener));
    listening(&format!("{scheme}://{address}"));
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = reload.notified() => reload_all(&app),
        }
    }
    // Before it is logged: whoever reads the log must not find the server ready.
    app.draining.store(true, Ordering::SeqCst);
    tracing::info!("stopping: what is under way is answered first");
    let ended = tokio::select! {
        drained = drain(&app, &phase, accepting) => drained,
        () = cut_short => cut(&app),
    };
    phase.send_replace(Phase::Ended);
    // So that the models are freed when this returns; whoever computes something long is not waited
    // for.
    let _ = timeout(GRACE, phase.closed()).await;
    ended
}

/// Serves as [`serve`] does, on a runtime of its own, and blocks until the end. `control` is called
/// within that runtime, so that it can hold futures that need one, such as tokio's signals.
///
/// # Errors
/// Those of `control` and of [`serve`].
pub fn serve_blocking(
    options: Options,
    source: Box<dyn ModelSource>,
    control: impl FnOnce() -> std::io::Result<Control>,
) -> Result<(), ServeError> {
    // The runtime takes some itself, and does not say what it lacks.
    check_open_files()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).enable_all().build()?;
    let served = runtime.block_on(async { serve(options, source, control()?).await });
    // Loading that was given up may still be on its way; nobody waits for it.
    runtime.shutdown_background();
    served
}

/// Reads all bundles again, beside what is being served.
fn reload_all(app: &App) {
    let registry = Arc::clone(&app.registry);
    tokio::spawn(async move {
        match registry.reload(None).await {
            Ok(names) => tracing::info!("read again: {}", names.join(", ")),
            Err(NotReloaded::Broken { name, reason }) => {
                tracing::error!("`{name}` cannot be read again, the old one goes on: {reason}");
            }
            Err(NotReloaded::Unknown(name)) => tracing::error!("there is no model `{name}`"),
        }
    });
}

/// Requests under way.
fn under_way(app: &App) -> usize {
    app.under_way.load(Ordering::SeqCst) as usize
}

/// Answers what is under way, within the time given.
async fn drain(
    app: &App,
    phase: &watch::Sender<Phase>,
    accepting: JoinHandle<()>,
) -> Result<(), ServeError> {
    let given = app.options.limits.drain_timeout;
    let end = Instant::now() + given;
    // Answers say "close" from now on; whoever has a request on its way is still heard.
    sleep(GRACE.min(given)).await;
    phase.send_replace(Phase::Draining);
    let _ = accepting.await;
    let mut quiet = None;
    loop {
        let now = Instant::now();
        if under_way(app) > 0 {
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
    let left = under_way(app);
    app.registry.abandon();
    sleep(GRACE).await;
    match left {
        0 => Ok(()),
        left => Err(ServeError::NotDrained { left, seconds: given.as_secs() }),
    }
}

/// Gives up what is under way.
fn cut(app: &App) -> Result<(), ServeError> {
    let left = under_way(app);
    app.registry.abandon();
    match left {
        0 => Ok(()),
        left => Err(ServeError::CutShort { left }),
    }
}
