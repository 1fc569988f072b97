//! Connections: accepted, limited in number, encrypted if there is a certificate, and closed at the
//! end.

use crate::app::App;
use crate::error::ServeError;
use crate::files::{connections_of_files, read_small_file};
use crate::guard;
use crate::patient::Patient;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
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
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig};

/// Connections that wait in the system's queue.
const BACKLOG: u32 = 4096;
/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// Memory of a connection beside the bodies of its requests and answers: buffers, a head.
const CONNECTION_MEMORY: usize = 128 << 10;
/// Pause after the system had no further file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often it is said that there is none.
const ACCEPT_SAID: Duration = Duration::from_secs(10);

/// A socket bound to an address. Clients can connect once it listens ([`listen`]).
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
    let read = |path: &Path| read_small_file(path).map_err(|e| refuse(path, e.to_string()));
    let certificates: Vec<CertificateDer> = CertificateDer::pem_slice_iter(&read(chain)?)
        .collect::<Result<_, _>>()
        .map_err(|e| refuse(chain, e.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse(chain, "holds no certificate".to_owned()));
    }
    let own = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| refuse(key, e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(|e| refuse(chain, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, own)
        .map_err(|e| refuse(key, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// How far a server has come; phases follow each other in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connections are accepted.
    Serving,
    /// None is accepted, and open ones end after the request that they are at.
    Draining,
    /// All connections end at once.
    Ended,
}

/// Waits until a server has come to `phase`, or is gone.
async fn reached(phase: Phase, now: &mut watch::Receiver<Phase>) {
    let _ = now.wait_for(|now| *now >= phase).await;
}

/// How many of `wanted` connections are held at a time: as many as the system has files for, and as
/// take a quarter of the `memory` of all requests with their heads alone.
pub(crate) fn connection_limit(wanted: usize, memory: usize) -> usize {
    let room = (memory / 4 / CONNECTION_MEMORY).max(1);
    if room < wanted {
        tracing::warn!(
            "{room} connections at a time, not {wanted} (--max-connections): there are {memory} \
             bytes of memory for requests (--memory)"
        );
    }
    connections_of_files(wanted.min(room))
}

/// Accepts connections and serves them.
#[derive(Clone)]
pub(crate) struct Connections {
    pub app: Arc<App>,
    pub router: Router,
    pub tls: Option<TlsAcceptor>,
    /// Connections at a time.
    pub limit: usize,
    /// The server's phase.
    pub phase: watch::Receiver<Phase>,
}

impl Connections {
    /// Accepts connections until the server drains. Those that the system has accepted by then are
    /// still served: their clients know nothing of the end.
    pub async fn accept(self, listener: TcpListener) {
        let free = Arc::new(Semaphore::new(self.limit));
        let mut phase = self.phase.clone();
        let mut said: Option<Instant> = None;
        loop {
            let accepted = async {
                let permit = Arc::clone(&free).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = reached(Phase::Draining, &mut phase) => break,
                next = accepted => next,
            };
            match (permit, accepted) {
                (Ok(permit), Ok((stream, peer))) => {
                    let its = self.clone();
                    tokio::spawn(async move {
                        its.serve(stream, peer, Phase::Draining).await;
                        drop(permit);
                    });
                }
                (_, Err(error)) => {
                    if !matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                    ) {
                        if said.is_none_or(|at| at.elapsed() >= ACCEPT_SAID) {
                            tracing::warn!("cannot take a connection at the moment: {error}");
                            said = Some(Instant::now());
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
                (Err(_), _) => break,
            }
        }
        // Those that wait in the system's queue. Told to drain, they would end without a request.
        loop {
            let next = poll_fn(|cx| match listener.poll_accept(cx) {
                Poll::Ready(Ok(accepted)) => Poll::Ready(Some(accepted)),
                _ => Poll::Ready(None),
            });
            let Some((stream, peer)) = next.await else { break };
            tokio::spawn(self.clone().serve(stream, peer, Phase::Ended));
        }
    }

    /// Serves a connection until its client ends it or the server comes to the phase `until`.
    async fn serve(self, stream: TcpStream, peer: SocketAddr, until: Phase) {
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, self.app.options.limits.read_timeout);
        let metrics = Arc::clone(&self.app.metrics);
        metrics.connection(1);
        match &self.tls {
            None => self.talk(stream, peer, until).await,
            Some(tls) => {
                let limit = self.app.options.limits.read_timeout;
                let mut phase = self.phase.clone();
                let encrypted = tokio::select! {
                    encrypted = timeout(limit, tls.accept(stream)) => Some(encrypted),
                    () = reached(Phase::Ended, &mut phase) => None,
                };
                match encrypted {
                    Some(Ok(Ok(stream))) => self.talk(stream, peer, until).await,
                    Some(Ok(Err(error))) => tracing::debug!(peer = %peer.ip(), "no TLS: {error}"),
                    Some(Err(_)) => tracing::debug!(peer = %peer.ip(), "no TLS in time"),
                    None => {}
                }
            }
        }
        metrics.connection(-1);
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: SocketAddr,
        until: Phase,
    ) {
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let (app, router) = (Arc::clone(&self.app), self.router.clone());
            let request: Request = request.map(Body::new);
            async move { Ok::<_, Infallible>(guard::answer(app, router, peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.app.options.limits.read_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut phase = self.phase.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = reached(until, &mut phase) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = reached(Phase::Ended, &mut phase) => return,
                }
            }
        };
        if let Err(error) = ended {
            // A client that leaves, or takes too long: nothing of ours.
            tracing::debug!(peer = %peer.ip(), "connection: {error}");
        }
    }
}
