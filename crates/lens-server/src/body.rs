//! Reading a body, within limits of size and time.

use crate::failure::Failure;
use crate::memory::{Held, reserve};
use crate::options::Limits;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
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

/// The whole body, each byte of which is charged to `held` before it is kept.
///
/// # Errors
/// 413 for a body that is too long (before it is read, if `Content-Length` says so); 408 for one
/// that takes too long; 415 for a compressed one; 400 for one that breaks off; those of
/// [`Held::take`].
pub(crate) async fn read(
    request: Request,
    limits: &Limits,
    held: &Held,
) -> Result<Vec<u8>, Failure> {
    let (parts, mut body) = request.into_parts();
    if parts.headers.contains_key(CONTENT_ENCODING) {
        let message = "a compressed body (`Content-Encoding`) is not taken";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", message));
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let length = length.and_then(|v| v.parse::<usize>().ok());
    if length.is_some_and(|l| l > limits.body) {
        // Who waits for "100 Continue" sends nothing; others send before they read.
        if !parts.headers.contains_key(EXPECT) {
            tokio::spawn(linger(body));
        }
        return Err(too_long(limits.body));
    }
    let most = length.unwrap_or(limits.body);
    match timeout(limits.read_timeout, collect(&mut body, most, limits.body, held)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(failure)) => {
            tokio::spawn(linger(body));
            Err(failure)
        }
        Err(_) => {
            let seconds = limits.read_timeout.as_secs_f64();
            let message = format!("the body did not arrive within {seconds} s (--read-timeout)");
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message))
        }
    }
}

/// The bytes of a body, of which `most` are expected and `limit` allowed. Room for them grows as
/// they come: what a client only says that it will send is not charged.
async fn collect(
    body: &mut Body,
    most: usize,
    limit: usize,
    held: &Held,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::syntax(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let needed = bytes.len() + data.len();
        if needed > limit {
            return Err(too_long(limit));
        }
        if needed > bytes.capacity() {
            let capacity = (bytes.capacity() * 2).min(most).max(needed);
            held.take(capacity - bytes.capacity())?;
            let more = capacity - bytes.len();
            reserve(&mut bytes, more)?;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn too_long(limit: usize) -> Failure {
    let message = format!("the body is longer than {limit} bytes (--max-body)");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

/// Reads a refused body, and forgets it.
async fn linger(body: Body) {
    let mut body = Limited::new(body, LINGER_BYTES);
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}
