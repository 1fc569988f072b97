//! Reading a body, within limits of size and time.

use crate::failure::Failure;
use crate::options::Limits;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;
use tokio::time::timeout;

/// Most bytes of a refused body that are still read, so that a client that sends all of it before
/// it reads finds its answer and not a broken connection.
const LINGER_BYTES: usize = 256 << 20;
/// Longest time for which a refused body is read.
const LINGER: Duration = Duration::from_secs(10);

/// The media type that a request names, in lower case and without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The whole body.
///
/// # Errors
/// 413 for a body that is too long (before it is read, if `Content-Length` says so); 408 for one
/// that takes too long; 415 for a compressed one; 400 for one that breaks off.
pub(crate) async fn read(request: Request, limits: &Limits) -> Result<Bytes, Failure> {
    let most = limits.body;
    let too_long = || {
        let message = format!("the body is longer than {most} bytes (--max-body)");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(CONTENT_ENCODING) {
        let message = "a compressed body (`Content-Encoding`) is not taken";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", message));
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let length = length.and_then(|v| v.parse::<usize>().ok());
    if length.is_some_and(|l| l > most) {
        // Who waits for "100 Continue" sends nothing; others send before they read.
        if !parts.headers.contains_key(EXPECT) {
            tokio::spawn(linger(body));
        }
        return Err(too_long());
    }
    match timeout(limits.read_timeout, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(error)) => Err(Failure::syntax(format!("the body broke off: {error}"))),
        Err(_) => {
            let seconds = limits.read_timeout.as_secs_f64();
            let message = format!("the body did not arrive within {seconds} s (--read-timeout)");
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message))
        }
    }
}

/// Reads a refused body, and forgets it.
async fn linger(body: Body) {
    let mut body = Limited::new(body, LINGER_BYTES);
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}
