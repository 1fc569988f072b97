//! A server without a socket, for tests: requests go through guard and routes as those of
//! connections do.

use crate::app::App;
use crate::error::ServeError;
use crate::guard;
use crate::metrics::Metrics;
use crate::models::{ModelSource, Registry};
use crate::options::Options;
use crate::routes;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// A server whose requests are calls.
pub struct InProcess {
    app: Arc<App>,
    router: Router,
    runtime: Runtime,
}

/// What it answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The media type, where it is named.
    pub media_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl InProcess {
    /// Opens the models.
    ///
    /// # Errors
    /// As [`crate::serve`], but for those of the socket.
    pub fn open(options: Options, source: Box<dyn ModelSource>) -> Result<InProcess, ServeError> {
        options.check()?;
        let (options, metrics) = (Arc::new(options), Arc::new(Metrics::new()));
        let registry = Registry::open(Arc::clone(&options), source, Arc::clone(&metrics))?;
        let app = Arc::new(App::new(options, registry, metrics));
        let router = routes::router(&app);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(InProcess { app, router, runtime })
    }

    /// Answers a request; `None` for one that is no HTTP, or whose answer breaks off.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_vec())).ok()?;
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        self.runtime.block_on(async {
            let (app, router) = (Arc::clone(&self.app), self.router.clone());
            let answer = guard::answer(app, router, peer, request).await;
            let (status, headers) = (answer.status().as_u16(), answer.headers());
            let media_type = headers.get(CONTENT_TYPE).and_then(|t| t.to_str().ok());
            let media_type = media_type.map(str::to_owned);
            let body = answer.into_body().collect().await.ok()?.to_bytes().to_vec();
            Some(Answer { status, media_type, body })
        })
    }
}
