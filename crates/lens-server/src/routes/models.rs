//! `/v1/models`, and `/v1/models/reload`.

use crate::app::App;
use crate::failure::Failure;
use crate::models::{Model, NotReloaded, unknown_model};
use crate::response::{Usage, json_response};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// An entry of `/v1/models`.
fn described(model: &Model) -> Value {
    let encoder = model.manifest.encoder.as_ref().map(|e| e.model.as_str());
    let context = model.engine.as_ref().map(|e| e.identity().max_length).filter(|n| *n > 0);
    json!({
        "id": model.name,
        "object": "model",
        "created": model.loaded,
        "owned_by": "lens",
        "max_model_len": context,
        "lens": {
            "embedding_width": model.dim(),
            "encoder": encoder,
            "members": model.reward.head.shape().members,
            "trained_on": model.manifest.data.file,
            "pairs": model.manifest.data.used,
            "fingerprint": model.manifest.data.fingerprint,
            "nearest": model.nearest.is_some(),
        },
    })
}

/// `{"object": "list", "data": [{"id", ..}]}`, the default model first.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let all = app.registry.all();
    let data: Vec<Value> = all.iter().map(|m| described(m)).collect();
    json_response(&json!({"object": "list", "data": data}), Usage::default())
}

#[derive(Deserialize)]
struct ReloadRequest {
    model: Option<String>,
}

/// Reads the folder of one model, or of all, again. What cannot be used changes nothing: 409.
pub(super) async fn reload(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (body, _held): (ReloadRequest, _) = app.json(request).await?;
    let done = Arc::clone(&app.registry).reload(body.model).await;
    match done {
        Ok(names) => json_response(&json!({"object": "list", "reloaded": names}), Usage::default()),
        Err(NotReloaded::Unknown(name)) => Err(unknown_model(&name, &app.registry.all())),
        Err(NotReloaded::Broken { name, reason }) => {
            let message = format!("`{name}` cannot be read again, the old one goes on: {reason}");
            tracing::error!("{message}");
            Err(Failure::new(StatusCode::CONFLICT, "not_reloaded", message))
        }
    }
}
