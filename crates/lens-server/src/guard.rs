//! What stands before every route: who asks, from where, for how long; and the log behind it.

use crate::app::{App, Spent};
use crate::failure::{Failure, Refused};
use crate::routes;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tower::ServiceExt;

/// What the page may load: its own files. Nothing is inline, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// The name that a request goes by.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest name that is taken from a client.
const LONGEST_ID: usize = 64;
/// nginx's status for a client that left before its answer; nobody receives it.
const LEFT: u16 = 499;

/// Answers a request: checks, then the route, within the time there is.
pub(crate) async fn answer(
    app: Arc<App>,
    router: Router,
    peer: SocketAddr,
    request: Request,
) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let id = given.filter(|id| is_name(id)).map_or_else(|| app.id(), str::to_owned);
    let mut entry = Entry {
        route: routes::label(request.uri().path()),
        method: request.method().clone(),
        id,
        peer,
        start: Instant::now(),
        app: Arc::clone(&app),
        done: false,
    };
    app.under_way.fetch_add(1, Ordering::SeqCst);
    let refused = checked(&app, &request).err();
    let mut response = match refused {
        Some(failure) => failure.into_response(),
        None => {
            let timeout = app.options.limits.timeout;
            let answer = tokio::time::timeout(timeout, router.oneshot(request)).await;
            answer.map_or_else(
                |_| {
                    let seconds = timeout.as_secs_f64();
                    let message = format!("no answer within {seconds} s (--timeout)");
                    Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message).into_response()
                },
                |answer| match answer {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
            )
        }
    };
    finish(&app, &entry.id, &mut response);
    entry.end(&response);
    response
}

/// A request in the log; one whose client leaves is there too.
struct Entry {
    route: &'static str,
    method: Method,
    id: String,
    peer: SocketAddr,
    start: Instant,
    app: Arc<App>,
    done: bool,
}

impl Entry {
    fn end(&mut self, response: &Response) {
        self.done = true;
        let spent = response.extensions().get::<Spent>().copied().unwrap_or_default();
        let refused = response.extensions().get::<Refused>().map(|r| r.0);
        self.note(response.status().as_u16(), spent, refused);
    }

    fn note(&self, status: u16, spent: Spent, refused: Option<&'static str>) {
        let time = self.start.elapsed();
        self.app.metrics.answered(self.route, status, refused, time);
        let ms = (time.as_secs_f64() * 1e5).round() / 100.0;
        tracing::info!(
            method = self.method.as_str(),
            route = self.route,
            status,
            ms,
            texts = spent.texts,
            tokens = spent.tokens,
            refused,
            id = self.id,
            peer = %self.peer.ip(),
            "request"
        );
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.done {
            self.note(LEFT, Spent::default(), Some("client_left"));
        }
        self.app.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a request may come in.
fn checked(app: &App, request: &Request) -> Result<(), Failure> {
    let options = &app.options;
    let headers = request.headers();
    if options.tokens.is_empty() && options.bind.ip().is_loopback() {
        let host = host(headers, request.uri());
        if !host.is_some_and(|h| names_this_machine(h, &options.bind)) {
            let message = "the `Host` header does not name this server; a name that resolves to \
                           it is not enough";
            return Err(Failure::new(StatusCode::FORBIDDEN, "host", message));
        }
        if !from_here(headers, host) {
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

/// What the request calls this server, where it says that once.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let mut all = headers.get_all(HOST).iter();
    match (all.next(), all.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => uri.authority().map(|a| a.as_str()),
        _ => None,
    }
}

/// Whether a host is a name of this machine that nobody else can give: a page from elsewhere can have
/// its own name resolve to 127.0.0.1 (DNS rebinding), but not these.
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

/// Whether no page of another site sends the request.
fn from_here(headers: &HeaderMap, host: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|o| o.1);
    origin.is_some() && origin == host
}

/// Whether a client's name for a request can stand in a log and in a header.
fn is_name(id: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(letter)
}

/// The headers that every answer has.
fn finish(app: &App, id: &str, response: &mut Response) {
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
        assert!(is_name("run-7_step.3"));
        for bad in ["", "a b", "a\u{1b}[31m", "x\"y", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
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
        assert!(from_here(&HeaderMap::new(), host));
        assert!(from_here(&origin("http://localhost:8080"), host));
        for other in ["http://localhost:9090", "https://evil.example", "null"] {
            assert!(!from_here(&origin(other), host), "{other}");
        }
    }
}
