//! Bundles, and servers that run in the test's own process.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod http;

use http::Client;
use lens_core::{EmbeddedPairs, Matrix, MethodSettings, Novelty, Quiet, Threads, fit};
use lens_data::Bundle;
use lens_data::bundle::{DataRecord, Kept};
use lens_encoder::TextEncoder;
use lens_server::{BoxedError, Control, ModelSource, Options, ServeError, serve};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// Longer than any step takes, even on a busy machine: a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Width of the embeddings that the bundles score.
pub const DIM: usize = 5;

/// Rows of embeddings, the same for the same arguments.
pub fn rows(n: usize, shift: f32) -> Vec<f32> {
    (0..n * DIM).map(|i| ((i * 37 % 101) as f32 * 0.1).sin() + shift).collect()
}

/// A reward model trained on embeddings of unknown origin, with a VAE and its novelty.
pub fn bundle(seed: u64) -> Bundle {
    let side = |shift: f32| Matrix::new(rows(24, shift), 24, DIM).unwrap();
    let pairs = EmbeddedPairs::new(side(0.3), side(-0.3)).unwrap();
    let mut method = MethodSettings { seed, ..MethodSettings::default() };
    method.vae.epochs = 3;
    let augmented = fit(&pairs, &method, Threads::ONE, &Quiet).unwrap().augmented.unwrap();
    let (model, (vae, _)) = (augmented.fitted.model, augmented.vae.unwrap());
    let novelty = Novelty::fit(&vae, &model.standardiser, &pairs, Threads::ONE).unwrap();
    let data = DataRecord {
        file: "pairs.safetensors".into(),
        fingerprint: "f".into(),
        read: 24,
        used: 24,
        left_out: BTreeMap::new(),
    };
    Bundle::new(model, Some(vae), Some(novelty), None, method, Kept::Augmented, data)
}

/// The rewards of `n` rows around `shift`, as the library computes them.
pub fn expected(bundle: &Bundle, n: usize, shift: f32) -> Vec<f32> {
    let rows = Matrix::new(rows(n, shift), n, DIM).unwrap();
    bundle.model.rewards(&rows, Threads::ONE).unwrap()
}

/// Reads bundles from their folders, and has no encoder: such a server scores embeddings.
pub struct Folders;

impl ModelSource for Folders {
    fn bundle(&self, path: &Path) -> Result<Bundle, BoxedError> {
        Ok(Bundle::read(path)?)
    }

    fn encoder(
        &self,
        _bundle: &Bundle,
        _path: &Path,
        _keep_vectors: bool,
    ) -> Result<Option<Box<dyn TextEncoder>>, BoxedError> {
        Ok(None)
    }
}

/// Options of a server of one model, at a free port of this machine.
pub fn options(name: &str, path: &Path) -> Options {
    Options {
        bind: "127.0.0.1:0".parse().unwrap(),
        models: vec![(name.to_owned(), path.to_owned())],
        ..Options::default()
    }
}

/// A server on a runtime of this process.
pub struct Server {
    pub address: SocketAddr,
    pub reload: Arc<Notify>,
    pub served: JoinHandle<Result<(), ServeError>>,
    stop: oneshot::Sender<()>,
    cut_short: oneshot::Sender<()>,
}

/// Resolves when the sender is used or dropped.
pub async fn told(receiver: oneshot::Receiver<()>) {
    let _ = receiver.await;
}

impl Server {
    /// Starts a server, and waits until it listens.
    pub fn start(
        runtime: &Runtime,
        options: Options,
        source: impl ModelSource + 'static,
    ) -> Server {
        let (stop, stopped) = oneshot::channel();
        let (cut_short, cut) = oneshot::channel();
        let reload = Arc::new(Notify::new());
        let (say, listening) = channel();
        let control = Control::until(told(stopped))
            .cut_short_on(told(cut))
            .reload_on(Arc::clone(&reload))
            .on_listening(move |url| say.send(url.to_owned()).unwrap());
        let served = runtime.spawn(serve(options, Box::new(source), control));
        let url = listening.recv_timeout(PATIENCE).expect("the server does not listen");
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Server { address, reload, served, stop, cut_short }
    }

    pub fn client(&self) -> Client {
        Client::to(self.address)
    }

    /// The rewards of `n` rows around `shift`.
    pub fn rewards(&self, n: usize, shift: f32) -> Vec<f32> {
        let body =
            serde_json::json!({"embeddings": rows(n, shift).chunks(DIM).collect::<Vec<_>>()});
        let answer = self.client().post("/v1/reward", &body).unwrap().ok();
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|r| r["reward"].as_f64().unwrap() as f32).collect()
    }

    /// Shuts the server down, and waits for its end.
    pub fn stop(self, runtime: &Runtime) -> Result<(), ServeError> {
        self.stop.send(()).unwrap();
        within(runtime, self.served).unwrap()
    }

    /// Shuts the server down without waiting for what is under way.
    pub fn stop_at_once(self, runtime: &Runtime) -> Result<(), ServeError> {
        self.stop.send(()).unwrap();
        self.cut_short.send(()).unwrap();
        within(runtime, self.served).unwrap()
    }
}

/// What a future gives, within this test's patience.
pub fn within<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("no end")
}
