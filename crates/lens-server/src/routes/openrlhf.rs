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
/// has it, `scores` are the rewards; `extra_logs` become curves beside those of the training. Whether
/// a text is out of distribution is among them where the model measures it.
pub(super) async fn get_reward(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (body, held): (GetRewardRequest, _) = app.json(request).await?;
    let model = app.registry.find(body.model.as_deref())?;
    let scored = app.score(&model, body.query, &held).await?;
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    let truncated: Vec<f32> = scored.encoded.iter().map(|e| flag(e.truncated)).collect();
    let mut logs = json!({
        "reward_normalised": scored.judged.normalised,
        "reward_deviation": scored.judged.deviations,
        "truncated": truncated,
    });
    if let Some(distances) = &scored.distances {
        let beyond: Vec<f32> = distances.iter().map(|d| flag(d.out_of_distribution)).collect();
        logs["out_of_distribution"] = json!(beyond);
    }
    let answer = json!({
        "rewards": scored.judged.rewards,
        "scores": scored.judged.rewards,
        "extra_logs": logs,
    });
    json_response(&answer, scored.usage)
}
