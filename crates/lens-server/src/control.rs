//! How the owner of a server steers it while it runs.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Notify;

/// A future that resolves when something is to happen.
pub(crate) type Event = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Steers [`crate::serve`]: when to stop, when to read bundles again, and whom to tell the address.
///
/// The server installs no signal handlers of its own. A program that wants Ctrl-C to stop it passes
/// a future that resolves on Ctrl-C.
///
/// ```
/// use lens_server::Control;
/// use std::sync::Arc;
/// use tokio::sync::{Notify, oneshot};
///
/// let (stop, stopped) = oneshot::channel::<()>();
/// let reload = Arc::new(Notify::new());
/// let control = Control::until(async move { drop(stopped.await) })
///     .reload_on(Arc::clone(&reload))
///     .on_listening(|url| println!("listening on {url}"));
/// // While `serve` runs with `control`: `reload.notify_one()` reads the bundles again, and
/// // `stop.send(())`, or dropping `stop`, shuts the server down.
/// # drop((control, stop));
/// ```
pub struct Control {
    pub(crate) shutdown: Event,
    pub(crate) cut_short: Event,
    pub(crate) reload: Arc<Notify>,
    pub(crate) listening: Box<dyn FnOnce(&str) + Send>,
}

impl Control {
    /// Serves until `shutdown` resolves. Then no new connection is accepted, requests under way are
    /// answered within [`crate::Limits::drain_timeout`], and [`crate::serve`] returns.
    pub fn until(shutdown: impl Future<Output = ()> + Send + 'static) -> Control {
        Control {
            shutdown: Box::pin(shutdown),
            cut_short: Box::pin(pending()),
            reload: Arc::new(Notify::new()),
            listening: Box::new(|_| {}),
        }
    }

    /// Ends the drain when `now` resolves: requests that are still under way are dropped. Before
    /// the shutdown it has no effect; once it has resolved, a shutdown does not wait for anything.
    #[must_use]
    pub fn cut_short_on(self, now: impl Future<Output = ()> + Send + 'static) -> Control {
        Control { cut_short: Box::pin(now), ..self }
    }

    /// Reads all bundles again whenever `reload` is notified. Notifications that come while nobody
    /// waits for them are kept as one.
    #[must_use]
    pub fn reload_on(self, reload: Arc<Notify>) -> Control {
        Control { reload, ..self }
    }

    /// Calls `listening` once clients can connect, with the server's URL, such as
    /// `http://127.0.0.1:8080`.
    #[must_use]
    pub fn on_listening(self, listening: impl FnOnce(&str) + Send + 'static) -> Control {
        Control { listening: Box::new(listening), ..self }
    }
}
