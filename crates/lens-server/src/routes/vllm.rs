//! vLLM's shapes for classifiers and rerankers, the first of which verl calls: `/classify`, `/score`,
//! `/rerank`, `/pooling`.

use super::openai::Wanted;
use super::{tei, usage};
use crate::app::{App, Scored, Spent, now, reply};
use crate::failure::Failure;
use crate::input::{Chats, Texts, pair};
use crate::models::Model;
use axum::extract::{Request, State};
use axum::response::Response;
use lens_encoder::Input;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Texts as they are, special tokens in them being such; or a chat, for the model's template.
#[derive(Deserialize)]
struct Classify {
    model: Option<String>,
    input: Option<Texts>,
    messages: Option<Chats>,
    #[serde(alias = "use_activation")]
    activation: Option<bool>,
}

/// The texts of a request that has `input` or `messages`.
pub(super) fn texts(input: Option<Texts>, messages: Option<Chats>) -> Result<Vec<Input>, Failure> {
    match (input, messages) {
        (Some(texts), None) => Ok(texts.rendered()),
        (None, Some(chats)) => chats.exchanges(),
        _ => Err(Failure::field("input", "either `input` or `messages` is needed")),
    }
}

/// The numbers of a request that may ask for `activation`; without it they are the rewards themselves.
fn shown(scored: &Scored, activation: Option<bool>) -> Vec<f64> {
    scored.scores.shown(activation == Some(true))
}

/// vLLM's answer: a list with one entry for each text, in their order.
fn list(
    app: &App,
    model: &Model,
    kind: &str,
    data: Vec<Value>,
    spent: Spent,
) -> Result<Response, Failure> {
    let answer = json!({
        "id": format!("{kind}-{}", app.id()),
        "object": "list",
        "created": now(),
        "model": model.name,
        "data": data,
        "usage": usage(spent),
    });
    reply(&answer, spent)
}

/// `data[].probs` of length 1. verl reads `data[-1].probs[-1]`, and sends `activation: false`.
pub(super) async fn classify(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let body: Classify = app.json(request).await?;
    let model = app.registry.find(body.model.as_deref())?;
    let scored = app.score(&model, texts(body.input, body.messages)?).await?;
    let one = |(index, value): (usize, f64)| json!({"index": index, "label": "LABEL_0", "probs": [value], "num_classes": 1});
    let data: Vec<Value> =
        shown(&scored, body.activation).into_iter().enumerate().map(one).collect();
    list(&app, &model, "classify", data, scored.spent)
}

/// Prompts and responses, as queries and documents. Older clients call them `text_1` and `text_2`.
#[derive(Deserialize)]
struct Score {
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
    let body: Score = app.json(request).await?;
    let model = app.registry.find(body.model.as_deref())?;
    let (queries, documents) = (body.queries.into_vec(), body.documents.into_vec());
    let inputs: Vec<Input> = match queries.as_slice() {
        [query] => documents.iter().map(|document| pair(query, document)).collect(),
        all if all.len() == documents.len() => {
            all.iter().zip(&documents).map(|(query, document)| pair(query, document)).collect()
        }
        all => {
            let (q, d) = (all.len(), documents.len());
            let message = format!("{q} queries to {d} documents: one, or as many, are needed");
            return Err(Failure::field("queries", message));
        }
    };
    let scored = app.score(&model, inputs).await?;
    let one =
        |(index, value): (usize, f64)| json!({"index": index, "object": "score", "score": value});
    let data: Vec<Value> =
        shown(&scored, body.activation).into_iter().enumerate().map(one).collect();
    list(&app, &model, "score", data, scored.spent)
}

/// A prompt and its responses.
#[derive(Deserialize)]
struct Rerank {
    model: Option<String>,
    query: String,
    documents: Vec<String>,
    top_n: Option<usize>,
    #[serde(alias = "use_activation")]
    activation: Option<bool>,
}

/// Either of the two shapes that are called on this path.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected `query` with `documents` (vLLM, Jina, Cohere) or with `texts` \
                 (text-embeddings-inference)"
)]
enum AnyRerank {
    Ours(Rerank),
    Tei(tei::Rerank),
}

/// `results`, the best first, of which `top_n` where it is given.
pub(super) async fn rerank(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let body = match app.json(request).await? {
        AnyRerank::Ours(body) => body,
        AnyRerank::Tei(body) => return tei::rerank(&app, body).await,
    };
    let model = app.registry.find(body.model.as_deref())?;
    let inputs = body.documents.iter().map(|document| pair(&body.query, document)).collect();
    let scored = app.score(&model, inputs).await?;
    let shown = shown(&scored, body.activation);
    let mut results: Vec<(usize, f64)> = shown.into_iter().enumerate().collect();
    results.sort_by(|a, b| b.1.total_cmp(&a.1));
    results.truncate(body.top_n.filter(|n| *n > 0).unwrap_or(usize::MAX));
    let one = |(index, score): (usize, f64)| {
        let text = &body.documents[index];
        json!({"index": index, "document": {"text": text}, "relevance_score": score})
    };
    let answer = json!({
        "id": format!("rerank-{}", app.id()),
        "model": model.name,
        "usage": usage(scored.spent),
        "results": results.into_iter().map(one).collect::<Vec<Value>>(),
    });
    reply(&answer, scored.spent)
}

/// `data[].data`: the reward as a vector of length 1.
pub(super) async fn pooling(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let wanted: Wanted = app.json(request).await?;
    let (format, model) = (wanted.format(), app.registry.find(wanted.model.as_deref())?);
    let scored = app.score(&model, texts(wanted.input, wanted.messages)?).await?;
    let one = |(index, reward): (usize, &f32)| json!({"index": index, "object": "pooling", "data": format.of(*reward)});
    let data: Vec<Value> = scored.scores.rewards.iter().enumerate().map(one).collect();
    list(&app, &model, "pool", data, scored.spent)
}
