//! text-embeddings-inference: `/predict`, and `/rerank` with `texts`.

use crate::app::App;
use crate::failure::Failure;
use crate::input::pair;
use crate::response::json_response;
use crate::score::values;
use axum::extract::{Request, State};
use axum::response::Response;
use lens_encoder::Input;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// A request of `/predict`: texts to classify.
#[derive(Deserialize)]
struct PredictRequest {
    inputs: Inputs,
    /// Rewards themselves, not the sigmoids of the normalised ones.
    #[serde(default)]
    raw_scores: bool,
}

/// A flat list is one text, or one pair; a batch is a list of such lists.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected `inputs`: a string, a list of one text or of two that are a pair, or a list \
                 of such lists"
)]
enum Inputs {
    One(String),
    Flat(Vec<String>),
    Batch(Vec<Sequence>),
}

/// An entry of a batch.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sequence {
    One(String),
    List(Vec<String>),
}

/// The input that a list of strings stands for: one text, or a prompt with its response.
fn sequence(texts: &[String]) -> Result<Input, Failure> {
    match texts {
        [text] => Ok(Input::Rendered(text.clone())),
        [prompt, response] => Ok(pair(prompt, response)),
        _ => {
            let n = texts.len();
            let message = format!(
                "a list of {n} strings is neither a text nor a pair; a batch is [[\"a\"], [\"b\"]]"
            );
            Err(Failure::field("inputs", message))
        }
    }
}

/// `[{"score", "label"}]`, or a list of such lists for a batch.
pub(super) async fn predict(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let body: PredictRequest = app.json(request).await?;
    let (inputs, batch) = match body.inputs {
        Inputs::One(text) => (vec![Input::Rendered(text)], false),
        Inputs::Flat(texts) => (vec![sequence(&texts)?], false),
        Inputs::Batch(all) => {
            let one = |s: Sequence| match s {
                Sequence::One(text) => Ok(Input::Rendered(text)),
                Sequence::List(texts) => sequence(&texts),
            };
            (all.into_iter().map(one).collect::<Result<_, _>>()?, true)
        }
    };
    let model = app.registry.find(None)?;
    let scored = app.score(&model, inputs).await?;
    let one = |score: f64| json!([{"score": score, "label": "LABEL_0"}]);
    let mut all: Vec<Value> =
        values(&scored.judged, !body.raw_scores).into_iter().map(one).collect();
    let answer = if batch { Value::Array(all) } else { all.pop().unwrap_or_default() };
    json_response(&answer, scored.usage)
}

/// A request of `/rerank`: a prompt and its responses.
#[derive(Deserialize)]
pub(super) struct TeiRerankRequest {
    query: String,
    texts: Vec<String>,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    return_text: bool,
}

/// `[{"index", "score"}]`, the best first.
pub(super) async fn rerank(app: &App, body: TeiRerankRequest) -> Result<Response, Failure> {
    let model = app.registry.find(None)?;
    let inputs = body.texts.iter().map(|text| pair(&body.query, text)).collect();
    let scored = app.score(&model, inputs).await?;
    let mut all: Vec<(usize, f64)> =
        values(&scored.judged, !body.raw_scores).into_iter().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let one = |(index, score): (usize, f64)| match body.return_text {
        true => json!({"index": index, "score": score, "text": body.texts[index]}),
        false => json!({"index": index, "score": score}),
    };
    json_response(&all.into_iter().map(one).collect::<Vec<Value>>(), scored.usage)
}
