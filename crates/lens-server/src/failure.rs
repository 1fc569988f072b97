//! Answers to requests that get no reward.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lens_core::CoreError;
use lens_encoder::{EncoderError, ServerError};
use serde_json::json;

/// A refusal: a status, and an error object in OpenAI's shape,
/// `{"error": {"message", "type", "param", "code"}}`, which every client of such servers can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The status.
    pub status: StatusCode,
    /// A name for programs, such as `queue_full`.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The field of the request that is at fault.
    pub param: Option<String>,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A refusal with this status, name and sentence.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Failure {
        Failure { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// 400: the body is not what its type promises.
    pub fn syntax(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "invalid_body", message)
    }

    /// 422: the body is read, and a field of it cannot be.
    pub fn field(param: &str, message: impl Into<String>) -> Failure {
        Failure {
            param: Some(param.to_owned()),
            ..Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message)
        }
    }

    /// 500: what should not happen.
    pub fn internal(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// The refusal for an encoder's error, of a request whose texts begin at `offset` of the call.
    pub(crate) fn from_encoder(error: &EncoderError, offset: usize) -> Failure {
        let text = |index: usize, what: &str| {
            Failure::field("input", format!("text {}: {what}", index.saturating_sub(offset)))
        };
        match error {
            EncoderError::EmptyText { index } => text(*index, "is empty: it yields no tokens"),
            EncoderError::NoPrompt { index } => text(*index, "the prompt yields no tokens"),
            EncoderError::NonFinite { index } => Failure::internal(format!(
                "text {}: the hidden state is not finite",
                index.saturating_sub(offset)
            )),
            EncoderError::Refused { index, name, detail } => {
                text(*index, &format!("the template '{name}' refuses it: {detail}"))
            }
            EncoderError::NotEmbedded { index, token, .. } => {
                text(*index, &format!("the model has no embedding of its token {token:?}"))
            }
            EncoderError::Server(ServerError::TooLong { index, message, .. }) => {
                text(*index, &format!("is too long for the model: {message}"))
            }
            EncoderError::Server(ServerError::RefusedText { index, message, .. }) => {
                text(*index, &format!("the encoder refuses it: {message}"))
            }
            EncoderError::Server(_) => {
                Failure::new(StatusCode::BAD_GATEWAY, "encoder_unavailable", error.to_string())
            }
            EncoderError::Cancelled => {
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping")
            }
            error => Failure::internal(error.to_string()),
        }
    }
}

/// The index of the text that an error is about, where it is about one text.
pub(crate) fn faulty_text(error: &EncoderError) -> Option<usize> {
    match error {
        EncoderError::EmptyText { index }
        | EncoderError::NoPrompt { index }
        | EncoderError::NonFinite { index }
        | EncoderError::Refused { index, .. }
        | EncoderError::NotEmbedded { index, .. }
        | EncoderError::Server(
            ServerError::TooLong { index, .. } | ServerError::RefusedText { index, .. },
        ) => Some(*index),
        _ => None,
    }
}

impl From<CoreError> for Failure {
    fn from(error: CoreError) -> Failure {
        match error {
            CoreError::NotFinite { row, column, value, .. } => Failure::field(
                "embeddings",
                format!("row {row}, column {column}: {value} is not a finite number"),
            ),
            CoreError::Shape { expected, found, .. } => Failure::field(
                "embeddings",
                format!("rows have {} columns, the model needs {}", found.1, expected.1),
            ),
            error => Failure::internal(error.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        let body = json!({"error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // For the log and the metrics: why.
        response.extensions_mut().insert(RefusalCode(self.code));
        response
    }
}

/// Carries [`Failure::code`] from a handler to the log and the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusalCode(pub &'static str);
