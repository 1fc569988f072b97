//! OpenAI's `/v1/embeddings`, by which verl can read a reward: `data[-1].embedding[-1]`.

use super::{usage, vllm};
use crate::app::{App, reply};
use crate::failure::Failure;
use crate::input::{Chats, Texts};
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What an embedding is asked of.
#[derive(Deserialize)]
pub(super) struct Wanted {
    pub model: Option<String>,
    pub input: Option<Texts>,
    pub messages: Option<Chats>,
    #[serde(default)]
    encoding_format: Format,
}

impl Wanted {
    pub fn format(&self) -> Format {
        self.encoding_format
    }
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// A list.
    #[default]
    Float,
    /// Little-endian f32.
    Base64,
}

impl Format {
    /// A reward as a vector of length 1.
    pub fn of(self, reward: f32) -> Value {
        match self {
            Format::Float => json!([reward]),
            Format::Base64 => json!(STANDARD.encode(reward.to_le_bytes())),
        }
    }
}

/// Not an embedding: the reward, as a vector of length 1.
pub(super) async fn embeddings(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let wanted: Wanted = app.json(request).await?;
    let (format, model) = (wanted.format(), app.registry.find(wanted.model.as_deref())?);
    let scored = app.score(&model, vllm::texts(wanted.input, wanted.messages)?).await?;
    let one = |(index, reward): (usize, &f32)| json!({"index": index, "object": "embedding", "embedding": format.of(*reward)});
    let data: Vec<Value> = scored.scores.rewards.iter().enumerate().map(one).collect();
    let answer = json!({
        "object": "list",
        "model": model.name,
        "data": data,
        "usage": usage(scored.spent),
    });
    reply(&answer, scored.spent)
}
