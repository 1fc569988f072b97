//! text-embeddings-inference: `/predict`, and `/rerank` with `texts`.

use super::vllm::RerankRequest;
use crate::app::App;
use crate::failure::Failure;
use crate::input::{Packed, Pairs, Sequences};
use crate::memory::Held;
use crate::response::json_response;
use crate::score::values;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// A request of `/predict`: texts to classify.
#[derive(Deserialize)]
struct PredictRequest {
    inputs: Sequences,
    /// Rewards themselves, not the sigmoids of the normalised ones.
    #[serde(default)]
    raw_scores: bool,
}

/// `[{"score", "label"}]`, or a list of such lists for a batch.
pub(super) async fn predict(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (body, held): (PredictRequest, _) = app.json(request).await?;
    let batch = body.inputs.batch;
    let model = app.registry.find(None)?;
    let scored = app.score(&model, body.inputs, &held).await?;
    let one = |score: f64| json!([{"score": score, "label": "LABEL_0"}]);
    let mut all: Vec<Value> =
        values(&scored.judged, !body.raw_scores).into_iter().map(one).collect();
    let answer = if batch { Value::Array(all) } else { all.pop().unwrap_or_default() };
    json_response(&answer, scored.usage)
}

/// `[{"index", "score"}]`, the best first: the answer of `/rerank` to a body with `texts`.
pub(super) async fn rerank(
    app: &App,
    body: &RerankRequest,
    texts: &Packed,
    held: &Arc<Held>,
) -> Result<Response, Failure> {
    let model = app.registry.find(None)?;
    let query = Packed::one(&body.query);
    let pairs = Pairs { prompts: &query, responses: texts };
    let scored = app.score(&model, pairs, held).await?;
    let mut all: Vec<(usize, f64)> =
        values(&scored.judged, !body.raw_scores).into_iter().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let one = |(index, score): (usize, f64)| match body.return_text {
        true => json!({"index": index, "score": score, "text": texts.get(index)}),
        false => json!({"index": index, "score": score}),
    };
    json_response(&all.into_iter().map(one).collect::<Vec<Value>>(), scored.usage)
}
