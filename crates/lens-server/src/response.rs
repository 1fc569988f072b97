//! Successful answers.

use crate::failure::Failure;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde::Serialize;

/// How much an answer took, for the log and for `usage`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Texts, or rows of embeddings.
    pub texts: usize,
    /// Tokens of the texts.
    pub tokens: usize,
    /// Texts that were too long and lost their beginning.
    pub truncated: usize,
    /// Texts unlike those that the model was trained on.
    pub out_of_distribution: usize,
}

/// 200 with a value as JSON.
///
/// # Errors
/// 500 where it cannot be written.
pub(crate) fn json_response(value: &impl Serialize, usage: Usage) -> Result<Response, Failure> {
    let mut text = serde_json::to_vec(value).map_err(|e| Failure::internal(e.to_string()))?;
    // It may wait for its reader for long.
    text.shrink_to_fit();
    Ok(response(text, "application/json", usage))
}

/// 200 with bytes of a media type.
pub(crate) fn response(bytes: impl Into<Body>, media_type: &'static str, usage: Usage) -> Response {
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let counts = [
        ("x-lens-truncated", usage.truncated),
        ("x-lens-out-of-distribution", usage.out_of_distribution),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        headers.insert(name, HeaderValue::from(count));
    }
    response.extensions_mut().insert(usage);
    response
}
