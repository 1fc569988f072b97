//! Whether the server lives, whether it can answer, and what it counted.

use crate::app::{App, Spent, raw, reply};
use crate::failure::Failure;
use crate::metrics;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The process answers.
pub(super) async fn health() -> Result<Response, Failure> {
    reply(&json!({"status": "ok"}), Spent::default())
}

/// Models are loaded, and the threads of their encoders live; 503 otherwise, and while stopping.
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
    reply(&json!({"status": "ready", "models": names}), Spent::default())
}

/// Counters for Prometheus.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let lengths: Vec<_> = app.registry.engines().iter().map(|e| e.length()).collect();
    let text = app.metrics.text(&lengths, app.registry.all().len());
    raw(text, metrics::TEXT, Spent::default())
}
