//! OpenRLHF: `POST /get_reward`, what `--reward.remote_url` (formerly `--remote_rm_url`) calls.

use crate::app::App;
use crate::failure::Failure;
use crate::input::Texts;
use crate::response::json_response;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// A request. `prompts` and `labels` come too; a reward model needs neither, as `query` is prompt
/// and response, decoded with special tokens.
#[derive(Deserialize)]
struct GetRewardRequest {
    query: Texts,
    model: Option<String>,
}

/// `{"rewards", "scores", "extra_logs"}`, every list as long as `query`. As OpenRLHF's own server
/// has it, `scores` are the rewards; `extra_logs` become curves beside those of the training.
pub(super) async fn get_reward(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let body: GetRewardRequest = app.json(request).await?;
    let model = app.registry.find(body.model.as_deref())?;
    let scored = app.score(&model, body.query.rendered()).await?;
    let truncated: Vec<f32> =
        scored.encoded.iter().map(|e| if e.truncated { 1.0 } else { 0.0 }).collect();
    let answer = json!({
        "rewards": scored.scores.rewards,
        "scores": scored.scores.rewards,
        "extra_logs": {
            "reward_normalised": scored.scores.normalised,
            "reward_deviation": scored.scores.deviations,
            "truncated": truncated,
        },
    });
    json_response(&answer, scored.usage)
}
