//! Connections: taken, limited, encrypted where asked, and brought to an end.

use crate::app::App;
use crate::error::ServeError;
use crate::guard;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig};

/// Connections that wait in the system's queue.
const BACKLOG: u32 = 4096;
/// Most bytes of a request's head.
const HEAD: usize = 32 << 10;
/// Most headers of a request.
const HEADERS: usize = 64;
/// Files that are open beside connections: bundles on their way, the model, the log.
const OWN_FILES: u64 = 64;
/// Pause after the system had no further file descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket at an address; nobody can connect before [`TcpSocket::listen`].
///
/// # Errors
/// [`ServeError::Bind`].
pub(crate) fn socket(bind: SocketAddr) -> Result<TcpSocket, ServeError> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let open = |socket: TcpSocket| {
        // After a crash the address is free at once.
        socket.set_reuseaddr(true)?;
        socket.bind(bind)?;
        Ok(socket)
    };
    socket.and_then(open).map_err(|source| ServeError::Bind { bind, source })
}

/// Lets clients connect.
///
/// # Errors
/// [`ServeError::Bind`].
pub(crate) fn listen(socket: TcpSocket, bind: SocketAddr) -> Result<TcpListener, ServeError> {
    socket.listen(BACKLOG).map_err(|source| ServeError::Bind { bind, source })
}

/// Reads certificate chain and key.
///
/// # Errors
/// [`ServeError::Tls`] names the file.
pub(crate) fn tls(chain: &Path, key: &Path) -> Result<TlsAcceptor, ServeError> {
    let refuse = |path: &Path, detail: String| ServeError::Tls { path: path.to_owned(), detail };
    let certificates: Vec<CertificateDer> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|e| refuse(chain, e.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse(chain, "holds no certificate".to_owned()));
    }
    let own = PrivateKeyDer::from_pem_file(key).map_err(|e| refuse(key, e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(|e| refuse(chain, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, own)
        .map_err(|e| refuse(key, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Waits for the word that nothing new is taken.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How many of `wanted` connections the system lets this process hold at a time, once it was asked for as
/// many as it gives. With fewer than that open, none is taken that could not be answered.
pub(crate) fn room_for(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(files.saturating_sub(OWN_FILES)).unwrap_or(usize::MAX).max(1);
    if room < wanted {
        tracing::warn!(
            "{room} connections at a time, not {wanted} (--max-connections): the system gives this \
             process {files} open files (ulimit -n)"
        );
    }
    wanted.min(room)
}

/// How connections are served.
#[derive(Clone)]
pub(crate) struct Doorman {
    pub app: Arc<App>,
    pub router: Router,
    pub tls: Option<TlsAcceptor>,
    /// Connections at a time.
    pub connections: usize,
    /// Turns true when nothing new is taken.
    pub stop: watch::Receiver<bool>,
}

impl Doorman {
    /// Takes connections until told to stop. Those that the system has taken by then are still
    /// served: their clients know nothing of the end.
    pub async fn receive(mut self, listener: TcpListener) {
        let free = Arc::new(Semaphore::new(self.connections));
        let mut stop = self.stop.clone();
        loop {
            let accepted = async {
                let permit = Arc::clone(&free).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = told(&mut stop) => break,
                next = accepted => next,
            };
            match (permit, accepted) {
                (Ok(permit), Ok((stream, peer))) => {
                    let door = self.clone();
                    tokio::spawn(async move {
                        door.serve(stream, peer).await;
                        drop(permit);
                    });
                }
                (_, Err(error)) => {
                    if !matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                    ) {
                        tracing::warn!("cannot take a connection: {error}");
                        sleep(PAUSE).await;
                    }
                }
                (Err(_), _) => break,
            }
        }
        // What waits in the system's queue.
        loop {
            let next = poll_fn(|cx| match listener.poll_accept(cx) {
                Poll::Ready(Ok(taken)) => Poll::Ready(Some(taken)),
                _ => Poll::Ready(None),
            });
            let Some((stream, peer)) = next.await else { break };
            let (fresh, stop) = watch::channel(false);
            let door = Doorman { stop, ..self.clone() };
            tokio::spawn(async move {
                door.serve(stream, peer).await;
                drop(fresh);
            });
        }
        self.stop.mark_unchanged();
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let metrics = Arc::clone(&self.app.metrics);
        metrics.connection(1);
        match &self.tls {
            None => self.talk(stream, peer).await,
            Some(tls) => {
                let limit = self.app.options.limits.read_timeout;
                match timeout(limit, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.talk(stream, peer).await,
                    Ok(Err(error)) => tracing::debug!(peer = %peer.ip(), "no TLS: {error}"),
                    Err(_) => tracing::debug!(peer = %peer.ip(), "no TLS in time"),
                }
            }
        }
        metrics.connection(-1);
    }

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let (app, router) = (Arc::clone(&self.app), self.router.clone());
            let request: Request = request.map(Body::new);
            async move { Ok::<_, Infallible>(guard::answer(app, router, peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.app.options.limits.read_timeout)
            .max_buf_size(HEAD)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // A client that leaves, or takes too long: nothing of ours.
            tracing::debug!(peer = %peer.ip(), "connection: {error}");
        }
    }
}
