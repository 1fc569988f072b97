//! Preference data as text: prompts, responses, and pairs of responses with a label.

use crate::embedded::Label;
use serde::{Deserialize, Serialize};

/// One turn of a chat, in the shape that Hugging Face datasets use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever role the model's chat template knows.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// A prompt or a response: plain text, or chat messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text as it stands.
    Text(String),
    /// Turns of a chat, oldest first.
    Messages(Vec<Message>),
}

impl Content {
    /// Whether nothing but white space is in it.
    pub fn is_blank(&self) -> bool {
        match self {
            Content::Text(text) => text.trim().is_empty(),
            Content::Messages(messages) => messages.iter().all(|m| m.content.trim().is_empty()),
        }
    }

    /// Length in Unicode scalar values, over all turns: what "longer" means in the length baselines.
    pub fn chars(&self) -> usize {
        match self {
            Content::Text(text) => text.chars().count(),
            Content::Messages(messages) => messages.iter().map(|m| m.content.chars().count()).sum(),
        }
    }
}

/// A prompt with one response to it: what a reward model scores.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exchange {
    /// The prompt, with the conversation so far. May be empty text.
    pub prompt: Content,
    /// The answer.
    pub response: Content,
}

/// Two responses to one prompt, and which of them was preferred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreferencePair {
    /// The prompt, with the conversation so far.
    pub prompt: Content,
    /// The preferred response.
    pub chosen: Content,
    /// The other response.
    pub rejected: Content,
    /// By how much it was preferred, where the data says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Whether both responses are as good. Which of them is called chosen then means nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tie: bool,
}

impl PreferencePair {
    /// The label of the pair, as training takes it.
    pub fn label(&self) -> Label {
        match self.tie {
            true => Label::Tie,
            false => Label::Preferred { margin: self.margin.unwrap_or_default() as f32 },
        }
    }

    /// The preferred side as an exchange.
    pub fn chosen_exchange(&self) -> Exchange {
        Exchange { prompt: self.prompt.clone(), response: self.chosen.clone() }
    }

    /// The other side as an exchange.
    pub fn rejected_exchange(&self) -> Exchange {
        Exchange { prompt: self.prompt.clone(), response: self.rejected.clone() }
    }
}
