//! What becomes of the names of special tokens in a text.

use serde::{Deserialize, Serialize};

use crate::error::EncoderError;

/// What becomes of the names of special tokens (`<|im_end|>`, `[SEP]`) that stand in a text. Those
/// that a chat template writes are special tokens in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SpecialTokens {
    /// They are text like any other: a `<|im_end|>` that somebody typed becomes the letters it
    /// consists of. The same as transformers with `split_special_tokens=True`.
    #[default]
    Text,
    /// They become special tokens, as transformers does by default: for texts that were rendered
    /// with a chat template before. A BOS that the text begins with is not added again.
    Parse,
}

impl std::fmt::Display for SpecialTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Parse => "parse",
        })
    }
}

impl std::str::FromStr for SpecialTokens {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "parse" => Ok(Self::Parse),
            other => Err(EncoderError::InvalidOption {
                option: "special_tokens",
                detail: format!("'{other}' is neither 'text' nor 'parse'"),
            }),
        }
    }
}
