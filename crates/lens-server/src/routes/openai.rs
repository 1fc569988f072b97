//! OpenAI's `/v1/embeddings`, by which verl can read a reward: `data[-1].embedding[-1]`.

use super::usage_json;
use super::vectors::{Vectors, vectors};
use crate::app::App;
use crate::failure::Failure;
use crate::response::json_response;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers `/v1/embeddings`: not an embedding, but the reward as a vector of length 1.
pub(super) async fn embeddings(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let Vectors { model, scored, vectors } = vectors(&app, request).await?;
    let one = |(index, vector): (usize, Value)| json!({"index": index, "object": "embedding", "embedding": vector});
    let data: Vec<Value> = vectors.into_iter().enumerate().map(one).collect();
    let answer = json!({
        "object": "list",
        "model": model.name,
        "data": data,
        "usage": usage_json(scored.usage),
    });
    json_response(&answer, scored.usage)
}
