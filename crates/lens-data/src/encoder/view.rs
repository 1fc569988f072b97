//! Which hidden states of a text make up its vector.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the hidden states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    const ALL: [Pooling; 4] = [Pooling::Last, Pooling::Mean, Pooling::PromptLast, Pooling::First];

    /// For people: `last token`, `mean`.
    fn in_words(self) -> &'static str {
        match self {
            Pooling::Last => "last token",
            Pooling::Mean => "mean of all tokens",
            Pooling::PromptLast => "last token of the prompt",
            Pooling::First => "first token",
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pooling::Last => "last",
            Pooling::Mean => "mean",
            Pooling::PromptLast => "prompt-last",
            Pooling::First => "first",
        })
    }
}

impl FromStr for Pooling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Pooling, Error> {
        let found = Pooling::ALL.into_iter().find(|p| p.to_string() == text);
        found.ok_or_else(|| Error::option("pooling", "last, mean, prompt-last or first", text))
    }
}

/// A layer, as a user asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerChoice {
    /// By transformers' `hidden_states` index: 0 is the embedding, -1 the last, which is the only
    /// one after the final norm.
    Index(i32),
    /// Every one, from the embedding to the last.
    All,
}

impl FromStr for LayerChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<LayerChoice, Error> {
        if text == "all" {
            return Ok(LayerChoice::All);
        }
        let index = text.parse().map(LayerChoice::Index);
        index.map_err(|_| Error::option("layer", "a number or 'all'", text))
    }
}

impl fmt::Display for LayerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerChoice::Index(index) => write!(f, "{index}"),
            LayerChoice::All => f.write_str("all"),
        }
    }
}

/// A view, as a user asks for it: `layer=12,pooling=mean,suffix=Is this answer honest?`, every part
/// of which may be left out. The suffix comes last and may contain anything.
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

impl ViewChoice {
    /// The same with its layer counted from 0, for a model of `layers` blocks. A layer that is out
    /// of range stays as it was asked for, so that an error can name it.
    pub fn counted_from_zero(&self, layers: usize) -> ViewChoice {
        let layer = match self.layer {
            LayerChoice::Index(index) if index < 0 => {
                let last = i32::try_from(layers).unwrap_or(i32::MAX);
                match index.saturating_add(last).saturating_add(1) {
                    counted if counted >= 0 => LayerChoice::Index(counted),
                    _ => LayerChoice::Index(index),
                }
            }
            other => other,
        };
        ViewChoice { layer, ..self.clone() }
    }

    /// Whether `view` is one of those asked for. The layer must be [counted from
    /// 0](ViewChoice::counted_from_zero).
    pub fn asks_for(&self, view: &View) -> bool {
        let layer = match self.layer {
            LayerChoice::All => true,
            LayerChoice::Index(index) => usize::try_from(index) == Ok(view.layer),
        };
        layer && view.pooling == self.pooling && view.suffix == self.suffix
    }
}

impl Default for ViewChoice {
    fn default() -> Self {
        ViewChoice { layer: LayerChoice::Index(-1), pooling: Pooling::Last, suffix: None }
    }
}

impl From<&View> for ViewChoice {
    /// As a user could ask for the view.
    fn from(view: &View) -> Self {
        ViewChoice {
            layer: LayerChoice::Index(i32::try_from(view.layer).unwrap_or(i32::MAX)),
            pooling: view.pooling,
            suffix: view.suffix.clone(),
        }
    }
}

impl FromStr for ViewChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<ViewChoice, Error> {
        let mut view = ViewChoice::default();
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
                _ => return Err(Error::option("view", "layer=.., pooling=.. or suffix=..", part)),
            }
            rest = tail;
        }
        Ok(view)
    }
}

impl fmt::Display for ViewChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl View {
    /// The view for people: `layer 18, last token`, with its suffix in quotation marks.
    pub fn in_words(&self) -> String {
        let View { layer, pooling, suffix } = self;
        let suffix = suffix.as_ref().map_or_else(String::new, |s| format!(", after \"{s}\""));
        format!("layer {layer}, {}{suffix}", pooling.in_words())
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer={},pooling={}", self.layer, self.pooling)?;
        self.suffix.as_ref().map_or(Ok(()), |s| write!(f, ",suffix={s}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
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
        for (bad, named) in
            [("12", "view"), ("layer=x", "layer"), ("pooling=cls", "pooling"), ("a=1", "view")]
        {
            let error = bad.parse::<ViewChoice>().unwrap_err();
            let Error::InvalidOption { option, found, .. } = &error else { panic!("{error}") };
            assert_eq!(*option, named);
            assert!(bad.ends_with(found.as_str()), "{error}");
        }
        assert!("layer=1;pooling=mean".parse::<ViewChoice>().is_err());
    }

    #[test]
    fn negative_layers_count_from_the_last() {
        let view = |l| ViewChoice { layer: LayerChoice::Index(l), ..ViewChoice::default() };
        assert_eq!(view(-1).counted_from_zero(18), view(18));
        assert_eq!(view(-19).counted_from_zero(18), view(0));
        assert_eq!(view(-20).counted_from_zero(18), view(-20));
        assert_eq!(view(3).counted_from_zero(18), view(3));
    }

    #[test]
    fn a_choice_asks_for_the_views_that_fit_it() {
        let view = View { layer: 3, pooling: Pooling::Mean, suffix: Some("?".into()) };
        let choice = ViewChoice::from(&view);
        assert!(choice.asks_for(&view));
        assert!(ViewChoice { layer: LayerChoice::All, ..choice.clone() }.asks_for(&view));
        assert!(!ViewChoice { suffix: None, ..choice.clone() }.asks_for(&view));
        assert!(!ViewChoice { pooling: Pooling::Last, ..choice }.asks_for(&view));
        assert_eq!(view.in_words(), "layer 3, mean of all tokens, after \"?\"");
        let plain = View { layer: 18, pooling: Pooling::Last, suffix: None };
        assert_eq!(plain.in_words(), "layer 18, last token");
    }
}
