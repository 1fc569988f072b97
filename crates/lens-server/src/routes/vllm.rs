//! vLLM's shapes for classifiers and rerankers, the first of which verl calls: `/classify`,
//! `/score`, `/rerank`, `/pooling`.

use super::vectors::{Vectors, vectors};
use super::{tei, usage_json};
use crate::app::App;
use crate::clock::now;
use crate::failure::Failure;
use crate::input::{Chats, List, Packed, Pairs, Texts, TextsOrChats, WithBeside};
use crate::models::Model;
use crate::response::{Usage, json_response};
use crate::score::values;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// A request of `/classify`: texts as they are, with special tokens; or chats, for the model's
/// template.
#[derive(Deserialize)]
struct ClassifyRequest {
    model: Option<String>,
    input: Option<Texts>,
    messages: Option<Chats>,
    #[serde(alias = "use_activation")]
    activation: Option<bool>,
}

/// vLLM's answer: a list with one entry for each text, in their order. Its identifier begins with
/// `id_prefix`.
fn list(
    app: &App,
    model: &Model,
    id_prefix: &str,
    data: Vec<Value>,
    usage: Usage,
) -> Result<Response, Failure> {
    let answer = json!({
        "id": format!("{id_prefix}-{}", app.next_request_id()),
        "object": "list",
        "created": now(),
        "model": model.name,
        "data": data,
        "usage": usage_json(usage),
    });
    json_response(&answer, usage)
}

/// `data[].probs` of length 1. verl reads `data[-1].probs[-1]`, and sends `activation: false`.
pub(super) async fn classify(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (WithBeside { body, beside }, held) = app.json(request).await?;
    let body: ClassifyRequest = body;
    let model = app.registry.find(body.model.as_deref())?;
    let asked = TextsOrChats::of(body.input, body.messages, beside)?;
    let scored = app.score(&model, asked, &held).await?;
    let one = |(index, value): (usize, f64)| json!({"index": index, "label": "LABEL_0", "probs": [value], "num_classes": 1});
    let data: Vec<Value> = values(&scored.judged, body.activation == Some(true))
        .into_iter()
        .enumerate()
        .map(one)
        .collect();
    list(&app, &model, "classify", data, scored.usage)
}

/// A request of `/score`: prompts and responses, as queries and documents. Older clients call them
/// `text_1` and `text_2`.
#[derive(Deserialize)]
struct ScoreRequest {
    model: Option<String>,
    #[serde(alias = "text_1", alias = "data_1")]
    queries: Texts,
    #[serde(alias = "text_2", alias = "data_2")]
    documents: Texts,
    #[serde(alias = "use_activation")]
    activation: Option<bool>,
}

/// `data[].score`: one query to each document, or as many queries as documents.
pub(super) async fn score(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (body, held): (ScoreRequest, _) = app.json(request).await?;
    let model = app.registry.find(body.model.as_deref())?;
    let pairs = Pairs { prompts: &body.queries.0, responses: &body.documents.0 };
    let scored = app.score(&model, pairs, &held).await?;
    let one =
        |(index, value): (usize, f64)| json!({"index": index, "object": "score", "score": value});
    let data: Vec<Value> = values(&scored.judged, body.activation == Some(true))
        .into_iter()
        .enumerate()
        .map(one)
        .collect();
    list(&app, &model, "score", data, scored.usage)
}

/// A request of `/rerank`: a prompt with its responses, as `documents` (vLLM, Jina, Cohere) or as
/// `texts` (text-embeddings-inference).
#[derive(Deserialize)]
pub(super) struct RerankRequest {
    model: Option<String>,
    pub query: String,
    documents: Option<List>,
    pub texts: Option<List>,
    top_n: Option<usize>,
    #[serde(alias = "use_activation")]
    activation: Option<bool>,
    #[serde(default)]
    pub raw_scores: bool,
    #[serde(default)]
    pub return_text: bool,
}

/// `results`, the best first, of which `top_n` where it is given.
pub(super) async fn rerank(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (body, held): (RerankRequest, _) = app.json(request).await?;
    let documents = match (&body.documents, &body.texts) {
        (Some(List(documents)), _) => documents,
        (None, Some(List(texts))) => return tei::rerank(&app, &body, texts, &held).await,
        (None, None) => {
            let message = "expected `query` with `documents` (vLLM, Jina, Cohere) or with `texts` \
                           (text-embeddings-inference)";
            return Err(Failure::field("documents", message));
        }
    };
    let model = app.registry.find(body.model.as_deref())?;
    let query = Packed::one(&body.query);
    let pairs = Pairs { prompts: &query, responses: documents };
    let scored = app.score(&model, pairs, &held).await?;
    let values = values(&scored.judged, body.activation == Some(true));
    let mut results: Vec<(usize, f64)> = values.into_iter().enumerate().collect();
    results.sort_by(|a, b| b.1.total_cmp(&a.1));
    results.truncate(body.top_n.filter(|n| *n > 0).unwrap_or(usize::MAX));
    let one = |(index, score): (usize, f64)| {
        let text = documents.get(index);
        json!({"index": index, "document": {"text": text}, "relevance_score": score})
    };
    let answer = json!({
        "id": format!("rerank-{}", app.next_request_id()),
        "model": model.name,
        "usage": usage_json(scored.usage),
        "results": results.into_iter().map(one).collect::<Vec<Value>>(),
    });
    json_response(&answer, scored.usage)
}

/// `data[].data`: the reward as a vector of length 1.
pub(super) async fn pooling(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let Vectors { model, scored, vectors } = vectors(&app, request).await?;
    let one = |(index, vector): (usize, Value)| json!({"index": index, "object": "pooling", "data": vector});
    let data: Vec<Value> = vectors.into_iter().enumerate().map(one).collect();
    list(&app, &model, "pool", data, scored.usage)
}
