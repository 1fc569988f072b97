//! What a caller can choose.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::template::TemplateChoice;

/// How the hidden states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pooling {
    /// The state of the last token, which has seen everything.
    #[default]
    Last,
    /// The mean over all tokens, the BOS token included.
    Mean,
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Mean => "mean",
        })
    }
}

impl std::str::FromStr for Pooling {
    type Err = crate::EncoderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "last" => Ok(Self::Last),
            "mean" => Ok(Self::Mean),
            other => Err(crate::EncoderError::InvalidOption {
                option: "pooling",
                detail: format!("'{other}' is neither 'last' nor 'mean'"),
            }),
        }
    }
}

/// How to turn texts into vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderOptions {
    /// How prompt and response become one text. Defaults to [`TemplateChoice::Auto`].
    pub template: TemplateChoice,
    /// Which hidden state, by transformers' `hidden_states` index: 0 is the embedding, -1 the
    /// last, which is the only one after the final norm. Defaults to -1.
    pub layer: i32,
    /// Defaults to [`Pooling::Last`].
    pub pooling: Pooling,
    /// Longer texts are shortened (and flagged). At most what the model was made for. Defaults to
    /// 2048.
    pub max_length: usize,
    /// Whether a BOS token begins each text. Defaults to what the model file says.
    pub add_bos: Option<bool>,
    /// Where finished vectors are kept; `None` keeps none. Defaults to `None`.
    pub cache_dir: Option<PathBuf>,
    /// Tokens computed in one pass; more take more memory. Defaults to 2048.
    pub batch_tokens: usize,
    /// Whether common beginnings of texts are computed once. Changes speed, not results. Defaults
    /// to `true`.
    pub share_prefixes: bool,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self {
            template: TemplateChoice::Auto,
            layer: -1,
            pooling: Pooling::Last,
            max_length: 2048,
            add_bos: None,
            cache_dir: None,
            batch_tokens: 2048,
            share_prefixes: true,
        }
    }
}
