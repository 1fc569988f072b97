//! What happens to every request before and after its route: admission, the time limit, the headers
//! that all answers have, and the log.

use crate::app::App;
use crate::failure::{Failure, RefusalCode};
use crate::memory::{Answer, Held};
use crate::response::Usage;
use crate::routes;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tower::ServiceExt;

/// The content security policy: the page loads its own files only, has nothing inline, and cannot
/// be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// The header with the identifier of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of an identifier that is taken over from a client.
const MAX_REQUEST_ID: usize = 64;
/// Status in the log for a client that left before its answer, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// Answers a request: admits it, and calls its route within the time limit.
pub(crate) async fn answer(
    app: Arc<App>,
    router: Router,
    peer: SocketAddr,
    mut request: Request,
) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let id =
        given.filter(|id| is_request_id(id)).map_or_else(|| app.next_request_id(), str::to_owned);
    let mut entry = LogEntry {
        route: routes::label(request.uri().path()),
        method: request.method().clone(),
        id,
        peer,
        start: Instant::now(),
        app: Arc::clone(&app),
        done: false,
    };
    app.under_way.fetch_add(1, Ordering::SeqCst);
    let refused = admit(&app, &request).err();
    let held = app.budget.request();
    request.extensions_mut().insert(Arc::clone(&held));
    let mut response = match refused {
        Some(failure) => failure.into_response(),
        None => {
            let timeout = app.options.limits.timeout;
            let answer = tokio::time::timeout(timeout, router.oneshot(request)).await;
            answer.map_or_else(
                |_| app.too_late().into_response(),
                |answer| match answer {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
            )
        }
    };
    add_headers(&app, &entry.id, &mut response);
    entry.end(&response);
    charged(response, held).await
}

/// An answer for which its request's memory is held until it has left.
async fn charged(response: Response, held: Arc<Held>) -> Response {
    let (head, body) = response.into_parts();
    // All of it is there already, in one piece.
    match body.collect().await {
        Ok(bytes) => Response::from_parts(head, Body::new(Answer::new(bytes.to_bytes(), held))),
        Err(error) => Failure::internal(error.to_string()).into_response(),
    }
}

/// The line of a request in the log. It is written also where the client leaves before its answer.
struct LogEntry {
    route: &'static str,
    method: Method,
    id: String,
    peer: SocketAddr,
    start: Instant,
    app: Arc<App>,
    done: bool,
}

impl LogEntry {
    fn end(&mut self, response: &Response) {
        self.done = true;
        let usage = response.extensions().get::<Usage>().copied().unwrap_or_default();
        let refused = response.extensions().get::<RefusalCode>().map(|r| r.0);
        self.write(response.status().as_u16(), usage, refused);
    }

    fn write(&self, status: u16, usage: Usage, refused: Option<&'static str>) {
        let time = self.start.elapsed();
        self.app.metrics.answered(self.route, status, refused, time);
        let ms = (time.as_secs_f64() * 1e5).round() / 100.0;
        tracing::info!(
            method = self.method.as_str(),
            route = self.route,
            status,
            ms,
            texts = usage.texts,
            tokens = usage.tokens,
            refused,
            id = self.id,
            peer = %self.peer.ip(),
            "request"
        );
    }
}

impl Drop for LogEntry {
    fn drop(&mut self) {
        if !self.done {
            self.write(CLIENT_LEFT, Usage::default(), Some("client_left"));
        }
        self.app.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Refuses requests without a valid token and, on servers without tokens that only this machine
/// reaches, requests that another site may have caused.
fn admit(app: &App, request: &Request) -> Result<(), Failure> {
    let options = &app.options;
    let headers = request.headers();
    if options.tokens.is_empty() && options.bind.ip().is_loopback() {
        let host = host(headers, request.uri());
        if !host.is_some_and(|h| names_this_machine(h, &options.bind)) {
            let message = "the `Host` header does not name this server; a name that resolves to \
                           it is not enough";
            return Err(Failure::new(StatusCode::FORBIDDEN, "host", message));
        }
        if !is_same_origin(headers, host) {
            let message = "requests from other sites' pages are not taken";
            return Err(Failure::new(StatusCode::FORBIDDEN, "origin", message));
        }
    }
    if !routes::is_open(request.uri().path()) && !options.tokens.admit(headers) {
        let message = "a token is needed: `Authorization: Bearer TOKEN`";
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "token", message));
    }
    Ok(())
}

/// The host that a request names, where it names one once.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let mut all = headers.get_all(HOST).iter();
    match (all.next(), all.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => uri.authority().map(|a| a.as_str()),
        _ => None,
    }
}

/// Whether a host is a name of this machine that no site can register: a site can have a name of
/// its own resolve to 127.0.0.1 (DNS rebinding), but not these.
fn names_this_machine(host: &str, bind: &SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let own = bind.ip().to_string();
    name.eq_ignore_ascii_case("localhost")
        || ["127.0.0.1", "[::1]", own.as_str()].contains(&name)
        || name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) == Some(own.as_str())
}

/// Whether the request has no `Origin`, or that of this server.
fn is_same_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|o| o.1);
    origin.is_some() && origin == host
}

/// Whether a client's identifier for a request can be written into a log and a header.
fn is_request_id(id: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(letter)
}

/// The headers that every answer has.
fn add_headers(app: &App, id: &str, response: &mut Response) {
    let status = response.status();
    let draining = app.draining.load(Ordering::Relaxed);
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lens\""));
    }
    if draining || status == StatusCode::REQUEST_TIMEOUT {
        headers.insert("connection", HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_give_are_this_machine() {
        let bind: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:9"] {
            assert!(names_this_machine(host, &bind), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":8080",
            "localhost:8080:80",
            "user@localhost",
            "127.0.0.2",
        ] {
            assert!(!names_this_machine(host, &bind), "{host}");
        }
        let other: SocketAddr = "127.0.0.2:1".parse().unwrap();
        assert!(names_this_machine("127.0.0.2:1", &other));
    }

    #[test]
    fn names_of_requests_cannot_break_a_line() {
        assert!(is_request_id("run-7_step.3"));
        for bad in ["", "a b", "a\u{1b}[31m", "x\"y", &"a".repeat(65)] {
            assert!(!is_request_id(bad), "{bad}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_told_by_their_origin() {
        let origin = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_str(value).unwrap());
            headers
        };
        let host = Some("localhost:8080");
        assert!(is_same_origin(&HeaderMap::new(), host));
        assert!(is_same_origin(&origin("http://localhost:8080"), host));
        for other in ["http://localhost:9090", "https://evil.example", "null"] {
            assert!(!is_same_origin(&origin(other), host), "{other}");
        }
    }
}
