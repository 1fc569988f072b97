//! LLaMA-Factory: `POST /v1/score/evaluation`, what PPO with `reward_model_type: api` calls.

use crate::app::App;
use crate::failure::Failure;
use crate::input::Texts;
use crate::response::json_response;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// The model's name that its client always sends.
const ANY_MODEL: &str = "model";

/// A request; `messages` are texts that went through the chat template.
#[derive(Deserialize)]
struct EvaluationRequest {
    messages: Texts,
    model: Option<String>,
}

/// `{"id", "object": "score.evaluation", "model", "scores"}`.
pub(super) async fn evaluation(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (body, held): (EvaluationRequest, _) = app.json(request).await?;
    let name = body.model.as_deref();
    let model = match app.registry.find(name) {
        Err(_) if name == Some(ANY_MODEL) => app.registry.find(None)?,
        found => found?,
    };
    let scored = app.score(&model, body.messages, &held).await?;
    let answer = json!({
        "id": format!("scoreval-{}", app.next_request_id()),
        "object": "score.evaluation",
        "model": model.name,
        "scores": scored.judged.rewards,
    });
    json_response(&answer, scored.usage)
}
