//! Requests of `/v1/embeddings` (OpenAI) and `/pooling` (vLLM), which ask for vectors and get
//! rewards as vectors of length 1.

use crate::app::{App, Scored};
use crate::failure::Failure;
use crate::input::{Chats, Texts, TextsOrChats, WithBeside};
use crate::models::Model;
use axum::extract::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The body of a request.
#[derive(Deserialize)]
struct VectorRequest {
    model: Option<String>,
    input: Option<Texts>,
    messages: Option<Chats>,
    #[serde(default)]
    encoding_format: NumberFormat,
}

/// How the numbers of a vector are written.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NumberFormat {
    /// A list.
    #[default]
    Float,
    /// Base64 of little-endian f32.
    Base64,
}

/// The scored texts of a request, with their model, and the vector of each.
pub(super) struct Vectors {
    pub model: Arc<Model>,
    pub scored: Scored,
    pub vectors: Vec<Value>,
}

/// Reads and answers a request.
///
/// # Errors
/// Those of [`App::json`] and [`App::score`]; 404 for an unknown model; 422 without texts.
pub(super) async fn vectors(app: &App, request: Request) -> Result<Vectors, Failure> {
    let (WithBeside { body, beside }, held) = app.json(request).await?;
    let body: VectorRequest = body;
    let model = app.registry.find(body.model.as_deref())?;
    let asked = TextsOrChats::of(body.input, body.messages, beside)?;
    let scored = app.score(&model, asked, &held).await?;
    let vector = |reward: &f32| match body.encoding_format {
        NumberFormat::Float => json!([reward]),
        NumberFormat::Base64 => json!(STANDARD.encode(reward.to_le_bytes())),
    };
    let vectors = scored.judged.rewards.iter().map(vector).collect();
    Ok(Vectors { model, scored, vectors })
}
