//! Which hidden states of a text make up its vector.

use serde::{Deserialize, Serialize};

use crate::error::{EncoderError, Result};
use crate::family::ModelSpec;

/// How the hidden states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pooling {
    /// The state of the last token, which has seen everything.
    #[default]
    Last,
    /// The mean over all tokens, special ones included.
    Mean,
    /// The state of the prompt's last token: what the model makes of the prompt alone. For
    /// decoders, and for texts that have a prompt.
    PromptLast,
    /// The state of the first token (`[CLS]`): for encoders such as BERT, in which it sees all.
    First,
}

impl Pooling {
    const ALL: [Self; 4] = [Self::Last, Self::Mean, Self::PromptLast, Self::First];
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Mean => "mean",
            Self::PromptLast => "prompt-last",
            Self::First => "first",
        })
    }
}

impl std::str::FromStr for Pooling {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.to_string() == text).ok_or_else(|| {
            EncoderError::InvalidOption {
                option: "pooling",
                detail: format!("'{text}' is none of last, mean, prompt-last, first"),
            }
        })
    }
}

/// A layer, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerChoice {
    /// By transformers' `hidden_states` index: 0 is the embedding, -1 the last, which is the only
    /// one after the final norm.
    Index(i32),
    /// Every one, from the embedding to the last.
    All,
}

impl std::str::FromStr for LayerChoice {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Index).map_err(|_| EncoderError::InvalidOption {
            option: "layer",
            detail: format!("'{text}' is neither a number nor 'all'"),
        })
    }
}

impl std::fmt::Display for LayerChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// A view, as it is asked for: `layer=12,pooling=mean,suffix=Is this answer honest?`, every part of
/// which may be left out. The suffix comes last and may contain anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ViewChoice {
    /// Defaults to the last.
    pub layer: LayerChoice,
    /// Defaults to [`Pooling::Last`].
    pub pooling: Pooling,
    /// A short text after the response, such as a question about it; the states are those at its
    /// end. Control tokens in it are parsed. Defaults to none.
    pub suffix: Option<String>,
}

impl Default for ViewChoice {
    fn default() -> Self {
        Self { layer: LayerChoice::Index(-1), pooling: Pooling::Last, suffix: None }
    }
}

impl std::str::FromStr for ViewChoice {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self> {
        let mut view = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(suffix) = rest.strip_prefix("suffix=") {
                view.suffix = Some(suffix.to_owned()).filter(|s| !s.is_empty());
                break;
            }
            let (part, tail) = rest.split_once(',').unwrap_or((rest, ""));
            match part.split_once('=') {
                Some(("layer", value)) => view.layer = value.parse()?,
                Some(("pooling", value)) => view.pooling = value.parse()?,
                _ => {
                    return Err(EncoderError::InvalidOption {
                        option: "view",
                        detail: format!("'{part}' is none of layer=.., pooling=.., suffix=.."),
                    });
                }
            }
            rest = tail;
        }
        Ok(view)
    }
}

impl std::fmt::Display for ViewChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "layer={},pooling={}", self.layer, self.pooling)?;
        self.suffix.as_ref().map_or(Ok(()), |s| write!(f, ",suffix={s}"))
    }
}

/// One view of a text: a hidden state of the model, of the text or of the text with a suffix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// Hidden state by transformers' index, counted from 0.
    pub layer: usize,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// Text after the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
}

impl std::fmt::Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "layer={},pooling={}", self.layer, self.pooling)?;
        self.suffix.as_ref().map_or(Ok(()), |s| write!(f, ",suffix={s}"))
    }
}

/// Resolves choices for a model: layers counted from 0, every layer where all are asked.
pub(crate) fn resolve(choices: &[ViewChoice], spec: &ModelSpec) -> Result<Vec<View>> {
    let invalid = |option, detail: String| Err(EncoderError::InvalidOption { option, detail });
    let mut views = Vec::new();
    for choice in choices {
        let pooling = choice.pooling;
        match (spec.causal, pooling, &choice.suffix) {
            (true, Pooling::First, _) => {
                return invalid(
                    "pooling",
                    "'first' is for encoders such as BERT: in a decoder the first token has seen \
                     nothing"
                        .into(),
                );
            }
            (false, Pooling::PromptLast, _) => {
                return invalid(
                    "pooling",
                    "'prompt-last' is for decoders: in an encoder such as BERT every token also \
                     sees the response"
                        .into(),
                );
            }
            (false, _, Some(_)) => {
                return invalid("view", "suffixes are for decoders".into());
            }
            (true, Pooling::PromptLast, Some(_)) => {
                return invalid("view", "the prompt's end does not see a suffix".into());
            }
            _ => {}
        }
        let layers = match choice.layer {
            LayerChoice::Index(index) => {
                let layer = spec.resolve_layer(index)?;
                layer..=layer
            }
            LayerChoice::All => 0..=spec.layers.len(),
        };
        for layer in layers {
            let view = View { layer, pooling, suffix: choice.suffix.clone() };
            if views.contains(&view) {
                return invalid("view", format!("'{view}' is there twice"));
            }
            views.push(view);
        }
    }
    if views.is_empty() {
        return invalid("view", "there is none".into());
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_view_is_read_as_it_is_written() {
        let view: ViewChoice = "pooling=mean,layer=12,suffix=Is it good, kind?".parse().unwrap();
        assert_eq!(view.layer, LayerChoice::Index(12));
        assert_eq!(view.pooling, Pooling::Mean);
        assert_eq!(view.suffix.as_deref(), Some("Is it good, kind?"));
        assert_eq!(view.to_string().parse::<ViewChoice>().unwrap(), view);
        assert_eq!("".parse::<ViewChoice>().unwrap(), ViewChoice::default());
        assert_eq!("layer=all".parse::<ViewChoice>().unwrap().layer, LayerChoice::All);
        for bad in ["12", "layer=x", "pooling=cls", "layer=1;pooling=mean"] {
            assert!(bad.parse::<ViewChoice>().is_err(), "{bad}");
        }
    }
}
