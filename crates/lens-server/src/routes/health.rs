//! `/health`, `/ready` and `/metrics`.

use crate::app::App;
use crate::failure::Failure;
use crate::metrics;
use crate::response::{Usage, json_response, response};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Answers as long as the process lives.
pub(super) async fn health() -> Result<Response, Failure> {
    json_response(&json!({"status": "ok"}), Usage::default())
}

/// Answers 200 if models are loaded and the threads of their encoders live, and 503 otherwise and
/// while stopping.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let refuse = |message| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message);
    if app.draining.load(Ordering::Relaxed) {
        return Err(refuse("the server is stopping"));
    }
    if !app.registry.alive() {
        return Err(refuse("the thread of an encoder has ended; restart the server"));
    }
    let all = app.registry.all();
    let names: Vec<&str> = all.iter().map(|m| m.name.as_str()).collect();
    json_response(&json!({"status": "ready", "models": names}), Usage::default())
}

/// Counters for Prometheus.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let lengths: Vec<_> = app.registry.engines().iter().map(|e| e.length()).collect();
    let text = app.metrics.text(&lengths, app.registry.all().len(), app.budget.used());
    response(text, metrics::MEDIA_TYPE, Usage::default())
}
